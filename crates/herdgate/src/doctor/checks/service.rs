//! Do the services run, and if not, what did they say last?

use super::{MACHINE, taken, with_blanks};
use crate::doctor::facts::{Facts, Machine, Service};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "service";
/// So many restarts are no accident.
const LOOPS: u32 = 3;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    machine.services.iter().map(|service| one(machine, service)).collect()
}

fn one(machine: &Machine, service: &Service) -> Finding {
    let (name, word) = (&service.name, service.word());
    let restart = format!("sudo systemctl restart {word}");
    if service.load == "masked" {
        return Finding::bad(CHECK, MACHINE, format!("{name} is masked: nothing starts it"))
            .cured(Cure::run(format!("sudo systemctl unmask {word}")).then(start(service)));
    }
    if !service.is_running() {
        return down(machine, service);
    }
    if service.restarts >= LOOPS {
        let told = service.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let seen = format!("{name} runs, and was started anew {} times{told}", service.restarts);
        return Finding::warn(CHECK, MACHINE, seen)
            .because("each time all requests that run are cut, and the models are loaded again")
            .cured(cause(machine, service).1);
    }
    if service.needs_reload {
        return Finding::warn(CHECK, MACHINE, format!("{name} was changed, and systemd has not read it"))
            .because("it runs as it was before the change")
            .cured(Cure::run("sudo systemctl daemon-reload").then(restart));
    }
    if let Some(runs_with) = &service.runs_with
        && let Some(name) = service.sets.keys().find(|name| runs_with.get(*name) != service.sets.get(*name))
    {
        let seen = format!("{} was started before {name} was changed", service.name);
        return Finding::warn(CHECK, MACHINE, seen)
            .because("variables are read at the start alone")
            .cured(Cure::run(restart));
    }
    if service.enabled == "disabled" {
        return Finding::warn(CHECK, MACHINE, format!("{name} runs, and is not started with the machine"))
            .because("after the next reboot nobody is there")
            .cured(Cure::run(format!("sudo systemctl enable {word}")));
    }
    Finding::ok(CHECK, MACHINE, format!("{name} runs"))
}

fn down(machine: &Machine, service: &Service) -> Finding {
    let name = &service.name;
    let fails = service.active == "failed" || service.restarts > 0 || service.sub == "auto-restart";
    if !fails {
        let seen = format!("{name} is stopped");
        let served =
            machine.sockets.iter().any(|socket| machine.ollama_ports.contains(&socket.address.port()));
        // Another one may run in its place; and a gate that does not run fails nobody who asks another.
        let finding = if service.is_ollama() && !served {
            Finding::bad(CHECK, MACHINE, seen).because("no Ollama listens on this machine")
        } else {
            Finding::warn(CHECK, MACHINE, seen)
        };
        return finding.cured(Cure::run(start(service)));
    }
    let does = if service.active == "failed" {
        "failed".to_owned()
    } else {
        format!("fails again and again ({} starts so far)", service.restarts)
    };
    let told = service.last_error.as_deref().unwrap_or(match service.result.as_str() {
        "" | "success" | "exit-code" => "it told nothing",
        result => result,
    });
    let (why, cure) = cause(machine, service);
    Finding::bad(CHECK, MACHINE, format!("{name} {does}: {told}")).because(why).cured(cure)
}

/// What its last words mean, and what ends it.
fn cause(machine: &Machine, service: &Service) -> (String, Cure) {
    let told = service.last_error.as_deref().unwrap_or_default().to_ascii_lowercase();
    let has = |words: &str| told.contains(words);
    if has("address already in use") {
        return port_taken(machine, service);
    }
    let restart = format!("sudo systemctl restart {}", service.word());
    let (why, cure) = if has("bind") && has("permission denied") {
        (
            "ports below 1024 are for who has the right (CAP_NET_BIND_SERVICE)",
            drop_in(service, "low-port.conf", "AmbientCapabilities=CAP_NET_BIND_SERVICE").then(restart),
        )
    } else if has("cannot assign requested address") {
        (
            "the address that it shall listen on is not one of this machine, or was not there yet at the start",
            drop_in(service, "zz-address.conf", "Environment=\"OLLAMA_HOST=127.0.0.1:11434\"")
                .then(restart)
                .note("or the right one of: ip -brief address"),
        )
    } else if has("no space left") {
        (
            "the disk is full",
            Cure::run("df -h").then("ollama rm MODEL").note("the models that nobody uses: ollama list"),
        )
    } else if service.result == "oom-kill" || has("oom killer") || has("out of memory") {
        (
            "the machine had no memory left for the models",
            drop_in(service, "memory.conf", "Environment=\"OLLAMA_MAX_LOADED_MODELS=1\"")
                .then(restart)
                .note("or use smaller models"),
        )
    } else {
        return by_exit(service, has("permission denied"), restart);
    };
    (why.to_owned(), cure)
}

/// systemd's own codes (systemd.exec(5)), and what is left.
fn by_exit(service: &Service, is_denied: bool, restart: String) -> (String, Cure) {
    let word = service.word();
    match service.exit {
        203 if service.is_ollama() => (
            "its program is not there, or cannot be run".to_owned(),
            Cure::run("curl -fsSL https://ollama.com/install.sh | sh").note("drop-ins stay as they are"),
        ),
        203 => (
            "its program is not there, or cannot be run".to_owned(),
            Cure::run("sudo herdgate deploy systemd --write --run"),
        ),
        217 => (
            format!("the user {} does not exist", service.user),
            Cure::run(format!("sudo useradd -r -s /bin/false -U -m -d /usr/share/{0} {0}", service.user))
                .then(restart),
        ),
        _ if service.is_ollama() && is_denied => {
            let user = if service.user.is_empty() { "root" } else { &service.user };
            let models =
                service.sets.get("OLLAMA_MODELS").map_or("/usr/share/ollama/.ollama", String::as_str);
            (
                "its files belong to somebody else: `ollama serve` was run as another user once".to_owned(),
                Cure::run(format!("sudo chown -R {user}:{user} {}", with_blanks(models))).then(restart),
            )
        }
        _ if service.result == "start-limit-hit" => (
            "it failed so often that systemd gave up".to_owned(),
            Cure::run(format!("sudo systemctl reset-failed {word}")).then(start(service)),
        ),
        _ => (
            "requests get no answer from it".to_owned(),
            Cure::run(format!("journalctl -u {word} -n 50 --no-pager")).then(restart),
        ),
    }
}

fn port_taken(machine: &Machine, service: &Service) -> (String, Cure) {
    let named = service.last_error.as_deref().unwrap_or_default();
    let restart = format!("sudo systemctl restart {}", service.word());
    let is_it = |port: u16| {
        named.contains(&format!(":{port}:")) || (service.is_ollama() && machine.ollama_ports.contains(&port))
    };
    let owners = machine.sockets.iter().filter(|socket| is_it(socket.address.port()));
    let mut others = owners.filter_map(|socket| socket.owner.as_ref());
    match others.find(|owner| owner.unit.as_ref() != Some(&service.name)) {
        Some(owner) => {
            let another = if owner.is("ollama") && service.is_ollama() { "another Ollama, " } else { "" };
            (format!("the port is taken by {another}{}", owner.shown()), taken::stop(owner).then(restart))
        }
        None => (
            "the port is taken by another program".to_owned(),
            Cure::run("sudo ss -tlnp").note(format!("shows who it is; end it, then: {restart}")),
        ),
    }
}

fn start(service: &Service) -> String {
    format!("sudo systemctl start {}", service.word())
}

/// A drop-in with one line, read by systemd.
pub(super) fn drop_in(service: &Service, name: &str, line: &str) -> Cure {
    let folder = format!("/etc/systemd/system/{}.d", service.name);
    Cure::run(format!("sudo mkdir -p {folder} && printf '[Service]\\n{line}\\n' | sudo tee {folder}/{name}"))
        .then("sudo systemctl daemon-reload")
}
