//! Certificates of a public authority: had, kept, renewed under load; an authority that is away, that finds another machine,
//! that is asked by a gate which is killed.

use crate::harness::home::mode;
use crate::harness::pebble::{Pebble, is_installed};
use crate::harness::running::send;
use crate::harness::{Gate, Home, testkit, until};
use gate_testkit::{Ollama, Setup};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
/// Faults that every authority here is started with.
const FAULTS: [(&str, &str); 2] = [("PEBBLE_WFE_NONCEREJECT", "15"), ("PEBBLE_VA_SLEEPTIME", "1")];

/// A client that trusts what this authority vouches for, and nothing else.
#[derive(Clone)]
struct Client(Arc<ClientConfig>);

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    fn of(pebble: &Pebble) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pebble.root().as_bytes()).unwrap()).unwrap();
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        // Each connection shows what is in force now.
        config.resumption = rustls::client::Resumption::disabled();
        Self(Arc::new(config))
    }

    fn connect(&self, to: SocketAddr, name: &str) -> Result<Stream, String> {
        let socket = TcpStream::connect(to).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(stream)
    }

    /// The certificate that is shown for `name`.
    fn shown(&self, to: SocketAddr, name: &str) -> Result<Vec<u8>, String> {
        let stream = self.connect(to, name)?;
        Ok(stream.conn.peer_certificates().unwrap()[0].to_vec())
    }

    fn ask(stream: &mut Stream, path: &str, connection: &str) -> Result<String, String> {
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: {connection}\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).map_err(|error| error.to_string())?;
        let mut told = vec![0; 4096];
        let length = stream.read(&mut told).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&told[..length]).into_owned())
    }
}

fn serve<'h>(home: &'h Home, pebble: &Pebble, ollama: &Ollama) -> Gate<'h> {
    home.begin_at(&pebble.gate().to_string(), &["--upstream", &ollama.url()])
}

/// The first account and certificate from an authority that is not there yet; then a start without it.
#[test]
fn an_authority_that_is_away_is_asked_again_and_a_later_start_needs_none() {
    if !is_installed() {
        return;
    }
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let mut pebble = Pebble::prepare(&home, 0, 90 * 24 * 3600);
    let home = home.settings(&pebble.settings("[\"ollama.test\", \"www.ollama.test\"]"));
    let ollama = testkit(Setup::default());
    let gate = serve(&home, &pebble, &ollama);
    gate.running.says("that there is none yet", |line| {
        line.contains("certificate   none yet for ollama.test, www.ollama.test")
    });
    gate.running.says("whose terms are agreed to", |line| line.contains("agrees to its terms of service"));
    let said = gate.running.says("that nobody answers", |line| line.contains("no new certificate"));
    assert!(said.contains("cannot connect to") && said.contains("tried again in"), "{said}");
    let nobody = Client::trusting(RootCertStore::empty());
    let refused = nobody.shown(gate.address, "ollama.test").unwrap_err();
    assert!(refused.contains("AccessDenied"), "{refused}");

    // What is given counts, even where it cannot be stored.
    let in_the_way = home.data("acme-certificate.pem");
    std::fs::create_dir(&in_the_way).unwrap();
    pebble.start(&FAULTS);
    gate.running.says("that there is one", |line| line.contains("a certificate for ollama.test"));
    let client = Client::of(&pebble);
    let first = client.shown(gate.address, "ollama.test").unwrap();
    gate.running.says("that it is not stored", |line| line.contains("is in force and cannot be stored"));
    std::fs::remove_dir(&in_the_way).unwrap();
    gate.running.says("that it is", |line| line.contains("ollama.test is stored now"));
    assert_eq!(client.shown(gate.address, "ollama.test").unwrap(), first, "no other one was asked for");
    assert_eq!(client.shown(gate.address, "www.ollama.test").unwrap(), first);
    let mut stream = client.connect(gate.address, "ollama.test").unwrap();
    assert!(Client::ask(&mut stream, "/api/tags", "close").unwrap().contains("demo"));
    for file in ["acme.json", "acme-certificate.pem"] {
        assert_eq!(mode(&home.data(file)), 0o600, "{file}");
    }
    let said = gate.end().err();
    assert!(!said.contains("BEGIN") && !said.contains("key_pkcs8"), "{said}");

    pebble.end();
    let gate = serve(&home, &pebble, &ollama);
    gate.running.says("until when it is good", |line| line.contains("www.ollama.test, good until"));
    assert_eq!(client.shown(gate.address, "ollama.test").unwrap(), first, "at once");
    gate.end();
}

#[test]
fn a_renewal_under_load_fails_no_request() {
    if !is_installed() {
        return;
    }
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let mut pebble = Pebble::prepare(&home, 1, 12);
    pebble.start(&[("PEBBLE_WFE_NONCEREJECT", "5"), ("PEBBLE_VA_NOSLEEP", "1")]);
    let home = home.settings(&pebble.settings("\"ollama.test\""));
    let ollama = testkit(Setup::default());
    let gate = serve(&home, &pebble, &ollama);
    // The authority may still look for the proof of the order that was killed, and refuse this one with it: then the next try has
    // the certificate, which the gate puts off by a minute.
    let begun = std::time::Instant::now();
    while !home.data("acme-certificate.pem").exists() && begun.elapsed() < std::time::Duration::from_secs(150)
    {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    gate.running.says("that there is one", |line| line.contains("a certificate for ollama.test"));
    let client = Client::of(&pebble);
    let (done, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let seen = std::thread::scope(|scope| {
        // Each request over a connection of its own.
        let fresh = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while seen.len() < 3 {
                let mut stream = client.connect(gate.address, "ollama.test").unwrap();
                seen.insert(stream.conn.peer_certificates().unwrap()[0].to_vec());
                let told = Client::ask(&mut stream, "/api/tags", "close").unwrap();
                assert!(told.starts_with("HTTP/1.1 200"), "{told}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
            done.store(true, Ordering::Relaxed);
            seen.len()
        });
        // All over one, which outlives the certificate that it began with.
        scope.spawn(|| {
            let mut stream = client.connect(gate.address, "ollama.test").unwrap();
            while !done.load(Ordering::Relaxed) {
                let told = Client::ask(&mut stream, "/healthz", "keep-alive").unwrap();
                assert!(told.starts_with("HTTP/1.1 200"), "{told}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        fresh.join().unwrap()
    });
    assert_eq!(seen, 3, "the first and two renewals");
    assert!(asked.load(Ordering::Relaxed) > 100, "{asked:?}");
    let accounts = pebble.said().matches("There are now 1 accounts").count();
    assert_eq!(accounts, 1, "one account for all of them: {}", pebble.said());
    gate.end();
}

const NOT_THERE: &str = "the authority did not find this gate there";

/// The authority finds another machine under one of the names: told with the cure, tried again later, not in a loop, and
/// the certificate before stays.
#[test]
fn a_name_that_leads_elsewhere_is_told_and_the_old_certificate_stays() {
    if !is_installed() {
        return;
    }
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let mut pebble = Pebble::prepare(&home, 2, 90 * 24 * 3600);
    pebble.start(&FAULTS);
    pebble.mislead("elsewhere.test");
    let home = home.settings(&pebble.settings("\"ollama.test\""));
    let ollama = testkit(Setup::default());
    let gate = serve(&home, &pebble, &ollama);
    gate.running.says("that there is one", |line| line.contains("a certificate for ollama.test"));
    let client = Client::of(&pebble);
    let first = client.shown(gate.address, "ollama.test").unwrap();
    gate.end();

    let home = home.settings(&pebble.settings("[\"ollama.test\", \"elsewhere.test\"]"));
    for start in 1..=5 {
        let gate = serve(&home, &pebble, &ollama);
        if start < 5 {
            let said = gate.running.says("what is wrong", |line| line.contains(NOT_THERE));
            for part in [
                "no new certificate",
                "elsewhere.test: ",
                "port 443",
                "the one in force is good until",
                "tried again in",
            ] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        assert_eq!(client.shown(gate.address, "ollama.test").unwrap(), first, "start {start}");
        assert!(client.shown(gate.address, "elsewhere.test").is_err());
        let said = gate.end().err();
        // However often it is started: the fifth refusal within an hour would be one too many for an authority.
        assert_eq!(said.matches(NOT_THERE).count(), usize::from(start < 5), "{said}");
        assert!(said.contains("certificate   for ollama.test, elsewhere.test is asked for"), "{said}");
    }
}

/// A home, an authority that takes its time to look at it, and an Ollama; none where there is no authority.
fn slow_authority() -> Option<(Home, Pebble, Ollama)> {
    if !is_installed() {
        return None;
    }
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let mut pebble = Pebble::prepare(&home, 3, 90 * 24 * 3600);
    pebble.start(&[("PEBBLE_WFE_NONCEREJECT", "15"), ("PEBBLE_VA_SLEEPTIME", "5")]);
    let home = home.settings(&pebble.settings("\"ollama.test\""));
    Some((home, pebble, testkit(Setup::default())))
}

/// A gate whose order is under way.
#[track_caller]
fn ordering<'h>(home: &'h Home, pebble: &Pebble, ollama: &Ollama) -> Gate<'h> {
    let gate = serve(home, pebble, ollama);
    until("an order", || pebble.said().contains("orders in the db").then_some(()));
    gate
}

#[test]
fn a_gate_that_is_killed_in_mid_order_goes_on_with_its_account() {
    let Some((home, pebble, ollama)) = slow_authority() else { return };
    let mut gate = ordering(&home, &pebble, &ollama);
    gate.running.signal(Signal::KILL);
    gate.running.ended();
    assert!(!home.data("acme-certificate.pem").exists(), "it was in the middle");

    let gate = serve(&home, &pebble, &ollama);
    gate.running.says("that there is one", |line| line.contains("a certificate for ollama.test"));
    Client::of(&pebble).shown(gate.address, "ollama.test").unwrap();
    assert!(!pebble.said().contains("There are now 2 accounts"), "{}", pebble.said());
    gate.end();
}

/// The authority is slow, so that the order of the old gate is under way when the gate is handed over.
#[test]
fn one_gate_alone_asks_while_two_are_there() {
    let Some((home, pebble, ollama)) = slow_authority() else { return };
    let mut gate = ordering(&home, &pebble, &ollama);
    gate.running.signal(Signal::USR2);
    let line = gate.running.says("that it took over", |line| line.contains("was handed over to process "));
    let fresh = line.split("to process ").nth(1).unwrap();
    let fresh = fresh.split(|sign: char| !sign.is_ascii_digit()).next().unwrap().parse().unwrap();
    gate.running.says("that there is one", |line| line.contains("a certificate for ollama.test"));
    assert!(gate.running.left().success(), "{}", gate.running.err());
    let said = gate.running.err();
    assert!(!said.contains("no new certificate"), "{said}");
    assert_eq!(said.matches("a certificate for ollama.test").count(), 1, "{said}");
    let handed = said.find("was handed over to process ").unwrap();
    assert!(handed < said.find("a certificate for ollama.test").unwrap(), "{said}");
    Client::of(&pebble).shown(gate.address, "ollama.test").unwrap();
    assert!(!pebble.said().contains("There are now 2 accounts"), "{}", pebble.said());
    send(fresh, Signal::TERM);
}

#[test]
fn an_account_that_cannot_be_read_is_told_at_the_start() {
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings("[tls]\ndomain = \"ollama.test\"\n");
    std::fs::create_dir(home.path("data")).unwrap();
    std::fs::write(home.data("acme.json"), "{\"credentials\": {\"key_pkcs8\": \"canary\"").unwrap();
    let ended = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("acme.json") && ended.err.contains("hint:"), "{}", ended.err);
    assert!(!ended.err.contains("canary"), "{}", ended.err);
}
