//! `herdgate deploy systemd`: the gate's units, with no more of the machine than its settings need.
//!
//! The gate runs as a user of its own, `herdgate`, not as a `DynamicUser`: its data directory is then a plain folder, the same
//! `/var/lib/herdgate` that commands of root use by default, and what they make in it belongs to that user (`gate-store` sees to it).
//! What only root may read (certificates' keys, tokens) reaches it as credentials. Follows systemd.exec(5), .service(5),
//! .socket(5) and .timer(5); works from systemd 247 on.

mod astray;
mod backup;
mod credentials;
mod harden;
mod socket;
#[cfg(test)]
mod tests;

use super::{Act, Astray, Base, Deployment, Ground, Made, tame, tame_path};
use clap::Args;
use credentials::Credentials;
use gate_config::EngineStart;
use std::path::{Path, PathBuf};

/// The word of the command.
pub(crate) const KIND: &str = "systemd";
const UNITS: &str = "/etc/systemd/system";
const TMPFILES: &str = "/etc/tmpfiles.d/herdgate.conf";
const SETTINGS: &str = "/etc/herdgate/herdgate.toml";
const DATA: &str = "/var/lib/herdgate";
/// The unit that makes backups, and where they lie unless told otherwise.
pub(crate) const BACKUP_UNIT: &str = "/etc/systemd/system/herdgate-backup.service";
pub(crate) const BACKUPS: &str = "/var/lib/herdgate-backups";

/// Options of `herdgate deploy systemd`.
#[derive(Debug, Args)]
pub(crate) struct SystemdArgs {
    /// Where herdgate lies on the machine that the unit is for
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/herdgate")]
    pub(crate) program: PathBuf,
    /// For systemd 253 and later: a reload ends when the new settings are in force
    #[arg(long)]
    pub(crate) notify_reload: bool,
    /// A file with one key for every caller (AUTH_TOKEN), handed over as a credential
    #[arg(long, value_name = "FILE")]
    pub(crate) auth_token_file: Option<PathBuf>,
    /// No backups
    #[arg(long)]
    pub(crate) no_backup: bool,
    /// Where backups lie
    #[arg(
        long,
        value_name = "DIR",
        default_value = BACKUPS,
        conflicts_with = "no_backup"
    )]
    pub(crate) backup_dir: PathBuf,
    /// When they are taken, as systemd.time(7) writes it
    #[arg(long, value_name = "WHEN", default_value = "daily", conflicts_with = "no_backup")]
    pub(crate) backup_at: String,
    /// How many are kept
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "no_backup")]
    pub(crate) keep: u16,
}

/// What the units have in common.
struct Shape {
    program: String,
    /// Named only where it is not the one in the working directory.
    settings: Option<String>,
    data: String,
    credentials: Credentials,
    /// The gate starts an Ollama or the engine itself.
    starts_local: bool,
    has_socket: bool,
    /// A port below 1024 that no socket unit can hold.
    binds_low: bool,
}

/// Makes the units.
///
/// # Errors
/// Where a path cannot stand in a unit.
pub(crate) fn make(asked: &SystemdArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let (mut notes, mut astray) = (Vec::new(), Vec::new());
    let shape = Shape::of(asked, ground, &mut notes, &mut astray)?;
    let mut files = vec![
        unit(
            "herdgate.service",
            ground,
            "herdgate, as a service with no more of the machine than it needs.",
            &service(asked, ground, &shape)?,
        ),
        Made::new("/etc/sysusers.d/herdgate.conf", sysusers(ground, &shape)),
        Made::new(TMPFILES, tmpfiles(ground)),
    ];
    let mut starts = vec!["herdgate.service"];
    if shape.has_socket {
        files.push(unit(
            "herdgate.socket",
            ground,
            "The ports of herdgate.service, held by systemd.",
            &socket::text(ground),
        ));
        starts.insert(0, "herdgate.socket");
    }
    if let Some(renewed) = shape.credentials.renewed() {
        let [path, service] = renewed;
        files.push(unit("herdgate-renewed.path", ground, "Sees that the certificate was renewed.", &path));
        files.push(unit(
            "herdgate-renewed.service",
            ground,
            "Has herdgate take up a renewed certificate.",
            &service,
        ));
        starts.push("herdgate-renewed.path");
    }
    if !asked.no_backup {
        let [service, timer] = backup::texts(asked, &shape)?;
        files.push(unit(
            "herdgate-backup.service",
            ground,
            "One backup of herdgate, and the oldest ones gone.",
            &service,
        ));
        files.push(unit("herdgate-backup.timer", ground, "When herdgate is backed up.", &timer));
        starts.push("herdgate-backup.timer");
    }
    let mut deployment = Deployment::new(KIND, Base::System, files);
    deployment.then = vec![
        Act::of("systemd-sysusers herdgate.conf"),
        Act::of("systemd-tmpfiles --create herdgate.conf"),
        Act::of("systemctl daemon-reload"),
        Act::of(&format!("systemctl enable {}", starts.join(" "))),
        // Not `enable --now`: what runs already would run on as it was.
        Act::of(&format!("systemctl restart {}", starts.join(" "))),
        Act::of("systemctl --no-pager status herdgate.service"),
    ];
    // One each: a unit that later settings do not have any more is ended by its own.
    // The socket before the service, which it could start again.
    let (service, others): (Vec<&str>, _) = starts.iter().partition(|unit| **unit == "herdgate.service");
    let ends = others.iter().rev().chain(&service);
    let ends = ends.map(|unit| Act::of(&format!("systemctl disable --now {unit}")));
    deployment.before_undo = ends.collect();
    deployment.after_undo = vec![Act::of("systemctl daemon-reload")];
    deployment.notes = notes;
    deployment.astray = astray;
    Ok(deployment)
}

fn unit(name: &str, ground: &Ground<'_>, what: &str, text: &str) -> Made {
    let path = Path::new(UNITS).join(name);
    let head = ground.head(&path, what);
    let change = format!(
        "# Change it with `systemctl edit {name}`: the file itself is written anew by the next --write.\n\n"
    );
    Made::new(path, format!("{head}{change}{text}"))
}

impl Shape {
    fn of(
        asked: &SystemdArgs,
        ground: &Ground<'_>,
        notes: &mut Vec<String>,
        astray: &mut Vec<Astray>,
    ) -> anyhow::Result<Self> {
        let config = ground.config();
        let credentials = Credentials::of(asked, ground, notes)?;
        let is_low = |port: u16| (1..1024).contains(&port);
        let metrics = config.metrics.address.map_or(0, |door| door.address.port());
        astray.extend(astray::variables(ground));
        if !is_lasting(&asked.program) {
            notes.push(format!(
                "a service does not see {}: install it below /usr/local or /opt",
                asked.program.display()
            ));
        }
        Ok(Shape {
            program: word("the program's path", &asked.program)?,
            settings: astray::settings(ground, astray)?,
            data: astray::data(ground, notes, astray)?,
            credentials,
            starts_local: starts_local(ground, notes),
            has_socket: config.listen.iter().map(|listener| listener.address.address).any(|address| {
                is_low(address.port()) || !(address.ip().is_unspecified() || address.ip().is_loopback())
            }),
            binds_low: is_low(metrics),
        })
    }

    /// The lines that the service and the backup share: where things are.
    fn places(&self, unit: &str) -> String {
        let mut lines = vec![
            "User=herdgate".to_owned(),
            "Group=herdgate".to_owned(),
            "UMask=0077".to_owned(),
            // Not a ConfigurationDirectory=: one that systemd makes is the service's to write to.
            "# Where herdgate.toml is looked for; root's, and the gate only reads it.".to_owned(),
            "WorkingDirectory=/etc/herdgate".to_owned(),
        ];
        match &self.settings {
            Some(path) => lines.push(format!("Environment=HERDGATE_CONFIG={path}")),
            // Where there is no file in it, the user's own folder would be next: the data, which a gate may write to.
            None => lines.push("Environment=XDG_CONFIG_HOME=/etc".to_owned()),
        }
        lines.push(format!("Environment=HERDGATE_DATA={}", self.data));
        match Path::new(&self.data).strip_prefix("/var/lib") {
            Ok(name) if name.components().count() == 1 => {
                lines.push(format!("StateDirectory={}", name.display()));
                lines.push("StateDirectoryMode=0700".to_owned());
            }
            Ok(_) | Err(_) => lines.push(format!("ReadWritePaths={}", self.data)),
        }
        lines.extend(self.credentials.lines(unit));
        lines.join("\n") + "\n"
    }
}

/// A path as one word of a unit.
fn word(what: &str, path: &Path) -> anyhow::Result<String> {
    let text = tame_path(what, path)?;
    anyhow::ensure!(path.is_absolute(), "{what} must be absolute: {text}");
    // A % begins a specifier (systemd.unit(5)).
    Ok(text.replace('%', "%%"))
}

/// Whether a path is one that a service sees, and that is there after a restart of the machine.
fn is_lasting(path: &Path) -> bool {
    let passing = ["/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys"];
    path.is_absolute() && !passing.iter().any(|folder| path.starts_with(folder))
}

/// Whether the gate has a program to start itself. Where nothing was said about one it gets none: a service has its Ollama
/// beside it, and at boot that may be the later of the two.
fn starts_local(ground: &Ground<'_>, notes: &mut Vec<String>) -> bool {
    let config = ground.config();
    let is_said = ground.loaded.origins.keys().any(|key| key.starts_with("local."));
    let may = config.local.enabled && (!config.upstreams_given || config.local.engine == EngineStart::Always);
    if may && !is_said {
        notes.push("the unit starts no Ollama of its own (--no-local): write enabled = true into [local] to have it start one".to_owned());
    }
    may && is_said
}

fn service(asked: &SystemdArgs, ground: &Ground<'_>, shape: &Shape) -> anyhow::Result<String> {
    let local = if shape.starts_local { "" } else { " --no-local" };
    let (kind, reload) = if asked.notify_reload {
        ("notify-reload", "")
    } else {
        (
            "notify",
            "# With systemd 253 or later `--notify-reload` makes this wait for the new settings to be in force.\nExecReload=/bin/kill -HUP $MAINPID\n",
        )
    };
    let socket = if shape.has_socket { "Requires=herdgate.socket\nAfter=herdgate.socket\n" } else { "" };
    let also = if shape.has_socket { "Also=herdgate.socket\n" } else { "" };
    let program = &shape.program;
    Ok(format!(
        "[Unit]\n\
         Description=herdgate, keys and routing in front of Ollama\n\
         Wants=network-online.target\n\
         After=network-online.target nss-lookup.target ollama.service\n\
         {socket}\
         # Ten starts a minute that fail, and it stays down until somebody has looked.\n\
         StartLimitIntervalSec=60\n\
         StartLimitBurst=10\n\n\
         [Service]\n\
         Type={kind}\n\
         NotifyAccess=main\n\
         ExecStart={program} serve{local}\n\
         {reload}\
         # The signal is for the gate: an Ollama that it started is needed until the last stream has ended.\n\
         KillMode=mixed\n\
         WatchdogSec=30\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         # 64: the settings are wrong, and would be so again.\n\
         RestartPreventExitStatus=64\n\
         # What limits.connections and the slots of all upstreams can need.\n\
         LimitNOFILE={files}\n\
         LimitCORE=0\n\n\
         {places}\n\
         {hardening}\n\
         [Install]\n\
         WantedBy=multi-user.target\n\
         {also}",
        files = descriptors(ground),
        places = shape.places("herdgate.service"),
        hardening = harden::service(ground, shape)?,
    ))
}

fn descriptors(ground: &Ground<'_>) -> usize {
    let config = ground.config();
    let slots: usize = config.upstreams.iter().map(|one| one.slots.unwrap_or(config.fleet.slots)).sum();
    // Connections, two for each slot, and what the rest of the gate keeps (server/descriptors.rs); never fewer than is usual.
    (config.limits.connections + 2 * slots + 512).max(65_536)
}

fn sysusers(ground: &Ground<'_>, shape: &Shape) -> String {
    let path = Path::new("/etc/sysusers.d/herdgate.conf");
    let head = ground.head(path, "The user that herdgate.service runs as.");
    // Groups whose members may open the GPU's devices.
    let groups = if shape.starts_local { "m herdgate video\nm herdgate render\n" } else { "" };
    format!("{head}u herdgate - \"herdgate\" {}\n{groups}", shape.data)
}

/// Nothing is taken from whoever gave the folder a group and a mode of their own.
fn tmpfiles(ground: &Ground<'_>) -> String {
    let head = ground.head(
        Path::new(TMPFILES),
        "The folder of herdgate's settings: root's, so that no gate writes its own.",
    );
    format!("{head}d /etc/herdgate - root - -\n")
}

/// A time as systemd.time(7) writes it, as far as its form can be told here.
fn calendar(text: &str) -> anyhow::Result<&str> {
    text.split(' ').try_for_each(|part| tame("--backup-at", part).map(drop))?;
    Ok(text)
}
