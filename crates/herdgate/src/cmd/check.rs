//! `herdgate check`: are the settings fine? Listens on nothing, opens no database, asks no upstream.

use crate::cmd::settings;
use gate_config::{Loaded, Locations, Problem};
use std::io::{self, Write};

/// Tells every problem and ends with 64, or every warning and one line that names the settings file, and ends with 0.
pub(crate) fn run(loaded: Result<&(Loaded, Locations), &[Problem]>, talk: &mut dyn Write) -> u8 {
    match loaded {
        Ok((loaded, places)) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = fine(loaded, places, talk);
            0
        }
        Err(problems) => settings::tell(problems, talk),
    }
}

fn fine(loaded: &Loaded, places: &Locations, talk: &mut dyn Write) -> io::Result<()> {
    for warning in &loaded.warnings {
        settings::tell_one("warning", warning, talk)?;
    }
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
            file: file.map(Into::into),
        };
        let config = Some("/etc/herdgate/herdgate.toml".into());
        (loaded, Locations { config, config_named: None, data: "/d".into(), data_named: None })
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
