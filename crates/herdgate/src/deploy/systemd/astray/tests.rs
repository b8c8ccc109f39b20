//! What a service would not read, in every way in which settings are found.

use super::super::make;
use crate::deploy::testing::{make_of, text};
use crate::deploy::{Deployment, Ground};
use gate_config::{Locations, Place};
use std::path::Path;

const OPEN: &str = "[listen]\naddress = \":443\"\n";

fn made(file: &str, env: &[(&str, &str)], named: Option<Place>, data: Option<&str>) -> Deployment {
    make_of(crate::deploy::systemd::KIND, Some((file.into(), OPEN.to_owned())), env, &[], |asked, ground| {
        let places = Locations {
            config_named: named.clone(),
            data: data.unwrap_or("/var/lib/herdgate").into(),
            data_named: data.map(|_| Place::Flag { name: "--data", item: None }),
            ..ground.places.clone()
        };
        make(asked, &Ground { places: &places, command: ground.command.clone(), ..*ground })
    })
    .unwrap()
}

fn flag() -> Option<Place> {
    Some(Place::Flag { name: "--config", item: None })
}

#[test]
fn settings_that_the_service_reads_are_those_of_its_folder_and_those_that_are_named() {
    let usual = made("/etc/herdgate/herdgate.toml", &[], None, None);
    assert_eq!(usual.astray, []);
    assert!(!text(&usual, "herdgate.service").contains("HERDGATE_CONFIG"));
    let named = made("/opt/gate/own.toml", &[], flag(), None);
    assert_eq!(named.astray, []);
    assert!(text(&named, "herdgate.service").contains("Environment=HERDGATE_CONFIG=/opt/gate/own.toml\n"));
}

#[test]
fn a_file_of_the_working_directory_is_not_the_services_until_somebody_says_so() {
    for (file, named, said) in [
        ("herdgate.toml", None, ["-m 0644 /srv/herdgate.toml /etc/herdgate/", "--config /srv/herdgate.toml"]),
        (
            "/root/x/herdgate.toml",
            None,
            ["install -D -b -m 0644 /root/x/herdgate.toml", "this command again"],
        ),
        ("/home/x/own.toml", flag(), ["/home/x/own.toml /etc/herdgate/", "again, without --config"]),
    ] {
        let stray = made(file, &[], named, None);
        let [astray] = &stray.astray[..] else { panic!("{file}: {:?}", stray.astray) };
        assert!(astray.what.contains(file) && astray.what.contains("read /etc/herdgate/"), "{}", astray.what);
        let ways = astray.ways.join("\n");
        assert!(said.iter().all(|said| ways.contains(said)), "{file}: {ways}");
        // What no service sees cannot be read where it is.
        assert_eq!(ways.contains("have it read"), Path::new("/srv").join(file).starts_with("/srv"), "{ways}");
        assert!(!text(&stray, "herdgate.service").contains("HERDGATE_CONFIG"));
    }
}

#[test]
fn what_the_environment_or_a_home_has_is_not_the_services() {
    let env = [("HERDGATE_LISTEN__ADDRESS", "127.0.0.1:7860"), ("OLLAMA_URL", "http://gpu1:11434")];
    let stray = made("/etc/herdgate/herdgate.toml", &env, None, Some("/home/x/data"));
    let said: Vec<&str> = stray.astray.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].ends_with("which says HERDGATE_LISTEN__ADDRESS, OLLAMA_URL"), "{said:?}");
    assert!(said[1].contains("in /var/lib/herdgate, not in /home/x/data"), "{said:?}");
    assert!(stray.astray[0].ways[0].contains("`unset HERDGATE_LISTEN__ADDRESS OLLAMA_URL`"));
}
