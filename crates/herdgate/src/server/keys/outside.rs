//! The keys that no store holds: `AUTH_TOKEN` and those of the settings.

use anyhow::Context as _;
use gate_config::{Config, KeySetting};
use gate_keys::{EnvKey, KeyName, KeyRing, ModelGlob, SettingsKey};
use std::fmt;

/// The keys that come from outside of the store.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Outside {
    env: Option<EnvKey>,
    /// Whoever may open the admin socket. Nobody else knows this key, and nobody is told of it.
    operator: Option<SettingsKey>,
    pub(super) settings: Vec<SettingsKey>,
}

impl Outside {
    /// Those that the settings name.
    ///
    /// # Errors
    /// Where a key of the settings cannot be one, which checked settings exclude.
    pub(in crate::server) fn of(config: &Config) -> anyhow::Result<Self> {
        let env = config.auth_token.as_ref().map(|token| EnvKey::new(&token.token)).transpose();
        let settings = config.keys.iter().map(key_of).collect::<anyhow::Result<_>>()?;
        Ok(Outside { env: env.context("AUTH_TOKEN")?, operator: None, settings })
    }

    /// The same, and the operator's.
    pub(in crate::server) fn with_operator(mut self, operator: SettingsKey) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Whether two settings name other keys.
    pub(in crate::server) fn differ(old: &Config, new: &Config) -> bool {
        old.auth_token != new.auth_token || !KeySetting::are_same(&old.keys, &new.keys)
    }

    pub(in crate::server) fn is_empty(&self) -> bool {
        self.env.is_none() && self.settings.is_empty()
    }

    /// A ring of stored keys and these.
    pub(super) fn added_to(&self, ring: KeyRing) -> KeyRing {
        let ring = ring.with_settings(&self.settings);
        let ring = ring.with_settings(self.operator.as_slice());
        match &self.env {
            Some(env) => ring.with_env(env),
            None => ring,
        }
    }
}

fn key_of(setting: &KeySetting) -> anyhow::Result<SettingsKey> {
    let models = setting.models.iter().map(|model| ModelGlob::parse(model)).collect::<Result<_, _>>()?;
    let name = KeyName::parse(&setting.name)?;
    Ok(SettingsKey::new(name, &setting.digest, setting.scopes, models)?)
}

impl fmt::Display for Outside {
    /// Their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let names: Vec<_> = self.settings.iter().map(|key| key.key().name.clone()).collect();
        let mut names: Vec<&str> =
            self.env.iter().map(|_| "AUTH_TOKEN").chain(names.iter().map(KeyName::as_str)).collect();
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        f.write_str(&names.join(", "))?;
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}
