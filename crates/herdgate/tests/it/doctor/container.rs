//! The same from inside a container: a process with a network, names and a name server of its own, as Docker gives them. In the place
//! of `docker` stands a script that tells of it in Docker's words, and connects networks as Docker does.

use super::{Report, commands};
use crate::harness::{Home, Networks, Running, front, testkit, until};
use gate_testkit::{Ollama, Setup};
use serde_json::json;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const NAME: &str = "host.docker.internal";

/// A machine, a container on it, and another container in a network of its own.
struct Stage {
    net: Networks,
    home: Home,
    files: PathBuf,
    webui: Running,
    other: Running,
    _names: NameServer,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in ["webui", "ollama"] {
            drop(fs::remove_dir_all(self.net.folder(name)));
        }
    }
}

impl Stage {
    /// `asks` is what the container was told by a variable; `serves` where the other one's Ollama was told to listen.
    #[track_caller]
    fn set(asks: &str, serves: &str) -> Option<Self> {
        let net = Networks::make(&["host", "webui", "ollama"])?;
        net.ip("link add eth0 netns webui type veth peer name webui0 netns host");
        // The network that the two do not share yet.
        net.ip("link add eth1 netns webui type veth peer name eth0 netns ollama");
        for (name, device, address) in [
            ("host", "webui0", "10.88.0.1/24"),
            ("webui", "eth0", "10.88.0.2/24"),
            ("ollama", "eth0", "10.89.0.2/24"),
        ] {
            net.ip(&format!("-n {name} addr add {address} dev {device}"));
            net.ip(&format!("-n {name} link set {device} up"));
        }
        net.ip("-n webui route add default via 10.88.0.1");
        let home = Home::new();
        let first = format!("{}\nPATH={}:$PATH", net.moves_into("host"), home.path("bin").display());
        let (home, files) = (home.through(&first), net.folder("webui"));
        let (names, webui) = {
            fs::create_dir_all(&files).unwrap();
            fs::write(files.join("hosts"), "127.0.0.1 localhost\n10.88.0.2 webui\n").unwrap();
            fs::write(files.join("resolv.conf"), "nameserver 127.0.0.11\noptions ndots:0\n").unwrap();
            fs::write(files.join("names"), "").unwrap();
            (NameServer::begin(&net, files.join("names")), sleeper(&net, "webui"))
        };
        let other = sleeper(&net, "ollama");
        let stage = Self { net, home, files, webui, other, _names: names };
        stage.tell(asks, serves);
        Some(stage)
    }

    /// What `docker inspect` says from now on.
    fn tell(&self, asks: &str, serves: &str) {
        let container = |name: &str, image: &str, pid: i32, network: &str, env: Vec<&str>| {
            json!({
                "Name": format!("/{name}"),
                "State": { "Running": true, "Pid": pid },
                "Config": { "Image": image, "Env": env, "Labels": { "com.docker.compose.project": "ai", "com.docker.compose.service": name } },
                "HostConfig": { "NetworkMode": network },
                "NetworkSettings": { "Networks": { network: { "Aliases": [name] } } },
            })
        };
        let listens = format!("OLLAMA_HOST={serves}");
        let secret = "OPENAI_API_KEY=sk-not-to-be-told";
        let mut given = vec![secret];
        given.extend((!asks.is_empty()).then_some(asks));
        let all = json!([
            container(
                "webui",
                "ghcr.io/open-webui/open-webui:main",
                self.webui.pid(),
                "webui_default",
                given
            ),
            container("ollama-api", "ollama/ollama:latest", self.other.pid(), "ai_default", vec![&listens]),
        ]);
        let inspected = self.home.path("inspect.json");
        fs::write(&inspected, all.to_string()).unwrap();
        let connect = self.home.path("connect.sh");
        // What Docker does for `network connect`: an interface, an address, and the names of who is there.
        let whole = |name: &str| self.net.folder(name).file_name().unwrap().to_str().unwrap().to_owned();
        let text = format!(
            "ip -n {0} addr add 10.89.0.3/24 dev eth1\nip -n {0} link set eth1 up\necho '10.89.0.2 ollama-api' >> {1}\n",
            whole("webui"),
            self.files.join("names").display()
        );
        fs::write(&connect, text).unwrap();
        let script = format!(
            "#!/bin/sh\ncase $1 in\nps) echo 1; echo 2;;\ninspect) exec cat {};;\nnetwork) [ \"$*\" = 'network connect ai_default webui' ] && exec sh -e {};;\n*) exit 1;;\nesac\n",
            inspected.display(),
            connect.display()
        );
        let docker = self.home.path("bin/docker");
        fs::write(&docker, script).unwrap();
        fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn ollama(&self, name: &str, listen: &str) -> Ollama {
        let listen: SocketAddr = listen.parse().unwrap();
        let checks_host = listen.ip().is_loopback();
        self.net.within(name, || testkit(Setup { listen, checks_host, ..Setup::default() }))
    }

    #[track_caller]
    fn doctor(&self, args: &[&str]) -> Report {
        let args = [&["--from-container", "webui", "--no-inference"], args].concat();
        let report = super::doctor(&self.home, &args);
        let told = format!("{:?}", report.findings);
        assert!(!told.contains("sk-not-to-be-told"), "{told}");
        report
    }

    /// What Docker does for `extra_hosts: name:host-gateway`.
    #[track_caller]
    fn add_host(&self, lines: &str) {
        let line =
            lines.lines().find_map(|line| line.trim().strip_prefix("- \"")?.strip_suffix('"')).unwrap();
        let (name, address) = line.split_once(':').unwrap();
        let file = self.files.join("hosts");
        let hosts = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{hosts}{} {name}\n", address.replace("host-gateway", "10.88.0.1")))
            .unwrap();
    }
}

/// A program without an end in that network.
fn sleeper(net: &Networks, name: &str) -> Running {
    let running = Running::start(net.command(name, "sleep").arg("3600"));
    let exe = format!("/proc/{}/comm", running.pid());
    until("it to run there", || fs::read_to_string(&exe).ok().filter(|name| name.trim() == "sleep"));
    running
}

/// A name server at 127.0.0.11 of the container, as Docker's: it knows the names of a file and no other.
struct NameServer {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn begin(net: &Networks, names: PathBuf) -> Self {
        let socket = net.within("webui", || UdpSocket::bind("127.0.0.11:53").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                let answer = answer(&question[..length], &names);
                socket.send_to(&answer, from).unwrap();
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn answer(question: &[u8], names: &Path) -> Vec<u8> {
    let mut asked = Vec::new();
    let mut place = 12;
    while question[place] > 0 {
        let length = usize::from(question[place]);
        asked.push(String::from_utf8(question[place + 1..=place + length].to_vec()).unwrap());
        place += length + 1;
    }
    let (name, kind) = (asked.join("."), question[place + 2]);
    let known = fs::read_to_string(names).unwrap();
    let address = known.lines().find_map(|line| line.strip_suffix(&format!(" {name}")));
    let mut answer = question.to_vec();
    (answer[2], answer[3]) = (0x81, if address.is_some() { 0x80 } else { 0x83 });
    if let Some(Ok(IpAddr::V4(ip))) = address.map(str::parse).filter(|_| kind == 1) {
        answer[7] = 1;
        answer.extend_from_slice(&[192, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&ip.octets());
    }
    answer
}

macro_rules! gate {
    ($stage:expr, $listen:expr, $gate:ident) => {
        let $gate = $stage.home.begin_at($listen, &["--upstream", "http://127.0.0.1:11434"]);
        $gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
    };
}

/// The container does not know its host, because it was started without `extra_hosts`.
#[test]
fn a_container_that_does_not_know_its_host() {
    let Some(stage) = Stage::set("", "0.0.0.0") else { return };
    let _ollama = stage.ollama("host", "127.0.0.1:11434");
    gate!(stage, "10.88.0.1:7860", gate);
    let url = format!("http://{NAME}:7860");
    let cure = stage.doctor(&[&url]).cure("container", "webui does not know host.docker.internal");
    stage.add_host(&cure[0]);
    stage.doctor(&[&url]).is_sound();
    gate.end();
}

/// It asks itself; then the Ollama of its host, which listens on loopback alone.
#[test]
fn a_container_that_asks_itself_and_then_a_loopback() {
    let Some(stage) = Stage::set("OLLAMA_BASE_URL=http://localhost:11434", "0.0.0.0") else { return };
    let _ollama = stage.ollama("host", "127.0.0.1:11434");
    let cure = stage.doctor(&[]).cure("container", "webui asks localhost, which is the container itself");
    // What `docker compose up -d` does with these lines.
    let url = cure[0].lines().nth(1).unwrap().trim().strip_prefix("OLLAMA_BASE_URL: ").unwrap();
    stage.tell(&format!("OLLAMA_BASE_URL={url}"), "0.0.0.0");
    stage.add_host(&cure[0]);
    let cure = stage.doctor(&[]).cure("container", "on this machine only 127.0.0.1:11434 listens");
    let words: Vec<&str> = cure[0].split(' ').collect();
    assert_eq!(words[..4], ["herdgate", "serve", "--listen", "10.88.0.1:11434"]);
    gate!(stage, words[3], gate);
    stage.doctor(&[]).is_sound();
    gate.end();
}

/// Two stacks that share no network.
#[test]
fn a_container_in_another_network() {
    let Some(stage) = Stage::set("OLLAMA_BASE_URL=http://ollama-api:11434", "0.0.0.0") else { return };
    let _ollama = stage.ollama("ollama", "10.89.0.2:11434");
    let report = stage.doctor(&["http://ollama-api:11434"]);
    let first = report.first("container", "webui does not know ollama-api");
    assert!(first["why"].as_str().unwrap().contains("share no network"), "{first}");
    let cure = commands(&first["cure"]);
    assert_eq!(cure, ["docker network connect ai_default webui"]);
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", stage.home.path("bin").display());
    let done = std::process::Command::new("sh").args(["-c", &cure[0]]).env("PATH", path).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    stage.doctor(&["http://ollama-api:11434"]).is_sound();
}

/// They share one, and the other listens on its own loopback.
#[test]
fn an_ollama_on_the_loopback_of_its_own_container() {
    let Some(stage) = Stage::set("", "127.0.0.1:11434") else { return };
    stage.net.ip("-n webui addr add 10.89.0.3/24 dev eth1");
    stage.net.ip("-n webui link set eth1 up");
    fs::write(stage.files.join("names"), "10.89.0.2 ollama-api\n").unwrap();
    let shut = stage.ollama("ollama", "127.0.0.1:11434");
    let cure = stage
        .doctor(&["ollama-api"])
        .cure("container", "the container ollama-api is there, and nobody listens");
    assert_eq!(cure, ["environment:\n  OLLAMA_HOST: 0.0.0.0"]);
    drop(shut);
    let _open = stage.ollama("ollama", "0.0.0.0:11434");
    stage.doctor(&["ollama-api"]).is_sound();
}

/// A container that gets past the gate. A firewall of the host keeps it from the gate.
#[test]
fn a_container_past_the_gate_and_one_that_is_kept_out() {
    let Some(iptables) = front::find("iptables") else { return };
    let Some(stage) = Stage::set("", "0.0.0.0") else { return };
    fs::write(stage.home.path("herdgate.toml"), "[listen]\naddress = \"10.88.0.1:7860\"\n").unwrap();
    let open = stage.ollama("host", "0.0.0.0:11434");
    let report = stage.doctor(&[]);
    let cure =
        report.cure("container", "webui uses the models at 10.88.0.1:11434 without a key, past the gate");
    assert_eq!(cure, ["sudo herdgate deploy ollama-override --write --run"]);
    report.warns("container", "webui does not reach the gate at 10.88.0.1:7860");
    let sets = super::overridden(&stage.home, &cure[0]);
    drop(open);
    let host = &sets.iter().find(|(name, _)| name == "OLLAMA_HOST").unwrap().1;
    let _shut = stage.ollama("host", host);
    gate!(stage, "10.88.0.1:7860", gate);
    stage.doctor(&[]).is_sound();
    let shell = |command: &str| {
        let mut shell = stage.net.command("host", "sh");
        let done = shell.args(["-c", &command.replace("sudo iptables", &iptables)]).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    };
    shell("sudo iptables -A INPUT -p tcp --dport 7860 -j DROP");
    let cure = stage
        .doctor(&["http://10.88.0.1:7860"])
        .cure("container", "10.88.0.1:7860 is open, and lets nothing in");
    shell(&cure[0]);
    stage.doctor(&["http://10.88.0.1:7860"]).is_sound();
    gate.end();
}

#[test]
fn a_container_that_cannot_be_looked_from() {
    let Some(stage) = Stage::set("", "0.0.0.0") else { return };
    let run = |name: &str| stage.home.run(&["doctor", "--from-container", name, "http://127.0.0.1:1"]);
    let nobody = run("webu");
    assert!(
        nobody.code == 1 && nobody.err.contains("hint: those that run: webui, ollama-api"),
        "{}",
        nobody.err
    );
    let text = fs::read_to_string(stage.home.path("inspect.json")).unwrap();
    let stopped = text.replace(&format!("\"Pid\":{}", stage.webui.pid()), "\"Pid\":0");
    fs::write(stage.home.path("inspect.json"), stopped).unwrap();
    let stopped = run("webui");
    assert!(stopped.code == 1 && stopped.err.contains("hint: docker start webui"), "{}", stopped.err);
    // The number of a program in a virtual machine is another program's here.
    let other = sleeper(&stage.net, "host");
    let mistaken =
        text.replace(&format!("\"Pid\":{}", stage.webui.pid()), &format!("\"Pid\":{}", other.pid()));
    fs::write(stage.home.path("inspect.json"), mistaken).unwrap();
    let elsewhere = run("webui");
    assert!(
        elsewhere.code == 1 && elsewhere.err.contains("docker has it in a virtual machine"),
        "{}",
        elsewhere.err
    );
    // Podman tells of its containers in the same words.
    fs::write(stage.home.path("inspect.json"), text).unwrap();
    fs::rename(stage.home.path("bin/docker"), stage.home.path("bin/podman")).unwrap();
    let looked = stage.doctor(&["http://127.0.0.1:1"]);
    looked.first("container", "webui asks 127.0.0.1, which is the container itself");
}

/// Whoever is not root is told so, and how to be.
#[test]
fn looking_from_a_container_takes_root() {
    let Some(stage) = Stage::set("", "0.0.0.0") else { return };
    let Some(setpriv) = front::find("setpriv") else { return };
    let home = Home::with_own_program();
    let script = format!(
        "[ -n \"$LOW\" ] || LOW=1 exec {setpriv} --reuid=65534 --regid=65534 --clear-groups /bin/sh \"$0\" \"$@\""
    );
    let docker = stage.home.path("bin/docker");
    let text = fs::read_to_string(&docker).unwrap().replace("exec cat", "exec /bin/cat");
    let inspected = home.path("inspect.json");
    fs::copy(stage.home.path("inspect.json"), &inspected).unwrap();
    let own = home.path("bin/docker");
    fs::write(
        &own,
        text.replace(stage.home.path("inspect.json").to_str().unwrap(), inspected.to_str().unwrap()),
    )
    .unwrap();
    for path in [home.path(""), home.path("bin"), home.path("programs"), inspected, own] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let home = home.through(&script);
    fs::set_permissions(home.path("herdgate.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let told = home.run(&["doctor", "--from-container", "webui", "http://127.0.0.1:1"]);
    assert!(
        told.code == 1
            && told.err.contains("error: only root may look from inside a container's network")
            && told.err.contains("hint: sudo herdgate doctor --from-container webui"),
        "{} {}",
        told.code,
        told.err
    );
}
