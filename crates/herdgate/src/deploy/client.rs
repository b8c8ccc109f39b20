//! `herdgate deploy client KIND` and `herdgate key create NAME --for KIND`: the settings of programs that ask the gate, ready to
//! be pasted.
//!
//! One file a kind, each a function from a [`Filled`] to a text. A key is in it only where [`KeyAt::Here`] gives one, for the standard
//! output of whoever made it; else the text says where the key goes. No program has it in its source either way. How long a client
//! waits is made from the gate's own times: it must not be the client who gives up while a model loads.

mod address;
mod claude_code;
mod codex;
mod container;
mod r#continue;
mod env;
mod fetch;
mod head;
mod javascript;
mod kind;
mod langchain;
mod n8n;
mod open_webui;
mod paste;
mod python;
#[cfg(test)]
mod tests;

pub(crate) use kind::Client;

use super::{Deployment, Ground, tame};
use address::Address;
use anyhow::{anyhow, bail};
use clap::Args;
use gate_keys::ModelGlob;
use gate_types::ModelName;
use kind::Form;
use std::path::{Path, PathBuf};

/// Ollama's variable for how much a model hears of a conversation.
const CONTEXT: &str = "OLLAMA_CONTEXT_LENGTH";
/// Stands where nobody has named a model; no model is called so.
const NO_MODEL: &str = "PUT-A-MODEL-HERE";

/// Options of `herdgate deploy client`.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Which client
    #[arg(value_name = "KIND")]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) about: AboutArgs,
}

/// What the settings of the gate do not tell of a client.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args)]
pub(crate) struct AboutArgs {
    /// The gate as the client finds it, as https://host or http://host:port [default: from the settings]
    #[arg(long, value_name = "URL")]
    pub(crate) gate: Option<String>,
    /// The model that it asks [default: the first that the settings name]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The authority of the gate's certificate, where the client finds it [default with tls.self_signed: tls-ca.pem of the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Where the key is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyAt<'k> {
    /// Nobody has told: the settings say where it goes.
    Elsewhere,
    /// It has just been made, under this name.
    Here { secret: &'k str, name: &'k str },
}

/// What the settings of a client are made from.
pub(crate) struct Filled<'s> {
    client: Client,
    address: Address,
    model: Option<String>,
    is_model_asked_for: bool,
    /// For how long a client must be ready to hear nothing.
    wait: Wait,
    /// Tokens that a model hears of a conversation.
    context: u64,
    key: KeyAt<'s>,
    command: &'s str,
}

/// Seconds, and what they are made of.
#[derive(Debug, Clone)]
struct Wait {
    seconds: u64,
    why: String,
}

/// Makes the settings.
///
/// # Errors
/// Where the settings of the gate do not tell enough.
pub(crate) fn make(asked: &ClientArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let filled = Filled::of(asked.client, &asked.about, ground)?;
    let (kind, base) = asked.client.kind();
    let mut deployment = Deployment::new(kind, base, vec![asked.client.file(filled.text())]);
    deployment.notes = filled.notes();
    Ok(deployment)
}

impl<'s> Filled<'s> {
    /// Reads everything but the key.
    ///
    /// # Errors
    /// Where the settings of the gate do not tell enough, with `hint:` lines.
    pub(crate) fn of(client: Client, asked: &AboutArgs, ground: &'s Ground<'_>) -> anyhow::Result<Self> {
        let model = match &asked.model {
            Some(text) => Some(read_model(text)?),
            None => named(ground).map(|model| model.short().to_owned()),
        };
        Ok(Filled {
            client,
            address: Address::of(asked, ground, client.is_container())?,
            model,
            is_model_asked_for: asked.model.is_some(),
            wait: Wait::of(ground),
            context: context(ground),
            key: KeyAt::Elsewhere,
            command: &ground.command,
        })
    }

    /// With a model that a key of these patterns may use: the one that is known, else the first that a pattern names in full.
    ///
    /// # Errors
    /// Where the model was asked for.
    pub(crate) fn among(mut self, patterns: &[ModelGlob]) -> anyhow::Result<Self> {
        let may = |name: &str| {
            let name = ModelName::parse(name);
            patterns.is_empty()
                || name.is_ok_and(|name| patterns.iter().any(|pattern| pattern.matches(&name)))
        };
        if !self.model.as_deref().is_some_and(may) {
            if let (Some(model), true) = (&self.model, self.is_model_asked_for) {
                bail!(
                    "--model {model} is none of those that --models lets the key use\nhint: add it to --models"
                );
            }
            let plain =
                patterns.iter().map(ModelGlob::as_str).find(|pattern| !pattern.contains('*') && may(pattern));
            self.model = plain.map(str::to_owned);
        }
        Ok(self)
    }

    /// What lies where the script of a program with its key would make a file: it writes over none, and the key would be lost.
    pub(crate) fn in_the_way(&self, name: &str, here: &Path) -> Option<String> {
        let is_program = matches!(self.client.row().form, Form::Program { .. });
        let files = [self.client.row().path.to_owned(), format!("{name}.key")];
        files.into_iter().find(|file| is_program && here.join(file).symlink_metadata().is_ok())
    }

    /// What to know beside settings with a key.
    pub(crate) fn notes_of_filled_in(&self) -> Vec<String> {
        let key = KeyAt::Here { secret: "", name: "" };
        self.with(key).notes()
    }

    fn with<'k>(&self, key: KeyAt<'k>) -> Filled<'k>
    where
        's: 'k,
    {
        Filled {
            key,
            address: self.address.clone(),
            model: self.model.clone(),
            wait: self.wait.clone(),
            ..*self
        }
    }

    /// The settings with a key that has just been made: for the standard output of whoever made it, and nothing else.
    pub(crate) fn filled_in(&self, secret: &str, name: &str) -> String {
        let filled = self.with(KeyAt::Here { secret, name });
        match self.client.row().form {
            Form::Program { install, by } => paste::script(&filled, (secret, name), install, by),
            Form::Stack | Form::File | Form::Variables => filled.text(),
        }
    }

    fn text(&self) -> String {
        (self.client.row().text)(self)
    }

    /// What whoever asked should know beside the text.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.client == Client::ClaudeCode {
            // JSON has no comments.
            notes.extend(claude_code::notes(self));
            notes.extend(self.address.why.iter().cloned());
            notes.push(self.wait.why.clone());
        }
        if self.model.is_none() {
            notes.push(format!(
                "no model is named: put one in the place of {NO_MODEL}, or say --model NAME (`herdgate models` lists them)"
            ));
        }
        if matches!(self.key, KeyAt::Elsewhere) {
            notes.push(format!(
                "`herdgate key create NAME --for {}` makes a key and prints these settings with it",
                self.client.word()
            ));
        }
        notes
    }

    fn url(&self) -> &str {
        &self.address.url
    }

    fn ca(&self) -> Option<&str> {
        self.address.ca.as_deref()
    }

    fn model(&self) -> &str {
        self.model.as_deref().unwrap_or(NO_MODEL)
    }

    /// The secret, where it is here.
    fn secret(&self) -> Option<&str> {
        match self.key {
            KeyAt::Here { secret, .. } => Some(secret),
            KeyAt::Elsewhere => None,
        }
    }

    /// The file beside a program that has the key.
    fn key_file(&self) -> String {
        let name = match self.key {
            KeyAt::Here { name, .. } => name,
            KeyAt::Elsewhere => "herdgate",
        };
        format!("{name}.key")
    }

    fn seconds(&self) -> u64 {
        self.wait.seconds
    }

    fn milliseconds(&self) -> u64 {
        self.wait.seconds * 1000
    }

    /// For programs with long prompts.
    fn context_line(&self, name: &str) -> String {
        format!(
            "Its prompts are long, and Ollama forgets the beginning of what is longer than its context: start it with \
             {CONTEXT}={tokens} or more; {name} = {tokens} tells the client.",
            tokens = self.context
        )
    }

    /// What runs, with HERDGATE_KEY in its environment, where a program can send no key.
    fn connect(&self) -> String {
        let ca = self.ca().map_or_else(String::new, |file| format!(" --ca {file}"));
        format!("herdgate connect {}{ca}", self.url())
    }
}

impl Wait {
    fn of(ground: &Ground<'_>) -> Self {
        let config = ground.config();
        let (all, turn) = (ground.longest_silence().as_secs(), config.queue.max_wait.as_secs());
        let silent = all.saturating_sub(turn + 30);
        Wait {
            seconds: all,
            why: format!(
                "It waits {all} s for a word: a request waits up to {turn} s for its turn (queue.max_wait), an upstream may be silent for \
                 {silent} s, as while it loads a model (timeouts.idle), and 30 s more, so that it is the gate that says what is wrong."
            ),
        }
    }
}

fn read_model(text: &str) -> anyhow::Result<String> {
    ModelName::parse(text)
        .map_err(|bad| anyhow!("--model {text:?}: {bad}\nhint: write it as `herdgate models` shows it"))?;
    match tame("--model", text) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => bail!("{error}"),
    }
}

/// What the settings give to the Ollama of the gate, else what coding agents need.
fn context(ground: &Ground<'_>) -> u64 {
    let named = ground.config().local.env.get(CONTEXT).and_then(|text| text.parse().ok());
    named.filter(|tokens| *tokens > 0).unwrap_or(65_536)
}

/// The first model that the settings name.
fn named<'g>(ground: &'g Ground<'_>) -> Option<&'g ModelName> {
    let config = ground.config();
    config.local.models.first().or_else(|| config.upstreams.iter().find_map(|one| one.models.first()))
}
