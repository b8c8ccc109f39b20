//! Whether a settings file is believed that lies in a data directory and that nobody named: whoever can write it decides where
//! tokens and keys are sent, and root comes by in the directories of others. Decided from what the system says of the two; looks
//! at no disk.

use crate::problem::{Place, Plain, Problem};
use std::path::Path;

/// Who else may write: the group, and all others.
const OTHERS_WRITE: u32 = 0o022;

/// What the system says of a file or of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whether it is what it has to be: a plain file that is no link, or a directory.
    pub is_plain: bool,
    /// The number of the user whose it is.
    pub owner: u32,
    /// Its mode; bits beyond those of permissions count for nothing.
    pub mode: u32,
}

impl Held {
    /// What keeps user `own` from believing what stands there, and its cure.
    fn doubt(self, own: u32, path: &Path) -> Option<(String, String)> {
        let Held { is_plain, owner, mode } = self;
        if !is_plain {
            return Some(("is a link, or no plain file".to_owned(), "put the file itself there".to_owned()));
        }
        if owner != own && owner != 0 {
            let reason = format!("belongs to user {owner}, and this is user {own}");
            return Some((reason, "run herdgate as that user".to_owned()));
        }
        (mode & OTHERS_WRITE != 0).then(|| {
            let reason = format!("may be written to by others (mode {:04o})", mode & 0o7777);
            (reason, format!("close it to them (chmod go-w {})", Plain(&path.to_string_lossy())))
        })
    }
}

/// Whether user `own` believes the settings in `file`, which lies in `folder`.
///
/// # Errors
/// What is in the way, whose it is, and what to do.
pub fn believe(file: (&Path, Held), folder: (&Path, Held), own: u32) -> Result<(), Problem> {
    let shown = folder.0.to_string_lossy();
    let of_folder = |(reason, cure)| (format!("lies in {}, which {reason}", Plain(&shown)), cure);
    let doubt = folder.1.doubt(own, folder.0).map(of_folder);
    match doubt.or_else(|| file.1.doubt(own, file.0)) {
        None => Ok(()),
        Some((reason, cure)) => {
            let reason = format!("{reason}: settings that nobody named are not taken from there");
            let hint = format!("{cure}, or name the settings that are meant with --config FILE");
            Err(Problem::new(Place::Path(file.0.to_owned()), reason).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_from_nobody_else() {
        let held = |owner, mode| Held { is_plain: true, owner, mode };
        let told = |file, folder, own| {
            let told = believe((Path::new("/d/herdgate.toml"), file), (Path::new("/d"), folder), own);
            told.map_err(|problem| problem.to_string())
        };
        let good = held(1000, 0o40700);
        for (file, folder, own) in [
            (held(1000, 0o100600), good, 1000),
            (held(1000, 0o100644), held(1000, 0o40755), 1000),
            (held(0, 0o100644), held(0, 0o41755), 1000),
            (held(0, 0o100600), good, 1000),
            (held(0, 0o100644), held(0, 0o40755), 0),
        ] {
            assert_eq!(told(file, folder, own), Ok(()), "{file:?} {folder:?} {own}");
        }
        for (file, folder, own, words) in [
            (held(1000, 0o600), held(0, 0o755), 0, "toml belongs to user 1000, and this is user 0"),
            (held(0, 0o600), held(1000, 0o700), 0, "lies in /d, which belongs to user 1000, and this is"),
            (held(1000, 0o600), held(1000, 0o700), 0, "run herdgate as that user"),
            (held(1001, 0o644), good, 1000, "belongs to user 1001, and this is user 1000"),
            (held(0, 0o664), held(0, 0o755), 0, "may be written to by others (mode 0664)"),
            (held(0, 0o602), held(0, 0o755), 0, "(chmod go-w /d/herdgate.toml)"),
            (held(0, 0o644), held(0, 0o1777), 0, "lies in /d, which may be written to by others (mode 1777)"),
            (held(0, 0o644), held(0, 0o775), 0, "(chmod go-w /d)"),
            (Held { is_plain: false, ..held(0, 0o777) }, held(0, 0o755), 0, "is a link, or no plain file"),
        ] {
            let told = told(file, folder, own).unwrap_err();
            assert!(told.starts_with("/d/herdgate.toml ") && told.contains(words), "{words}: {told}");
            assert!(told.contains("--config FILE"), "{told}");
        }
    }
}
