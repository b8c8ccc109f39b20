//! `herdgate connect`: a gate that is somewhere else, on the port of this machine where programs look for their Ollama.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::client::{Access, Gate};
use crate::connect::{self, At, Reach};
use anyhow::{Context as _, anyhow};
use clap::Args;
use std::io::{self, Write};
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// `herdgate connect …`
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The gate, as https://host or http://host:port
    url: String,
    /// Address of this machine at which programs ask
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11434")]
    listen: String,
    /// Address that others reach, too: all of them use the gate with your key
    #[arg(long, value_name = "ADDR", conflicts_with = "listen")]
    insecure_listen: Option<String>,
    /// Name by which they ask for it, beside its addresses; may be given several times
    #[arg(long, value_name = "NAME", requires = "insecure_listen")]
    name: Vec<String>,
    #[command(flatten)]
    access: Access,
}

/// Listens until a signal ends it.
pub(crate) fn run(args: &ConnectArgs, talk: &mut dyn Write) -> u8 {
    let (gate, at) = match begin(args) {
        Ok(begun) => begun,
        Err(error) => return tell(&error, EXIT_USAGE, talk),
    };
    match connect(gate, &at, talk) {
        Ok(()) => 0,
        Err(error) => tell(&error, EXIT_FAILURE, talk),
    }
}

fn tell(error: &anyhow::Error, code: u8, talk: &mut dyn Write) -> u8 {
    // A hint is on a line of its own, and the last.
    let text = format!("{error:#}");
    let _closed = writeln!(talk, "error: {text}");
    code
}

fn begin(args: &ConnectArgs) -> anyhow::Result<(Gate, At)> {
    let (flag, text, at) = match &args.insecure_listen {
        Some(text) => ("--insecure-listen", text, At::network(text, &args.name)),
        None => ("--listen", &args.listen, At::machine(&args.listen)),
    };
    let at = at.map_err(|bad| anyhow!("{flag} {text} {bad}\nhint: {}", bad.hint()))?;
    Ok((Gate::new(&args.url, &args.access)?, at))
}

fn connect(gate: Gate, at: &At, talk: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(async {
        let listener = TcpListener::bind(at.address).await.map_err(|error| taken(at.address, &error))?;
        let bound = listener.local_addr().context("cannot listen")?;
        greet(&gate, at, bound, talk);
        let end = signal().context("cannot watch for signals")?;
        connect::serve(gate, listener, at, end, talk).await.context("cannot listen")
    })
}

fn taken(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let other = SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1024));
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {address}: another program has this port, perhaps an Ollama\n\
             hint: end it, or take another port: --listen {other}, and OLLAMA_HOST={other} for the programs"
        ),
        _ => anyhow!("cannot listen on {address}: {error}"),
    }
}

fn greet(gate: &Gate, at: &At, bound: SocketAddr, talk: &mut dyn Write) {
    let mut text = format!("listening on http://{bound} for the gate at {}\n", gate.url());
    if gate.is_in_clear() {
        text.push_str(
            "warning: the key and all that is said cross the network in clear\n\
             hint: let the gate speak TLS (tls.cert, tls.domain or tls.self_signed there), and say https:// here\n",
        );
    }
    if at.reach == Reach::Network && !bound.ip().is_loopback() {
        text.push_str("warning: everybody who reaches this address uses the gate with your key\n");
    }
    // A closed terminal is no reason not to start.
    let _closed = talk.write_all(text.as_bytes());
}

/// What ends it: Ctrl-C, or a service's end. Watched for from here on.
fn signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        // Where it cannot be watched for, it ends the program as it does by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
