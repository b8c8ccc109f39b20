//! Files that somebody else names: programs by what they were started with, services by their units. Whoever named one may have chosen
//! it so that root hangs at it, or trusts it.

use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const MOST: u64 = 256 << 10;
/// What lies there is no file, whatever it looks like: reading can wait, and opening can do something.
const UNREAL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What a file says. None where it is none that can be read at once, has nothing in it, or is longer than any that is meant.
pub(in crate::doctor::facts) fn read(path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok()?;
    if UNREAL.iter().any(|folder| real.starts_with(folder)) {
        return None;
    }
    // What it is is known before it is opened: of a device or a pipe that alone could be too much.
    let place = open(&real, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let place = File::from(place);
    let stat = place.metadata().ok()?;
    if !stat.is_file() || !(1..=MOST).contains(&stat.len()) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether nobody but root, or who runs this, chooses what is found at this path.
pub(super) fn is_ours(path: &Path) -> bool {
    let is_kept = |path: &Path| path.ancestors().all(|part| is_part_ours(part, part == path));
    path.is_absolute() && is_kept(path) && fs::canonicalize(path).is_ok_and(|real| is_kept(&real))
}

fn is_part_ours(part: &Path, is_last: bool) -> bool {
    let Ok(stat) = fs::symlink_metadata(part) else { return false };
    let is_written_by_others = !stat.is_symlink() && stat.mode() & 0o022 != 0;
    // In a folder like /tmp everybody's things are their own.
    let is_sticky = !is_last && stat.is_dir() && stat.mode() & 0o1000 != 0;
    is_owner_ours(stat.uid()) && (!is_written_by_others || is_sticky)
}

/// Root, who runs this, or whom root is known as in a space of users of its own.
fn is_owner_ours(uid: u32) -> bool {
    let is_roots = || fs::metadata("/").is_ok_and(|stat| stat.uid() == uid);
    uid == 0 || uid == rustix::process::geteuid().as_raw() || is_roots()
}

/// Whether it is a program of theirs: what others' were started with says whatever they want.
pub(super) fn is_program_ours(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|stat| is_owner_ours(stat.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "server localhost:11434\n").unwrap();
        let link = folder.path().join("link");
        symlink(&file, &link).unwrap();
        let long = folder.path().join("long");
        fs::write(&long, vec![b'#'; 300 << 10]).unwrap();
        for none in [
            &pipe,
            &long,
            folder.path(),
            Path::new("/proc/kmsg"),
            Path::new("/proc/self/maps"),
            Path::new("/dev/zero"),
        ] {
            assert_eq!(read(none), None, "{}", none.display());
        }
        for text in [&file, &link] {
            assert_eq!(read(text).unwrap(), "server localhost:11434\n");
        }
    }

    #[test]
    fn a_file_is_ours_where_no_other_chooses_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(is_ours(&file));
        assert!(!is_ours(Path::new("file")), "from nobody's folder");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!is_ours(&file), "others write it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(&file, open.join("link")).unwrap();
        assert!(!is_ours(&open.join("link")), "others put another in its place");
        assert!(is_program_ours(std::process::id()));
    }
}
