//! Arguments of `herdgate key`, as the command line takes them. What they mean is checked in `wanted.rs`.

use crate::deploy::client::{AboutArgs, Client};
use clap::{Args, Subcommand};

/// Arguments of `herdgate key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(super) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print it once, or enrol an ssh public key
    Create(CreateArgs),
    /// Change what a key may do and until when
    Set(SetArgs),
    /// List the keys
    List(ListArgs),
    /// Show one key
    Show(ShowArgs),
    /// End a key at once
    Revoke(RevokeArgs),
    /// Give a key a new secret; the old one goes on working for a while
    Rotate(RotateArgs),
    /// Show who changed which key when
    Log(LogArgs),
    /// Make a key for the settings file: prints the key, and what of it to put there
    Mint(MintArgs),
}

impl KeyCommand {
    /// Whether it cannot do its work without the gate's settings.
    pub(super) const fn needs_settings(&self) -> bool {
        matches!(self, Self::Create(CreateArgs { client: Some(_), .. }))
    }

    /// Whether it changes what a gate on the data directory goes by.
    pub(super) const fn changes_a_store(&self) -> bool {
        match self {
            Self::Create(_) | Self::Set(_) | Self::Revoke(_) | Self::Rotate(_) => true,
            Self::List(_) | Self::Show(_) | Self::Log(_) | Self::Mint(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What to call it: 1 to 64 of A-Z a-z 0-9 . _ -
    pub(super) name: String,
    /// What it may do: infer, embed, read, manage, cloud [default: infer,embed,read]
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',')]
    pub(super) scope: Option<Vec<String>>,
    /// Which models it may use, as patterns: qwen3:8b, qwen3:*, hf.co/acme/* [default: every model]
    ///
    /// Without a tag a pattern means `:latest`, unless it ends in `*`. `*` stands for any run of characters, `/` and
    /// `:` too: `qwen3:*` is every tag of qwen3, while `qwen3*` is also qwen3-coder and qwen3.example.com/x/y.
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub(super) models: Option<Vec<String>>,
    /// How long it is valid, as 90s, 30m, 24h or 30d [default: for ever]
    #[arg(long, value_name = "SPAN")]
    pub(super) expires: Option<String>,
    /// Enrol this ssh public key (FILE.pub, or - for standard input) instead of making a secret
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_key: Option<String>,
    /// Print the settings of this client with the key in them, instead of the key alone; its scopes are what that client asks for
    #[arg(long = "for", value_name = "KIND", conflicts_with = "ssh_key")]
    pub(super) client: Option<Client>,
    #[command(flatten)]
    pub(super) about: AboutArgs,
    /// Print the key and everything about it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Its name
    pub(super) name: String,
    /// What it may do: infer, embed, read, manage, cloud
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',')]
    pub(super) scope: Option<Vec<String>>,
    /// Which models it may use, as patterns like qwen3:*
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub(super) models: Option<Vec<String>>,
    /// Let it use every model
    #[arg(long, conflicts_with = "models")]
    pub(super) all_models: bool,
    /// How long it is valid from now on, as 90s, 30m, 24h or 30d, or never for no end
    #[arg(long, value_name = "SPAN")]
    pub(super) expires: Option<String>,
    /// Print everything about the key as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Of this key alone
    pub(super) name: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct MintArgs {
    /// What to call it: 1 to 64 of A-Z a-z 0-9 . _ -
    pub(super) name: String,
    /// What it may do: infer, embed, read, manage, cloud [default: infer,embed,read]
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',')]
    pub(super) scope: Option<Vec<String>>,
    /// Which models it may use, as patterns like qwen3:* [default: every model]
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    pub(super) models: Option<Vec<String>>,
    /// Print the key and what belongs into the settings as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Show revoked and replaced keys too
    #[arg(long)]
    pub(super) all: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its name
    pub(super) name: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Its name
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Its name
    pub(super) name: String,
    /// How long the old secret goes on working; 0s ends it at once, with all that were before it
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub(super) overlap: String,
    /// The new ssh public key (FILE.pub, or - for standard input), where the key is one
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_key: Option<String>,
    /// Print the key and everything about it as JSON
    #[arg(long)]
    pub(super) json: bool,
}
