//! What differs between two readings of the settings, for whoever reads them anew while they are in use.
//!
//! Never shows the token, only that it is another one.

use crate::check::Loaded;
use crate::keys::KeySetting;
use crate::problem::Plain;
use crate::route::RouteSetting;
use crate::setting::{Form, SETTINGS};
use crate::show::{shown, toml_text};
use std::fmt;

/// Settings that are looked at once, when herdgate starts: sockets, threads and started programs stay as they are.
const AT_START: &[&str] = &[
    "listen.address",
    "local.enabled",
    "local.engine",
    "local.models_dir",
    "local.env",
    "server.threads",
    "tls.cert",
    "tls.key",
    "tls.self_signed",
    "tls.hsts",
    "server.trusted_proxies",
    "tls.client_ca",
    "tls.client_required",
    "tls.domain",
    "tls.acme.directory",
    "tls.acme.ca",
    "tls.acme.email",
    "metrics.address",
    "metrics.names",
    "log.format",
];

/// One setting whose value is another than before. Shows itself as `limits.body "64MiB" -> "32MiB"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.key`, or `AUTH_TOKEN`.
    pub key: &'static str,
    /// Whether herdgate must be started again for it to count.
    pub at_start: bool,
    values: Option<(String, String)>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((from, to)) => write!(f, "{} {} -> {}", self.key, Plain(from), Plain(to)),
            None => write!(f, "{} is another", self.key),
        }
    }
}

/// Whether the setting of this name is looked at once, when herdgate starts.
pub(crate) fn counts_at_start(key: &str) -> bool {
    AT_START.contains(&key)
}

/// Everything that is another in `new` than it was in `old`, in the order of the reference.
#[must_use]
pub fn changes(old: &Loaded, new: &Loaded) -> Vec<Change> {
    let mut changes: Vec<Change> = SETTINGS
        .iter()
        .filter_map(|setting| {
            let (from, to) = (shown(setting, &old.config), shown(setting, &new.config));
            // Of variables not every value is shown.
            let differ = matches!(&setting.form, Form::Variables { .. })
                && old.config.local.env != new.config.local.env;
            (from != to || differ).then(|| Change {
                key: setting.key,
                at_start: counts_at_start(setting.key),
                values: Some((toml_text(&from), toml_text(&to))),
            })
        })
        .collect();
    let same_place = old.config.upstreams.iter().map(|upstream| &upstream.url);
    if same_place.eq(new.config.upstreams.iter().map(|upstream| &upstream.url))
        && old.config.upstreams != new.config.upstreams
    {
        changes.push(Change { key: "upstream", at_start: false, values: None });
    }
    let token = |loaded: &Loaded| loaded.config.auth_token.as_ref().map(|token| token.token.clone());
    if token(old) != token(new) {
        changes.push(Change { key: "AUTH_TOKEN", at_start: false, values: None });
    }
    let addresses = |loaded: &Loaded| loaded.config.listen.iter().map(|one| one.address).collect::<Vec<_>>();
    if old.config.listen != new.config.listen && addresses(old) == addresses(new) {
        changes.push(Change { key: "listen", at_start: true, values: None });
    }
    if !RouteSetting::are_same(&old.config.routes, &new.config.routes) {
        changes.push(Change { key: "route", at_start: false, values: None });
    }
    if !KeySetting::are_same(&old.config.keys, &new.config.keys) {
        changes.push(Change { key: "key", at_start: false, values: None });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::problem::Place;
    use crate::token::AuthToken;
    use crate::units::ByteSize;
    use gate_types::Secret;

    fn loaded(shape: impl FnOnce(&mut Config)) -> Loaded {
        let mut config = Config::default();
        shape(&mut config);
        Loaded { config, warnings: Vec::new(), origins: [].into(), listeners: Vec::new(), file: None }
    }

    #[test]
    fn keys_are_others_when_anything_but_their_place_is() {
        let with = |digest: &str, line| {
            let place = Place::File { file: "herdgate.toml".into(), line, column: 1 };
            let scopes = gate_types::ScopeSet::DEFAULT;
            let key = KeySetting {
                name: "ci".to_owned(),
                digest: digest.to_owned(),
                scopes,
                models: Vec::new(),
                place,
            };
            loaded(|config| config.keys = vec![key])
        };
        assert_eq!(changes(&with("canary", 1), &with("canary", 9)), []);
        for new in [with("other", 1), loaded(|_| {})] {
            let told: Vec<_> = changes(&with("canary", 1), &new).iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), 1);
            assert!(told[0].starts_with("key") && !told[0].contains("canary"), "{told:?}");
        }
    }

    #[test]
    fn each_change_is_named_with_both_values() {
        let old = loaded(|_| {});
        assert_eq!(changes(&old, &old), []);
        let new = loaded(|config| {
            config.limits.body = ByteSize(32 << 20);
            config.server.threads = Some(3);
        });
        let told: Vec<_> = changes(&old, &new).iter().map(|one| (one.to_string(), one.at_start)).collect();
        let expected =
            [("limits.body \"64MiB\" -> \"32MiB\"", false), ("server.threads \"auto\" -> 3", true)];
        assert_eq!(told, expected.map(|(text, at_start)| (text.to_owned(), at_start)));
    }

    #[test]
    fn a_listener_with_other_rules_is_another_from_the_next_start_on() {
        let old = loaded(|_| {});
        let new = loaded(|config| config.listen[0].tls = Some(false));
        let told: Vec<_> = changes(&old, &new).iter().map(|one| (one.to_string(), one.at_start)).collect();
        assert_eq!(told, [("listen is another".to_owned(), true)]);
    }

    #[test]
    fn another_token_is_told_and_not_shown() {
        let with = |token: &str| {
            let token = Secret::new(token.to_owned());
            loaded(|config| config.auth_token = Some(AuthToken { token, place: Place::env("AUTH_TOKEN") }))
        };
        let told = changes(&with("canary-one"), &with("canary-two"));
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), ["AUTH_TOKEN is another"]);
        assert_eq!(changes(&with("canary-one"), &with("canary-one")), []);
        assert_eq!(changes(&loaded(|_| {}), &with("canary-one")).len(), 1);
    }

    #[test]
    fn what_counts_at_the_start_is_a_setting() {
        for key in AT_START {
            assert!(SETTINGS.iter().any(|setting| setting.key == *key), "{key}");
        }
    }
}
