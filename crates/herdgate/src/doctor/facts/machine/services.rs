//! The services of systemd that matter here: what they are, what is laid over them, and what they said last.
//!
//! Never: the value of a variable that is not Ollama's, or that could be a secret.

use super::{files, shown, tool};
use crate::doctor::facts::unit::words;
use crate::together::together;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const NAMES: [&str; 2] = ["ollama.service", "herdgate.service"];
const ASKED: &str = "LoadState,ActiveState,SubState,Result,NRestarts,FragmentPath,DropInPaths,UnitFileState,NeedDaemonReload,\
                     ExecMainStatus,MainPID,User,Environment";
/// What Ollama says at each start.
const AT_START: &str = "Listening on|inference compute";
const LETTERS: usize = 300;

/// `NAME=value` pairs.
pub(in crate::doctor) type Variables = BTreeMap<String, String>;

/// A service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Service {
    pub(in crate::doctor) name: String,
    /// `loaded`, `masked`, …; services that are not found are left out.
    pub(in crate::doctor) load: String,
    pub(in crate::doctor) active: String,
    pub(in crate::doctor) sub: String,
    pub(in crate::doctor) result: String,
    pub(in crate::doctor) restarts: u32,
    /// What its program ended with.
    pub(in crate::doctor) exit: i32,
    pub(in crate::doctor) pid: u32,
    pub(in crate::doctor) user: String,
    /// Whether it is started with the machine: `enabled`, `disabled`, …
    pub(in crate::doctor) enabled: String,
    pub(in crate::doctor) needs_reload: bool,
    /// The unit's own file.
    pub(in crate::doctor) file: String,
    /// Ollama's variables that the file itself sets.
    pub(in crate::doctor) own: Variables,
    /// The same of its drop-ins, by their paths.
    pub(in crate::doctor) drop_ins: BTreeMap<String, Variables>,
    /// The addresses that `herdgate deploy ollama-override` let in, and the firewall that it was told to use.
    pub(in crate::doctor) lets_in: Vec<String>,
    pub(in crate::doctor) by: Option<String>,
    /// All that is in force.
    pub(in crate::doctor) sets: Variables,
    /// What its program was started with; root alone sees it.
    pub(in crate::doctor) runs_with: Option<Variables>,
    /// The last error that it told.
    pub(in crate::doctor) last_error: Option<String>,
    /// Where it listened at its last starts, the newest last: `127.0.0.1:11434 (version 0.24.0)`.
    pub(in crate::doctor) listened: Vec<String>,
    /// What it computes on, as of its last start.
    pub(in crate::doctor) computes: Vec<String>,
}

impl Service {
    pub(in crate::doctor) fn is_ollama(&self) -> bool {
        self.name == NAMES[0]
    }

    pub(in crate::doctor) fn is_running(&self) -> bool {
        self.active == "active" && self.sub != "auto-restart"
    }

    /// The name as people type it.
    pub(in crate::doctor) fn word(&self) -> &str {
        self.name.trim_end_matches(".service")
    }
}

pub(super) async fn look() -> Vec<Service> {
    together(NAMES.iter().map(|name| one(name)).collect()).await.into_iter().flatten().collect()
}

async fn one(name: &str) -> Option<Service> {
    let shown = tool::told("systemctl", &["show", name, "-p", ASKED]).await?;
    let mut service = of(name, &shown)?;
    service.own = variables(&read(&service.file));
    for (path, sets) in &mut service.drop_ins {
        let text = read(path);
        *sets = variables(&text);
        if let Some((lets_in, by)) = lets_in(&text) {
            (service.lets_in, service.by) = (lets_in, by);
        }
    }
    if service.pid > 0 {
        service.runs_with = fs::read(format!("/proc/{}/environ", service.pid)).ok().map(|bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            kept(text.split('\0'))
        });
    }
    if !service.is_running() || service.restarts > 0 {
        let said = tool::told("journalctl", &["-u", name, "-n", "80", "-o", "cat", "--no-pager"]).await;
        service.last_error = said.as_deref().and_then(last_error);
    }
    if service.is_ollama() {
        let words = ["-u", name, "-g", AT_START, "-n", "60", "-o", "cat", "--no-pager"];
        let said = tool::told("journalctl", &words).await.unwrap_or_default();
        (service.listened, service.computes) = starts(&said);
    }
    Some(service)
}

fn read(path: &str) -> String {
    files::read(Path::new(path)).unwrap_or_default()
}

/// Reads `systemctl show`: a property a line.
fn of(name: &str, shown: &str) -> Option<Service> {
    let all: BTreeMap<&str, &str> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let text = |property: &str| all.get(property).copied().unwrap_or_default().to_owned();
    let load = text("LoadState");
    if load.is_empty() || load == "not-found" {
        return None;
    }
    let drop_ins = text("DropInPaths");
    Some(Service {
        name: name.to_owned(),
        load,
        active: text("ActiveState"),
        sub: text("SubState"),
        result: text("Result"),
        restarts: text("NRestarts").parse().unwrap_or_default(),
        exit: text("ExecMainStatus").parse().unwrap_or_default(),
        pid: text("MainPID").parse().unwrap_or_default(),
        user: text("User"),
        enabled: text("UnitFileState"),
        needs_reload: text("NeedDaemonReload") == "yes",
        file: text("FragmentPath"),
        drop_ins: drop_ins.split_whitespace().map(|path| (path.to_owned(), Variables::new())).collect(),
        sets: kept(words(&text("Environment")).iter().map(String::as_str)),
        ..Service::default()
    })
}

/// `Environment=` of a unit's file (systemd.exec(5)), where a `%` is written twice.
fn variables(text: &str) -> Variables {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Environment="));
    let all: Vec<String> = lines.flat_map(words).map(|word| word.replace("%%", "%")).collect();
    kept(all.iter().map(String::as_str))
}

/// Whom our own drop-in let in, and by which firewall: its first lines say how it was made.
fn lets_in(text: &str) -> Option<(Vec<String>, Option<String>)> {
    let (command, _path) =
        text.lines().find_map(|line| line.strip_prefix("# Made by `")?.split_once("`; belongs at "))?;
    let words: Vec<&str> = command.split(' ').collect();
    let list = |(at, word): (usize, &&'_ str)| match word.strip_prefix("--allow")? {
        "" => words.get(at + 1).map(|next| (*next).to_owned()),
        joined => joined.strip_prefix('=').map(str::to_owned),
    };
    let lists: Vec<String> = words.iter().enumerate().filter_map(list).collect();
    let all = lists.iter().flat_map(|list| list.split(','));
    let is_network = |one: &&str| one.parse::<gate_types::Cidr>().is_ok();
    let lets_in = all.filter(is_network).map(str::to_owned).collect();
    let mut by = words.iter().filter_map(|word| word.strip_prefix("--"));
    let by = by.rfind(|name| ["ufw", "firewalld", "iptables", "nftables"].contains(name));
    Some((lets_in, by.map(str::to_owned)))
}

/// Ollama's variables, and those of proxies without what stands before an `@`.
fn kept<'w>(words: impl Iterator<Item = &'w str>) -> Variables {
    let mut kept = Variables::new();
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let is_ollamas = name.starts_with("OLLAMA_") && !shown::is_secret(name);
        if is_ollamas || name == "CUDA_VISIBLE_DEVICES" || super::proxies::NAMES.contains(&name) {
            kept.insert(name.to_owned(), shown::value(name, value));
        }
    }
    kept
}

/// The last line that tells why; systemd's own words where the program said nothing.
fn last_error(journal: &str) -> Option<String> {
    let starts = ["systemd[", "Started ", "Stopped ", "Stopping ", "Starting "];
    let is_systemds = |line: &str| {
        starts.iter().any(|start| line.starts_with(start))
            || ["Scheduled restart job", "Deactivated successfully", "Consumed "]
                .iter()
                .any(|word| line.contains(word))
    };
    let tells = |line: &str| {
        let line = line.to_ascii_lowercase();
        let words =
            ["error", "fatal", "panic", "failed to ", "cannot ", "denied", "no such file", "oom killer"];
        words.iter().any(|word| line.contains(word))
    };
    let lines = || journal.lines().rev().filter(|line| !line.trim().is_empty() && !is_systemds(line));
    let own = |line: &&str| tells(line) && !line.contains(".service: ");
    let found = lines().find(own).or_else(|| lines().find(|line| tells(line))).or_else(|| lines().next())?;
    Some(shown::line(found.trim()).chars().take(LETTERS).collect())
}

/// Where it listened, and what it computes on since the last start.
fn starts(journal: &str) -> (Vec<String>, Vec<String>) {
    let (mut listened, mut computes) = (Vec::new(), Vec::new());
    for line in journal.lines() {
        if let Some((_, rest)) = line.split_once("Listening on ") {
            listened.push(rest.trim_end_matches('"').chars().take(LETTERS).collect());
            computes.clear();
        } else if let Some((_, rest)) = line.split_once("msg=\"inference compute\"") {
            computes.push(rest.trim().chars().take(LETTERS).collect());
        }
    }
    (listened, computes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_without_what_could_be_a_secret() {
        let shown = "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7\nExecMainStatus=1\nMainPID=0\nUser=ollama\nFragmentPath=/etc/systemd/system/ollama.service\nDropInPaths=/etc/systemd/system/ollama.service.d/override.conf\nUnitFileState=enabled\nNeedDaemonReload=yes\nEnvironment=PATH=/bin \"OLLAMA_HOST=0.0.0.0\" OLLAMA_API_KEY=abc HTTP_PROXY=http://me:pw@proxy:3128\n";
        let service = of("ollama.service", shown).unwrap();
        assert!(service.is_ollama() && !service.is_running() && service.needs_reload);
        assert_eq!((service.restarts, service.exit), (7, 1));
        let sets: Vec<_> = service.sets.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(sets, ["HTTP_PROXY=http://...@proxy:3128", "OLLAMA_HOST=0.0.0.0"]);
        let drop_ins: Vec<_> = service.drop_ins.keys().collect();
        assert_eq!(drop_ins, ["/etc/systemd/system/ollama.service.d/override.conf"]);
        assert_eq!(of("ollama.service", "LoadState=not-found\n"), None);
    }

    #[test]
    fn the_last_error_is_the_programs_own() {
        let journal = "time=1 level=INFO msg=\"server config\"\nError: listen tcp 127.0.0.1:11434: bind: address already in use\nollama.service: Main process exited, code=exited, status=1/FAILURE\nollama.service: Failed with result 'exit-code'.\nollama.service: Scheduled restart job, restart counter is at 7.\nStopped Ollama Service.\nStarted Ollama Service.\n";
        assert_eq!(
            last_error(journal).unwrap(),
            "Error: listen tcp 127.0.0.1:11434: bind: address already in use"
        );
        let journal = "Started Ollama Service.\nollama.service: Failed to locate executable /usr/local/bin/ollama: No such file or directory\n";
        assert!(last_error(journal).unwrap().contains("Failed to locate executable"));
        assert_eq!(last_error("\n"), None);
    }

    #[test]
    fn starts_are_remembered_in_order() {
        let journal = "time=1 level=INFO source=routes.go:1 msg=\"Listening on [::]:11434 (version 0.23.0)\"\ntime=1 msg=\"inference compute\" id=GPU-1 library=cuda\ntime=2 msg=\"Listening on 127.0.0.1:11434 (version 0.24.0)\"\ntime=2 msg=\"inference compute\" id=cpu library=cpu total=\"62.7 GiB\"\n";
        let (listened, computes) = starts(journal);
        assert_eq!(listened, ["[::]:11434 (version 0.23.0)", "127.0.0.1:11434 (version 0.24.0)"]);
        assert_eq!(computes, ["id=cpu library=cpu total=\"62.7 GiB\""]);
    }

    #[test]
    fn whom_our_drop_in_let_in_stands_in_its_head() {
        let head = |options: &str| {
            format!(
                "# Ollama.\n# Made by `herdgate deploy ollama-override{options}`; belongs at /etc/x.conf.\n"
            )
        };
        let of = |options: &str| {
            let (lets_in, by) = lets_in(&head(options)).unwrap();
            lets_in.into_iter().chain(by).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(" --bind 10.0.0.1 --allow 10.0.0.2,fd00::/8 --ufw"), "10.0.0.2 fd00::/8 ufw");
        assert_eq!(of(" --bind=10.0.0.1 --allow=10.0.0.2"), "10.0.0.2");
        for none in ["", " --env 'A=--allow x'", " --allow $(reboot)"] {
            assert_eq!(of(none), "", "{none}");
        }
        assert_eq!(lets_in("[Service]\n"), None);
        assert_eq!(variables("Environment=\"OLLAMA_X=50%%\"\n")["OLLAMA_X"], "50%");
    }
}
