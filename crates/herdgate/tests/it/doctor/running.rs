//! What only the gate that runs knows: servers that were given by a flag, models that do not come, an Ollama that it started itself.

use super::machine::Server;
use super::{commands, doctor};
use crate::harness::{Gate, Home, now, until};
use crate::pulling::{empty_kit, failing, home_with};
use gate_testkit::Order;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// Settings by which a gate with a port of its own is found.
#[track_caller]
fn settings_of(home: &Home, gate: &Gate<'_>) {
    let port = gate.address.port();
    fs::write(home.path("herdgate.toml"), format!("[listen]\naddress = \"127.0.0.1:{port}\"\n")).unwrap();
}

/// A model that the gate shall pull, and cannot.
#[test]
fn a_model_that_cannot_be_pulled() {
    let kit = empty_kit();
    let Some(home) = home_with(&kit) else { return };
    let error = "pull model manifest: Get \"https://registry.ollama.ai/v2/\": dial tcp: lookup registry.ollama.ai: no such host";
    kit.order(Order::always(failing(error)).on("/api/pull"));
    let home = home.env("OLLAMA_MODEL", "qwen3:88b");
    let gate = home.serve(&[]);
    settings_of(&home, &gate);
    gate.running.says("why it cannot be pulled", |line| line.contains("cannot pull"));
    let report = doctor(&home, &["--no-inference"]);
    let is_it = |finding: &&serde_json::Value| finding["check"] == "gate" && finding["mark"] == "bad";
    let found = report.findings.iter().find(is_it).unwrap_or_else(|| panic!("{:#?}", report.findings));
    let seen = found["seen"].as_str().unwrap();
    assert_eq!(seen, "qwen3:88b is not there, and cannot be pulled: its registry cannot be reached");
    assert_eq!(commands(&found["cure"]), ["herdgate pull qwen3:88b"]);
    assert!(found["why"].as_str().unwrap().contains("HTTPS_PROXY"), "{found:#}");
    gate.end();
}

/// The gate has started its own Ollama: that none is at the usual place is as it should be.
#[test]
fn an_ollama_that_the_gate_has_started() {
    let kit = empty_kit();
    let Some(home) = home_with(&kit) else { return };
    let gate = home.serve(&[]);
    settings_of(&home, &gate);
    let report = until("its Ollama to answer", || {
        let report = doctor(&home, &["--no-inference"]);
        (report.code == 0).then_some(report)
    });
    report.is_well("port");
    let told = format!("{:?}", report.findings);
    assert!(
        told.contains("no Ollama listens on 127.0.0.1:11434; the gate that runs asks http://127.0.0.1:"),
        "{told}"
    );
    gate.end();
}

/// A server that was given by a flag alone, and wants a key.
#[test]
fn a_server_of_a_flag_that_wants_a_key() {
    let (inner, ollama) = (Home::new(), super::slow(0));
    let behind = inner.serve(&["--upstream", &ollama.url()]);
    let home = Home::new();
    let gate = home.begin(&["--upstream", &behind.url()]);
    settings_of(&home, &gate);
    let report = doctor(&home, &["--no-inference"]);
    let found = report.findings.iter().find(|finding| finding["check"] == "gate");
    let found = found.unwrap_or_else(|| panic!("{:#?}", report.findings));
    assert!(found["mark"] == "bad" && found["about"] == behind.url(), "{found:#}");
    assert_eq!(found["seen"], "the gate gets no models from it: it answers 401 to /api/tags");
    assert!(commands(&found["cure"])[0].contains("token_file"), "{found:#}");
    gate.end();
    behind.end();
}

/// The Ollama that the gate found at its usual place is gone: a client fails now, and the cure starts it.
#[test]
fn an_ollama_that_ends_behind_a_gate() {
    let Some(server) = Server::new() else { return };
    let ollama = server.wire.ollama("127.0.0.1:11434");
    let gate = server.here.begin_at("127.0.0.1:7860", &[]);
    gate.running.says("what its upstream is", |line| line.starts_with("  upstream "));
    server.doctor().is_well("port");
    now(ollama.refuse()).unwrap();
    let report = server.doctor();
    assert_eq!(report.cure("port", "127.0.0.1:11434 refuses connections"), ["sudo systemctl start ollama"]);
    for finding in &report.findings {
        assert_ne!(finding["cure"]["run"][0], "herdgate doctor", "{finding:#}");
    }
    server.wire.net.within("server", || now(ollama.accept()).unwrap());
    server.doctor().is_well("port");
    gate.end();
}

/// Who forgot the "s" asks a listener that only points to TLS: it is named as that, and no key is blamed.
#[test]
fn a_listener_that_only_points_to_tls() {
    let ollama = super::slow(0);
    let listens = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
    let home =
        Home::new().settings(&format!("[tls]\nself_signed = true\n{listens}{listens}redirect = true\n"));
    let gate = home.serve_as_set(&["--upstream", &ollama.url()]);
    let [secure, pointing] = gate.addresses()[..] else { panic!("{}", gate.running.err()) };
    let client = Home::new().env("HERDGATE_KEY", gate.first_key());
    let report = doctor(&client, &["--as-client", &format!("http://{pointing}")]);
    let cure = report.cure("answer", &format!("only points to https://{secure} (308)"));
    assert_eq!(cure, [format!("herdgate doctor --as-client https://{secure}")]);
    let is_of_key = |finding: &&serde_json::Value| finding["check"] == "client" || finding["check"] == "key";
    assert_eq!(report.findings.iter().find(is_of_key), None);
    gate.end();
}

/// The key is not shown in clear to what sends clients to TLS.
#[test]
fn no_key_in_clear_where_tls_is_pointed_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            hears.lock().unwrap().push_str(&head.join("\n"));
            let answer = "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://gate.example/api/version\r\n\
                          Content-Length: 0\r\nConnection: close\r\n\r\n";
            drop(client.write_all(answer.as_bytes()));
        }
    });
    let client = Home::new().env("HERDGATE_KEY", "sk-hg-0000000000000000000000000000000000000000");
    let report = doctor(&client, &["--as-client", &format!("http://{address}")]);
    report.first("answer", "only points to https://gate.example:443 (308)");
    let heard = heard.lock().unwrap();
    assert!(heard.contains("GET /api/version") && !heard.contains("sk-hg-"), "{heard}");
}
