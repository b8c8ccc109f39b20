//! `herdgate key`: makes, lists, shows, revokes and rotates keys, in the data directory and in no running gate.
//!
//! A gate notices by itself within a second. A secret goes to standard output, once and alone; everything that is said
//! about it goes to standard error. Nothing here ever shows a digest, or a secret that was made before.

mod shape;
#[cfg(test)]
mod tests;
mod trouble;
mod wanted;

use clap::{Args, Subcommand};
use gate_keys::{
    Entropy, Key, KeyDigest, KeyName, KeyStore, Minted, NewKey, OsEntropy, StoreError, UnixSeconds, mint,
};
use gate_store::{DataDir, FIRST_KEY_FILE, SqliteStore};
use gate_types::Scope;
use jiff::tz::TimeZone;
use shape::{Shape, prefix};
use std::io::{self, Write};
use std::path::Path;
use trouble::{Trouble, both};
use wanted::{Wanted, read_name, read_overlap};

/// Arguments of `herdgate key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it once
    Create(CreateArgs),
    /// List the keys
    List(ListArgs),
    /// Show one key
    Show(ShowArgs),
    /// End a key at once
    Revoke(RevokeArgs),
    /// Give a key a new secret; the old one goes on working for a while
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What to call it: 1 to 64 of A-Z a-z 0-9 . _ -
    name: String,
    /// What it may do: infer, embed, read, manage, cloud [default: infer,embed,read]
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',')]
    scope: Option<Vec<String>>,
    /// Which models it may use, as patterns: qwen3:8b, qwen3:*, hf.co/acme/* [default: every model]
    ///
    /// Without a tag a pattern means `:latest`, unless it ends in `*`. `*` stands for any run of characters, `/` and
    /// `:` too: `qwen3:*` is every tag of qwen3, while `qwen3*` is also qwen3-coder and qwen3.example.com/x/y.
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// How long it is valid, as 90s, 30m, 24h or 30d [default: for ever]
    #[arg(long, value_name = "SPAN")]
    expires: Option<String>,
    /// Print the key and everything about it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Show revoked and replaced keys too
    #[arg(long)]
    all: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Its name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Its name
    name: String,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Its name
    name: String,
    /// How long the old secret goes on working; 0s ends it at once
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    overlap: String,
    /// Print the key and everything about it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command over the data directory `data` and gives its exit code: 0 done, 1 failed, 64 wrong usage.
pub(crate) fn run(args: &KeyArgs, data: &Path, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let now = jiff::Timestamp::now().as_second();
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let shape = Shape { now, zone };
    Desk { data, now, shape, entropy: &mut OsEntropy, out, talk }.finish(&args.command)
}

/// What a command works with. Time and chance come in here, so that tests know both.
struct Desk<'d> {
    data: &'d Path,
    now: UnixSeconds,
    shape: Shape,
    entropy: &'d mut dyn Entropy,
    out: &'d mut dyn Write,
    talk: &'d mut dyn Write,
}

impl Desk<'_> {
    /// Runs the command to its exit code.
    fn finish(mut self, command: &KeyCommand) -> u8 {
        match self.run(command).and_then(|()| self.out.flush().map_err(Trouble::Output)) {
            Ok(()) => 0,
            // `herdgate key list | head -1` is no failure.
            Err(Trouble::Output(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Err(trouble) => {
                // A closed standard error leaves the exit code to tell it.
                let _closed = trouble.tell(self.talk);
                trouble.exit_code()
            }
        }
    }

    fn run(&mut self, command: &KeyCommand) -> Result<(), Trouble> {
        match command {
            KeyCommand::Create(args) => self.create(args),
            KeyCommand::List(args) => self.list(args),
            KeyCommand::Show(args) => self.show(args),
            KeyCommand::Revoke(args) => self.revoke(args),
            KeyCommand::Rotate(args) => self.rotate(args),
        }
    }

    fn create(&mut self, args: &CreateArgs) -> Result<(), Trouble> {
        let wanted = Wanted::read(args)?;
        let dir = DataDir::open(self.data)?;
        let mut store = self.store(&dir)?;
        let minted = mint(self.entropy)?;
        let expires = wanted.expires.map(|span| span.after(self.now));
        let new = NewKey {
            name: wanted.name,
            mark: minted.mark.clone(),
            scopes: wanted.scopes,
            models: wanted.models,
            expires,
        };
        let key = store.create(&new, self.now)?;
        self.hand_over(&minted, &key, args.json)?;
        self.say(format_args!("Key \"{}\" made. This is the only time that it is shown.", key.name));
        self.say(format_args!("{}", self.shape.rights(&key).trim_end()));
        self.say(format_args!("A running gate takes it within a second. Use it (KEY is what was printed):"));
        self.say(format_args!("  {}", example(&key)));
        Ok(())
    }

    fn list(&mut self, args: &ListArgs) -> Result<(), Trouble> {
        let keys = match self.existing()? {
            Some((_, store)) => store.list()?,
            None => Vec::new(),
        };
        let none = keys.is_empty();
        let (shown, hidden): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| args.all || self.shape.is_listed(key));
        let text = if args.json { self.shape.json_list(&shown) } else { self.shape.table(&shown) };
        self.out.write_all(text.as_bytes())?;
        if none {
            self.say(format_args!("No keys in {}. Make one: herdgate key create NAME", self.data.display()));
        } else if !hidden.is_empty() {
            self.say(format_args!(
                "Revoked or replaced and not shown: {}. See them with --all.",
                hidden.len()
            ));
        }
        Ok(())
    }

    fn show(&mut self, args: &ShowArgs) -> Result<(), Trouble> {
        let name = read_name(&args.name)?;
        let (_, store) = self.holding(&name)?;
        let keys = store.show(&name).map_err(|error| self.unknown(&store, error))?;
        let text = if args.json { self.shape.json_one(&keys) } else { self.shape.one(&keys) };
        Ok(self.out.write_all(text.as_bytes())?)
    }

    fn revoke(&mut self, args: &RevokeArgs) -> Result<(), Trouble> {
        let name = read_name(&args.name)?;
        let (dir, mut store) = self.holding(&name)?;
        let revoked = store.revoke(&name, self.now).map_err(|error| self.unknown(&store, error))?;
        self.say(format_args!(
            "Key \"{name}\" revoked. A running gate refuses it within a second; its name is free."
        ));
        let old = revoked.len().saturating_sub(1);
        if old > 0 {
            self.say(format_args!("Earlier secrets of it that still worked, revoked too: {old}."));
        }
        if first_key_is(&dir, &revoked) {
            dir.remove(FIRST_KEY_FILE)?;
            self.say(format_args!(
                "It stood in {}, which is removed.",
                dir.path().join(FIRST_KEY_FILE).display()
            ));
        }
        Ok(())
    }

    fn rotate(&mut self, args: &RotateArgs) -> Result<(), Trouble> {
        let (name, overlap) = both(read_name(&args.name), read_overlap(&args.overlap))?;
        let (dir, mut store) = self.holding(&name)?;
        let minted = mint(self.entropy)?;
        let rotated = store.rotate(&name, &minted.mark, overlap, self.now);
        let rotated = rotated.map_err(|error| self.unknown(&store, error))?;
        let (key, earlier) = (rotated.key, rotated.earlier);
        self.hand_over(&minted, &key, args.json)?;
        self.say(format_args!("Key \"{name}\" has a new secret. This is the only time that it is shown."));
        let old = prefix(&earlier);
        match earlier.expires.filter(|end| *end > self.now) {
            Some(end) => self.say(format_args!("The old one ({old}) works until {}.", self.shape.time(end))),
            None => self.say(format_args!("The old one ({old}) has ended.")),
        }
        if let Some(end) = key.expires {
            self.say(format_args!("The key still expires at {}.", self.shape.time(end)));
        }
        if first_key_is(&dir, &[earlier]) {
            let path =
                dir.write_private(FIRST_KEY_FILE, format!("{}\n", minted.secret.expose()).as_bytes())?;
            self.say(format_args!("{} held the old one and now holds the new one.", path.display()));
        }
        Ok(())
    }

    /// Tells the person. A closed standard error must neither stop a command half-way nor fail it.
    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let _closed = writeln!(self.talk, "{what}");
    }

    /// Prints the secret alone, or inside JSON where that was asked for.
    fn hand_over(&mut self, minted: &Minted, key: &Key, json: bool) -> Result<(), Trouble> {
        let secret = minted.secret.expose();
        let text = if json { self.shape.json_made(key, secret) } else { format!("{secret}\n") };
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|cause| Trouble::Lost(key.name.clone(), cause))
    }

    fn store(&mut self, dir: &DataDir) -> Result<SqliteStore, Trouble> {
        for note in dir.notes() {
            self.say(format_args!("note: {note}"));
        }
        Ok(SqliteStore::open_known(dir)?.by(&crate::user::name()))
    }

    /// The store, if there is one: only `create` makes anything.
    fn existing(&mut self) -> Result<Option<(DataDir, SqliteStore)>, Trouble> {
        match DataDir::find(self.data)? {
            Some(dir) if !SqliteStore::exists(&dir) => {
                SqliteStore::check_presence(&dir)?;
                Ok(None)
            }
            Some(dir) => {
                let store = self.store(&dir)?;
                Ok(Some((dir, store)))
            }
            None => Ok(None),
        }
    }

    /// The store, in which `name` is to be looked for.
    fn holding(&mut self, name: &KeyName) -> Result<(DataDir, SqliteStore), Trouble> {
        let nowhere = || {
            let hint = format!("{} has no keys at all: is it the right data directory?", self.data.display());
            Trouble::Unknown(StoreError::UnknownName(name.clone()), hint)
        };
        let nowhere = nowhere();
        self.existing()?.ok_or(nowhere)
    }

    /// Adds to an unknown name those that are like it.
    fn unknown(&self, store: &SqliteStore, error: StoreError) -> Trouble {
        let StoreError::UnknownName(name) = error else { return Trouble::Store(error) };
        let keys = store.list().unwrap_or_default();
        let live = keys.iter().filter(|key| self.shape.is_listed(key)).map(|key| &key.name);
        let nearest: Vec<_> = name.nearest(live).iter().map(|near| format!("\"{near}\"")).collect();
        let hint = if nearest.is_empty() {
            format!("see what is in {}: herdgate key list", self.data.display())
        } else {
            format!("did you mean {}?", nearest.join(" or "))
        };
        Trouble::Unknown(StoreError::UnknownName(name), hint)
    }
}

/// Whether the file of the first start holds one of these keys.
fn first_key_is(dir: &DataDir, keys: &[Key]) -> bool {
    // A file that is none of herdgate's cannot hold one, and is nothing to fail for now that the store has changed.
    let Ok(Some(text)) = dir.read_private(FIRST_KEY_FILE) else { return false };
    let digest = KeyDigest::of(text.expose().trim());
    keys.iter().any(|key| key.digest == digest)
}

/// A line that works with what the key may do. Whoever copies it puts the key into a variable, not into a history file.
fn example(key: &Key) -> String {
    let ask = if key.has(Scope::Read) {
        "/api/tags"
    } else if key.has(Scope::Infer) {
        "/api/chat -d '{\"model\":\"MODEL\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'"
    } else if key.has(Scope::Embed) {
        "/api/embed -d '{\"model\":\"MODEL\",\"input\":\"Hi\"}'"
    } else {
        "/api/version"
    };
    let (path, rest) = ask.split_once(' ').unwrap_or((ask, ""));
    format!("curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:7860{path} {rest}").trim_end().to_owned()
}
