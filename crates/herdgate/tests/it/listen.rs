//! Listeners and what stands before them: redirects, browsers that shall stay with TLS, and other people's proxies.

use crate::harness::{Ask, Gate, Home, front, peer::free_port, testkit};
use gate_testkit::{Ollama, Setup};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
/// Another address of this machine, from which a client asks a proxy at 127.0.0.1.
const CLIENT: &str = "127.0.0.2";

struct Street {
    ollama: Ollama,
    home: Home,
}

impl Street {
    fn new(settings: &str) -> Self {
        let home = Home::new().env("AUTH_TOKEN", TOKEN).settings(settings);
        Street { ollama: testkit(Setup::default()), home }
    }

    #[track_caller]
    fn serve(&self) -> Gate<'_> {
        self.home.serve_as_set(&["--upstream", &self.ollama.url()])
    }

    /// What curl prints: head and body, and where it failed.
    fn curl(&self, words: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--noproxy", "*", "-sS", "-i", "-m", "60"]);
        if self.home.data("tls-ca.pem").is_file() {
            curl.arg("--cacert").arg(self.home.data("tls-ca.pem"));
        }
        let told = curl.args(words).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr))
    }

    /// Asks for the models from [`CLIENT`], with the key and what that one says of itself.
    fn list_from_client(&self, url: &str) -> String {
        let key = format!("Authorization: Bearer {TOKEN}");
        let lies = "X-Forwarded-For: 203.0.113.66";
        self.curl(&["--interface", CLIENT, "-H", &key, "-H", lies, url])
    }
}

#[track_caller]
fn comes_from(gate: &Gate<'_>, client: &str) {
    let record = format!("\"client\":\"{client}\"");
    gate.running.says(&format!("that somebody asked from {client}"), |line| line.contains(&record));
}

#[test]
fn a_plain_listener_points_to_the_one_with_tls() {
    let street = Street::new(
        "[tls]\nself_signed = true\nhsts = \"1h\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nredirect = true\n[[listen]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\nredirect = 443\n",
    );
    let gate = street.serve();
    let [secure, pointing, plain, mapped] = gate.addresses()[..] else { panic!("{}", gate.running.err()) };
    let told = street.curl(&["-L", &format!("http://localhost:{}/api/version?x=%20y", pointing.port())]);
    assert!(told.contains("308 Permanent Redirect") && told.contains("\"version\":"), "{told}");
    assert!(
        told.contains(&format!("Location: https://localhost:{}/api/version?x=%20y", secure.port())),
        "{told}"
    );
    let told = street.curl(&[&format!("http://localhost:{}/api/version", mapped.port())]);
    assert!(told.contains("Location: https://localhost/api/version\r\n"), "the port outside: {told}");
    for protocol in ["--http1.1", "--http2"] {
        let told = street.curl(&[protocol, &format!("https://localhost:{}/api/version", secure.port())]);
        assert!(told.to_ascii_lowercase().contains("strict-transport-security: max-age=3600"), "{told}");
    }
    let refused = Ask::get("/api/tags").key(TOKEN).send(pointing);
    assert!(refused.status == 403 && refused.text().contains("tls_required"), "{refused}");
    assert!(refused.text().contains(&format!("https://127.0.0.1:{}", secure.port())), "{refused}");
    assert_eq!(Ask::new("POST", "/api/generate").send(pointing).status, 403);
    let told = Ask::get("/api/tags").key(TOKEN).send(plain).ok();
    assert_eq!(told.field("strict-transport-security"), None);
    assert_eq!(street.ollama.seen_on("/api/generate").len(), 0);
    assert!(gate.running.err().contains("only points to https"), "{}", gate.running.err());
    gate.end();
}

const TRUSTING: &str = "[[listen]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                        [[listen]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn behind_nginx_and_caddy_records_know_the_client() {
    let (Some(nginx), Some(caddy)) = (front::find("nginx"), front::find("caddy")) else { return };
    let street = Street::new(TRUSTING);
    let gate = street.serve();
    let (trusting, usual) = (gate.addresses()[0], gate.addresses()[1]);
    let [one, other, third] = [free_port(), free_port(), free_port()];
    let server = |at: SocketAddr, to: SocketAddr| {
        format!(
            "server {{ listen {at}; location / {{ proxy_pass http://{to}; proxy_set_header X-Forwarded-For \
             $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }} }}\n"
        )
    };
    let servers = [server(one, trusting), server(other, usual)].concat();
    let _nginx = front::nginx(&street.home, Command::new(nginx), &servers);
    let site =
        format!("http://127.0.0.1:{} {{\n\tbind 127.0.0.1\n\treverse_proxy {trusting}\n}}", third.port());
    let _caddy = front::caddy(&street.home, Command::new(caddy), &site);
    for front in [one, other, third] {
        front::listens(front);
    }
    let told = street.list_from_client(&format!("http://{other}/api/tags"));
    assert!(told.contains("\"demo"), "{told}");
    comes_from(&gate, "127.0.0.1");
    assert!(!gate.running.err().contains(CLIENT), "a proxy that nobody trusts\n{}", gate.running.err());
    for (front, count) in [(one, 1), (third, 2)] {
        let told = street.list_from_client(&format!("http://{front}/api/tags"));
        assert!(told.contains("\"demo"), "{told}");
        let record = format!("\"client\":\"{CLIENT}\"");
        crate::harness::until("the record", || {
            (gate.running.err().matches(&record).count() == count).then_some(())
        });
    }
    let said = gate.end().err();
    assert!(!said.contains("203.0.113.66"), "what the client says of itself\n{said}");
}

/// Version 2 of the PROXY protocol, for a client at 203.0.113.9.
fn header(command: u8) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, 12], &addresses].concat()
}

/// What the gate answers to these bytes, up to its close.
fn answer(to: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    let mut told = Vec::new();
    // A reset is a refusal too.
    let _end = stream.read_to_end(&mut told);
    String::from_utf8_lossy(&told).into_owned()
}

#[test]
fn the_proxy_protocol_is_heard_from_trusted_proxies_alone() {
    let street = Street::new(TRUSTING);
    let gate = street.serve();
    let (trusting, usual) = (gate.addresses()[0], gate.addresses()[1]);
    let list = format!(
        "GET /api/tags HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    let list = list.as_bytes();
    let told = answer(usual, &[&header(0x21), list]);
    assert!(!told.contains("200 OK") && !told.contains("demo"), "{told}");
    assert!(!gate.running.err().contains("203.0.113.9"), "{}", gate.running.err());

    for pieces in [
        vec![header(0x21), list.to_vec()],
        header(0x21).chunks(1).map(<[u8]>::to_vec).chain([list.to_vec()]).collect(),
    ] {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let told = answer(trusting, &pieces);
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        comes_from(&gate, "203.0.113.9");
    }
    assert!(answer(trusting, &[list]).starts_with("HTTP/1.1 200"), "a proxy that says nothing");
    assert!(answer(trusting, &[&header(0x20), list]).starts_with("HTTP/1.1 200"), "one that asks for itself");
    comes_from(&gate, "127.0.0.1");
    // A client that is no proxy is not believed, whatever it writes.
    let lies =
        String::from_utf8(list.to_vec()).unwrap().replace("Host:", "X-Forwarded-For: 198.51.100.1\r\nHost:");
    assert!(answer(trusting, &[&header(0x21), lies.as_bytes()]).starts_with("HTTP/1.1 200"));
    for broken in [
        &header(0x21)[..20],
        &header(0x31)[..],
        b"\r\n\r\n\0\r\nQUIT\r\r\r\r\r",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    ] {
        let mut stream = TcpStream::connect(trusting).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(broken).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut told = String::new();
        let _end = stream.read_to_string(&mut told);
        assert!(!told.contains(" 200 "), "{told}");
    }
    let said = gate.end().err();
    assert!(!said.contains("198.51.100.1\""), "{said}");
}

#[test]
fn behind_haproxy_with_the_proxy_protocol_the_client_is_known_over_tls_too() {
    let Some(haproxy) = front::find("haproxy") else { return };
    let street = Street::new(
        "server.trusted_proxies = [\"127.0.0.1\"]\n[tls]\nself_signed = true\nplain_keys = \"refuse\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\ntls = false\n",
    );
    let gate = street.serve();
    let (secure, plain) = (gate.addresses()[0], gate.addresses()[1]);
    let [one, other] = [free_port(), free_port()];
    let listeners = format!(
        "listen secure\n\tbind {one}\n\tserver gate {secure} send-proxy-v2\n\
         listen plain\n\tbind {other}\n\tserver gate {plain} send-proxy-v2\n"
    );
    let _haproxy = front::haproxy(&street.home, Command::new(haproxy), &listeners);
    front::listens(one);
    front::listens(other);
    let told = street.list_from_client(&format!("https://{one}/api/tags"));
    assert!(told.contains("\"demo"), "{told}");
    comes_from(&gate, CLIENT);
    let told = street.list_from_client(&format!("http://{other}/api/tags"));
    assert!(told.contains("\"demo"), "no network lies between: {told}");
    gate.end();
}

#[test]
fn a_key_that_crossed_a_network_in_clear_is_told_of_once_or_refused() {
    let outside = |scheme: &str| {
        Ask::get("/api/tags")
            .key(TOKEN)
            .field("X-Forwarded-For", "203.0.113.9")
            .field("X-Forwarded-Proto", scheme)
    };
    let street = Street::new(TRUSTING);
    let gate = street.serve();
    let trusting = gate.addresses()[0];
    for _ in 0..3 {
        outside("http").send(trusting).ok();
    }
    outside("https").send(trusting).ok();
    let said = gate.end().err();
    assert_eq!(said.matches("the key env came from 203.0.113.9 in clear").count(), 1, "{said}");
    assert!(!said.contains(TOKEN), "{said}");

    let street = Street::new(&format!("{TRUSTING}[tls]\nplain_keys = \"refuse_public\"\n"));
    let gate = street.serve();
    let trusting = gate.addresses()[0];
    let told = outside("http").send(trusting);
    assert!(told.status == 403 && told.text().contains("tls_required"), "{told}");
    outside("https").send(trusting).ok();
    gate.end();
}
