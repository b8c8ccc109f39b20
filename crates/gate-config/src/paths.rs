//! Where the settings file and the data directory are, decided from what the caller knows. Looks at no disk.

use crate::problem::{Place, Plain, Problem};
use crate::spec::Flags;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The settings file's name in the working directory.
const HERE: &str = "herdgate.toml";

/// What there is around the process. Variables are as the system holds them: a path need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether the effective user is root.
    pub is_root: bool,
    /// Whether `./herdgate.toml` exists, readable or not.
    pub has_file_here: bool,
    /// Whether the directory of `--data` holds a `herdgate.toml`, of whatever kind, which `herdgate restore --data` puts there.
    pub has_file_in_data: bool,
    /// `HERDGATE_CONFIG`
    pub herdgate_config: Option<OsString>,
    /// `HERDGATE_DATA`
    pub herdgate_data: Option<OsString>,
    /// `HOME`
    pub home: Option<OsString>,
    /// `XDG_CONFIG_HOME`
    pub xdg_config_home: Option<OsString>,
    /// `XDG_DATA_HOME`
    pub xdg_data_home: Option<OsString>,
}

impl Surroundings {
    /// Asks `variable` (such as `std::env::var_os`) for each variable.
    pub fn new(is_root: bool, has_file_here: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Surroundings {
            is_root,
            has_file_here,
            has_file_in_data: false,
            herdgate_config: variable("HERDGATE_CONFIG"),
            herdgate_data: variable("HERDGATE_DATA"),
            home: variable("HOME"),
            xdg_config_home: variable("XDG_CONFIG_HOME"),
            xdg_data_home: variable("XDG_DATA_HOME"),
        }
    }
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// The settings file to read; `None` where there is no place for one.
    pub config: Option<PathBuf>,
    /// Who named the settings file. If somebody did, it must exist; the default one may be absent.
    pub config_named: Option<Place>,
    /// Whether it is the one that was found in the data directory: it is read only where [`crate::believe`] lets it be.
    pub is_in_data: bool,
    /// The data directory.
    pub data: PathBuf,
    /// Who named the data directory; `None` where it is the default.
    pub data_named: Option<Place>,
}

impl Locations {
    /// Where the settings of a gate go that is set up here: beside its data where `--data` names a place for that and nobody one
    /// for the settings, so that a start with the same `--data` finds them.
    #[must_use]
    pub fn for_new_settings(&self) -> Option<PathBuf> {
        match (&self.config_named, &self.data_named) {
            (None, Some(Place::Flag { .. })) => Some(Self::file_in(&self.data)),
            _ => self.config.clone(),
        }
    }

    /// The settings file that a data directory of this name may hold.
    #[must_use]
    pub fn file_in(data: &Path) -> PathBuf {
        data.join(HERE)
    }

    /// Makes the file part of [`crate::Sources`] of what reading [`Locations::config`] gave.
    ///
    /// # Errors
    /// The one problem of a file that cannot be read, or that somebody named and that is not there.
    pub fn judge(&self, read: io::Result<String>) -> Result<Option<(PathBuf, String)>, Problem> {
        let Some(config) = &self.config else { return Ok(None) };
        let err = match read {
            Ok(text) => return Ok(Some((config.clone(), text))),
            Err(err) if err.kind() == ErrorKind::NotFound && self.config_named.is_none() => return Ok(None),
            Err(err) => err,
        };
        let place = self.config_named.clone().unwrap_or_else(|| Place::Path(config.clone()));
        let shown = config.to_string_lossy();
        let problem = Problem::new(place, format!("cannot read the settings file {}: {err}", Plain(&shown)));
        Err(match err.kind() {
            ErrorKind::PermissionDenied => {
                problem.hint("run herdgate as the user who owns it, or let that user read it")
            }
            ErrorKind::InvalidData => problem.hint("a settings file is UTF-8 text of at most 256 KiB"),
            _ => problem,
        })
    }
}

/// Decides where the settings file and the data directory are.
///
/// File: `--config`, `HERDGATE_CONFIG`, `herdgate.toml` in the directory of `--data` if it holds one, `./herdgate.toml` if
/// there is one, as root `/etc/herdgate/herdgate.toml`,
/// otherwise `$XDG_CONFIG_HOME/herdgate/herdgate.toml` (`~/.config`). Data: `--data`, `HERDGATE_DATA`, as root
/// `/var/lib/herdgate`, otherwise `$XDG_DATA_HOME/herdgate` (`~/.local/share`). Empty variables and relative `HOME` and
/// XDG folders count as not given (XDG base directory specification 0.8).
///
/// # Errors
/// A problem where there is no place for data: no root, no home, and nobody named one.
pub fn locate(flags: &Flags, around: &Surroundings) -> Result<Locations, Problem> {
    let (data, data_named) =
        match named(flags.data.as_ref(), "--data", &around.herdgate_data, "HERDGATE_DATA") {
            Some((path, place)) => (path, Some(place)),
            None if around.is_root => (PathBuf::from("/var/lib/herdgate"), None),
            None => match folder(&around.xdg_data_home, &around.home, ".local/share") {
                Some(folder) => (folder.join("herdgate"), None),
                None => {
                    let reason = "is not set, so there is no place for herdgate's data";
                    return Err(Problem::new(Place::env("HOME"), reason).hint("name one with --data DIR"));
                }
            },
        };
    let mut is_in_data = false;
    let (config, config_named) =
        match named(flags.config.as_ref(), "--config", &around.herdgate_config, "HERDGATE_CONFIG") {
            Some((path, place)) => (Some(path), Some(place)),
            None if around.has_file_in_data && flags.data.is_some() => {
                is_in_data = true;
                (Some(data.join(HERE)), None)
            }
            None if around.has_file_here => (Some(PathBuf::from(HERE)), None),
            None if around.is_root => (Some(PathBuf::from("/etc/herdgate").join(HERE)), None),
            None => {
                let folder = folder(&around.xdg_config_home, &around.home, ".config");
                (folder.map(|folder| folder.join("herdgate").join(HERE)), None)
            }
        };
    Ok(Locations { config, config_named, is_in_data, data, data_named })
}

fn named(
    flag: Option<&PathBuf>,
    flag_name: &'static str,
    variable: &Option<OsString>,
    name: &str,
) -> Option<(PathBuf, Place)> {
    let by_flag = flag.map(|path| (path.clone(), Place::Flag { name: flag_name, item: None }));
    let by_variable = variable.as_ref().filter(|value| !value.is_empty());
    by_flag.or_else(|| by_variable.map(|value| (PathBuf::from(value), Place::env(name))))
}

fn folder(xdg: &Option<OsString>, home: &Option<OsString>, below_home: &str) -> Option<PathBuf> {
    let absolute =
        |value: &Option<OsString>| value.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute(home).map(|home| home.join(below_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(is_root: bool, has_file_here: bool, vars: &[(&str, &str)]) -> Surroundings {
        Surroundings::new(is_root, has_file_here, |name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn where_things_are() {
        let home = ("HOME", "/home/x");
        let xdg = [home, ("XDG_CONFIG_HOME", "/c"), ("XDG_DATA_HOME", "/d")];
        let named = [home, ("HERDGATE_CONFIG", "/named.toml"), ("HERDGATE_DATA", "/named")];
        let empty = [home, ("HERDGATE_CONFIG", ""), ("XDG_CONFIG_HOME", "relative"), ("XDG_DATA_HOME", "")];
        for (is_root, here, vars, config, data) in [
            (true, false, &[home][..], "/etc/herdgate/herdgate.toml", "/var/lib/herdgate"),
            (true, true, &[home], "herdgate.toml", "/var/lib/herdgate"),
            (true, false, &xdg, "/etc/herdgate/herdgate.toml", "/var/lib/herdgate"),
            (true, true, &named, "/named.toml", "/named"),
            (
                false,
                false,
                &[home],
                "/home/x/.config/herdgate/herdgate.toml",
                "/home/x/.local/share/herdgate",
            ),
            (false, true, &[home], "herdgate.toml", "/home/x/.local/share/herdgate"),
            (false, false, &xdg, "/c/herdgate/herdgate.toml", "/d/herdgate"),
            (false, true, &named, "/named.toml", "/named"),
            (false, false, &empty, "/home/x/.config/herdgate/herdgate.toml", "/home/x/.local/share/herdgate"),
        ] {
            let found = locate(&Flags::default(), &around(is_root, here, vars)).unwrap();
            assert_eq!(found.config, Some(config.into()), "{is_root} {here} {vars:?}");
            assert_eq!(found.data, PathBuf::from(data), "{is_root} {here} {vars:?}");
        }
    }

    #[test]
    fn a_directory_that_is_named_by_a_flag_may_hold_its_settings() {
        let flags = Flags { data: Some("/d".into()), ..Flags::default() };
        let around = |in_data, vars| Surroundings { has_file_in_data: in_data, ..around(true, true, vars) };
        let found = |flags: &Flags, around: &Surroundings| locate(flags, around).unwrap();
        let held = found(&flags, &around(true, &[]));
        assert_eq!(
            (held.config.as_deref(), held.config_named.clone()),
            (Some(Path::new("/d/herdgate.toml")), None)
        );
        assert!(held.is_in_data, "to be looked at before it is read");
        assert_eq!(held.for_new_settings(), held.config);
        let none = found(&flags, &around(false, &[]));
        assert_eq!(none.config, Some("herdgate.toml".into()), "none is there");
        assert!(!none.is_in_data);
        assert_eq!(none.for_new_settings(), Some("/d/herdgate.toml".into()));
        let named = found(&flags, &around(true, &[("HERDGATE_CONFIG", "/n.toml")]));
        assert!(!named.is_in_data);
        assert_eq!((named.config.clone(), named.for_new_settings()), (Some("/n.toml".into()), named.config));
        let usual = found(&Flags::default(), &around(true, &[("HERDGATE_DATA", "/d")]));
        assert_eq!(
            (usual.config.clone(), usual.for_new_settings()),
            (Some("herdgate.toml".into()), usual.config)
        );
    }

    #[test]
    fn flags_are_heard_first() {
        let flags = Flags { config: Some("f.toml".into()), data: Some("d".into()), ..Flags::default() };
        let found =
            locate(&flags, &around(true, true, &[("HERDGATE_CONFIG", "/e"), ("HERDGATE_DATA", "/e")]))
                .unwrap();
        assert_eq!((found.config, found.data), (Some("f.toml".into()), "d".into()));
        assert_eq!(found.config_named, Some(Place::Flag { name: "--config", item: None }));
    }

    #[test]
    fn without_a_home_data_must_be_named() {
        let problem = locate(&Flags::default(), &around(false, false, &[])).unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("name one with --data DIR"));
        let found = locate(&Flags::default(), &around(false, false, &[("HERDGATE_DATA", "/d")])).unwrap();
        assert_eq!((found.config, found.data), (None, "/d".into()));
    }

    #[test]
    fn a_named_file_must_be_there_and_the_default_may_be_absent() {
        let absent = || Err(io::Error::from(ErrorKind::NotFound));
        let default = locate(&Flags::default(), &around(true, false, &[])).unwrap();
        assert_eq!(default.judge(absent()), Ok(None));
        let named =
            locate(&Flags::default(), &around(true, false, &[("HERDGATE_CONFIG", "/n.toml")])).unwrap();
        let told = named.judge(absent()).unwrap_err().to_string();
        assert!(told.starts_with("HERDGATE_CONFIG cannot read the settings file /n.toml: "), "{told}");
        let locked = default.judge(Err(io::Error::from(ErrorKind::PermissionDenied))).unwrap_err();
        assert!(locked.hint.is_some());
        let read = named.judge(Ok("x".to_owned())).unwrap();
        assert_eq!(read, Some(("/n.toml".into(), "x".to_owned())));
    }
}
