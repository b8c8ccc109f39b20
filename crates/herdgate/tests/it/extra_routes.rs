//! `[[route]]`: what an upstream speaks beside Ollama's API. With a WebSocket client and server that are somebody else's.

use crate::harness::load::TOKEN;
use crate::harness::{Ask, Gate, Home, PATIENCE, testkit, until};
use gate_testkit::Setup;
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// How one WebSocket ended at its server.
type End = Result<u64, tungstenite::Error>;

/// A server of WebSockets that says back what it is told, with its one connection after the other.
struct Echo {
    address: SocketAddr,
    opened: Receiver<HeaderMap>,
    ended: Receiver<End>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (opens, opened) = sync_channel(8);
        let (ends, ended) = sync_channel(8);
        // Ends with the test's process: it waits for connections that may never come.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (opens, ends) = (opens.clone(), ends.clone());
                std::thread::spawn(move || {
                    let mut sent = HeaderMap::new();
                    #[expect(clippy::result_large_err, reason = "the library's own type")]
                    let look = |request: &tungstenite::handshake::server::Request, answer| {
                        sent.clone_from(request.headers());
                        Ok(answer)
                    };
                    // The gate's own probes are no WebSockets.
                    let Ok(socket) = tungstenite::accept_hdr(stream, look) else { return };
                    opens.send(sent).unwrap_or_default();
                    ends.send(echo(socket)).unwrap_or_default();
                });
            }
        });
        Self { address, opened, ended }
    }

    /// How the next one ended, and that it did within this time.
    #[track_caller]
    fn ended_within(&self, limit: Duration) -> End {
        self.ended
            .recv_timeout(limit)
            .unwrap_or_else(|_| panic!("the server's WebSocket did not end within {limit:?}"))
    }
}

/// Says back what comes until the end; how many messages that were.
fn echo(mut socket: WebSocket<TcpStream>) -> End {
    let mut count = 0;
    loop {
        match socket.read() {
            Ok(Message::Text(text)) if text.as_str() == "leave" => {
                drop(socket);
                return Ok(count);
            }
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                socket.send(message)?;
                count += 1;
            }
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}

/// A home whose gate leads `/live/{rest}` to the echo.
fn home(echo: &Echo, more: &str) -> Home {
    Home::new().settings(&format!(
        "{more}\n[[upstream]]\nurl = \"http://{}\"\nname = \"voice\"\n\
         [[route]]\npath = \"/live/{{rest}}\"\nclass = \"infer\"\nupstream = \"voice\"\nupgrade = true\n",
        echo.address
    ))
}

type Client = WebSocket<TcpStream>;

/// Opens one with these fields.
fn open(gate: &Gate<'_>, fields: &[(&'static str, &str)]) -> Result<Client, (u16, String)> {
    let mut request = format!("ws://{}/live/echo?x=1", gate.address).into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(gate.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, answer)) => {
            assert_eq!(answer.status(), 101);
            Ok(socket)
        }
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err((
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned(),
        )),
        Err(error) => panic!("{error}"),
    }
}

fn with_key(gate: &Gate<'_>, key: &str) -> Client {
    open(gate, &[("authorization", &format!("Bearer {key}"))]).unwrap()
}

/// Says something and hears it.
#[track_caller]
fn talks(client: &mut Client, text: &str) {
    client.send(Message::text(text)).unwrap();
    assert_eq!(client.read().unwrap(), Message::text(text));
}

/// Waits in a thread until it is cut; when that was.
fn cut(mut client: Client) -> JoinHandle<Instant> {
    std::thread::spawn(move || {
        let told = client.read();
        assert!(told.is_err(), "{told:?}");
        Instant::now()
    })
}

#[test]
fn a_server_that_is_no_ollama_is_up_while_it_is_there() {
    let (ollama, echo) = (testkit(Setup::default()), Echo::start());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let settings = |is_ollama: &str, at: SocketAddr| {
        format!(
            "fleet.probe_interval = \"1s\"\n[[upstream]]\nurl = \"{}\"\n[[upstream]]\nurl = \"http://{at}\"\nname = \"voice\"\n\
             {is_ollama}[[route]]\npath = \"/live/{{rest}}\"\nclass = \"infer\"\nupstream = \"voice\"\nupgrade = true\n",
            ollama.url()
        )
    };
    let home = home.settings(&settings("ollama = false\n", echo.address));
    let gate = home.serve(&[]);
    let line = gate.running.says("what it is", |line| line.starts_with("  upstream      voice "));
    assert!(line.ends_with("answers; its routes lead there, and nothing else"), "{line}");
    let ready = || Ask::get("/readyz").send(gate.address).text().to_owned();
    until("all to be there", || (ready() == "ready").then_some(()));
    let body = serde_json::json!({"model": "nobody-has-it", "prompt": "x"});
    for _ in 0..4 {
        let answer = Ask::post("/api/generate", &body).key(TOKEN).send(gate.address);
        assert!(answer.status == 404 && answer.text().contains("nobody-has-it"), "{answer}");
    }
    // Nobody is there: that is told, and takes nothing from the others.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(home.path("herdgate.toml"), settings("ollama = false\n", nobody)).unwrap();
    until("its absence to be seen", || (ready() == "degraded").then_some(()));
    Ask::get("/api/tags").key(TOKEN).send(gate.address).ok();
    gate.end();
}

#[test]
fn ten_thousand_messages_are_said_back() {
    const COUNT: u32 = 10_000;
    let echo = Echo::start();
    let home = home(&echo, "");
    let gate = home.begin(&[]);
    let key = gate.first_key();
    let mut client = with_key(&gate, &key);
    let sent = echo.opened.recv_timeout(PATIENCE).unwrap();
    assert!(!sent.contains_key("authorization") && !format!("{sent:?}").contains(&key), "{sent:?}");
    for number in 0..COUNT {
        let size = (number as usize * 7919) % 5000;
        let message = match number % 2 {
            0 => Message::text(format!("{number} {}", "ä".repeat(size / 2))),
            _ => Message::binary(vec![number as u8; size]),
        };
        client.send(message.clone()).unwrap();
        assert_eq!(client.read().unwrap(), message, "message {number}");
    }
    // One larger than any buffer, and then the closing handshake.
    let large = Message::binary(vec![7; 5 << 20]);
    client.send(large.clone()).unwrap();
    assert!(client.read().unwrap() == large, "a large message came back otherwise");
    client.close(None).unwrap();
    while client.read().is_ok() {}
    assert_eq!(echo.ended_within(PATIENCE).unwrap(), u64::from(COUNT) + 1);
    gate.running.says("its record", |line| {
        line.contains("\"route\":\"/live/{rest}\"")
            && line.contains("\"status\":101")
            && line.contains("\"outcome\":\"done\"")
    });
    let told = gate.end();
    assert!(!told.err().contains("x=1"), "the address is the client's own");
}

#[test]
fn a_revoked_key_cuts_its_websockets_within_a_second() {
    let echo = Echo::start();
    let home = home(&echo, "");
    let gate = home.begin(&[]);
    let doomed = home.key("doomed", &[]);
    let mut mine = with_key(&gate, &gate.first_key());
    let mut theirs = with_key(&gate, &doomed);
    talks(&mut mine, "a");
    talks(&mut theirs, "b");
    let cut = cut(theirs);
    let begun = Instant::now();
    assert_eq!(home.run(&["key", "revoke", "doomed"]).code, 0);
    let revoked = Instant::now();
    assert!(echo.ended_within(Duration::from_secs(5)).is_err(), "no closing handshake");
    let at = cut.join().unwrap();
    let took = at.saturating_duration_since(revoked);
    assert!(at >= begun && took < Duration::from_secs(1), "cut after {took:?}");
    talks(&mut mine, "still here");
    gate.running.says("its record", |line| {
        line.contains("\"outcome\":\"revoked\"") && line.contains("\"status\":101")
    });
}

#[test]
fn who_hangs_up_ends_the_other_side() {
    let echo = Echo::start();
    let home = home(&echo, "");
    let gate = home.begin(&[]);
    let key = gate.first_key();
    let mut client = with_key(&gate, &key);
    talks(&mut client, "a");
    drop(client);
    assert!(echo.ended_within(PATIENCE).is_err(), "the client left without a word");
    let mut client = with_key(&gate, &key);
    client.send(Message::text("leave")).unwrap();
    assert_eq!(echo.ended_within(PATIENCE).unwrap(), 0);
    assert!(client.read().is_err());
}

#[test]
fn wrong_keys_and_foreign_pages_open_none() {
    let echo = Echo::start();
    let home = home(&echo, "[cors]\norigins = [\"https://app.example\"]\n");
    let gate = home.begin(&[]);
    let key = format!("Bearer {}", gate.first_key());
    let refused = |fields: &[(&'static str, &str)]| open(&gate, fields).err().unwrap();
    assert_eq!(refused(&[("authorization", "Bearer sk-hg-wrong")]).0, 401);
    assert_eq!(refused(&[("sec-websocket-protocol", "openai-insecure-api-key.sk-hg-wrong")]).0, 401);
    assert_eq!(refused(&[]).0, 401);
    assert_eq!(refused(&[("authorization", &key), ("origin", "https://evil.example")]).0, 403);
    assert_eq!(refused(&[("authorization", &key), ("origin", "null")]).0, 403);
    let other = home.key("embeds", &["--scope", "embed"]);
    gate.takes(&other);
    assert_eq!(refused(&[("authorization", &format!("Bearer {other}"))]).0, 403);
    for origin in ["https://app.example".to_owned(), format!("http://{}", gate.address)] {
        talks(&mut open(&gate, &[("authorization", &key), ("origin", &origin)]).unwrap(), "a");
    }
    assert_eq!(echo.opened.try_iter().count(), 2, "the refused ones never reached the server");
}

#[test]
fn a_websocket_may_go_on_for_the_grace_and_is_cut_then() {
    let echo = Echo::start();
    let home = home(&echo, "[server]\ngrace = \"2s\"\n");
    let mut gate = home.begin(&[]);
    let mut client = with_key(&gate, &gate.first_key());
    talks(&mut client, "a");
    gate.running.signal(Signal::TERM);
    gate.running.says("that it ends", |line| line.contains("what runs has"));
    talks(&mut client, "while it ends");
    let begun = Instant::now();
    assert!(client.read().is_err(), "cut");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(gate.running.ended().success());
}

#[test]
fn settings_read_anew_open_and_close_routes() {
    let echo = Echo::start();
    let home = home(&echo, "");
    let gate = home.begin(&[]);
    let mut before = with_key(&gate, &gate.first_key());
    talks(&mut before, "a");
    let text = std::fs::read_to_string(home.path("herdgate.toml")).unwrap();
    std::fs::write(home.path("herdgate.toml"), text.replace("/live/", "/spoken/")).unwrap();
    gate.running.signal(Signal::HUP);
    gate.running.says("that they are other routes", |line| line.contains("route is another"));
    until("the route to be gone", || (gate.ask(Ask::get("/live/echo")).status == 404).then_some(()));
    talks(&mut before, "what was open goes on");
    // The echo speaks nothing but WebSockets, and says so by hanging up.
    assert_ne!(gate.ask(Ask::get("/spoken/echo")).status, 404);
}
