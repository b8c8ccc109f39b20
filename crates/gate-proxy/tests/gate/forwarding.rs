//! What reaches an upstream, and what comes back of its answer.

use crate::house::{House, LIMITS, run};
use crate::wire::{CHAT, get, json, post, with_fields};
use gate_types::Scope;
use gate_upstream::Endpoint;
use gate_wire::{Answering, BodyKind, Class, ROUTES};

#[test]
fn nothing_of_the_client_but_four_fields_reaches_the_upstream() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let fields = format!(
            "Authorization: Bearer {key}\r\nX-Api-Key: {key}\r\nOrigin: http://evil\r\nReferer: http://evil/x\r\n\
             Cookie: a=b\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\n\
             X-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\nVia: 1.1 x\r\nTE: trailers\r\nUpgrade: h2c\r\n\
             Proxy-Authorization: Basic eA==\r\nAccept-Encoding: gzip\r\nConnection: keep-alive, x-secret\r\n\
             X-Secret: 1\r\nAccept: text/*\r\nUser-Agent: ollama-python/0.6\r\nContent-Type: text/plain\r\n",
            key = house.key,
        );
        client.send(with_fields("POST", "/api/chat?key=secret&x", &fields, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let asked = upstream.serve(json(200, "{}")).await;
        let expected = format!(
            "POST /api/chat HTTP/1.1\r\nHost: up0:11434\r\nContent-Type: text/plain\r\nAccept: text/*\r\n\
             User-Agent: ollama-python/0.6\r\nX-Request-Id: t-1\r\nContent-Length: {}\r\n\r\n",
            CHAT.len()
        );
        assert_eq!(asked.head, expected);
        assert_eq!(asked.body, CHAT.as_bytes());
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn every_forwarded_route_goes_to_the_path_of_the_table_behind_the_base() {
    run(async {
        let endpoint = Endpoint::new(false, "gpu", 80, "/ollama");
        let house = House::at([endpoint].into_iter(), LIMITS);
        let key = house.add_key(|key| key.scopes = "infer,embed,read,manage,cloud".parse().unwrap());
        house.change_rules(|rules| rules.manage.push = true);
        let mut client = house.connect();
        let (mut upstream, mut sent_once) = (None, 0);
        let forwarded = ROUTES
            .iter()
            .filter(|route| route.answer == Answering::Forward && matches!(route.body, BodyKind::Json(_)));
        for route in forwarded {
            let body = if route.path == "/api/copy" {
                r#"{"source":"demo","destination":"other"}"#
            } else {
                r#"{ "model" : "Demo:latest" , "input" : [ ] }"#
            };
            let target = format!("http://gate{}?a=/b", route.path);
            client.send(with_fields(route.method, &target, &format!("x-api-key: {key}\r\n"), body)).await;
            let asked = house.asked(0, &mut upstream).await;
            upstream.as_mut().unwrap().send(json(200, r#"{"done":true}"#)).await;
            let line = format!("{} /ollama{} HTTP/1.1", route.method, route.path);
            assert_eq!(asked.head.lines().next(), Some(line.as_str()));
            assert_eq!(asked.body, body.as_bytes(), "{}", route.path);
            assert_eq!(client.answer().await.text(), r#"{"done":true}"#);
            sent_once += usize::from(matches!(route.class, Class::Needs(Scope::Manage | Scope::Cloud)));
        }
        assert_eq!(house.dialled(0), 1 + sent_once, "one connection served all that may be sent again");
    });
}

#[test]
fn a_chunked_body_arrives_whole_and_with_its_length() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            house.key
        );
        client.send(head).await;
        for piece in CHAT.as_bytes().chunks(7) {
            client.send(format!("{:X};x=\"y\"\r\n", piece.len())).await;
            client.send(piece).await;
            client.send("\r\n").await;
        }
        client.send("0\r\nX-Trailer: 1\r\n\r\n").await;
        let mut upstream = house.accept(0).await;
        let asked = upstream.serve(json(200, "{}")).await;
        assert_eq!(asked.body, CHAT.as_bytes());
        assert!(asked.head.contains(&format!("\r\nContent-Length: {}\r\n", CHAT.len())));
        assert!(!asked.head.to_ascii_lowercase().contains("trailer"));
        client.answer().await;
        assert_eq!(client.ask(get("/", "-")).await.text(), "Ollama is running", "the connection is in step");
    });
}

#[test]
fn of_the_upstreams_fields_only_those_about_the_content_come_back() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/v1/chat/completions", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream
            .serve(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-cache\r\nServer: x\r\n\
                 Set-Cookie: a=b\r\nX-Request-Id: theirs\r\nAccess-Control-Allow-Origin: *\r\n\
                 Date: Fri, 20 Nov 2026 12:58:10 GMT\r\nContent-Length: 2\r\n\r\n{}",
            )
            .await;
        let answer = client.answer().await;
        let names = ["content-type", "cache-control", "date", "x-request-id", "content-length"];
        assert_eq!(answer.names(), names);
        assert_eq!(answer.field("x-request-id"), Some("t-1"));
        assert_eq!(answer.field("date"), Some("Fri, 20 Nov 2026 12:58:10 GMT"));
    });
}

#[test]
fn an_upstreams_errors_pass_as_they_are() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let mut upstream = None;
        for (status, body) in [
            (400, r#"{"error":"\"demo\" does not support tools"}"#),
            (500, r#"{"error":"option \"num_ctx\" must be of type integer"}"#),
            (503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#),
            (499, r#"{"error":"request canceled"}"#),
        ] {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            if upstream.is_none() {
                upstream = Some(house.accept(0).await);
            }
            upstream.as_mut().unwrap().serve(json(status, body)).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.text()), (status, body));
            assert_eq!(house.outcome(), ("done".into(), status.to_string()));
        }
    });
}

#[test]
fn the_record_names_key_model_and_upstream_but_no_secret() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, &CHAT.replace("hi", "my secret prompt"))).await;
        house.accept(0).await.serve(json(200, "{}")).await;
        client.answer().await;
        let records = house.records();
        let [record] = records.as_slice() else { panic!("one record per request: {records:?}") };
        for (field, value) in [
            ("id", "t-1"),
            ("key", "key-1"),
            ("route", "/api/chat"),
            ("model", "demo:latest"),
            ("upstream", "http://up0:11434"),
            ("status", "200"),
            ("outcome", "done"),
        ] {
            assert_eq!(record[field], value);
        }
        let text = format!("{record:?}");
        assert!(!text.contains(&house.key[6..]) && !text.contains("secret prompt"), "{text}");
    });
}

#[test]
fn the_lowest_version_and_the_greeting_need_no_key() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        let probed = gate_policy::Observation::Probed { version: "0.9.1".into(), models: None, loaded: None };
        house.observe(1, probed);
        let version = client.ask("GET /api/version HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!((version.status, version.text()), (200, r#"{"version":"0.9.1"}"#));
        assert_eq!(version.names(), ["content-type", "x-request-id", "date", "content-length"]);
        client.send("HEAD / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((head.status, head.field("content-length")), (200, Some("17")));
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await.text(), "Ollama is running");
    });
}

#[test]
fn a_demand_for_credentials_or_a_redirection_is_the_gates_own_trouble() {
    run(async {
        for status in [301, 307, 401, 407] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let body = r#"{"error":"unauthorized","signin_url":"https://ollama.com/connect?key=canary"}"#;
            house.accept(0).await.serve(json(status, body)).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 502, "{status}");
            assert!(
                answer.text().contains("upstream_failed") && !answer.text().contains("canary"),
                "{}",
                answer.text()
            );
            assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
        }
    });
}
