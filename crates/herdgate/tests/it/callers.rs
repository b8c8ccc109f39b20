//! Certificates of callers, beside their keys; and what is said of a certificate of the gate's own that expires.

use crate::harness::{Gate, Home, testkit, until};
use gate_testkit::Setup;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use std::path::PathBuf;
use std::process::Command;

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";

/// An authority that vouches for callers.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key of a caller, in one file.
    fn caller(&self, home: &Home, name: &str) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Lab");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).unwrap();
        let file = home.path(&format!("{name}.pem"));
        std::fs::write(&file, cert.pem() + &key.serialize_pem()).unwrap();
        file
    }

    fn put(&self, home: &Home) {
        let new = home.path("callers.new");
        std::fs::write(&new, self.0.as_ref().pem()).unwrap();
        std::fs::rename(new, home.path("callers.pem")).unwrap();
    }
}

fn home(more: &str) -> Home {
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let file = home.path("callers.pem");
    home.settings(&format!("[tls]\nself_signed = true\nclient_ca = \"{}\"\n{more}", file.display()))
}

/// Asks for the list of models with a certificate, or with none: the status, or none where TLS came to nothing.
fn list(home: &Home, gate: &Gate<'_>, caller: Option<&PathBuf>, key: &str, version: &str) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["--noproxy", "*", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}"]);
    curl.args(version.split(' '))
        .args(["-H", &format!("Authorization: Bearer {key}"), "--cacert"])
        .arg(home.data("tls-ca.pem"));
    if let Some(caller) = caller {
        curl.arg("--cert").arg(caller);
    }
    let told = curl.arg(format!("https://localhost:{}/api/tags", gate.address.port())).output().unwrap();
    told.status.success().then(|| String::from_utf8(told.stdout).unwrap())
}

#[test]
fn a_caller_without_a_certificate_fails_where_one_is_required() {
    let ours = Authority::new("ours");
    let home = home("client_required = true\n");
    ours.put(&home);
    let (alice, mallory) = (ours.caller(&home, "alice"), Authority::new("ours").caller(&home, "mallory"));
    let ollama = testkit(Setup::default());
    let gate = home.serve(&["--upstream", &ollama.url()]);
    for version in ["--http1.1", "--http2", "--tls-max 1.2"] {
        assert_eq!(list(&home, &gate, Some(&alice), TOKEN, version).as_deref(), Some("200"), "{version}");
        assert_eq!(
            list(&home, &gate, Some(&alice), "wrong", version).as_deref(),
            Some("401"),
            "a key as well"
        );
        assert_eq!(list(&home, &gate, None, TOKEN, version), None, "{version}");
        assert_eq!(list(&home, &gate, Some(&mallory), TOKEN, version), None, "of another authority");
    }
    let said = gate.end().err();
    let records = said.lines().filter(|line| line.contains("\"route\":\"/api/tags\"")).collect::<Vec<_>>();
    assert_eq!(records.len(), 6, "{said}");
    for record in records {
        assert!(record.contains("\"certificate\":\"CN=alice, O=Lab\""), "{record}");
    }
}

#[test]
fn a_certificate_is_welcome_where_none_is_required_and_another_authority_is_taken_up() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let home = home("");
    ours.put(&home);
    let (alice, bob) = (ours.caller(&home, "alice"), theirs.caller(&home, "bob"));
    let ollama = testkit(Setup::default());
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let status = |caller| list(&home, &gate, caller, TOKEN, "--http1.1");
    assert_eq!(status(None).as_deref(), Some("200"));
    assert_eq!(status(Some(&alice)).as_deref(), Some("200"));
    assert_eq!(status(Some(&bob)), None, "one that nobody vouches for is no certificate");

    std::fs::write(home.path("callers.pem"), "nothing").unwrap();
    gate.running.says("that it is none", |line| line.contains("who was believed before stays believed"));
    assert_eq!(status(Some(&alice)).as_deref(), Some("200"));
    theirs.put(&home);
    until("the other authority", || status(Some(&bob)));
    assert_eq!(status(Some(&alice)), None);
    let said = gate.end().err();
    assert!(said.contains("\"certificate\":\"CN=bob, O=Lab\""), "{said}");
}

#[test]
fn a_file_that_vouches_for_nobody_is_told_at_the_start() {
    let home = home("");
    for (text, told) in [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nx\n", "in PEM")] {
        std::fs::write(home.path("callers.pem"), text).unwrap();
        let ended = home.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(ended.code == 1 && ended.err.contains(told), "{told}: {}", ended.err);
    }
}

#[test]
fn a_certificate_that_expires_soon_is_warned_of() {
    let ollama = testkit(Setup::default());
    for (days, told) in [(2, Some("expires in 2d")), (-1, Some("has expired on")), (60, None)] {
        let home = Home::new().env("AUTH_TOKEN", TOKEN);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        let day = std::time::Duration::from_hours(24);
        params.not_before = (now - 90 * day).into();
        let half = std::time::Duration::from_mins(30);
        params.not_after =
            if days < 0 { (now - day).into() } else { (now + day * days as u32 + half).into() };
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(home.path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(home.path("key.pem"), key.serialize_pem()).unwrap();
        let files = ["cert", "key"]
            .map(|name| format!("{name} = \"{}\"\n", home.path(&format!("{name}.pem")).display()));
        let home = home.settings(&format!("[tls]\n{}", files.concat()));
        let gate = home.serve(&["--upstream", &ollama.url()]);
        if let Some(told) = told {
            let said = gate.running.says("when it expires", |line| line.contains("cert.pem: "));
            assert!(said.contains(told) && said.contains("renew it"), "{said}");
        }
        let said = gate.end().err();
        assert_eq!(said.matches("cert.pem: ").count(), usize::from(told.is_some()), "once: {said}");
    }
}
