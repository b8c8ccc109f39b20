//! `herdgate doctor`: what is wrong, why it matters, and the command that cures it.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::cmd::settings;
use crate::doctor::{self, Finding, Look, Mark, Style};
use anyhow::{Context as _, anyhow};
use clap::Args;
use gate_config::{Flags, UpstreamUrl};
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

/// `herdgate doctor …`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What to judge, as a URL or host[:port] [default: this machine, its settings and its upstreams]
    target: Option<String>,
    /// Write what was found as JSON
    #[arg(long)]
    json: bool,
    /// Write the facts as JSON, and judge nothing: for whoever shall help from afar
    #[arg(long, conflicts_with = "json")]
    facts: bool,
    /// Trust this authority alone, for example a gate's own tls-ca.pem [default: the system's]
    #[arg(long, value_name = "FILE", requires = "target")]
    ca: Option<PathBuf>,
}

/// Looks, judges and tells; 1 where something fails.
pub(crate) fn run(args: &DoctorArgs, flags: &Flags, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let look = match look(args, flags) {
        Ok(look) => look,
        Err(Wrong::Settings(problems)) => return settings::tell(&problems, talk),
        Err(Wrong::Usage(error)) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = writeln!(talk, "error: {error:#}");
            return EXIT_USAGE;
        }
    };
    let facts = match doctor::gather(&look) {
        Ok(facts) => facts,
        Err(error) => {
            let _closed = writeln!(talk, "error: {error:#}");
            return EXIT_FAILURE;
        }
    };
    if args.facts {
        let written = serde_json::to_writer_pretty(&mut *out, &facts).map_err(io::Error::from);
        return told(written.and_then(|()| writeln!(out)), 0);
    }
    let findings = doctor::judge(&facts);
    let code = exit_code(&findings);
    let written = if args.json {
        doctor::json(&findings, out)
    } else {
        let style = Style::of(io::stdout().is_terminal(), |name| std::env::var(name).ok());
        doctor::lines(&findings, style, out)
    };
    told(written, code)
}

/// A reader that left has seen enough; its exit code is not ours to change.
fn told(written: io::Result<()>, code: u8) -> u8 {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => EXIT_FAILURE,
        Ok(()) | Err(_) => code,
    }
}

fn exit_code(findings: &[Finding]) -> u8 {
    if findings.iter().any(|finding| finding.mark == Mark::Bad) { EXIT_FAILURE } else { 0 }
}

enum Wrong {
    Settings(Vec<gate_config::Problem>),
    Usage(anyhow::Error),
}

fn look(args: &DoctorArgs, flags: &Flags) -> Result<Look, Wrong> {
    let mut look = Look::default();
    if let Some(file) = &args.ca {
        let read = std::fs::read(file).with_context(|| format!("--ca {}", file.display()));
        look.roots = read.map_err(Wrong::Usage)?;
    }
    match &args.target {
        Some(target) => {
            let url = UpstreamUrl::parse(target).map_err(|bad| {
                let hint = "write a URL or host:port, like http://gpu1:11434, https://gate.example or gpu1";
                Wrong::Usage(anyhow!("the target {bad}\nhint: {hint}"))
            })?;
            look.target = Some(url);
        }
        None => {
            let (loaded, places) = settings::load(flags).map_err(Wrong::Settings)?;
            look.settings = Some((Box::new(loaded.config), places));
        }
    }
    Ok(look)
}
