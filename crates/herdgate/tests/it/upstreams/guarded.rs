//! Upstreams behind somebody else's door: nginx in front of an Ollama, which wants a password, a token or a certificate. And
//! what else a table says of one: its name, its share, its slots, its patience.

use crate::harness::load::{Load, TOKEN, chat, home, slow_ollama};
use crate::harness::{Ask, Gate, Home, Nginx, testkit, until};
use gate_testkit::{Fault, Ollama, Order, Setup};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// `user:canary-password` in base64.
const BASIC: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

/// Puts another file in the place of the old one, as who renews secrets does.
fn put(file: &Path, text: &str) {
    let other = file.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(other, file).unwrap();
}

fn settings(home: &Home, text: &str) {
    put(&home.path("herdgate.toml"), text);
}

/// What logs and metrics say of an upstream of this name.
fn is_called(gate: &Gate<'_>, name: &str) {
    gate.running.says("its record", |line| line.contains(&format!("\"upstream\":\"{name}\"")));
    let url = gate.running.says("where metrics are", |line| line.contains("metrics at"));
    let at = url.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let metrics = Ask::get("/metrics").send(at.parse().unwrap()).ok().text();
    assert!(metrics.contains(&format!("herdgate_upstream_up{{upstream=\"{name}\"}} 1")), "{metrics}");
}

#[test]
fn one_behind_a_password_is_served_and_its_secret_is_shown_to_nobody() {
    let (ollama, home) = (testkit(Setup::default()), home());
    std::fs::write(home.path("passwords"), "user:{PLAIN}canary-password\n").unwrap();
    let guard = format!("auth_basic vault; auth_basic_user_file {};", home.path("passwords").display());
    let Some(nginx) = Nginx::before(&home, &ollama.url(), false, &guard) else { return };
    let table = format!(
        "[metrics]\naddress = \"127.0.0.1:0\"\n[[upstream]]\nurl = \"{}\"\nname = \"vault\"\n",
        nginx.url()
    );
    settings(&home, &table);
    let gate = home.serve(&[]);
    let line = gate.running.says("what it found", |line| line.contains("upstream      vault"));
    assert!(
        line.contains("it wants a credential; give one in its [[upstream]]: token_file, or headers"),
        "{line}"
    );
    assert_eq!(chat().send(gate.address).status, 502);

    settings(&home, &format!("{table}headers = {{ Authorization = \"Basic {BASIC}\" }}\n"));
    gate.running.says("that it is up", |line| line.contains("vault is up"));
    let answer = chat().send(gate.address).ok();
    is_called(&gate, "vault");
    let asked = ollama.seen_on("/api/chat");
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].holds(TOKEN), "a client's key reached an upstream");
    for secret in [BASIC, "canary-password"] {
        assert!(!gate.running.err().contains(secret) && !answer.text().contains(secret));
        let shown = home.run(&["config", "show", "--origin"]);
        assert!(shown.code == 0 && !shown.out.contains(secret), "{}", shown.out);
    }

    settings(&home, &format!("{table}headers = {{ Authorization = \"Basic d3Jvbmc=\" }}\n"));
    gate.running
        .says("why it is down", |line| line.contains("it does not take the credential of its [[upstream]]"));
    gate.end();
}

/// An authority, the pair of a server of this machine, and that of a client, as PEM.
struct Authority {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // One whose issuer has its own name counts as its own issuer.
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        Self { ca: ca.pem(), server: issue(&["localhost", "127.0.0.1"]), client: issue(&["gate"]) }
    }

    /// Puts all of it into files that begin with `name`.
    fn put(&self, home: &Home, name: &str) {
        for (file, text) in [
            ("ca", &self.ca),
            ("server", &self.server.0),
            ("server-key", &self.server.1),
            ("client", &self.client.0),
            ("client-key", &self.client.1),
        ] {
            put(&home.path(&format!("{name}-{file}.pem")), text);
        }
    }
}

#[test]
fn one_that_wants_a_certificate_gets_it_and_must_show_its_own() {
    let (ollama, home) = (testkit(Setup::default()), home());
    Authority::new().put(&home, "a");
    let at = |name: &str| home.path(name).display().to_string();
    let guard = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;",
        at("a-server.pem"),
        at("a-server-key.pem"),
        at("a-ca.pem")
    );
    let Some(nginx) = Nginx::before(&home, &ollama.url(), true, &guard) else { return };
    let url = format!("https://localhost:{}", nginx.address.port());
    let upstream = |more: &str| format!("[[upstream]]\nurl = \"{url}\"\nname = \"strict\"\n{more}");
    let ca = format!("ca = \"{}\"\n", at("a-ca.pem"));
    let pair = |name: &str| {
        format!(
            "client_cert = \"{}\"\nclient_key = \"{}\"\n",
            at(&format!("{name}-client.pem")),
            at(&format!("{name}-client-key.pem"))
        )
    };

    settings(&home, &upstream(&format!("{ca}{}", pair("a"))));
    let gate = home.serve(&[]);
    gate.running
        .says("that it is there", |line| line.contains("upstream      strict") && line.contains("Ollama 0."));
    chat().send(gate.address).ok();

    // Its certificate is renewed in the place of the old one, and then replaced by one of another authority.
    let before = ollama.connections();
    let begun = Instant::now();
    put(&home.path("a-client.pem"), &std::fs::read_to_string(home.path("a-client.pem")).unwrap());
    gate.running.says("that files are looked at", |line| line.contains("a file of an upstream changed"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    chat().send(gate.address).ok();
    assert!(ollama.connections() >= before);
    settings(&home, &upstream(&ca));
    gate.running.says("what it wants", |line| {
        line.contains("strict is down: ") && line.contains("client_cert and client_key")
    });
    Authority::new().put(&home, "b");
    settings(&home, &upstream(&format!("ca = \"{}\"\n{}", at("b-ca.pem"), pair("a"))));
    gate.running.says("whom it trusts", |line| line.contains("its certificate is not trusted"));
    assert_eq!(chat().send(gate.address).status, 502);

    // What does not match is told, and what was in force stays.
    settings(&home, &upstream(&format!("{ca}{}", pair("a"))));
    gate.running.says("that it is back", |line| line.contains("strict is up"));
    let mixed =
        format!("client_cert = \"{}\"\nclient_key = \"{}\"\n", at("a-client.pem"), at("b-client-key.pem"));
    settings(&home, &upstream(&format!("{ca}{mixed}")));
    gate.running
        .says("what is wrong", |line| line.contains("the private key is not that of the certificate"));
    chat().send(gate.address).ok();
    gate.end();
}

fn bearers(ollama: &Ollama) -> Vec<String> {
    ollama.seen_on("/api/chat").iter().filter_map(|seen| seen.field("authorization")).collect()
}

#[test]
fn a_token_is_renewed_under_load_and_nobody_notices() {
    let (ollama, home) = (slow_ollama(), home());
    let guard = "if ($http_authorization !~ \"^Bearer canary-[0-9]+$\") { return 401; }";
    let Some(nginx) = Nginx::before(&home, &ollama.url(), false, guard) else { return };
    let token = home.path("token");
    put(&token, "canary-0\n");
    let table = format!("[[upstream]]\nurl = \"{}\"\ntoken_file = \"{}\"\n", nginx.url(), token.display());
    settings(&home, &table);
    let gate = home.serve(&[]);
    let load = Load::start(gate.address, 8);
    for round in 1..=5 {
        load.goes_on(8);
        put(&token, &format!("canary-{round}\n"));
        until("the new token", || bearers(&ollama).contains(&format!("Bearer canary-{round}")).then_some(()));
    }
    put(&token, "\n");
    gate.running.says("what is wrong with it", |line| line.contains("holds no token"));
    load.goes_on(16);
    assert_eq!(bearers(&ollama).last().unwrap(), "Bearer canary-5", "the last good one stays");
    // Weight, slots and patience change as well, and no connection is given up for it.
    put(&token, "canary-6\n");
    settings(&home, &format!("{table}weight = 3\nslots = 9\nidle = \"5m\"\nconnect = \"1s\"\n"));
    gate.running.says("the change", |line| line.contains("upstream is another"));
    load.goes_on(16);
    let whole = load.stop();
    assert!(whole > 50, "only {whole} streams");
    assert!(!gate.running.err().contains("canary-"), "{}", gate.running.err());
    gate.end();
}

#[test]
fn one_of_weight_two_gets_twice_as_much() {
    let (heavy, light) = (testkit(Setup::default()), testkit(Setup::default()));
    let home = home().settings(&format!(
        "[[upstream]]\nurl = \"{}\"\nweight = 2\n[[upstream]]\nurl = \"{}\"\n",
        heavy.url(),
        light.url()
    ));
    let gate = home.serve(&[]);
    for _ in 0..300 {
        chat().send(gate.address).ok();
    }
    let got = [&heavy, &light].map(|ollama| ollama.seen_on("/api/chat").len());
    // Chance has a say: six times its usual size.
    assert!(got[0] + got[1] == 300 && (150..=250).contains(&got[0]), "{got:?}");
    gate.end();
}

#[test]
fn slots_and_patience_of_its_own() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/chat"));
    let home = home().settings(&format!(
        "queue.depth = 0\n[[upstream]]\nurl = \"{}\"\nslots = 1\nidle = \"2s\"\n",
        ollama.url()
    ));
    let gate = home.serve(&[]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| chat().send(gate.address));
        until("the first to be there", || (!ollama.seen_on("/api/chat").is_empty()).then_some(()));
        let second = chat().send(gate.address);
        assert!(second.status == 503 && second.text().contains("queue"), "{second}");
        let first = first.join().unwrap();
        assert!(first.status == 504, "{first}");
        assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&begun.elapsed()));
    });
    gate.running.signal(Signal::TERM);
}
