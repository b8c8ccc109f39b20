//! Do the cards of this machine compute, and does Ollama use them?

use super::{MACHINE, service};
use crate::doctor::facts::{Answer, Card, Facts, Machine, Service, Socket};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "gpu";
/// The oldest driver that Ollama's CUDA libraries run with (its docs/gpu: 531 and newer).
const DRIVER: u32 = 531;
const SLOW: &str = "models run on the processor: ten times slower, and more";
const AMD_LIBRARIES: &str =
    "curl -fsSL https://ollama.com/download/ollama-linux-amd64-rocm.tgz | sudo tar -xz -C /usr";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.machine.as_ref().and_then(one).into_iter().collect()
}

fn one(machine: &Machine) -> Option<Finding> {
    let gpu = &machine.gpu;
    let ollama = machine.services.iter().find(|service| service.is_ollama() && service.is_running());
    match &gpu.nvidia {
        Some(Answer::Failed(why)) => return Some(broken(why)),
        Some(Answer::Cards(cards)) => return Some(nvidia(machine, ollama, cards)),
        None if gpu.nvidia_cards > 0 => return Some(driverless(gpu.nvidia_cards)),
        None => {}
    }
    if gpu.amd_cards > 0 {
        return Some(amd(machine, ollama));
    }
    ollama.map(|_| Finding::ok(CHECK, MACHINE, "no card to compute on: models run on the processor"))
}

fn slow(seen: String) -> Finding {
    Finding::warn(CHECK, MACHINE, seen).because(SLOW)
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn shown(cards: &[Card]) -> String {
    let one = |card: &Card| format!("{} ({} MiB, {} used)", card.name, card.mib, card.used_mib);
    cards.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn driverless(cards: usize) -> Finding {
    let debian =
        Cure::run("sudo apt-get install nvidia-driver").note("Debian, from non-free; then: sudo reboot");
    slow(format!("{}, and no driver for it", counted(cards, "NVIDIA card")))
        .cured(Cure::run("sudo ubuntu-drivers install").note("Ubuntu; then: sudo reboot").or(debian))
}

fn broken(why: &str) -> Finding {
    let finding = slow(format!("nvidia-smi: {why}"));
    let lower = why.to_ascii_lowercase();
    if lower.contains("version mismatch") {
        let reload = Cure::run("sudo systemctl stop ollama")
            .then("sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia")
            .then("sudo modprobe nvidia_uvm")
            .then("sudo systemctl start ollama");
        let reboot =
            Cure::run("sudo reboot").note("the driver was updated, and the old one is still in the kernel");
        return finding.cured(reboot.or(reload));
    }
    if lower.contains("communicate with the nvidia driver") {
        return finding.cured(Cure::run("sudo dkms autoinstall").then("sudo modprobe nvidia").note(
            "a new kernel needs the module built anew; with Secure Boot it must be signed: mokutil --sb-state",
        ));
    }
    finding.cured(
        Cure::run("sudo dmesg | grep -iE 'nvrm|xid'")
            .note("what the kernel says of the card; a lost one comes back with: sudo reboot"),
    )
}

fn nvidia(machine: &Machine, ollama: Option<&Service>, cards: &[Card]) -> Finding {
    let shown = shown(cards);
    let major = |card: &Card| card.driver.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if let Some(card) = cards.iter().find(|card| major(card).is_some_and(|major| major < DRIVER)) {
        return Finding::warn(CHECK, MACHINE, format!("{shown}, driver {}", card.driver))
            .because(format!("Ollama needs driver {DRIVER} or newer: {SLOW}"))
            .cured(Cure::run("sudo ubuntu-drivers install").note("then: sudo reboot"));
    }
    if let Some(service) = ollama.filter(|service| is_on_processor(service)) {
        return unused(service, &shown);
    }
    let in_container = |socket: &Socket| {
        socket.owner.as_ref().is_some_and(|owner| owner.is("docker-proxy") || owner.container.is_some())
    };
    if machine.gpu.docker_has_nvidia == Some(false) && machine.sockets.iter().any(in_container) {
        return Finding::warn(CHECK, MACHINE, format!("{shown}, and Docker cannot hand it on"))
            .because(format!("an Ollama in a container does not see it: {SLOW}"))
            .cured(
                Cure::run("sudo apt-get install -y nvidia-container-toolkit")
                    .then("sudo nvidia-ctk runtime configure --runtime=docker")
                    .then("sudo systemctl restart docker"),
            );
    }
    Finding::ok(CHECK, MACHINE, shown)
}

fn is_on_processor(service: &Service) -> bool {
    !service.computes.is_empty() && service.computes.iter().all(|line| line.contains("library=cpu"))
}

fn unused(service: &Service, shown: &str) -> Finding {
    let finding = slow(format!("{shown}, and Ollama did not find it at its last start"));
    let names = ["CUDA_VISIBLE_DEVICES", "OLLAMA_LLM_LIBRARY"];
    if let Some(name) = names.into_iter().find(|name| service.sets.contains_key(*name)) {
        let cure = service::drop_in(service, "zz-gpu.conf", &format!("UnsetEnvironment={name}"))
            .then("sudo systemctl restart ollama");
        return finding.cured(cure.note(format!("{name} keeps it away")));
    }
    // The module for computing is lost when the machine sleeps (Ollama's docs/gpu).
    finding.cured(
        Cure::run("sudo rmmod nvidia_uvm; sudo modprobe nvidia_uvm")
            .then("sudo systemctl restart ollama")
            .note("after sleep, or where Ollama started before the driver"),
    )
}

fn amd(machine: &Machine, ollama: Option<&Service>) -> Finding {
    let gpu = &machine.gpu;
    let cards = counted(gpu.amd_cards, "AMD card");
    if !gpu.has_kfd {
        let container =
            Cure::run("docker run --device /dev/kfd --device /dev/dri ...").note("in a container");
        return Finding::warn(CHECK, MACHINE, format!("{cards}, and no /dev/kfd"))
            .because(format!("the kernel's driver for computing on it is not loaded: {SLOW}"))
            .cured(Cure::run("sudo modprobe amdgpu").or(container));
    }
    let restart = "sudo systemctl restart ollama";
    if ollama.is_some() && gpu.ollama_may_render == Some(false) {
        return slow(format!("{cards}, which the user ollama may not use"))
            .cured(Cure::run("sudo usermod -aG render,video ollama").then(restart));
    }
    match &gpu.amd {
        Some(Answer::Failed(why)) => slow(format!("rocm-smi: {why}"))
            .cured(Cure::run("sudo dmesg | grep -i amdgpu").note("what the kernel says of the card")),
        Some(Answer::Cards(found)) if ollama.is_some_and(is_on_processor) => {
            slow(format!("{}, and Ollama did not find it at its last start", shown(found))).cured(
                Cure::run(AMD_LIBRARIES)
                    .then(restart)
                    .note("Ollama's libraries for it; cards that they do not know: HSA_OVERRIDE_GFX_VERSION"),
            )
        }
        Some(Answer::Cards(found)) => Finding::ok(CHECK, MACHINE, shown(found)),
        None => Finding::ok(CHECK, MACHINE, cards),
    }
}
