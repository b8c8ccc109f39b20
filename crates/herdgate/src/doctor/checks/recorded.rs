//! Situations that were recorded, each judged whole: what is told first, and the cure, which goes through the tools' own dry runs.

use super::judge;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Cure, Finding, Mark};
use serde::Deserialize;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct Situation {
    pub(super) name: String,
    pub(super) facts: Facts,
    /// None: nothing is wrong.
    mark: Option<String>,
    check: String,
    seen: String,
    run: Vec<String>,
}

pub(super) fn all() -> Vec<Situation> {
    [
        include_str!("../recorded/systemd.json"),
        include_str!("../recorded/gpu.json"),
        include_str!("../recorded/docker.json"),
        include_str!("../recorded/firewall.json"),
        include_str!("../recorded/gate.json"),
    ]
    .into_iter()
    .flat_map(|text| serde_json::from_str::<Vec<Situation>>(text).unwrap())
    .collect()
}

/// The worst that is told, and of that the first.
fn first(facts: &Facts) -> Option<Finding> {
    let findings = judge(facts);
    let of = |mark| findings.iter().find(|finding| finding.mark == mark).cloned();
    of(Mark::Bad).or_else(|| of(Mark::Warn))
}

#[test]
fn every_recorded_situation_is_named_with_its_cure() {
    let situations = all();
    assert!(situations.len() >= 20);
    for situation in situations {
        let name = &situation.name;
        let found = first(&situation.facts);
        let Some(mark) = &situation.mark else {
            assert_eq!(found, None, "{name}");
            continue;
        };
        let found = found.unwrap_or_else(|| panic!("{name}: nothing is told"));
        let told = serde_json::to_value(found.mark).unwrap();
        let expected = (mark.as_str(), situation.check.as_str());
        assert_eq!((told.as_str().unwrap(), found.check), expected, "{name}: {found:?}");
        assert!(found.seen.contains(&situation.seen), "{name}: {}", found.seen);
        assert_eq!(found.cure.unwrap_or_default().run, situation.run, "{name}");
    }
}

pub(super) fn cures(facts: &Facts) -> Vec<Cure> {
    let mut open: Vec<Cure> = judge(facts).into_iter().filter_map(|finding| finding.cure).collect();
    let mut cures = Vec::new();
    while let Some(mut cure) = open.pop() {
        open.append(&mut cure.or);
        cures.push(cure);
    }
    cures
}

/// Whether it is for a shell, and not lines of a file.
fn is_shell(cure: &Cure) -> bool {
    cure.file.is_none()
}

#[test]
fn every_cure_is_one_that_a_shell_reads() {
    for situation in all() {
        for cure in cures(&situation.facts).iter().filter(|cure| is_shell(cure)) {
            for command in &cure.run {
                let read = Command::new("bash").args(["-n", "-c", command]).output().unwrap();
                assert!(read.status.success(), "{}: {command}", situation.name);
            }
        }
    }
}

/// A machine in a folder: `/etc` is below it, and what would reach further is a stand-in that does nothing.
struct Stage(tempfile::TempDir);

const UNIT: &str = "[Unit]\nDescription=Ollama Service\nAfter=network-online.target\n\n[Service]\nExecStart=/bin/true serve\nRestart=always\nEnvironment=\"PATH=/usr/bin\"\nEnvironment=\"OLLAMA_HOST=0.0.0.0\"\n\n[Install]\nWantedBy=default.target\n";

impl Stage {
    fn set() -> Self {
        let stage = Stage(tempfile::tempdir().unwrap());
        let bin = stage.0.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(stage.units()).unwrap();
        for name in ["ollama.service", "herdgate.service"] {
            fs::write(stage.units().join(name), UNIT).unwrap();
        }
        for (name, text) in [("systemctl", "#!/bin/sh\nexit 0\n"), ("sudo", "#!/bin/sh\nexec \"$@\"\n")] {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        stage
    }

    fn units(&self) -> PathBuf {
        self.0.path().join("etc/systemd/system")
    }

    fn run(&self, command: &str) -> Output {
        let here = command.replace("/etc/", &format!("{}/etc/", self.0.path().display()));
        let path = format!("{}:/usr/bin:/bin", self.0.path().join("bin").display());
        Command::new("bash").args(["-c", &here]).env("PATH", path).output().unwrap()
    }

    /// All that was put into drop-ins.
    fn dropped(&self) -> String {
        let folders = ["ollama.service.d", "herdgate.service.d"].map(|name| self.units().join(name));
        let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// What systemd says of the unit and its drop-ins.
    fn verify(&self) -> String {
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--recursive-errors=no"])
            .arg(self.units().join("ollama.service"))
            .env("SYSTEMD_UNIT_PATH", format!("{}:", self.units().display()))
            .output();
        verified.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default()
    }
}

#[test]
fn what_cures_write_for_systemd_is_what_systemd_reads() {
    let mut written = 0;
    for situation in all() {
        let writes = |cure: &&Cure| cure.run.iter().any(|run| run.contains(".service.d"));
        for cure in cures(&situation.facts).iter().filter(writes) {
            let stage = Stage::set();
            for command in &cure.run {
                let done = stage.run(command);
                let err = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{}: {command}: {err}", situation.name);
            }
            let dropped = stage.dropped();
            assert!(dropped.starts_with("[Service]\n"), "{}: {dropped}", situation.name);
            if situation.seen.contains("itself sets") {
                let unit = fs::read_to_string(stage.units().join("ollama.service")).unwrap();
                assert!(!unit.contains("OLLAMA_HOST") && unit.contains("PATH="), "{unit}");
                assert!(dropped.contains("\"OLLAMA_HOST=0.0.0.0\""), "{dropped}");
            }
            let said = stage.verify();
            let about = said.lines().find(|line| line.contains(".service.d") || line.contains("Unknown key"));
            assert_eq!(about, None, "{}", situation.name);
            written += 1;
        }
    }
    assert!(written >= 8, "{written}");
}

/// A tool that tells whether it would do something; none where it is not here or does nothing for this user.
fn dry(program: &str, words: &[&str], input: &str) -> Option<bool> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let output = Command::new(program).args(words).stdin(file.reopen().unwrap()).output().ok()?;
    Some(output.status.success())
}

#[test]
fn rules_of_cures_are_ones_that_the_firewalls_tools_take() {
    let base = "add table inet filter\nadd chain inet filter input { type filter hook input priority 0; }\n";
    let nft = |rule: &str| dry("/usr/sbin/nft", &["-c", "-f", "-"], &format!("{base}{rule}\n"));
    let tables =
        |rule: &str| dry("/usr/sbin/iptables-restore", &["--test"], &format!("*filter\n{rule}\nCOMMIT\n"));
    let has = [
        nft("") == Some(true),
        tables("") == Some(true),
        dry("/usr/sbin/ufw", &["--dry-run", "allow", "1/tcp"], "") == Some(true),
    ];
    for situation in all() {
        for command in cures(&situation.facts).iter().flat_map(|cure| &cure.run) {
            let told = if let Some(rule) = command.strip_prefix("sudo nft insert ") {
                has[0].then(|| nft(&format!("insert {rule}"))).flatten()
            } else if let Some(rule) = command.strip_prefix("sudo iptables -I ") {
                has[1].then(|| tables(&format!("-I {rule}"))).flatten()
            } else if let Some(rule) = command.strip_prefix("sudo iptables -D ") {
                // What is to be deleted is there before.
                has[1].then(|| tables(&format!("-A {rule}\n-D {rule}"))).flatten()
            } else if let Some(words) = command.strip_prefix("sudo ufw ") {
                let words: Vec<&str> = std::iter::once("--dry-run").chain(words.split(' ')).collect();
                has[2].then(|| dry("/usr/sbin/ufw", &words, "")).flatten()
            } else {
                None
            };
            assert_ne!(told, Some(false), "{}: {command}", situation.name);
        }
    }
}
