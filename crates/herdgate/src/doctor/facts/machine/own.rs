//! The gate's own: how many files it may open, whether it may take low ports, its keys, where its output goes, the clock.

use super::disks::Rights;
use super::files;
use super::sockets::Program;
use super::tool;
use crate::deploy::systemd::{BACKUP_UNIT, BACKUPS};
use gate_keys::{KeyStore as _, State};
use gate_store::{DataDir, SqliteStore};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// `CAP_NET_BIND_SERVICE` (capabilities(7)).
const BIND_LOW: u32 = 10;
const DAY: i64 = 86_400;

/// A key, as far as it may be of concern.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct KeyFacts {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) expires: bool,
    pub(in crate::doctor) was_used: bool,
    /// Days since it was made, and since it was used last.
    pub(in crate::doctor) age: i64,
    pub(in crate::doctor) idle: i64,
}

/// A file that a program's output goes into, which grows until somebody cuts it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct LogFile {
    pub(in crate::doctor) program: String,
    pub(in crate::doctor) path: String,
    pub(in crate::doctor) bytes: u64,
    /// Whether logrotate knows it.
    pub(in crate::doctor) is_rotated: bool,
    /// Whether others than root, or who asks, choose what lies there: no command names it.
    pub(in crate::doctor) is_foreign: bool,
}

/// Backups of the gate's service.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Backups {
    /// Where they lie.
    pub(in crate::doctor) folder: String,
    /// Whether a unit makes them.
    pub(in crate::doctor) has_unit: bool,
    /// Days since the newest, where there is any.
    pub(in crate::doctor) age: Option<u64>,
}

/// How many files may be open.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Files {
    /// The most that a program can grant itself.
    pub(in crate::doctor) hard: Option<u64>,
    /// The gate that runs, if it was looked at; else this program was.
    pub(in crate::doctor) gate: Option<Program>,
}

pub(super) fn files(gate: Option<&Program>) -> Files {
    let pid = gate.map_or_else(|| "self".to_owned(), |gate| gate.pid.to_string());
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    Files { hard: hard(&text), gate: gate.cloned() }
}

/// `Max open files  1024  524288  files`
fn hard(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Backups of the service, where its unit puts them; of a service without that unit, where it would. None where this user may not look,
/// or the unit does not say.
pub(super) fn backups() -> Option<Backups> {
    let unit = match fs::read_to_string(BACKUP_UNIT) {
        Ok(unit) => Some(unit),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(_forbidden) => return None,
    };
    let has_unit = unit.is_some();
    let folder = unit.map_or_else(|| Some(BACKUPS.to_owned()), |unit| folder(&unit))?;
    let files = match fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(Backups { folder, has_unit, age: None });
        }
        Err(_forbidden) => return None,
    };
    let times = files.flatten().take(4096).filter_map(|file| file.metadata().ok()?.modified().ok());
    let age = times.max().map(|newest| newest.elapsed().unwrap_or_default().as_secs() / DAY.unsigned_abs());
    Some(Backups { folder, has_unit, age })
}

/// The folder that `herdgate backup FOLDER/herdgate-…` of the unit names.
fn folder(unit: &str) -> Option<String> {
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let (folder, _name) = start.split_once(" backup ")?.1.split_once("/herdgate-$$(")?;
    folder.starts_with('/').then(|| folder.replace("%%", "%"))
}

/// The lowest port that this program may listen on.
pub(super) fn lowest_port() -> u16 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or_default();
    if bits >> BIND_LOW & 1 == 1 {
        return 1;
    }
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    start.and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Whether the clock follows others. None where systemd does not know.
pub(super) async fn is_synchronised() -> Option<bool> {
    let said = tool::told("timedatectl", &["show", "-p", "NTPSynchronized"]).await?;
    said.trim().strip_prefix("NTPSynchronized=").map(|value| value == "yes")
}

/// The keys that work. A directory that others may read is not opened: opening makes it right, and that is not a doctor's.
pub(super) fn keys(rights: Option<&Rights>) -> Vec<KeyFacts> {
    let own = rustix::process::geteuid().as_raw();
    let Some(rights) = rights.filter(|rights| rights.mode & 0o077 == 0 && rights.owner == own) else {
        return Vec::new();
    };
    let now = jiff::Timestamp::now().as_second();
    let open = || {
        let dir = DataDir::find(Path::new(&rights.path)).ok().flatten()?;
        let store = SqliteStore::exists(&dir).then(|| SqliteStore::open_known(&dir).ok()).flatten()?;
        store.list().ok()
    };
    let keys = open().unwrap_or_default();
    let live = keys.iter().filter(|key| matches!(key.state(now), State::Active));
    live.map(|key| KeyFacts {
        name: key.name.to_string(),
        expires: key.expires.is_some(),
        was_used: key.last_used().is_some(),
        age: (now - key.created) / DAY,
        idle: (now - key.last_used().unwrap_or(key.created)) / DAY,
    })
    .collect()
}

/// The files that gates and Ollamas write their output to.
pub(super) fn logs(programs: &[Program]) -> Vec<LogFile> {
    let rules = fs::read_dir("/etc/logrotate.d").into_iter().flatten().flatten().take(256);
    let rotated: String = rules.filter_map(|file| files::read(&file.path())).collect();
    let mut logs: Vec<LogFile> = Vec::new();
    let is_server = |program: &&Program| {
        (program.is("herdgate") || program.is("ollama"))
            && is_lasting(&fs::read(format!("/proc/{}/cmdline", program.pid)).unwrap_or_default())
    };
    for program in programs.iter().filter(is_server) {
        for descriptor in [1, 2] {
            let link = format!("/proc/{}/fd/{descriptor}", program.pid);
            let (Ok(path), Ok(stat)) = (fs::read_link(&link), fs::metadata(&link)) else { continue };
            let path = path.display().to_string();
            if stat.is_file() && stat.nlink() > 0 && !logs.iter().any(|log| log.path == path) {
                let is_rotated = rotated.contains(&path);
                let is_foreign = !files::is_ours(Path::new(&path));
                let (program, bytes) = (program.name.clone(), stat.size());
                logs.push(LogFile { program, path, bytes, is_rotated, is_foreign });
            }
        }
    }
    logs
}

/// Whether a command line (proc(5)) is of what goes on writing: what a command writes ends with it.
fn is_lasting(words: &[u8]) -> bool {
    words.split(|byte| *byte == 0).skip(1).any(|word| matches!(word, b"serve" | b"connect"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{systemd, testing};

    #[test]
    fn backups_are_looked_for_where_the_unit_puts_them() {
        for (words, expected) in [
            (&[][..], BACKUPS),
            (&["--backup-dir", "/srv/backups%"][..], "/srv/backups%"),
            (&["--backup-dir", "/mnt/nas/herdgate-home"][..], "/mnt/nas/herdgate-home"),
        ] {
            let made = testing::make(systemd::KIND, "", words, systemd::make).unwrap();
            let unit = testing::text(&made, "herdgate-backup.service");
            assert_eq!(folder(unit).as_deref(), Some(expected), "{unit}");
        }
        assert_eq!(folder("[Service]\nExecStart=/usr/local/bin/my-own-backup\n"), None);
    }

    #[test]
    fn limits_and_command_lines_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files\n";
        assert_eq!(hard(limits), Some(524_288));
        for (words, is) in [
            (&b"herdgate\0--data\0dd\0serve\0"[..], true),
            (b"ollama\0serve\0", true),
            (b"herdgate\0connect\0https://gate\0", true),
            (b"herdgate\0doctor\0", false),
            (b"herdgate\0key\0list\0", false),
            (b"", false),
        ] {
            assert_eq!(is_lasting(words), is, "{words:?}");
        }
        assert_eq!(hard("Max open files            unlimited            unlimited            files\n"), None);
    }
}
