//! The command line through the real binary: exit codes, what goes to which output, keys, settings, modes of files.

use crate::harness::Home;
use crate::harness::home::mode;
use serde_json::Value;

/// `sk-hg-`, 32 random characters and 6 of check sum.
fn is_a_key(text: &str) -> bool {
    let rest = text.strip_prefix("sk-hg-");
    rest.is_some_and(|rest| rest.len() == 38 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[test]
fn help_goes_to_standard_output_and_wrong_usage_to_standard_error() {
    let home = Home::new();
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["key", "--help"],
        &["key", "create", "--help"],
        &["--version"],
    ] {
        let told = home.run(args);
        assert_eq!((told.code, told.err.as_str()), (0, ""), "{args:?}");
        assert!(told.out.contains("herdgate"), "{args:?}: {}", told.out);
    }
    for args in [
        &[][..],
        &["--nonsense"],
        &["nonsense"],
        &["serve", "--nonsense"],
        &["serve", "extra"],
        &["key"],
        &["key", "create"],
        &["key", "create", "a", "--scope"],
        &["check", "--json-please"],
    ] {
        let told = home.run(args);
        assert_eq!((told.code, told.out.as_str()), (64, ""), "{args:?}: {}", told.err);
        assert!(told.err.contains("--help"), "{args:?}: {}", told.err);
    }
    assert!(!home.path("data").exists(), "a wrong command made the data directory");
}

#[test]
fn a_key_lives_from_create_to_revoke() {
    let home = Home::new();
    let made =
        home.run(&["key", "create", "ci", "--scope", "infer,read", "--models", "qwen3*", "--expires", "30d"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let secret = made.out.strip_suffix('\n').unwrap();
    assert!(is_a_key(secret), "the secret alone: {:?}", made.out);
    assert!(!made.err.contains(secret), "the secret was told twice: {}", made.err);

    let listed = home.run(&["key", "list"]);
    assert_eq!((listed.code, listed.err.as_str()), (0, ""));
    assert!(listed.out.contains("ci") && listed.out.contains("infer,read") && listed.out.contains("qwen3*"));
    let shown = home.run(&["key", "show", "ci", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!((&shown["name"], &shown["state"]), (&"ci".into(), &"active".into()));
    assert!(shown["expires"].is_string() && shown["last_used"].is_null(), "{shown}");

    let taken = home.run(&["key", "create", "ci"]);
    assert_eq!((taken.code, taken.out.as_str()), (1, ""));
    assert!(taken.err.contains("ci") && taken.err.contains("hint:"), "{}", taken.err);

    let rotated = home.run(&["key", "rotate", "ci", "--overlap", "1h"]);
    assert_eq!(rotated.code, 0, "{}", rotated.err);
    assert!(is_a_key(rotated.out.trim()) && rotated.out.trim() != secret);

    let revoked = home.run(&["key", "revoke", "ci"]);
    assert_eq!((revoked.code, revoked.out.as_str()), (0, ""), "{}", revoked.err);
    assert_eq!(home.run(&["key", "list"]).out, "");
    assert_eq!(home.run(&["key", "revoke", "ci"]).code, 1);
    assert_eq!(home.run(&["key", "create", "ci"]).code, 0, "the name of a revoked key is free again");
    for outcome in ["list", "list --all", "list --json", "show ci", "show ci --json"] {
        let args: Vec<&str> = ["key"].into_iter().chain(outcome.split(' ')).collect();
        let told = home.run(&args);
        assert_eq!(told.code, 0, "{args:?}: {}", told.err);
        assert!(!told.out.contains(secret) && !told.err.contains(secret), "{args:?} shows a secret");
    }
}

#[test]
fn wrong_words_about_keys_are_wrong_usage_and_made_nothing() {
    let home = Home::new();
    for (args, word) in [
        (&["key", "create", "a", "--scope", "infer,everything"][..], "everything"),
        (&["key", "create", "a b"], "holds ' '"),
        (&["key", "create", "a", "--expires", "tomorrow"], "tomorrow"),
        (&["key", "rotate", "a", "--overlap", "long"], "long"),
    ] {
        let told = home.run(args);
        assert_eq!((told.code, told.out.as_str()), (64, ""), "{args:?}: {}", told.err);
        assert!(told.err.contains(word) && told.err.contains("hint:"), "{args:?}: {}", told.err);
    }
    for args in [&["key", "show", "nobody"][..], &["key", "revoke", "nobody"], &["key", "rotate", "nobody"]] {
        let told = home.run(args);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{args:?}");
        assert!(told.err.contains("nobody"), "{args:?}: {}", told.err);
    }
    assert!(!home.data("herdgate.db").exists());
}

#[test]
fn only_the_owner_reads_what_is_stored() {
    let home = Home::new();
    let elsewhere = home.path("elsewhere/deep");
    let made = home.run(&["--data", elsewhere.to_str().unwrap(), "key", "create", "a"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(!home.path("data").exists(), "--data stands over HERDGATE_DATA");
    assert_eq!(mode(&elsewhere), 0o700);
    let files: Vec<_> = std::fs::read_dir(&elsewhere).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("herdgate.db")), "{files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let bytes = std::fs::read(file).unwrap();
        let secret = made.out.trim().as_bytes();
        assert!(
            !bytes.windows(secret.len()).any(|part| part == secret),
            "{} holds the secret",
            file.display()
        );
    }
}

#[test]
fn while_a_gate_runs_its_files_are_private_too() {
    let home = Home::new();
    let gate = home.serve(&["--no-local", "--upstream", "http://127.0.0.1:9"]);
    home.key("a", &[]);
    assert_eq!(mode(&home.path("data")), 0o700);
    for file in std::fs::read_dir(home.path("data")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), if file.is_dir() { 0o700 } else { 0o600 }, "{}", file.display());
    }
    gate.end();
}

#[test]
fn every_wrong_setting_is_told_with_its_place() {
    let home =
        Home::new().settings("upstream = []\n\n[limits]\nhead = \"tiny\"\n\n[log]\nlevel = \"loud\"\n");
    let file = "herdgate.toml";
    for args in [&["check"][..], &["config", "show"], &["serve", "--listen", "127.0.0.1:0"]] {
        let told = home.run(args);
        assert_eq!((told.code, told.out.as_str()), (64, ""), "{args:?}: {}", told.err);
        let errors: Vec<&str> = told.err.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 3, "{args:?}: {}", told.err);
        let cures = [("1:1", "or upstreams = ["), ("4:8", "32KiB"), ("7:9", "warn, info, debug")];
        // A hint has a line of its own behind its error.
        for (told, (place, cure)) in told.err.split("error: ").skip(1).zip(cures) {
            assert!(told.contains(&format!("{file}:{place} ")) && told.contains(cure), "{place}: {told}");
        }
        assert_eq!(told.err.lines().filter(|line| line.starts_with("hint: ")).count(), 2, "{}", told.err);
    }
    assert!(!home.path("data").exists(), "wrong settings made the data directory");
}

#[test]
fn settings_are_shown_with_their_origin_and_without_their_secrets() {
    let home = Home::new()
        .settings("[limits]\nhead = \"8KiB\"\n")
        .env("AUTH_TOKEN", "canary-in-the-environment")
        .env("HERDGATE_FLEET__PROBE_INTERVAL", "2s")
        .env("HERDGATE_NONSENSE", "1");
    let shown = home.run(&["config", "show", "--origin"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    for line in [
        "head = \"8KiB\"  # from ",
        "probe_interval = \"2s\"  # from HERDGATE_FLEET__PROBE_INTERVAL",
        "# AUTH_TOKEN = \"…\"  # from AUTH_TOKEN",
    ] {
        assert!(shown.out.contains(line), "no {line} in\n{}", shown.out);
    }
    let limit = shown.out.lines().find(|line| line.starts_with("head = ")).unwrap();
    assert!(limit.ends_with("herdgate.toml:2"), "{limit}");
    assert!(shown.err.contains("HERDGATE_NONSENSE"), "an unknown variable is a warning: {}", shown.err);
    let checked = home.run(&["check"]);
    assert_eq!((checked.code, checked.out.as_str()), (0, ""), "{}", checked.err);
    let json = home.run(&["config", "show", "--json"]);
    assert!(serde_json::from_str::<Value>(&json.out).is_ok(), "{}", json.out);
    for told in [shown, checked, json] {
        assert!(!told.out.contains("canary") && !told.err.contains("canary"));
    }
}

#[test]
fn check_looks_at_the_files_of_certificates_and_at_who_is_let_in() {
    let home = Home::new().settings(
        "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"callers.pem\"\n[tls.acme]\nca = \"authority.pem\"\n",
    );
    let pair = || rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (one, other) = (pair(), pair());
    std::fs::write(home.path("cert.pem"), one.cert.pem()).unwrap();
    std::fs::write(home.path("key.pem"), other.signing_key.serialize_pem()).unwrap();
    std::fs::write(home.path("callers.pem"), "nothing\n").unwrap();
    let checked = home.run(&["check"]);
    assert_eq!(checked.code, 64, "{}", checked.err);
    for line in [
        "error: ./herdgate.toml:3:7 key.pem is not the key of cert.pem\nhint: name the two files of one certificate\n",
        "error: ./herdgate.toml:4:13 callers.pem: holds no certificate\nhint: ",
        "error: ./herdgate.toml:6:6 cannot read authority.pem: ",
    ] {
        let line = line.replace("./", "");
        assert!(checked.err.contains(&line), "no {line} in {}", checked.err);
    }
    std::fs::write(home.path("key.pem"), one.signing_key.serialize_pem()).unwrap();
    let home = home.settings(
        "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[listen]\naddress = \"127.0.0.1:0\"\n\
         insecure_anonymous = { networks = [\"127.0.0.0/8\"], as = \"stack\" }\n",
    );
    let warning = "insecure_anonymous names the key \"stack\", and there is none: nobody is let in so\nhint: make it: herdgate key \
                   create stack\n";
    for is_there in [false, true] {
        let checked = home.run(&["check"]);
        assert_eq!((checked.code, checked.err.contains(warning)), (0, !is_there), "{}", checked.err);
        if !is_there {
            home.key("stack", &[]);
        }
    }
}

#[test]
fn settings_beside_data_that_a_variable_names_are_said_not_to_be_read() {
    let home = Home::new().settings("");
    let folder = home.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("herdgate.toml");
    std::fs::write(&file, "[listen]\naddress = \"127.0.0.1:1\"\n").unwrap();
    let told = format!(
        "HERDGATE_DATA names a folder that holds a herdgate.toml, and {} is not what",
        file.display()
    );
    let by_variable = Home::new().settings("").env("HERDGATE_DATA", &folder);
    let checked = by_variable.run(&["check"]);
    assert!(checked.code == 0 && checked.err.contains(&told), "{}", checked.err);
    let cured = by_variable.env("HERDGATE_CONFIG", &file).run(&["check"]);
    assert!(cured.code == 0 && !cured.err.contains("warning"), "{}", cured.err);
}
