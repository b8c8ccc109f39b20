//! The command line: which command, with which settings. What a command does is in `cmd/`.

use crate::{cmd, server};
use clap::{Args, Parser, Subcommand};
use gate_config::{Flags, Locations};
use std::io::{self, Write};
use std::path::PathBuf;

/// Wrong usage or settings, as in BSD's sysexits.
pub(crate) const EXIT_USAGE: u8 = 64;
/// The command failed.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// Keys, exact streaming and routing in front of Ollama servers.
#[derive(Debug, Parser)]
#[command(name = "herdgate", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Understood by every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Settings file [default: herdgate.toml in the folder of --data, ./herdgate.toml, /etc/herdgate/herdgate.toml for root, else the XDG folder]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory: keys and models [default: /var/lib/herdgate for root, else the XDG folder]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen, authenticate, pass on
    Serve(ServeArgs),
    /// Make, list, show, change, revoke and rotate keys
    Key(cmd::key::KeyArgs),
    /// List what the upstreams have
    Models(cmd::models::ModelsArgs),
    /// Have an upstream fetch a model
    Pull(cmd::pull::PullArgs),
    /// Remove a model from an upstream
    Rm(cmd::rm::RmArgs),
    /// Chat with a model through the gate
    Run(cmd::run::RunArgs),
    /// Give the programs of this machine a gate that is somewhere else
    Connect(cmd::connect::ConnectArgs),
    /// Validate the settings; listen on nothing
    Check,
    /// Find what is wrong with a server, a gate or this machine, and what cures it
    Doctor(cmd::doctor::DoctorArgs),
    /// Show the settings in force
    Config(cmd::config::ConfigArgs),
    /// Write keys, settings and certificates to one file, while the gate runs or not
    Backup(cmd::backup::BackupArgs),
    /// Set a gate up from a backup
    Restore(cmd::restore::RestoreArgs),
    /// Make the files that other programs need around the gate: services, firewalls, proxies
    Deploy(cmd::deploy::DeployArgs),
    /// Ask the gate of this machine whether it is well, as the health check of a container does
    Health(cmd::health::HealthArgs),
    /// Become a program that ends with the gate
    #[command(hide = true)]
    Tied(cmd::tied::TiedArgs),
    /// Be the parent of a fresh start of the gate until it is on its own
    #[command(hide = true)]
    Foster {
        /// The program, with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
}

/// Flags of `serve` that stand over every other source of settings.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on, as host:port; may be given several times [default: :7860]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Ollama server to pass requests to; may be given several times [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// Start no Ollama and no engine of its own
    #[arg(long)]
    no_local: bool,
    /// Take over from the gate that started this one
    #[arg(long, hide = true)]
    handed_over: bool,
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            // A closed terminal is no reason to fail differently.
            let _closed = error.print();
            return if wrong { EXIT_USAGE } else { 0 };
        }
    };
    // Data goes to standard output, talk to standard error.
    let code = dispatch(cli, &mut io::stdout().lock(), &mut io::stderr());
    let _closed = io::stdout().flush();
    code
}

fn dispatch(cli: Cli, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let Common { config, data } = cli.common;
    match cli.command {
        Command::Serve(args) => {
            let flags =
                Flags { listen: args.listen, upstream: args.upstream, no_local: args.no_local, config, data };
            cmd::serve::run(&flags, args.handed_over, talk)
        }
        Command::Key(args) => {
            let flags = Flags { config, data, ..Flags::default() };
            match cmd::settings::places(&flags) {
                Ok(places) => {
                    // Whoever wants to revoke a key shall not have to mend other settings first.
                    let loaded = cmd::settings::load(&flags).map(|(loaded, _)| loaded);
                    cmd::key::run(&args, &places, loaded.as_ref().map_err(Vec::as_slice), out, talk)
                }
                Err(problems) => cmd::settings::tell(&problems, talk),
            }
        }
        Command::Models(args) => {
            at_places(config, data, talk, |places, talk| cmd::models::run(&args, places, out, talk))
        }
        Command::Pull(args) => {
            at_places(config, data, talk, |places, talk| cmd::pull::run(&args, places, talk))
        }
        Command::Rm(args) => at_places(config, data, talk, |places, talk| cmd::rm::run(&args, places, talk)),
        Command::Run(args) => {
            at_places(config, data, talk, |places, talk| cmd::run::run(&args, places, out, talk))
        }
        Command::Connect(args) => cmd::connect::run(&args, talk),
        Command::Check => {
            let loaded = cmd::settings::load(&Flags { config, data, ..Flags::default() });
            cmd::check::run(loaded.as_ref().map_err(Vec::as_slice), talk)
        }
        Command::Doctor(args) => {
            cmd::doctor::run(&args, &Flags { config, data, ..Flags::default() }, out, talk)
        }
        Command::Config(args) => {
            let loaded = cmd::settings::load(&Flags { config, data, ..Flags::default() });
            cmd::config::run(loaded.as_ref().map_err(Vec::as_slice), &args, out, talk)
        }
        Command::Backup(args) => {
            let flags = Flags { config, data, ..Flags::default() };
            match cmd::settings::places_believed(&flags) {
                Ok(places) => {
                    // Settings that are wrong are taken along as they are.
                    let loaded = cmd::settings::load(&flags).ok().map(|(loaded, _)| loaded);
                    cmd::backup::run(&args, &places, loaded.as_ref(), out, talk)
                }
                Err(problems) => cmd::settings::tell(&problems, talk),
            }
        }
        Command::Restore(args) => match cmd::settings::places(&Flags { config, data, ..Flags::default() }) {
            Ok(places) => cmd::restore::run(&args, &places, talk),
            Err(problems) => cmd::settings::tell(&problems, talk),
        },
        Command::Deploy(args) => {
            cmd::deploy::run(&args, &Flags { config, data, ..Flags::default() }, out, talk)
        }
        Command::Health(args) => {
            cmd::health::run(&args, &Flags { config, data, ..Flags::default() }, out, talk)
        }
        Command::Tied(args) => cmd::tied::run(&args, talk),
        Command::Foster { command } => server::foster(&command, talk),
    }
}

/// Runs a command that needs to know where the data directory is, and nothing else of the settings.
fn at_places(
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    talk: &mut dyn Write,
    run: impl FnOnce(&Locations, &mut dyn Write) -> u8,
) -> u8 {
    match cmd::settings::places(&Flags { config, data, ..Flags::default() }) {
        Ok(places) => run(&places, talk),
        Err(problems) => cmd::settings::tell(&problems, talk),
    }
}
