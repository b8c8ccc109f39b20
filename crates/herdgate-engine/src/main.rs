//! `herdgate-engine`: serves GGUF files with llama.cpp and speaks Ollama's API.
//!
//! A program of its own beside the gate, because llama.cpp ends its whole process when an assertion fails. The gate
//! starts it, watches it and talks to it as it would to an Ollama. It has no keys and no limits for callers: it must
//! never listen where anybody but the gate can reach it.

mod cli;
mod demo;
mod file;
mod http;
mod llama;
mod options;
mod prompt;
mod roster;
mod runner;

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::serve::ListenerExt;
use clap::Parser;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use cli::Args;
use llama::Settings;
use roster::{Entry, Roster};

/// With this set, llama.cpp does not start a debugger on a failed assertion.
const NO_BACKTRACE: &str = "GGML_NO_BACKTRACE";
/// Threads that read prompts and load models.
const BLOCKING: usize = 16;
/// How long the end waits for a batch that is being computed.
const LAST_BATCH: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    if std::env::var_os(NO_BACKTRACE).is_none() {
        return restart_without_backtrace();
    }
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,herdgate_engine=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    send_logs_to_tracing(LogOptions::default());
    let outcome = match &args.trial {
        Some(file) => llama::try_file(file).map_err(anyhow::Error::msg),
        None => serve(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // The one place that writes to stderr by itself: the reason must be readable whatever the log's filter is.
            drop(writeln!(std::io::stderr(), "herdgate-engine: {problem:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The environment of a running process cannot be changed safely, so the program replaces itself.
fn restart_without_backtrace() -> ExitCode {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let problem =
        std::process::Command::new(program).args(std::env::args_os().skip(1)).env(NO_BACKTRACE, "1").exec();
    drop(writeln!(std::io::stderr(), "herdgate-engine: cannot start itself again: {problem}"));
    ExitCode::FAILURE
}

fn serve(args: &Args) -> Result<()> {
    let address = args.address().map_err(anyhow::Error::msg)?;
    if !args.is_private() {
        warn!(%address, "others may reach this engine, which has no keys and no limits");
    }
    let settings =
        Settings { parallel: args.parallel, ctx: args.ctx, threads: args.threads(), queue: args.queue };
    let mut entries = entries(args, settings)?;
    // Lives as long as the engine: a model that was unloaded is read from its file again.
    let demo = if entries.is_empty() {
        info!("no model was given: serving the demo model, which knows about herdgate only");
        let demo = demo::unpack(args.models_dir.as_deref()).context("cannot unpack the demo model")?;
        entries.push(Entry::open(&demo.path).map_err(anyhow::Error::msg)?);
        Some(demo)
    } else {
        None
    };
    let backend = LlamaBackend::init().context("llama.cpp does not start")?;
    let roster = Arc::new(Roster::new(entries, settings, backend));
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(BLOCKING).enable_all().build()?;
    let outcome = runtime.block_on(listen(args, address, Arc::clone(&roster)));
    let ending = runtime.spawn_blocking(move || roster.stop());
    // A batch that takes longer is cut off by the process's end.
    drop(runtime.block_on(async { tokio::time::timeout(LAST_BATCH, ending).await }));
    runtime.shutdown_background();
    drop(demo);
    outcome
}

/// All model files that were given, checked as far as that can be done without loading them all.
fn entries(args: &Args, settings: Settings) -> Result<Vec<Entry>> {
    let mut all: Vec<Entry> = Vec::new();
    for path in &args.models {
        let entry = Entry::open(path).map_err(anyhow::Error::msg)?;
        if let Some(other) = all.iter().find(|other| other.name == entry.name) {
            bail!("{} and {} both make the model name {}", other.path.display(), path.display(), entry.name);
        }
        let needed = llama::needs(&entry.facts, settings.limits(&entry.facts));
        llama::check_memory(needed).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        entry.try_once().map_err(anyhow::Error::msg)?;
        all.push(entry);
    }
    if let Some(dir) = &args.models_dir {
        for path in gguf_files(dir)? {
            match Entry::open(&path) {
                Err(problem) => warn!("skipped: {problem}"),
                Ok(entry) if all.iter().any(|other| other.name == entry.name) => {
                    warn!("skipped: {}: there is already a model {}", path.display(), entry.name);
                }
                Ok(entry) => all.push(entry),
            }
        }
    }
    Ok(all)
}

fn gguf_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the directory {}", dir.display());
    let mut files = Vec::new();
    let listed = match std::fs::read_dir(dir) {
        // Nobody has put a model there yet.
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(files),
        listed => listed.with_context(unreadable)?,
    };
    for file in listed {
        let path = file.with_context(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn listen(args: &Args, address: SocketAddr, roster: Arc<Roster>) -> Result<()> {
    if let ([_], None) = (args.models.as_slice(), &args.models_dir) {
        for entry in roster.entries() {
            drop(roster.lease(&entry, None).await.map_err(anyhow::Error::msg)?);
        }
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let parent_gone = Arc::new(Notify::new());
    if args.exit_with_parent {
        watch_stdin(Arc::clone(&parent_gone))?;
    }
    announce(&format!("listening on http://{address}"))?;
    for entry in roster.entries() {
        info!(model = %entry.name, file = %entry.path.display(), "serves");
    }
    // A streamed token is one small packet, and must not wait for the next.
    let listener = listener.tap_io(|stream| {
        if let Err(problem) = stream.set_nodelay(true) {
            warn!(%problem, "a connection stays slow");
        }
    });
    let server =
        std::future::IntoFuture::into_future(axum::serve(listener, http::router(Arc::clone(&roster))));
    tokio::select! {
        served = server => served.context("the listener failed"),
        () = Arc::clone(&roster).unload_in_time() => Ok(()),
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        () = parent_gone.notified() => {
            info!("standard input ended, and so does this");
            Ok(())
        }
    }
}

/// The one line on stdout.
fn announce(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// A thread of its own: a read of standard input cannot be cancelled, and the process's end need not wait for it.
fn watch_stdin(gone: Arc<Notify>) -> Result<()> {
    let watch = move || {
        let mut ignored = [0; 256];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(problem) => {
                    error!(%problem, "standard input cannot be read");
                    break;
                }
            }
        }
        gone.notify_one();
    };
    std::thread::Builder::new().name("parent".into()).spawn(watch).context("no thread for standard input")?;
    Ok(())
}
