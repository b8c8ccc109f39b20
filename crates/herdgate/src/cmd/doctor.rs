//! `herdgate doctor`: what is wrong, why it matters, and the command that cures it.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::client::Access;
use crate::cmd::settings;
use crate::doctor::{self, Finding, Look, Mark, Style};
use anyhow::anyhow;
use clap::Args;
use gate_config::{Flags, UpstreamUrl};
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

/// `herdgate doctor …`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What to judge, as a URL, HOST or HOST:PORT [default: this machine, its settings and its upstreams]
    target: Option<String>,
    /// Write what was found as JSON
    #[arg(long)]
    json: bool,
    /// Write the facts as JSON, and judge nothing: for whoever shall help from afar
    #[arg(long, conflicts_with = "json")]
    facts: bool,
    /// Ask no model anything
    #[arg(long)]
    no_inference: bool,
    /// Show the key to the target, as its clients do
    #[arg(long, requires = "target")]
    as_client: bool,
    /// Look from inside the network of this container: what the target, or what it was told to ask, looks like from there
    #[arg(long, value_name = "NAME")]
    from_container: Option<String>,
    /// How long a model may take to answer [default: what is left of a minute]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600), conflicts_with = "no_inference")]
    wait: Option<u64>,
    /// Look also at what updates of Ollama are known to break
    #[arg(long)]
    after_update: bool,
    /// The model that must be there and answer [default: the variable OLLAMA_MODEL; else one that is loaded, or the smallest]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The tokens of context that loaded models must have [default: the variable OLLAMA_CONTEXT_LENGTH]
    #[arg(long, value_name = "TOKENS")]
    context: Option<u64>,
    #[command(flatten)]
    access: Access,
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
    if io::stderr().is_terminal() {
        let _closed = writeln!(talk, "looking, which takes a minute at the most ...");
    }
    let facts = match doctor::gather(&look) {
        Ok(facts) => facts,
        Err(error) => {
            let _closed = writeln!(talk, "error: {error:#}");
            return EXIT_FAILURE;
        }
    };
    if args.facts {
        return told(doctor::value(&facts, out), 0);
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
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let mut look = Look {
        infers: !args.no_inference,
        model: args.model.clone().or_else(|| named("OLLAMA_MODEL")),
        context: args.context.or_else(|| named("OLLAMA_CONTEXT_LENGTH")?.trim().parse().ok()),
        after_update: args.after_update,
        wait: args.wait.map(Duration::from_secs),
        container: args.from_container.clone(),
        roots: args.access.roots().map_err(Wrong::Usage)?.unwrap_or_default(),
        ..Look::default()
    };
    if args.as_client {
        look.bearer = Some(args.access.bearer().map_err(Wrong::Usage)?);
    } else if args.access.names_key() {
        return Err(Wrong::Usage(anyhow!(
            "--key-file is for --as-client
hint: herdgate doctor --as-client URL --key-file FILE"
        )));
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
