//! `create`, `rotate` and `mint`: what gives somebody a credential. A secret is printed here and nowhere else.

use super::args::{CreateArgs, MintArgs, RotateArgs};
use super::shape::prefix;
use super::trouble::{Trouble, both, usage};
use super::wanted::{Wanted, read_name, read_overlap};
use super::{Desk, first_key_is};
use crate::deploy::client::{Client, Filled};
use gate_keys::{
    Key, KeyStore as _, Kind, Mark, Minted, ModelGlob, NewKey, SshKey, State, StoreError, digest_text, mint,
};
use gate_store::{DataDir, FIRST_KEY_FILE, SqliteStore};
use gate_types::{Scope, ScopeSet};
use serde_json::json;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of an ssh public key that are read: one more than it may have.
const SSH_KEY_BYTES: u64 = 8193;

/// What a key is made of.
enum Made {
    Secret(Minted),
    Public(Mark),
}

impl Made {
    const fn mark(&self) -> &Mark {
        match self {
            Made::Secret(minted) => &minted.mark,
            Made::Public(mark) => mark,
        }
    }
}

impl Desk<'_> {
    pub(super) fn create(&mut self, args: &CreateArgs) -> Result<(), Trouble> {
        let public = self.public_key(args.ssh_key.as_deref());
        let usual = args.client.map_or(ScopeSet::DEFAULT, Client::scopes);
        let (scopes, models, expires) =
            (args.scope.as_deref(), args.models.as_deref(), args.expires.as_deref());
        let (wanted, public) = both(Wanted::read(&args.name, scopes, usual, models, expires), public)?;
        let setup = self.setup(args, &wanted)?;
        let dir = DataDir::open(self.data)?;
        let mut store = self.store(&dir)?;
        let made = self.credential(public)?;
        let new = NewKey {
            name: wanted.name,
            mark: made.mark().clone(),
            scopes: wanted.scopes,
            models: wanted.models,
            expires: wanted.expires.map(|span| span.after(self.now)),
        };
        let key = store.create(&new, self.now).map_err(|error| beside(&store, &made, error))?;
        self.hand_over(&made, &key, setup.as_ref(), args.json)?;
        match made {
            Made::Secret(_) => {
                self.say(format_args!("Key \"{}\" made. This is the only time that it is shown.", key.name));
            }
            Made::Public(_) => {
                self.say(format_args!("Key \"{}\" made: the ssh public key of this fingerprint.", key.name));
            }
        }
        self.say(format_args!("{}", self.shape.rights(&key).trim_end()));
        if let Some(setup) = &setup {
            self.say_setup(args, setup);
            return Ok(());
        }
        let it = if key.kind == Kind::Ssh { "" } else { " (put what was printed into KEY: `KEY=sk-hg-…`)" };
        self.say(format_args!("A running gate takes it at once. Use it{it}:"));
        self.say(format_args!("  {}", example(&key, &self.gate, self.trusted().as_deref())));
        Ok(())
    }

    pub(super) fn rotate(&mut self, args: &RotateArgs) -> Result<(), Trouble> {
        let public = self.public_key(args.ssh_key.as_deref());
        let ((name, overlap), public) =
            both(both(read_name(&args.name), read_overlap(&args.overlap)), public)?;
        let (dir, mut store) = self.holding(&name)?;
        let made = self.credential(public)?;
        let rotated = store.rotate(&name, made.mark(), overlap, self.now);
        let rotated = rotated.map_err(|error| self.unknown(&store, error))?;
        let (key, earlier) = (rotated.key, rotated.earlier);
        self.hand_over(&made, &key, None, args.json)?;
        match made {
            Made::Secret(_) => self.say(format_args!(
                "Key \"{name}\" has a new secret. This is the only time that it is shown."
            )),
            Made::Public(_) => self.say(format_args!("Key \"{name}\" has a new public key.")),
        }
        // All that this name ever had; the first of them is the new one.
        let all = store.show(&name)?;
        for old in &all[1..] {
            let which = if old.id == earlier.id { "The old one" } else { "One before it" };
            match (old.state(self.now), old.expires) {
                (State::Overlapping, Some(end)) => {
                    self.say(format_args!("{which} ({}) works until {}.", prefix(old), self.shape.time(end)));
                }
                _ if old.id == earlier.id => self.say(format_args!("{which} ({}) has ended.", prefix(old))),
                // Long over, or ended by this very rotation.
                _ => {}
            }
        }
        if all.len() > 2 && !all[1..].iter().any(|old| old.state(self.now) == State::Overlapping) {
            self.say(format_args!("None of those before it works any more."));
        }
        if let Some(end) = key.expires {
            self.say(format_args!("The key still expires at {}.", self.shape.time(end)));
        }
        if let (Made::Secret(minted), true) = (&made, first_key_is(&dir, &[earlier])) {
            let path =
                dir.write_private(FIRST_KEY_FILE, format!("{}\n", minted.secret.expose()).as_bytes())?;
            self.say(format_args!("{} held the old one and now holds the new one.", path.display()));
        }
        Ok(())
    }

    /// Makes a key that no store knows, for the settings. Looks at no directory.
    pub(super) fn mint(&mut self, args: &MintArgs) -> Result<(), Trouble> {
        let wanted =
            Wanted::read(&args.name, args.scope.as_deref(), ScopeSet::DEFAULT, args.models.as_deref(), None)?;
        let minted = mint(self.entropy)?;
        let block = block(&wanted, &minted.mark);
        let secret = minted.secret.expose();
        let text = if args.json {
            let made = json!({
                "name": wanted.name.as_str(),
                "secret": secret,
                "digest": digest_text(&minted.mark),
                "settings": block,
            });
            format!("{made:#}\n")
        } else {
            format!("{secret}\n")
        };
        // Nothing is lost where it cannot be printed: nobody knows the key yet.
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())?;
        // Comments, so that `herdgate key mint NAME 2>> herdgate.toml` does what it should.
        self.say(format_args!(
            "# Made by herdgate: the key itself was printed once; this belongs into the settings file."
        ));
        self.say(format_args!("{}", block.trim_end()));
        Ok(())
    }

    /// Reads the public key that `from` names: a file, or `-` for standard input.
    fn public_key(&mut self, from: Option<&str>) -> Result<Option<Mark>, Trouble> {
        const HINT: &str = "name a .pub file, or - for standard input: --ssh-key ~/.ollama/id_ed25519.pub";
        let Some(from) = from else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = match from {
            "-" => self.input.take(SSH_KEY_BYTES).read_to_end(&mut bytes),
            path => File::open(path).and_then(|file| file.take(SSH_KEY_BYTES).read_to_end(&mut bytes)),
        };
        read.map_err(|cause| usage(format!("--ssh-key: cannot read {from}: {cause}"), HINT))?;
        let text = String::from_utf8_lossy(&bytes);
        let key = SshKey::parse(&text).map_err(|bad| usage(format!("--ssh-key: {bad}"), bad.hint()))?;
        Ok(Some(key.mark()))
    }

    /// The authority of a gate that is asked by TLS, where that is none of the system's.
    fn trusted(&self) -> Option<PathBuf> {
        self.ground?.own_authority().filter(|_| self.gate.starts_with("https:"))
    }

    fn credential(&mut self, public: Option<Mark>) -> Result<Made, Trouble> {
        Ok(match public {
            Some(mark) => Made::Public(mark),
            None => Made::Secret(mint(self.entropy)?),
        })
    }

    /// Prints the secret or the fingerprint alone, inside the settings of a client, or inside JSON where that was asked for.
    fn hand_over(
        &mut self,
        made: &Made,
        key: &Key,
        setup: Option<&Filled<'_>>,
        json: bool,
    ) -> Result<(), Trouble> {
        let filled_in = |secret: &str| setup.map(|setup| setup.filled_in(secret, key.name.as_str()));
        let text = match made {
            Made::Secret(minted) if json => {
                let secret = minted.secret.expose();
                self.shape.json_made(key, secret, filled_in(secret))
            }
            Made::Secret(minted) if setup.is_some() => filled_in(minted.secret.expose()).unwrap_or_default(),
            Made::Secret(minted) => format!("{}\n", minted.secret.expose()),
            Made::Public(_) if json => self.shape.json_of(key),
            Made::Public(mark) => format!("{}\n", mark.prefix),
        };
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        match made {
            Made::Secret(_) => written.map_err(|cause| Trouble::Lost(key.name.clone(), cause)),
            Made::Public(_) => written.map_err(Trouble::Output),
        }
    }
}

/// A taken name, for whoever wants to enrol a public key: it cannot take the place of a secret.
fn beside(store: &SqliteStore, made: &Made, error: StoreError) -> Trouble {
    let (StoreError::NameTaken(name), Made::Public(_)) = (&error, made) else { return Trouble::Store(error) };
    let holds = |kind| store.show(name).is_ok_and(|keys| keys.first().is_some_and(|key| key.kind == kind));
    let hint = if holds(Kind::Ssh) {
        format!(
            "choose another name, or put it in the place of that one: herdgate key rotate {name} --ssh-key FILE"
        )
    } else {
        format!(
            "that one is a secret and stays: choose another name for the ssh key, for example {name}-laptop"
        )
    };
    Trouble::Hinted(error, hint)
}

/// What a key is in the settings file. Names, scopes, digests and patterns hold nothing that TOML would read otherwise.
fn block(wanted: &Wanted, mark: &Mark) -> String {
    let list =
        |words: Vec<&str>| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let scopes = list(wanted.scopes.iter().map(Scope::as_str).collect());
    let mut text = format!("[[key]]\nname = \"{}\"\ndigest = \"{}\"\n", wanted.name, digest_text(mark));
    text.push_str(&format!("scopes = [{scopes}]\n"));
    if !wanted.models.is_empty() {
        let models = list(wanted.models.iter().map(ModelGlob::as_str).collect());
        text.push_str(&format!("models = [{models}]\n"));
    }
    text
}

/// A line that works with what the key may do. Whoever copies it puts the key into a variable, not into a history file.
fn example(key: &Key, gate: &str, trusted: Option<&Path>) -> String {
    let trust = |how: &str| trusted.map_or_else(String::new, |file| format!("{how}{} ", file.display()));
    if key.kind == Kind::Ssh {
        return format!("{}OLLAMA_AUTH=1 OLLAMA_HOST={gate} ollama list", trust("SSL_CERT_FILE="));
    }
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
    format!("curl {}-H \"Authorization: Bearer $KEY\" {gate}{path} {rest}", trust("--cacert "))
        .trim_end()
        .to_owned()
}
