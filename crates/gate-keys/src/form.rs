//! The form of a key: `sk-hg-`, 32 random characters, a checksum of 6.
//!
//! The checksum lets the gate refuse typing errors and noise before any look-up, and lets scanners of leaked secrets be
//! sure of what they found. It is no secret and proves nothing about who holds the key.

use crate::KeyDigest;
use gate_types::Secret;
use std::fmt;
use zeroize::Zeroizing;

/// What every key starts with.
pub const KEY_PREFIX: &str = "sk-hg-";

/// The length of every key in bytes: prefix 6, random 32, checksum 6.
pub const KEY_LENGTH: usize = CHECKED + CHECKSUM;

const RANDOM: usize = 32;
const CHECKSUM: usize = 6;
const CHECKED: usize = KEY_PREFIX.len() + RANDOM;
/// How many random characters of a key may be shown: enough to tell keys apart, far too few to guess from.
const SHOWN: usize = 4;

const ALPHABET: [u8; 62] = *b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where random bytes come from. The product uses [`OsEntropy`]; tests hand in bytes that they know.
pub trait Entropy {
    /// Fills `bytes` with unpredictable bytes.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are none to be had.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The operating system gave no usable random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes from the operating system: {0}")]
pub struct NoEntropy(pub String);

/// Random bytes from the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(bytes).map_err(|cause| NoEntropy(cause.to_string()))
    }
}

/// How a key is shown to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// By sending it: whoever knows it holds it.
    Secret,
    /// By signing with the private half of an ssh key; the gate knows the public half alone.
    Ssh,
}

impl Kind {
    /// The word for it in stores and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Ssh => "ssh",
        }
    }

    /// The kind that a store wrote down.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Kind::Secret, Kind::Ssh].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What is kept of a key's secret: enough to recognise it, not enough to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// How it is shown to the gate.
    pub kind: Kind,
    /// The digest by which it is found: of the secret, or of the public key.
    pub digest: KeyDigest,
    /// What people are shown of it: the first characters of a secret, the fingerprint of a public key.
    pub prefix: String,
}

impl Mark {
    /// The mark of `secret`, a well-formed key.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let text = secret.expose();
        let prefix = text.get(..KEY_PREFIX.len() + SHOWN).unwrap_or_default().to_owned();
        Mark { kind: Kind::Secret, digest: KeyDigest::of(text), prefix }
    }
}

/// A key just made: the only time that its secret is in reach.
pub struct Minted {
    /// The whole key, for its owner's eyes.
    pub secret: Secret,
    /// What a store keeps of it.
    pub mark: Mark,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Minted({}…)", self.mark.prefix)
    }
}

/// Makes a key of about 190 bits: every character of the alphabet is equally likely in every place.
///
/// # Errors
/// [`NoEntropy`] if the source fails or gives nothing that can be used.
pub fn mint(entropy: &mut dyn Entropy) -> Result<Minted, NoEntropy> {
    let mut text = String::with_capacity(KEY_LENGTH);
    text.push_str(KEY_PREFIX);
    // Six bits of each byte; the values 62 and 63 are thrown away, since folding them in would favour two characters.
    // 31 of 32 bytes are used, so a sound source needs one round nearly always. The bound is for one that is stuck.
    let mut pool = Zeroizing::new([0_u8; 2 * RANDOM]);
    for _round in 0..16 {
        entropy.fill(pool.as_mut_slice())?;
        let missing = CHECKED - text.len();
        let fresh = pool.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63))).take(missing);
        text.extend(fresh.map(|&byte| char::from(byte)));
        if text.len() == CHECKED {
            let sum = checksum(text.as_bytes());
            text.extend(sum.map(char::from));
            let secret = Secret::new(text);
            return Ok(Minted { mark: Mark::of(&secret), secret });
        }
    }
    // Not a real key, but its characters came from the same source.
    drop(Secret::new(text));
    Err(NoEntropy("the bytes repeat".to_owned()))
}

/// Whether `text` could be a key: prefix, length, alphabet and checksum. Looks nothing up.
#[must_use]
pub fn is_well_formed(text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    if text.len() != KEY_LENGTH || !text.starts_with(KEY_PREFIX.as_bytes()) {
        return false;
    }
    let (checked, sum) = text.split_at(CHECKED);
    checked[KEY_PREFIX.len()..].iter().all(u8::is_ascii_alphanumeric) && sum == checksum(checked)
}

/// CRC-32 (IEEE) of `checked` as six base62 digits, most significant first, padded with `0`. 62^6 is above 2^32.
fn checksum(checked: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(checked);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A source that gives these bytes over and over.
    struct Cycle(Vec<u8>, usize);

    impl Entropy for Cycle {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
            for byte in bytes {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(())
        }
    }

    struct Broken;

    impl Entropy for Broken {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy("closed".to_owned()))
        }
    }

    #[test]
    fn a_known_source_gives_a_known_key() {
        // The checksum was worked out apart from this code: zlib.crc32 of the 38 bytes, written in base 62.
        let minted = mint(&mut Cycle((0..32).collect(), 0)).unwrap();
        assert_eq!(minted.secret.expose(), "sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws");
        assert_eq!(minted.mark.prefix, "sk-hg-0123");
    }

    #[test]
    fn a_small_checksum_is_padded_from_the_left() {
        // Found by search: the CRC-32 of these 38 bytes is below 62^4.
        assert!(is_well_formed("sk-hg-E6K18Mh1a9jyIG1j2DW0G07BzYTMFL3w00J6Y8"));
    }

    #[test]
    fn a_source_that_fails_or_is_stuck_makes_no_key() {
        assert!(mint(&mut Broken).is_err());
        assert!(mint(&mut Cycle(vec![0xff], 0)).is_err());
    }

    #[test]
    fn two_keys_of_the_system_differ() {
        let (one, two) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        assert_ne!(one.secret.expose(), two.secret.expose());
        assert!(is_well_formed(one.secret.expose()));
    }

    #[test]
    fn every_character_is_about_equally_likely() {
        let mut counts = [0_u32; 128];
        for _ in 0..2_000 {
            let minted = mint(&mut OsEntropy).unwrap();
            for byte in &minted.secret.expose().as_bytes()[KEY_PREFIX.len()..CHECKED] {
                counts[usize::from(*byte)] += 1;
            }
        }
        // 64,000 draws over 62 characters: 1,032 each, deviation 32. Seven deviations either way never happen by chance.
        for byte in ALPHABET {
            let seen = counts[usize::from(byte)];
            assert!((800..1_260).contains(&seen), "{}: {seen}", char::from(byte));
        }
    }

    #[test]
    fn other_things_are_refused() {
        for text in ["", "sk-hg-", "ollama", "sk-proj-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "Bearer x"] {
            assert!(!is_well_formed(text), "{text}");
        }
        assert!(!is_well_formed([0xff; KEY_LENGTH]));
    }

    #[test]
    fn debug_shows_no_more_than_the_prefix() {
        let minted = mint(&mut OsEntropy).unwrap();
        let shown = format!("{minted:?}");
        assert_eq!(shown, format!("Minted({}…)", &minted.secret.expose()[..KEY_PREFIX.len() + SHOWN]));
    }

    #[test]
    fn a_kind_reads_back_from_its_word() {
        for kind in [Kind::Secret, Kind::Ssh] {
            assert_eq!(Kind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::from_word("Secret"), None);
    }

    proptest! {
        #[test]
        fn a_made_key_is_well_formed(bytes in proptest::collection::vec(0_u8..62, 32..200)) {
            let minted = mint(&mut Cycle(bytes, 0)).unwrap();
            prop_assert!(is_well_formed(minted.secret.expose()));
            prop_assert_eq!(minted.secret.expose().len(), KEY_LENGTH);
        }

        #[test]
        fn one_changed_character_is_always_refused(
            bytes in proptest::collection::vec(0_u8..62, 32),
            place in 0..KEY_LENGTH,
            other in any::<u8>(),
        ) {
            let mut text = mint(&mut Cycle(bytes, 0)).unwrap().secret.expose().as_bytes().to_vec();
            prop_assume!(text[place] != other);
            text[place] = other;
            prop_assert!(!is_well_formed(&text));
        }

        #[test]
        fn a_lost_or_doubled_character_is_refused(bytes in proptest::collection::vec(0_u8..62, 32), place in 0..KEY_LENGTH) {
            let text = mint(&mut Cycle(bytes, 0)).unwrap().secret.expose().as_bytes().to_vec();
            let mut shorter = text.clone();
            shorter.remove(place);
            let mut longer = text;
            longer.insert(place, longer[place]);
            prop_assert!(!is_well_formed(&shorter));
            prop_assert!(!is_well_formed(&longer));
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!is_well_formed(&bytes));
        }
    }
}
