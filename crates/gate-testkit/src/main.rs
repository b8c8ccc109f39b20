//! `testkit-ollama`: the test server as a program, for tests that start whole programs (`./quickstart`, stock clients).
//!
//! Says `listening on 127.0.0.1:PORT` on stdout once it does, serves until its stdin ends (with `--stay`: until it is
//! killed), and with `--record FILE` writes what it saw there, one JSON object per request, when its peer has its answer.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gate_testkit::{Model, Ollama, Seen, Setup};
use serde_json::json;

const USAGE: &str =
    "usage: testkit-ollama [--listen ADDRESS:PORT] [--version TEXT] [--model NAME]... [--embedder NAME]...
                      [--no-models] [--keep DIR] [--tokens N] [--pace-ms N] [--pull-ms N] [--load-ms N] [--record FILE]
                      [--stay]";

type Failure = Box<dyn std::error::Error>;

struct Asked {
    setup: Setup,
    record: Option<String>,
    stays: bool,
}

fn main() -> Result<(), Failure> {
    let asked = parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ollama = runtime.block_on(Ollama::with(asked.setup))?;
    writeln!(std::io::stdout(), "listening on {}", ollama.addr)?;
    match (asked.record, asked.stays) {
        (Some(file), _) => runtime.block_on(record(&ollama, &file)),
        (None, true) => loop {
            std::thread::park();
        },
        (None, false) => {
            // Whatever comes in means nothing; its end means "stop".
            let mut ignored = [0_u8; 1024];
            while std::io::stdin().read(&mut ignored)? > 0 {}
            Ok(())
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, Failure> {
    let mut setup = Setup::default();
    let (mut models, mut record, mut stays, mut none) = (Vec::new(), None, false, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
        match word.as_str() {
            "--listen" => setup.listen = value()?.parse::<SocketAddr>()?,
            "--version" => setup.version = value()?,
            "--model" => models.push(Model::named(&value()?)),
            "--embedder" => models.push(Model::embedder(&value()?)),
            "--no-models" => none = true,
            "--tokens" => setup.tokens = value()?.parse()?,
            "--pace-ms" => setup.pace = Duration::from_millis(value()?.parse()?),
            "--pull-ms" => setup.progress_pace = Duration::from_millis(value()?.parse()?),
            "--keep" => setup = setup.with_models_kept_in(Path::new(&value()?))?,
            "--load-ms" => {
                setup.load_time = Duration::from_millis(value()?.parse()?);
                setup.loaded.clear();
            }
            "--record" => record = Some(value()?),
            "--stay" => stays = true,
            _ => return Err(format!("unknown word {word}\n{USAGE}").into()),
        }
    }
    if none || !models.is_empty() {
        setup.models = models;
        setup.loaded.clear();
    }
    Ok(Asked { setup, record, stays })
}

/// Writes each request once it is answered or its peer has left; ends only with the process.
async fn record(ollama: &Ollama, file: &str) -> Result<(), Failure> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    let over = |seen: &Seen| seen.answered.is_some() || seen.peer_closed.is_some();
    let mut written = 0;
    loop {
        let Ok(seen) = ollama.until(|seen| seen.get(written).is_some_and(over)).await else { continue };
        for one in seen.iter().skip(written).take_while(|one| over(one)) {
            let entry = json!({
                "connection": one.connection, "method": one.method(), "target": one.target(),
                "head": String::from_utf8_lossy(&one.head), "body": String::from_utf8_lossy(&one.body),
                "answered": one.answered.is_some(),
            });
            writeln!(file, "{entry}")?;
            written += 1;
        }
    }
}
