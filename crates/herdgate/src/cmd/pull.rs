//! `herdgate pull`: has an upstream fetch a model, and shows how far it is: a bar for each upstream on a terminal, a line every
//! ten seconds elsewhere.

use crate::bars::{self, Bar};
use crate::progress::{Line, Progress, plain};
use crate::reach::{self, Answer, Reach, ReachArgs, refusal};
use anyhow::{anyhow, bail};
use clap::Args;
use gate_config::Locations;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// How often a line says how far it is.
const LINE_TIME: Duration = Duration::from_secs(10);

/// `herdgate pull …`
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The model, such as qwen3:8b
    name: String,
    /// The upstream that shall have it: its name, URL or host [default: the gate's own Ollama, or the only upstream]
    #[arg(long, value_name = "UPSTREAM")]
    on: Option<String>,
    /// Every upstream
    #[arg(long, conflicts_with = "on")]
    all: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Pulls until all of it is there.
pub(crate) fn run(args: &PullArgs, places: &Locations, talk: &mut dyn Write) -> u8 {
    if io::stderr().is_terminal() {
        bars::allow();
    }
    let done =
        Reach::of(&args.reach, places, talk).and_then(|reach| reach::block_on(pull(args, &reach, talk)));
    reach::finish(done, talk)
}

async fn pull(args: &PullArgs, reach: &Reach, talk: &mut dyn Write) -> anyhow::Result<()> {
    let answer = if reach.is_here() {
        let body = json!({"model": args.name, "on": args.on, "all": args.all});
        reach.admin(Method::POST, "/v1/pull", &body).await?
    } else {
        reach::refuse_choice(args.on.is_some() || args.all)?;
        reach.gate(Method::POST, "/api/pull", &json!({"model": args.name})).await?
    };
    follow(answer.ok().await?, &args.name, &reach.name(), talk).await
}

/// One pull at one upstream, as it is shown.
struct Shown {
    progress: Progress,
    bar: Option<Bar>,
    told: Instant,
    /// What became of it.
    ended: Option<Result<(), anyhow::Error>>,
}

/// Shows each line until the last.
async fn follow(mut answer: Answer, model: &str, usual: &str, talk: &mut dyn Write) -> anyhow::Result<()> {
    let mut all: BTreeMap<String, Shown> = BTreeMap::new();
    while let Some(line) = answer.line().await? {
        let value: Value = serde_json::from_slice(&line).unwrap_or_default();
        let Some(line) = Line::read(&line) else { continue };
        let at = plain(value["upstream"].as_str().unwrap_or(usual));
        let shown = all.entry(at.clone()).or_insert_with(|| Shown {
            progress: Progress::begin(Instant::now()),
            bar: Bar::begin(&format!("{model} at {at}")),
            told: Instant::now(),
            ended: None,
        });
        if let Some(error) = &line.error {
            shown.bar = None;
            let error = refusal(&value).unwrap_or_else(|| anyhow!("{error}"));
            let text = format!("{error:#}").replace(&format!("({at}: "), "(");
            shown.ended = Some(Err(anyhow!("cannot pull {model} at {at}: {text}")));
        } else if line.status == "success" {
            shown.bar = None;
            shown.ended = Some(Ok(()));
            say(talk, &format!("pulled {model} at {at}: {}", shown.progress.summary(Instant::now())));
        } else {
            show(shown, &line, model, &at, talk);
        }
    }
    let (count, mut failed) = (all.len(), Vec::new());
    for shown in all.into_values() {
        match shown.ended {
            Some(Ok(())) => {}
            Some(Err(error)) => failed.push(error),
            None => failed.push(broke_off()),
        }
    }
    if count == 0 {
        failed.push(broke_off());
    }
    several(failed, count, talk)
}

fn broke_off() -> anyhow::Error {
    anyhow!("the gate broke off before the end\nhint: once more, and it goes on where it stopped")
}

/// One failure is the command's own; several are told one by one.
pub(super) fn several(mut failed: Vec<anyhow::Error>, of: usize, talk: &mut dyn Write) -> anyhow::Result<()> {
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), Err);
    }
    for error in &failed {
        say(talk, &format!("error: {error:#}"));
    }
    bail!("{} of {of} failed", failed.len())
}

fn show(shown: &mut Shown, line: &Line, model: &str, at: &str, talk: &mut dyn Write) {
    shown.progress.add(line, Instant::now());
    match &shown.bar {
        Some(bar) => bar.show(&shown.progress),
        None if shown.told.elapsed() >= LINE_TIME => {
            shown.told = Instant::now();
            say(talk, &format!("pulling {model} at {at}: {}", shown.progress.words()));
        }
        None => {}
    }
}

/// A closed standard error must not stop a pull.
fn say(talk: &mut dyn Write, text: &str) {
    let _closed = bars::aside(|| writeln!(talk, "{text}"));
}
