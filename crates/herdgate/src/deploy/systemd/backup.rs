//! The backup and its timer.

use super::{Shape, SystemdArgs, calendar, harden, word};
use std::path::Path;

/// Service and timer.
///
/// # Errors
/// Where a path or a time cannot stand in a unit.
pub(super) fn texts(asked: &SystemdArgs, shape: &Shape) -> anyhow::Result<[String; 2]> {
    let folder = word("--backup-dir", &asked.backup_dir)?;
    let at = calendar(&asked.backup_at)?;
    let own = match Path::new(&folder).strip_prefix("/var/lib") {
        Ok(name) if name.components().count() == 1 => {
            // The mode is that of StateDirectoryMode, which the data directory has as well.
            format!("StateDirectory={}\n", name.display())
        }
        Ok(_) | Err(_) => format!(
            "# It must be there, and herdgate's own: install -d -m 0700 -o herdgate {folder}\nReadWritePaths={folder}\n"
        ),
    };
    let Shape { program, .. } = shape;
    let first_to_go = u32::from(asked.keep) + 1;
    let service = format!(
        "[Unit]\n\
         Description=Backup of herdgate\n\
         After=network-online.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         # Keys, settings and certificates as they are at one moment; the gate runs on. Whoever has such a file can pose as this gate.\n\
         ExecStart=/bin/sh -c 'exec {program} backup {folder}/herdgate-$$(date -u +%%Y%%m%%dT%%H%%M%%SZ).tar.zst'\n\
         # Only where that one is there: the newest {keep} stay.\n\
         ExecStartPost=/bin/sh -c 'cd {folder} && ls -1r | grep -x \"herdgate-[0-9TZ]*[.]tar[.]zst\" | tail -n +{first_to_go} | xargs -r rm -f --'\n\
         Nice=10\n\
         IOSchedulingClass=idle\n\n\
         {places}{own}\n\
         {hardening}",
        keep = asked.keep,
        places = shape.places("herdgate-backup.service"),
        hardening = harden::backup(),
    );
    let timer = format!(
        "[Unit]\n\
         Description=Backups of herdgate\n\n\
         [Timer]\n\
         OnCalendar={at}\n\
         RandomizedDelaySec=15min\n\
         # One that was missed while the machine was off is made up for.\n\
         Persistent=yes\n\n\
         [Install]\n\
         WantedBy=timers.target\n"
    );
    Ok([service, timer])
}
