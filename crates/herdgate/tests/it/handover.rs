//! The binary replaced while the gate runs: nobody is refused, nothing is cut, what the gate started goes on, and a fresh
//! start that fails changes nothing.

mod steady;

use crate::harness::load::{Load, TOKEN, chat, home as plain_home, slow_ollama};
use crate::harness::peer::free_port;
use crate::harness::running::{Process, send};
use crate::harness::{Ask, Home, PATIENCE, Running, testkit, until};
use crate::terminal;
use gate_testkit::{Fault, Order, Release, Setup};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use steady::Steady;

/// A gate that took over, ended with the test.
pub(crate) struct Fresh(Process);

impl Fresh {
    /// Waits until the gate of `pid` has handed over to one.
    #[track_caller]
    pub(crate) fn of(running: &Running) -> Self {
        Self::after(running, 0)
    }

    /// The same where there were `earlier` ones.
    #[track_caller]
    fn after(running: &Running, earlier: usize) -> Self {
        const WORDS: &str = "the gate was handed over to process ";
        let pid = until("the hand-over", || {
            let said = running.err();
            let line = said.lines().filter(|line| line.contains(WORDS)).nth(earlier)?;
            let number = line.split(WORDS).nth(1)?;
            number.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()
        });
        let fresh = Self(Process::of(pid).unwrap());
        until("the word that it took over", || {
            (running.err().matches("took the gate over from process").count() > earlier).then_some(())
        });
        fresh
    }

    #[track_caller]
    pub(crate) fn end(self) {
        send(self.0.pid, Signal::TERM);
        until("the end of the fresh gate", || (!self.0.is_alive()).then_some(()));
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.0.is_alive() {
            send(self.0.pid, Signal::KILL);
        }
    }
}

/// A home whose program can be replaced.
fn home() -> Home {
    Home::with_own_program().env("AUTH_TOKEN", TOKEN)
}

/// Puts this in the program's place, as an installer does.
fn install(home: &Home, program: impl FnOnce(&Path)) -> u64 {
    let new = home.path("programs/new");
    program(&new);
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, home.path("programs/herdgate")).unwrap();
    home.path("programs/herdgate").metadata().unwrap().ino()
}

fn copy(to: &Path) {
    fs::copy(env!("CARGO_BIN_EXE_herdgate"), to).unwrap();
}

#[test]
fn the_binary_is_replaced_under_load_and_nobody_notices() {
    let ollama = slow_ollama();
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let key = home.key("early", &[]);
    gate.takes(&key);
    let old = Process::of(gate.running.pid()).unwrap();
    let streams = Load::start(gate.address, 50);
    let requests = Steady::start(gate.address, 1000);
    streams.goes_on(100);

    let inode = install(&home, copy);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert_eq!(fs::metadata(format!("/proc/{}/exe", fresh.0.pid)).unwrap().ino(), inode, "not the new file");
    assert!(gate.running.left().success(), "{}", gate.running.err());
    assert!(!old.is_alive());
    streams.goes_on(100);

    // And once more, from the one that took over.
    send(fresh.0.pid, Signal::USR2);
    let last = Fresh::after(&gate.running, 1);
    until("the end of the one between", || (!fresh.0.is_alive()).then_some(()));
    streams.goes_on(100);
    let (streams, requests) = (streams.stop(), requests.stop());
    assert!(streams > 300 && requests > 1000, "{streams} streams, {requests} requests");

    // The directory was never free, and keys are watched.
    let second = home.run(&["serve", "--listen", "127.0.0.1:0", "--upstream", &ollama.url()]);
    assert!(
        second.err.contains(&format!("in use by a gate that runs (process {})", last.0.pid)),
        "{}",
        second.err
    );
    gate.takes(&home.key("late", &[]));
    assert_eq!(home.run(&["key", "revoke", "early"]).code, 0);
    let status = || Ask::get("/api/tags").key(&key).send(gate.address).status;
    until("the revocation to be known", || (status() == 401).then_some(()));
    last.end();
    assert!(TcpStream::connect(gate.address).is_err(), "somebody still listens");
}

#[test]
fn a_stream_ends_in_the_old_gate_and_its_key_is_still_watched() {
    let ollama = testkit(Setup::default());
    let pause = Some(Duration::from_secs(6));
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause }).on("/api/chat"));
    // The time of an end has nothing to do with it.
    let home = home().settings("[server]\ngrace = \"1s\"\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let key = home.key("doomed", &[]);
    gate.takes(&key);
    let whole = chat().open(gate.address);
    let body = serde_json::json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]});
    let doomed = Ask::post("/api/chat", &body).key(&key).open(gate.address);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert!(
        Process::of(gate.running.pid()).is_some_and(|old| old.is_alive()),
        "it did not wait for its streams"
    );
    assert_eq!(home.run(&["key", "revoke", "doomed"]).code, 0);
    let cut = doomed.rest();
    assert!(cut.cut.is_some() && cut.text().contains("revoked"), "{cut}");
    let lines = whole.rest().ok().lines();
    assert_eq!(lines.last().unwrap()["done"], true, "{lines:?}");
    assert!(gate.running.left().success(), "{}", gate.running.err());
    fresh.end();
}

#[test]
fn the_old_gate_leaves_its_addresses_to_others() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let metrics = free_port();
    let settings = format!("[metrics]\naddress = \"{metrics}\"\n");
    let home = home().settings(&settings);
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let stream = chat().open(gate.address);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    // Only the old one has a request.
    let running = || {
        let told = Ask::get("/metrics").send(metrics).ok().text();
        let line = told.lines().find(|line| line.starts_with("herdgate_upstream_in_flight{"));
        line.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    until("metrics of the fresh gate", || running().ends_with(" 0").then_some(()));
    assert!((0..20).all(|_| running().ends_with(" 0")), "both tell");
    fresh.end();
    for address in [gate.address, metrics] {
        let is_refused = || TcpStream::connect(address).err().map(|error| error.kind());
        let how = until("nobody to listen any more", is_refused);
        assert_eq!(how, ErrorKind::ConnectionRefused);
    }
    let other = plain_home().settings(&settings);
    let address = gate.address.to_string();
    let next = other.begin_at(&address, &["--upstream", &ollama.url()]);
    assert_eq!(Ask::get("/api/tags").key(TOKEN).send(next.address).status, 200);
    assert_eq!(Ask::get("/metrics").send(metrics).status, 200);
    // All of it while the stream runs in the first one.
    gate.running.signal(Signal::TERM);
    let cut = stream.rest();
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(cut.cut.is_some() && last.contains("\"shutting_down\""), "{cut}");
    assert!(gate.running.left().success(), "{}", gate.running.err());
    next.end();
}

#[test]
fn an_old_gate_without_patience_leaves_the_fresh_one_its_sockets() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let home = home().settings("[server]\nhandover_grace = \"0s\"\nthreads = 8\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let streams: Vec<_> = (0..8).map(|_| chat().open(gate.address)).collect();
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert!(gate.running.left().success(), "{}", gate.running.err());
    assert!(streams.into_iter().all(|stream| stream.rest().cut.is_some()));
    // Each of the sockets is met by some.
    for _ in 0..100 {
        let wire = TcpStream::connect_timeout(&gate.address, PATIENCE);
        drop(wire.expect("a socket that hears nobody any more"));
    }
    assert_eq!(Ask::get("/api/tags").key(TOKEN).send(gate.address).status, 200);
    fresh.end();
}

#[test]
fn the_old_gate_does_not_wait_for_ever() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let home = home().settings("[server]\nhandover_grace = \"1s\"\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let stream = chat().open(gate.address);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    let cut = stream.rest();
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(cut.cut.is_some() && last.contains("\"shutting_down\""), "{cut}");
    assert!(gate.running.left().success());
    fresh.end();
}

#[test]
fn a_fresh_start_that_fails_changes_nothing_and_says_why() {
    let ollama = testkit(Setup::default());
    let home = home();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mut refused = 0;
    let mut fails = |words: &str| {
        gate.running.signal(Signal::USR2);
        let said = until("why it failed", || {
            let said = gate.running.err();
            let mut lines = said.lines().filter(|line| line.contains("was not handed over"));
            lines.nth(refused).map(str::to_owned)
        });
        refused += 1;
        assert!(said.contains(words), "{words}: {said}");
        chat().send(gate.address).ok();
        let left: Vec<Process> = gate.running.descendants().into_iter().filter(Process::is_alive).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    };
    fs::write(home.path("herdgate.toml"), "colour = true\n").unwrap();
    fails("unknown setting");
    fs::write(home.path("herdgate.toml"), "[listen]\naddress = \"127.0.0.1:1\"\n").unwrap();
    fs::write(home.path("herdgate.toml"), "[metrics]\naddress = \"192.0.2.1:9\"\n").unwrap();
    fails("no interface of this machine has that address");
    fs::write(home.path("herdgate.toml"), "").unwrap();
    install(&home, |new| fs::write(new, "#!/bin/sh\nexit 7\n").unwrap());
    fails("ended before it served: exit status: 7");
    let real = env!("CARGO_BIN_EXE_herdgate");
    let dies = format!("#!/bin/sh\n'{real}' \"$@\" <&0 &\n/bin/sleep 1\nkill -9 $!\nexit 3\n");
    install(&home, |new| fs::write(new, dies).unwrap());
    fails("ended before it served");
    install(&home, |new| fs::write(new, "no program").unwrap());
    fails("cannot start");
    install(&home, |new| fs::write(new, "#!/bin/sh\nexec /bin/sleep 60\n").unwrap());
    gate.running.signal(Signal::USR2);
    gate.running.says("that it starts", |line| line.contains("SIGUSR2: starting"));
    // Being ended is more urgent than being replaced.
    gate.end();
}

#[test]
fn one_hand_over_at_a_time() {
    let ollama = testkit(Setup::default());
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    gate.running.signal(Signal::USR2);
    gate.running.says("that it starts", |line| line.contains("SIGUSR2: starting"));
    gate.running.signal(Signal::USR2);
    gate.running.says("that one is enough", |line| line.contains("being handed over already"));
    let fresh = Fresh::of(&gate.running);
    assert!(gate.running.left().success());
    assert_eq!(gate.running.err().matches("was handed over to process").count(), 1);
    fresh.end();
}

#[test]
fn an_ollama_that_the_gate_started_goes_on_under_the_next() {
    let Some(home) = terminal::home() else { return };
    let home = home.settings("[log]\nlevel = \"debug\"\n");
    let mut gate = home.serve(&[]);
    let ollama = terminal::ollama_of(&gate);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert!(gate.running.left().success(), "{}", gate.running.err());
    assert!(ollama.is_alive());
    terminal::chat(&gate).send(gate.address).ok();
    assert_eq!(gate.running.err().matches("  started ").count(), 2, "each says what it watches");

    // The fresh one knows when it dies, and starts it again.
    send(ollama.pid, Signal::KILL);
    gate.running.says("its end", |line| line.contains("ollama ended by itself: signal: 9"));
    until("another Ollama", || {
        let body = serde_json::json!({"model": "demo", "messages": []});
        (Ask::post("/api/chat", &body).key(&gate.first_key()).send(gate.address).status == 200).then_some(())
    });

    // However the last gate ends, its Ollama ends with it.
    send(fresh.0.pid, Signal::USR2);
    let last = Fresh::after(&gate.running, 1);
    until("the end of the one between", || (!fresh.0.is_alive()).then_some(()));
    terminal::chat(&gate).send(gate.address).ok();
    let all = running_from(&home);
    assert_eq!(all.len(), 3, "gate, guard and Ollama: {all:?}");
    send(last.0.pid, Signal::KILL);
    until("the end of everything", || all.iter().all(|process| !process.is_alive()).then_some(()));
}

/// Every process whose working directory is this home.
fn running_from(home: &Home) -> Vec<Process> {
    let folder = home.path("").canonicalize().unwrap();
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let here =
        all.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder));
    here.filter_map(Process::of).filter(Process::is_alive).collect()
}

#[test]
fn the_service_manager_is_told_who_the_gate_is_now() {
    let ollama = testkit(Setup::default());
    let home = home();
    let socket = home.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let own = std::process::id().to_string();
    let home = home.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000").env("WATCHDOG_PID", &own);
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    gate.running.signal(Signal::USR2);
    let fresh = Fresh::of(&gate.running);
    assert!(gate.running.left().success());
    let mut message = [0; 4096];
    let mut all = Vec::new();
    let main = format!("MAINPID={}\n", fresh.0.pid);
    let mut told = || {
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    until("who the gate is", || {
        all.push(told());
        (all.last() == Some(&main)).then_some(())
    });
    // Until then the manager would not hear the fresh one.
    assert_eq!(all.iter().filter(|told| told.starts_with("READY=1\n")).count(), 1, "{all:?}");
    // The fresh one is ready, shows that it is alive, and the old one says nothing of an end.
    let after = until("that it is ready", || Some(told()).filter(|told| told.starts_with("READY=1\n")));
    assert!(after.contains("STATUS=serving"), "{after}");
    until("signs of life", || (told() == "WATCHDOG=1\n").then_some(()));
    assert!(!all.iter().any(|told| told.contains("STOPPING")), "{all:?}");
    fresh.end();
}

/// A service manager that is told of a main process looks whose child it is: one that is not its own is killed at the next stop,
/// with every stream in it.
#[test]
fn the_fresh_gate_is_nobodys_child_before_the_service_manager_is_told() {
    let ollama = testkit(Setup::default());
    let held = Release::default();
    ollama.order(Order::always(Fault::HoldAfter { bytes: 600, until: held.clone() }).on("/api/chat"));
    let home = home();
    let socket = home.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let home = home.env("NOTIFY_SOCKET", &socket);
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    // As long as this stream runs, the old gate is there to be a parent.
    let stream = chat().open(gate.address);
    gate.running.signal(Signal::USR2);
    let mut message = [0; 4096];
    let main: i32 = until("who the gate is", || {
        let length = manager.recv(&mut message).unwrap();
        std::str::from_utf8(&message[..length]).unwrap().trim().strip_prefix("MAINPID=")?.parse().ok()
    });
    let parent = Process::of(main).unwrap().parent;
    let here: Vec<i32> = running_from(&home).iter().map(|process| process.pid).collect();
    assert!(here.contains(&gate.running.pid()) && here.contains(&main), "{here:?}");
    assert!(!here.contains(&parent), "its parent {parent} is one of the gate's own: {here:?}");
    held.now();
    assert_eq!(stream.rest().ok().lines().last().unwrap()["done"], true);
    let fresh = Fresh::of(&gate.running);
    assert!(gate.running.left().success());
    fresh.end();
}

#[test]
fn sockets_of_the_service_manager_are_handed_on() {
    let ollama = slow_ollama();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = plain_home().settings("[listen]\naddress = \"127.0.0.1:1\"\n");
    let mut running = home.serve_on(&listener, &["--upstream", &ollama.url()]);
    let load = Load::start(address, 8);
    load.goes_on(16);
    running.signal(Signal::USR2);
    let fresh = Fresh::of(&running);
    assert!(running.left().success());
    load.goes_on(16);
    load.stop();
    fresh.end();
    // The socket is the manager's, and outlives them all.
    TcpStream::connect(address).unwrap();
}

#[test]
fn other_addresses_and_another_number_of_threads_lose_nobody() {
    let ollama = slow_ollama();
    let home = home().settings("[server]\nthreads = 4\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let load = Load::start(gate.address, 16);
    let mut last: Option<Fresh> = None;
    for (earlier, threads) in [1, 3].into_iter().enumerate() {
        fs::write(home.path("herdgate.toml"), format!("[server]\nthreads = {threads}\n")).unwrap();
        load.goes_on(32);
        let before = last.as_ref().map_or(gate.running.pid(), |fresh| fresh.0.pid);
        send(before, Signal::USR2);
        let fresh = Fresh::after(&gate.running, earlier);
        until("the end of the old gate", || {
            Process::of(before).is_none_or(|old| !old.is_alive()).then_some(())
        });
        load.goes_on(32);
        last = Some(fresh);
    }
    load.stop();
    assert!(gate.running.left().success());
    last.unwrap().end();
}

#[test]
fn nobody_takes_over_from_nobody() {
    let home = home();
    let told = home.run(&["serve", "--handed-over"]);
    assert_eq!(told.code, 1, "{}", told.err);
    assert!(told.err.contains("nobody hands a gate over"), "{}", told.err);
}
