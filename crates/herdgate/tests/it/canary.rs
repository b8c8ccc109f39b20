//! Canaries: secrets that are sent in every place of a request, through every success and every error, with all logging on.
//! Afterwards they are looked for wherever something of a request could have stayed or leaked to.

use crate::harness::{Ask, Gate, Home, PATIENCE, now, testkit, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate_testkit::{BadFraming, Failure, Fault, Ollama, Order, Setup, Then};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

/// What clients send wherever nothing of it must stay: as prompt, cookie, header, query, path, wrong key.
const CANARY: &str = "cAnArY0wEr7Tz5uI9oPq2sDfGh4J";
/// What stands where the gate's answer may name it to its sender: names of models, of fields, of methods. Never logged either.
const NAME: &str = "nAmE8cAnArY3xV6bN1mQw9eRtZ5u";
/// The key from the environment.
const TOKEN: &str = "tOkEn-cAnArY-4Kj7Hg2Fd9Sa6Qw1Er8Tz";

/// Every secret, and the forms in which it could turn up.
struct Canaries {
    key: String,
    revoked: String,
}

impl Canaries {
    fn forms(&self) -> Vec<String> {
        // Of a key the first ten characters may be shown; what follows is the secret.
        let secrets = [CANARY, NAME, TOKEN, &self.key[10..], &self.revoked[10..]];
        let plain = secrets.iter().map(|secret| (*secret).to_owned());
        let coded = [CANARY, TOKEN, &self.key, &self.revoked].map(|secret| {
            let coded = STANDARD.encode(format!("user:{secret}"));
            coded.trim_end_matches('=')[8..].to_owned()
        });
        plain.chain(coded).map(|form| form.to_ascii_lowercase()).collect()
    }

    #[track_caller]
    fn none_in(&self, bytes: &[u8], place: &str) {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for form in self.forms() {
            if let Some(at) = text.find(&form) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                panic!("{place} holds {form}: {}", text[line..].lines().next().unwrap_or_default());
            }
        }
    }
}

/// Sends these bytes as they are and reads whatever comes until the end.
fn raw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    // Only so does the gate see that nothing more comes of a head that has no end.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ended = stream.read_to_end(&mut answer);
    answer
}

/// A request with the canary wherever nobody looks, and the key.
fn loaded(method: &str, path: &str, key: &str) -> Ask {
    Ask::new(method, path)
        .key(key)
        .field("Cookie", &format!("session={CANARY}"))
        .field("X-Secret", CANARY)
        .field("X-Forwarded-For", CANARY)
        .field("Proxy-Authorization", &format!("Basic {}", STANDARD.encode(format!("user:{CANARY}"))))
        .field("User-Agent", "canary/1")
        .field("Referer", &format!("http://{CANARY}/"))
        .field("Origin", &format!("http://{CANARY}.example"))
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": CANARY}], "prompt": CANARY, "input": CANARY, "max_tokens": 8})
}

fn json_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Bodies that are refused, and whether the canary in them is a name.
fn bad_bodies() -> Vec<Vec<u8>> {
    let text = |text: &str| text.replace('$', CANARY).replace('#', NAME).into_bytes();
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "$",
        "\u{feff}{\"model\":\"$\"}",
        "{\"model\":\"demo\",\"prompt\":\"$\"",
        "{\"model\":\"demo\",\"prompt\":\"$\"} $",
        "{\"model\":\"demo\",\"prompt\":\"$\\x\"}",
        "{\"model\":\"demo\",\"prompt\":\"$\n\"}",
        "{\"model\":\"demo\",\"#\":1,\"#\":2}",
        "{\"model\":\"demo\",\"MODEL\":\"$\"}",
        "{\"model\":\"demo\",\"Prompt\":\"$\"}",
        "{\"model\":\"demo\",\"options\":{\"#\":1,\"#\":2}}",
        "{\"model\":\"demo\",\"options\":\"$\"}",
        "{\"model\":\"demo\",\"stream\":\"$\"}",
        "{\"model\":[\"$\"]}",
        "{\"model\":\"#\",\"name\":\"$\"}",
        "{\"model\":\"#\"}",
        "{\"model\":\"$ $\"}",
        "{\"model\":\"sk-hg-#\"}",
        "{\"model\":\"#:cloud\"}",
        "{\"model\":\"registry.example/#/#:#\"}",
        "{\"prompt\":\"$\"}",
    ]
    .map(text)
    .to_vec();
    bodies.push([b"{\"model\":\"demo\",\"".as_slice(), b"\xff", CANARY.as_bytes(), b"\":1}"].concat());
    bodies.push(text(&format!(
        "{{\"model\":\"demo\",\"prompt\":{}\"$\"{}}}",
        "[".repeat(80),
        "]".repeat(80)
    )));
    bodies
}

/// Heads that have no reading, or none that is open.
fn bad_heads(key: &str) -> Vec<Vec<u8>> {
    let host = format!("Host: gate\r\nAuthorization: Bearer {key}\r\nCookie: a={CANARY}\r\n");
    [
        format!("GET /{CANARY} HTTP/1.1\r\n{host}\r\n"),
        format!("GET /{CANARY}/{NAME}?{CANARY} HTTP/1.1\r\n{host}\r\n"),
        format!("GET /api/tags?key={CANARY} HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/models/{NAME} HTTP/1.1\r\n{host}\r\n"),
        format!("GET /v1/models/{NAME}%2F{NAME} HTTP/1.1\r\n{host}\r\n"),
        format!("HEAD /api/blobs/{CANARY} HTTP/1.1\r\n{host}\r\n"),
        format!("{CANARY} /api/tags HTTP/1.1\r\n{host}\r\n"),
        format!("GET /api/tags HTTP/9.{CANARY}\r\n{host}\r\n"),
        format!("GET http://{CANARY}/api/tags HTTP/1.1\r\n{host}\r\n"),
        format!("GET http://user:{CANARY}@gate/api/tags HTTP/1.1\r\n{host}\r\n"),
        format!("CONNECT {CANARY}:443 HTTP/1.1\r\n{host}\r\n"),
        format!("GET /api/tags HTTP/1.1\r\nHost: {CANARY}@x\r\n\r\n"),
        format!("GET /api/tags HTTP/1.1\r\nHost: {CANARY}\r\nHost: {CANARY}\r\n\r\n"),
        format!("GET /api/tags HTTP/1.1\r\n{host}{CANARY} x: y\r\n\r\n"),
        format!("GET /api/tags HTTP/1.1\r\n{host}X: a\n{CANARY}\r\n\r\n"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Content-Length: {CANARY}\r\n\r\n"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Transfer-Encoding: {CANARY}\r\n\r\n"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Expect: {CANARY}\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Content-Encoding: {CANARY}\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2;{CANARY}\r\n{{}}\r\n0\r\n{CANARY}: x\r\n\r\n"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{CANARY}\r\n"),
        format!("POST /api/chat HTTP/1.1\r\n{host}Content-Length: 99\r\n\r\n{CANARY}"),
        format!("GET /api/tags HTTP/1.1\r\n{host}X: {}\r\n\r\n", CANARY.repeat(2000)),
        format!("GET /api/tags HTTP/1.1\r\n{host}X-Request-Id: sk-hg-{CANARY}\r\n\r\n"),
        CANARY.to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Credentials that open nothing.
fn bad_credentials(canaries: &Canaries) -> Vec<Ask> {
    let ask = || Ask::post("/api/chat", &chat("demo"));
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("user:{secret}")));
    vec![
        ask(),
        ask().key(CANARY),
        ask().key(&canaries.revoked),
        ask().field("x-api-key", CANARY),
        ask().field("x-api-key", &canaries.revoked),
        ask().field("Authorization", &basic(CANARY)),
        ask().field("Authorization", &basic(&canaries.revoked)),
        ask().field("Authorization", &format!("Basic {CANARY}")),
        ask().field("Authorization", &format!("Digest {CANARY}")),
        ask().field("Authorization", CANARY),
        ask().key(&canaries.key).field("x-api-key", CANARY),
        ask().key(&canaries.key).key(&canaries.key),
        ask().key("ollama").field("Cookie", CANARY),
    ]
}

fn faults() -> Vec<Fault> {
    let framings = BadFraming::ALL.map(Fault::Framing);
    let others = vec![
        Fault::CloseBeforeAnswer,
        Fault::CutAfter { bytes: 40, then: Then::Close },
        Fault::CutAfter { bytes: 400, then: Then::Reset },
        Fault::StallAfter { bytes: 0, pause: None },
        Fault::StallAfter { bytes: 300, pause: None },
        Fault::RunnerDies { tokens: 1 },
        Fault::GivesUp { tokens: 1 },
        Fault::Fail(Failure::NotFound),
        Fault::Fail(Failure::Busy),
        Fault::Fail(Failure::LoadCrashed),
        Fault::Play {
            bytes: format!("HTTP/1.1 200 OK\r\nX: {CANARY}\r\nContent-Length: {CANARY}\r\n\r\n").into_bytes(),
            cuts: gate_testkit::Cuts::Whole,
            then: Then::Close,
        },
        Fault::Play {
            bytes: format!("HTTP/1.1 500 {CANARY}\r\nX: {CANARY}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            cuts: gate_testkit::Cuts::Whole,
            then: Then::Close,
        },
        Fault::Play {
            bytes: format!("HTTP/1.1 302 Found\r\nLocation: http://x/{CANARY}\r\nContent-Length: 0\r\n\r\n")
                .into_bytes(),
            cuts: gate_testkit::Cuts::Whole,
            then: Then::Close,
        },
    ];
    framings.into_iter().chain(others).collect()
}

const FORWARDED: [&str; 8] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/show",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
];

/// What the gate itself answers, without the names that it may repeat to their sender.
#[track_caller]
fn check_told(canaries: &Canaries, answer: &[u8], place: &str) {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase().replace(&NAME.to_ascii_lowercase(), "");
    canaries.none_in(text.as_bytes(), place);
}

fn successes(gate: &Gate<'_>, ollama: &Ollama, canaries: &Canaries) {
    for key in [canaries.key.as_str(), TOKEN] {
        for path in FORWARDED {
            for stream in [true, false] {
                let mut body = chat(if path.contains("embed") { "embedder" } else { "demo" });
                body["stream"] = stream.into();
                let answer = loaded("POST", &format!("{path}?q={CANARY}"), key)
                    .bytes(json_of(&body))
                    .send(gate.address);
                assert!(answer.status == 200 && answer.cut.is_none(), "{path}: {answer}");
            }
        }
        for path in ["/", "/api/version", "/api/tags", "/api/ps", "/v1/models", "/v1/models/demo"] {
            loaded("GET", path, key).send(gate.address).ok();
        }
    }
    for seen in ollama.seen() {
        let head = String::from_utf8_lossy(&seen.head).into_owned();
        canaries.none_in(head.as_bytes(), "the head of a request to the upstream");
    }
}

fn refusals(gate: &Gate<'_>, canaries: &Canaries) {
    for path in FORWARDED {
        for body in bad_bodies() {
            let answer = loaded("POST", path, &canaries.key).bytes(body.clone()).send(gate.address);
            if answer.status >= 400 {
                let shown = body.escape_ascii();
                check_told(canaries, answer.to_string().as_bytes(), &format!("the answer to {path} {shown}"));
            }
        }
    }
    for head in bad_heads(&canaries.key) {
        check_told(canaries, &raw(gate.address, &head), &format!("the answer to {}", head.escape_ascii()));
    }
    for ask in bad_credentials(canaries) {
        let answer = ask.send(gate.address);
        assert!((400..500).contains(&answer.status), "{ask:?}: {answer}");
        check_told(canaries, answer.to_string().as_bytes(), "a refusal");
    }
}

fn failures(gate: &Gate<'_>, ollama: &Ollama, canaries: &Canaries) {
    for fault in faults() {
        for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
            ollama.order(Order::always(fault.clone()).on(path));
            let mut body = chat("demo");
            body["stream"] = true.into();
            let sent = loaded("POST", path, &canaries.key).bytes(json_of(&body)).try_open(gate.address);
            if let Ok(stream) = sent {
                let answer = stream.rest();
                check_told(canaries, answer.to_string().as_bytes(), &format!("the answer after {fault:?}"));
            }
            ollama.clear_orders();
        }
    }
    // A client that leaves: before the first byte, and in mid-upload.
    ollama.order(Order::once(Fault::StallAfter { bytes: 0, pause: None }).on("/api/chat"));
    let ask = loaded("POST", "/api/chat", &canaries.key).bytes(json_of(&chat("demo")));
    drop(std::thread::spawn({
        let address = gate.address;
        move || ask.try_open(address).map(drop)
    }));
    now(ollama.until(|seen| seen.iter().filter(|seen| seen.target() == "/api/chat").count() > 1)).unwrap();
    ollama.clear_orders();
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn no_secret_is_found_anywhere() {
    let ollama = testkit(Setup::default().with_tokens(3));
    let settings = "[timeouts]\nidle = \"1s\"\nhead = \"2s\"\n";
    let home = Home::new().env("AUTH_TOKEN", TOKEN).env("HERDGATE_LOG", "trace").settings(settings);
    let scopes = ["--scope", "infer,embed,read,manage"];
    let canaries = Canaries { key: home.key("canary", &scopes), revoked: home.key("revoked", &scopes) };
    assert_eq!(home.run(&["key", "revoke", "revoked"]).code, 0);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    gate.takes(&canaries.key);
    successes(&gate, &ollama, &canaries);
    refusals(&gate, &canaries);
    failures(&gate, &ollama, &canaries);

    let metrics = || Ask::get("/metrics").key(&canaries.key).send(gate.address).ok().text();
    until("counts of everything", || metrics().contains("upstream_failed").then_some(()));
    canaries.none_in(metrics().as_bytes(), "/metrics");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.running.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");

    let ended = gate.end();
    assert!(ended.err().contains("\"DEBUG\""), "more than usual is logged");
    canaries.none_in(ended.err().as_bytes(), "the log");
    canaries.none_in(ended.out().as_bytes(), "standard output");
    for command in [&["key", "list", "--json"][..], &["key", "show", "canary", "--json"], &["config", "show"]]
    {
        let told = home.run(command);
        canaries.none_in(format!("{}{}", told.out, told.err).as_bytes(), &command.join(" "));
    }
    for file in files(&home.path("")) {
        canaries.none_in(&std::fs::read(&file).unwrap(), &file.display().to_string());
    }
}
