//! Drop-ins for every combination of options, judged by systemd, with the drop-ins of others beside them.

use super::make;
use crate::deploy::Deployment;
use crate::deploy::testing::{self, all, text, tool};
use std::fs;

fn made(settings: &str, words: &[&str]) -> anyhow::Result<Deployment> {
    testing::make(super::KIND, settings, words, make)
}

/// As Ollama's installer writes it, as far as it matters.
const UNIT: &str = "[Unit]\nDescription=Ollama Service\nAfter=network-online.target\n\n[Service]\nExecStart=/bin/true\n\
                    Environment=\"OLLAMA_HOST=0.0.0.0\"\nRestart=always\n\n[Install]\nWantedBy=default.target\n";

#[test]
fn systemd_takes_every_drop_in() {
    let options = all(&[
        &[
            "",
            "--bind=192.168.1.100 --allow=192.168.1.2",
            "--bind=[fd00::1]:8080 --allow=fd00::2,10.0.0.1 --iptables",
        ],
        &["", "--num-parallel=4"],
        &["", "--max-loaded-models=2"],
        &["", "--keep-alive=24h", "--keep-alive=-1"],
        &["", "--context-length=8192"],
        &["", "--models=/srv/ollama%20"],
        &["", "--env=OLLAMA_FLASH_ATTENTION=1 --env=HTTPS_PROXY=http://proxy:3128"],
    ]);
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for (number, options) in options.iter().enumerate() {
        let words: Vec<&str> =
            options.iter().flat_map(|words| words.split(' ')).filter(|word| !word.is_empty()).collect();
        let made = made("", &words).unwrap();
        let unit = dir.path().join(format!("ollama{number}.service"));
        let folder = dir.path().join(format!("ollama{number}.service.d"));
        fs::create_dir(&folder).unwrap();
        fs::write(&unit, UNIT).unwrap();
        fs::write(folder.join("zz-herdgate.conf"), text(&made, "zz-herdgate.conf")).unwrap();
        units.push(unit.display().to_string());
    }
    assert_eq!(units.len(), 3 * 2 * 2 * 3 * 2 * 2 * 2);
    let words: Vec<&str> = ["verify", "--man=no", "--recursive-errors=no"]
        .into_iter()
        .chain(units.iter().map(String::as_str))
        .collect();
    if let Some(output) = tool("systemd-analyze", &words) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "{}",
            said.lines().take(20).collect::<Vec<_>>().join("\n")
        );
    }
}

#[test]
fn it_is_read_after_what_systemctl_edit_makes() {
    let made = made("", &[]).unwrap();
    let own = made.files[0].path.file_name().unwrap().to_str().unwrap();
    // systemd.unit(5): in the order of their names, whatever folder they are in; the last one that sets a variable wins.
    let mut names = ["override.conf", "10-host.conf", "local.conf", "network.conf", "z.conf", own];
    names.sort_unstable();
    assert_eq!(names.last(), Some(&own));
    assert!(made.files[0].text.contains("\n[Service]\nEnvironment=\"OLLAMA_HOST=127.0.0.1:11434\"\n"));
}

#[test]
fn loopback_has_the_port_at_which_the_settings_find_it() {
    let host = |settings: &str| {
        let made = made(settings, &[]).unwrap();
        made.files[0]
            .text
            .lines()
            .find_map(|line| line.strip_prefix("Environment=\"OLLAMA_HOST="))
            .unwrap()
            .to_owned()
    };
    assert_eq!(host("upstreams = [\"http://127.0.0.1:8080\"]\n"), "127.0.0.1:8080\"");
    assert_eq!(host("upstreams = [\"http://gpu:1\", \"http://localhost:11435\"]\n"), "127.0.0.1:11435\"");
    assert_eq!(host("upstreams = [\"http://[::1]:11434\"]\n"), "[::1]:11434\"");
    let error = made("upstreams = [\"http://gpu1:11434\"]\n[listen]\naddress = \":11434\"\n", &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("the gate listens on 127.0.0.1:11434 itself"), "{error}");
}

#[test]
fn for_a_gate_elsewhere_the_door_is_closed_before_it_is_made() {
    let made = made("", &["--bind=192.168.1.100", "--allow=192.168.1.2"]).unwrap();
    let table = text(&made, "herdgate-ollama.nft");
    assert!(table.contains("\tchain port-11434 {\n\t\tip saddr 192.168.1.2 accept\n\t\tdrop\n"), "{table}");
    assert!(!table.contains("port-7860"), "{table}");
    let at = |word: &str| made.then.iter().position(|act| act.to_string().contains(word)).unwrap();
    assert!(at("nft -f") < at("restart ollama"));
    assert!(text(&made, "zz-herdgate.conf").contains("[Unit]\nWants=network-online.target\n"));
}

#[test]
fn ufw_tells_its_rules_from_those_of_the_gate_by_the_address() {
    let words = ["--ufw", "--bind=192.168.1.100:8080", "--allow=192.168.1.2,fd00::2"];
    let then: Vec<String> = made("", &words).unwrap().then.iter().map(ToString::to_string).collect();
    for rule in ["deny proto tcp from any", "allow proto tcp from 192.168.1.2"] {
        let line = format!("ufw prepend {rule} to 192.168.1.100 port 8080 comment herdgate-ollama");
        assert!(then.contains(&line), "no {line} in {then:?}");
    }
    assert!(
        !then.iter().any(|line| line.contains("fd00::2")),
        "nobody of IPv6 comes to that address: {then:?}"
    );
}

#[test]
fn a_time_is_one_that_ollama_reads() {
    for text in ["5m", "24h", "1h30m", "1.5h", "300ms", "-1", "-1m", "0", "5", "3600"] {
        assert_eq!(super::keep_alive(text).as_deref(), Ok(text));
    }
    for text in ["", "-", "1d", "1day", "24 h", "h", "5mm", "1.2.3h", "forever"] {
        assert!(super::keep_alive(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (words, why) in [
        (&["--bind=0.0.0.0", "--allow=10.0.0.1"][..], "every address"),
        (&["--bind=gpu1", "--allow=10.0.0.1"], "no address"),
        (&["--ufw"], "goes with --bind"),
        (&["--env=OLLAMA_HOST=0.0.0.0"], "--bind says where"),
        (&["--env=A"], "has no ="),
        (&["--env=A B=1"], "no name"),
        (&["--env=A=x\"\nExecStart=/bin/evil"], "'\"'"),
        (&["--models=/a\\"], "'\\\\'"),
    ] {
        let error = made("", words).unwrap_err().to_string();
        assert!(error.contains(why), "{words:?}: {error}");
    }
}

#[test]
fn tuning_stands_in_the_drop_in_and_what_must_follow_is_in_order() {
    let words = ["--num-parallel=4", "--max-loaded-models=2", "--keep-alive=24h"];
    let words = [&words[..], &["--context-length=8192", "--models=/srv/models"]].concat();
    let made = made("", &words).unwrap();
    let drop_in = text(&made, "zz-herdgate.conf");
    let service = drop_in.split("[Service]\n").nth(1).unwrap();
    for line in [
        "Environment=\"OLLAMA_NUM_PARALLEL=4\"",
        "Environment=\"OLLAMA_MAX_LOADED_MODELS=2\"",
        "Environment=\"OLLAMA_KEEP_ALIVE=24h\"",
        "Environment=\"OLLAMA_CONTEXT_LENGTH=8192\"",
        "Environment=\"OLLAMA_MODELS=/srv/models\"",
    ] {
        assert!(service.lines().any(|one| one == line), "no {line} in\n{drop_in}");
    }
    let then: Vec<String> = made.then.iter().map(ToString::to_string).collect();
    let expected = [
        "systemctl daemon-reload",
        "systemctl restart ollama.service",
        "systemctl --no-pager status ollama.service",
    ];
    assert_eq!(then, expected);
}
