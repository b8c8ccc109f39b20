//! Routes beside the built-in ones: what passes and what does not.

use crate::house::{House, LIMITS, PEER, run};
use crate::web::{Web, request};
use crate::websockets::opened;
use crate::wire::{CHAT, chunk, get, json, with_fields};
use gate_policy::{Observation, Terms};
use gate_proxy::{ExtraRoute, Limits};
use gate_types::{Scope, ScopeSet, UpstreamId};
use gate_wire::Template;

fn route(path: &str, scope: Scope, upstream: u16, upgrade: bool) -> ExtraRoute {
    ExtraRoute { template: Template::parse(path).unwrap(), scope, upstream: UpstreamId(upstream), upgrade }
}

/// A gate before two upstreams, the second of which speaks more.
pub(crate) fn house() -> House {
    with(LIMITS)
}

fn with(limits: Limits) -> House {
    let house = House::with(2, limits);
    house.change_rules(|rules| {
        rules.routes = vec![
            route("/tts/{rest}", Scope::Infer, 1, true),
            route("/tts/admin/{rest}", Scope::Manage, 1, false),
            route("/rerank", Scope::Embed, 1, false),
        ];
    });
    house
}

pub(crate) fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

#[test]
fn it_leads_to_its_upstream_and_the_answer_streams() {
    run(async {
        let house = house();
        let mut client = house.connect();
        client
            .send(with_fields(
                "PUT",
                "/tts/voices/a%20b?x=1&y",
                &format!(
                    "{}Cookie: c=1\r\nOrigin: http://gate\r\nX-Voice: low\r\nContent-Type: audio/wav\r\n",
                    bearer(&house.key)
                ),
                "sound",
            ))
            .await;
        let mut upstream = house.accept(1).await;
        let asked = upstream.asked().await;
        assert!(
            asked.head.starts_with("PUT /tts/voices/a%20b?x=1&y HTTP/1.1\r\nHost: up1:11434\r\n"),
            "{}",
            asked.head
        );
        assert_eq!(asked.body, b"sound");
        assert!(
            asked.head.contains("X-Voice: low\r\n") && asked.head.contains("Content-Type: audio/wav\r\n")
        );
        for kept_back in ["sk-hg-", "ookie", "rigin", "uthorization"] {
            assert!(!asked.head.contains(kept_back), "{kept_back}: {}", asked.head);
        }
        upstream
            .send(
                "HTTP/1.1 206 Partial Content\r\nContent-Type: audio/wav\r\nContent-Range: bytes 0-1/9\r\nSet-Cookie: a=b\r\n\
                 Access-Control-Allow-Origin: *\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await;
        let head = client.head().await;
        assert_eq!((head.status, head.field("content-range")), (206, Some("bytes 0-1/9")));
        assert!(head.field("set-cookie").is_none() && head.field("access-control-allow-origin").is_none());
        upstream.send(chunk("one")).await;
        client.expect(chunk("one").as_bytes()).await;
        upstream.send("0\r\n\r\n").await;
        client.expect(b"0\r\n\r\n").await;
        assert_eq!(client.ask(get("/", "-")).await.status, 200, "the connection is in step");
        let record = house.records().into_iter().next().unwrap();
        assert_eq!((record["route"].as_str(), record["status"].as_str()), ("/tts/{rest}", "206"));
        assert_eq!(record["upstream"], "http://up1:11434");
        assert!(!record.contains_key("asked"), "the path is the client's own");
    });
}

#[test]
fn bodies_of_any_coding_pass_within_the_limit_of_uploads() {
    run(async {
        let house = with(Limits { upload: 10, body: 2, ..LIMITS });
        let fields = format!("{}Content-Encoding: gzip\r\n", bearer(&house.key));
        let mut client = house.connect();
        client.send(with_fields("POST", "/tts/a", &fields, "0123456789")).await;
        let mut upstream = house.accept(1).await;
        assert_eq!(upstream.serve(json(200, "{}")).await.body, b"0123456789");
        assert_eq!(client.answer().await.status, 200);
        client.send(with_fields("POST", "/tts/a", &fields, "0123456789a")).await;
        assert_eq!(client.answer().await.status, 413);
        for method in ["GET", "HEAD", "DELETE", "PATCH", "POST"] {
            let house = self::house();
            let mut client = house.connect();
            client.send(format!("{method} /tts/a HTTP/1.1\r\nHost: g\r\n{}\r\n", bearer(&house.key))).await;
            let asked = house.accept(1).await.serve("HTTP/1.1 204 No Content\r\n\r\n").await;
            assert!(asked.head.starts_with(&format!("{method} /tts/a HTTP/1.1\r\n")), "{}", asked.head);
            assert_eq!(client.head().await.status, 204, "{method}");
        }
    });
}

#[test]
fn the_narrower_route_is_meant_and_scopes_count() {
    run(async {
        let house = house();
        let embeds = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Embed]));
        for (path, key, status) in [
            ("/tts/admin/x", &house.key, 403),
            ("/tts/a", &embeds, 403),
            ("/tts/a", &"sk-hg-wrong".to_owned(), 401),
            ("/tts/adm%69n/x", &house.key, 404),
            ("/tts/x/../admin/x", &house.key, 404),
            ("/tts//a", &house.key, 404),
            ("/tts/a%2fb", &house.key, 404),
            ("/tts/", &house.key, 404),
            ("/rerank/", &house.key, 404),
            ("/api/chat", &house.key, 405),
        ] {
            let answer = house.connect().ask(get(path, key)).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
        }
        let answer = house.connect().ask(with_fields("TRACE", "/rerank", "", "")).await;
        assert_eq!(answer.field("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
        assert_eq!((house.dialled(0), house.dialled(1)), (0, 0), "nothing was sent anywhere");
        let leaks = house.connect().ask(get("/tts/a?key=sk-hg-abc", &house.key)).await;
        assert_eq!(leaks.status, 400);
        assert!(leaks.text().contains("in the address"), "{}", leaks.text());
    });
}

#[test]
fn what_is_between_gate_and_upstream_stays_there() {
    run(async {
        let house = house();
        for (answer, status) in [
            ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 502),
            ("HTTP/1.1 302 Found\r\nLocation: http://up1:11434/tts/b\r\nContent-Length: 0\r\n\r\n", 502),
            ("HTTP/1.1 302 Found\r\nLocation: //up1/tts/b\r\nContent-Length: 0\r\n\r\n", 502),
            ("HTTP/1.1 302 Found\r\nLocation: /\\evil/x\r\nContent-Length: 0\r\n\r\n", 502),
            ("HTTP/1.1 302 Found\r\nLocation: /\t/evil/x\r\nContent-Length: 0\r\n\r\n", 502),
            (
                "HTTP/1.1 302 Found\r\nLocation: /tts/b\r\nLocation: https://evil\r\nContent-Length: 0\r\n\r\n",
                502,
            ),
            ("HTTP/1.1 200 OK\r\nRefresh: 0;url=https://evil\r\nContent-Length: 0\r\n\r\n", 200),
            ("HTTP/1.1 302 Found\r\nLocation: /tts/b\r\nContent-Length: 0\r\n\r\n", 302),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", 304),
            ("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 500),
        ] {
            let mut client = house.connect();
            client.send(with_fields("POST", "/tts/a", &bearer(&house.key), "")).await;
            house.accept(1).await.serve(answer).await;
            let told = client.answer().await;
            assert_eq!((told.status, told.field("refresh")), (status, None), "{answer}");
        }
        house.refuse(1, true);
        assert_eq!(
            house.connect().ask(with_fields("POST", "/tts/a", &bearer(&house.key), "")).await.status,
            502
        );
        assert_eq!(house.dialled(0), 0, "nobody else is asked");
    });
}

#[test]
fn a_hang_up_closes_the_upstreams_connection() {
    run(async {
        let house = house();
        let mut client = house.connect();
        client.send(get("/tts/a", &house.key)).await;
        let mut upstream = house.accept(1).await;
        upstream.asked().await;
        client.leave().await;
        upstream.closed().await;
        let (client, mut upstream) = opened(&house, &house.key).await;
        client.leave().await;
        upstream.closed().await;
    });
}

#[test]
fn a_preflight_is_told_what_is_open() {
    run(async {
        let house = house();
        house.change_rules(|rules| {
            rules.door.origins = vec![gate_types::OriginPattern::parse("http://page").unwrap()]
        });
        let preflight = "Origin: http://page\r\nAccess-Control-Request-Method: PUT\r\n";
        let answer = house.connect().ask(with_fields("OPTIONS", "/tts/a", preflight, "")).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.field("access-control-allow-methods"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
    });
}

#[test]
fn metrics_name_the_route_and_not_the_path() {
    run(async {
        let house = house();
        let manager = house.manager();
        let mut client = house.connect_from(PEER);
        client.send(get("/tts/a-secret-path", &house.key)).await;
        house.accept(1).await.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
        let page = house.connect().ask(get("/metrics", &manager)).await;
        let page = page.text();
        let line = "herdgate_requests_total{route=\"/tts/{rest}\",outcome=\"done\",status=\"2xx\"} 1";
        assert!(page.contains(line) && !page.contains("secret"), "{page}");
    });
}

#[test]
fn over_http_2_it_is_the_same_request() {
    run(async {
        let house = house();
        let mut web = Web::connect(&house).await;
        let head = request("PATCH", "/tts/a/b?c", &house.key).header("cookie", "secret");
        let head = head.header("x-voice", "low").header("content-length", "5");
        let (asked, answer) = tokio::join!(
            async { house.accept(1).await.serve(json(200, "{}")).await },
            web.ask(head, "sound")
        );
        assert!(asked.head.starts_with("PATCH /tts/a/b?c HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains("x-voice: low\r\n") && !asked.head.contains("secret"), "{}", asked.head);
        assert_eq!(asked.body, b"sound");
        assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    });
}

#[test]
fn one_that_is_no_ollama_gets_nothing_but_what_its_routes_take() {
    run(async {
        let house = house();
        house.shared.set_terms(&[(UpstreamId(1), Terms { is_ollama: false, ..Terms::default() })]);
        let mut client = house.connect();
        // It is down, or nobody knows: none of that is a matter of Ollama's own routes.
        for seen in [Observation::Reached, Observation::ProbeFailed] {
            house.observe(1, seen);
            for _ in 0..4 {
                let chat = with_fields("POST", "/api/chat", &bearer(&house.key), CHAT);
                client.send(chat).await;
                house.accept(0).await.serve(json(200, "{}")).await;
                assert_eq!(client.answer().await.status, 200);
            }
            client.send(get("/api/tags", &house.key)).await;
            house.accept(0).await.serve(json(200, r#"{"models":[]}"#)).await;
            assert_eq!(client.answer().await.status, 200, "one listing is enough");
        }
        client.send(get("/tts/a", &house.key)).await;
        house.accept(1).await.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn readiness_tells_of_it_and_does_not_rest_on_it() {
    run(async {
        let house = house();
        let terms = |ollamas: [bool; 2]| {
            let of = |(id, is_ollama)| (UpstreamId(id), Terms { is_ollama, ..Terms::default() });
            [of((0, ollamas[0])), of((1, ollamas[1]))]
        };
        house.shared.set_terms(&terms([true, false]));
        let mut client = house.connect();
        let mut ready = async |first: Observation, second: Observation| {
            house.observe(0, first);
            house.observe(1, second);
            let answer = client.ask("GET /readyz HTTP/1.1\r\nHost: gate\r\n\r\n".to_owned()).await;
            (answer.status, answer.text().to_owned())
        };
        let told = |status, word: &str| (status, word.to_owned());
        use Observation::{ConnectFailed, Reached};
        assert_eq!(ready(Reached, Reached).await, told(200, "ready"));
        assert_eq!(ready(Reached, ConnectFailed).await, told(200, "degraded"));
        assert_eq!(
            ready(ConnectFailed, Reached).await,
            told(503, "not ready"),
            "who asks for models gets none"
        );
        // A gate for routes alone.
        house.shared.set_terms(&terms([false, false]));
        assert_eq!(ready(ConnectFailed, Reached).await, told(200, "degraded"));
        let mut client = house.connect();
        let answer = client.ask(with_fields("POST", "/api/chat", &bearer(&house.key), CHAT)).await;
        assert!(answer.status == 503 && answer.text().contains("no_upstream"), "{}", answer.text());
    });
}

#[test]
fn what_leads_back_to_the_gate_is_found_there_too() {
    run(async {
        let house = house();
        house.gate().upstream.roster().set_gate(UpstreamId(1), true);
        let mut client = house.connect();
        client.send(get("/tts/a", &house.key)).await;
        let mut upstream = house.accept(1).await;
        let asked = upstream.asked().await;
        let mark = asked.head.lines().find(|line| line.starts_with("Herdgate-Hops: ")).unwrap();
        let back = || with_fields("POST", "/tts/a", &format!("{}{mark}\r\n", bearer(&house.key)), "");
        assert_eq!(house.connect().ask(back()).await.status, 503);
        upstream.send(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    });
}
