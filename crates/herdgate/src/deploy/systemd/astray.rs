//! What the units are made from and what the service will read: the settings' file, the data, the environment. Where these are two
//! things, the service would run with settings that nobody gave it, and open what they close.

#[cfg(test)]
mod tests;

use super::{DATA, SETTINGS, is_lasting, word};
use crate::deploy::{Astray, Ground, shell_word};
use gate_config::Place;
use std::path::Path;

/// The settings' file for the unit to name, where it is not the usual one.
///
/// One that only lies in the working directory is not what a service shall go by: the next run, elsewhere, would find another.
pub(super) fn settings(ground: &Ground<'_>, astray: &mut Vec<Astray>) -> anyhow::Result<Option<String>> {
    let Some(file) = &ground.loaded.file else { return Ok(None) };
    let file = ground.absolute(file);
    if file == Path::new(SETTINGS) {
        return Ok(None);
    }
    let (named, may_stay) = (&ground.places.config_named, is_lasting(&file));
    if may_stay && (named.is_some() || ground.places.is_in_data) {
        return word("the settings file's path", &file).map(Some);
    }
    let shown = shell_word(&file.display().to_string());
    let without = match named {
        Some(Place::Flag { .. }) => ", without --config",
        Some(_) => ", without HERDGATE_CONFIG",
        None => "",
    };
    let mut ways = vec![
        format!("to give it these: `sudo install -D -b -m 0644 {shown} {SETTINGS}`, then as below"),
        format!("to go by those that it has: `cd /etc/herdgate`, and this command again{without}"),
    ];
    if may_stay {
        ways.push(format!("to have it read these where they are: --config {shown}"));
    }
    astray.push(Astray {
        what: format!("the service would read {SETTINGS}, and these settings are in {}", file.display()),
        ways,
    });
    Ok(None)
}

/// The data directory of the unit.
pub(super) fn data(
    ground: &Ground<'_>,
    notes: &mut Vec<String>,
    astray: &mut Vec<Astray>,
) -> anyhow::Result<String> {
    let named = ground.places.data_named.as_ref().map(|_| ground.absolute(&ground.places.data));
    match named {
        None => Ok(DATA.to_owned()),
        Some(data) if is_lasting(&data) => {
            if data != Path::new(DATA) {
                notes.push(format!(
                    "commands need --data {} to find the keys of this service",
                    data.display()
                ));
            }
            word("the data directory", &data)
        }
        Some(data) => {
            let what = format!(
                "the service would keep its data in {DATA}, not in {}, which no service sees",
                data.display()
            );
            let way = format!(
                "name one that it sees, as with --data {DATA}; keys that are made elsewhere are not its"
            );
            astray.push(Astray { what, ways: vec![way] });
            Ok(DATA.to_owned())
        }
    }
}

/// What is set in this environment, which the service does not have.
pub(super) fn variables(ground: &Ground<'_>) -> Option<Astray> {
    let mut names: Vec<&str> = ground
        .loaded
        .origins
        .values()
        .filter_map(|place| match place {
            Place::Env { name, .. } => Some(name.as_str()),
            Place::File { .. } | Place::Flag { .. } | Place::Path(_) => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| Astray {
        what: format!("the service would not have this environment, which says {}", names.join(", ")),
        ways: vec![format!(
            "write that into {SETTINGS}, then `unset {}`, and this command again",
            names.join(" ")
        )],
    })
}
