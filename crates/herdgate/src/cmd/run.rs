//! `herdgate run`: a small chat through the gate, for trying it out. The whole path of a request is in it: key, queue, routing,
//! stream. Ctrl-C stops the answer that is being written, which stops the model; Ctrl-D or `/bye` ends the chat.

use crate::progress::plain;
use crate::reach::{self, Answer, Reach, ReachArgs};
use anyhow::{Context as _, anyhow};
use clap::Args;
use gate_config::Locations;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Bytes of a question.
const QUESTION_BYTES: u64 = 16 << 20;
/// As a shell tells of a program that Ctrl-C has ended.
const EXIT_INTERRUPTED: u8 = 130;
/// How a chat is left.
const BYE: &str = "/bye";
const DIM: &str = "\x1b[2m";
const USUAL: &str = "\x1b[0m";

/// `herdgate run …`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The model
    model: String,
    /// What to ask; what comes in by a pipe stands behind it [default: a chat, or what comes in by a pipe]
    prompt: Vec<String>,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Asks once where there is a prompt or a pipe, else chats.
pub(crate) fn run(args: &RunArgs, places: &Locations, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let mut chat = match begin(args, places, talk) {
        Ok(chat) => chat,
        Err(error) => return reach::finish(Err(error), talk),
    };
    let is_piped = !io::stdin().is_terminal();
    let done = if args.prompt.is_empty() && !is_piped {
        reach::block_on(chat.talk(out, talk)).map(|()| 0)
    } else {
        question(&args.prompt, is_piped).and_then(|question| reach::block_on(chat.once(&question, out, talk)))
    };
    match done {
        Ok(code) => code,
        Err(error) => reach::finish(Err(error), talk),
    }
}

fn begin(args: &RunArgs, places: &Locations, talk: &mut dyn Write) -> anyhow::Result<Chat> {
    let reach = Reach::of(&args.reach, places, talk)?;
    let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
    Ok(Chat { reach, model: args.model.clone(), messages: Vec::new(), shows_thoughts: out && err })
}

/// The prompt, and what comes in by a pipe behind it.
fn question(prompt: &[String], is_piped: bool) -> anyhow::Result<String> {
    let mut question = prompt.join(" ");
    if is_piped {
        let mut piped = String::new();
        io::stdin().take(QUESTION_BYTES).read_to_string(&mut piped).context("standard input")?;
        let piped = piped.trim_end();
        if !question.is_empty() && !piped.is_empty() {
            question.push_str("\n\n");
        }
        question.push_str(piped);
    }
    if question.is_empty() {
        return Err(anyhow!(
            "there is nothing to ask\nhint: write the question behind the model, or send it in by a pipe"
        ));
    }
    Ok(question)
}

/// A conversation.
struct Chat {
    reach: Reach,
    model: String,
    messages: Vec<Value>,
    shows_thoughts: bool,
}

/// How an answer ended.
enum Ended {
    Whole,
    Stopped,
}

impl Chat {
    /// One question, one answer.
    async fn once(
        &mut self,
        question: &str,
        out: &mut dyn Write,
        talk: &mut dyn Write,
    ) -> anyhow::Result<u8> {
        Ok(match self.ask(question, out, talk).await? {
            Ended::Whole => 0,
            Ended::Stopped => EXIT_INTERRUPTED,
        })
    }

    /// Questions line by line, until the end of the input.
    async fn talk(&mut self, out: &mut dyn Write, talk: &mut dyn Write) -> anyhow::Result<()> {
        let mut lines = lines()?;
        writeln!(
            talk,
            "Chat with {} by {}. {BYE} or Ctrl-D ends it, Ctrl-C stops an answer.",
            self.model,
            self.reach.name()
        )?;
        loop {
            write!(talk, ">>> ")?;
            talk.flush()?;
            let line = tokio::select! {
                line = lines.recv() => line,
                _stop = tokio::signal::ctrl_c() => {
                    writeln!(talk, "\n({BYE} or Ctrl-D ends the chat)")?;
                    continue;
                }
            };
            let Some(line) = line else { break };
            let line = line?;
            match line.trim() {
                "" => continue,
                BYE => return Ok(()),
                question => {
                    // A model that is being pulled now is there in a minute: no reason to end the chat.
                    if let Err(error) = self.ask(question, out, talk).await {
                        writeln!(talk, "error: {error:#}")?;
                        self.messages.pop();
                    }
                }
            }
        }
        writeln!(talk)?;
        Ok(())
    }

    /// Asks, and writes the answer as it comes.
    async fn ask(
        &mut self,
        question: &str,
        out: &mut dyn Write,
        talk: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        self.messages.push(json!({"role": "user", "content": question}));
        let body = json!({"model": self.model, "messages": self.messages, "stream": true});
        let mut said = String::new();
        let ended = tokio::select! {
            // Dropping the answer closes its connection, and that stops the model.
            _stop = tokio::signal::ctrl_c() => Ok(Ended::Stopped),
            ended = self.hear(&body, &mut said, out, talk) => ended,
        };
        if !said.is_empty() && !said.ends_with('\n') {
            writeln!(out)?;
        }
        out.flush()?;
        if let Ok(Ended::Stopped) = &ended {
            writeln!(talk, "(stopped)")?;
        }
        if ended.is_ok() {
            self.messages.push(json!({"role": "assistant", "content": said.trim_end()}));
        }
        ended
    }

    /// The gate has no such model: names one like it, and the way to get it.
    async fn unknown(&self, error: &anyhow::Error) -> anyhow::Error {
        let text = error.to_string();
        let said = text.lines().next().unwrap_or_default();
        let list = match self.reach.gate(Method::GET, "/api/tags", &Value::Null).await {
            // The gate has named one already.
            Ok(answer) if !said.contains("did you mean") => answer.json().await.unwrap_or_default(),
            _ => Value::Null,
        };
        let at = if self.reach.is_here() { String::new() } else { format!(" --url {}", self.reach.name()) };
        anyhow!(
            "{said}\n{}",
            cure(&self.model, &names(&list), &format!("herdgate pull {}{at}", plain(&self.model)))
        )
    }

    async fn hear(
        &self,
        body: &Value,
        said: &mut String,
        out: &mut dyn Write,
        talk: &mut dyn Write,
    ) -> anyhow::Result<Ended> {
        let begun = Instant::now();
        let answer = self.reach.gate(Method::POST, "/api/chat", body).await?;
        let is_unknown = answer.status == StatusCode::NOT_FOUND;
        let mut answer = match answer.ok().await {
            Err(error) if is_unknown => return Err(self.unknown(&error).await),
            answer => answer?,
        };
        let mut first = None;
        let mut thinks = false;
        while let Some(line) = answer.line().await? {
            let line: Value = serde_json::from_slice(&line).context("the answer is no JSON")?;
            if let Some(error) = line["error"].as_str() {
                return Err(anyhow!("{}", plain(error)));
            }
            let text = |name: &str| line["message"][name].as_str().unwrap_or_default();
            if self.shows_thoughts && !text("thinking").is_empty() {
                write!(talk, "{}{}", if thinks { "" } else { DIM }, shown(text("thinking")))?;
                thinks = true;
            }
            if !text("content").is_empty() {
                first.get_or_insert_with(|| begun.elapsed());
                if std::mem::take(&mut thinks) {
                    writeln!(talk, "{USUAL}")?;
                }
                said.push_str(text("content"));
                out.write_all(shown(text("content")).as_bytes())?;
                out.flush()?;
            }
            if line["done"] == true {
                let end = if said.ends_with('\n') || said.is_empty() { "" } else { "\n" };
                out.write_all(end.as_bytes())?;
                out.flush()?;
                // Said here: only the last line tells it.
                if !end.is_empty() {
                    said.push('\n');
                }
                writeln!(talk, "({}{})", if thinks { USUAL } else { "" }, speed(&line, first))?;
                drain(answer).await;
                return Ok(Ended::Whole);
            }
        }
        Err(anyhow!("the answer broke off"))
    }
}

/// The names of a gate's list of models.
fn names(list: &Value) -> Vec<&str> {
    let models = list["models"].as_array().map_or(&[][..], Vec::as_slice);
    models.iter().filter_map(|model| model["name"].as_str()).collect()
}

/// What to do about a model that is not there.
fn cure(model: &str, names: &[&str], pull: &str) -> String {
    let names = names.iter().map(|name| name.strip_suffix(":latest").unwrap_or(name));
    let mut hint = match gate_config::nearest(model, names) {
        Some(near) => format!("hint: did you mean {}?\n", plain(near)),
        None => String::new(),
    };
    hint.push_str(&format!("hint: {pull} gets it; herdgate models lists what there is"));
    hint
}

/// Reads what is behind the last line, so that the gate sees the answer taken.
async fn drain(mut answer: Answer) {
    while let Ok(Some(_)) = answer.line().await {}
}

/// What a model writes, without what would act on a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// `8 tokens, 42.0 tokens/s, first after 0.3 s`.
fn speed(last: &Value, first: Option<Duration>) -> String {
    let number = |name: &str| last[name].as_u64().unwrap_or(0);
    let tokens = number("eval_count");
    let mut text = format!("{tokens} token{}", if tokens == 1 { "" } else { "s" });
    let nanos = number("eval_duration");
    if tokens > 0 && nanos > 0 {
        let tenths = u128::from(tokens) * 10_000_000_000 / u128::from(nanos);
        text.push_str(&format!(", {}.{} tokens/s", tenths / 10, tenths % 10));
    }
    if let Some(first) = first {
        text.push_str(&format!(", first after {:.1} s", first.as_secs_f32()));
    }
    if last["done_reason"] == "length" {
        text.push_str(", cut at the longest answer");
    }
    text
}

/// The lines of standard input, which only a thread can wait for. It ends with the program.
fn lines() -> anyhow::Result<mpsc::Receiver<io::Result<String>>> {
    let (send, lines) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            for line in io::stdin().lines() {
                if send.blocking_send(line).is_err() {
                    return;
                }
            }
        })
        .context("cannot read standard input")?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_model() {
        let last = json!({"eval_count": 21, "eval_duration": 500_000_000, "done_reason": "stop"});
        let first = Some(Duration::from_millis(260));
        assert_eq!(speed(&last, first), "21 tokens, 42.0 tokens/s, first after 0.3 s");
        assert_eq!(
            speed(&json!({"eval_count": 1, "done_reason": "length"}), None),
            "1 token, cut at the longest answer"
        );
    }

    #[test]
    fn a_model_that_is_not_there_has_a_neighbour_and_a_way_to_come() {
        let list = json!({"models": [{"name": "qwen3:8b"}, {"name": "demo:latest"}]});
        assert_eq!(
            cure("other", &names(&list), "herdgate pull other"),
            "hint: herdgate pull other gets it; herdgate models lists what there is"
        );
        assert_eq!(
            cure("qwen3:7b", &names(&list), "herdgate pull qwen3:7b"),
            "hint: did you mean qwen3:8b?\nhint: herdgate pull qwen3:7b gets it; herdgate models lists what there is"
        );
        assert!(cure("dmeo", &names(&list), "x").starts_with("hint: did you mean demo?\n"));
    }

    #[test]
    fn a_model_cannot_act_on_the_terminal() {
        assert_eq!(shown("a\x1b[2J\r\n\tb\u{9b}"), "a[2J\n\tb");
    }
}
