//! The settings of TLS: the gate's own certificate, where it is had from, and what is asked of callers. A part of the one list of
//! settings (`list.rs`).

use super::list::secs;
use super::{Form, Setting};
use crate::config::PlainKeys;

pub(super) const TLS: &[Setting] = &[
    Setting {
        key: "tls.cert",
        flag: None,
        form: Form::File {
            slot: |config| &mut config.tls.cert,
            example: "cert = \"/etc/herdgate/fullchain.pem\"",
        },
        about: "The certificate that clients see, in PEM, and behind it those that lead to its issuer's. With it and `tls.key` \
                every `listen.address` speaks TLS 1.2 and 1.3, and nothing else; `metrics.address` stays plain. A change of the files is in force within 10 s; a \
                pair that is broken or does not match is told, and the old one stays.",
    },
    Setting {
        key: "tls.key",
        flag: None,
        form: Form::File {
            slot: |config| &mut config.tls.key,
            example: "key = \"/etc/herdgate/privkey.pem\"",
        },
        about: "The private key of `tls.cert`, in PEM. The log warns where everybody on the machine may read the file.",
    },
    Setting {
        key: "tls.self_signed",
        flag: None,
        form: Form::Switch { slot: |config| &mut config.tls.self_signed },
        about: "For who has no name that a public authority vouches for: makes an authority once, in the data directory \
                (`tls-ca.pem`, which clients are given to trust, and its key), and from it certificates for `localhost`, \
                every name and address of this machine, and the names that containers have for it (`host.docker.internal`, \
                `herdgate`), anew in time. The start says where the file lies and its \
                fingerprint. Not together with `tls.cert` or `tls.domain`.",
    },
    Setting {
        key: "tls.hsts",
        flag: None,
        form: Form::MaybeTime {
            slot: |config| &mut config.tls.hsts,
            least: secs(60),
            most: secs(2 * 365 * 86_400),
        },
        about: "For how long browsers shall speak nothing but TLS with this host (`Strict-Transport-Security`), counted anew \
                from each answer over TLS. It cannot be taken back before that time is over, and holds for every port and \
                program of the host.",
    },
    Setting {
        key: "tls.plain_keys",
        flag: None,
        form: Form::Word {
            words: PlainKeys::WORDS,
            get: |config| config.tls.plain_keys.as_str(),
            set: |config, word| {
                if let Some(plain_keys) = PlainKeys::from_word(word) {
                    config.tls.plain_keys = plain_keys;
                }
            },
        },
        about: "What becomes of a key that crosses a network in clear: one that comes without TLS from another machine, and not \
                by a trusted proxy that says `X-Forwarded-Proto: https`. `warn` serves it and warns in the log, once of each key; \
                `refuse_public` answers 403 `tls_required` where it comes from a public address, and `refuse` wherever it comes \
                from. Refused keys are not looked up, and whoever listened has them all the same: replace them.",
    },
    Setting {
        key: "tls.client_ca",
        flag: None,
        form: Form::File {
            slot: |config| &mut config.tls.client_ca,
            example: "client_ca = \"/etc/herdgate/callers.pem\"",
        },
        about: "Callers by certificate, beside their keys: clients that speak TLS are asked for a certificate from one of the \
                authorities in this file, in PEM. One of any other authority, or one that has expired, fails the handshake; whose it \
                is stands in the record of each request (`certificate`). A change of the file is in force within 10 s. Lists of \
                revoked certificates are not read: whom one must be taken from loses the key.",
    },
    Setting {
        key: "tls.client_required",
        flag: None,
        form: Form::Switch { slot: |config| &mut config.tls.client_required },
        about: "Whether the handshake fails without such a certificate. Listeners without TLS ask for none.",
    },
    Setting {
        key: "tls.domain",
        flag: None,
        form: Form::Domains { example: "domain = \"ollama.example.com\"", most: 100 },
        about: "The name, or the names, under which clients reach this gate: a certificate for them is had from a public \
                authority (ACME, see `[tls.acme]`), whose terms of service are agreed to by setting this. The authority \
                connects to port 443 of each name (TLS-ALPN-01), which must lead to a listener of this gate. Account and \
                certificate lie in the data directory, and a certificate is renewed after two thirds of its life. Until there is \
                a first one, handshakes end with an alert and `/readyz` answers 503. Not together with `tls.cert` or \
                `tls.self_signed`.",
    },
    Setting {
        key: "tls.acme.directory",
        flag: None,
        form: Form::Line {
            get: |config| Some(&config.tls.acme.directory),
            set: |config, url| config.tls.acme.directory = url.unwrap_or_default(),
            what: "the URL of a directory",
            example: "directory = \"https://acme-staging-v02.api.letsencrypt.org/directory\"",
            read: directory,
        },
        about: "The authority's directory, Let's Encrypt unless told otherwise. After a change the certificate in the data \
                directory serves until the new authority has given one.",
    },
    Setting {
        key: "tls.acme.ca",
        flag: None,
        form: Form::File { slot: |config| &mut config.tls.acme.ca, example: "ca = \"/etc/herdgate/ca.pem\"" },
        about: "For an authority of your own: certificates, in PEM, that are trusted beside the system's when its \
                directory is read.",
    },
    Setting {
        key: "tls.acme.email",
        flag: None,
        form: Form::Line {
            get: |config| config.tls.acme.email.as_deref(),
            set: |config, address| config.tls.acme.email = address,
            what: "an e-mail address",
            example: "email = \"you@example.com\"",
            read: email,
        },
        about: "Where the authority may write to. It stands in the account, which is made once.",
    },
];

/// Where an authority tells what it offers (RFC 8555, section 7.1.1).
fn directory(text: &str) -> Result<Option<String>, &'static str> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    match text.strip_prefix("https://") {
        Some(rest) if rest.contains('@') => Err("holds a credential"),
        Some(rest) if is_plain && !rest.starts_with('/') && !rest.is_empty() => Ok(Some(text.to_owned())),
        _ => Err("is no https:// URL"),
    }
}

/// Where an authority reaches the operator.
fn email(text: &str) -> Result<Option<String>, &'static str> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\,;:<>?&".contains(&byte))
    };
    match text.split_once('@') {
        _ if text == "none" => Ok(None),
        Some((name, host))
            if is_plain(name) && is_plain(host) && !host.contains('@') && text.len() <= 254 =>
        {
            Ok(Some(text.to_owned()))
        }
        _ => Err("is no e-mail address"),
    }
}
