//! HTTP/2 with prior knowledge on the plain port, by curl, and by hand where curl cannot show it.

use crate::harness::{Home, leave_out, testkit, until};
use gate_testkit::{Fault, Order, Setup};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";

/// curl, where it speaks HTTP/2.
fn curl() -> Option<Command> {
    let version = Command::new("curl").arg("--version").output();
    let speaks = version.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains("HTTP2"));
    if !speaks {
        leave_out("there is no curl that speaks HTTP/2");
        return None;
    }
    let mut curl = Command::new("curl");
    curl.args(["--http2-prior-knowledge", "--noproxy", "*", "-sS", "-m", "60"]);
    curl.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
    Some(curl)
}

#[test]
fn chats_streams_and_errors_by_curl() {
    let Some(_) = curl() else { return };
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let ask = |path: &str, body: &Value| {
        let mut told = curl().unwrap();
        told.args(["-w", "\n%{http_version} %{http_code}", "-d", "@-"]).arg(format!("{}{path}", gate.url()));
        told.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut told = told.spawn().unwrap();
        let (mut stdin, body) = (told.stdin.take().unwrap(), body.to_string());
        let writing = std::thread::spawn(move || stdin.write_all(body.as_bytes()));
        let told = told.wait_with_output().unwrap();
        // One that was answered early takes no more of it.
        let _taken = writing.join().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let text = String::from_utf8(told.stdout).unwrap();
        let (text, end) = text.rsplit_once('\n').unwrap();
        (text.to_owned(), end.to_owned())
    };
    let chat = |stream: bool| json!({"model": "demo", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let (whole, end) = ask("/api/chat", &chat(false));
    assert_eq!(end, "2 200", "{whole}");
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let (streamed, end) = ask("/api/chat", &chat(true));
    assert_eq!(end, "2 200", "{streamed}");
    let lines: Vec<Value> = streamed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 1 && lines.last().unwrap()["done"] == true, "{streamed}");
    let content = |value: &Value| value["message"]["content"].as_str().unwrap_or_default().to_owned();
    assert_eq!(lines.iter().map(content).collect::<String>(), content(&whole));
    // Larger than curl sends without being asked (`Expect: 100-continue`), and than any first window.
    let long = json!({"model": "demo", "messages": [{"role": "user", "content": "x".repeat(3 << 20)}]});
    assert_eq!(ask("/v1/chat/completions", &long).1, "2 200");
    let (text, end) =
        ask("/v1/chat/completions", &json!({"model": "demo", "messages": "x".repeat(70 << 20)}));
    assert!(end == "2 413" && text.contains("body_too_large"), "{end}: {text}");
    let (text, end) = ask("/api/nothing", &json!({}));
    assert!(end == "2 404" && text.contains("unknown_route"), "{end}: {text}");
}

#[test]
fn a_curl_that_is_ended_stops_the_model() {
    let Some(mut curl) = curl() else { return };
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let body = json!({"model": "demo", "prompt": "x"}).to_string();
    curl.args(["-d", &body, &format!("{}/api/generate", gate.url())]).stdout(Stdio::null());
    let mut curl = curl.spawn().unwrap();
    until("the request", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    curl.kill().unwrap();
    curl.wait().unwrap();
    gate.running.says("that it was cancelled", |line| line.contains("cancelled") && line.contains("499"));
}

/// The value of a setting in the gate's first SETTINGS frame (RFC 9113, section 6.5).
fn setting(to: SocketAddr, wanted: u16) -> Option<u32> {
    let mut wire = TcpStream::connect(to).unwrap();
    wire.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    wire.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "a SETTINGS frame");
    let mut frame = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    wire.read_exact(&mut frame).unwrap();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let found = frame.chunks(6).find(|setting| number(&setting[..2]) == u32::from(wanted));
    found.map(|setting| number(&setting[2..]))
}

#[test]
fn the_number_of_requests_on_one_connection() {
    let ollama = testkit(Setup::default());
    for (settings, streams) in [("", 128), ("[limits]\nstreams = 7\n", 7)] {
        let home = Home::new().settings(settings);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        assert_eq!(setting(gate.address, 3), Some(streams), "MAX_CONCURRENT_STREAMS");
    }
}
