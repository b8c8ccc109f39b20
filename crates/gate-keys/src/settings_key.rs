//! Keys that stand in the settings by their digest: for containers, and for configuration that is kept in git.
//!
//! A digest of 190 random bits gives nothing away, so it may lie where a key may not. It has the two forms that tools
//! print: `sha256:` and 64 hex digits for a secret that herdgate made, `SHA256:` and 43 characters of base64, as
//! `ssh-keygen -l` prints it, for an ssh public key.

use crate::{KEY_PREFIX, Key, KeyDigest, KeyId, KeyName, Kind, Mark, ModelGlob, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gate_types::ScopeSet;
use std::sync::Arc;

const SCHEME: &str = "sha256:";

/// Why a text is no digest of a key. Never repeats the text, which may be the key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDigest {
    /// The key instead of its digest.
    #[error("this is a key itself, not its digest")]
    Secret,
    /// Something else.
    #[error("this is no digest of a key")]
    Form,
}

impl BadDigest {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            BadDigest::Secret => {
                "whoever reads the settings could use it: make another one with herdgate key mint NAME, which prints \
                 both"
            }
            BadDigest::Form => {
                "herdgate key mint NAME prints one (sha256: and 64 hex digits); for an ssh key take what ssh-keygen -lf \
                 id_ed25519.pub says (SHA256: and 43 characters)"
            }
        }
    }
}

/// The digest of a key as it stands in the settings.
#[must_use]
pub fn digest_text(mark: &Mark) -> String {
    match mark.kind {
        Kind::Ssh => mark.digest.fingerprint(),
        Kind::Secret => [SCHEME, &hex(mark.digest.as_bytes())].concat(),
    }
}

/// A key of the settings: no end, in no store, gone when it is taken out of them.
#[derive(Debug, Clone)]
pub struct SettingsKey(Arc<Key>);

impl SettingsKey {
    /// Makes the key of a digest.
    ///
    /// # Errors
    /// [`BadDigest`].
    pub fn new(
        name: KeyName,
        digest: &str,
        scopes: ScopeSet,
        models: Vec<ModelGlob>,
    ) -> Result<Self, BadDigest> {
        let mark = Mark::from_digest_text(digest)?;
        let mut key = Key::new(KeyId::of_settings(&mark.digest), name, mark, scopes, 0);
        key.models = models;
        Ok(SettingsKey(Arc::new(key)))
    }

    /// The key as a ring holds it.
    #[must_use]
    pub fn key(&self) -> Arc<Key> {
        Arc::clone(&self.0)
    }
}

impl Mark {
    /// The mark of a key of which there is the digest alone, as [`digest_text`] writes it.
    ///
    /// # Errors
    /// [`BadDigest`].
    pub fn from_digest_text(text: &str) -> Result<Self, BadDigest> {
        let (kind, digest) = read(text)?;
        let prefix = if kind == Kind::Ssh { digest.fingerprint() } else { String::new() };
        Ok(Mark { kind, digest, prefix })
    }
}

fn read(text: &str) -> Result<(Kind, KeyDigest), BadDigest> {
    if text.contains(KEY_PREFIX) {
        return Err(BadDigest::Secret);
    }
    let split = text.split_at_checked(SCHEME.len());
    let (_, rest) = split.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME)).ok_or(BadDigest::Form)?;
    let (kind, bytes) = match rest.len() {
        64 => (Kind::Secret, from_hex(rest.as_bytes())),
        43 => (Kind::Ssh, STANDARD_NO_PAD.decode(rest).ok()),
        _ => return Err(BadDigest::Form),
    };
    let bytes: [u8; 32] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(BadDigest::Form)?;
    Ok((kind, KeyDigest::from_bytes(bytes)))
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, _) = text.as_chunks::<2>();
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OsEntropy, mint};
    use proptest::prelude::*;

    fn new(digest: &str) -> Result<SettingsKey, BadDigest> {
        SettingsKey::new(KeyName::first(), digest, ScopeSet::DEFAULT, Vec::new())
    }

    #[test]
    fn the_printed_digest_is_the_keys() {
        let minted = mint(&mut OsEntropy).unwrap();
        let text = digest_text(&minted.mark);
        let key = new(&text).unwrap().key();
        assert_eq!((key.kind, key.digest), (Kind::Secret, minted.mark.digest));
        assert!(!key.id.is_stored() && key.id != KeyId::ENV);
        assert_eq!(new(&text.to_ascii_uppercase()).unwrap().key().id, key.id);
    }

    #[test]
    fn a_fingerprint_is_an_ssh_keys() {
        let text = KeyDigest::of("abc").fingerprint();
        let key = new(&text).unwrap().key();
        assert_eq!((key.kind, key.prefix.as_str()), (Kind::Ssh, text.as_str()));
        assert_eq!(digest_text(&Mark { kind: Kind::Ssh, digest: key.digest, prefix: String::new() }), text);
    }

    #[test]
    fn a_key_and_other_texts_are_refused_without_being_repeated() {
        let minted = mint(&mut OsEntropy).unwrap();
        assert_eq!(new(minted.secret.expose()).unwrap_err(), BadDigest::Secret);
        let hex = digest_text(&minted.mark);
        for text in ["", "sha256:", &hex[7..], &hex[..hex.len() - 1], "sha512:00", "sha256:zz", "ключ"] {
            assert_eq!(new(text).unwrap_err(), BadDigest::Form, "{text}");
        }
        assert_eq!(new(&format!("sha256:{}", "g".repeat(64))).unwrap_err(), BadDigest::Form);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(sha256:|SHA256:)?[0-9a-fA-F+/é]{0,70}") {
            if let Ok(key) = new(&text) {
                let key = key.key();
                let mark = Mark { kind: key.kind, digest: key.digest, prefix: String::new() };
                prop_assert_eq!(new(&digest_text(&mark)).unwrap().key().digest, key.digest);
            }
        }
    }
}
