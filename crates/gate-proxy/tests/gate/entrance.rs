//! How clients come in: behind proxies, without a key, in clear, and where nothing is served.

use crate::house::{FAILURES, House, LIMITS, PIPE, run};
use crate::wire::{CHAT, Client, STREAM, chunk, get, json, post, with_fields};
use gate_proxy::{Anonymous, Entrance, Limits, PlainKeys};
use gate_types::{OriginPattern, Scope, ScopeSet};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PROXY: &str = "10.0.0.1";
const NEIGHBOUR: &str = "172.18.0.9";

/// What a caller is told whose key is taken: that a chat needs a model.
const IN: u16 = 400;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Trusts [`PROXY`], and lets its neighbours in as `key-2`.
fn entrance() -> Rc<Entrance> {
    let networks = vec!["172.18.0.0/24".parse().unwrap()];
    let anonymous = Anonymous::new(networks, "key-2".to_owned(), Arc::new(vec![ip("172.18.0.1")]));
    let trusted_proxies = vec!["10.0.0.0/24".parse().unwrap()];
    Rc::new(Entrance { trusted_proxies, anonymous: Some(anonymous), ..Entrance::default() })
}

fn from(house: &House, peer: &str) -> Client {
    house.connect_by(&entrance(), ip(peer), PIPE)
}

fn forwarded(client: &str, key: &str) -> String {
    let fields = format!("Authorization: Bearer {key}\r\nX-Forwarded-For: {client}\r\n");
    with_fields("POST", "/api/chat", &fields, "{}")
}

#[test]
fn records_and_failures_know_the_client_behind_a_proxy() {
    run(async {
        let house = House::new(1);
        let mut proxy = from(&house, PROXY);
        for _ in 0..FAILURES {
            assert_eq!(proxy.ask(forwarded("198.51.100.7", "wrong")).await.status, 401);
        }
        assert_eq!(proxy.ask(forwarded("198.51.100.7", "wrong")).await.status, 429);
        assert_eq!(proxy.ask(forwarded("198.51.100.7", &house.key)).await.status, IN);
        assert_eq!(proxy.ask(forwarded("198.51.100.8", "wrong")).await.status, 401, "another client");
        let told = proxy.ask(forwarded("198.51.100.7, 203.0.113.5, 10.0.0.9", "wrong")).await;
        assert_eq!(told.status, 401, "what a client claims of itself counts for nothing");
        let clients: Vec<String> = house.records().iter().map(|record| record["client"].clone()).collect();
        assert_eq!(clients[FAILURES..], ["198.51.100.7", "198.51.100.7", "198.51.100.8", "203.0.113.5"]);

        let mut stranger = from(&house, "198.51.100.9");
        assert_eq!(stranger.ask(forwarded("198.51.100.1", "wrong")).await.status, 401);
        assert_eq!(house.records().pop().unwrap()["client"], "198.51.100.9", "nobody else is believed");
    });
}

#[test]
fn an_address_behind_a_proxy_has_so_many_requests_at_one_time() {
    run(async {
        let house = House::with(1, Limits { per_address: 2, ..LIMITS });
        // The proxy's own connections stand for nobody.
        let mut proxies: Vec<Client> = (0..4).map(|_| from(&house, PROXY)).collect();
        let fields = format!("Authorization: Bearer {}\r\nX-Forwarded-For: 198.51.100.7\r\n", house.key);
        let mut upstreams = Vec::new();
        for proxy in &mut proxies[..2] {
            proxy.send(with_fields("POST", "/api/chat", &fields, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.asked().await;
            upstreams.push(upstream);
        }
        let told = proxies[2].ask(forwarded("198.51.100.7", &house.key)).await;
        assert_eq!((told.status, told.field("retry-after")), (429, Some("1")));
        assert!(told.text().contains("address_full"), "{}", told.text());
        assert_eq!(proxies[2].ask(forwarded("198.51.100.8", &house.key)).await.status, IN, "another client");
        assert_eq!(proxies[3].ask(post("/api/chat", &house.key, "{}")).await.status, IN, "the proxy itself");
        upstreams[0].send(json(200, "{\"done\":true}")).await;
        assert_eq!(proxies[0].answer().await.status, 200);
        assert_eq!(proxies[2].ask(forwarded("198.51.100.7", &house.key)).await.status, IN);
        for proxy in proxies {
            proxy.leave().await;
        }
        assert_eq!(house.shared.crowd.open(), 0);
    });
}

#[test]
fn keys_in_clear_are_refused_where_the_settings_say_so_and_not_looked_up() {
    run(async {
        let house = House::new(1);
        let status = async |peer: &str, request: String| from(&house, peer).ask(request).await.status;
        let (public, private) = ("203.0.113.9", "192.168.1.7");
        for (plain_keys, from_public, from_private) in
            [(PlainKeys::Warn, IN, IN), (PlainKeys::RefusePublic, 403, IN), (PlainKeys::Refuse, 403, 403)]
        {
            house.change_rules(|rules| rules.door.plain_keys = plain_keys);
            assert_eq!(
                status(public, post("/api/chat", &house.key, "{}")).await,
                from_public,
                "{plain_keys:?}"
            );
            assert_eq!(
                status(private, post("/api/chat", &house.key, "{}")).await,
                from_private,
                "{plain_keys:?}"
            );
            assert_eq!(status("127.0.0.1", post("/api/chat", &house.key, "{}")).await, IN, "{plain_keys:?}");
        }
        let told = from(&house, private).ask(get("/v1/models", "wrong")).await;
        assert!(told.status == 403 && told.text().contains("tls_required"), "{}", told.text());
        assert_eq!(
            from(&house, private).ask("GET /api/version HTTP/1.1\r\nHost: g\r\n\r\n").await.status,
            200
        );
        let behind = |scheme: &str| {
            let fields = format!(
                "Authorization: Bearer {}\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: {scheme}\r\n",
                house.key
            );
            with_fields("POST", "/api/chat", &fields, "{}")
        };
        assert_eq!(status(PROXY, behind("https")).await, IN);
        assert_eq!(status(PROXY, behind("http")).await, 403);
        assert_eq!(status(private, behind("https")).await, 403, "no trusted proxy");
        let over_tls = Rc::new(Entrance { is_tls: true, ..Entrance::default() });
        let mut client = house.connect_by(&over_tls, ip(public), PIPE);
        assert_eq!(client.ask(post("/api/chat", &house.key, "{}")).await.status, IN);
    });
}

fn keyless(fields: &str) -> String {
    with_fields("POST", "/api/chat", fields, "{}")
}

#[test]
fn callers_of_the_stack_act_as_its_key_with_its_scopes_and_models() {
    run(async {
        let house = House::new(1);
        assert_eq!(from(&house, NEIGHBOUR).ask(keyless("")).await.status, 401, "there is no such key yet");
        house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Infer, Scope::Read]));
        let mut neighbour = from(&house, NEIGHBOUR);
        assert_eq!(neighbour.ask(keyless("")).await.status, IN);
        assert_eq!(house.records().pop().unwrap()["key"], "key-2");
        assert_eq!(
            neighbour.ask(keyless("Authorization: Bearer ollama\r\n")).await.status,
            IN,
            "a placeholder"
        );
        assert_eq!(neighbour.ask(keyless("x-api-key:\r\n")).await.status, IN);
        let embed = with_fields("POST", "/api/embed", "", "{\"model\":\"demo\",\"input\":\"x\"}");
        assert_eq!(neighbour.ask(embed).await.status, 403, "beyond its scopes");
        // A key of one's own counts as itself, right or wrong.
        assert_eq!(neighbour.ask(post("/api/chat", &house.key, "{}")).await.status, IN);
        assert_eq!(house.records().pop().unwrap()["key"], "key-1");
        assert_eq!(
            neighbour.ask(get("/api/tags", "sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws")).await.status,
            401
        );
        // No key crosses anything here.
        house.change_rules(|rules| rules.door.plain_keys = PlainKeys::Refuse);
        assert_eq!(neighbour.ask(keyless("")).await.status, IN);
        assert_eq!(neighbour.ask(keyless("Authorization: Bearer ollama\r\n")).await.status, IN);
    });
}

#[test]
fn nobody_else_is_let_in_without_a_key() {
    run(async {
        let house = House::new(1);
        house.add_key(|_| {});
        for (peer, why) in [
            ("172.18.0.1", "from a router or the gate's own machine"),
            ("172.18.0.2", "from a router or the gate's own machine"),
            ("172.18.1.9", "from none of these"),
            ("203.0.113.9", "from none of these"),
            ("127.0.0.1", "from none of these"),
            ("fd00::9", "from none of these"),
            (PROXY, "came by a proxy"),
        ] {
            for credential in ["", "Authorization: Bearer ollama\r\n"] {
                let told = from(&house, peer).ask(keyless(credential)).await;
                let text = told.text();
                assert!(told.status == 401 && text.contains("no API key given"), "{peer}: {text}");
                assert!(text.contains(why) && !text.contains(peer), "{peer}: {text}");
            }
        }
        let behind = from(&house, PROXY).ask(keyless("X-Forwarded-For: 172.18.0.9\r\n")).await;
        assert_eq!(behind.status, 401, "a trusted proxy lets nobody in");
        let mut neighbour = from(&house, NEIGHBOUR);
        for field in [
            "X-Forwarded-For: 172.18.0.9",
            "Forwarded: for=172.18.0.9",
            "CF-Ray: 1",
            "Via: 1.1 x",
            "X-Real-IP: 172.18.0.9",
        ] {
            for credential in ["", "Authorization: Bearer ollama\r\n"] {
                let told = neighbour.ask(keyless(&format!("{field}\r\n{credential}"))).await;
                assert!(
                    told.status == 401 && told.text().contains("proxy or tunnel"),
                    "{field}: {}",
                    told.text()
                );
            }
        }
        let with_key = format!("Authorization: Bearer {}\r\nX-Forwarded-For: 1.2.3.4\r\n", house.key);
        assert_eq!(neighbour.ask(keyless(&with_key)).await.status, IN, "with a key as ever");
        for page in ["Origin: https://evil.example\r\n", "Origin: http://gate\r\n"] {
            assert_eq!(neighbour.ask(keyless(page)).await.status, 401, "{page}");
        }
        let rebound = "GET /api/tags HTTP/1.1\r\nHost: evil.example:7860\r\n\r\n";
        assert_eq!(neighbour.ask(rebound).await.status, 401);
        house.change_rules(|rules| {
            rules.door.origins = vec![OriginPattern::parse("https://app.example").unwrap()]
        });
        assert_eq!(neighbour.ask(keyless("Origin: https://app.example\r\n")).await.status, IN);
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn a_revoked_key_ends_what_runs_without_one() {
    run(async {
        let house = House::new(1);
        let revoked = Rc::new(Cell::new(false));
        let seen = Rc::clone(&revoked);
        house.add_key(move |key| key.revoked = seen.get().then_some(2));
        let mut neighbour = from(&house, NEIGHBOUR);
        neighbour.send(with_fields("POST", "/api/chat", "", CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        neighbour.head().await;
        revoked.set(true);
        house.add_key(|_| {});
        let took = upstream.closed().await;
        assert!(took < Duration::from_secs(1), "the model went on for {took:?}");
        assert_eq!(house.outcome().0, "revoked");
        assert_eq!(from(&house, NEIGHBOUR).ask(keyless("")).await.status, 401);
    });
}

#[test]
fn a_listener_that_redirects_serves_nothing() {
    run(async {
        let house = House::new(1);
        let entrance = Rc::new(Entrance { redirect: Some(7861), ..Entrance::default() });
        let mut client = house.connect_by(&entrance, ip("203.0.113.9"), PIPE);
        let asked = "GET /api/tags?x HTTP/1.1\r\nHost: gate.example:80\r\n\r\n";
        let answer = client.ask(asked).await;
        let told = (answer.status, answer.field("location"), answer.field("content-length"));
        assert_eq!(told, (308, Some("https://gate.example:7861/api/tags?x"), Some("0")));
        assert_eq!(answer.field("strict-transport-security"), None);
        for refused in [
            post("/api/chat", &house.key, CHAT),
            get("/api/tags", &house.key),
            with_fields("POST", "/api/chat", "", CHAT),
        ] {
            let answer = client.ask(refused).await;
            assert!(answer.status == 403 && answer.text().contains("tls_required"), "{}", answer.text());
            assert!(answer.text().contains("https://gate:7861"), "{}", answer.text());
        }
        assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n").await.status, 308);
        assert_eq!(house.dialled(0), 0);
        let last = house.records().pop().unwrap();
        assert_eq!((last["asked"].as_str(), last["status"].as_str()), ("GET /healthz", "308"));
    });
}

#[test]
fn every_answer_over_tls_tells_browsers_to_stay_there_where_that_is_asked_for() {
    run(async {
        let house = House::new(1);
        let hsts = Some("max-age=600".to_owned());
        let entrance = Rc::new(Entrance { is_tls: true, hsts, ..Entrance::default() });
        let mut client = house.connect_by(&entrance, ip("203.0.113.9"), PIPE);
        for asked in [get("/api/tags", &house.key), get("/nothing", "wrong"), "nonsense\r\n\r\n".to_owned()] {
            let answer = client.ask(asked).await;
            assert_eq!(answer.field("strict-transport-security"), Some("max-age=600"), "{}", answer.status);
        }
        let mut usual = house.connect();
        let answer = usual.ask(get("/api/tags", &house.key)).await;
        assert_eq!(answer.field("strict-transport-security"), None);
    });
}
