//! `herdgate config show`: every setting in force, as a settings file or as JSON. Secrets are masked by `gate-config`.

use crate::cli::EXIT_FAILURE;
use crate::cmd::settings;
use clap::{Args, Subcommand};
use gate_config::{Loaded, Locations, Problem, Row, Shown, rows, to_toml};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Write};

/// `herdgate config …`
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show every setting in force, as a settings file
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Say behind each value where it came from
    #[arg(long)]
    origin: bool,
    /// Print JSON, which always has the origins
    #[arg(long)]
    json: bool,
}

/// Shows the settings on `out`; problems and warnings go to `talk`. Ends with 0, 64 for wrong settings, 1 where nothing
/// can be written.
pub(crate) fn run(
    loaded: Result<&(Loaded, Locations), &[Problem]>,
    args: &ConfigArgs,
    out: &mut dyn Write,
    talk: &mut dyn Write,
) -> u8 {
    let (loaded, places) = match loaded {
        Ok((loaded, places)) => (loaded, places),
        Err(problems) => return settings::tell(problems, talk),
    };
    for warning in &loaded.warnings {
        // Warnings are told for the reader's sake; the settings on standard output do not depend on it.
        let _closed = settings::tell_one("warning", warning, talk);
    }
    let ConfigCommand::Show(show) = &args.command;
    let shown = if show.json {
        writeln!(out, "{:#}", as_json(loaded, places))
    } else {
        as_file(loaded, places, show.origin, out)
    };
    match shown.and_then(|()| out.flush()) {
        Ok(()) => 0,
        // `herdgate config show | head -1` is no failure.
        Err(err) if err.kind() == ErrorKind::BrokenPipe => 0,
        Err(err) => {
            let _closed = writeln!(talk, "error: cannot write the settings: {err}");
            EXIT_FAILURE
        }
    }
}

fn as_file(loaded: &Loaded, places: &Locations, origin: bool, out: &mut dyn Write) -> io::Result<()> {
    // Debug form: a path may hold a line break, and what follows one would be a setting.
    match &loaded.file {
        Some(file) => writeln!(out, "# settings file: {file:?}")?,
        None => writeln!(out, "# settings file: none")?,
    }
    match &places.data_named {
        Some(place) if origin => {
            writeln!(out, "# data directory: {:?}  # from {}", places.data, place.origin())?
        }
        None if origin => writeln!(out, "# data directory: {:?}  # default", places.data)?,
        Some(_) | None => writeln!(out, "# data directory: {:?}", places.data)?,
    }
    write!(out, "{}", to_toml(loaded, origin))
}

fn as_json(loaded: &Loaded, places: &Locations) -> Value {
    let setting = |row: Row| {
        let value = match row.value {
            Shown::Text(text) => json!(text),
            Shown::Number(number) => json!(number),
            Shown::Switch(switch) => json!(switch),
            Shown::List(items) => json!(items),
            Shown::Table(pairs) => pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
        };
        json!({ "setting": row.key, "value": value, "origin": row.origin.as_deref().unwrap_or("default") })
    };
    let settings: Vec<Value> = rows(loaded).into_iter().map(setting).collect();
    let file = loaded.file.as_ref().map(|file| file.to_string_lossy());
    json!({ "file": file, "data": places.data.to_string_lossy(), "settings": settings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_config::{AuthToken, Config, Place};
    use gate_types::Secret;

    fn loaded() -> (Loaded, Locations) {
        let place = Place::Env { name: "AUTH_TOKEN".into(), item: None };
        let auth_token = Some(AuthToken { token: Secret::new("canary".to_owned()), place });
        let config = Config { auth_token, ..Config::default() };
        let origins = [("limits.head", Place::Env { name: "HERDGATE_LIMITS__HEAD".into(), item: None })];
        let loaded = Loaded {
            config,
            warnings: Vec::new(),
            origins: origins.into(),
            listeners: Vec::new(),
            file: None,
        };
        (
            loaded,
            Locations {
                config: None,
                config_named: None,
                is_in_data: false,
                data: "/d\nhead = 1".into(),
                data_named: None,
            },
        )
    }

    fn shown(origin: bool, json: bool) -> String {
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let args = ConfigArgs { command: ConfigCommand::Show(ShowArgs { origin, json }) };
        assert_eq!(run(Ok(&loaded()), &args, &mut out, &mut talk), 0);
        assert!(talk.is_empty());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_file_with_origins_and_without_the_token() {
        let text = shown(true, false);
        for line in [
            "# data directory: \"/d\\nhead = 1\"  # default",
            "head = \"32KiB\"  # from HERDGATE_LIMITS__HEAD",
            "# AUTH_TOKEN = \"…\"  # from AUTH_TOKEN",
        ] {
            assert!(text.lines().any(|shown| shown == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("canary") && !shown(false, false).contains("  # "), "{text}");
    }

    #[test]
    fn json_has_every_setting_with_its_type_and_origin() {
        let text = shown(false, true);
        assert!(!text.contains("canary"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        let settings = value["settings"].as_array().unwrap();
        let find = |name: &str| settings.iter().find(|setting| setting["setting"] == name).unwrap();
        assert_eq!(find("limits.head")["origin"], "HERDGATE_LIMITS__HEAD");
        assert_eq!(find("limits.connections")["value"], 20_000);
        assert_eq!(find("local.enabled")["value"], true);
        assert_eq!(find("upstreams")["value"][0], "http://127.0.0.1:11434");
        assert_eq!(find("upstreams")["origin"], "default");
        assert_eq!(find("AUTH_TOKEN")["value"], "…");
    }

    #[test]
    fn wrong_settings_show_nothing_but_their_problems() {
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let args = ConfigArgs { command: ConfigCommand::Show(ShowArgs { origin: false, json: false }) };
        let problems =
            [Problem::new(Place::Env { name: "HERDGATE_LOG__LEVEL".into(), item: None }, "is not UTF-8")];
        assert_eq!(run(Err(&problems), &args, &mut out, &mut talk), 64);
        assert!(
            out.is_empty() && String::from_utf8(talk).unwrap().contains("HERDGATE_LOG__LEVEL is not UTF-8")
        );
    }
}
