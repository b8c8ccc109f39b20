//! TLS with clients: a certificate of files, what speaks it, and its renewal.

use crate::harness::{Gate, Home, testkit, until};
use gate_testkit::{Fault, Order, Setup};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";

/// A certificate for this machine, that is its own issuer's, and its key.
struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
        Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    /// Puts the pair where [`home`] says, each file as a renewal does: another one in the place of the old.
    fn put(&self, home: &Home) {
        put(&home.path("cert.pem"), &self.cert);
        put(&home.path("key.pem"), &self.key);
    }

    /// Connects, trusting this certificate alone.
    fn connect(&self, address: SocketAddr) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        self.connect_offering(address, vec![b"http/1.1".to_vec()])
    }

    /// The same with other protocols.
    fn connect_offering(
        &self,
        address: SocketAddr,
        protocols: Vec<Vec<u8>>,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols;
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        Ok(stream)
    }

    /// Asks for the list of models over a connection of its own.
    fn list(&self, address: SocketAddr) -> Result<String, String> {
        let mut stream = self.connect(address)?;
        let asked = format!(
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).map_err(|error| error.to_string())?;
        let mut told = String::new();
        // To its end, which TLS tells apart from a cut.
        stream.read_to_string(&mut told).map_err(|error| error.to_string())?;
        Ok(told)
    }
}

fn put(file: &Path, text: &str) {
    let other = file.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(other, file).unwrap();
}

fn home(pair: &Pair, more: &str) -> Home {
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    pair.put(&home);
    let (cert, key) = (home.path("cert.pem"), home.path("key.pem"));
    let text = format!("[tls]\ncert = \"{}\"\nkey = \"{}\"\n{more}", cert.display(), key.display());
    home.settings(&text)
}

#[test]
fn clients_speak_tls_and_nothing_else() {
    let pair = Pair::new();
    let ollama = testkit(Setup::default());
    let home = home(&pair, "");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert!(gate.running.err().contains("listening on  https://"), "{}", gate.running.err());
    let told = pair.list(gate.address).unwrap();
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("demo"), "{told}");

    // Whoever was there before TLS is told so, and nothing of what it says is done.
    let mut plain = TcpStream::connect(gate.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    plain
        .write_all(
            format!("GET /api/tags HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").as_bytes(),
        )
        .unwrap();
    let mut told = String::new();
    plain.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("\r\nConnection: close\r\n"), "{told}");
    assert!(told.contains("this port speaks TLS: write https://") && told.contains("tls_required"), "{told}");
    assert!(!told.contains("Strict-Transport") && !told.contains("demo"), "{told}");
    gate.running.says("who asks in clear", |line| line.contains("tls_required"));
    assert!(Pair::new().connect(gate.address).is_err(), "a client that trusts another certificate");
    gate.end();
}

#[test]
fn a_handshake_that_goes_on_and_on_is_ended_long_before_its_time() {
    let pair = Pair::new();
    let ollama = testkit(Setup::default());
    let home = home(&pair, "[timeouts]\nhead = \"5m\"\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    // A hello that says of itself that it has 60,000 bytes (RFC 8446, section 4), in four records, but for its last byte.
    let hello = [&[1, 0, 0xea, 0x60, 3, 3][..], &[0; 59_997]].concat();
    let records = hello.chunks(15_001).flat_map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    });
    let records: Vec<u8> = records.collect();
    let mut client = TcpStream::connect(gate.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // Whether the end comes before all of it is sent, or behind that, is the network's to say.
    let _sent = client.write_all(&records);
    let mut told = Vec::new();
    let ended = client.read_to_end(&mut told);
    let is_late = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_late, "it is still there, and so is what it sent");

    let mut protocols = vec![b"http/1.1".to_vec()];
    protocols.extend((0..60).map(|_| vec![b'x'; 250]));
    let mut long = pair.connect_offering(gate.address, protocols).unwrap();
    let asked = format!("GET /api/tags HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n");
    // After the handshake there is no such bound: a head has its own, and the second request comes behind 30 KiB.
    let first = format!("{asked}X-Long: {}\r\n\r\n", "x".repeat(16_000));
    let last = format!("{asked}X-Long: {}\r\nConnection: close\r\n\r\n", "x".repeat(16_000));
    long.write_all(first.as_bytes()).unwrap();
    long.write_all(last.as_bytes()).unwrap();
    let mut told = String::new();
    long.read_to_string(&mut told).unwrap();
    assert_eq!(told.matches("HTTP/1.1 200").count(), 2, "{told}");
    gate.end();
}

#[test]
fn curl_agrees_on_http2_and_streams_come_whole() {
    let pair = Pair::new();
    let ollama = testkit(Setup::default());
    let home = home(&pair, "");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let url = format!("https://localhost:{}/api/generate", gate.address.port());
    let cert = home.path("cert.pem");
    let mut curl = Command::new("curl");
    curl.args(["--noproxy", "*", "-sS", "-m", "60", "--cacert"]).arg(cert);
    curl.args(["-w", "\n%{http_code}", "-H", &format!("Authorization: Bearer {TOKEN}")]);
    let told = curl.args(["-d", "{\"model\":\"demo\",\"prompt\":\"hi\"}", &url]).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.ends_with("\n200") && text.contains("\"done\":true"), "{text}");
    gate.end();
}

#[test]
fn a_renewed_pair_is_taken_up_and_a_wrong_one_is_not() {
    let (old, new) = (Pair::new(), Pair::new());
    let ollama = testkit(Setup::default());
    let home = home(&old, "");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mut kept = old.connect(gate.address).unwrap();

    put(&home.path("cert.pem"), &new.cert);
    gate.running.says("that the pair does not match", |line| line.contains("the certificate before stays"));
    assert!(old.list(gate.address).is_ok());

    let begun = Instant::now();
    new.put(&home);
    until("the new certificate", || new.list(gate.address).ok());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(old.list(gate.address).is_err());
    // Who was connected goes on.
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut told = String::new();
    kept.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    let said = gate.end().err();
    assert!(!said.contains("BEGIN") && !said.contains(&new.key[40..60]), "{said}");
}

#[test]
fn a_client_that_begins_no_handshake_is_cut_off() {
    let pair = Pair::new();
    let ollama = testkit(Setup::default());
    let home = home(&pair, "[timeouts]\nhead = \"1s\"\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let cut = |mut socket: TcpStream| {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let begun = Instant::now();
        let _end = socket.read_to_end(&mut Vec::new());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    };
    cut(TcpStream::connect(gate.address).unwrap());
    // One second for handshake and head together.
    let shaken = pair.connect(gate.address).unwrap();
    cut(shaken.sock);
    gate.end();
}

#[test]
fn a_client_that_leaves_stops_the_model() {
    let pair = Pair::new();
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let home = home(&pair, "");
    let gate: Gate<'_> = home.serve(&["--upstream", &ollama.url()]);
    let mut stream = pair.connect(gate.address).unwrap();
    let body = "{\"model\":\"demo\",\"prompt\":\"x\"}";
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    until("the request", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    drop(stream);
    gate.running.says("that it was cancelled", |line| line.contains("\"outcome\":\"cancelled\""));
    gate.end();
}

#[test]
fn a_pair_that_is_none_is_told_at_the_start() {
    let (one, other) = (Pair::new(), Pair::new());
    for (cert, key, told) in [
        (one.cert.as_str(), other.key.as_str(), "is not the key of"),
        (one.key.as_str(), one.key.as_str(), "holds no certificate"),
        (one.cert.as_str(), one.cert.as_str(), "holds no private key"),
        ("", "", "holds no certificate"),
    ] {
        let home = home(&one, "");
        put(&home.path("cert.pem"), cert);
        put(&home.path("key.pem"), key);
        let ended = home.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(told) && ended.err.contains("hint:"), "{told}: {}", ended.err);
    }
    let home = Home::new().settings("[tls]\ncert = \"cert.pem\"\n");
    let ended = home.run(&["serve"]);
    assert!(ended.code != 0 && ended.err.contains("tls.cert without tls.key"), "{}", ended.err);
}

#[test]
fn an_authority_of_its_own_is_made_once_and_stays() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings("[tls]\nself_signed = true\n");
    let list = |gate: &Gate<'_>, host: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--noproxy", "*", "-sS", "-m", "60", "--cacert"]).arg(home.data("tls-ca.pem"));
        curl.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
        let port = gate.address.port();
        if host.contains("herdgate") || host.contains("docker") {
            curl.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
        }
        let told = curl.arg(format!("https://{host}:{port}/api/tags")).output().unwrap();
        (String::from_utf8(told.stdout).unwrap(), String::from_utf8(told.stderr).unwrap())
    };
    let gate = home.serve(&["--upstream", &ollama.url()]);
    // The last two: what containers call it.
    for host in ["localhost", "127.0.0.1", "host.docker.internal", "herdgate"] {
        let (told, trouble) = list(&gate, host);
        assert!(told.contains("demo"), "{host}: {trouble}");
    }
    // What a new key is told works as it stands, but for the port, which is this test's own.
    let made = home.run(&["key", "create", "alice"]);
    let line = made.err.lines().find(|line| line.contains("curl ")).unwrap_or_default();
    let line = line.replace(":7860/", &format!(":{}/", gate.address.port()));
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).env("KEY", made.out.trim()).env("NO_PROXY", "*");
    let told = shell.output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("demo"), "{line}: {told:?}");

    let trusted = |gate: &Gate<'_>| {
        let said = gate.running.err();
        let line = said.lines().find(|line| line.contains("SHA-256 ")).map(str::to_owned);
        assert!(said.contains("tls-ca.pem"), "{said}");
        line.unwrap_or_else(|| panic!("no fingerprint: {said}"))
    };
    let first = trusted(&gate);
    gate.end();
    let mode = |file: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(home.data(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("tls-ca-key.pem"), 0o600);

    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert_eq!(trusted(&gate), first, "who trusts it once trusts it for good");
    assert!(list(&gate, "localhost").0.contains("demo"));
    gate.end();

    std::fs::remove_file(home.data("tls-ca.pem")).unwrap();
    let ended = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        ended.code == 1 && ended.err.contains("is missing") && ended.err.contains("hint:"),
        "{}",
        ended.err
    );
}
