//! From start to end under load: settings that change while requests run, and an end that loses nobody.

use crate::harness::{Ask, Gate, Home, PATIENCE, Running, testkit, until};
use gate_testkit::{Fault, Ollama, Order, Setup};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
/// Tokens of one stream, and the pause before each: a stream takes a tenth of a second.
const TOKENS: usize = 20;
const PACE: Duration = Duration::from_millis(5);

fn home() -> Home {
    Home::new().env("AUTH_TOKEN", TOKEN)
}

fn slow_ollama() -> Ollama {
    testkit(Setup::default().with_tokens(TOKENS).with_pace(PACE))
}

fn chat() -> Ask {
    Ask::post("/api/chat", &json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]}))
        .key(TOKEN)
}

/// A client that keeps its connection for as long as the gate does, or makes a new one for each request.
struct Caller {
    to: SocketAddr,
    keeps: bool,
    wire: Option<BufReader<TcpStream>>,
}

impl Caller {
    fn new(to: SocketAddr, keeps: bool) -> Self {
        Self { to, keeps, wire: None }
    }

    fn connect(&mut self) -> io::Result<()> {
        if self.wire.is_none() {
            let wire = TcpStream::connect(self.to)?;
            wire.set_read_timeout(Some(PATIENCE))?;
            self.wire = Some(BufReader::new(wire));
        }
        Ok(())
    }

    /// One stream, whole, or what was wrong with it. The connection must be there.
    fn stream(&mut self) -> Result<(), String> {
        let mut wire = self.wire.take().ok_or("no connection")?;
        let (answer, stays) = exchange(&mut wire, self.to).map_err(|error| format!("cut: {error}"))?;
        let lines: Vec<Value> = answer
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
            .collect::<Result<_, _>>()?;
        let is_whole = lines.last().is_some_and(|last| last["done"] == true) && lines.len() > TOKENS;
        if !is_whole {
            return Err(format!("not whole: {answer}"));
        }
        if self.keeps && stays {
            self.wire = Some(wire);
        }
        Ok(())
    }
}

/// Sends a chat and reads its answer to the last chunk; also whether the connection stays.
fn exchange(wire: &mut BufReader<TcpStream>, to: SocketAddr) -> io::Result<(String, bool)> {
    let body = r#"{"model":"demo","messages":[{"role":"user","content":"x"}]}"#;
    let request = format!(
        "POST /api/chat HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if wire.read_line(&mut head)? == 0 {
            return Err(io::Error::other(format!("the connection ended in the head: {head:?}")));
        }
    }
    if !head.starts_with("HTTP/1.1 200 ") || !head.contains("Transfer-Encoding: chunked") {
        let mut rest = String::new();
        let _cut = wire
            .get_mut()
            .set_read_timeout(Some(Duration::from_millis(200)))
            .and_then(|()| wire.read_to_string(&mut rest));
        return Err(io::Error::other(format!("{head}{rest}")));
    }
    let mut answer = Vec::new();
    loop {
        let mut size = String::new();
        wire.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim_end(), 16)
            .map_err(|_| io::Error::other(format!("chunk size {size:?} after {answer:?}")))?;
        let from = answer.len();
        answer.resize(from + size + 2, 0);
        wire.read_exact(&mut answer[from..])?;
        answer.truncate(from + size);
        if size == 0 {
            break;
        }
    }
    let text = String::from_utf8(answer).map_err(io::Error::other)?;
    Ok((text, !head.contains("Connection: close")))
}

/// Clients that ask for streams, one after the other, until they are told to stop or nobody listens any more.
struct Load {
    stop: Arc<AtomicBool>,
    whole: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(to: SocketAddr, clients: usize) -> Self {
        let (stop, whole): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let client = |number: usize| {
            let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
            std::thread::spawn(move || {
                let mut caller = Caller::new(to, number.is_multiple_of(2));
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match caller.connect() {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
                        Err(error) => wrong.push(format!("connecting: {error}")),
                    }
                    match caller.stream() {
                        Ok(()) => drop(whole.fetch_add(1, Ordering::Relaxed)),
                        Err(what) => wrong.push(what),
                    }
                }
                wrong
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, whole, clients }
    }

    fn whole(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    /// Waits for so many more streams.
    #[track_caller]
    fn goes_on(&self, streams: usize) {
        let until_then = self.whole() + streams;
        until("the load to go on", || (self.whole() >= until_then).then_some(()));
    }

    /// Waits for all clients; nothing may have gone wrong for any of them.
    #[track_caller]
    fn end(self) -> usize {
        let wrong: Vec<String> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let whole = self.whole.load(Ordering::Relaxed);
        assert!(wrong.is_empty(), "{} of {} streams: {wrong:#?}", wrong.len(), whole + wrong.len());
        whole
    }

    #[track_caller]
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.end()
    }
}

/// Writes settings as an editor does: another file in the place of the old one.
fn replace(file: &Path, text: &str) {
    let other = file.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(other, file).unwrap();
}

fn reload(gate: &Gate<'_>, sign: &str) -> String {
    gate.running.signal(Signal::HUP);
    gate.running.says(sign, |line| line.contains(sign))
}

#[test]
fn a_hundred_reloads_under_load_drop_nothing() {
    let (first, second) = (slow_ollama(), slow_ollama());
    let home = home().settings(&format!("upstreams = [\"{}\"]\n", first.url()));
    let gate = home.serve(&[]);
    let load = Load::start(gate.address, 12);
    load.goes_on(12);
    let file = home.path("herdgate.toml");
    for round in 0..100 {
        let upstreams = match round % 4 {
            0 => format!("\"{}\", \"{}\"", first.url(), second.url()),
            1 => format!("\"{}\", \"{}\"", second.url(), first.url()),
            2 => format!("\"{}\"", second.url()),
            _ => format!("\"{}\"", first.url()),
        };
        let depth = 300 + round;
        let text = format!(
            "upstreams = [{upstreams}]\n[queue]\ndepth = {depth}\n[fleet]\nprobe_interval = \"1s\"\n"
        );
        if round % 2 == 0 {
            replace(&file, &text);
        } else {
            std::fs::write(&file, &text).unwrap();
        }
        reload(&gate, &format!("-> {depth}"));
        if round % 10 == 0 {
            load.goes_on(12);
        }
    }
    load.goes_on(24);
    let whole = load.stop();
    assert!(whole >= 150, "only {whole} streams ran meanwhile");
    let asked = |ollama: &Ollama| ollama.seen_on("/api/chat").len();
    assert!(asked(&second) > 10, "the second upstream had {} of {whole}", asked(&second));
    assert_eq!(asked(&first) + asked(&second), whole);
    let before = asked(&second);
    for _ in 0..20 {
        chat().send(gate.address).ok();
    }
    assert_eq!(asked(&second), before, "an upstream that was taken out is asked");
    gate.end();
}

#[test]
fn everybody_who_was_accepted_is_answered_at_the_end() {
    let ollama = slow_ollama();
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let load = Load::start(gate.address, 40);
    load.goes_on(80);
    let before = load.whole();
    gate.running.signal(Signal::TERM);
    let whole = load.end();
    assert!(whole > before, "nothing ran on");
    let status = gate.running.ended();
    assert_eq!(status.code(), Some(0), "{}", gate.running.err());
    assert_eq!(ollama.seen_on("/api/chat").len(), whole);
}

#[test]
fn what_outlives_the_grace_is_told_and_cut() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let home = home().settings("[server]\ngrace = \"1s\"\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let begun = chat().open(gate.address);
    let waits = {
        let ask = Ask::post("/api/generate", &json!({"model": "demo", "prompt": "x"})).key(TOKEN);
        let to = gate.address;
        std::thread::spawn(move || ask.send(to))
    };
    until("both to be under way", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    let signalled = Instant::now();
    gate.running.signal(Signal::TERM);
    let refused = waits.join().unwrap();
    assert!(signalled.elapsed() >= Duration::from_secs(1), "no grace: {:?}", signalled.elapsed());
    assert_eq!((refused.status, refused.field("connection")), (503, Some("close")), "{refused}");
    let cut = begun.rest();
    assert!(cut.cut.is_some(), "a stream that was cut looks whole: {cut}");
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(last.contains("\"error\""), "{cut}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
}

#[test]
fn a_second_signal_ends_it_at_once_and_says_so() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let begun = chat().open(gate.address);
    gate.running.signal(Signal::INT);
    let line = gate.running.says("that it drains", |line| line.contains("listening no more"));
    assert!(line.contains("Ctrl-C again ends it at once"), "{line}");
    let again = Instant::now();
    gate.running.signal(Signal::INT);
    let cut = begun.rest();
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(cut.cut.is_some() && last.contains("\"shutting_down\""), "{cut}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
    assert!(again.elapsed() < Duration::from_secs(10), "{:?}", again.elapsed());
}

#[test]
fn it_is_not_ready_while_it_ends() {
    let ollama = testkit(Setup::default());
    ollama.order(
        Order::always(Fault::StallAfter { bytes: 600, pause: Some(Duration::from_secs(2)) }).on("/api/chat"),
    );
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let ready = |wire: &mut BufReader<TcpStream>| {
        wire.get_mut().write_all(b"GET /readyz HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with("ready") {
            assert!(!wire.fill_buf().unwrap().is_empty(), "{answer}");
            let came = wire.fill_buf().unwrap().to_vec();
            wire.consume(came.len());
            answer.push_str(&String::from_utf8(came).unwrap());
        }
        answer
    };
    let mut kept = BufReader::new(TcpStream::connect(gate.address).unwrap());
    kept.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ready(&mut kept).starts_with("HTTP/1.1 200 "));
    let running = chat().open(gate.address);
    gate.running.signal(Signal::TERM);
    gate.running.says("that it drains", |line| line.contains("listening no more"));
    // Each core hears of it a moment later; until then the connection is kept.
    let answer = until("it to say so", || Some(ready(&mut kept)).filter(|answer| answer.contains(" 503 ")));
    assert!(answer.contains("Connection: close"), "{answer}");
    running.rest().ok();
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
}

#[test]
fn a_changed_file_is_read_by_itself_and_a_wrong_one_changes_nothing() {
    let ollama = testkit(Setup::default().with_models(&["demo", "other"]));
    let (old, new) = (testkit(Setup::default()), ollama);
    let home = home().settings(&format!("upstreams = [\"{}\"]\n", old.url()));
    let file = home.path("herdgate.toml");
    let gate = home.serve(&[]);
    let models = || {
        Ask::get("/api/tags").key(TOKEN).send(gate.address).json()["models"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(models(), 2);
    let names = || Ask::get("/api/tags").key(TOKEN).send(gate.address).text();
    assert!(!names().contains("other"));

    replace(&file, "upstreams = [\"gpu:x\"]\n[limits]\nhaed = 3\nbody = \"1PiB\"\n");
    let says = |sign: &str| gate.running.says(sign, |line| line.contains(sign));
    says("the old settings stay in force");
    for problem in ["herdgate.toml:1:14", "unknown setting \\\"haed\\\"", "herdgate.toml:4"] {
        assert!(gate.running.err().contains(problem), "{problem}: {}", gate.running.err());
    }
    assert!(!names().contains("other"));

    std::fs::write(
        &file,
        format!("upstreams = [\"{}\"]\n[server]\nthreads = 3\n[log]\nlevel = \"warn\"\n", new.url()),
    )
    .unwrap();
    until("the new upstream", || names().contains("other").then_some(()));
    says("server.threads \\\"auto\\\" -> 3 takes effect at the next start");
    chat().send(gate.address).ok();

    std::fs::remove_file(&file).unwrap();
    says("the settings file is gone");
    assert!(names().contains("other"));
    assert_eq!(Ask::get("/readyz").send(gate.address).text(), "ready");
    let said = gate.end().err();
    assert!(!said.contains("/api/chat"), "a record of a level that is not logged: {said}");
}

#[test]
fn limits_of_a_running_gate_follow_its_settings() {
    let ollama = testkit(Setup::default());
    let home = home();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let long =
        || Ask::get("/api/tags").key(TOKEN).field("X-Long", &"x".repeat(5000)).send(gate.address).status;
    assert_eq!(long(), 200);
    std::fs::write(home.path("herdgate.toml"), "[limits]\nhead = \"4KiB\"\n").unwrap();
    let line = reload(&gate, "limits.head");
    assert!(line.contains("32KiB") && line.contains("4KiB"), "{line}");
    assert_eq!(long(), 431);
    // A flag stands over the file, whatever is written there.
    std::fs::write(home.path("herdgate.toml"), "upstreams = [\"http://127.0.0.1:9\"]\n").unwrap();
    reload(&gate, "\\\"4KiB\\\" -> \\\"32KiB\\\"");
    assert_eq!(long(), 200);
    gate.end();
}

#[test]
fn another_token_takes_the_place_of_the_old_one() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let file = home.path("token");
    let tokens = ["canary-one-in-a-file-of-its-own", "canary-two-in-a-file-of-its-own"];
    std::fs::write(&file, tokens[0]).unwrap();
    let home = home.env("AUTH_TOKEN_FILE", &file);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let status = |token: &str| Ask::get("/api/tags").key(token).send(gate.address).status;
    assert_eq!(tokens.map(status), [200, 401]);
    std::fs::write(&file, tokens[1]).unwrap();
    reload(&gate, "AUTH_TOKEN is another");
    until("the other token", || (tokens.map(status) == [401, 200]).then_some(()));
    let said = gate.end().err();
    assert!(!said.contains("canary"), "{said}");
}

/// Waits for the next message to the service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told() {
    let ollama = testkit(Setup::default());
    let home = home();
    let socket = home.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let home = home.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mut alive = 0;
    let mut next = |wanted: &str| loop {
        let message = told(&manager);
        if message == "WATCHDOG=1\n" {
            alive += 1;
        } else {
            assert!(message.starts_with(wanted), "{wanted}: {message}");
            return (message, alive);
        }
    };
    next("READY=1\n");
    gate.running.signal(Signal::HUP);
    let (message, _) = next("RELOADING=1\n");
    assert!(message.contains("\nMONOTONIC_USEC="), "{message}");
    next("READY=1\n");
    std::fs::write(home.path("herdgate.toml"), "colour = true\n").unwrap();
    gate.running.signal(Signal::HUP);
    next("RELOADING=1\n");
    let (message, _) = next("READY=1\n");
    assert!(message.contains("STATUS=serving with old settings"), "{message}");
    until("signs of life", || (told(&manager) == "WATCHDOG=1\n").then_some(()));
    gate.running.signal(Signal::TERM);
    let (message, _) = next("STOPPING=1\n");
    assert!(message.contains("\nEXTEND_TIMEOUT_USEC="), "{message}");
    gate.end();
}

#[test]
fn a_socket_that_is_handed_over_outlives_the_gate() {
    let ollama = slow_ollama();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = home().settings("[listen]\naddress = \"127.0.0.1:1\"\n");
    let begin = || {
        // The socket is its standard input first, and the fourth descriptor of the program, as the protocol has it.
        let command = home.command(&["serve", "--upstream", &ollama.url()]);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap());
        }
        let running = Running::with_input(&mut shell, OwnedFd::from(listener.try_clone().unwrap()).into());
        let line = running.says("where it listens", |line| line.contains("listening on"));
        assert!(line.contains(&address.to_string()), "{line}");
        running
    };
    let mut first = begin();
    let load = Load::start(address, 8);
    load.goes_on(16);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0), "{}", first.err());
    // Who comes now waits for the next gate.
    let mut second = begin();
    load.goes_on(16);
    load.stop();
    second.signal(Signal::TERM);
    assert_eq!(second.ended().code(), Some(0), "{}", second.err());
}
