//! `herdgate deploy` as somebody uses it: printed, written below a folder, written twice, taken back; and with the commands that
//! must follow, on a machine of its own for an hour.

use crate::harness::{Ask, Home, Running, leave_out};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Every kind, with as many options as it needs.
const KINDS: [&[&str]; 12] = [
    &["systemd"],
    &["ollama-override"],
    &["ollama-override", "--bind", "192.168.1.100", "--allow", "192.168.1.2", "--num-parallel", "4"],
    &["firewall", "--allow", "10.0.0.0/8"],
    &["firewall", "--allow", "10.0.0.0/8,fd00::/8", "--nftables"],
    &["firewall", "--allow", "10.0.0.0/8", "--iptables"],
    &["firewall", "--allow", "10.0.0.0/8", "--ufw"],
    &["firewall", "--allow", "10.0.0.0/8", "--firewalld"],
    &["nginx", "--name", "ollama.example.com"],
    &["caddy", "--name", "ollama.example.com"],
    &["traefik", "--name", "ollama.example.com"],
    &["cloudflared", "--name", "ollama.example.com", "--tunnel", "6ff42ae2-765d-4adf-8112-31c55c1551ef"],
];

/// Every file below a folder, but for the record of what was done.
fn picture(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("var/lib") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else {
                let mode = path.metadata().unwrap().permissions().mode();
                found.insert(path.clone(), (fs::read(&path).unwrap(), mode));
            }
        }
    }
    found
}

/// A folder with what a machine has at some of the places already.
fn machine(home: &Home, name: &str) -> PathBuf {
    let root = home.path(name);
    for (path, text) in [
        ("etc/systemd/system/herdgate.service", "[Service]\nExecStart=/bin/old\n"),
        ("etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\n"),
        ("etc/caddy/Caddyfile", ":80 {\n\troot * /usr/share/caddy\n}"),
        ("etc/nginx/conf.d/herdgate.conf", ""),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn every_kind_is_written_once_and_taken_back_to_the_byte() {
    let home = Home::new();
    for (number, words) in KINDS.iter().enumerate() {
        let root = machine(&home, &format!("root{number}"));
        let place = ["--root", root.to_str().unwrap()];
        let run = |more: &[&str]| home.run(&[&["deploy"], *words, &place, more].concat());
        let before = picture(&root);

        let asked = run(&["--write"]);
        assert_eq!(asked.code, 1, "{words:?}: {}", asked.err);
        assert!(asked.err.contains("hint: --yes") && asked.err.contains("\n+"), "{words:?}: {}", asked.err);
        assert_eq!(picture(&root), before, "{words:?}: nobody agreed to anything");

        let written = run(&["--write", "--yes"]);
        assert_eq!(written.code, 0, "{words:?}: {}", written.err);
        let after = picture(&root);
        assert_ne!(after, before, "{words:?}");
        // What is printed is what is written.
        let printed = home.run(&[&["deploy"], *words].concat());
        assert_eq!(printed.code, 0, "{words:?}: {}", printed.err);
        for (path, (bytes, _)) in after.iter().filter(|(path, now)| before.get(*path) != Some(now)) {
            let text = String::from_utf8_lossy(bytes);
            let shared = text.lines().find(|line| line.starts_with("# BEGIN herdgate"));
            assert!(shared.is_some() || printed.out.contains(&*text), "{words:?}: {}", path.display());
        }

        let again = run(&["--write", "--yes"]);
        assert_eq!(again.code, 0, "{words:?}: {}", again.err);
        assert!(again.err.contains("nothing was changed"), "{words:?}: {}", again.err);
        assert_eq!(picture(&root), after, "{words:?}");

        let back = run(&["--undo", "--yes"]);
        assert_eq!(back.code, 0, "{words:?}: {}", back.err);
        assert_eq!(picture(&root), before, "{words:?}");
        assert!(!root.join("var/lib/herdgate-deploy").exists(), "{words:?}");
        let none = run(&["--undo", "--yes"]);
        assert_eq!(
            (none.code, none.err.contains("nothing was written")),
            (0, true),
            "{words:?}: {}",
            none.err
        );
    }
}

#[test]
fn two_kinds_of_rules_stand_side_by_side_and_each_way_back_takes_its_own() {
    for tool in ["--nftables", "--iptables", "--ufw", "--firewalld"] {
        let firewall = ["deploy", "firewall", "--allow", "10.0.0.0/8", tool];
        let ollama = ["deploy", "ollama-override", "--bind", "192.168.1.100", "--allow", "192.168.1.2", tool];
        for (first, second) in [(&firewall[..], &ollama[..]), (&ollama[..], &firewall[..])] {
            let home = Home::new();
            let root = machine(&home, "root");
            let run = |kind: &[&str], what: &str| {
                let ran = home.run(&[kind, &[what, "--yes", "--root", root.to_str().unwrap()]].concat());
                assert_eq!(ran.code, 0, "{tool}: {}", ran.err);
                ran.err
            };
            let before = picture(&root);
            run(first, "--write");
            let one = picture(&root);
            run(second, "--write");
            let both = picture(&root);
            let untouched = |(path, was): (&PathBuf, &(Vec<u8>, u32))| {
                path.ends_with("nftables.conf") || both.get(path) == Some(was)
            };
            assert!(one.iter().all(untouched), "{tool}: the second wrote over the first");
            // In the order of their writing, and written anew in between: the hardest for what they share.
            run(first, "--undo");
            run(second, "--write");
            let said = run(second, "--undo");
            assert!(!said.contains("is lost"), "{tool}: {said}");
            assert_eq!(picture(&root), before, "{tool}");
        }
    }
}

#[test]
fn a_file_that_is_another_kinds_is_left_to_it() {
    let home = Home::new();
    let root = machine(&home, "root");
    let place = ["--yes", "--root", root.to_str().unwrap()];
    let allow = ["deploy", "firewall", "--allow", "10.0.0.0/8", "--write"];
    assert_eq!(home.run(&[&allow, &place[..]].concat()).code, 0);
    // As a version before had it, in which both kinds wrote that file.
    let records = root.join("var/lib/herdgate-deploy");
    fs::rename(records.join("firewall"), records.join("ollama-override")).unwrap();
    let before = picture(&root);
    let refused = home.run(&[&allow, &place[..]].concat());
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(
        refused.err.contains("/etc/nftables.d/herdgate.nft is a file of `herdgate deploy ollama-override`"),
        "{}",
        refused.err
    );
    assert_eq!(picture(&root), before);
}

#[test]
fn one_file_of_several_is_printed_alone() {
    let home = Home::new().settings("[listen]\naddress = \":443\"\n");
    let all = home.run(&["deploy", "systemd"]);
    assert_eq!(all.code, 0, "{}", all.err);
    assert!(all.out.contains("[Socket]") && all.out.contains("[Timer]"), "{}", all.out);
    let one = home.run(&["deploy", "systemd", "--only", "herdgate.socket"]);
    assert!(one.out.starts_with("# ") && !one.out.contains("[Timer]"), "{}", one.out);
    assert!(all.out.contains(&one.out));
    let none = home.run(&["deploy", "systemd", "--only", "x"]);
    assert_eq!(none.code, 64, "{}", none.err);
    assert!(none.err.contains("herdgate-backup.timer"), "{}", none.err);
}

#[test]
fn wrong_settings_stop_it_and_an_undo_needs_none() {
    let home = Home::new();
    let root = machine(&home, "root");
    let place = ["--yes", "--root", root.to_str().unwrap()];
    let before = picture(&root);
    assert_eq!(
        home.run(&[&["deploy", "caddy", "--name", "a.example", "--write"], &place[..]].concat()).code,
        0
    );
    let home = home.settings("[listen]\nadress = \":443\"\n");
    let wrong = home.run(&["deploy", "systemd"]);
    assert_eq!(wrong.code, 64);
    assert!(wrong.err.contains("adress") && wrong.out.is_empty(), "{}", wrong.err);
    let back = home.run(&[&["deploy", "caddy", "--undo"], &place[..]].concat());
    assert_eq!(back.code, 0, "{}", back.err);
    assert_eq!(picture(&root), before);
    assert_eq!(home.run(&["deploy", "systemd", "--yes"]).code, 64);
}

#[test]
fn what_a_service_does_not_see_is_said() {
    let home = Home::new().env("HERDGATE_QUEUE__DEPTH", "3").settings("[limits]\nstreams = 7\n");
    let said = ["HERDGATE_QUEUE__DEPTH", "/etc/herdgate/herdgate.toml", "keep its data in /var/lib/herdgate"];
    let made = home.run(&["deploy", "systemd"]);
    assert_eq!(made.code, 0, "{}", made.err);
    for said in said {
        assert!(made.err.contains(said), "no {said} in\n{}", made.err);
    }
    // A service with other settings than these may be open where these are closed: nobody can agree to that unseen.
    let installs = format!(
        "`sudo install -D -b -m 0644 {} /etc/",
        home.path("herdgate.toml").canonicalize().unwrap().display()
    );
    for more in [&["--write"][..], &["--write", "--run"]] {
        let refused = home.run(&[&["deploy", "systemd"], more].concat());
        assert_eq!(refused.code, 64, "{}", refused.err);
        assert_eq!(refused.err.matches("error: nothing was written: the service would ").count(), 3);
        assert!(refused.err.contains(&installs), "no {installs} in\n{}", refused.err);
    }
    // An image gets its settings by itself.
    let root = machine(&home, "root");
    let image = home.run(&["deploy", "systemd", "--write", "--yes", "--root", root.to_str().unwrap()]);
    assert_eq!((image.code, image.err.matches("note: the service would ").count()), (0, 3), "{}", image.err);
}

#[test]
fn a_person_is_asked_and_no_answer_is_no() {
    for (answer, code) in [("y\n", 0), ("n\n", 1), ("\n", 1)] {
        let home = Home::new();
        let root = machine(&home, "root");
        let before = picture(&root);
        let (mut person, stdin) = crate::models::terminal();
        person.write_all(answer.as_bytes()).unwrap();
        let words = ["deploy", "nginx", "--name", "a.example", "--write", "--root", root.to_str().unwrap()];
        let mut asking = Running::with_input(&mut home.command(&words), Stdio::from(stdin));
        assert_eq!(asking.ended().code(), Some(code), "{}", asking.err());
        assert!(asking.err().contains("Write this? [y/N] "), "{}", asking.err());
        assert_eq!(picture(&root) == before, code == 1, "{answer:?}");
    }
}

/// A home in which the folders that are written to are the test's own, and the programs that must follow write down their words.
fn machine_of_its_own() -> Option<Home> {
    if !rustix::process::geteuid().is_root() {
        leave_out("a machine of its own needs root");
        return None;
    }
    let home = Home::new();
    for folder in ["etc-nginx", "var-lib"] {
        fs::create_dir(home.path(folder)).unwrap();
    }
    for name in ["nginx", "systemctl"] {
        let program = home.path("bin").join(name);
        let log = home.path("said");
        let text = format!(
            "#!/bin/sh\necho {name} \"$@\" >>'{}'\n[ ! -e '{}' ]\n",
            log.display(),
            home.path("fails").display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (etc, var) = (home.path("etc-nginx"), home.path("var-lib"));
    let first = format!(
        "[ -n \"$MOVED\" ] || MOVED=1 exec /usr/bin/unshare --mount /bin/sh \"$0\" \"$@\"\n\
         /usr/bin/mount --bind '{}' /etc/nginx && /usr/bin/mount --bind '{}' /var/lib || exit 99",
        etc.display(),
        var.display()
    );
    Some(home.through(&first))
}

#[test]
fn what_must_follow_is_run_where_that_is_asked_for() {
    let Some(home) = machine_of_its_own() else { return };
    let words = ["deploy", "nginx", "--name", "a.example"];
    let written = home.run(&[&words[..], &["--write", "--yes", "--run"]].concat());
    assert_eq!(written.code, 0, "{}", written.err);
    let said = || fs::read_to_string(home.path("said")).unwrap_or_default();
    assert_eq!(said(), "nginx -t\nsystemctl reload nginx.service\n");
    // Nothing is left to write, and whether it is in force is another question.
    let again = home.run(&[&words[..], &["--write", "--yes", "--run"]].concat());
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("nothing was changed\n+ nginx -t\n"), "{}", again.err);
    assert_eq!(said(), "nginx -t\nsystemctl reload nginx.service\n".repeat(2));
    assert!(home.path("etc-nginx/conf.d/herdgate.conf").exists());
    let back = home.run(&[&words[..], &["--undo", "--yes"]].concat());
    assert_eq!(back.code, 0, "{}", back.err);
    assert!(
        back.err.ends_with("(--run does it):\n  nginx -t\n  systemctl reload nginx.service\n"),
        "{}",
        back.err
    );
    assert!(!home.path("etc-nginx/conf.d").exists());
    // One that fails ends it, and is named.
    fs::write(home.path("fails"), "").unwrap();
    fs::remove_file(home.path("said")).unwrap();
    let failed = home.run(&[&words[..], &["--write", "--yes", "--run"]].concat());
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("error: `nginx -t` failed"), "{}", failed.err);
    assert_eq!(said(), "nginx -t\n");
    // The hint of the failure holds.
    fs::remove_file(home.path("fails")).unwrap();
    let mended = home.run(&[&words[..], &["--write", "--yes", "--run"]].concat());
    assert_eq!(mended.code, 0, "{}", mended.err);
    assert_eq!(said(), "nginx -t\nnginx -t\nsystemctl reload nginx.service\n");
}

#[test]
fn below_a_folder_no_command_is_run_wherever_the_word_stands() {
    let Some(home) = machine_of_its_own() else { return };
    let root = machine(&home, "root");
    let root = root.to_str().unwrap();
    let kind = ["nginx", "--name", "a.example", "--write", "--yes"];
    for words in [
        [&["deploy", "--root", root], &kind[..], &["--run"]].concat(),
        [&["deploy", "--run"], &kind[..], &["--root", root]].concat(),
        [&["deploy"], &kind[..], &["--run", "--root", root]].concat(),
    ] {
        let refused = home.run(&words);
        assert_eq!(refused.code, 64, "{words:?}: {}", refused.err);
        assert!(!home.path("said").exists(), "{words:?}");
        assert!(!Path::new(root).join("var/lib/herdgate-deploy").exists(), "{words:?}");
    }
}

/// The two commands of the service, as systemd gives them to the shell.
fn commands(unit: &str) -> Vec<String> {
    let of = |begin: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(begin)?.strip_prefix("=/bin/sh -c '"));
        let text = line.and_then(|line| line.strip_suffix('\'')).unwrap_or_else(|| panic!("{begin}: {unit}"));
        // systemd.service(5): a dollar and a percent sign are written twice.
        text.replace("$$", "$").replace("%%", "%")
    };
    ["ExecStart", "ExecStartPost"].map(of).to_vec()
}

#[test]
fn a_backup_of_the_service_can_be_restored_and_the_oldest_goes() {
    let home = Home::new();
    let key = home.key("alice", &[]);
    let folder = home.path("backups");
    let place = folder.to_str().unwrap();
    let words = ["deploy", "systemd", "--program", env!("CARGO_BIN_EXE_herdgate"), "--backup-dir", place];
    let words = [&words[..], &["--keep", "2", "--only", "herdgate-backup.service"]].concat();
    let made = home.run(&words);
    assert_eq!(made.code, 0, "{}", made.err);
    fs::create_dir(&folder).unwrap();
    let old = ["herdgate-20200101T000000Z.tar.zst", "herdgate-20200102T000000Z.tar.zst"];
    for name in old.into_iter().chain(["somebody's own"]) {
        fs::write(folder.join(name), "").unwrap();
    }
    for command in commands(&made.out) {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &command]).current_dir(home.path("")).env("HERDGATE_DATA", home.data(""));
        let ran = shell.output().unwrap();
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let mut left: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!((left.len(), left[0].as_str(), left[2].as_str()), (3, old[1], "somebody's own"), "{left:?}");

    let to = Home::new();
    let settings = to.path("herdgate.toml");
    fs::remove_file(&settings).unwrap();
    // Without it they would go where root's settings are on this machine.
    let to = to.env("HERDGATE_CONFIG", &settings);
    let restored = to.run(&["restore", folder.join(&left[1]).to_str().unwrap()]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    let gate = to.serve(&["--upstream", "http://127.0.0.1:9"]);
    assert_ne!(Ask::get("/api/tags").key(&key).send(gate.address).status, 401, "its keys are those");
}
