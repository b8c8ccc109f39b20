//! Starting: the first key, keys from the environment, what is reported, keys that change while it runs, an end by signal.

use crate::harness::home::mode;
use crate::harness::{Ask, Home, mention, testkit, within};
use gate_testkit::Setup;
use rustix::process::Signal;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

/// What the product promises for a change of the keys.
const IN_FORCE: Duration = Duration::from_secs(1);

#[test]
fn the_first_key_is_written_and_the_printed_line_works() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let key = gate.first_key();
    assert_eq!(mode(&home.data("first-key")), 0o600);
    let line = gate.running.says("a line to try", |line| line.contains("curl "));
    assert!(line.contains(home.data("first-key").to_str().unwrap()), "{line}");

    let line = line.split_once("curl ").unwrap().1;
    let mut curl = Command::new("sh");
    let answer = match curl.arg("-c").arg(format!("curl -sS {line}")).output() {
        Ok(output) if output.status.code() != Some(127) => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        // No curl on this machine: the same path and key by ourselves.
        _ => {
            let path = line.split(' ').next().unwrap().strip_prefix(&gate.url()).unwrap();
            gate.ask(Ask::get(path)).ok().text()
        }
    };
    assert!(answer.contains("demo:latest"), "{line}: {answer}");

    let running = gate.end();
    let said = running.err() + &running.out();
    assert!(!said.contains(&key) && !said.contains(&key[6..20]), "the key was printed:\n{said}");
    let listed = home.run(&["key", "list"]);
    assert!(listed.out.contains("first") && listed.out.contains("infer,embed,read"), "{}", listed.out);

    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert_eq!(gate.first_key(), key, "the second start made a new key");
    let line = gate.running.says("where the key lies", |line| line.starts_with("  first key "));
    assert_eq!(line, format!("  first key     lies in {}", home.data("first-key").display()));
    gate.ask(Ask::get("/api/tags")).ok();
}

#[test]
fn a_token_from_the_environment_is_a_key() {
    let ollama = testkit(Setup::default());
    let token = "canary-Tr0ub4dor&3-in-the-environment";
    let home = Home::new().env("AUTH_TOKEN", token);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert!(!home.data("first-key").exists(), "there is a key already");
    Ask::get("/api/tags").key(token).send(gate.address).ok();
    assert_eq!(Ask::get("/api/tags").key("canary-Tr0ub4dor&3").send(gate.address).status, 401);
    let pull = Ask::post("/api/pull", &serde_json::json!({"model": "demo"})).key(token).send(gate.address);
    assert_eq!(pull.status, 403, "{pull}");
    let running = gate.end();
    assert!(!running.err().contains(token), "{}", running.err());
    assert!(!home.run(&["key", "list"]).out.contains("env"), "a token of the environment was stored");

    let file = home.path("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let home = Home::new().env("AUTH_TOKEN_FILE", &file);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    Ask::get("/api/tags").key(token).send(gate.address).ok();
}

#[test]
fn a_token_out_of_an_example_stops_the_start() {
    for token in ["", "ollama", "null", "changeme"] {
        let home = Home::new().env("AUTH_TOKEN", token);
        let told = home.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!((told.code, told.out.as_str()), (64, ""), "{token:?}: {}", told.err);
        assert!(told.err.contains("AUTH_TOKEN"), "{token:?}: {}", told.err);
        assert!(!home.path("data").exists());
    }
}

#[test]
fn a_second_gate_on_the_port_is_told_who_holds_it() {
    let home = Home::new();
    let gate = home.serve(&["--upstream", "http://127.0.0.1:9"]);
    let second = Home::new();
    let address = gate.address.to_string();
    let told = second.run(&["serve", "--listen", &address]);
    assert_eq!(told.code, 1, "{}", told.err);
    assert!(told.err.contains(&address) && told.err.contains("hint:"), "{}", told.err);
    assert!(told.err.contains(&format!("herdgate (pid {})", gate.running.pid())), "{}", told.err);
    assert!(!second.data("first-key").exists(), "a start that failed made a key");
    Ask::get("/").send(gate.address).ok();
}

#[test]
fn a_database_that_cannot_be_read_is_named_and_left_alone() {
    let home = Home::new();
    home.key("a", &[]);
    let file = home.data("herdgate.db");
    let good = std::fs::read(&file).unwrap();
    let mut torn = good.clone();
    torn[200..].fill(0xA5);
    for bytes in [b"this is no database at all\n".to_vec(), good[..good.len() / 2].to_vec(), torn] {
        for sidecar in ["herdgate.db-wal", "herdgate.db-shm"] {
            let _absent = std::fs::remove_file(home.data(sidecar));
        }
        std::fs::write(&file, &bytes).unwrap();
        for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["key", "list"]] {
            let told = home.run(args);
            assert_eq!((told.code, told.out.as_str()), (1, ""), "{args:?}: {}", told.err);
            assert!(told.err.contains(file.to_str().unwrap()), "{args:?}: {}", told.err);
            assert!(std::fs::read(&file).unwrap() == bytes, "{args:?} changed the file");
        }
    }
}

#[test]
fn a_change_of_the_keys_is_in_force_within_a_second() {
    let ollama = testkit(Setup::default());
    // It asks with keys that are not yet known, as fast as it can.
    let home = Home::new().env("HERDGATE_AUTH__FAILURES", "1000000");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let status = |key: &str| Ask::get("/api/tags").key(key).send(gate.address).status;
    let becomes = |key: &str, wanted: u16, what: &str| {
        within(IN_FORCE, what, || (status(key) == wanted).then_some(()));
    };
    let key = home.key("ci", &[]);
    becomes(&key, 200, "a new key");
    let rotated = home.run(&["key", "rotate", "ci", "--overlap", "1h"]).out.trim().to_owned();
    becomes(&rotated, 200, "a rotated key");
    assert_eq!(status(&key), 200, "the earlier secret goes on working");
    let last = home.run(&["key", "rotate", "ci", "--overlap", "0s"]).out.trim().to_owned();
    becomes(&rotated, 401, "a secret without overlap");
    assert_eq!(status(&last), 200);
    assert_eq!(home.run(&["key", "revoke", "ci"]).code, 0);
    becomes(&last, 401, "a revoked key");
    assert_eq!(status(&key), 401, "the earlier secret ended with its key");
    let short = home.key("short", &["--expires", "2s"]);
    becomes(&short, 200, "a key that expires");
    within(Duration::from_secs(4), "its end", || (status(&short) == 401).then_some(()));
    let free = home.key("ci", &["--scope", "embed"]);
    becomes(&free, 403, "a key without the scope");
    let used: serde_json::Value = {
        gate.end();
        serde_json::from_str(&home.run(&["key", "show", "ci", "--json"]).out).unwrap()
    };
    assert!(used["last_used"].is_string(), "the last use was not stored: {used}");
}

#[test]
fn it_listens_on_both_families_by_default() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        mention("this machine has no IPv6");
        return;
    }
    let home = Home::new();
    let gate = home.begin(&["--listen", "[::]:0", "--upstream", "http://127.0.0.1:9"]);
    let line = gate.running.says("all addresses", |line| {
        line.contains("127.0.0.1:") && !line.contains(&gate.address.to_string())
    });
    let port: u16 =
        line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))] {
        assert_eq!(Ask::get("/").send(address).ok().text(), "Ollama is running");
        let said = gate.running.says("that address", |line| line.contains(&format!("http://{address} ")));
        assert!(said.contains("plain"), "{said}");
    }
    let second = Home::new().run(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
    assert_eq!(second.code, 1, "half of a dual-stack port was given away: {}", second.err);
}

/// As for one interface, or a VPN: the other addresses of the machine are closed.
#[test]
fn it_listens_on_the_named_address_alone() {
    let home = Home::new();
    let gate = home.begin_at("127.0.0.2:0", &["--upstream", "http://127.0.0.1:9"]);
    assert_eq!(gate.address.ip(), IpAddr::from([127, 0, 0, 2]));
    Ask::get("/").send(gate.address).ok();
    assert_eq!(Ask::get("/api/tags").send(gate.address).status, 401);
    // Of its own sockets: on another address that port may be another program's.
    assert_eq!(listening(gate.running.pid()), [gate.address]);
}

/// Where a process accepts connections.
fn listening(pid: i32) -> Vec<SocketAddr> {
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let links = std::fs::read_dir(of("fd")).unwrap().flatten();
    let links = links.filter_map(|open| Some(std::fs::read_link(open.path()).ok()?.display().to_string()));
    let inodes: Vec<String> =
        links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let mut found = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        let table = std::fs::read_to_string(of(table)).unwrap_or_default();
        for line in table.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // proc_pid_net(5): the state 0A is TCP_LISTEN.
            if fields.get(3) != Some(&"0A") || !inodes.iter().any(|inode| fields[9] == *inode) {
                continue;
            }
            let (address, port) = fields[1].split_once(':').unwrap();
            let words = address.as_bytes().chunks(8).map(|word| str::from_utf8(word).unwrap());
            let bytes: Vec<u8> =
                words.flat_map(|word| u32::from_str_radix(word, 16).unwrap().to_ne_bytes()).collect();
            let ip = <[u8; 4]>::try_from(&*bytes)
                .map_or_else(|_| IpAddr::from(<[u8; 16]>::try_from(&*bytes).unwrap()), IpAddr::from);
            found.push(SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn the_report_names_what_each_upstream_is() {
    let fine = testkit(Setup { version: "0.31.4".to_owned(), ..Setup::default() });
    let empty = testkit(Setup::default().with_models(&[]));
    let nobody = "http://127.0.0.1:9";
    let home = Home::new();
    let gate = home.serve(&["--upstream", &fine.url(), "--upstream", &empty.url(), "--upstream", nobody]);
    let of = |url: &str| {
        let is_its = |line: &str| line.starts_with("  upstream ") && line.contains(url);
        gate.running.says(url, is_its)
    };
    let line = of(&fine.url());
    assert!(
        line.contains("0.31.4") && line.contains("demo:latest") && line.contains("embedder:latest"),
        "{line}"
    );
    let line = of(&empty.url());
    assert!(line.contains("no models") && line.contains("herdgate pull NAME"), "{line}");
    let line = of(nobody);
    assert!(line.contains("refused"), "{line}");
    let version = Ask::get("/api/version").send(gate.address).ok().json();
    assert_eq!(version["version"], "0.31.4", "the lowest of those that answer");
}

#[test]
fn both_signals_end_it_at_once_and_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let mut gate = home.serve(&["--upstream", "http://127.0.0.1:9"]);
        gate.running.signal(signal);
        let status = gate.running.ended();
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", gate.running.err());
        assert_eq!(gate.running.out(), "", "data without being asked for any");
    }
}
