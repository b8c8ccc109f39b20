//! The three kinds of upstream behind one face: the test kit, the engine with the demo model, and a real Ollama with the
//! same model.

use super::{Running, leave_out, mention, testkit, until};
use serde_json::Value;
use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The test kit: an Ollama that answers nonsense at once.
    Testkit,
    /// `herdgate-engine`.
    Engine,
    /// A real Ollama.
    Ollama,
}

/// An upstream that runs until it is dropped.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    address: SocketAddr,
    _running: Box<dyn Any>,
}

impl Peer {
    fn new(kind: Kind, address: SocketAddr, running: impl Any) -> Self {
        Self { kind, address, _running: Box::new(running) }
    }

    pub(crate) fn testkit() -> Self {
        let kit = testkit(gate_testkit::Setup::default());
        Self::new(Kind::Testkit, kit.addr, kit)
    }

    /// The engine, where there is one.
    #[track_caller]
    pub(crate) fn engine() -> Option<Self> {
        let engine = engine()?;
        let mut command = Command::new(engine);
        command.args(["--exit-with-parent", "--listen", "127.0.0.1:0", "--model"]).arg(Demo::file());
        let running = Running::start(&mut command);
        let line = running.prints("where it listens", |line| line.contains("127.0.0.1:"));
        let after = line.split("127.0.0.1:").nth(1).unwrap_or_default();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        let port = digits.parse().unwrap_or_else(|_| panic!("no port in {line:?}"));
        Some(Self::new(Kind::Engine, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), running))
    }

    /// A real Ollama that has the demo model, where one is named.
    #[track_caller]
    pub(crate) fn ollama() -> Option<Self> {
        let program = ollama()?;
        let dir = TempDir::with_prefix("herdgate-it-ollama-").unwrap();
        let address = free_port();
        // It ends with the shell's standard input, whatever becomes of this process.
        let script = "\"$0\" serve </dev/null & trap 'kill $!; wait' EXIT; read _";
        let running = Running::start(
            in_its_home(&mut Command::new("sh"), &dir, address).args(["-c", script]).arg(&program),
        );
        until("the real Ollama to answer", || std::net::TcpStream::connect(address).ok());
        let modelfile = dir.path().join("Modelfile");
        // Threads that wait for each other by spinning take seconds for a word where every core is busy already.
        let text = format!("FROM {}\nPARAMETER num_thread 1\n", Demo::file().display());
        std::fs::write(&modelfile, text).unwrap();
        let mut create = Command::new(&program);
        create.args(["create", Demo::NAME, "-f"]).arg(modelfile);
        let made = in_its_home(&mut create, &dir, address).output().unwrap();
        assert!(made.status.success(), "ollama create: {}", String::from_utf8_lossy(&made.stderr));
        Some(Self::new(Kind::Ollama, address, (running, dir)))
    }

    /// All that can be had.
    #[track_caller]
    pub(crate) fn all() -> Vec<Self> {
        [Some(Self::testkit()), Self::engine(), Self::ollama()].into_iter().flatten().collect()
    }

    /// Those that hold the demo model.
    #[track_caller]
    pub(crate) fn with_the_demo() -> Vec<Self> {
        [Self::engine(), Self::ollama()].into_iter().flatten().collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Testkit => "testkit",
            Kind::Engine => "engine",
            Kind::Ollama => "real Ollama",
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A model that chats, without its tag.
    pub(crate) fn model(&self) -> &'static str {
        if self.knows_the_answers() { Demo::NAME } else { "demo" }
    }

    /// A model that makes vectors.
    pub(crate) fn embedder(&self) -> &'static str {
        if self.knows_the_answers() { Demo::NAME } else { "embedder" }
    }

    /// Whether it has the demo model and so knows its answers.
    pub(crate) fn knows_the_answers(&self) -> bool {
        self.kind != Kind::Testkit
    }
}

fn in_its_home<'c>(command: &'c mut Command, dir: &TempDir, address: SocketAddr) -> &'c mut Command {
    command.env("HOME", dir.path()).env("OLLAMA_MODELS", dir.path().join("models"));
    command.env("OLLAMA_HOST", address.to_string()).env("OLLAMA_NO_CLOUD", "1").env_remove("AUTH_TOKEN")
}

/// A port that was free a moment ago, for programs that cannot be asked which they took.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// The engine's binary, where it was built.
#[track_caller]
pub(crate) fn engine() -> Option<PathBuf> {
    let built = || workspace().join("target/release/herdgate-engine");
    let engine = std::env::var_os("HERDGATE_TEST_ENGINE").map_or_else(built, PathBuf::from);
    if engine.is_file() {
        return Some(engine);
    }
    leave_out(&format!(
        "there is no engine at {}; build it (cargo build --release -p herdgate-engine) or name it in HERDGATE_TEST_ENGINE",
        engine.display()
    ));
    None
}

/// A real Ollama's binary, where one is named.
pub(crate) fn ollama() -> Option<PathBuf> {
    let program = std::env::var_os("HERDGATE_TEST_OLLAMA").filter(|path| !path.is_empty()).map(PathBuf::from);
    match &program {
        Some(path) => assert!(path.is_file(), "HERDGATE_TEST_OLLAMA names no file: {}", path.display()),
        None => mention("a real Ollama; HERDGATE_TEST_OLLAMA names its binary"),
    }
    program
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The demo model and what it was taught.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    pub(crate) question: String,
    pub(crate) answer: String,
}

impl Demo {
    pub(crate) const NAME: &str = "herdgate-demo";

    pub(crate) fn file() -> PathBuf {
        workspace().join("tools/demo-model/herdgate-demo.gguf")
    }

    /// Every question with its exact answer.
    pub(crate) fn all() -> Vec<Self> {
        let text = std::fs::read_to_string(workspace().join("tools/demo-model/questions.jsonl")).unwrap();
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| Self { question: word(&line, "question"), answer: word(&line, "answer") }).collect()
    }

    /// The first of them.
    pub(crate) fn one() -> Self {
        Self::all().swap_remove(0)
    }
}
