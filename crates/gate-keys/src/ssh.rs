//! Public ssh keys as credentials: the line of an `id_ed25519.pub`, and the wire form that Ollama's command line sends.
//!
//! Ed25519 alone: it is the one kind that Ollama makes. A public key is no secret; a private one that somebody hands in by
//! mistake is, so no reason repeats what was read.

use crate::{KeyDigest, Kind, Mark};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;

/// The name of the one kind that is taken, in the line and inside the wire form.
const ED25519: &str = "ssh-ed25519";
/// RFC 8709 4 in RFC 4251's strings: the kind, then 32 bytes of key, each behind a length of four bytes.
const WIRE_LENGTH: usize = 4 + ED25519.len() + 4 + 32;
const WIRE_START: &[u8; WIRE_LENGTH - 32] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
/// What a file with one line can hold at most, with a long comment.
const LONGEST: usize = 8192;

/// A public ed25519 key that signatures can be checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey(VerifyingKey);

/// Why a text is no public key that can be enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSshKey {
    /// Nothing, or nothing but comments.
    #[error("there is no public key")]
    Empty,
    /// More than one line.
    #[error("there are several keys")]
    Several,
    /// A private key, which nobody should hand out.
    #[error("this is a private key")]
    Private,
    /// A key of another kind: rsa, ecdsa, one of a hardware token.
    #[error("the key is not of the kind ssh-ed25519")]
    Kind,
    /// Not the line of a public key, or a damaged one.
    #[error("this is not the line of a public key, or a damaged one")]
    Damaged,
    /// A key under which anybody can sign.
    #[error("the key is one of those under which signatures prove nothing")]
    Weak,
    /// Far too long for one line.
    #[error("the text is longer than {LONGEST} bytes")]
    TooLong,
}

impl BadSshKey {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            BadSshKey::Private => {
                "keep it to yourself and give the .pub file beside it: ~/.ollama/id_ed25519.pub"
            }
            BadSshKey::Kind | BadSshKey::Weak => {
                "Ollama uses ~/.ollama/id_ed25519.pub; make one with: ssh-keygen -t ed25519 -f ~/.ollama/id_ed25519"
            }
            BadSshKey::Several => "each key has a name of its own here: enrol them one by one",
            BadSshKey::Empty | BadSshKey::Damaged | BadSshKey::TooLong => {
                "give one line like \"ssh-ed25519 AAAA… comment\": Ollama keeps it in ~/.ollama/id_ed25519.pub"
            }
        }
    }
}

impl SshKey {
    /// Reads the text of a `.pub` file: one line, `ssh-ed25519`, base64, a comment if there is one. Blank lines and lines
    /// with `#` before them are passed over.
    ///
    /// # Errors
    /// [`BadSshKey`].
    pub fn parse(text: &str) -> Result<Self, BadSshKey> {
        if text.len() > LONGEST {
            return Err(BadSshKey::TooLong);
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(BadSshKey::Private);
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or(BadSshKey::Empty)?;
        if lines.next().is_some() {
            return Err(BadSshKey::Several);
        }
        let mut words = line.split_ascii_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if kind != ED25519 {
            let is_other = ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start));
            return Err(if is_other { BadSshKey::Kind } else { BadSshKey::Damaged });
        }
        let wire = STANDARD.decode(key).map_err(|_| BadSshKey::Damaged)?;
        let key = Self::from_wire(&wire).ok_or(BadSshKey::Damaged)?;
        if key.0.is_weak() { Err(BadSshKey::Weak) } else { Ok(key) }
    }

    /// Reads the wire form; none where it is another, or no point of the curve.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<Self> {
        let key = wire.strip_prefix(WIRE_START.as_slice())?;
        VerifyingKey::from_bytes(key.try_into().ok()?).ok().map(SshKey)
    }

    /// The wire form, as it stands in base64 in a `.pub` file.
    #[must_use]
    pub fn to_wire(&self) -> [u8; WIRE_LENGTH] {
        let mut wire = [0; WIRE_LENGTH];
        wire[..WIRE_START.len()].copy_from_slice(WIRE_START);
        wire[WIRE_START.len()..].copy_from_slice(self.0.as_bytes());
        wire
    }

    /// What a store keeps of it.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let digest = KeyDigest::of(self.to_wire());
        Mark { kind: Kind::Ssh, digest, prefix: digest.fingerprint() }
    }

    pub(crate) const fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by `ssh-keygen -t ed25519`, with what `ssh-keygen -lf` says of it.
    const LINE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7CyxrZXxbCZdHv/aiIzyXR63hLT0NB3+Syy5c3UuNB alice@laptop\n";
    const FINGERPRINT: &str = "SHA256:/+kdIRDVqXbrI/wqldPqzfxUCMdgcog0OJZhipI5gRo";

    #[test]
    fn the_fingerprint_is_the_one_that_ssh_keygen_prints() {
        let key = SshKey::parse(LINE).unwrap();
        let mark = key.mark();
        assert_eq!((mark.kind, mark.prefix.as_str()), (Kind::Ssh, FINGERPRINT));
        assert_eq!(STANDARD.encode(key.to_wire()), LINE.split(' ').nth(1).unwrap());
    }

    #[test]
    fn blank_lines_comments_and_a_missing_comment_are_fine() {
        let key = SshKey::parse(LINE).unwrap();
        let bare = LINE.rsplit_once(' ').unwrap().0;
        for text in [bare.to_owned(), format!("# laptop\n\n  {LINE}\n"), LINE.replace('\n', "\r\n")] {
            assert_eq!(SshKey::parse(&text), Ok(key.clone()), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_with_its_reason() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x";
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----\n";
        let short = LINE.replace("AAAAC3", "AAAAC3AA");
        let neutral = {
            let mut wire = SshKey::parse(LINE).unwrap().to_wire();
            wire[WIRE_START.len()..].fill(0);
            wire[WIRE_START.len()] = 1;
            format!("ssh-ed25519 {}", STANDARD.encode(wire))
        };
        let long = "x".repeat(LONGEST + 1);
        for (text, reason) in [
            ("", BadSshKey::Empty),
            ("# nothing\n", BadSshKey::Empty),
            (rsa, BadSshKey::Kind),
            ("sk-ssh-ed25519@openssh.com AAAA x", BadSshKey::Kind),
            (private, BadSshKey::Private),
            ("ssh-ed25519", BadSshKey::Damaged),
            ("ssh-ed25519 AAAA", BadSshKey::Damaged),
            ("ssh-ed25519 not!base64", BadSshKey::Damaged),
            ("hello there", BadSshKey::Damaged),
            (short.as_str(), BadSshKey::Damaged),
            (neutral.as_str(), BadSshKey::Weak),
            (long.as_str(), BadSshKey::TooLong),
        ] {
            assert_eq!(SshKey::parse(text), Err(reason), "{text:.80}");
        }
        assert_eq!(SshKey::parse(&format!("{LINE}{LINE}")), Err(BadSshKey::Several));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(ssh-ed25519 )?[A-Za-z0-9+/= \n#-]{0,90}") {
            if let Ok(key) = SshKey::parse(&text) {
                let again = format!("ssh-ed25519 {}", STANDARD.encode(key.to_wire()));
                prop_assert_eq!(SshKey::parse(&again), Ok(key));
            }
        }
    }
}
