//! What lists of keys show, and what they never do.

use super::*;

#[test]
fn a_list_is_aligned_and_hides_what_is_over() {
    let place = Place::new();
    assert_eq!(place.key("list").out, "");
    assert!(!place.data.exists());
    for line in ["create a-long-name --scope read", "create b --models qwen3*", "create gone", "revoke gone"]
    {
        assert_eq!(place.key(line).code, 0);
    }
    let list = place.key("list");
    let lines: Vec<&str> = list.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", list.out);
    let column = lines[0].find("SCOPES").unwrap();
    for (line, scopes) in lines[1..].iter().zip(["read ", "infer,embed,read "]) {
        let from = line.char_indices().nth(column).unwrap().0;
        assert!(line[from..].starts_with(scopes), "{}", list.out);
        assert!(line.contains("never") && line.ends_with("never"), "{}", list.out);
    }
    assert!(list.talk.contains("not shown: 1"), "{}", list.talk);
    assert!(place.key("list --all").out.contains("revoked"));
    assert_eq!(place.key("list --json").json().as_array().unwrap().len(), 2);
    assert_eq!(place.key("list --json --all").json().as_array().unwrap().len(), 3);
}

#[test]
fn a_plain_list_fits_a_terminal_and_tells_days() {
    let mut place = Place::new();
    let secret = place.key("create alice --expires 30d").secret().to_owned();
    let used = |place: &Place| {
        let mut store = SqliteStore::open(&DataDir::open(&place.data).unwrap()).unwrap();
        let ring = store.load().unwrap();
        let Verdict::Valid(key) = ring.check(&secret, place.now) else { panic!("refused") };
        store.touch(&[(key.id, place.now)]).unwrap();
    };
    used(&place);
    let list = place.key("list").out;
    assert!(list.contains("2026-09-19") && list.contains("today 12:00"), "{list}");
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    place.now += 86_400;
    assert!(place.key("list").out.contains("2026-08-20"));
}

#[test]
fn an_empty_list_is_an_empty_list() {
    let place = Place::new();
    assert_eq!(place.key("list --json").json(), serde_json::json!([]));
    assert!(place.key("list").talk.contains("herdgate key create NAME"));
}

#[test]
fn no_listing_shows_a_secret_or_a_digest() {
    let place = Place::new();
    let secret = place.key("create alice").secret().to_owned();
    place.key("rotate alice").secret();
    let digest = KeyDigest::of(&secret);
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    for line in
        ["list", "list --json", "list --all --json", "show alice", "show alice --json", "revoke alice"]
    {
        let outcome = place.key(line);
        let all = outcome.out + &outcome.talk;
        assert!(
            !all.contains(&secret[10..]) && !all.contains(&hex[..8]) && !all.contains("secret\":"),
            "{line}: {all}"
        );
    }
}
