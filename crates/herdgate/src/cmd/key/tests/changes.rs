//! Changing keys, ssh public keys, the audit log, keys for the settings, and what hints say.

use super::*;

const PUBLIC: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7CyxrZXxbCZdHv/aiIzyXR63hLT0NB3+Syy5c3UuNB alice@laptop\n";
const FINGERPRINT: &str = "SHA256:/+kdIRDVqXbrI/wqldPqzfxUCMdgcog0OJZhipI5gRo";

#[test]
fn a_public_key_is_enrolled_and_its_fingerprint_printed() {
    let mut place = Place::new();
    place.input = PUBLIC.to_owned();
    let made = place.key("create laptop --ssh-key - --scope read");
    assert_eq!(made.secret(), FINGERPRINT);
    assert!(made.talk.contains("OLLAMA_AUTH=1"), "{}", made.talk);
    let shown = place.key("show laptop --json").json();
    assert_eq!((&shown["kind"], &shown["prefix"]), (&"ssh".into(), &FINGERPRINT.into()));
    assert!(place.key("list").out.contains(FINGERPRINT));
    let file = place.data.join("id.pub");
    std::fs::write(&file, PUBLIC).unwrap();
    let again = format!("create other --ssh-key {}", file.display());
    place.key(&again).failed(1, &["known already", "laptop"]);
    let taken = |name: &str, hint: &str| {
        let other = format!("create {name} --ssh-key {}", file.display());
        place.key(&other).failed(1, &["there is a key named", hint]);
    };
    taken("laptop", "herdgate key rotate laptop --ssh-key FILE");
    place.key("create carol").secret();
    taken("carol", "another name for the ssh key, for example carol-laptop");
    place.key("rotate laptop").failed(1, &["has no secret", "--ssh-key"]);
    place.key("create plain").secret();
    place.key(&format!("rotate plain --ssh-key {}", file.display())).failed(1, &["is a secret"]);
    place.key("revoke laptop");
    place.key(&again).failed(1, &["was revoked", "ssh-keygen"]);
}

#[test]
fn what_is_no_public_key_is_wrong_usage_and_never_repeated() {
    let mut place = Place::new();
    for (text, word) in [
        ("", "no public key"),
        ("ssh-rsa AAAA x", "ssh-ed25519"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n", "private key"),
        ("canary", "not the line of a public key"),
    ] {
        place.input = text.to_owned();
        let told = place.key("create laptop --ssh-key -");
        told.failed(64, &[word]);
        assert!(!told.talk.contains("canary"), "{}", told.talk);
    }
    place.key("create laptop --ssh-key /nowhere/id.pub").failed(64, &["cannot read /nowhere/id.pub"]);
    assert!(!place.data.exists());
}

#[test]
fn a_key_is_changed_and_what_was_not_named_stays() {
    let place = Place::new();
    let made = place.key("create bob --scope infer --models qwen3* --expires 30d");
    let shown = |place: &Place| place.key("show bob --json").json();
    place.key("set bob --scope read,embed");
    let after = shown(&place);
    assert_eq!(
        (&after["scopes"], &after["models"]),
        (&serde_json::json!(["embed", "read"]), &serde_json::json!(["qwen3*"]))
    );
    assert_eq!(after["expires"], "2026-09-19T12:00:00Z");
    place.key("set bob --all-models --expires never");
    let after = shown(&place);
    assert!(after["models"].is_null() && after["expires"].is_null(), "{after}");
    assert_eq!(
        place.key("set bob --models a,b --json").json()["models"],
        serde_json::json!(["a:latest", "b:latest"])
    );
    assert!(place.is_valid(made.secret()), "the secret is the same");
}

#[test]
fn a_bad_change_loses_nothing() {
    let place = Place::new();
    place.key("create bob --scope infer --models qwen3*");
    let before = place.key("show bob --json").out;
    for (line, word) in [
        ("set bob", "nothing to change"),
        ("set bob --scope everything", "everything"),
        ("set bob --scope ,", "no scope"),
        ("set bob --scope read --models ,", "no pattern"),
        ("set bob --scope read --expires soon", "soon"),
        ("set bob --scope read --expires 0s", "end at once"),
        ("create eve --models ,", "no pattern"),
    ] {
        place.key(line).failed(64, &[word]);
    }
    place.key("set bbo --scope read").failed(1, &["bbo", "did you mean \"bob\"?"]);
    assert_eq!(place.key("show bob --json").out, before);
    assert!(Line::try_parse_from(["key", "set", "bob", "--models", "a", "--all-models"]).is_err());
}

#[test]
fn the_log_tells_every_change_and_no_secret() {
    let place = Place::new();
    assert_eq!(place.key("log").out, "");
    let secret = place.key("create bob").secret().to_owned();
    place.key("create eve --models qwen3*");
    place.key("set bob --scope read");
    place.key("revoke bob");
    let all = place.key("log").out;
    let acts: Vec<_> = all.lines().skip(1).map(|line| line.split_whitespace().nth(4).unwrap()).collect();
    assert_eq!(acts, ["create", "create", "set", "revoke"], "{all}");
    assert!(all.contains("tester") && !all.contains(&secret[6..12]), "{all}");
    let bobs = place.key("log bob --json").json();
    assert_eq!(bobs.as_array().unwrap().len(), 3);
    assert_eq!((&bobs[1]["act"], &bobs[1]["who"]), (&"set".into(), &"tester".into()));
    assert_eq!(bobs[1]["scopes"], serde_json::json!(["read"]));
}

#[test]
fn a_minted_key_is_in_no_store_and_its_block_is_of_the_settings() {
    let place = Place::new();
    let made = place.key("mint ci --scope infer --models qwen3*,gemma3");
    let secret = made.secret();
    assert!(is_well_formed(secret) && !made.talk.contains(&secret[6..]), "{}", made.talk);
    let digest = gate_keys::digest_text(&gate_keys::Mark::of(&gate_types::Secret::new(secret.to_owned())));
    let block = format!(
        "[[key]]\nname = \"ci\"\ndigest = \"{digest}\"\nscopes = [\"infer\"]\nmodels = [\"qwen3*\", \"gemma3:latest\"]\n"
    );
    assert!(made.talk.ends_with(&block), "{}", made.talk);
    assert!(made.talk.starts_with("# "), "appended to a file it stays a settings file");
    assert_eq!(place.key("mint ci --json").json()["name"], "ci");
    place.key("mint env").failed(64, &["AUTH_TOKEN"]);
    assert!(!place.data.exists());
}

#[test]
fn hints_keep_the_directory_that_was_named_by_a_flag() {
    let place = Place::new();
    let mut locations = place.locations();
    locations.data_named = Some(gate_config::Place::Flag { name: "--data", item: None });
    locations.data = place.data.join("it's here");
    let tell = |line: &[&str]| {
        let args = Line::try_parse_from([&["key"], line].concat()).unwrap().args;
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        run(&args, &locations, Err(&[]), &mut out, &mut talk);
        String::from_utf8(talk).unwrap()
    };
    let command = format!("herdgate --data '{}/it'\\''s here' key", place.data.display());
    assert!(tell(&["list"]).contains(&format!("{command} create NAME")), "{}", tell(&["list"]));
    std::fs::create_dir_all(&locations.data).unwrap();
    tell(&["create", "a"]);
    let taken = tell(&["create", "a"]);
    assert!(taken.contains(&format!("{command} rotate a")), "{taken}");
}

#[test]
fn keys_of_the_settings_are_told_of_where_they_could_be_looked_for() {
    let mut place = Place::new();
    let at = gate_config::Place::File { file: "herdgate.toml".into(), line: 7, column: 1 };
    place.settings = vec![KeySetting {
        name: "ci".to_owned(),
        digest: "sha256:canary".to_owned(),
        scopes: gate_types::ScopeSet::DEFAULT,
        models: Vec::new(),
        place: at,
    }];
    place.key("revoke ci").failed(1, &["stands in the settings", "herdgate.toml:7"]);
    place.key("create ci");
    assert!(place.key("list").talk.contains("In the settings, and not shown: ci."));
    assert!(place.key("revoke ci").talk.contains("which still works: herdgate.toml:7"));
    place.key("create other");
    place.key("set absent --scope read").failed(1, &["absent"]);
    assert!(!place.key("list --all --json").talk.contains("canary"));
}
