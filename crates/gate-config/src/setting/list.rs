//! The one list of settings; those of TLS are a file of their own.

use super::tls::TLS;
use super::{Form, Setting};
use crate::config::{EngineStart, Level, LogFormat};
use crate::units::ByteSize;
use gate_types::ModelName;
use std::time::Duration;

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// All settings, sections together, in the order in which they are shown.
pub(crate) static SETTINGS: &[Setting] =
    &joined::<{ SERVING.len() + TLS.len() + SEEN.len() }>([SERVING, TLS, SEEN]);

const fn joined<const ALL: usize>(parts: [&[Setting]; 3]) -> [Setting; ALL] {
    let mut all = [SERVING[0]; ALL];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let mut place = 0;
        while place < parts[part].len() {
            all[at] = parts[part][place];
            (at, place) = (at + 1, place + 1);
        }
        part += 1;
    }
    all
}

/// What comes before the settings of TLS: which requests are served, and how.
const SERVING: &[Setting] = &[
    Setting {
        key: "upstreams",
        flag: Some("--upstream"),
        form: Form::Upstreams,
        about: "The Ollama servers to pass requests to: `http://` or `https://`, host, port, and a base path if it has one. \
                Without a port `http://` means 80 and `https://` 443; without a scheme it is `http` and port 11434. \
                Where none is given, `OLLAMA_URL`, `OLLAMA_BASE_URL` and `OLLAMA_HOST` are looked at, in this order. \
                Credentials, a query or a fragment in the address are refused. Where there is more to say of one: `[[upstream]]`.",
    },
    Setting {
        key: "listen.address",
        flag: Some("--listen"),
        form: Form::Listeners,
        about: "Where to listen: an IP address (or `localhost`, which is 127.0.0.1) and a port. `[::]:7860`, or `:7860` for \
                short, is every address of the machine, IPv6 and IPv4, and IPv4 alone where there is no IPv6. Port 0 lets \
                the system choose. `[listen]` is one listener; write `[[listen]]` for each of several. Flag and variable replace all \
                of them, with everything else that their tables say.",
    },
    Setting {
        key: "local.enabled",
        flag: Some("--no-local"),
        form: Form::Switch { slot: |config| &mut config.local.enabled },
        about: "Whether to start `ollama serve` or `herdgate-engine` where no upstream was given and no Ollama answers.",
    },
    Setting {
        key: "local.engine",
        flag: None,
        form: Form::Word {
            words: EngineStart::WORDS,
            get: |config| config.local.engine.as_str(),
            set: |config, word| {
                if let Some(engine) = EngineStart::from_word(word) {
                    config.local.engine = engine;
                }
            },
        },
        about: "When to start herdgate-engine: `auto` where no upstream was given, none answers and no `ollama` is installed; \
                `always` beside every other upstream, for a model that answers at once. Not with `local.enabled = false`.",
    },
    Setting {
        key: "local.models",
        flag: None,
        form: Form::Models {
            slot: |config| &mut config.local.models,
            example: "models = [\"qwen3:8b\"]",
            most: 64,
        },
        about: "The models that the Ollama of this machine shall have: the one that the gate starts, or the one found at its usual \
                address. What it lacks is pulled in the background; until it is there, a request for it is answered 503 \
                `model_pulling`. Where it is not set, `OLLAMA_MODEL` is read. Upstreams that somebody named are others' and \
                get nothing by this.",
    },
    Setting {
        key: "local.models_dir",
        flag: None,
        form: Form::Folder {
            slot: |config| &mut config.local.models_dir,
            example: "models_dir = \"/srv/ollama/models\"",
        },
        about: "Where the program that the gate starts keeps its models: `OLLAMA_MODELS` of Ollama, whose own default is \
                `~/.ollama/models`; for herdgate-engine the folder of `.gguf` files, by default `models` in the data directory.",
    },
    Setting {
        key: "local.env",
        flag: None,
        form: Form::Variables {
            slot: |config| &mut config.local.env,
            example: "env = { OLLAMA_NUM_PARALLEL = \"4\", OLLAMA_KEEP_ALIVE = \"1h\" }",
            most: 64,
        },
        about: "Environment variables of the program that the gate starts, beside those of the gate itself and over them: \
                `OLLAMA_NUM_PARALLEL`, `OLLAMA_MAX_LOADED_MODELS`, `OLLAMA_KEEP_ALIVE`, `OLLAMA_CONTEXT_LENGTH`, \
                `HTTPS_PROXY` and all others that it knows. In the file also as `[local.env]` with one variable in each line. \
                The address is the gate's to choose: `OLLAMA_HOST` is refused.",
    },
    Setting {
        key: "auth.failures",
        flag: None,
        form: Form::Count { slot: |config| &mut config.auth.failures, least: 1, most: 1_000_000 },
        about: "How many wrong credentials a minute from one address (of IPv6, from one /64) are told that they are wrong. \
                Further ones are answered 429 until the minute is over. A valid key always passes, and a request without \
                any credential does not count.",
    },
    Setting {
        key: "auth.proxy_names",
        flag: None,
        form: Form::Texts {
            slot: |config| &mut config.auth.proxy_names,
            what: "a host's name",
            example: "proxy_names = [\"ollama\"]",
            read: host_name,
            least: 0,
            most: 16,
        },
        about: "The hosts, on whatever port, for which clients may take the gate for their proxy. Ollama's command line sends \
                a secret in no other way: `OLLAMA_HOST=http://ollama:80 HTTP_PROXY=http://user:KEY@gate:7860 ollama list`. \
                Every other host is refused: the gate answers for itself and passes nothing on.",
    },
    Setting {
        key: "cors.origins",
        flag: None,
        form: Form::Origins {
            example: "origins = [\"https://app.example\", \"http://localhost:*\"]",
            most: 256,
        },
        about: "The origins whose pages may use the gate from a browser, each with at most one `*`; `*` alone is every one. \
                Where it is not set, `OLLAMA_ORIGINS` is read. Ollama's own defaults (localhost, some programs) are not \
                among them: name what you want.",
    },
    Setting {
        key: "limits.head",
        flag: None,
        form: Form::Size {
            slot: |config| &mut config.limits.head,
            least: ByteSize(4 << 10),
            most: ByteSize(1 << 20),
        },
        about: "Longest request head (request line and header fields) that is read. A longer one is answered 431.",
    },
    Setting {
        key: "limits.body",
        flag: None,
        form: Form::Size {
            slot: |config| &mut config.limits.body,
            least: ByteSize(1 << 10),
            most: ByteSize(4 << 30),
        },
        about: "Longest request body that is read into memory. A longer one is answered 413.",
    },
    Setting {
        key: "limits.upload",
        flag: None,
        form: Form::Size {
            slot: |config| &mut config.limits.upload,
            least: ByteSize(1 << 20),
            most: ByteSize(16 << 40),
        },
        about: "Longest blob that a key with `manage` may upload. Blobs pass through and are never held; a longer one is \
                answered 413.",
    },
    Setting {
        key: "limits.held",
        flag: None,
        form: Form::Size {
            slot: |config| &mut config.limits.held,
            least: ByteSize(1 << 20),
            most: ByteSize(1 << 40),
        },
        about: "Most memory that all request bodies together may take at one time. Counted as they arrive, not as they are \
                announced; a request whose body finds no room is answered 503 `bodies_full`. HTTP/2 connections of clients with a \
                key may send 1 MiB ahead and have it counted here, while a quarter of this suffices for that; others 64 KiB.",
    },
    Setting {
        key: "limits.body_rate",
        flag: None,
        form: Form::Size {
            slot: |config| &mut config.limits.body_rate,
            least: ByteSize(0),
            most: ByteSize(1 << 20),
        },
        about: "Least number of bytes per second in which a request body may arrive, on the average over `timeouts.head`; the \
                first such stretch is free. A slower one is answered 408. `0B` asks for no rate.",
    },
    Setting {
        key: "limits.streams",
        flag: None,
        form: Form::Count { slot: |config| &mut config.limits.streams, least: 1, most: 10_000 },
        about: "Most requests at one time on one HTTP/2 connection. Clients wait with further ones.",
    },
    Setting {
        key: "limits.connections",
        flag: None,
        form: Form::Count { slot: |config| &mut config.limits.connections, least: 1, most: 1_000_000 },
        about: "Most client connections at one time, over all listeners. Beyond it, the connection that has waited longest for \
                a request is closed to make room, among those of the same thread (`server.threads`); where all of these are \
                busy, the new one is.",
    },
    Setting {
        key: "limits.per_address",
        flag: None,
        form: Form::Count { slot: |config| &mut config.limits.per_address, least: 1, most: 1_000_000 },
        about: "Most client connections at one time from one IPv4 address, or from one IPv6 /64. A further one is closed at \
                once. Raise it where many clients come from one address; proxies belong into `server.trusted_proxies`, behind which \
                each client counts for itself, by the requests that it has under way (429 `address_full`).",
    },
    Setting {
        key: "timeouts.connect",
        flag: None,
        form: Form::Time {
            slot: |config| &mut config.timeouts.connect,
            least: Duration::from_millis(100),
            most: secs(60),
        },
        about: "How long connecting to an upstream may take, TLS included, before the next one is tried.",
    },
    Setting {
        key: "timeouts.head",
        flag: None,
        form: Form::Time { slot: |config| &mut config.timeouts.head, least: secs(1), most: secs(300) },
        about: "How long a client may take to send a request head, and how long it may pause in the body of a request. Also how \
                long one without a valid key may take to receive its answer.",
    },
    Setting {
        key: "timeouts.idle",
        flag: None,
        form: Form::Time { slot: |config| &mut config.timeouts.idle, least: secs(1), most: secs(86_400) },
        about: "How long an upstream may be silent: before the first byte of its answer, and between two bytes of it. Loading \
                a large model and reading a long prompt are silent. Also how long a client with a key may take nothing of its \
                answer. An answer as a whole has no limit.",
    },
    Setting {
        key: "timeouts.keep_alive",
        flag: None,
        form: Form::Time { slot: |config| &mut config.timeouts.keep_alive, least: secs(1), most: secs(3600) },
        about: "How long a client's connection may stay open without a request.",
    },
    Setting {
        key: "server.threads",
        flag: None,
        form: Form::Threads { least: 1, most: 256 },
        about: "Threads that carry requests; `auto` is one for each CPU that herdgate may use.",
    },
    Setting {
        key: "server.grace",
        flag: None,
        form: Form::Time { slot: |config| &mut config.server.grace, least: Duration::ZERO, most: secs(3600) },
        about: "How long requests that run may go on after SIGTERM or SIGINT. Nothing new is accepted meanwhile; herdgate \
                ends as soon as the last of them has. A second signal ends it at once.",
    },
    Setting {
        key: "server.handover_grace",
        flag: None,
        form: Form::Time {
            slot: |config| &mut config.server.handover_grace,
            least: Duration::ZERO,
            most: secs(24 * 3600),
        },
        about: "How long requests that run may go on in the old process after SIGUSR2 has put another in its place. Nobody \
                waits for it, so this is long: it ends as soon as the last of them has. While both are there, each counts slots by \
                itself.",
    },
    Setting {
        key: "server.trusted_proxies",
        flag: None,
        form: Form::Networks {
            slot: |config| &mut config.server.trusted_proxies,
            example: "trusted_proxies = [\"10.0.0.0/8\"]",
        },
        about: "The proxies in front of the gate, at every listener whose `[[listen]]` names none of its own: addresses and \
                networks. What they say of where a client is, and of nobody else, is believed: `X-Forwarded-For` (its \
                right-most address that is no such proxy), `X-Forwarded-Proto`, and version 2 of the PROXY protocol. Limits \
                and records then see the client's address instead of the proxy's. Name no network in which there is anybody \
                else: who is in it can pose as any address.",
    },
    Setting {
        key: "fleet.probe_interval",
        flag: None,
        form: Form::Time { slot: |config| &mut config.fleet.probe_interval, least: secs(1), most: secs(60) },
        about: "How often each upstream is asked whether it answers, which models it has and which are loaded.",
    },
    Setting {
        key: "fleet.slots",
        flag: None,
        form: Form::Count { slot: |config| &mut config.fleet.slots, least: 1, most: 65_536 },
        about: "How many requests that run a model may be with one upstream at one time; further ones wait in the gate's queue. \
                Listings, `show` and management do not count.",
    },
    Setting {
        key: "queue.max_wait",
        flag: None,
        form: Form::Time { slot: |config| &mut config.queue.max_wait, least: secs(1), most: secs(3600) },
        about: "How long a request may wait for an upstream with a free slot; then it is answered 503.",
    },
    Setting {
        key: "queue.depth",
        flag: None,
        form: Form::Count { slot: |config| &mut config.queue.depth, least: 0, most: 100_000 },
        about: "How many requests may wait at one time; a further one is answered 503 at once. With 0 none waits.",
    },
    Setting {
        key: "manage.push",
        flag: None,
        form: Form::Switch { slot: |config| &mut config.manage.push },
        about: "Whether keys with `manage` may push models from the upstreams to their registries. A model that is pushed is \
                out of the house, so this is off until somebody needs it.",
    },
    Setting {
        key: "manage.registries",
        flag: None,
        form: Form::Texts {
            slot: |config| &mut config.manage.registries,
            what: "a registry's host",
            example: "registries = [\"registry.ollama.ai\", \"hf.co\"]",
            read: registry,
            least: 0,
            most: 64,
        },
        about: "The registries that models may be pulled from, pushed to, created from and copied under the names of, as the \
                hosts in models' names, with the port where the name has one. A name without a host is of \
                `registry.ollama.ai`. Empty: none at all. An upstream fetches from whatever host a name begins with, its own \
                network included, so each one named here must be trusted. What the gate's owner pulls by `herdgate pull` on its \
                machine is not bound by this, nor are the models of the settings.",
    },
];

/// What comes behind the settings of TLS.
const SEEN: &[Setting] = &[
    Setting {
        key: "metrics.address",
        flag: None,
        form: Form::Listener { slot: |config| &mut config.metrics.address },
        about: "A listener of its own for `/metrics`, which answers nothing else and asks for no key: keep it on loopback or \
                on a network of your own, for example `127.0.0.1:9090`. With `none`, `/metrics` is open at the usual \
                listeners for keys with `manage`, as it is in any case.",
    },
    Setting {
        key: "metrics.names",
        flag: None,
        form: Form::Texts {
            slot: |config| &mut config.metrics.names,
            what: "a host's name",
            example: "names = [\"gpu1.example.org\"]",
            read: host_name,
            least: 0,
            most: 16,
        },
        about: "The hosts, on whatever port, by which `metrics.address` answers besides those that need no naming: addresses, names \
                without a dot, and those that end in `.local`, `.internal` or `.localhost`. Any other `Host` is answered 403: a web \
                page in somebody's browser could come by it (DNS rebinding). Empty by default, because scrapers mostly come by \
                an address or a name of their own network.",
    },
    Setting {
        key: "log.level",
        flag: None,
        form: Form::Word {
            words: Level::WORDS,
            get: |config| config.log.level.as_str(),
            set: |config, word| {
                if let Some(level) = Level::from_word(word) {
                    config.log.level = level;
                }
            },
        },
        about: "The least important records that are still logged. `HERDGATE_LOG` is short for its variable.",
    },
    Setting {
        key: "log.format",
        flag: None,
        form: Form::Word {
            words: LogFormat::WORDS,
            get: |config| config.log.format.as_str(),
            set: |config, word| {
                if let Some(format) = LogFormat::from_word(word) {
                    config.log.format = format;
                }
            },
        },
        about: "How log records are written; `auto` is text on a terminal and JSON otherwise.",
    },
];

/// A registry as it stands in front of a model's name.
fn registry(text: &str) -> Result<String, &'static str> {
    match ModelName::parse(&format!("{text}/library/model")) {
        Ok(name) if name.registry().eq_ignore_ascii_case(text) => Ok(name.registry().to_owned()),
        _ => Err("is no registry's host as it stands in models' names"),
    }
}

fn host_name(text: &str) -> Result<String, &'static str> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    match text.len() {
        1..=253 if is_name => Ok(text.to_ascii_lowercase()),
        _ if text.contains(':') => Err("has a port or is an address; name the host alone"),
        _ => Err("is no host's name"),
    }
}
