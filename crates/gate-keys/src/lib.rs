//! Keys: what they look like, what they may do, who holds them at this moment.
//!
//! Floor 2, pure: no clock, no files, no database. Time comes in as unix seconds, chance through [`Entropy`]. The request
//! path asks [`KeyRing::check`] or [`KeyRing::check_signature`]; everything that changes keys goes through a [`KeyStore`]. A secret leaves this crate once,
//! in the [`Minted`] it was made in; what is kept and compared is its SHA-256 digest.

mod audit;
mod credential;
mod digest;
mod env;
mod form;
mod glob;
mod hex;
mod key;
mod name;
mod ring;
mod settings_key;
mod signed;
mod span;
mod ssh;
mod store;

pub use audit::{Act, AuditLine};
pub use credential::{is_empty_credential, token_of};
pub use digest::KeyDigest;
pub use env::{BadToken, EnvKey, is_dummy};
pub use form::{
    Entropy, KEY_LENGTH, KEY_PREFIX, Kind, Mark, Minted, NoEntropy, OsEntropy, is_well_formed, mint,
};
pub use glob::{BadGlob, ModelGlob};
pub use hex::hex;
pub use key::{Key, KeyId, State};
pub use name::{BadKeyName, KeyName};
pub use ring::{KeyRing, Verdict};
pub use settings_key::{BadDigest, SettingsKey, digest_text};
pub use signed::{SIGNATURE_SPAN, SignedRequest};
pub use span::{BadSpan, Span};
pub use ssh::{BadSshKey, SshKey};
pub use store::{Change, KeyStore, NewKey, Rotated, StoreError};

/// A moment: seconds since 1970-01-01 UTC.
pub type UnixSeconds = i64;
