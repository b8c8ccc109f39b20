//! Units for every combination of settings and options, judged by systemd itself: one call of its tool for all of them.

use super::make;
use crate::deploy::Deployment;
use crate::deploy::testing::{self, all, likes, text, tool};
use std::collections::BTreeSet;
use std::fs;

fn made(settings: &str, words: &[&str]) -> Deployment {
    testing::make(super::KIND, settings, words, make).unwrap()
}

const TLS: &str = "[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/private/gate 1.key\"\n";
const UPSTREAM: &str = "[[upstream]]\nurl = \"https://gpu1\"\nname = \"gpu1\"\nslots = 9000\ntoken_file = \"/etc/herdgate/gpu1/token\"\n\
                        ca = \"/etc/herdgate/ca.pem\"\nclient_cert = \"c.pem\"\nclient_key = \"/run/credentials/herdgate.service/k\"\n";
const SERVICES: [&str; 6] = [
    "herdgate.service",
    "herdgate.socket",
    "herdgate-renewed.path",
    "herdgate-renewed.service",
    "herdgate-backup.service",
    "herdgate-backup.timer",
];

/// Settings and options that differ in one thing each.
fn combinations() -> Vec<(String, Vec<&'static str>)> {
    let settings = all(&[
        &[
            "",
            "[listen]\naddress = \":443\"\n",
            "[[listen]]\naddress = \"10.0.0.1:80\"\n[[listen]]\naddress = \"[fd00::1]:7860\"\n",
        ],
        &[
            "",
            "[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/private/gate.key\"\n",
            "[tls]\nself_signed = true\n",
        ],
        &["", UPSTREAM],
        &[
            "",
            "[local]\nenabled = true\nengine = \"always\"\nmodels_dir = \"/srv/models\"\n",
            "[local]\nenabled = false\n",
        ],
        &["", "[metrics]\naddress = \"127.0.0.1:90\"\n"],
    ]);
    let options = all(&[
        &["", "--auth-token-file=/etc/herdgate/token"],
        &["", "--no-backup", "--backup-dir=/srv/backups --keep=3"],
    ]);
    let mut made = Vec::new();
    for settings in &settings {
        for options in &options {
            let words = options.iter().flat_map(|words| words.split(' ')).filter(|word| !word.is_empty());
            made.push((settings.concat(), ["--program=/bin/true"].into_iter().chain(words).collect()));
        }
    }
    made
}

#[test]
fn systemd_takes_every_unit_and_finds_the_gate_closed_in() {
    let dir = tempfile::tempdir().unwrap();
    let (mut seen, mut units, mut closed) = (BTreeSet::new(), Vec::new(), Vec::new());
    let combinations = combinations();
    assert_eq!(combinations.len(), 3 * 3 * 2 * 3 * 2 * 2 * 3);
    for (number, (settings, words)) in combinations.iter().enumerate() {
        let made = made(settings, words);
        for file in made.files.iter().filter(|file| file.path.starts_with(super::UNITS)) {
            let name = file.path.file_name().unwrap().to_str().unwrap();
            if !seen.insert((name.to_owned(), file.text.clone())) {
                continue;
            }
            // Beside each other the units need names of their own.
            let own = SERVICES
                .iter()
                .fold(file.text.clone(), |text, unit| text.replace(unit, &format!("u{number}-{unit}")));
            let path = dir.path().join(format!("u{number}-{name}"));
            fs::write(&path, own).unwrap();
            units.push(path.display().to_string());
            if name == "herdgate-backup.service"
                || name == "herdgate.service" && file.text.contains(" --no-local\n")
            {
                closed.push(path.display().to_string());
            }
        }
        // What a unit refers to lies beside it.
        for unit in SERVICES {
            let path = dir.path().join(format!("u{number}-{unit}"));
            let shared = made.files.iter().find(|file| file.path.ends_with(unit));
            if let (Some(file), false) = (shared, path.exists()) {
                let own = SERVICES
                    .iter()
                    .fold(file.text.clone(), |text, unit| text.replace(unit, &format!("u{number}-{unit}")));
                fs::write(path, own).unwrap();
            }
        }
    }
    let words = |first: &[&'static str], units: &[String]| -> Vec<String> {
        first.iter().map(|word| (*word).to_owned()).chain(units.iter().cloned()).collect()
    };
    let verify = words(&["verify", "--man=no", "--recursive-errors=no"], &units);
    let verify: Vec<&str> = verify.iter().map(String::as_str).collect();
    likes("systemd-analyze", &verify);
    if let Some(said) = tool("systemd-analyze", &verify) {
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.is_empty(), "{}", said.lines().take(20).collect::<Vec<_>>().join("\n"));
    }
    assert!(closed.len() > 100, "{}", closed.len());
    let security = words(&["security", "--offline=true", "--threshold=15", "--no-pager"], &closed);
    likes("systemd-analyze", &security.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn systemd_takes_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("herdgate.conf");
    for settings in ["", "[local]\nenabled = true\n"] {
        fs::write(&file, text(&made(settings, &[]), "sysusers.d/herdgate.conf")).unwrap();
        likes("systemd-sysusers", &["--dry-run", file.to_str().unwrap()]);
    }
}

#[test]
fn the_folder_of_the_settings_is_roots() {
    let made = made("", &[]);
    let rules = text(&made, "tmpfiles.d/herdgate.conf").to_owned();
    assert!(rules.ends_with("\nd /etc/herdgate - root - -\n"), "{rules}");
    // systemd gives a folder that it makes for a unit to the user of the unit, who may then write to it.
    for unit in ["herdgate.service", "herdgate-backup.service"] {
        let unit = text(&made, unit);
        assert!(!unit.contains("ConfigurationDirectory="), "{unit}");
        // Nor are others looked for in the home of that user, which is the data directory.
        assert!(
            unit.contains("WorkingDirectory=/etc/herdgate\nEnvironment=XDG_CONFIG_HOME=/etc\n"),
            "{unit}"
        );
    }
    let at = |word: &str| made.then.iter().position(|act| act.0.iter().any(|own| own == word)).unwrap();
    assert!(at("systemd-tmpfiles") < at("restart"), "{:?}", made.then);
    // Below a folder of its own, the rule is taken as it is.
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("herdgate.conf");
    fs::write(&file, &rules).unwrap();
    let inside = format!("--root={}", root.path().display());
    likes("systemd-tmpfiles", &["--create", &inside, file.to_str().unwrap()]);
}

#[test]
fn a_port_below_1024_is_systemds_to_hold() {
    let plain = made("[listen]\naddress = \":7860\"\n", &[]);
    assert!(!plain.files.iter().any(|file| file.path.ends_with("herdgate.socket")));
    let both = made("[[listen]]\naddress = \":443\"\n[[listen]]\naddress = \"127.0.0.1:7860\"\n", &[]);
    let socket = text(&both, "herdgate.socket");
    // The gate binds none where it is given one, so the other is there as well.
    assert!(socket.contains("ListenStream=443\nListenStream=127.0.0.1:7860\n"), "{socket}");
    assert!(text(&both, "herdgate.service").contains("Requires=herdgate.socket\n"));
    assert!(both.then.iter().any(|act| act.0.contains(&"herdgate.socket".to_owned())));
}

#[test]
fn an_address_that_may_come_later_is_systemds_to_hold() {
    let vpn =
        made("[[listen]]\naddress = \"127.0.0.1:7860\"\n[[listen]]\naddress = \"10.8.0.1:7860\"\n", &[]);
    let socket = text(&vpn, "herdgate.socket");
    assert!(socket.contains("ListenStream=127.0.0.1:7860\nListenStream=10.8.0.1:7860\n"), "{socket}");
    assert!(socket.contains("FreeBind=yes\n"), "{socket}");
    for always in [":7860", "127.0.0.1:7860", "[::1]:7860", "0.0.0.0:7860"] {
        let unit = made(&format!("[listen]\naddress = \"{always}\"\n"), &[]);
        assert!(!unit.files.iter().any(|file| file.path.ends_with("herdgate.socket")), "{always}");
    }
}

#[test]
fn what_only_root_may_read_comes_as_a_credential() {
    let made =
        made(&format!("{}{UPSTREAM}", TLS.replace(" 1", "1")), &["--auth-token-file=/etc/herdgate/token"]);
    for unit in ["herdgate.service", "herdgate-backup.service"] {
        let unit_text = text(&made, unit);
        for line in [
            "LoadCredential=tls-key:/etc/ssl/private/gate1.key\n",
            &format!("Environment=HERDGATE_TLS__KEY=/run/credentials/{unit}/tls-key\n"),
            "LoadCredential=AUTH_TOKEN:/etc/herdgate/token\n",
            "LoadCredential=gpu1-token-file:/etc/herdgate/gpu1/token\n",
            "LoadCredential=gpu1-client-cert:/srv/c.pem\n",
            "LoadCredential=k:/etc/herdgate/k\n",
        ] {
            assert!(unit_text.contains(line), "no {line} in\n{unit_text}");
        }
    }
    assert!(text(&made, "herdgate-renewed.path").contains("PathChanged=/etc/ssl/gate.pem\n"));
    let note = "token_file = \"/run/credentials/herdgate.service/gpu1-token-file\"";
    assert!(made.notes.iter().any(|said| said.contains(note)), "{:?}", made.notes);
    assert!(!made.notes.iter().any(|said| said.contains("service/k\"")), "{:?}", made.notes);
    assert!(text(&made, "herdgate.service").contains("LimitNOFILE=65536\n"));
}

#[test]
fn a_path_cannot_become_more_than_a_path() {
    let error = testing::make(super::KIND, TLS, &[], make).unwrap_err().to_string();
    assert!(error.contains("' '"), "{error}");
    for words in [
        ["--program=/x\nExecStartPre=/bin/evil"],
        ["--backup-dir=/a'$(x)'"],
        ["--backup-at=daily\nUnit=x"],
        ["--program=herdgate"],
    ] {
        assert!(testing::make(super::KIND, "", &words, make).is_err(), "{words:?}");
    }
    let percent = made("", &["--program=/opt/100%/herdgate"]);
    assert!(text(&percent, "herdgate.service").contains("ExecStart=/opt/100%%/herdgate serve"));
}

#[test]
fn a_program_of_its_own_is_started_where_the_settings_say_so() {
    let alone = made("", &[]);
    assert!(text(&alone, "herdgate.service").contains("serve --no-local\n"));
    assert!(alone.notes.iter().any(|note| note.contains("[local]")), "{:?}", alone.notes);
    let local = made("[local]\nmodels = [\"qwen3:8b\"]\n", &[]);
    let service = text(&local, "herdgate.service");
    assert!(service.contains("serve\n") && service.contains("DeviceAllow=char-nvidia rw\n"), "{service}");
    assert!(
        !service.contains("\nPrivateDevices=") && !service.contains("\nMemoryDenyWriteExecute="),
        "{service}"
    );
    assert!(service.contains("#   PrivateDevices, PrivateUsers "), "{service}");
}

#[test]
fn a_reload_waits_where_systemd_can() {
    assert!(text(&made("", &[]), "herdgate.service").contains("Type=notify\n"));
    let waits = made("", &["--notify-reload"]);
    let service = text(&waits, "herdgate.service");
    assert!(service.contains("Type=notify-reload\n") && !service.contains("ExecReload"), "{service}");
}

#[test]
fn the_same_input_makes_the_same_bytes_and_each_file_says_what_it_is() {
    for (settings, words) in combinations() {
        let once = made(&settings, &words);
        assert_eq!(once, made(&settings, &words));
        for file in &once.files {
            let head: Vec<&str> = file.text.lines().take(2).collect();
            let command = [&["herdgate", "deploy", "systemd"], &words[..]].concat().join(" ");
            let says = format!("# Made by `{command}`; belongs at {}.", file.path.display());
            assert!(head[0].starts_with("# ") && head[1] == says, "{head:?}");
        }
    }
}

#[test]
fn it_is_started_with_the_machine_and_again_where_it_fails_as_nobody_else() {
    let alone = made("", &[]);
    let service = text(&alone, "herdgate.service");
    for line in [
        "After=network-online.target nss-lookup.target ollama.service",
        "User=herdgate",
        "Restart=on-failure",
        "WantedBy=multi-user.target",
    ] {
        assert!(service.lines().any(|one| one == line), "no {line} in\n{service}");
    }
    let then: Vec<String> = alone.then.iter().map(ToString::to_string).collect();
    let at = |word: &str| {
        then.iter().position(|act| act.starts_with(word)).unwrap_or_else(|| panic!("{word}: {then:?}"))
    };
    let places =
        ["systemd-sysusers", "systemctl daemon-reload", "systemctl enable ", "systemctl restart "].map(at);
    assert!(places.is_sorted() && then[places[2]].contains("herdgate.service"), "{then:?}");
    assert_eq!(then.last().unwrap(), "systemctl --no-pager status herdgate.service");
}
