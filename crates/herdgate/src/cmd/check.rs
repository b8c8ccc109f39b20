//! `herdgate check`: are the settings fine, and the files that they name? Listens on nothing, changes nothing, asks no upstream.

use crate::cmd::settings;
use crate::server::examine_tls;
use gate_config::{Loaded, Locations, Place, Problem};
use gate_store::DataDir;
use std::io::{self, Write};
use std::path::Path;

/// Tells every problem and ends with 64, or every warning and one line that names the settings file, and ends with 0.
pub(crate) fn run(loaded: Result<&(Loaded, Locations), &[Problem]>, talk: &mut dyn Write) -> u8 {
    match loaded {
        Ok((loaded, places)) => {
            let problems = in_files(loaded);
            if !problems.is_empty() {
                // A closed standard error leaves the exit code to tell it.
                let _closed = warn(loaded, places, talk);
                return settings::tell(&problems, talk);
            }
            let _closed = fine(loaded, places, talk);
            0
        }
        Err(problems) => settings::tell(problems, talk),
    }
}

/// What is wrong with the files of certificates that the settings name, at the line that names them.
fn in_files(loaded: &Loaded) -> Vec<Problem> {
    let problem = |(setting, error): (&'static str, anyhow::Error)| {
        let place = loaded.origins.get(setting).cloned().unwrap_or_else(|| Place::Path(setting.into()));
        let text = format!("{error:#}");
        match text.split_once("\nhint: ") {
            Some((reason, hint)) => Problem::new(place, reason).hint(hint),
            None => Problem::new(place, text),
        }
    };
    examine_tls(&loaded.config.tls).into_iter().map(problem).collect()
}

/// Listeners that let callers in as a key that is not there. A database that cannot be read is no fault of the settings.
fn keyless(loaded: &Loaded, data: &Path) -> Vec<Problem> {
    let config = &loaded.config;
    let dir = data.is_dir().then(|| DataDir::anchor(data).ok()).flatten();
    let is_known = |name: &str| {
        config.keys.iter().any(|key| key.name == name)
            || match &dir {
                Some(dir) => gate_store::has_key(dir, name).map_or(true, Option::unwrap_or_default),
                None => data.exists(),
            }
    };
    let named = config.listen.iter().zip(&loaded.listeners);
    let named = named.filter_map(|(listener, place)| Some((listener.insecure_anonymous.as_ref()?, place)));
    let astray = named.filter(|(anonymous, _)| !is_known(&anonymous.acts_as));
    let warn = |(anonymous, place): (&gate_config::Anonymous, &Place)| {
        let name = &anonymous.acts_as;
        let reason =
            format!("insecure_anonymous names the key \"{name}\", and there is none: nobody is let in so");
        Problem::new(place.clone(), reason).hint(format!("make it: herdgate key create {name}"))
    };
    astray.map(warn).collect()
}

fn warn(loaded: &Loaded, places: &Locations, talk: &mut dyn Write) -> io::Result<()> {
    for warning in loaded.warnings.iter().chain(&keyless(loaded, &places.data)) {
        settings::tell_one("warning", warning, talk)?;
    }
    Ok(())
}

fn fine(loaded: &Loaded, places: &Locations, talk: &mut dyn Write) -> io::Result<()> {
    warn(loaded, places, talk)?;
    match (&loaded.file, &places.config) {
        (Some(file), _) => writeln!(talk, "settings are fine: {}", file.display()),
        (None, Some(absent)) => {
            writeln!(talk, "settings are fine: environment and defaults, there is no {}", absent.display())
        }
        (None, None) => writeln!(talk, "settings are fine: environment and defaults"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_config::{Config, Place};

    fn told(loaded: Result<&(Loaded, Locations), &[Problem]>) -> (u8, String) {
        let mut talk = Vec::new();
        let code = run(loaded, &mut talk);
        (code, String::from_utf8(talk).unwrap())
    }

    fn loaded(file: Option<&str>) -> (Loaded, Locations) {
        let warning =
            Problem::new(Place::Env { name: "HERDGATE_X".into(), item: None }, "unknown variable, ignored");
        let loaded = Loaded {
            config: Config::default(),
            warnings: vec![warning],
            origins: [].into(),
            listeners: Vec::new(),
            file: file.map(Into::into),
        };
        let config = Some("/etc/herdgate/herdgate.toml".into());
        (
            loaded,
            Locations { config, config_named: None, is_in_data: false, data: "/d".into(), data_named: None },
        )
    }

    #[test]
    fn fine_settings_name_their_file_below_the_warnings() {
        let warning = "warning: HERDGATE_X unknown variable, ignored\n";
        let (code, text) = told(Ok(&loaded(Some("herdgate.toml"))));
        assert_eq!((code, text), (0, format!("{warning}settings are fine: herdgate.toml\n")));
        let (code, text) = told(Ok(&loaded(None)));
        let absent = "settings are fine: environment and defaults, there is no /etc/herdgate/herdgate.toml\n";
        assert_eq!((code, text), (0, format!("{warning}{absent}")));
    }

    #[test]
    fn every_problem_and_every_hint_is_a_line_and_the_code_is_64() {
        let flag = |item| Place::Flag { name: "--listen", item: Some(item) };
        let problems =
            [Problem::new(flag(1), "is empty"), Problem::new(flag(2), "has no port").hint("write it")];
        let (code, text) = told(Err(&problems));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((code, lines.len()), (64, 3));
        assert!(lines[0].ends_with("--listen (item 1) is empty"), "{text}");
        assert!(lines[1].ends_with("--listen (item 2) has no port"), "{text}");
        assert_eq!(lines[2], "hint: write it");
    }
}
