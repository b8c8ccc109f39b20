//! The same through proxies of others: one that gives up too early, and one that keeps words back until the answer is whole.

use super::{commands, doctor, slow};
use crate::harness::{Home, Running, front};
use gate_testkit::{Fault, Order};
use std::time::Duration;

/// A proxy gives up before the model is loaded. Kept-back words are told of, too.
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

/// A server that makes a word now and then and says when, as Ollama does, by a clock that no slow machine holds up; it ends with the
/// test's process. After the fourth word it may rest.
fn dated(pace: Duration, rest: Duration) -> std::net::SocketAddr {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = move |stream: std::net::TcpStream| -> std::io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(&stream);
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let mut out = &stream;
        out.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
        if !head.starts_with("POST") {
            let all = r#"{"version": "0.35.0", "models": [{"name": "demo:latest", "size": 1}]}"#;
            return out.write_all(all.as_bytes());
        }
        let mut now = jiff::Timestamp::now();
        for word in 0..12 {
            let pause = if word == 4 { rest } else { pace };
            std::thread::sleep(pause);
            now += pause;
            let done = word == 11;
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

fn passing_on(home: &Home, nginx: &str, server: std::net::SocketAddr, lines: &str) -> (String, Running) {
    let address = crate::harness::peer::free_port();
    let text =
        format!("server {{ listen {address}; location / {{ proxy_pass http://{server};\n{lines} }} }}");
    let running = front::nginx(home, std::process::Command::new(nginx), &text);
    front::listens(address);
    (format!("http://{address}"), running)
}

/// An everyday answer shows nothing for longer than programs wait. A faster one is only worth a look.
#[test]
fn words_that_a_proxy_keeps_back() {
    let Some(nginx) = front::find("nginx") else { return };
    let home = Home::new();
    let seen = "its words come all at once, though it made them over";
    let (fast, slow) = (Duration::from_millis(40), Duration::from_millis(150));
    let server = dated(slow, slow);
    let (url, _running) = passing_on(&home, &nginx, server, "proxy_buffering on;");
    let cure = doctor(&home, &[&url]).cure("question", seen);
    let (url, _other) = passing_on(&home, &nginx, server, &cure[0]);
    let report = doctor(&home, &[&url]);
    report.is_sound();
    report.is_well("question");
    let server = dated(fast, fast);
    let (url, _running) = passing_on(&home, &nginx, server, "");
    let report = doctor(&home, &[&url]);
    report.is_sound();
    let kept = commands(&report.warns("question", seen)["cure"]);
    let (url, _other) = passing_on(&home, &nginx, server, &kept[0]);
    doctor(&home, &[&url]).is_well("question");
}

/// A proxy that bears no silence in the middle of an answer.
#[test]
fn a_proxy_that_cuts_an_answer_in_its_middle() {
    let Some(nginx) = front::find("nginx") else { return };
    let home = Home::new();
    let server = dated(Duration::from_millis(20), Duration::from_secs(4));
    let (url, _running) = passing_on(&home, &nginx, server, "proxy_buffering off;\nproxy_read_timeout 3s;");
    let report = doctor(&home, &[&url]);
    let cure = report.cure("question", "the answer breaks off after ");
    let (url, _other) = passing_on(&home, &nginx, server, &cure[0]);
    let report = doctor(&home, &[&url]);
    report.is_sound();
    let told = format!("{:?}", report.findings);
    assert!(told.contains(" of silence pass, longer ones were not seen"), "{told}");
}

/// What takes longer than anybody has is told as what was measured, and no further.
#[test]
fn a_model_that_takes_longer_than_the_look() {
    let (home, ollama) = (Home::new(), slow(0));
    ollama.order(Order::once(Fault::SlowLoad(Duration::from_secs(20))).on("/api/generate"));
    let report = doctor(&home, &[&ollama.url(), "--wait", "1"]);
    report.is_sound();
    let finding = report.warns("question", "nothing was said within ");
    assert!(finding["why"].as_str().unwrap().contains("gives up at 60 s cannot be seen"), "{finding}");
    let cure = commands(&finding["cure"]);
    ollama.clear_orders();
    super::follow(&home, &cure[0]).is_well("question");
}

/// A server that says a letter now and then, and never a whole line.
#[test]
fn a_server_that_drips() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let drip = |mut stream: std::net::TcpStream| {
        // Who answers before it was asked speaks no HTTP.
        if !std::io::Read::read(&mut stream, &mut [0; 64]).is_ok_and(|length| length > 0) {
            return;
        }
        let mut next: &[u8] = b"HTTP/1.1 200 OK\r\nX-Slow: ";
        // Who asked leaves at some time.
        while stream.write_all(next).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            next = b".";
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drip(stream));
        }
    });
    doctor(&Home::new(), &[&url]).first("answer", "it takes connections, and does not answer within 5 s");
}
