//! Clients that hold on to the gate and ask nothing, send hardly anything or read hardly anything: others do not notice, and
//! memory does not grow with them. How little others notice is measured by `cargo xtask siege`.

use crate::harness::{Ask, Home, testkit, until};
use gate_testkit::{Cuts, Fault, Order, Setup, Then};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
const SLOW: usize = 30;
const IDLE: usize = 300;
/// Of an answer that nobody reads: far more than the sockets between hold.
const LINES: usize = 3000;

/// An answer of 3 MB, whole and well ended.
fn long_answer() -> (Vec<u8>, usize) {
    let line = format!("{{\"model\":\"demo\",\"response\":\"{}\",\"done\":false}}\n", "x".repeat(1000));
    let last = "{\"model\":\"demo\",\"response\":\"\",\"done\":true,\"done_reason\":\"stop\"}\n";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    for line in std::iter::repeat_n(line.as_str(), LINES).chain([last]) {
        bytes.extend_from_slice(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let body = bytes.len() - head.len();
    (bytes, body)
}

/// Kilobytes that the process holds.
fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A connection for which the system holds as little as it can be told to.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn those_who_hold_on_to_the_gate_take_nothing_from_others() {
    let ollama = testkit(Setup::default());
    let (bytes, body) = long_answer();
    ollama.order(
        Order::always(Fault::Play { bytes, cuts: Cuts::Whole, then: Then::KeepOpen }).on("/api/generate"),
    );
    let home =
        Home::new().env("AUTH_TOKEN", TOKEN).settings("[timeouts]\nhead = \"2s\"\n[server]\nthreads = 1\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let chat = || {
        let ask = json!({"model": "demo", "stream": false, "messages": [{"role": "user", "content": "hi"}]});
        let answer = Ask::post("/api/chat", &ask).key(TOKEN).send(gate.address);
        assert_eq!(answer.status, 200, "{answer}");
    };
    chat();
    let before = resident(gate.running.pid());

    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| {
            let mut stream = TcpStream::connect(gate.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
            let mut came = [0; 512];
            let read = stream.read(&mut came).unwrap();
            assert!(came[..read].starts_with(b"HTTP/1.1 200"));
            stream
        })
        .collect();
    let ask = json!({"model": "demo", "prompt": "x"}).to_string();
    let request = format!(
        "POST /api/generate HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{ask}",
        ask.len()
    );
    let mut readers: Vec<TcpStream> = (0..SLOW)
        .map(|_| {
            let mut stream = narrow(gate.address);
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 15]).unwrap();
            stream
        })
        .collect();
    let heads: Vec<TcpStream> = (0..SLOW).map(|_| TcpStream::connect(gate.address).unwrap()).collect();
    let mut drip = b"POST /api/chat HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
    until("slow heads to be given up", || {
        chat();
        let byte = drip.next().unwrap();
        for mut head in &heads {
            // Those that are closed take no more.
            let _taken = head.write(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(50));
        heads.iter().all(|head| !is_open(head)).then_some(())
    });
    assert!(idle.iter().all(is_open), "those who rest are let be");
    let grown = resident(gate.running.pid()).saturating_sub(before);
    assert!(
        grown < 20_000,
        "{grown} kB for {IDLE} idle clients and {SLOW} who do not read {} kB each",
        body / 1000
    );
    // Who reads after all gets everything.
    let mut reader = readers.pop().unwrap();
    drop(readers);
    reader.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n0\r\n\r\n") {
        let mut piece = [0; 65536];
        let read = reader.read(&mut piece).unwrap();
        assert!(read > 0, "the answer ended after {} bytes", came.len());
        came.extend_from_slice(&piece[..read]);
    }
    let head = came.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(came.len() - head, body);
    let told = |outcome: &str| {
        let said = gate.running.err();
        said.lines().filter(|line| line.contains("/api/generate") && line.contains(outcome)).count()
    };
    until("the record of every stream", || (told("cancelled") + told("done") >= SLOW).then_some(()));
    assert_eq!((told("\"done\""), told("\"cancelled\"")), (1, SLOW - 1));
}
