//! The clients, a row each: where their settings belong and as what, what their key must open, what makes the text.

use super::{
    Filled, claude_code, codex, r#continue, env, fetch, javascript, langchain, n8n, open_webui, python,
};
use crate::deploy::{Base, Made, Way};
use clap::ValueEnum;
use gate_types::{Scope, ScopeSet};

/// The clients that settings are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// Open WebUI's container: a part of its stack
    OpenWebui,
    /// n8n's container: its Ollama credential, as a part of its stack
    N8n,
    /// Ollama's library for Python
    Python,
    /// Ollama's library for JavaScript
    Javascript,
    /// JavaScript without a library
    Fetch,
    /// LangChain for Python
    Langchain,
    /// Continue, in an editor
    Continue,
    /// Claude Code
    ClaudeCode,
    /// Codex
    Codex,
    /// A .env file for shells, compose and whatever reads variables
    Env,
}

/// What the settings of a client are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A program, which runs once this is installed, by that interpreter.
    Program { install: &'static str, by: &'static str },
    /// A part of a stack, in a file of its own that compose lays over the stack's.
    Stack,
    /// The file of the client's own settings.
    File,
    /// Variables: a part of a file of which the rest is others'.
    Variables,
}

/// A client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The words behind `herdgate deploy`, by which `--undo` finds again what was written.
    pub(super) kind: &'static str,
    /// Where its settings belong: below the working directory, or with `~` below the home directory.
    pub(super) path: &'static str,
    pub(super) form: Form,
    /// The least that it asks by itself.
    scopes: &'static [Scope],
    pub(super) text: fn(&Filled<'_>) -> String,
}

/// They list models, and make vectors of documents.
const ALL: &[Scope] = &[Scope::Infer, Scope::Embed, Scope::Read];
const INFER: &[Scope] = &[Scope::Infer];
const OVERRIDE: &str = "compose.override.yaml";

impl Client {
    /// All that differs from client to client.
    pub(super) fn row(self) -> Row {
        let row = |kind, path, form, scopes, text| Row { kind, path, form, scopes, text };
        let python = |install| Form::Program { install, by: "python3" };
        let node = |install| Form::Program { install, by: "node" };
        match self {
            Client::OpenWebui => row("client open-webui", OVERRIDE, Form::Stack, ALL, open_webui::text),
            Client::N8n => row("client n8n", OVERRIDE, Form::Stack, ALL, n8n::text),
            Client::Python => {
                row("client python", "herdgate_client.py", python("pip install ollama"), ALL, python::text)
            }
            Client::Javascript => {
                let form = node("npm install ollama undici@7");
                row("client javascript", "herdgate_client.mjs", form, ALL, javascript::text)
            }
            Client::Fetch => {
                row("client fetch", "herdgate_fetch.mjs", node("npm install undici@7"), INFER, fetch::text)
            }
            Client::Langchain => {
                let form = python("pip install langchain-ollama");
                row("client langchain", "herdgate_langchain.py", form, ALL, langchain::text)
            }
            Client::Continue => {
                row("client continue", "~/.continue/config.yaml", Form::File, ALL, r#continue::text)
            }
            Client::ClaudeCode => {
                row("client claude-code", "~/.claude/settings.json", Form::File, INFER, claude_code::text)
            }
            Client::Codex => row("client codex", "~/.codex/config.toml", Form::File, INFER, codex::text),
            Client::Env => row("client env", ".env", Form::Variables, ALL, env::text),
        }
    }

    /// The word of the command line.
    pub(crate) fn word(self) -> &'static str {
        let kind = self.row().kind;
        kind.split_once(' ').map_or(kind, |(_, word)| word)
    }

    /// What its key must open.
    pub(crate) fn scopes(self) -> ScopeSet {
        ScopeSet::of(self.row().scopes)
    }

    /// The words of the command, and what its file is below.
    pub(crate) fn kind(self) -> (&'static str, Base) {
        let row = self.row();
        let base = match row.form {
            Form::File => Base::Home,
            Form::Program { .. } | Form::Stack | Form::Variables => Base::Here,
        };
        (row.kind, base)
    }

    pub(super) fn is_container(self) -> bool {
        matches!(self.row().form, Form::Stack)
    }

    /// Its file, with this text.
    pub(super) fn file(self, text: String) -> Made {
        let row = self.row();
        let (mode, way) = match row.form {
            // Keys are put into them.
            Form::Variables => (0o600, Way::Block),
            Form::File => (0o600, Way::New),
            Form::Program { .. } | Form::Stack => (0o644, Way::New),
        };
        Made { mode, way, ..Made::new(row.path, text) }
    }
}
