//! A home for one gate: a folder with its own settings file, data directory and PATH, in which the built `herdgate` runs
//! with an environment that holds nothing else.

use super::{Answer, Ask, Running};
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The folder. Its `herdgate.toml` is empty and its `bin`, the whole PATH, too, until a test fills them.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
    has_own_group: bool,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("herdgate-it-").unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        // Where there is one in the working directory, none of the machine's is looked for.
        std::fs::write(dir.path().join("herdgate.toml"), "").unwrap();
        Self { dir, program: env!("CARGO_BIN_EXE_herdgate").into(), env: Vec::new(), has_own_group: false }
    }

    /// With every program that is started in a process group of its own, as a shell does it.
    pub(crate) fn in_own_group(mut self) -> Self {
        self.has_own_group = true;
        self
    }

    /// With a copy of the program in a folder of its own: nothing lies beside it.
    pub(crate) fn with_own_program() -> Self {
        let mut home = Self::new();
        let folder = home.path("programs");
        std::fs::create_dir(&folder).unwrap();
        home.program = put(Path::new(env!("CARGO_BIN_EXE_herdgate")), &folder.join("herdgate"));
        home
    }

    /// With a shell around the program that does this first.
    pub(crate) fn through(mut self, first: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let script = self.path("herdgate.sh");
        let text = format!("#!/bin/sh\n{first}\nexec '{}' \"$@\"\n", self.program.display());
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        self.program = script;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// With this text as its settings file.
    pub(crate) fn settings(self, text: &str) -> Self {
        std::fs::write(self.path("herdgate.toml"), text).unwrap();
        self
    }

    /// A path inside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// A path inside the data directory.
    pub(crate) fn data(&self, inside: &str) -> PathBuf {
        self.path("data").join(inside)
    }

    /// Puts a program on PATH.
    pub(crate) fn install(&self, program: &Path, name: &str) -> PathBuf {
        put(program, &self.path("bin").join(name))
    }

    /// Puts a program beside `herdgate`; for homes with their own.
    pub(crate) fn install_beside(&self, program: &Path, name: &str) -> PathBuf {
        put(program, &self.path("programs").join(name))
    }

    /// A `herdgate` command that has not been started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.env("HOME", self.dir.path()).env("PATH", self.path("bin")).env("TZ", "UTC");
        command.env("HERDGATE_DATA", self.path("data"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if self.has_own_group {
            use std::os::unix::process::CommandExt as _;
            command.process_group(0);
        }
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        let mut running = Running::start(&mut self.command(args));
        let status = running.ended();
        let code = status.code().unwrap_or_else(|| panic!("herdgate {args:?}: {status}\n{}", running.err()));
        Finished { code, out: running.out(), err: running.err() }
    }

    /// Makes a key and gives its secret.
    #[track_caller]
    pub(crate) fn key(&self, name: &str, options: &[&str]) -> String {
        let made = self.run(&[&["key", "create", name], options].concat());
        assert_eq!(made.code, 0, "{}", made.err);
        made.out.trim().to_owned()
    }

    /// Starts `herdgate serve` on a free loopback port and waits until it has told of its upstreams.
    #[track_caller]
    pub(crate) fn serve(&self, args: &[&str]) -> Gate<'_> {
        let gate = self.begin(args);
        gate.running.says("what its upstreams are", |line| line.starts_with("  upstream "));
        gate
    }

    /// Starts `herdgate serve` with this as the fourth descriptor of the program, as a service manager hands sockets over, and
    /// waits until it listens there.
    #[track_caller]
    pub(crate) fn serve_on(&self, listener: &TcpListener, args: &[&str]) -> Running {
        let command = self.command(&[&["serve"], args].concat());
        // It is the shell's standard input first.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null"]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap());
        }
        let running = Running::with_input(&mut shell, OwnedFd::from(listener.try_clone().unwrap()).into());
        let line = running.says("where it listens", |line| line.contains("listening on"));
        assert!(line.contains(&listener.local_addr().unwrap().to_string()), "{line}");
        running
    }

    /// Starts `herdgate serve` where its settings say that it listens, and waits until it has told of its upstreams.
    #[track_caller]
    pub(crate) fn serve_as_set(&self, args: &[&str]) -> Gate<'_> {
        let running = Running::start(&mut self.command(&[&["serve"], args].concat()));
        running.says("what its upstreams are", |line| line.starts_with("  upstream "));
        let gate = Gate { home: self, address: SocketAddr::from(([127, 0, 0, 1], 0)), running };
        let address = gate.addresses()[0];
        Gate { address, ..gate }
    }

    /// The same, but waits for the listening address only.
    #[track_caller]
    pub(crate) fn begin(&self, args: &[&str]) -> Gate<'_> {
        self.begin_at("127.0.0.1:0", args)
    }

    /// The same, on an address of the test's choice.
    #[track_caller]
    pub(crate) fn begin_at(&self, listen: &str, args: &[&str]) -> Gate<'_> {
        let running = Running::start(&mut self.command(&[&["serve", "--listen", listen], args].concat()));
        let line = running.says("where it listens", |line| line.contains("listening on"));
        let address = line.split("://").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        Gate { home: self, address: address.unwrap_or_else(|| panic!("no address in {line:?}")), running }
    }
}

/// A gate that listens.
#[derive(Debug)]
pub(crate) struct Gate<'h> {
    home: &'h Home,
    pub(crate) address: SocketAddr,
    pub(crate) running: Running,
}

impl Gate<'_> {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every address at which it listens, in the order of its settings.
    #[track_caller]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let said = self.running.err();
        let lines = said.lines().filter(|line| line.contains("listening on"));
        let parsed = |line: &str| line.split("://").nth(1)?.split(' ').next()?.parse().ok();
        lines.map(|line| parsed(line).unwrap_or_else(|| panic!("no address in {line:?}"))).collect()
    }

    /// The key of the first start.
    #[track_caller]
    pub(crate) fn first_key(&self) -> String {
        let file = self.home.data("first-key");
        let text = std::fs::read_to_string(&file);
        text.unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
    }

    /// Sends with the key of the first start.
    #[track_caller]
    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        ask.key(&self.first_key()).send(self.address)
    }

    /// Makes sure that this key is in force: at once, however new it is.
    #[track_caller]
    pub(crate) fn takes(&self, key: &str) {
        let status = Ask::new("HEAD", "/api/tags").key(key).send(self.address).status;
        assert!(!matches!(status, 401 | 429 | 503), "a new key: {status}");
    }

    /// Ends it as a service is ended, with code 0.
    #[track_caller]
    pub(crate) fn end(mut self) -> Running {
        self.running.signal(Signal::TERM);
        let status = self.running.ended();
        assert!(status.success(), "{status}\n{}", self.running.err());
        self.running
    }
}

/// Another name of the same file where both are on one file system, else a copy: programs are large.
fn put(program: &Path, at: &Path) -> PathBuf {
    if std::fs::hard_link(program, at).is_err() {
        std::fs::copy(program, at).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    }
    at.to_owned()
}

/// The mode bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o7777
}
