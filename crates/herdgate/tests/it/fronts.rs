//! The gate behind the fronts that `herdgate deploy nginx` and `caddy` make, each on a machine of its own: a client, a front and
//! a gate in networks with links between them. What is printed is what runs, ports and names included; only the paths of
//! files are the test's.

use crate::harness::{Gate, Home, Networks, Running, front, now, testkit, until};
use gate_testkit::{Fault, Ollama, Order, Release, Setup};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const NAME: &str = "ollama.example.com";
const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
const CLIENT: &str = "10.81.1.2";
/// The front's address for clients, and the one that the gate sees.
const FRONT: [&str; 2] = ["10.81.1.1", "10.81.2.1"];
/// In clear, and in TLS.
const GATES: [&str; 2] = ["10.81.2.2:7860", "10.81.2.2:7861"];
const CHAT: &str = r#"{"model": "demo", "messages": [{"role": "user", "content": "hi"}]}"#;
/// Longer than a silence that must pass, and short enough to be waited for.
const IDLE: &str = "4s";
/// What the files say then: IDLE, `queue.max_wait` and half a minute.
const WAITS: &str = "35s";

const SETTINGS: &str = "[[listen]]\naddress = \"10.81.2.2:7860\"\ntls = false\n[[listen]]\naddress = \"10.81.2.2:7861\"\n\
    [tls]\nself_signed = true\n[server]\ntrusted_proxies = [\"10.81.2.1\"]\n[queue]\nmax_wait = \"1s\"\n[timeouts]\n";

/// Three machines.
struct Road {
    net: Networks,
    ollama: Ollama,
    home: Home,
    /// Bytes of a chat's answer up to the end of its third piece: Go shows nothing of a piece before it is whole, nor what came with it.
    begun: usize,
}

impl Road {
    #[track_caller]
    fn new(idle: &str) -> Option<Self> {
        let net = Networks::make(&["client", "front", "gate"])?;
        for (one, to, link) in [("client", CLIENT, 0), ("gate", "10.81.2.2", 1)] {
            net.ip(&format!("link add eth0 netns {one} type veth peer name eth{link} netns front"));
            net.ip(&format!("-n {one} addr add {to}/24 dev eth0"));
            net.ip(&format!("-n {one} link set eth0 up"));
            net.ip(&format!("-n front addr add {}/24 dev eth{link}", FRONT[link]));
            net.ip(&format!("-n front link set eth{link} up"));
        }
        let ollama = net.within("gate", || testkit(Setup::default()));
        let settings = format!("{SETTINGS}idle = \"{idle}\"\n");
        let home = Home::new().env("AUTH_TOKEN", TOKEN).through(&net.moves_into("gate")).settings(&settings);
        let begun = net.within("gate", || three_pieces(ollama.addr));
        Some(Self { net, ollama, home, begun })
    }

    #[track_caller]
    fn serve(&self) -> Gate<'_> {
        self.home.serve_as_set(&["--upstream", &self.ollama.url()])
    }

    /// What the command prints for a front that finds the gate there.
    #[track_caller]
    fn printed(&self, kind: &str, gate: &str, more: &[&str]) -> String {
        let words = ["deploy", kind, "--name", NAME, "--gate", gate, "--front", FRONT[1]];
        let made = self.home.run(&[&words, more].concat());
        assert_eq!(made.code, 0, "{}", made.err);
        // It is told that the gate trusts it already.
        assert!(!made.err.contains("trusted_proxies"), "{}", made.err);
        made.out
    }

    /// nginx with the file that is printed, after `change`; none where there is no nginx.
    #[track_caller]
    fn nginx(&self, gate: &str, change: impl Fn(String) -> String) -> Option<Front<'_>> {
        let program = front::find("nginx")?;
        let made = rcgen::generate_simple_self_signed([NAME.into()]).unwrap();
        let [cert, key] = ["front.pem", "front-key.pem"].map(|name| self.home.path(name));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let own = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        let text = change(self.printed("nginx", gate, &own));
        let running = front::nginx(&self.home, self.net.command("front", &program), &text);
        Some(self.front(running, cert))
    }

    /// Caddy, with certificates of an authority of its own.
    #[track_caller]
    fn caddy(&self, gate: &str, change: impl Fn(String) -> String) -> Option<Front<'_>> {
        let program = front::find("caddy")?;
        // What is copied there by the first of the commands that must follow.
        let roots = self.home.data("tls-ca.pem").display().to_string();
        let text = change(self.printed("caddy", gate, &[]).replace("/etc/herdgate/tls-ca.pem", &roots));
        let options = "\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n";
        let running = front::caddy_with(&self.home, self.net.command("front", &program), options, &text);
        Some(self.front(running, self.home.path("caddy-data/caddy/pki/authorities/local/root.crt")))
    }

    #[track_caller]
    fn front(&self, running: Running, authority: PathBuf) -> Front<'_> {
        let front = Front { road: self, authority, _running: running };
        until("the front to answer", || {
            let asked = front.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/healthz").output().unwrap();
            (asked.status.success() && !asked.stdout.ends_with(b"000")).then_some(())
        });
        front
    }
}

/// How many bytes of its own answer the test kit sends for three whole pieces.
fn three_pieces(kit: SocketAddr) -> usize {
    let mut wire = TcpStream::connect(kit).unwrap();
    let asked =
        format!("POST /api/chat HTTP/1.1\r\nHost: {kit}\r\nContent-Length: {}\r\n\r\n{CHAT}", CHAT.len());
    wire.write_all(asked.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        let mut piece = [0; 4096];
        let length = wire.read(&mut piece).unwrap();
        answer.extend_from_slice(&piece[..length]);
    }
    let text = String::from_utf8(answer).unwrap();
    // Each chunk is its size, a line of JSON and an empty line.
    let body = text.find("\r\n\r\n").unwrap() + 4;
    let ends: Vec<usize> =
        text[body..].match_indices("}\n\r\n").map(|(at, end)| body + at + end.len()).collect();
    ends[2]
}

/// A front that runs.
struct Front<'r> {
    road: &'r Road,
    /// Who vouches for its name.
    authority: PathBuf,
    _running: Running,
}

impl Front<'_> {
    /// curl on the client's machine, which believes nobody but that authority, and lies about where it is.
    fn curl(&self, words: &[&str], path: &str) -> Command {
        self.curl_with(TOKEN, words, path)
    }

    fn curl_with(&self, key: &str, words: &[&str], path: &str) -> Command {
        let mut curl = self.road.net.command("client", "curl");
        curl.args(["--noproxy", "*", "-sSN", "-m", "100", "--resolve", &format!("{NAME}:443:{}", FRONT[0])]);
        curl.arg("--cacert").arg(&self.authority).args(["-H", "X-Forwarded-For: 203.0.113.66"]);
        curl.args(["-H", &format!("Authorization: Bearer {key}")]).args(words);
        curl.arg(format!("https://{NAME}{path}"));
        curl
    }

    fn chat(&self) -> Command {
        self.curl(&["-w", "\ncode %{http_code}\n", "-d", CHAT], "/api/chat")
    }

    /// The whole of what a chat is answered, and its code.
    #[track_caller]
    fn answer(&self) -> String {
        // curl has patience of its own.
        let told = self.chat().output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8(told.stdout).unwrap()
    }
}

/// Pieces come as they are made: the first ones while the model has not gone on.
#[track_caller]
fn streams(front: &Front<'_>) {
    let held = Release::default();
    let fault = Fault::HoldAfter { bytes: front.road.begun, until: held.clone() };
    front.road.ollama.order(Order::once(fault).on("/api/chat"));
    let mut client = Running::start(&mut front.chat());
    client.prints("a first piece", |line| line.contains("\"done\":false"));
    assert!(!client.out().contains("\"done\":true"), "{}", client.out());
    held.now();
    assert!(client.ended().success(), "{}", client.err());
    assert!(
        client.out().contains("\"done\":true") && client.out().ends_with("code 200\n"),
        "{}",
        client.out()
    );
}

/// A model that is silent is waited for, and where that is too long the gate says so, in the dialect of the caller.
#[track_caller]
fn waits_longer_than_the_gate(front: &Front<'_>) {
    let ollama = &front.road.ollama;
    ollama.order(Order::once(silent(Some(Duration::from_secs(2)))).on("/api/chat"));
    let said = front.answer();
    assert!(said.contains("\"done\":true") && said.ends_with("code 200\n"), "{said}");
    ollama.order(Order::once(silent(None)).on("/api/chat"));
    let said = front.answer();
    assert!(said.contains("\"code\":\"upstream_timeout\"") && said.ends_with("code 504\n"), "{said}");
}

/// Not a byte for so long.
fn silent(pause: Option<Duration>) -> Fault {
    Fault::StallAfter { bytes: 0, pause }
}

/// Who leaves frees the model at once, not when the gate has waited long enough.
#[track_caller]
fn frees_the_upstream(front: &Front<'_>, gate: &Gate<'_>) {
    let ollama = &front.road.ollama;
    let before = gate.running.err().matches("\"outcome\":\"cancelled\"").count();
    let fault = Fault::StallAfter { bytes: front.road.begun, pause: None };
    ollama.order(Order::once(fault).on("/api/chat"));
    let client = Running::start(&mut front.chat());
    client.prints("a first piece", |line| line.contains("\"done\":false"));
    client.signal(Signal::TERM);
    now(ollama.until_left("/api/chat")).unwrap();
    until("the record", || {
        (gate.running.err().matches("\"outcome\":\"cancelled\"").count() > before).then_some(())
    });
}

/// What is sent up arrives as it is sent.
#[track_caller]
fn passes_uploads_on(front: &Front<'_>, key: &str) {
    const PART: usize = 1 << 20;
    let path = format!("/api/blobs/sha256:{}", "ab".repeat(32));
    let words = ["-w", "code %{http_code}\n", "-X", "POST", "-H", "Expect:", "-T", "-"];
    let mut command = front.curl_with(key, &words, &path);
    let (read, mut write) = std::io::pipe().unwrap();
    let mut client = Running::with_input(&mut command, Stdio::from(read));
    // curl's copy is its own; the command holds another.
    drop(command);
    let ollama = &front.road.ollama;
    let before = ollama.seen_on(&path).len();
    write.write_all(&vec![7; PART]).unwrap();
    until("what was sent so far", || {
        let seen = ollama.seen_on(&path);
        let seen = seen.get(before)?;
        assert!(!seen.complete);
        (seen.body.len() > PART / 2).then_some(())
    });
    write.write_all(&[7; 100]).unwrap();
    drop(write);
    assert!(client.ended().success(), "{}", client.err());
    assert_eq!(client.out(), "code 201\n");
    assert_eq!(ollama.seen_on(&path)[before].body.len(), PART + 100);
}

#[track_caller]
fn is_a_good_front(front: &Front<'_>, gate: &Gate<'_>, key: &str) {
    streams(front);
    waits_longer_than_the_gate(front);
    frees_the_upstream(front, gate);
    passes_uploads_on(front, key);
}

/// Records know the client, and neither the front nor what the client says of itself.
#[track_caller]
fn knows_the_client(gate: Gate<'_>) {
    let said = gate.end().err();
    let clients: Vec<&str> =
        said.split("\"client\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(clients.len() > 8 && clients.iter().all(|client| *client == CLIENT), "{clients:?}");
}

#[test]
fn nginx_as_it_is_made_passes_everything_on_as_it_comes() {
    let Some(road) = Road::new(IDLE) else { return };
    let key = road.home.key("boss", &["--scope", "infer,read,manage"]);
    let gate = road.serve();
    for at in GATES {
        let Some(front) = road.nginx(at, |text| text) else { return };
        is_a_good_front(&front, &gate, &key);
    }
    knows_the_client(gate);
}

#[test]
fn caddy_as_it_is_made_passes_everything_on_as_it_comes() {
    let Some(road) = Road::new(IDLE) else { return };
    let key = road.home.key("boss", &["--scope", "infer,read,manage"]);
    let gate = road.serve();
    for at in GATES {
        let Some(front) = road.caddy(at, |text| text) else { return };
        is_a_good_front(&front, &gate, &key);
    }
    knows_the_client(gate);
}

/// The waiting times of the files are those that count, and a gate that cannot be verified is not spoken to.
#[test]
fn a_front_that_is_told_otherwise_does_otherwise() {
    let Some(road) = Road::new(IDLE) else { return };
    let stranger = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let file = road.home.path("stranger.pem");
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    let _gate = road.serve();
    let own = road.home.data("tls-ca.pem").display().to_string();
    let impatient = |text: String| {
        assert!(text.contains(WAITS), "{text}");
        text.replace(WAITS, "1s")
    };
    let deceived = |text: String| {
        assert!(text.contains(&own), "{text}");
        text.replace(&own, &file.display().to_string())
    };
    let cut = |front: Option<Front<'_>>| {
        let Some(front) = front else { return };
        road.ollama.order(Order::once(silent(Some(Duration::from_secs(3)))).on("/api/chat"));
        let said = front.answer();
        assert!(said.ends_with("code 504\n") && !said.contains("upstream_timeout"), "{said}");
        now(road.ollama.until_left("/api/chat")).unwrap();
    };
    cut(road.nginx(GATES[0], impatient));
    cut(road.caddy(GATES[0], impatient));
    let refused = |front: Option<Front<'_>>| {
        let Some(front) = front else { return };
        let said = front.answer();
        assert!(said.ends_with("code 502\n"), "{said}");
    };
    refused(road.nginx(GATES[1], deceived));
    refused(road.caddy(GATES[1], deceived));
}

/// Fronts whose times nobody has set cut after a minute.
#[test]
#[ignore = "takes more than a minute"]
fn a_first_byte_after_more_than_a_minute_comes_through() {
    let Some(road) = Road::new("5m") else { return };
    let _gate = road.serve();
    let waits = |front: Option<Front<'_>>| {
        let Some(front) = front else { return };
        road.ollama.order(Order::once(silent(Some(Duration::from_secs(66)))).on("/api/chat"));
        let said = front.answer();
        assert!(said.contains("\"done\":true") && said.ends_with("code 200\n"), "{said}");
    };
    waits(road.nginx(GATES[0], |text| text));
    waits(road.caddy(GATES[1], |text| text));
}
