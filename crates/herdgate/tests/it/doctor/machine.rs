//! The same without a target: this machine. It has a network of its own here, in which real programs stand where they should not, and
//! cures are run as they are told; `sudo` is whoever runs the tests.

use super::network::Wire;
use super::{Report, commands};
use crate::harness::{Home, Running, front, until};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// An Ollama that is a program of its own, called so, and reads its variables: `ollama serve` has Python read a file called `serve`.
const OLLAMA: &str = r#"
import http.server, json, os
host, _, port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
class Ollama(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def say(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        if os.environ.get("OLLAMA_ORIGINS") == "*":
            self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.say(200, {"version": "0.35.0", "models": []})
    def do_OPTIONS(self):
        self.say(204 if "OLLAMA_ORIGINS" in os.environ else 403, {})
http.server.ThreadingHTTPServer((host, int(port)), Ollama).serve_forever()
"#;

/// A machine with its own network, and the gate's settings.
pub(super) struct Server {
    pub(super) wire: Wire,
    pub(super) here: Home,
}

impl Server {
    #[track_caller]
    pub(super) fn new() -> Option<Self> {
        Self::with(|home, first| home.through(first))
    }

    #[track_caller]
    pub(super) fn with(enter: impl FnOnce(Home, &str) -> Home) -> Option<Self> {
        let python = front::find("python3")?;
        let wire = Wire::new()?;
        let here = enter(Home::new(), &wire.net.moves_into("server"));
        std::os::unix::fs::symlink(python, here.path("bin/ollama")).unwrap();
        fs::write(here.path("serve"), OLLAMA).unwrap();
        Some(Self { wire, here })
    }

    #[track_caller]
    pub(super) fn doctor(&self) -> Report {
        super::doctor(&self.here, &["--no-inference"])
    }

    /// A shell there that does this.
    pub(super) fn shell(&self, command: &str) -> Command {
        let mut shell = self.wire.net.command("server", "/bin/sh");
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.here.path("bin").display());
        shell.args(["-c", &command.replace("sudo ", "")]).env("PATH", path).current_dir(self.here.path(""));
        shell
    }

    /// Runs a cure to its end.
    #[track_caller]
    pub(super) fn run(&self, command: &str) -> String {
        let done = self.shell(command).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Starts what does not end by itself, and waits until it listens.
    #[track_caller]
    pub(super) fn start(&self, command: &str, listens: &str) -> Running {
        let mut running = Running::start(&mut self.shell(command));
        let address: SocketAddr = listens.parse().unwrap();
        until(&format!("{command} to listen"), || {
            assert!(running.is_running(), "{}", running.err());
            self.wire.net.within("server", || TcpStream::connect(address).ok())
        });
        running
    }

    #[track_caller]
    pub(super) fn settings(&self, text: &str) {
        fs::write(self.here.path("herdgate.toml"), text).unwrap();
    }
}

/// An Ollama has the port that the gate should have.
#[test]
fn an_ollama_at_the_port_of_the_gate() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    let taker = server.start("OLLAMA_HOST=127.0.0.1:7860 exec ollama serve", "127.0.0.1:7860");
    let cure = server
        .doctor()
        .cure("answer", "Ollama 0.35.0 answers where the gate should listen; it is ollama (pid");
    assert_eq!(cure, [format!("sudo kill {}", taker.pid())]);
    server.run(&cure[0]);
    drop(taker);
    server.doctor().is_sound();
}

/// Another program has that port, and speaks no HTTP.
#[test]
fn another_program_at_the_port_of_the_gate() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    let listens = "import socket, time; s = socket.create_server(('127.0.0.1', 7860)); time.sleep(3600)";
    let taker = server.start(&format!("exec /usr/bin/python3 -c \"{listens}\""), "127.0.0.1:7860");
    let cure = server.doctor().cure("taken", "127.0.0.1:7860 is taken by python3");
    assert_eq!(cure, [format!("sudo kill {}", taker.pid())]);
    server.run(&cure[0]);
    drop(taker);
    server.doctor().is_sound();
}

/// An Ollama beside the one behind the gate, on every address.
#[test]
fn an_ollama_on_every_address_beside_the_gate() {
    let Some(server) = Server::new() else { return };
    let _behind = server.wire.ollama("127.0.0.1:11500");
    server.settings("upstreams = [\"http://127.0.0.1:11500\"]\n");
    let open = server.start("OLLAMA_HOST=0.0.0.0:11434 exec ollama serve", "127.0.0.1:11434");
    let cure = server
        .doctor()
        .cure("bound", "Ollama 0.35.0 listens on 0.0.0.0:11434, every address of this machine");
    assert_eq!(cure[0], format!("sudo kill {}", open.pid()));
    server.run(&cure[0]);
    drop(open);
    let _bound = server.start(&cure[1], "127.0.0.1:11434");
    server.doctor().is_sound();
}

/// An upstream on loopback, as far as the gate knows, that is bound to all addresses.
#[test]
fn an_ollama_that_the_gate_knows_on_loopback_and_others_reach() {
    let Some(server) = Server::new() else { return };
    let open = server.start("OLLAMA_HOST=0.0.0.0:11434 exec ollama serve", "127.0.0.1:11434");
    let cure = server.doctor().cure("key", "anybody who reaches 10.77.0.2:11434 uses its models");
    assert_eq!(cure[0], format!("sudo kill {}", open.pid()));
    server.run(&cure[0]);
    drop(open);
    let _bound = server.start(&cure[1], "127.0.0.1:11434");
    server.doctor().is_sound();
}

impl Server {
    /// What systemd does with the drop-in of that cure: the Ollama ends, and starts anew with its variables.
    #[track_caller]
    fn restarted(&self, running: Running, cure: &str) -> Running {
        let sets = super::overridden(&self.here, cure);
        drop(running);
        let host = sets.iter().find(|(name, _)| name == "OLLAMA_HOST").unwrap().1.clone();
        let words: Vec<String> = sets.iter().map(|(name, value)| format!("'{name}={value}'")).collect();
        self.start(&format!("exec env {} ollama serve", words.join(" ")), &host)
    }
}

/// An Ollama without a key, off loopback, seen from another machine.
#[test]
fn an_ollama_that_wants_no_key() {
    let Some(server) = Server::new() else { return };
    let open = server.start("OLLAMA_HOST=10.77.0.2:11434 exec ollama serve", "10.77.0.2:11434");
    let url = "http://10.77.0.2:11434";
    let report = server.wire.doctor(&[url]);
    let first = report.first("key", "anybody who reaches 10.77.0.2:11434 uses its models");
    let cure = commands(&first["cure"]);
    let _bound = server.restarted(open, &cure[0]);
    let words: Vec<&str> = cure[1].split(' ').collect();
    let gate = server.here.begin_at(words[3], &words[4..]);
    gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
    server.wire.doctor(&[url]).is_sound();
    gate.end();
}

/// The same as an upstream of the gate of that very machine, which can be walked around.
#[test]
fn an_upstream_of_this_machine_off_loopback() {
    let Some(server) = Server::new() else { return };
    let open = server.start("OLLAMA_HOST=10.77.0.2:11434 exec ollama serve", "10.77.0.2:11434");
    server.settings("upstreams = [\"http://10.77.0.2:11434\"]\n");
    let cure = server.doctor().cure("key", "it wants no key");
    let _bound = server.restarted(open, &cure[0]);
    server.settings("upstreams = [\"http://127.0.0.1:11434\"]\n");
    server.doctor().is_sound();
}

/// The Ollama of this machine has another port than the gate looks at, by itself and by its settings.
#[test]
fn an_ollama_at_another_port() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.start("OLLAMA_HOST=127.0.0.1:8080 exec ollama serve", "127.0.0.1:8080");
    let seen = "no Ollama listens on 127.0.0.1:11434; one listens on 127.0.0.1:8080";
    let report = server.doctor();
    let lines = commands(&report.warns("port", seen)["cure"]);
    assert_eq!(lines, ["upstreams = [\"http://127.0.0.1:8080\"]"]);
    server.settings("upstreams = [\"http://127.0.0.1:11434\"]\n");
    assert_eq!(server.doctor().cure("port", seen), lines);
    server.settings(&lines[0]);
    server.doctor().is_sound();
    let told = format!("{:?}", server.doctor().findings);
    assert!(!told.contains(seen), "{told}");
}

/// A model that is missing where nobody gets out to where models are.
#[test]
fn a_model_that_cannot_be_pulled() {
    let Some(server) = Server::new() else { return };
    let ollama = server.wire.ollama("127.0.0.1:11434");
    let report = super::doctor(&server.here, &["http://127.0.0.1:11434", "--model", "qwen3:8b"]);
    let cure = report.cure("model", "cannot be pulled here: registry.ollama.ai cannot be looked up");
    assert!(cure[1].contains("Environment=\"HTTPS_PROXY="), "{cure:?}");
    drop(ollama);
}

/// Pages of any origin.
#[test]
fn an_ollama_for_pages_of_any_origin() {
    let Some(server) = Server::new() else { return };
    let open = server.start("OLLAMA_ORIGINS=* exec ollama serve", "127.0.0.1:11434");
    let report = server.doctor();
    let cure = commands(&report.warns("origins", "OLLAMA_ORIGINS=*")["cure"]);
    assert_eq!(cure[0], format!("sudo kill {}", open.pid()));
    server.run(&cure[0]);
    drop(open);
    let _shut = server.start(&cure[1], "127.0.0.1:11434");
    server.doctor().is_well("origins");
}

/// A proxy, nginx or Caddy, leads to Ollama itself.
#[test]
fn proxies_that_lead_past_the_gate() {
    let (Some(nginx), Some(caddy)) = (front::find("nginx"), front::find("caddy")) else { return };
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    server.doctor().is_sound();
    let heal = |running: Running, seen: &str| {
        let cure = server.doctor().cure("front", seen);
        assert_eq!(cure.len(), 3, "{cure:?}");
        cure.iter().for_each(|command| drop(server.run(command)));
        server.doctor().is_sound();
        drop(running);
    };
    let conf =
        "server {\n listen 10.77.0.2:8080;\n location / {\n  proxy_pass http://localhost:11434;\n }\n}";
    let running = front::nginx(&server.here, server.wire.net.command("server", &nginx), conf);
    server.wire.net.within("server", || front::listens("10.77.0.2:8080".parse().unwrap()));
    heal(running, "nginx leads to Ollama itself: ");
    let conf = "upstream ollamas { least_conn; server 10.77.0.8:11434; }\nserver {\n listen 10.77.0.2:8082;\n location / {\n  proxy_pass http://ollamas;\n }\n}";
    let running = front::nginx(&server.here, server.wire.net.command("server", &nginx), conf);
    server.wire.net.within("server", || front::listens("10.77.0.2:8082".parse().unwrap()));
    let report = server.doctor();
    let cure = commands(&report.warns("front", "names 10.77.0.8:11434")["cure"]);
    cure.iter().for_each(|command| drop(server.run(command)));
    server.doctor().is_well("front");
    drop(running);
    let sites = "{\n\tauto_https off\n}\nhttp://10.77.0.2:8081 {\n\treverse_proxy localhost:11434\n}\n";
    fs::write(server.here.path("Caddyfile"), sites).unwrap();
    let start = format!(
        "HOME={0} exec {caddy} run --adapter caddyfile --config {0}/Caddyfile",
        server.here.path("").display()
    );
    let running = server.start(&start, "10.77.0.2:8081");
    heal(running, "caddy leads to Ollama itself: ");
}

/// A tunnel that was started by hand.
#[test]
fn a_tunnel_that_leads_past_the_gate() {
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    // What the real one does with its words is not of this machine.
    let tunnel = server.here.path("bin/cloudflared");
    fs::write(&tunnel, "#!/bin/sh\necho started >&2\nread _\n").unwrap();
    fs::set_permissions(&tunnel, fs::Permissions::from_mode(0o755)).unwrap();
    let start = |command: &str| {
        let running = Running::start(&mut server.shell(&format!("exec {command}")));
        running.says("that it runs", |line| line == "started");
        running
    };
    let open = start("cloudflared tunnel --url http://localhost:11434");
    let cure = server.doctor().cure("front", "leads to Ollama itself: http://localhost:11434");
    server.run(&cure[0]);
    drop(open);
    assert_eq!(cure[1], "cloudflared tunnel --url http://localhost:7860");
    let _through = start(&cure[1]);
    server.doctor().is_sound();
}

/// A firewall of this machine keeps clients from the gate, or lets them to Ollama itself.
#[test]
fn rules_that_close_the_gate_or_open_ollama() {
    let Some(iptables) = front::find("iptables") else { return };
    let Some(server) = Server::new() else { return };
    let _ollama = server.wire.ollama("127.0.0.1:11434");
    server.settings("[listen]\naddress = \"10.77.0.2:7860\"\n");
    let gate = server.here.begin_at("10.77.0.2:7860", &[]);
    server.run(&format!("{iptables} -P INPUT DROP && {iptables} -A INPUT -i lo -j ACCEPT"));
    let cure =
        server.doctor().cure("firewall", "iptables lets nobody in at port 7860, where the gate listens");
    server.run(&cure[0]);
    server.doctor().is_sound();
    server.run(&format!("{iptables} -A INPUT -p tcp --dport 11434 -j ACCEPT"));
    let report = server.doctor();
    let cure =
        commands(&report.warns("firewall", "lets everybody in at port 11434, which is Ollama's")["cure"]);
    server.run(&cure[0]);
    let told = format!("{:?}", server.doctor().findings);
    assert!(!told.contains("which is Ollama's"), "{told}");
    gate.end();
}
