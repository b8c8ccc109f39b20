//! Settings that are read anew while they are in use: on SIGHUP, and when their file has changed. All or nothing: whatever
//! is wrong with them is told, and the old ones stay in force.
//!
//! Nothing of a running request changes. What cannot change while herdgate runs is told as such.

use super::access::{self, Enrolled};
use super::entrances::Unkeyed;
use super::keys::{Errand, Outside};
use super::prober::Probers;
use super::pulls::Feeds;
use super::tls::Certificate;
use super::{notify, rules, upstreams};
use crate::cmd::settings;
use crate::logging;
use anyhow::Context as _;
use gate_config::{Config, Flags, Loaded, Place, Problem, Upstream, changes};
use gate_keys::SettingsKey;
use gate_proxy::{NotYet, Shared};
use gate_types::UpstreamId;
use gate_upstream::{Roster, Tls};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

/// The settings in force, where they are read from, and all that they reach.
pub(super) struct Settings {
    pub(super) flags: Flags,
    pub(super) loaded: Loaded,
    /// Those of the start.
    pub(super) first: Loaded,
    pub(super) shared: Arc<Shared>,
    pub(super) roster: Arc<Roster>,
    pub(super) tls: Tls,
    pub(super) probers: Probers,
    /// The upstreams that the gate started by itself: in use until it ends.
    pub(super) started: Vec<UpstreamId>,
    /// Those of them that are an Ollama.
    pub(super) ollamas: Vec<UpstreamId>,
    /// The other upstreams in use.
    pub(super) named: Vec<UpstreamId>,
    pub(super) feeds: Feeds,
    /// Their key is in force whatever the settings say.
    pub(super) operator: SettingsKey,
    pub(super) file: Looks,
    /// The files that upstreams have: tokens, certificates.
    pub(super) upstream_files: Looks<Vec<Option<Stamp>>>,
    pub(super) certificate: Option<Certificate>,
    pub(super) unkeyed: Unkeyed,
    pub(super) keys: Keys,
}

/// The way to the thread that keeps the keys.
pub(super) struct Keys {
    keeper: Arc<SyncSender<Errand>>,
    /// What it has had no time to take yet: a slow disk must hold up nobody.
    waiting: Option<Outside>,
}

impl Keys {
    pub(super) fn new(keeper: Arc<SyncSender<Errand>>) -> Self {
        Self { keeper, waiting: None }
    }

    fn hand_over(&mut self) {
        if let Some(outside) = self.waiting.take()
            && let Err(TrySendError::Full(Errand::Outside(outside))) =
                self.keeper.try_send(Errand::Outside(outside))
        {
            self.waiting = Some(outside);
        }
    }
}

impl Settings {
    /// Looks whether the file has changed, and reads it if so.
    pub(super) fn look(&mut self) {
        self.keys.hand_over();
        if let Some(certificate) = &mut self.certificate {
            certificate.look();
        }
        self.unkeyed.look();
        let now = Stamp::of(&self.flags);
        if self.file.is_to_be_read(now) {
            self.reload("the settings file changed");
        } else if self.upstream_files.is_to_be_read(Some(stamps(&self.loaded.config))) {
            self.reload("a file of an upstream changed");
        }
    }

    /// Somebody asked for it.
    pub(super) fn reload_now(&mut self, why: &str) {
        self.file.is_read(Stamp::of(&self.flags));
        self.reload(why);
    }

    fn reload(&mut self, why: &str) {
        notify::reloading();
        let before = stamps(&self.loaded.config);
        let read = self.read().and_then(|loaded| {
            let applied = self.apply(&loaded.config);
            // What the checks cannot know: what this machine's memory is, which certificates it has.
            let problem = |error| vec![Problem::new(self.place(), format!("{error:#}"))];
            applied.map(|()| loaded).map_err(problem)
        });
        let status = match read {
            Ok(loaded) => {
                self.tell(why, &loaded);
                if upstream_files(&loaded.config).ne(upstream_files(&self.loaded.config)) {
                    self.upstream_files = Looks::new(Some(stamps(&loaded.config)));
                } else {
                    self.upstream_files.is_read(Some(before));
                }
                access::warn_of_open_files(&loaded.config.upstreams);
                self.loaded = loaded;
                "serving".to_owned()
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                let count = problems.len();
                let noun = if count == 1 { "problem" } else { "problems" };
                tracing::error!(
                    "{why}, with {count} {noun}: nothing was reloaded, the old settings stay in force"
                );
                format!("serving with old settings: the new ones have {count} {noun}")
            }
        };
        notify::ready(&status);
    }

    fn read(&self) -> Result<Loaded, Vec<Problem>> {
        let (loaded, _places) = settings::load(&self.flags)?;
        match (&self.loaded.file, &loaded.file) {
            // Somebody is about to put another one in its place, or has made a mistake; all defaults are what nobody wants.
            (Some(gone), None) => {
                let problem = Problem::new(Place::Path(gone.clone()), "the settings file is gone");
                Err(vec![problem.hint("to run on defaults, leave an empty file there")])
            }
            (_, _) => Ok(loaded),
        }
    }

    fn place(&self) -> Place {
        Place::Path(self.loaded.file.clone().unwrap_or_else(|| "settings".into()))
    }

    /// Builds everything first; only then does anything change.
    fn apply(&mut self, config: &Config) -> anyhow::Result<()> {
        let named = self.named(config)?;
        let rules = rules::rules(config, &named)?;
        let outside = Outside::of(config)?.with_operator(self.operator.clone());
        let (named_ids, terms) = (named.ids(), named.terms());
        let changed = self.got_at_otherwise(config, &named_ids);
        // Before the rules: what makes a core look at them makes it look at these as well.
        named.put_in_force(&self.roster);
        self.shared.set_rules(rules);
        if Outside::differ(&self.loaded.config, config) {
            self.keys.waiting = Some(outside);
            self.keys.hand_over();
        }
        if self.names_others(config) {
            let mut all = named_ids;
            self.named.clone_from(&all);
            all.extend(&self.started);
            self.probers.follow(&all);
            self.shared.follow(&all, &terms, self.not_yet(config));
            // Only now does nobody ask them any more; what a core has read of them meanwhile it forgets as well.
            access::forget(&self.roster, &all);
            self.shared.refresh();
        }
        self.shared.set_terms(&terms);
        self.probers.set_times(config.fleet.probe_interval, config.timeouts.connect);
        self.probers.look_anew(&changed);
        self.feed(config);
        logging::set_level(config.log.level);
        Ok(())
    }

    /// Has the upstreams that are to be fed get what they lack.
    pub(super) fn feed(&mut self, config: &Config) {
        let models = &config.local.models;
        // What nobody named is this machine's own.
        let homes = match (self.ollamas.is_empty(), config.upstreams_given) {
            (false, _) => &self.ollamas[..],
            (true, false) if self.started.is_empty() => &self.named[..],
            (true, _) => &[],
        };
        // Where the upstreams were named, the reading of the settings has warned of it.
        if let (Some(first), true, false) = (models.first(), homes.is_empty(), config.upstreams_given) {
            tracing::warn!(
                "{first} and what else local.models or OLLAMA_MODEL names is not pulled: herdgate-engine has what lies in its \
                 folder of models, and pulls nothing"
            );
        }
        let latest = self.probers.latest(homes);
        let wanted = homes
            .iter()
            .zip(latest)
            .flat_map(|(id, latest)| models.iter().map(move |model| (*id, latest.clone(), model.clone())));
        let own = self.named.iter().zip(&config.upstreams).flat_map(|(id, upstream)| {
            let latest = self.probers.latest(&[*id]).pop();
            upstream.models.iter().filter_map(move |model| Some((*id, latest.clone()?, model.clone())))
        });
        self.feeds.follow(wanted.chain(own.filter(|_| config.upstreams_given)).collect());
    }

    /// Those that were there before, and of which something else is said now.
    fn got_at_otherwise(&self, config: &Config, ids: &[UpstreamId]) -> Vec<UpstreamId> {
        let old = &self.loaded.config.upstreams;
        let is_other =
            |now: &Upstream| old.iter().any(|was| was.url == now.url && was.name == now.name && was != now);
        let all = ids.iter().zip(&config.upstreams);
        all.filter(|(_, upstream)| is_other(upstream)).map(|(id, _)| *id).collect()
    }

    /// Whether other upstreams are named than before, at other places or by other names.
    fn names_others(&self, config: &Config) -> bool {
        let who = |config: &Config| {
            let of = |upstream: &Upstream| (upstream.url.clone(), upstream.name.clone());
            config.upstreams.iter().map(of).collect::<Vec<_>>()
        };
        let old = &self.loaded.config;
        config.upstreams_given != old.upstreams_given || (config.upstreams_given && who(config) != who(old))
    }

    /// The upstreams that are to be used from now on, with all that is said of them.
    fn named(&self, config: &Config) -> anyhow::Result<Enrolled> {
        // Where none is given, those of the start are used as long as there is nothing else.
        if !config.upstreams_given && !self.names_others(config) {
            return Enrolled::on(&self.roster, Vec::new());
        }
        let ready = access::ready(config, Some((&self.loaded.config, &self.roster)))?;
        if ready.iter().any(|ready| ready.endpoint.is_tls()) {
            self.tls.config().context("an upstream is https")?;
        }
        Enrolled::on(&self.roster, ready)
    }

    fn not_yet(&self, config: &Config) -> NotYet {
        match (self.started.is_empty(), config.upstreams_given) {
            (false, _) => NotYet::Starting(self.started.clone()),
            (true, true) => NotYet::Named,
            (true, false) => NotYet::NothingFound(format!(
                "no upstream is given, and nothing answers at {}; start Ollama, or name another server with --upstream URL",
                upstreams::list(&config.upstreams)
            )),
        }
    }

    fn tell(&self, why: &str, new: &Loaded) {
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        let changed = changes(&self.loaded, new);
        if changed.is_empty() {
            tracing::info!("{why}: settings read, none is another than before");
        }
        let since_start = changes(&self.first, new);
        for change in changed {
            if !change.at_start {
                tracing::info!("{why}: {change}");
            } else if since_start.iter().any(|pending| pending.key == change.key) {
                tracing::warn!("{why}: {change} takes effect at the next start");
            } else {
                tracing::info!("{why}: {change} is what herdgate runs with");
            }
        }
    }
}

fn upstream_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.upstreams.iter().flat_map(Upstream::files)
}

/// How the files look that upstreams have.
pub(super) fn stamps(config: &Config) -> Vec<Option<Stamp>> {
    upstream_files(config).map(|path| Stamp::at(path)).collect()
}

/// What tells one state of a file from another; none where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The settings file's, as it is now.
    pub(crate) fn of(flags: &Flags) -> Option<Self> {
        let places = settings::places(flags).ok()?;
        Self::at(places.config.as_deref()?)
    }

    pub(super) fn at(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            place: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// When a file is to be read: once it is another than the one that was read, and stood still from one look to the next. A
/// file that is being written is half a file, or an empty one, which would be all defaults.
#[derive(Debug)]
pub(super) struct Looks<S = Stamp> {
    read: Option<S>,
    seen: Option<S>,
}

impl<S: Clone + PartialEq> Looks<S> {
    /// The file was read when it looked so.
    pub(super) fn new(read: Option<S>) -> Self {
        Self { read: read.clone(), seen: read }
    }

    pub(super) fn is_to_be_read(&mut self, now: Option<S>) -> bool {
        let stood_still = now == self.seen;
        self.seen.clone_from(&now);
        let is_other = stood_still && now != self.read;
        if is_other {
            self.read = now;
        }
        is_other
    }

    fn is_read(&mut self, now: Option<S>) {
        self.read.clone_from(&now);
        self.seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn stamp(size: u64) -> Option<Stamp> {
        Some(Stamp { place: (1, 1), size, modified: (1, 1), changed: (1, 1) })
    }

    #[test]
    fn a_file_is_read_once_it_stands_still() {
        let mut looks = Looks::new(stamp(5));
        let told = [5, 5, 0, 3, 9, 9, 9, 5, 5, 5].map(|size| looks.is_to_be_read(stamp(size)));
        assert_eq!(told, [false, false, false, false, false, true, false, false, true, false]);
        assert!(!looks.is_to_be_read(None), "gone for a moment");
        assert!(!looks.is_to_be_read(stamp(5)), "and back");
        looks.is_read(stamp(7));
        assert!(!looks.is_to_be_read(stamp(7)), "somebody asked, and it was read");
    }

    #[test]
    fn every_way_of_writing_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("herdgate.toml");
        assert_eq!(Stamp::at(&path), None);
        std::fs::write(&path, "a = 1\n").unwrap();
        let first = Stamp::at(&path);
        let other = dir.path().join("other");
        std::fs::write(&other, "a = 2\n").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let renamed = Stamp::at(&path);
        assert_ne!(first, renamed);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"b = 1\n").unwrap();
        assert_ne!(renamed, Stamp::at(&path));
    }
}
