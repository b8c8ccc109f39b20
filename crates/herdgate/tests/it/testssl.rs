//! What testssl.sh finds at the gate's TLS, beyond what is for information only.

use crate::harness::{Home, leave_out, testkit};
use gate_testkit::Setup;
use serde_json::Value;
use std::process::Command;

/// What it may find, and why that is not the gate's to mend.
const NOT_OURS: [(&str, &str); 4] = [
    ("engine_problem", "this machine's openssl knows no Russian ciphers"),
    ("cert_revocation", "an authority of the gate's own publishes no list of revoked certificates"),
    ("DNS_CAArecord", "localhost has no record in the DNS"),
    ("security_headers", "they are for pages, and the gate serves none"),
];

#[test]
#[ignore = "takes two minutes; ./check --full runs it"]
fn testssl_finds_nothing_that_is_ours_to_mend() {
    if Command::new("testssl").arg("--version").output().is_err() {
        return leave_out("testssl.sh is not installed (Debian package testssl.sh)");
    }
    let home = Home::new().env("AUTH_TOKEN", "canary-Tr0ub4dor&3-in-the-environment");
    let home = home.settings("[tls]\nself_signed = true\nhsts = \"180d\"\n");
    let ollama = testkit(Setup::default());
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let found = home.path("testssl.json");
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color", "0", "--warnings", "batch", "--ip", "one", "--add-ca"]);
    testssl.arg(home.data("tls-ca.pem")).arg("--jsonfile").arg(&found).current_dir(home.path(""));
    let ended = testssl.arg(format!("localhost:{}", gate.address.port())).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let found: Vec<Value> = serde_json::from_slice(&std::fs::read(found).expect(&said)).unwrap();
    assert!(found.len() > 100, "it did not look at everything: {said}");
    let is_ours = |one: &&Value| {
        let is_told = !matches!(one["severity"].as_str(), Some("OK" | "INFO"));
        is_told && !NOT_OURS.iter().any(|(id, _)| one["id"] == *id)
    };
    let ours: Vec<&Value> = found.iter().filter(is_ours).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    gate.end();
}
