//! `herdgate key`: makes, lists, shows, changes, revokes and rotates keys, in the data directory and in no running gate.
//!
//! A gate notices by itself: a new key at once, any other change within a second; one that runs on the directory is told at
//! the end, so that all of it is in force when the command has ended. A secret goes to standard output, once and
//! alone; everything that is said about it goes to standard error. Nothing here ever shows a secret that was made before, or
//! the digest of a stored one.

mod args;
mod change;
mod client;
mod make;
mod shape;
#[cfg(test)]
mod tests;
mod trouble;
mod wanted;

pub(crate) use args::KeyArgs;

use crate::cmd::settings;
use crate::deploy::{Ground, typed};
use args::{KeyCommand, ListArgs, RevokeArgs, ShowArgs};
use gate_config::{Config, KeySetting, Listen, Loaded, Locations, Place, Problem};
use gate_keys::{Entropy, Key, KeyDigest, KeyName, KeyStore, OsEntropy, StoreError, UnixSeconds};
use gate_store::{DataDir, FIRST_KEY_FILE, SqliteStore};
use jiff::tz::TimeZone;
use shape::Shape;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use trouble::Trouble;
use wanted::read_name;

/// Runs the command over the data directory of `places` and gives its exit code: 0 done, 1 failed, 64 wrong usage. Of the settings,
/// which are the defaults where they cannot be read, the keys are told of and changed nowhere but there, and the address stands in
/// the lines to try; `--for` needs them.
pub(crate) fn run(
    args: &KeyArgs,
    places: &Locations,
    loaded: Result<&Loaded, &[Problem]>,
    out: &mut dyn Write,
    talk: &mut dyn Write,
) -> u8 {
    let usual = Config::default();
    let config = match loaded {
        Ok(loaded) => &loaded.config,
        Err(problems) if args.command.needs_settings() => return settings::tell(problems, talk),
        Err(_) => &usual,
    };
    let here = std::env::current_dir().unwrap_or_default();
    let ground = loaded.ok().map(|loaded| Ground { loaded, places, here: &here, command: typed() });
    let now = jiff::Timestamp::now().as_second();
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let is_flag = matches!(&places.data_named, Some(Place::Flag { .. }));
    let desk = Desk {
        data: &places.data,
        settings: &config.keys,
        ground: ground.as_ref(),
        gate: address(config),
        command: if is_flag { command(&places.data) } else { PLAIN.to_owned() },
        who: crate::user::name(),
        now,
        shape: Shape { now, zone },
        entropy: &mut OsEntropy,
        input: &mut io::stdin(),
        out,
        talk,
    };
    let code = desk.finish(&args.command);
    if code == 0 && args.command.changes_a_store() {
        // Whoever goes on behind this command finds the change in force.
        crate::reach::tell_of_keys(&places.data);
    }
    code
}

/// How hints call this command.
const PLAIN: &str = "herdgate key ";

/// The same for whoever named the data directory by a flag, and would have to again.
fn command(data: &Path) -> String {
    let data = data.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if data.chars().all(is_plain) {
        format!("herdgate --data {data} key ")
    } else {
        format!("herdgate --data '{}' key ", data.replace('\'', "'\\''"))
    }
}

/// Where somebody on this machine finds a gate of these settings. One that was started with `--listen` is elsewhere.
fn address(config: &Config) -> String {
    let serving = config.listen.iter().find(|listener| !listener.redirect);
    let listen = serving.map_or(Listen::DEFAULT, |listener| listener.address).address;
    let here = SocketAddr::from(([127, 0, 0, 1], listen.port()));
    let at = if listen.ip().is_unspecified() { here } else { listen };
    if !serving.is_some_and(|listener| listener.is_tls(config)) {
        return format!("http://{at}");
    }
    match config.tls.domains.first() {
        Some(name) if listen.port() == 443 => format!("https://{name}"),
        Some(name) => format!("https://{name}:{}", listen.port()),
        // Which name a certificate of somebody's has, only they know.
        None if config.tls.cert.is_some() => format!("https://NAME:{}", listen.port()),
        None => format!("https://{at}"),
    }
}

/// What a command works with. Time and chance come in here, so that tests know both.
struct Desk<'d> {
    data: &'d Path,
    settings: &'d [KeySetting],
    /// What the settings of clients are made from.
    ground: Option<&'d Ground<'d>>,
    /// Where a gate of these settings answers on this machine: a URL without a path.
    gate: String,
    /// How hints call this command: with the flags that it was called with.
    command: String,
    /// Who makes the changes.
    who: String,
    now: UnixSeconds,
    shape: Shape,
    entropy: &'d mut dyn Entropy,
    input: &'d mut dyn Read,
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
                let _closed = trouble.tell(self.talk, |hint| hint.replace(PLAIN, &self.command));
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
            KeyCommand::Set(args) => self.set(args),
            KeyCommand::Log(args) => self.log(args),
            KeyCommand::Mint(args) => self.mint(args),
        }
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
        if !self.settings.is_empty() {
            let names: Vec<_> = self.settings.iter().map(|key| key.name.as_str()).collect();
            self.say(format_args!("In the settings, and not shown: {}.", names.join(", ")));
        }
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
        if let Some(place) = in_settings(self.settings, &name) {
            self.say(format_args!("The settings have another key of this name, which still works: {place}."));
        }
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

    /// Tells the person. A closed standard error must neither stop a command half-way nor fail it.
    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let _closed = writeln!(self.talk, "{}", what.to_string().replace(PLAIN, &self.command));
    }

    fn store(&mut self, dir: &DataDir) -> Result<SqliteStore, Trouble> {
        for note in dir.notes() {
            self.say(format_args!("note: {note}"));
        }
        Ok(SqliteStore::open_known(dir)?.by(&self.who))
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
            let hint = match in_settings(self.settings, name) {
                Some(place) => in_settings_hint(place),
                None => {
                    format!("{} has no keys at all: is it the right data directory?", self.data.display())
                }
            };
            Trouble::Hinted(StoreError::UnknownName(name.clone()), hint)
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
        let hint = if let Some(place) = in_settings(self.settings, &name) {
            in_settings_hint(place)
        } else if nearest.is_empty() {
            format!("see what is in {}: herdgate key list", self.data.display())
        } else {
            format!("did you mean {}?", nearest.join(" or "))
        };
        Trouble::Hinted(StoreError::UnknownName(name), hint)
    }
}

/// Where a key of this name stands in the settings.
fn in_settings<'s>(settings: &'s [KeySetting], name: &KeyName) -> Option<&'s Place> {
    settings.iter().find(|key| key.name == name.as_str()).map(|key| &key.place)
}

fn in_settings_hint(place: &Place) -> String {
    format!("a key of this name stands in the settings: change it there, {place}")
}

/// Whether the file of the first start holds one of these keys.
fn first_key_is(dir: &DataDir, keys: &[Key]) -> bool {
    // A file that is none of herdgate's cannot hold one, and is nothing to fail for now that the store has changed.
    let Ok(Some(text)) = dir.read_private(FIRST_KEY_FILE) else { return false };
    let digest = KeyDigest::of(text.expose().trim());
    keys.iter().any(|key| key.digest == digest)
}
