//! `herdgate deploy`: prints the files that other programs need around the gate, or puts them in place (`--write`) and takes
//! them back (`--undo`). What is in them is `deploy/`'s.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::cmd::settings;
use crate::deploy::write::disk::Disk;
use crate::deploy::write::{Foreign, Found, Plan, plan, plan_back};
use crate::deploy::{
    Act, Astray, Base, Deployment, Ground, client, compose, dockerfile, firewall, fronts, ollama, systemd,
    typed,
};
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use gate_config::Flags;
use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

/// `herdgate deploy …`
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(subcommand)]
    kind: Kind,
    #[command(flatten)]
    placing: Placing,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// The gate as a hardened service, with its socket, credentials and daily backups
    Systemd(systemd::SystemdArgs),
    /// Ollama's own service on loopback or for a gate elsewhere, as an update of Ollama leaves it
    OllamaOverride(ollama::OllamaArgs),
    /// Who reaches the gate, and that nobody reaches Ollama past it; Docker's published ports too
    Firewall(firewall::FirewallArgs),
    /// The gate behind nginx
    Nginx(fronts::NginxArgs),
    /// The gate behind Caddy
    Caddy(fronts::FrontArgs),
    /// The gate behind Traefik, for its file provider
    Traefik(fronts::TraefikArgs),
    /// The gate behind a Cloudflare Tunnel
    Cloudflared(fronts::CloudflaredArgs),
    /// A stack of containers: the gate with Ollama, or programs that use a gate elsewhere
    Compose(compose::ComposeArgs),
    /// An image of the gate, alone, with Ollama or with the engine
    Dockerfile(dockerfile::DockerfileArgs),
    /// The settings of a program that asks the gate: address, model, times that fit, where the key goes
    Client(client::ClientArgs),
}

/// What becomes of the files; without any of these they are printed.
#[derive(Debug, Args)]
struct Placing {
    /// Put the files where they belong: shows the difference, asks, keeps what was there
    #[arg(long, global = true, conflicts_with = "undo")]
    write: bool,
    /// Put back what was there before the first --write
    #[arg(long, global = true)]
    undo: bool,
    /// Ask nothing
    #[arg(long, short, global = true)]
    yes: bool,
    /// Also run the commands that must follow
    #[arg(long, global = true)]
    run: bool,
    /// Write below this folder instead, as for an image
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "run")]
    root: Option<PathBuf>,
    /// Print the file of this name alone
    #[arg(long, global = true, value_name = "NAME", conflicts_with_all = ["write", "undo"])]
    only: Option<String>,
}

impl Kind {
    /// The words of the command, and what its files are below.
    fn word(&self) -> (&'static str, Base) {
        match self {
            Kind::Systemd(_) => (systemd::KIND, Base::System),
            Kind::OllamaOverride(_) => (ollama::KIND, Base::System),
            Kind::Firewall(_) => (firewall::KIND, Base::System),
            Kind::Nginx(_) => (fronts::NGINX, Base::System),
            Kind::Caddy(_) => (fronts::CADDY, Base::System),
            Kind::Traefik(_) => (fronts::TRAEFIK, Base::System),
            Kind::Cloudflared(_) => (fronts::CLOUDFLARED, Base::System),
            Kind::Compose(_) => (compose::KIND, Base::Here),
            Kind::Dockerfile(_) => (dockerfile::KIND, Base::Here),
            Kind::Client(asked) => asked.client.kind(),
        }
    }

    fn make(&self, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
        match self {
            Kind::Systemd(asked) => systemd::make(asked, ground),
            Kind::OllamaOverride(asked) => ollama::make(asked, ground),
            Kind::Firewall(asked) => firewall::make(asked, ground),
            Kind::Nginx(asked) => fronts::nginx(asked, ground),
            Kind::Caddy(asked) => fronts::caddy(asked, ground),
            Kind::Traefik(asked) => fronts::traefik(asked, ground),
            Kind::Cloudflared(asked) => fronts::cloudflared(asked, ground),
            Kind::Compose(asked) => compose::make(asked, ground),
            Kind::Dockerfile(asked) => dockerfile::make(asked, ground),
            Kind::Client(asked) => client::make(asked, ground),
        }
    }
}

/// Prints, writes or takes back. Ends with 0, 64 for wrong settings or options, 1 where it cannot be done.
pub(crate) fn run(args: &DeployArgs, flags: &Flags, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let Placing { write, undo, yes, run, root, only } = &args.placing;
    let (word, base) = args.kind.word();
    if !(*write || *undo) && (*yes || *run || root.is_some()) {
        return wrong(&anyhow!("--yes, --run and --root go with --write or --undo"), EXIT_USAGE, talk);
    }
    // clap sees no conflict where one stands before the kind and the other after it.
    if *run && root.is_some() {
        let why =
            "--run goes without --root: its commands are for this machine, and change nothing below a folder";
        return wrong(&anyhow!(why), EXIT_USAGE, talk);
    }
    if (*write && *undo) || (only.is_some() && (*write || *undo)) {
        return wrong(&anyhow!("--write, --undo and --only go without each other"), EXIT_USAGE, talk);
    }
    let desk = || Ok(Desk { word, disk: Disk::new(word, base, root.as_deref())?, yes: *yes, run: *run });
    if *undo {
        // Who takes files back shall not have to mend settings first.
        return done(desk().and_then(|desk: Desk| desk.undo(talk)), EXIT_FAILURE, talk);
    }
    let (loaded, places) = match settings::load(flags) {
        Ok(loaded) => loaded,
        Err(problems) => return settings::tell(&problems, talk),
    };
    let here = match std::env::current_dir().context("there is no working directory") {
        Ok(here) => here,
        Err(error) => return wrong(&error, EXIT_FAILURE, talk),
    };
    let ground = Ground { loaded: &loaded, places: &places, here: &here, command: typed() };
    let mut deployment = match args.kind.make(&ground) {
        Ok(deployment) => deployment,
        Err(error) => return wrong(&error, EXIT_USAGE, talk),
    };
    if let (Kind::Compose(_), Ok(Found::File(env))) =
        (&args.kind, desk().and_then(|desk: Desk| Ok(desk.disk.look(Path::new(".env"))?)))
    {
        let notes = compose::notes_beside(&deployment, &String::from_utf8_lossy(&env.bytes));
        deployment.notes.extend(notes);
    }
    if *write && root.is_none() && !deployment.astray.is_empty() {
        // Not even agreed to: what was there before is more likely what somebody wants than a service that nobody wrote down.
        let _closed = tell_astray("error: nothing was written", &deployment.astray, talk);
        return EXIT_USAGE;
    }
    if *write {
        let written = desk().and_then(|desk: Desk| desk.write(&deployment, talk));
        let is_wrong = written.as_ref().is_err_and(|error| error.is::<Foreign>());
        done(written, if is_wrong { EXIT_USAGE } else { EXIT_FAILURE }, talk)
    } else {
        done(print(&deployment, only.as_deref(), &ground.command, out, talk), EXIT_USAGE, talk)
    }
}

fn done(result: anyhow::Result<()>, code: u8, talk: &mut dyn Write) -> u8 {
    result.map_or_else(|error| wrong(&error, code, talk), |()| 0)
}

fn wrong(error: &anyhow::Error, code: u8, talk: &mut dyn Write) -> u8 {
    // A closed standard error leaves the exit code to tell it.
    let _closed = writeln!(talk, "error: {error:#}");
    code
}

fn print(
    deployment: &Deployment,
    only: Option<&str>,
    command: &str,
    out: &mut dyn Write,
    talk: &mut dyn Write,
) -> anyhow::Result<()> {
    let is_meant = |path: &Path| only.is_none_or(|only| path.ends_with(only));
    let texts: Vec<&str> =
        deployment.files.iter().filter(|made| is_meant(&made.path)).map(|made| made.text.as_str()).collect();
    if texts.is_empty() {
        let names: Vec<String> = deployment
            .files
            .iter()
            .map(|made| made.path.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        bail!("there is no such file among those that it makes\nhint: they are {}", names.join(", "));
    }
    match out.write_all(texts.join("\n").as_bytes()).and_then(|()| out.flush()) {
        // `… | head -1` is no failure.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error).context("cannot print it"),
        Ok(()) | Err(_) => {}
    }
    let _closed = tell_astray("note", &deployment.astray, talk);
    let _closed = tell_notes(&deployment.notes, talk);
    if only.is_none() {
        let follows = if deployment.then.is_empty() { "" } else { "; what must follow:" };
        let _closed = writeln!(talk, "hint: `{command} --write` puts it in place{follows}");
        let _closed = tell_acts(&deployment.then, talk);
    }
    Ok(())
}

fn tell_notes(notes: &[String], talk: &mut dyn Write) -> io::Result<()> {
    notes.iter().try_for_each(|note| writeln!(talk, "note: {note}"))
}

/// What the files' program would not have, and what to do, as a note or as an error.
fn tell_astray(word: &str, astray: &[Astray], talk: &mut dyn Write) -> io::Result<()> {
    astray.iter().try_for_each(|one| {
        writeln!(talk, "{word}: {}", one.what)?;
        one.ways.iter().try_for_each(|way| writeln!(talk, "hint: {way}"))
    })
}

fn tell_acts(acts: &[Act], talk: &mut dyn Write) -> io::Result<()> {
    acts.iter().try_for_each(|act| writeln!(talk, "  {act}"))
}

/// What a person at a terminal, or `--yes`, decides about.
struct Desk {
    word: &'static str,
    disk: Disk,
    yes: bool,
    run: bool,
}

impl Desk {
    fn write(&self, deployment: &Deployment, talk: &mut dyn Write) -> anyhow::Result<()> {
        let before = self.disk.record()?;
        if deployment.base == Base::System
            && let Some((kind, path)) = self.disk.taken(&deployment.files)?
        {
            bail!(
                "{} is a file of `herdgate deploy {kind}`, whose --undo would take it away\nhint: `herdgate deploy {kind} --undo` first, or write that kind anew if it was another version's",
                path.display()
            );
        }
        let plan = plan(deployment, &before, |path| self.disk.look(path))?;
        tell_astray("note", &deployment.astray, talk)?;
        tell_notes(&deployment.notes, talk)?;
        if plan.steps.is_empty() {
            writeln!(talk, "everything is as it should be; nothing was changed")?;
            // The files may stand there without having come into force: they were written without --run, or a command failed.
            return if self.run { self.follow(&deployment.then, talk) } else { Ok(()) };
        }
        self.ask(&plan, "Write this?", talk)?;
        // What the settings of an earlier time had set, and these do not: a rule, a unit.
        let gone = |before: &[Act], now: &[Act]| -> Vec<Act> {
            before.iter().filter(|act| !now.contains(act)).cloned().collect()
        };
        let first = gone(&before.before_undo, &deployment.before_undo);
        let then = [gone(&before.after_undo, &deployment.after_undo), deployment.then.clone()].concat();
        if self.run {
            self.follow(&first, talk)?;
        }
        self.disk.carry_out(&plan, &before).map_err(hinted)?;
        let kept = self.disk.folder().display();
        writeln!(talk, "written; what was there before is in {kept} (--undo puts it back)")?;
        if self.run { self.follow(&then, talk) } else { self.follow(&[first, then].concat(), talk) }
    }

    fn undo(&self, talk: &mut dyn Write) -> anyhow::Result<()> {
        let before = self.disk.record()?;
        if before.is_empty() {
            writeln!(talk, "nothing was written by `herdgate deploy {}` here", self.word)?;
            return Ok(());
        }
        let plan = plan_back(self.word, &before, |path| self.disk.look(path))?;
        if self.run && !(before.before_undo.is_empty() && before.after_undo.is_empty()) {
            writeln!(talk, "to be run, as it was remembered when the files were written:")?;
            tell_acts(&[&before.before_undo[..], &before.after_undo].concat(), talk)?;
        }
        self.ask(&plan, "Put this back?", talk)?;
        if self.run {
            self.follow(&before.before_undo, talk)?;
        }
        self.disk.carry_out(&plan, &before).map_err(hinted)?;
        self.disk.forget(&before).map_err(hinted)?;
        writeln!(talk, "everything is as it was before")?;
        if self.run {
            self.follow(&before.after_undo, talk)
        } else {
            self.follow(&[&before.before_undo[..], &before.after_undo].concat(), talk)
        }
    }

    /// Shows what is going to be done, and returns where it may be.
    fn ask(&self, plan: &Plan, question: &str, talk: &mut dyn Write) -> anyhow::Result<()> {
        talk.write_all(plan.difference().as_bytes())?;
        tell_notes(&plan.notes, talk)?;
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            bail!("nobody can be asked here, so nothing was changed\nhint: --yes does it without asking");
        }
        write!(talk, "{question} [y/N] ")?;
        talk.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => bail!("not agreed to: nothing was changed"),
        }
    }

    /// Runs the commands, or says them.
    fn follow(&self, acts: &[Act], talk: &mut dyn Write) -> anyhow::Result<()> {
        if acts.is_empty() {
            return Ok(());
        }
        if !self.run {
            writeln!(talk, "what must follow (--run does it):")?;
            return Ok(tell_acts(acts, talk)?);
        }
        for act in acts {
            writeln!(talk, "+ {act}")?;
            let Some((program, words)) = act.0.split_first() else { continue };
            let ended = std::process::Command::new(program)
                .args(words)
                .status()
                .with_context(|| format!("cannot start {program}"))?;
            if !ended.success() {
                bail!(
                    "`{act}` failed: {ended}\nhint: the files are in place: once it is mended, the same with --run begins again with the first of the commands"
                );
            }
        }
        Ok(())
    }
}

fn hinted(error: anyhow::Error) -> anyhow::Error {
    let is_denied =
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if is_denied { anyhow!("{error:#}\nhint: run it as root: sudo") } else { error }
}
