//! The admin socket itself: where it may lie and whose it may be, that nobody locks the owner out of it, and that commands which
//! run when the gate ends or is replaced are waited for.

use crate::handover::Fresh;
use crate::harness::load::{TOKEN, home};
use crate::harness::peer::free_port;
use crate::harness::{Ask, Gate, Home, Running, leave_out, now, testkit, until};
use crate::pulling::{empty_kit, slow_pull};
use gate_testkit::{Ollama, Release, Setup};
use rustix::process::{Signal, geteuid};
use rustix::thread::set_thread_res_uid;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

fn serve<'h>(home: &'h Home, kit: &Ollama) -> Gate<'h> {
    let gate = home.serve(&["--upstream", &kit.url()]);
    until("the admin socket", || home.data("admin.sock").exists().then_some(()));
    gate
}

fn start(home: &Home, command: &[&str]) -> Running {
    Running::with_input(&mut home.command(command), Stdio::null())
}

/// Waits until the upstream was asked for it.
fn asked(kit: &Ollama, path: &str) {
    now(kit.until(|seen| seen.iter().any(|one| one.target() == path))).unwrap();
}

#[test]
fn in_a_directory_of_everybodys_there_is_none() {
    let kit = testkit(Setup::default());
    let home = home();
    fs::create_dir(home.data("")).unwrap();
    fs::write(home.data("of-somebody-else"), "").unwrap();
    fs::set_permissions(home.data(""), Permissions::from_mode(0o777)).unwrap();
    let gate = home.serve(&["--upstream", &kit.url()]);
    let line = gate.running.says("why there is none", |line| line.contains("no admin socket at "));
    assert!(
        line.contains("others may write to it (mode 0777)") && line.contains("close it: chmod 700 "),
        "{line}"
    );
    assert!(!home.data("admin.sock").exists());
    assert_eq!(Ask::get("/api/tags").key(TOKEN).send(gate.address).status, 200, "it serves all the same");
    fs::set_permissions(home.data(""), Permissions::from_mode(0o700)).unwrap();
    until("the socket", || (home.run(&["models"]).code == 0).then_some(()));
}

#[test]
fn a_strangers_socket_is_told_nothing() {
    if !geteuid().is_root() {
        return leave_out("being somebody else takes root");
    }
    let home = Home::new();
    fs::create_dir(home.data("")).unwrap();
    fs::set_permissions(home.data(""), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(home.path(""), Permissions::from_mode(0o755)).unwrap();
    let path = home.data("admin.sock");
    let stranger = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        // Of this thread alone.
        set_thread_res_uid(nobody, nobody, nobody).unwrap();
        UnixListener::bind(path).unwrap()
    });
    let stranger = stranger.join().unwrap();
    for command in [&["models"][..], &["pull", "x"], &["run", "x", "Hi"]] {
        let mut told = start(&home, command);
        assert_eq!(told.ended().code(), Some(1));
        let err = told.err();
        assert!(err.contains("belongs to user 65534, and this is user 0") && err.contains("hint: "), "{err}");
        let mut heard = Vec::new();
        stranger.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    }
}

#[test]
fn a_stranger_who_could_connect_is_not_heard() {
    if !geteuid().is_root() {
        return leave_out("being somebody else takes root");
    }
    let kit = testkit(Setup::default());
    let home = home();
    let _gate = serve(&home, &kit);
    // As it is for a moment where all may look into the directory and the gate was started with umask 0.
    for (path, mode) in [(home.path(""), 0o755), (home.data(""), 0o755), (home.data("admin.sock"), 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let path = home.data("admin.sock");
    let ask = |user: u32| {
        let path = path.clone();
        let asked = std::thread::spawn(move || {
            let user = rustix::process::Uid::from_raw(user);
            set_thread_res_uid(user, user, user).unwrap();
            let mut wire = UnixStream::connect(path).unwrap();
            // It may be closed before it is written to, or read from.
            let _closed =
                wire.write_all(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let mut told = Vec::new();
            let _reset = wire.read_to_end(&mut told);
            String::from_utf8(told).unwrap()
        });
        asked.join().unwrap()
    };
    assert_eq!(ask(65534), "");
    assert!(ask(0).starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_announces_a_body_and_sends_none_keeps_nobody_out() {
    let kit = testkit(Setup::default());
    let home = home();
    let _gate = serve(&home, &kit);
    let head = "POST /v1/keys/look HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";
    // As many as there may be commands at one time.
    let idle: Vec<_> = (0..32)
        .map(|_| {
            let mut wire = UnixStream::connect(home.data("admin.sock")).unwrap();
            wire.write_all(head.as_bytes()).unwrap();
            wire
        })
        .collect();
    // Waits its turn behind them.
    let mut told = start(&home, &["models"]);
    assert!(told.ended().success(), "{}", told.err());
    for mut wire in idle {
        let mut told = String::new();
        wire.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("the rest never came"), "{told}");
    }
}

#[test]
fn idle_connections_of_this_machine_do_not_lock_the_owner_out() {
    let kit = testkit(Setup::default());
    let home = Home::new().settings("[limits]\nper_address = 2\nconnections = 2\n");
    let gate = serve(&home, &kit);
    let mut idle: Vec<_> = (0..3).map(|_| TcpStream::connect(gate.address).unwrap()).collect();
    idle.iter().for_each(|wire| wire.set_nonblocking(true).unwrap());
    // Two are let in once the third, whichever that is, is not.
    let is_closed = |wire: &mut TcpStream| {
        wire.read(&mut [0]).map_or_else(|why| why.kind() != ErrorKind::WouldBlock, |_| true)
    };
    until("one to be turned away", || idle.iter_mut().any(is_closed).then_some(()));
    let mut told = start(&home, &["run", "demo", "Hi"]);
    assert!(told.ended().success(), "{}", told.err());
    drop(idle);
}

#[test]
fn what_commands_send_counts_among_all_bodies() {
    let kit = testkit(Setup::default());
    let metrics = free_port();
    let home = Home::new().settings(&format!("[metrics]\naddress = \"{metrics}\"\n"));
    let _gate = serve(&home, &kit);
    let mut wire = UnixStream::connect(home.data("admin.sock")).unwrap();
    let head = "POST /v1/gate/api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n";
    wire.write_all(head.as_bytes()).unwrap();
    wire.write_all(&[b' '; 1_000_000]).unwrap();
    until("half of it to be counted", || {
        let told = Ask::get("/metrics").send(metrics).ok().text();
        let held = told.lines().find_map(|line| line.strip_prefix("herdgate_held_bytes "));
        let held: usize = held.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
        (held >= 1_000_000).then_some(())
    });
}

#[test]
fn a_change_of_a_key_is_in_force_when_its_command_has_ended() {
    let kit = testkit(Setup::default());
    let home = home();
    let gate = serve(&home, &kit);
    let status = |key: &str, path: &str| Ask::get(path).key(key).send(gate.address).status;
    // More than once: by chance the gate has just looked by itself.
    for round in 0..4 {
        let name = format!("guest-{round}");
        let key = home.key(&name, &["--scope", "infer"]);
        assert_eq!(status(&key, "/api/tags"), 403);
        assert_eq!(home.run(&["key", "set", &name, "--scope", "infer,read"]).code, 0);
        assert_eq!(status(&key, "/api/tags"), 200);
        assert_eq!(home.run(&["key", "revoke", &name]).code, 0);
        assert_eq!(status(&key, "/api/tags"), 401);
    }
    // Without a gate nobody is missed.
    gate.end();
    let made = home.run(&["key", "create", "late"]);
    assert!(made.code == 0 && !made.err.contains("error"), "{}", made.err);
}

#[test]
fn a_gate_that_ends_waits_for_its_commands_and_tells_pulls_why_they_end() {
    let kit = testkit(Setup::default().with_tokens(60).with_pace(Duration::from_millis(50)));
    let home = home();
    let mut gate = serve(&home, &kit);
    kit.order(slow_pull(&Release::default()));
    let mut pulling = start(&home, &["pull", "qwen3:8b"]);
    let mut running = start(&home, &["run", "demo", "Hi"]);
    asked(&kit, "/api/pull");
    asked(&kit, "/api/chat");
    let idle = UnixStream::connect(home.data("admin.sock")).unwrap();
    gate.running.signal(Signal::TERM);
    assert_eq!(pulling.ended().code(), Some(1));
    let err = pulling.err();
    assert!(
        err.contains("the gate ends, and the pull with it")
            && err.contains("hint: when a gate runs here again"),
        "{err}"
    );
    assert!(running.ended().success() && running.err().contains("(60 tokens"), "{}", running.err());
    assert!(gate.running.ended().success(), "{}", gate.running.err());
    assert!(gate.running.err().contains("every request has ended"), "{}", gate.running.err());
    drop(idle);
}

#[test]
fn commands_go_on_in_the_old_gate_after_a_hand_over() {
    let kit = empty_kit();
    kit.change(|setup| setup.models = Setup::default().models);
    let home = home();
    let mut gate = serve(&home, &kit);
    let release = Release::default();
    kit.order(slow_pull(&release));
    let mut pulling = start(&home, &["pull", "qwen3:8b"]);
    asked(&kit, "/api/pull");
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    // Others reach the gate that took over.
    until("the fresh gate's socket", || (home.run(&["models"]).code == 0).then_some(()));
    release.now();
    assert!(pulling.ended().success(), "{}", pulling.err());
    assert!(pulling.err().contains("pulled qwen3:8b at "), "{}", pulling.err());
    assert!(gate.running.left().success(), "{}", gate.running.err());
    fresh.end();
    assert!(!home.data("admin.sock").exists());
}

#[test]
fn after_a_hand_over_a_pull_has_the_time_of_grace() {
    let kit = empty_kit();
    let home = home().settings("[server]\nhandover_grace = \"1s\"\n");
    let mut gate = serve(&home, &kit);
    kit.order(slow_pull(&Release::default()));
    let mut pulling = start(&home, &["pull", "qwen3:8b"]);
    asked(&kit, "/api/pull");
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert_eq!(pulling.ended().code(), Some(1));
    assert!(pulling.err().contains("the gate ends, and the pull with it"), "{}", pulling.err());
    assert!(gate.running.left().success(), "{}", gate.running.err());
    fresh.end();
}
