//! `herdgate health`: what the health checks of containers run.

use crate::harness::peer::free_port;
use crate::harness::{Home, Peer};

/// Settings with one listener at a port that is known beforehand.
fn settings(rest: &str) -> (String, String) {
    let address = free_port().to_string();
    (format!("[listen]\naddress = \"{address}\"\n{rest}"), address)
}

#[test]
fn a_gate_that_runs_is_well_and_one_that_does_not_is_told() {
    let (settings, address) = settings("");
    let home = Home::new().settings(&settings);
    let told = home.run(&["health"]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(told.err.starts_with(&format!("error: nobody answers at {address}")), "{}", told.err);

    let upstream = Peer::testkit();
    let gate = home.serve_as_set(&["--upstream", &upstream.url()]);
    let told = home.run(&["health"]);
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (0, "ok\n", ""));
    gate.end();
    assert_eq!(home.run(&["health"]).code, 1);
}

#[test]
fn a_gate_without_an_upstream_lives_and_is_not_ready() {
    let (settings, _) = settings("");
    let home = Home::new().settings(&settings);
    let nobody = format!("http://{}", free_port());
    let _gate = home.serve_as_set(&["--upstream", &nobody]);
    assert_eq!(home.run(&["health"]).code, 0);
    let told = home.run(&["health", "--ready"]);
    assert_eq!(told.code, 1, "{} {}", told.out, told.err);
    assert!(told.err.contains("503"), "{}", told.err);
}

#[test]
fn where_all_is_tls_the_admin_socket_is_asked() {
    let (settings, _) = settings("[tls]\nself_signed = true\n");
    let home = Home::new().settings(&settings);
    let upstream = Peer::testkit();
    let _gate = home.serve_as_set(&["--upstream", &upstream.url()]);
    let told = home.run(&["health"]);
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (0, "ok\n", ""));
}

#[test]
fn settings_that_cannot_be_asked_are_wrong_usage() {
    let home = Home::new().settings("[listen]\naddress = \"127.0.0.1:0\"\n");
    let told = home.run(&["health"]);
    assert_eq!(told.code, 64);
    assert!(told.err.contains("\nhint: "), "{}", told.err);
}
