//! The graphics cards of this machine, and whether their drivers answer.

use super::tool;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const CARDS: &str = "/sys/bus/pci/devices";
const LETTERS: usize = 200;
/// Makers, as PCI numbers them.
const NVIDIA: &str = "0x10de";
const AMD: &str = "0x1002";

/// What there is to compute on beside the processor.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Gpu {
    /// Cards of NVIDIA and of AMD that are in the machine, whether their drivers know them or not.
    pub(in crate::doctor) nvidia_cards: usize,
    pub(in crate::doctor) amd_cards: usize,
    /// What `nvidia-smi` says; none where it is not installed.
    pub(in crate::doctor) nvidia: Option<Answer>,
    /// What `rocm-smi` says.
    pub(in crate::doctor) amd: Option<Answer>,
    /// Whether the kernel's device for computing on AMD cards is there.
    pub(in crate::doctor) has_kfd: bool,
    /// Whether Ollama's user may open it.
    pub(in crate::doctor) ollama_may_render: Option<bool>,
    /// Whether the container engine can hand NVIDIA's cards on.
    pub(in crate::doctor) docker_has_nvidia: Option<bool>,
}

impl Gpu {
    /// Whether a container could be handed NVIDIA's cards.
    pub(in crate::doctor) fn has_cards(&self) -> bool {
        matches!(self.nvidia, Some(Answer::Cards(_)))
    }
}

/// What a driver's tool says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum Answer {
    Cards(Vec<Card>),
    Failed(String),
}

/// A card that computes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Card {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) driver: String,
    pub(in crate::doctor) mib: u64,
    pub(in crate::doctor) used_mib: u64,
}

pub(super) async fn look() -> Gpu {
    let (nvidia, amd, runtimes) =
        tokio::join!(nvidia(), amd(), tool::told("docker", &["info", "--format", "{{json .Runtimes}}"]),);
    Gpu {
        nvidia_cards: cards(NVIDIA),
        amd_cards: cards(AMD),
        nvidia,
        amd,
        has_kfd: Path::new("/dev/kfd").exists(),
        ollama_may_render: may_render(),
        docker_has_nvidia: runtimes.map(|runtimes| runtimes.contains("nvidia")),
    }
}

/// Whether a card is in this machine whose maker's tools compute.
pub(in crate::doctor::facts) fn is_seen() -> bool {
    [NVIDIA, AMD].iter().any(|maker| cards(maker) > 0) || Path::new("/dev/kfd").exists()
}

/// The cards that compute, of whichever maker.
pub(in crate::doctor::facts) async fn cards_alone() -> Option<Answer> {
    let (nvidia, amd) = tokio::join!(nvidia(), amd());
    nvidia.filter(|answer| matches!(answer, Answer::Cards(_))).or(amd)
}

async fn nvidia() -> Option<Answer> {
    let query = ["--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits"];
    tool::ask("nvidia-smi", &query).await.map(|said| answer(&said, of_nvidia(&said.out)))
}

async fn amd() -> Option<Answer> {
    let words = ["--showproductname", "--showmeminfo", "vram", "--csv"];
    tool::ask("rocm-smi", &words).await.map(|said| answer(&said, of_amd(&said.out)))
}

fn answer(said: &tool::Said, cards: Vec<Card>) -> Answer {
    if said.is_success && !cards.is_empty() { Answer::Cards(cards) } else { Answer::Failed(why(said)) }
}

/// `nvidia-smi` tells its troubles on standard output.
fn why(said: &tool::Said) -> String {
    let mut lines = said.out.lines().chain(said.err.lines()).map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or("it found no card");
    line.chars().take(LETTERS).collect()
}

fn of_nvidia(csv: &str) -> Vec<Card> {
    let card = |line: &str| {
        let mut columns = line.split(',').map(str::trim);
        Some(Card {
            name: columns.next()?.to_owned(),
            driver: columns.next()?.to_owned(),
            mib: columns.next()?.parse().ok()?,
            used_mib: columns.next()?.parse().ok()?,
        })
    };
    csv.lines().filter_map(card).collect()
}

/// `device,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,…`: columns by their names.
fn of_amd(csv: &str) -> Vec<Card> {
    let mut lines = csv.lines().map(str::trim).filter(|line| !line.is_empty());
    let head: Vec<&str> = lines
        .find(|line| line.starts_with("device"))
        .map(|line| line.split(',').collect())
        .unwrap_or_default();
    let at = |words: &str| head.iter().position(|column| column.to_ascii_lowercase().contains(words));
    let (total, used, name) = (at("total memory"), at("used memory"), at("card series"));
    let card = |line: &str| {
        let columns: Vec<&str> = line.split(',').collect();
        let text = |at: Option<usize>| at.and_then(|at| columns.get(at)).copied().unwrap_or_default().trim();
        let mib = |at| text(at).parse::<u64>().unwrap_or_default() >> 20;
        Card { name: text(name).to_owned(), driver: String::new(), mib: mib(total), used_mib: mib(used) }
    };
    lines.filter(|line| line.starts_with("card")).map(card).collect()
}

/// Display controllers of that maker (PCI class 03).
fn cards(vendor: &str) -> usize {
    let is_card = |folder: &Path| {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        read("vendor").trim() == vendor && read("class").starts_with("0x03")
    };
    fs::read_dir(CARDS).into_iter().flatten().flatten().filter(|entry| is_card(&entry.path())).count()
}

/// Whether the user `ollama` is in the group that owns the cards' devices (group(5)); none where there is no such user.
fn may_render() -> Option<bool> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().any(|line| line.starts_with("ollama:")).then(|| is_member(&groups))
}

fn is_member(groups: &str) -> bool {
    groups.lines().any(|line| {
        let mut parts = line.split(':');
        let name = parts.next().unwrap_or_default();
        let members = parts.nth(2).unwrap_or_default();
        name == "render" && members.split(',').any(|member| member == "ollama")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_as_the_tools_tell_them() {
        let cards = of_nvidia("NVIDIA GeForce RTX 4090, 550.54.14, 24564, 18022\n");
        assert_eq!(cards[0].name, "NVIDIA GeForce RTX 4090");
        assert_eq!((cards[0].mib, cards[0].used_mib), (24564, 18022));
        assert!(of_nvidia("No devices were found\n").is_empty());
        let csv = "device,VRAM Total Memory (B),VRAM Total Used Memory (B),Card Series,Card Model\ncard0,17163091968,12058624,Radeon RX 6800,0x73bf\n\n";
        let radeon = Card { name: "Radeon RX 6800".into(), driver: String::new(), mib: 16368, used_mib: 11 };
        assert_eq!(of_amd(csv), [radeon]);
        let out = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n".into();
        assert!(why(&tool::Said { out, ..tool::Said::default() }).starts_with("NVIDIA-SMI has failed"));
    }

    #[test]
    fn a_group_has_its_members() {
        assert!(is_member("video:x:44:ollama\nrender:x:104:me,ollama\n"));
        assert!(!is_member("render:x:104:me\n"));
    }
}
