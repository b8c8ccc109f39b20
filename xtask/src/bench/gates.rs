//! The gates under test: how each is configured and started on its core, and when it is ready.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::load::{self, Clients, TOKEN, whole_request};
use super::process::Process;
use super::tls::Certificate;

/// What can stand between load and stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing: the load asks the stub itself
    Direct,
    /// nginx with three checks in Lua
    Nginx,
    /// HAProxy with the same checks
    Haproxy,
    /// herdgate
    Herdgate,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx+Lua",
            Self::Haproxy => "HAProxy",
            Self::Herdgate => "herdgate",
        }
    }
}

/// Where things are and which core is whose.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) stub: SocketAddr,
    pub(crate) core: usize,
    pub(crate) herdgate: PathBuf,
    pub(crate) bench: PathBuf,
    /// With it the gates speak TLS.
    pub(crate) certificate: Option<Rc<Certificate>>,
}

impl Place {
    /// One without TLS.
    pub(crate) fn plain(stub: SocketAddr, core: usize, herdgate: PathBuf, bench: PathBuf) -> Self {
        Self { stub, core, herdgate, bench, certificate: None }
    }
}

/// A gate that answers, or (`direct`) the stub itself.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    begun: Instant,
    /// From start to the first answer.
    pub(crate) ready_after: Duration,
    process: Option<Process>,
    // After the process, so that it is gone before its folder is.
    folder: Option<TempDir>,
}

impl Gate {
    pub(crate) async fn start(kind: Kind, place: &Place) -> Result<Self> {
        Self::start_with(kind, place, ROOMY).await
    }

    /// Starts it with settings of herdgate's own.
    pub(crate) async fn start_with(kind: Kind, place: &Place, settings: &str) -> Result<Self> {
        let mut gate = Self::begin(kind, place, settings)?;
        if kind != Kind::Direct {
            gate.wait_ready().await?;
        }
        Ok(gate)
    }

    /// Starts it without waiting for an answer; `settings` are herdgate's own.
    pub(crate) fn begin(kind: Kind, place: &Place, settings: &str) -> Result<Self> {
        if kind == Kind::Direct {
            return Ok(Self {
                kind,
                address: place.stub,
                begun: Instant::now(),
                ready_after: Duration::ZERO,
                process: None,
                folder: None,
            });
        }
        let folder = tempfile::Builder::new().prefix("herdgate-bench-").tempdir()?;
        let address = free_port()?;
        let log = folder.path().join(LOG);
        let mut command = command(kind, place, folder.path(), address, settings)?;
        command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(fs::File::options().append(true).open(&log)?);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        Ok(Self {
            kind,
            address,
            begun,
            ready_after: Duration::ZERO,
            process: Some(Process::new(child)),
            folder: Some(folder),
        })
    }

    /// Makes a key of herdgate's that may manage, and waits until it is in force.
    pub(crate) async fn manage_key(&self, herdgate: &Path) -> Result<String> {
        let folder = self.folder.as_ref().context("no herdgate")?;
        let made = Command::new(herdgate)
            .args(["key", "create", "manage", "--scope", "manage", "--data"])
            .arg(folder.path().join("data"))
            .output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout)?.trim().to_owned();
        let begun = Instant::now();
        while load::status_of_metrics(self.address, &key).await? != 200 {
            ensure!(begun.elapsed() < Duration::from_secs(15), "the new key is not taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(key)
    }

    /// Waits until it takes connections.
    pub(crate) async fn listens(&self) -> Result<()> {
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            ensure!(self.begun.elapsed() < Duration::from_secs(15), "{} does not listen", self.kind.name());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Nanoseconds of run time so far; nothing for the stub itself.
    pub(crate) fn run_time(&self) -> Result<u64> {
        self.process.as_ref().map_or(Ok(0), Process::run_time)
    }

    pub(crate) fn resident(&self) -> Result<u64> {
        self.process.as_ref().map_or(Ok(0), Process::resident)
    }

    /// All that it has said.
    pub(crate) fn said(&self) -> String {
        let log = self.folder.as_ref().map(|folder| folder.path().join(LOG));
        log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// `Some(how)` when it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        self.process.as_mut().map_or(Ok(None), Process::ended)
    }

    /// Waits until it answers as it should, and refuses whom it should.
    async fn wait_ready(&mut self) -> Result<()> {
        self.wait_answer()
            .await
            .with_context(|| format!("{} did not get ready; it said:\n{}", self.kind.name(), self.said()))
    }

    async fn wait_answer(&mut self) -> Result<()> {
        let request = whole_request(100);
        loop {
            let tried = match Clients::connect(self.address, 1).await {
                Ok(mut client) => client.once(&request).await,
                Err(error) => Err(error),
            };
            let Err(error) = tried else { break };
            if let Some(process) = &mut self.process
                && let Some(how) = process.ended()?
            {
                bail!("ended with {how}");
            }
            ensure!(self.begun.elapsed() < Duration::from_secs(15), error.context("not ready after 15 s"));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.ready_after = self.begun.elapsed();
        // A gate that lets everyone in would be fast for nothing.
        let statuses = load::statuses_without_key(self.address).await?;
        ensure!(statuses == [401; 3], "requests without the key were answered {statuses:?}");
        Ok(())
    }
}

/// All clients come from one address, and more streams are open than one upstream gets by default.
pub(crate) const ROOMY: &str = "[limits]\nper_address = 100000\n[fleet]\nslots = 4096\n";

/// What it says, in its folder.
const LOG: &str = "output.log";

/// The program under `taskset`, ended by the kernel should this program vanish.
fn command(kind: Kind, place: &Place, folder: &Path, address: SocketAddr, settings: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", &place.core.to_string()]);
    match kind {
        Kind::Direct => bail!("nothing to start"),
        Kind::Nginx => {
            let config = configure(place, "nginx.conf", folder, address)?;
            command
                .arg("nginx")
                .arg("-p")
                .arg(folder)
                .arg("-e")
                .arg(folder.join("error.log"))
                .arg("-c")
                .arg(config);
        }
        Kind::Haproxy => {
            let config = configure(place, "haproxy.cfg", folder, address)?;
            command.args(["haproxy", "-db", "-f"]).arg(config);
        }
        Kind::Herdgate => {
            let config = folder.join("herdgate.toml");
            let tls = place.certificate.as_ref().map_or_else(String::new, |certificate| {
                format!("[tls]\ncert = {:?}\nkey = {:?}\n", certificate.chain(), certificate.key())
            });
            fs::write(&config, format!("[server]\nthreads = 1\n{settings}{tls}"))?;
            command.arg(&place.herdgate).arg("serve").arg("--config").arg(&config);
            command.arg("--data").arg(folder.join("data")).arg("--listen").arg(address.to_string());
            command.arg("--upstream").arg(format!("http://{}", place.stub));
            command.env("AUTH_TOKEN", TOKEN);
        }
    }
    Ok(command)
}

fn configure(place: &Place, name: &str, folder: &Path, address: SocketAddr) -> Result<PathBuf> {
    let source = place.bench.join(name);
    let certificate = place.certificate.as_ref().map_or_else(String::new, |certificate| {
        let (chain, key) = (certificate.chain(), certificate.key());
        format!(
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            chain.display(),
            key.display()
        )
    });
    let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
    let text = text
        .replace("@DIR@", &folder.display().to_string())
        .replace("@LISTEN@", &address.to_string())
        .replace("@UPSTREAM@", &place.stub.to_string())
        .replace("@TOKEN@", TOKEN)
        .replace("@TLS@", if place.certificate.is_some() { "ssl" } else { "" })
        .replace("@CERTIFICATE@", &certificate);
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
