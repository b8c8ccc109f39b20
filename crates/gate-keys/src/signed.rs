//! A request signed by Ollama's own command line (`OLLAMA_AUTH=1`): whose key it was, for what and when.
//!
//! The client sends `?ts=<unix seconds>` and `Authorization: <public key>:<signature>`, both base64, and signs the text
//! `METHOD,path?ts=<unix seconds>` (Ollama's `api/client.go`, measured with 0.24.0 and 0.32.15). Neither body nor host is
//! signed, so a signature is good for its time only, and one that was seen before is worth remembering.

use crate::ssh::SshKey;
use crate::{KeyDigest, UnixSeconds};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;

/// How far a signature's moment may lie from the gate's clock, in seconds, before or behind it.
pub const SIGNATURE_SPAN: i64 = 60;

/// The base64 of 51 and of 64 bytes.
const KEY_CHARACTERS: usize = 68;
const SIGNATURE_CHARACTERS: usize = 88;

/// A request with a signature that has the right form. Whether it is a true one is [`crate::KeyRing::check_signature`]'s.
#[derive(Clone)]
pub struct SignedRequest<'r> {
    method: &'r [u8],
    path_and_query: &'r [u8],
    ts: UnixSeconds,
    key: SshKey,
    signature: [u8; 64],
}

impl<'r> SignedRequest<'r> {
    /// Whether the value of an `Authorization` field has the form of a signature. No other credential has it: there is no
    /// scheme and no blank in it.
    #[must_use]
    pub fn is_one(authorization: &[u8]) -> bool {
        authorization.len() == KEY_CHARACTERS + 1 + SIGNATURE_CHARACTERS
            && authorization.get(KEY_CHARACTERS) == Some(&b':')
            && !authorization.contains(&b' ')
    }

    /// Reads a signed request: its method, its target as it was sent (`/api/tags?ts=1795178222`, and no other query), and
    /// the value of its `Authorization` field. None where one of the three has another form.
    #[must_use]
    pub fn read(method: &'r [u8], path_and_query: &'r [u8], authorization: &[u8]) -> Option<Self> {
        if !Self::is_one(authorization) {
            return None;
        }
        let (key, signature) = authorization.split_at(KEY_CHARACTERS);
        let key = SshKey::from_wire(&STANDARD.decode(key).ok()?)?;
        let signature = STANDARD.decode(signature.get(1..)?).ok()?.try_into().ok()?;
        let ts = moment(path_and_query)?;
        Some(SignedRequest { method, path_and_query, ts, key, signature })
    }

    /// When it says that it was signed.
    #[must_use]
    pub const fn ts(&self) -> UnixSeconds {
        self.ts
    }

    /// The signature, by which a second sending is recognised: nobody but the key's owner can make another one of it.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Whether its moment is near enough to `now`.
    #[must_use]
    pub const fn is_timely(&self, now: UnixSeconds) -> bool {
        self.ts.abs_diff(now) <= SIGNATURE_SPAN.unsigned_abs()
    }

    /// The fingerprint of the public key that it names, as `ssh-keygen -l` shows it. Anybody may name any key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.mark().prefix
    }

    /// Whether the holder of the key signed this very text. Strict: one text has one signature that counts.
    pub(crate) fn is_genuine(&self) -> bool {
        let text = [self.method, b",", self.path_and_query].concat();
        self.key.verifying().verify_strict(&text, &Signature::from_bytes(&self.signature)).is_ok()
    }

    /// By which digest its key is found, if it is known.
    #[must_use]
    pub fn key_digest(&self) -> KeyDigest {
        KeyDigest::of(self.key.to_wire())
    }
}

/// The moment in `path?ts=<digits>`. As Ollama writes it: no sign, no zeros before it, nothing behind it.
fn moment(path_and_query: &[u8]) -> Option<UnixSeconds> {
    let mark = path_and_query.iter().position(|byte| *byte == b'?')?;
    let digits = path_and_query.get(mark + 1..)?.strip_prefix(b"ts=")?;
    if !matches!(digits.len(), 1..=12) || !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return None;
    }
    Some(digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, KeyId, KeyName, KeyRing, Verdict};
    use ed25519_dalek::{Signer as _, SigningKey};
    use gate_types::ScopeSet;
    use proptest::prelude::*;

    /// The client's side: what Ollama's `auth.Sign` does.
    struct Client(SigningKey);

    impl Client {
        fn new(seed: u8) -> Self {
            Client(SigningKey::from_bytes(&[seed; 32]))
        }

        fn wire(&self) -> Vec<u8> {
            let mut wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
            wire.extend(self.0.verifying_key().as_bytes());
            wire
        }

        fn sign(&self, text: &str) -> String {
            let signature = self.0.sign(text.as_bytes()).to_bytes();
            format!("{}:{}", STANDARD.encode(self.wire()), STANDARD.encode(signature))
        }

        fn key(&self) -> Key {
            let line = format!("ssh-ed25519 {} test", STANDARD.encode(self.wire()));
            let mark = SshKey::parse(&line).unwrap().mark();
            Key::new(KeyId(1), KeyName::first(), mark, ScopeSet::DEFAULT, 0)
        }
    }

    fn judge(ring: &KeyRing, method: &str, target: &str, authorization: &str, now: i64) -> Option<Verdict> {
        let signed = SignedRequest::read(method.as_bytes(), target.as_bytes(), authorization.as_bytes())?;
        Some(ring.check_signature(&signed, now))
    }

    #[test]
    fn the_clients_own_text_opens_the_gate() {
        let client = Client::new(7);
        let ring = KeyRing::new([client.key()]);
        let sent = client.sign("GET,/api/tags?ts=1795178222");
        assert_eq!(sent.len(), 157);
        let signed = SignedRequest::read(b"GET", b"/api/tags?ts=1795178222", sent.as_bytes()).unwrap();
        assert_eq!((signed.ts(), signed.fingerprint()), (1_795_178_222, client.key().prefix));
        assert_eq!(STANDARD.encode(signed.signature()), sent[69..]);
        for now in [1_795_178_162, 1_795_178_222, 1_795_178_282] {
            let verdict = judge(&ring, "GET", "/api/tags?ts=1795178222", &sent, now);
            assert!(matches!(verdict, Some(Verdict::Valid(key)) if key.kind == crate::Kind::Ssh), "{now}");
        }
        for now in [1_795_178_161, 1_795_178_283, i64::MIN, i64::MAX] {
            let verdict = judge(&ring, "GET", "/api/tags?ts=1795178222", &sent, now);
            assert!(matches!(verdict, Some(Verdict::Malformed)), "{now}");
        }
    }

    #[test]
    fn another_text_than_the_signed_one_is_refused() {
        let client = Client::new(7);
        let ring = KeyRing::new([client.key()]);
        let sent = client.sign("GET,/api/tags?ts=1000000");
        for (method, target) in
            [("POST", "/api/tags?ts=1000000"), ("GET", "/api/ps?ts=1000000"), ("GET", "/api/tags?ts=1000001")]
        {
            let verdict = judge(&ring, method, target, &sent, 1_000_000);
            assert!(matches!(verdict, Some(Verdict::Malformed)), "{method} {target}");
        }
    }

    #[test]
    fn a_key_is_known_unknown_expired_or_revoked() {
        let client = Client::new(7);
        let text = "/api/tags?ts=1000000";
        let sent = client.sign(&format!("GET,{text}"));
        let of = |keys: Vec<Key>| judge(&KeyRing::new(keys), "GET", text, &sent, 1_000_000).unwrap();
        assert!(matches!(of(vec![client.key()]), Verdict::Valid(_)));
        assert!(matches!(of(vec![Client::new(8).key()]), Verdict::Unknown));
        let ended = |expires, revoked| {
            let mut key = client.key();
            (key.expires, key.revoked) = (expires, revoked);
            of(vec![key])
        };
        assert!(matches!(ended(Some(999_999), None), Verdict::Expired(_)));
        assert!(matches!(ended(None, Some(5)), Verdict::Revoked(_)));
    }

    #[test]
    fn what_is_known_of_a_public_key_is_no_credential() {
        let client = Client::new(7);
        let ring = KeyRing::new([client.key()]);
        for bearer in [client.wire(), client.key().prefix.into_bytes(), STANDARD.encode(client.wire()).into()]
        {
            assert!(matches!(ring.check(bearer, 5), Verdict::Malformed));
        }
    }

    #[test]
    fn other_forms_are_no_signed_requests() {
        let sent = Client::new(7).sign("GET,/api/tags?ts=1000000");
        for target in [
            "/api/tags",
            "/api/tags?",
            "/api/tags?ts=",
            "/api/tags?ts=-5",
            "/api/tags?ts=+5",
            "/api/tags?ts=05",
            "/api/tags?ts=5&a=b",
            "/api/tags?a=b&ts=5",
            "/api/tags?ts=1234567890123",
            "/api/tags?TS=5",
        ] {
            assert!(SignedRequest::read(b"GET", target.as_bytes(), sent.as_bytes()).is_none(), "{target}");
        }
        let bearer = format!("Bearer {sent}");
        for authorization in ["", "Bearer x", &sent[1..], &bearer, &sent.replace(':', " ")] {
            assert!(SignedRequest::read(b"GET", b"/?ts=5", authorization.as_bytes()).is_none());
        }
        // A second spelling of the same bytes would be a second signature to whoever remembers them.
        let (head, tail) = sent.split_at(sent.len() - 3);
        let other = format!("{head}{}==", char::from(tail.as_bytes()[0] + 1));
        assert!(SignedRequest::read(b"GET", b"/?ts=5", other.as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_passes(place in 0_usize..157, byte in any::<u8>()) {
            let client = Client::new(7);
            let sent = client.sign("GET,/api/tags?ts=1000000");
            let mut changed = sent.clone().into_bytes();
            changed[place] = byte;
            prop_assume!(changed != sent.as_bytes());
            if let Some(signed) = SignedRequest::read(b"GET", b"/api/tags?ts=1000000", &changed) {
                let verdict = KeyRing::new([client.key()]).check_signature(&signed, 1_000_000);
                prop_assert!(!matches!(verdict, Verdict::Valid(_)));
            }
        }
    }
}
