//! The same through proxies of others: one that gives up too early, and one that keeps words back until the answer is whole.

use super::{commands, doctor, slow};
use crate::harness::{Home, front};
use gate_testkit::{Fault, Order};
use std::time::Duration;

/// Situation 8: a proxy gives up before the model is loaded. Kept-back words are told of, too.
#[test]
fn a_proxy_that_gives_up_or_keeps_words_back() {
    let Some(nginx) = front::find("nginx") else { return };
    let ollama = slow(0);
    ollama.order(Order::always(Fault::SlowLoad(Duration::from_secs(2))).on("/api/generate"));
    let address = crate::harness::peer::free_port();
    let serve = |home: &Home, lines: &str| {
        let text =
            format!("server {{ listen {address}; location / {{ proxy_pass {};\n{lines} }} }}", ollama.url());
        let running = front::nginx(home, std::process::Command::new(&nginx), &text);
        front::listens(address);
        running
    };
    let url = format!("http://{address}");
    let home = Home::new();
    let cure = {
        let _running = serve(&home, "proxy_read_timeout 1s;");
        doctor(&home, &[&url]).cure("question", "a proxy (nginx")
    };
    let home = Home::new();
    let _running = serve(&home, &cure[0]);
    doctor(&home, &[&url]).is_sound();
}

/// A server that makes a word now and then and says when, as Ollama does; it ends with the test's process.
fn dated() -> std::net::SocketAddr {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |stream: std::net::TcpStream| -> std::io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(&stream);
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let mut out = &stream;
        out.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
        if !head.starts_with("POST") {
            let all = r#"{"version": "0.35.0", "models": [{"name": "demo:latest", "size": 1}]}"#;
            return out.write_all(all.as_bytes());
        }
        for word in 0..12 {
            std::thread::sleep(Duration::from_millis(40));
            let (now, done) = (jiff::Timestamp::now(), word == 11);
            writeln!(out, r#"{{"created_at": "{now}", "response": "x", "done": {done}}}"#)?;
        }
        Ok(())
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who asked may have left.
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    address
}

#[test]
fn words_that_a_proxy_keeps_back() {
    let Some(nginx) = front::find("nginx") else { return };
    let (server, home) = (dated(), Home::new());
    let serve = |lines: &str| {
        let address = crate::harness::peer::free_port();
        let text =
            format!("server {{ listen {address}; location / {{ proxy_pass http://{server};\n{lines} }} }}");
        let running = front::nginx(&home, std::process::Command::new(&nginx), &text);
        front::listens(address);
        (format!("http://{address}"), running)
    };
    let (url, _running) = serve("");
    let report = doctor(&home, &[&url]);
    report.is_sound();
    let kept = report.warns("question", "its words come all at once, though it made them over");
    let (url, _other) = serve(&commands(&kept["cure"])[0]);
    let report = doctor(&home, &[&url]);
    assert!(report.findings.iter().all(|finding| finding["check"] != "question" || finding["mark"] == "ok"));
}
