//! The command as a person uses it: what it prints where, what it leaves on disk, how it ends.

mod changes;
mod lists;

use super::*;
use clap::Parser;
use gate_config::Listener;
use gate_keys::mint;
use gate_keys::{KEY_LENGTH, KeyRing, Verdict, is_well_formed};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: KeyArgs,
}

/// A data directory that does not exist yet, and a clock.
struct Place {
    _root: TempDir,
    data: PathBuf,
    now: UnixSeconds,
    input: String,
    settings: Vec<KeySetting>,
    config: Config,
}

struct Outcome {
    code: u8,
    out: String,
    talk: String,
}

impl Outcome {
    fn secret(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.talk);
        self.out.strip_suffix('\n').unwrap()
    }

    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.talk);
        serde_json::from_str(&self.out).unwrap()
    }

    fn failed(&self, code: u8, words: &[&str]) {
        assert_eq!(self.code, code, "{}", self.talk);
        assert_eq!(self.out, "");
        assert!(self.talk.contains("hint: "), "{}", self.talk);
        for word in words {
            assert!(self.talk.contains(word), "{word} is not in: {}", self.talk);
        }
    }
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        // 2026-08-20 12:00:00 UTC.
        Place {
            data: root.path().join("data"),
            _root: root,
            now: 1_787_227_200,
            input: String::new(),
            settings: Vec::new(),
            config: Config::default(),
        }
    }

    fn key(&self, line: &str) -> Outcome {
        let words = std::iter::once("key").chain(line.split_whitespace());
        let args = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let shape = Shape { now: self.now, zone: TimeZone::UTC };
        let mut input = std::io::Cursor::new(self.input.as_bytes());
        let desk = Desk {
            data: &self.data,
            settings: &self.settings,
            ground: None,
            gate: address(&self.config),
            command: PLAIN.to_owned(),
            who: "tester".to_owned(),
            input: &mut input,
            now: self.now,
            shape,
            entropy: &mut OsEntropy,
            out: &mut out,
            talk: &mut talk,
        };
        let code = desk.finish(&args.command);
        Outcome { code, out: String::from_utf8(out).unwrap(), talk: String::from_utf8(talk).unwrap() }
    }

    fn locations(&self) -> Locations {
        Locations {
            config: None,
            config_named: None,
            is_in_data: false,
            data: self.data.clone(),
            data_named: None,
        }
    }

    fn ring(&self) -> KeyRing {
        SqliteStore::open(&DataDir::open(&self.data).unwrap()).unwrap().load().unwrap()
    }

    fn is_valid(&self, secret: &str) -> bool {
        matches!(self.ring().check(secret, self.now), Verdict::Valid(_))
    }

    fn first_key(&self) -> PathBuf {
        self.data.join(FIRST_KEY_FILE)
    }

    /// What a first start without a terminal leaves behind.
    fn first_start(&self) -> String {
        let minted = mint(&mut OsEntropy).unwrap();
        let dir = DataDir::open(&self.data).unwrap();
        let text = format!("{}\n", minted.secret.expose());
        let keep = || dir.write_private(FIRST_KEY_FILE, text.as_bytes()).map(drop);
        SqliteStore::open(&dir).unwrap().create_first(&minted.mark, self.now, keep).unwrap().unwrap();
        minted.secret.expose().to_owned()
    }
}

#[test]
fn a_key_is_made_and_printed_alone() {
    let place = Place::new();
    let made = place.key("create alice");
    let secret = made.secret();
    assert!(secret.len() == KEY_LENGTH && is_well_formed(secret), "{secret}");
    assert!(place.is_valid(secret));
    assert!(
        made.talk.contains("curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:7860/api/tags"),
        "{}",
        made.talk
    );
    assert!(made.talk.contains("infer,embed,read"), "{}", made.talk);
    assert!(!made.talk.contains(&secret[10..]), "{}", made.talk);
}

#[test]
fn a_key_holds_what_was_asked_for() {
    let place = Place::new();
    place.key("create bob --scope read,manage --models Qwen3*,llama3,llama3:latest --expires 30d").secret();
    let shown = place.key("show bob --json").json();
    assert_eq!(shown["scopes"], serde_json::json!(["read", "manage"]));
    assert_eq!(shown["models"], serde_json::json!(["qwen3*", "llama3:latest"]));
    assert_eq!(shown["created"], "2026-08-20T12:00:00Z");
    assert_eq!(shown["expires"], "2026-09-19T12:00:00Z");
    assert_eq!(shown["last_used"], Value::Null);
    assert_eq!(shown["state"], "active");
}

#[test]
fn a_key_with_no_limits_says_so() {
    let place = Place::new();
    let made = place.key("create carol --json").json();
    assert!(is_well_formed(made["secret"].as_str().unwrap()));
    assert_eq!((&made["models"], &made["expires"]), (&Value::Null, &Value::Null));
    let shown = place.key("show carol");
    assert!(shown.out.contains("models     all\n"), "{}", shown.out);
    assert!(shown.out.contains("expires    never\n"), "{}", shown.out);
    assert!(shown.out.contains("created    2026-08-20 12:00 UTC\n"), "{}", shown.out);
}

#[test]
fn the_example_fits_the_scopes() {
    let place = Place::new();
    for (scope, path) in [
        ("infer", "/api/chat -d"),
        ("embed", "/api/embed -d"),
        ("read,infer", "/api/tags"),
        ("manage", "/api/version"),
    ] {
        let made = place.key(&format!("create {} --scope {scope}", scope.replace(',', "-")));
        assert!(made.talk.contains(path), "{scope}: {}", made.talk);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_nothing_is_made() {
    let place = Place::new();
    let wrong = place.key("create a/b --scope infer,rite --models qwen? --expires 3w");
    wrong.failed(64, &["'/'", "\"rite\"", "'?'", "\"3w\""]);
    assert_eq!(wrong.talk.matches("error: ").count(), 4, "{}", wrong.talk);
    assert!(!place.data.exists());
}

#[test]
fn wrong_arguments_are_wrong_usage() {
    let place = Place::new();
    place.key("create alice").secret();
    for (line, word) in [
        ("create env", "AUTH_TOKEN"),
        ("create x --scope ,", "no scope is named"),
        ("create x --scope Infer", "\"Infer\""),
        ("create x --models ,", "no pattern is named"),
        ("create x --expires 0s", "end at once"),
        ("create x --expires 4000d", "longer than 3650 days"),
        ("rotate alice --overlap soon", "\"soon\""),
        ("show a/b", "'/'"),
        ("revoke env", "AUTH_TOKEN"),
    ] {
        place.key(line).failed(64, &[word]);
    }
    assert!(place.key("list --json").json().as_array().unwrap().len() == 1);
}

#[test]
fn too_many_patterns_are_refused() {
    let place = Place::new();
    let models = vec!["m"; 101].join(",");
    place.key(&format!("create x --models {models}")).failed(64, &["101 patterns"]);
}

#[test]
fn a_taken_name_fails_and_a_revoked_one_is_free() {
    let place = Place::new();
    let first = place.key("create alice");
    place.key("create alice").failed(1, &["\"alice\" already", "key rotate alice"]);
    assert_eq!(place.key("revoke alice").code, 0);
    assert!(!place.is_valid(first.secret()));
    place.key("revoke alice").failed(1, &["revoked already"]);
    let second = place.key("create alice");
    assert!(place.is_valid(second.secret()) && !place.is_valid(first.secret()));
}

#[test]
fn an_unknown_name_fails_with_those_that_are_like_it() {
    let place = Place::new();
    for line in ["show alice", "revoke alice", "rotate alice"] {
        place.key(line).failed(1, &["no key named \"alice\"", "right data directory"]);
    }
    assert!(!place.data.exists(), "looking must make nothing");
    place.key("create alice").secret();
    for line in ["show alcie", "revoke alcie", "rotate alcie"] {
        place.key(line).failed(1, &["no key named \"alcie\"", "did you mean \"alice\"?"]);
    }
    place.key("show zzz").failed(1, &["key list"]);
}

#[test]
fn a_rotation_prints_a_new_secret_and_says_when_the_old_one_ends() {
    let mut place = Place::new();
    let old = place.key("create alice --expires 30d");
    let fresh = place.key("rotate alice");
    assert!(fresh.talk.contains("works until 2026-08-21 12:00 UTC"), "{}", fresh.talk);
    assert!(fresh.talk.contains("still expires at 2026-09-19 12:00 UTC"), "{}", fresh.talk);
    assert!(place.is_valid(old.secret()) && place.is_valid(fresh.secret()));
    place.now += 86_400;
    assert!(!place.is_valid(old.secret()) && place.is_valid(fresh.secret()));
    let last = place.key("rotate alice --overlap 0s");
    assert!(last.talk.contains("has ended"), "{}", last.talk);
    assert!(!place.is_valid(fresh.secret()) && place.is_valid(last.secret()));
    assert_eq!(place.key("show alice --json").json()["earlier"].as_array().unwrap().len(), 2);
    place.now += 30 * 86_400;
    place.key("rotate alice").failed(1, &["has expired"]);
}

#[test]
fn the_line_to_try_names_the_address_of_the_settings() {
    let mut place = Place::new();
    for (number, (listen, shown)) in
        [(":17860", "http://127.0.0.1:17860/"), ("192.0.2.1:80", "http://192.0.2.1:80/")]
            .into_iter()
            .enumerate()
    {
        place.config.listen = vec![Listener::at(listen.parse().unwrap())];
        let made = place.key(&format!("create a{number}"));
        assert!(made.talk.contains(shown), "{}", made.talk);
    }
    place.config.tls.self_signed = true;
    assert!(place.key("create by-address").talk.contains("https://192.0.2.1:80/"));
    // Which names its certificate has, the settings do not tell.
    place.config.tls.cert = Some("cert.pem".into());
    assert!(place.key("create over-tls").talk.contains("https://NAME:80/"));
    place.config.tls.domains = vec!["gate.example.com".to_owned()];
    assert!(place.key("create by-name").talk.contains("https://gate.example.com:80/"));
}

#[test]
fn a_rotation_without_overlap_ends_every_earlier_secret() {
    let place = Place::new();
    let first = place.key("create alice");
    let second = place.key("rotate alice");
    let third = place.key("rotate alice --overlap 1h");
    assert!(third.talk.contains("The old one") && third.talk.contains("One before it"), "{}", third.talk);
    assert_eq!(third.talk.matches("works until 2026-08-20 13:00 UTC").count(), 2, "{}", third.talk);
    assert!([&first, &second, &third].iter().all(|key| place.is_valid(key.secret())));
    let last = place.key("rotate alice --overlap 0s");
    assert!(
        last.talk.contains("has ended") && last.talk.contains("None of those before it"),
        "{}",
        last.talk
    );
    assert!([&first, &second, &third].iter().all(|key| !place.is_valid(key.secret())));
    assert!(place.is_valid(last.secret()));
}

#[test]
fn the_file_of_the_first_start_follows_its_key() {
    let place = Place::new();
    let first = place.first_start();
    assert!(place.is_valid(&first));
    let rotated = place.key("rotate first");
    assert!(rotated.talk.contains("now holds the new one"), "{}", rotated.talk);
    assert_eq!(std::fs::read_to_string(place.first_key()).unwrap(), rotated.out);
    let revoked = place.key("revoke first");
    assert!(revoked.talk.contains("is removed"), "{}", revoked.talk);
    assert!(!place.first_key().exists());
}

#[test]
fn the_file_of_the_first_start_outlives_other_keys() {
    let place = Place::new();
    place.first_start();
    place.key("create alice").secret();
    place.key("rotate alice").secret();
    assert_eq!(place.key("revoke alice").code, 0);
    assert!(place.first_key().exists());
}

#[test]
fn a_database_that_cannot_be_used_is_named() {
    let place = Place::new();
    place.key("create alice").secret();
    let file = place.data.join(gate_store::DATABASE_FILE);
    std::fs::write(&file, "not a database, but long enough to have a header ".repeat(10)).unwrap();
    for line in ["list", "show alice", "create bob", "revoke alice", "rotate alice"] {
        place.key(line).failed(1, &[&file.display().to_string(), "left as it is"]);
    }
}

#[test]
fn a_directory_that_was_open_to_others_is_closed_and_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.key("create alice").secret();
    std::fs::set_permissions(&place.data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let list = place.key("list");
    assert!(list.talk.contains("note: ") && list.talk.contains("now 0700"), "{}", list.talk);
    assert!(!list.out.contains("note"));
}

/// Standard output that cannot be written, in one way or another.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_secret_that_could_not_be_printed_is_a_failure_with_a_way_out() {
    let place = Place::new();
    for (name, kind) in [("full", io::ErrorKind::StorageFull), ("pipe", io::ErrorKind::BrokenPipe)] {
        let args = Line::try_parse_from(["key", "create", name]).unwrap().args;
        let mut talk = Vec::new();
        assert_eq!(run(&args, &place.locations(), Err(&[]), &mut Closed(kind), &mut talk), 1);
        let talk = String::from_utf8(talk).unwrap();
        assert!(talk.contains(&format!("herdgate key rotate {name} --overlap 0s")), "{talk}");
    }
    let args = Line::try_parse_from(["key", "list"]).unwrap().args;
    let mut talk = Vec::new();
    assert_eq!(
        run(&args, &place.locations(), Err(&[]), &mut Closed(io::ErrorKind::BrokenPipe), &mut talk),
        0
    );
    assert_eq!(
        run(&args, &place.locations(), Err(&[]), &mut Closed(io::ErrorKind::StorageFull), &mut talk),
        1
    );
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    let place = Place::new();
    let args = Line::try_parse_from(["key", "create", "alice"]).unwrap().args;
    let mut out = Vec::new();
    assert_eq!(run(&args, &place.locations(), Err(&[]), &mut out, &mut Closed(io::ErrorKind::BrokenPipe)), 0);
    assert!(is_well_formed(&out[..KEY_LENGTH]));
}
