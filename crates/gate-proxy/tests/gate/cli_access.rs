//! Ollama's own command line: by its signature, by a proxy's credential, and what it shows its user.

use crate::house::{House, run};
use crate::wire::{Answer, CHAT, json, with_fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

const AGENT: &str = "User-Agent: ollama/0.24.0 (amd64 linux) Go/go1.26.8\r\n";

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// How a key came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    Revoked,
    Expired,
}

/// A user's key pair, as `~/.ollama/id_ed25519` holds it.
struct User(SigningKey);

impl User {
    fn new(seed: u8) -> Self {
        User(SigningKey::from_bytes(&[seed; 32]))
    }

    fn wire(&self) -> String {
        let mut wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        wire.extend(self.0.verifying_key().as_bytes());
        STANDARD.encode(wire)
    }

    /// Enrols the public key.
    fn enrol(&self, house: &House, end: End) {
        let mark = gate_keys::SshKey::parse(&format!("ssh-ed25519 {}", self.wire())).unwrap().mark();
        house.add_key(move |key| {
            (key.kind, key.digest, key.prefix) = (mark.kind, mark.digest, mark.prefix.clone());
            key.revoked = (end == End::Revoked).then_some(2);
            key.expires = (end == End::Expired).then(|| now() - 300);
        });
    }

    /// A request as the client sends it, signed at `ts` for this text's path.
    fn ask(&self, method: &str, path: &str, signed_path: &str, ts: i64, body: &str) -> String {
        let text = format!("{method},{signed_path}?ts={ts}");
        let signature = STANDARD.encode(self.0.sign(text.as_bytes()).to_bytes());
        let fields = format!("{AGENT}Authorization: {}:{signature}\r\n", self.wire());
        with_fields(method, &format!("{path}?ts={ts}"), &fields, body)
    }
}

fn code(answer: &Answer) -> (u16, String) {
    let body: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    (answer.status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_signed_request_opens_the_gate_and_equal_ones_of_a_second_too() {
    run(async {
        let house = House::new(1);
        let user = User::new(7);
        user.enrol(&house, End::None);
        let mut client = house.connect();
        let asked = user.ask("POST", "/api/chat", "/api/chat", now(), CHAT);
        let mut upstream = None;
        for _ in 0..3 {
            client.send(&asked).await;
            if upstream.is_none() {
                upstream = Some(house.accept(0).await);
            }
            let seen = upstream.as_mut().unwrap().serve(json(200, "{}")).await;
            assert!(
                seen.head.starts_with("POST /api/chat HTTP/1.1\r\n"),
                "the query stays here: {}",
                seen.head
            );
            assert!(!seen.head.contains("uthorization"), "{}", seen.head);
            assert_eq!(client.answer().await.status, 200);
        }
        let record = house.records().pop().unwrap();
        assert_eq!(record["key"], "key-2");
        client.send(user.ask("HEAD", "/", "/", now(), "")).await;
        assert_eq!(client.head().await.status, 200);
    });
}

#[test]
fn a_signature_is_good_for_its_text_its_time_its_key_and_its_first_sender() {
    run(async {
        let house = House::new(1);
        let (user, stranger, former) = (User::new(7), User::new(8), User::new(9));
        user.enrol(&house, End::None);
        former.enrol(&house, End::Revoked);
        let mut client = house.connect();
        let invalid = (403, "invalid_key".to_owned());
        let ts = now();
        let (changed, unknown) = ("change the path", "not enrolled");
        for (what, told, asked) in [
            ("another path", changed, user.ask("POST", "/api/chat", "/api/generate", ts, CHAT)),
            ("a base path", changed, user.ask("POST", "/api/chat", "/base/api/chat", ts, CHAT)),
            ("an unknown key", unknown, stranger.ask("POST", "/api/chat", "/api/chat", ts, CHAT)),
            ("a revoked key", unknown, former.ask("POST", "/api/chat", "/api/chat", ts, CHAT)),
            ("a stranger's clock", unknown, stranger.ask("POST", "/api/chat", "/api/chat", ts - 600, CHAT)),
        ] {
            let answer = client.ask(asked).await;
            assert_eq!(code(&answer), invalid, "{what}");
            let text = answer.text();
            assert!(text.contains(told) && !text.contains("clock"), "{what}: {text}");
        }
        for (ts, word) in [(ts - 600, "behind"), (ts + 600, "ahead")] {
            let answer = client.ask(user.ask("POST", "/api/chat", "/api/chat", ts, CHAT)).await;
            assert_eq!(code(&answer), invalid);
            assert!(answer.text().contains("clock") && answer.text().contains(word), "{}", answer.text());
        }
        let other_query = user.ask("POST", "/api/chat", "/api/chat", ts, CHAT).replace("?ts=", "?a=b&ts=");
        assert_eq!(code(&client.ask(other_query).await), (403, "bad_credentials_form".to_owned()));

        let asked = user.ask("POST", "/api/chat", "/api/chat", now(), "{}");
        assert_eq!(client.ask(&asked).await.status, 400, "no model, but let in");
        let mut elsewhere = house.connect_from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8)));
        let answer = elsewhere.ask(&asked).await;
        assert_eq!(code(&answer), invalid);
        assert!(answer.text().contains("another address"), "{}", answer.text());
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn nobody_learns_what_became_of_an_ssh_key() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| rules.door.failures = 6);
        let (unknown, revoked, expired) = (User::new(8), User::new(9), User::new(10));
        revoked.enrol(&house, End::Revoked);
        expired.enrol(&house, End::Expired);
        let mut client = house.connect();
        let ts = now();
        for user in [unknown, revoked, expired] {
            // The second was signed while the key that has expired was valid.
            for ts in [ts, ts - 1000] {
                let answer = client.ask(user.ask("POST", "/api/chat", "/api/chat", ts, CHAT)).await;
                assert_eq!(code(&answer), (403, "invalid_key".to_owned()));
                let fingerprint = gate_keys::SshKey::parse(&format!("ssh-ed25519 {}", user.wire())).unwrap();
                let fingerprint = fingerprint.mark().prefix;
                let told = format!(
                    "this ssh key ({fingerprint}) is not enrolled here, or it has expired or was revoked"
                );
                assert!(answer.text().contains(&told), "{}", answer.text());
            }
        }
        let answer = client.ask(User::new(8).ask("POST", "/api/chat", "/api/chat", ts, CHAT)).await;
        assert_eq!(answer.status, 429, "each of them counts: {}", answer.text());
    });
}

#[test]
fn a_wrong_clock_counts_as_a_failure_and_a_right_one_passes_all_the_same() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| rules.door.failures = 1);
        let user = User::new(7);
        user.enrol(&house, End::None);
        let mut client = house.connect();
        let late = user.ask("POST", "/api/chat", "/api/chat", now() - 600, CHAT);
        assert!(client.ask(&late).await.text().contains("behind"));
        assert_eq!(client.ask(&late).await.status, 429);
        let timely = user.ask("POST", "/api/chat", "/api/chat", now(), "{}");
        assert_eq!(client.ask(timely).await.status, 400, "no model, but let in");
    });
}

#[test]
fn a_user_of_the_command_line_is_told_its_two_ways() {
    run(async {
        let house = House::new(1);
        let answer = house.connect().ask(with_fields("GET", "/api/tags", AGENT, "")).await;
        assert_eq!(code(&answer), (403, "no_credentials".to_owned()));
        for word in ["OLLAMA_AUTH=1", "--ssh-key", "OLLAMA_HOST=http://ollama:80 HTTP_PROXY="] {
            assert!(answer.text().contains(word), "{word}: {}", answer.text());
        }
    });
}

#[test]
fn a_variable_that_nobody_filled_is_called_that() {
    run(async {
        let house = House::new(1);
        for (fields, told) in [
            ("Authorization: Bearer \r\n", (401, "bad_credentials_form", "the key is empty")),
            ("Authorization: Basic dXNlcjo=\r\n", (401, "bad_credentials_form", "the key is empty")),
            ("x-api-key: \r\n", (401, "no_credentials", "the key is empty")),
            ("Authorization: Bearer $KEY\r\n", (401, "invalid_key", "name of a variable")),
            ("x-api-key: ${KEY}\r\n", (401, "invalid_key", "name of a variable")),
        ] {
            let answer = house.connect().ask(with_fields("GET", "/api/tags", fields, "")).await;
            assert_eq!(code(&answer), (told.0, told.1.to_owned()), "{fields}");
            assert!(answer.text().contains(told.2), "{fields}: {}", answer.text());
        }
    });
}

#[test]
fn a_degraded_store_gives_no_verdict_on_an_unknown_signer() {
    run(async {
        let house = House::new(1);
        house.shared.store.set_degraded(true);
        let answer =
            house.connect().ask(User::new(7).ask("POST", "/api/chat", "/api/chat", now(), CHAT)).await;
        assert_eq!(code(&answer), (503, "store_unavailable".to_owned()));
    });
}

#[test]
fn who_takes_the_gate_for_a_proxy_is_let_in_for_its_names_alone() {
    run(async {
        let house = House::new(1);
        let pair = STANDARD.encode(format!("user:{}", house.key));
        let proxied = |method: &str, host: &str, path: &str, fields: &str, body: &str| {
            let length = body.len();
            format!(
                "{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{AGENT}{fields}Content-Length: {length}\r\n\r\n{body}"
            )
        };
        let fields = format!("Proxy-Authorization: Basic {pair}\r\n");
        let mut client = house.connect();
        client.send(proxied("POST", "ollama:80", "/api/chat", &fields, CHAT)).await;
        let seen = house.accept(0).await.serve(json(200, "{}")).await;
        assert!(seen.head.starts_with("POST /api/chat HTTP/1.1\r\n"), "{}", seen.head);
        assert!(!seen.head.contains("roxy") && !seen.head.contains("ollama:80"), "{}", seen.head);
        assert_eq!(client.answer().await.status, 200);
        let status = async |asked: String| house.connect().ask(asked).await;
        client.send(proxied("HEAD", "ollama", "/", &fields, "")).await;
        assert_eq!(client.head().await.status, 200);
        let both = format!("{fields}Authorization: Bearer {}\r\n", house.key);
        assert_eq!(status(proxied("POST", "ollama", "/api/chat", &both, "{}")).await.status, 400);
        let as_server = format!("Authorization: Bearer {}\r\n", house.key);
        let answer = status(proxied("POST", "gate.example:7860", "/api/chat", &as_server, "{}")).await;
        assert_eq!(answer.status, 400, "the gate's own name is not known to it: no model, but let in");
        for (asked, told) in [
            (proxied("GET", "example.org", "/api/tags", &fields, ""), (403, "proxy_target_refused")),
            (proxied("GET", "example.org", "/", "", ""), (403, "proxy_target_refused")),
            (proxied("GET", "169.254.169.254", "/latest", &fields, ""), (403, "proxy_target_refused")),
            (proxied("GET", "ollama", "/etc/passwd", &fields, ""), (404, "unknown_route")),
            (proxied("GET", "ollama", "/api/tags", "", ""), (403, "no_credentials")),
            (
                proxied(
                    "GET",
                    "ollama",
                    "/api/tags",
                    &format!("{fields}Authorization: Bearer other\r\n"),
                    "",
                ),
                (400, "conflicting_credentials"),
            ),
            (with_fields("GET", "/api/tags", &format!("{AGENT}{fields}"), ""), (403, "no_credentials")),
            (
                format!("CONNECT ollama:80 HTTP/1.1\r\nHost: ollama:80\r\n{fields}\r\n"),
                (403, "proxy_target_refused"),
            ),
            (
                format!("GET http://ollama/api/tags HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n"),
                (400, "bad_request"),
            ),
        ] {
            let answer = status(asked.clone()).await;
            assert_eq!(code(&answer), (told.0, told.1.to_owned()), "{asked}");
        }
        assert_eq!(house.dialled(0), 1);
    });
}

#[test]
fn ollamas_command_line_is_told_403_where_others_are_told_401() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for (agent, status) in
            [(AGENT, 403), ("User-Agent: ollama-python/0.6.1\r\n", 401), ("User-Agent: curl/8\r\n", 401)]
        {
            for fields in ["", "Authorization: Bearer wrong\r\n"] {
                let answer =
                    client.ask(with_fields("GET", "/api/tags", &format!("{agent}{fields}"), "")).await;
                assert_eq!(answer.status, status, "{agent}");
                assert_eq!(answer.field("www-authenticate").is_some(), status == 401);
                assert!(answer.text().contains(if fields.is_empty() {
                    "no_credentials"
                } else {
                    "invalid_key"
                }));
            }
        }
    });
}
