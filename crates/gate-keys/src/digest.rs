//! The digest of a key: what is stored, looked up and compared in its place.
//!
//! Plain SHA-256 and no slow password hash: a key has about 190 random bits, so there is nothing to slow down, and a slow
//! hash on every request would be a gift to whoever wants to exhaust the gate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a whole key. Equality takes the same time wherever two digests differ.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key's bytes.
    #[must_use]
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        KeyDigest(Sha256::digest(key.as_ref()).into())
    }

    /// A digest that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        KeyDigest(bytes)
    }

    /// The digest as `ssh-keygen -l` prints that of a public key: `SHA256:` and base64 without padding.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }

    /// The bytes, for a store and for nothing else.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A digest is evenly spread already: eight of its bytes are as good a hash as any.
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "KeyDigest({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let digest = KeyDigest::of("abc");
        assert_eq!(digest.as_bytes()[..8], [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea]);
        assert_eq!(format!("{digest:?}"), "KeyDigest(ba7816bf…)");
    }

    #[test]
    fn a_difference_anywhere_is_seen() {
        let one = KeyDigest::of("abc");
        for place in 0..32 {
            let mut bytes = *one.as_bytes();
            bytes[place] ^= 1;
            assert_ne!(KeyDigest::from_bytes(bytes), one, "{place}");
        }
        assert_eq!(KeyDigest::from_bytes(*one.as_bytes()), one);
    }
}
