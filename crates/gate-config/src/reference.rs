//! The settings reference, `docs/settings.md`, made from the one list of settings so that it cannot fall behind.

use crate::changes::counts_at_start;
use crate::config::Config;
use crate::listener::MOST_NETWORKS;
use crate::setting::{Form, SETTINGS, Setting, sections};
use crate::show::{shown, toml_text};
use crate::units::show_duration;

const INTRODUCTION: &str = "\
# Settings

<!-- Made from the list of settings in crates/gate-config; `UPDATE_DOCS=1 cargo test -p gate-config` writes it. -->

herdgate needs no settings. What you do set is heard in this order, the first one wins:

1. flags of the command line;
2. environment variables `HERDGATE_…`, named below; lists are separated by commas; an empty variable counts as not set;
3. the settings file, in TOML: `--config FILE` or `HERDGATE_CONFIG`, else the `herdgate.toml` in the folder of `--data` if it holds
   one, else `./herdgate.toml` if there is one, else
   `/etc/herdgate/herdgate.toml` as root and `$XDG_CONFIG_HOME/herdgate/herdgate.toml` (`~/.config`) otherwise. The one in the
   folder of `--data` must be a plain file, it and the folder must belong to whoever runs herdgate or to root, and nobody else may
   write to either: whoever can decides where tokens are sent. Otherwise herdgate says whose it is and ends, until `--config FILE`
   names the settings that are meant;
4. for the upstream: `OLLAMA_URL`, `OLLAMA_BASE_URL` and `OLLAMA_HOST`, read as Ollama's own client reads them; for the
   origins of web pages: `OLLAMA_ORIGINS`; for the models of the local Ollama: `OLLAMA_MODEL`;
5. the defaults.

`herdgate check` says everything that is wrong with the settings at once, with its place, and listens on nothing.
`herdgate config show --origin` shows every value and where it came from. An unknown setting in the file is an error, an
unknown `HERDGATE_…` variable a warning; both end in a hint. Wrong settings end herdgate with exit code 64.

A running herdgate reads its settings anew on SIGHUP, and by itself within two seconds of a change of the file. All or
nothing: where anything is wrong with them, the log says all of it and the old settings stay in force. What changed is in
force for the next request; requests that run keep what they began with. The few settings that count from the next start on
say so below. A settings file that was removed is a mistake and changes nothing.

Data (keys, models) is in `--data DIR` or `HERDGATE_DATA`, else in `/var/lib/herdgate` as root and
`$XDG_DATA_HOME/herdgate` (`~/.local/share`) otherwise.

Sizes have a unit: `B`, `KiB`, `MiB`, `GiB` (powers of 1024), `KB`, `MB`, `GB` (of 1000). Times too: `ms`, `s`, `m`, `h`, `d`,
also together, largest first: `1h30m`.

```toml
# herdgate.toml: the short form is enough
upstreams = [\"http://gpu1:11434\", \"http://gpu2:11434\"]

[listen]
address = \"0.0.0.0:7860\"
```

## A key from the environment

`AUTH_TOKEN` holds one key, any text, that is valid beside those made with `herdgate key create`; it is named `env`, may
`infer`, `embed` and `read`, and is never written down. `AUTH_TOKEN_FILE` names a file that holds it instead, and a systemd
credential of the name `AUTH_TOKEN` is found by itself. An empty token, one from an example (`changeme`, `ollama`), and two
sources that differ are errors; one of fewer than 16 characters is a warning.
";

const LISTENERS: &str = "
### The rest of a listener

Besides its address a `[listen]` or `[[listen]]` may say what holds for who comes in there. No variable and no flag sets these;
all count from the next start on.

```toml
[[listen]]
address = \":7860\"                     # what [tls] gives: TLS, once there is a certificate
trusted_proxies = [\"10.1.0.0/16\"]     # default: server.trusted_proxies

[[listen]]
address = \":80\"
redirect = true                         # sends browsers to the first listener that speaks TLS

[[listen]]
address = \":11434\"
tls = false
insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }
```

- `tls`: `true` or `false`; default: `true` where `[tls]` gives a certificate. `false` is plain HTTP there.
- `redirect`: `true`, `false` (default), or the port that clients reach TLS by where that is another than the gate listens on
  (`443` for a container whose 8443 is published there). Nothing is served there and nothing passed on. GET and HEAD are answered 308 to the same
  path on the first listener that speaks TLS, at the host that was asked for; anything else, and whatever carries a
  credential, 403 `tls_required`: a key that came this way was read by whoever listened. Needs a listener with TLS.
- `trusted_proxies`: up to 64 networks, in place of `server.trusted_proxies` for this listener; an empty list trusts nobody.
- `insecure_anonymous`: callers from `networks` (1 to 64, private ones alone) may come without a key, and act as the key of the
  name `as`: with its scopes, its models and its end, also when it is revoked. A placeholder such as `ollama` counts as no key; a
  key of their own counts as itself. Every start says so. Nobody is let in this way
  - from the default gateway or any other router of this machine, whichever table names it and by whatever address it comes
    (routers are known by their MAC; while one does not tell it, or shares it as with VRRP, nobody on its link is let in), the first
    address of its networks, or an address of its own but loopback: that is where a bridge of containers shows everybody from outside;
  - with `Forwarded`, `Via`, `X-Real-IP`, or any `X-Forwarded-…`, `CF-…` or similar field, over HTTP/1.0, or by a trusted
    proxy: somebody passes it on for the whole world. A proxy that sets none of these cannot be told from a
    caller; keep proxies and tunnels out of these networks;
  - at a public address of this machine;
  - by a name that has a dot and does not end in `.local`, `.internal` or `.localhost`, or from a web page whose origin `cors.origins` does
    not name: no page shall use it by somebody's browser.
";

const UPSTREAMS: &str = "
## `[[upstream]]`

One server with more to say of it than where it is: an Ollama, unless it says `ollama = false`. Either all upstreams stand in `upstreams`, or each in a table of its
own; both at once in one file are an error. `--upstream` and `HERDGATE_UPSTREAMS` replace all of them, tables too.

```toml
[[upstream]]
url = \"https://gpu1.example/ollama\"           # the only one that must be there
name = \"gpu1\"                                 # in logs, records, metrics; default: the URL
ollama = true                                   # false: it speaks something else; default true
weight = 2                                      # 1 to 100, default 1
slots = 8                                       # default: fleet.slots
token_file = \"/run/secrets/gpu1\"              # sent as Authorization: Bearer
headers = { X-Api-Key = \"…\" }                 # sent with every request
ca = \"/etc/ssl/gpu1-ca.pem\"                   # default: the system's roots
client_cert = \"/etc/herdgate/client.pem\"      # what it is shown, with client_key
client_key = \"/etc/herdgate/client-key.pem\"
connect = \"1s\"                                # default: timeouts.connect
idle = \"30m\"                                  # default: timeouts.idle
models = [\"qwen3:8b\"]                         # what it shall have
```

- `name`: 1 to 64 of `A-Z a-z 0-9 . _ -`, no two alike. Another name is another upstream: what was known of it begins anew.
- `ollama = false`: a server that only a [`[[route]]`](#route) leads to. It is asked for no version and no models, appears in no list and gets
  no request of Ollama's own; it counts as up while a `HEAD /` is answered, with whatever status (where a route there says `upgrade = true`, one that hangs up is up, too). `weight`, `slots` and `models` are not
  for it. An Ollama that a route leads to as well needs nothing here.
- `weight`: where several could serve a request as well, one of weight 2 gets about twice the requests of one of weight 1,
  however many run. A model that is loaded, a free slot and health count first.
- `token_file`: the first line of a file, without \"Bearer\". `headers`: up to 16 fields, of which an `Authorization` (`Basic …`)
  takes the place of `token_file`. What herdgate writes itself (`Host`, `Content-Type`, `User-Agent` and the like) is refused. Both
  are for this upstream alone and shown nowhere; a warning says where they would cross a network in clear. Another herdgate
  takes one of its keys here.
- `ca`: a file in PEM with the only roots that its certificate may lead to. `client_cert` with `client_key`: certificate and
  key in PEM. Certificates are always checked; there is no switch against that.
- A change of any of these files is in force within two seconds, as all else here is after a reload: no request is lost by
  it, and where a file is broken the log says so and the old content stays in force.
- `models`: what an upstream lacks of these is pulled there; an upstream without `models` is left as it is.
";

const ROUTES: &str = "
## `[[route]]`

A path of its own, for upstreams that speak more than Ollama: a voice, a reranker, a transcription as it is spoken.

```toml
[[upstream]]
url = \"http://gpu1:8000\"
name = \"voice\"
ollama = false                # it serves this route alone

[[route]]
path = \"/tts/v1/{rest}\"      # {rest} stands for one segment or more; without it the path is meant as it is
class = \"infer\"               # the scope that a key needs: infer, embed, read or manage
upstream = \"voice\"            # the name of an [[upstream]]
upgrade = true                # WebSockets pass; default false
```

- Up to 64 routes. None may be in the way of a built-in one; where two of them match, the one that fixes more of the path is
  meant. GET, HEAD, POST, PUT, PATCH and DELETE are open.
- Path and query go to the upstream as they came. A path that could be read as another one is no route: dot segments, doubled or
  final slashes, escaped letters, dots and separators.
- Bodies pass through as they come, `limits.upload` long at most; answers as well, until `timeouts.idle` (or that of the
  upstream) has passed in silence. Who hangs up ends it at the upstream. It takes no slot and waits for none: what runs there is
  not one of Ollama's models. For the same reason a key's `models` say nothing about it; its scopes do.
- What never reaches the upstream: the key, cookies, `Host`, `Origin`, `Referer`, where the client is, and anything about its
  connection. What never comes back: cookies, CORS of the upstream's own, anything about its connection, and a redirect to another host.
  Requests with a herdgate key in their address are refused, because the upstream would read it there.
- `upgrade = true`: WebSockets pass, both ways and unread, and no other protocol. One is opened over HTTP/1.1 (HTTP/2 carries none
  here), with the key in `Authorization` or `x-api-key`; in `Sec-WebSocket-Protocol` or in the address it is not looked for. A
  page of an origin that `cors.origins` does not name opens none, whatever key it has. It ends when one side ends it, when neither has
  said anything for `timeouts.idle` (a ping counts), within a second of its key's end, and with the gate's grace.
";

const KEYS: &str = "
## `[[key]]`

One key by its digest, for containers and for settings that are kept in git. The key itself is not in there and cannot be
found out from it. `herdgate key mint NAME` makes a key and prints what belongs here; it needs no data directory.

```toml
[[key]]
name = \"ci\"                         # 1 to 64 of A-Z a-z 0-9 . _ -
digest = \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"
scopes = [\"infer\", \"read\"]         # default: infer, embed, read
models = [\"qwen3:*\", \"gemma3\"]     # default: every model
```

- `digest` is that of a key that herdgate made, or the fingerprint of an ssh public key (`SHA256:…` as `ssh-keygen -lf
  ~/.ollama/id_ed25519.pub` prints it) for Ollama's command line with `OLLAMA_AUTH=1`.
- Up to 1000 keys, no two of one name or one digest. They have no end: take one out, and within a second of the reload its
  running requests end. Keys of the store work beside them; one of the same name is another key (herdgate warns of that),
  and a key that was revoked in the store stays revoked.
- With a key here or an `AUTH_TOKEN` no first key is made, and the data directory may be read-only or absent, as long as
  there is no database in it.
- Every change of them is in the audit log: `herdgate key log`.
";

/// The page in Markdown.
#[must_use]
pub fn reference() -> String {
    let top = SETTINGS.iter().filter(|setting| setting.section_and_name().0.is_none());
    let mut page = format!("{INTRODUCTION}\n## At the top of the file\n");
    page.extend(top.map(entry));
    page.push_str(UPSTREAMS);
    for section in sections() {
        page.push_str(&format!("\n## `[{section}]`\n"));
        let own = SETTINGS.iter().filter(|setting| setting.section_and_name().0 == Some(section));
        page.extend(own.map(entry));
        if section == crate::listener::SECTION {
            page.push_str(LISTENERS);
        }
    }
    page.push_str(ROUTES);
    page.push_str(KEYS);
    page
}

fn entry(setting: &Setting) -> String {
    let (_, name) = setting.section_and_name();
    let value = match (shown(setting, &Config::default()), &setting.form) {
        (crate::show::Shown::List(items), Form::Listeners) => format!("\"{}\"", items.join(", ")),
        (value, _) => toml_text(&value),
    };
    let flag = setting.flag.map(|flag| format!(" · flag `{flag}`")).unwrap_or_default();
    let (variable, about, form) = (setting.variable(), setting.about, form(&setting.form));
    let start = if counts_at_start(setting.key) { "\n- counts from the next start on" } else { "" };
    format!(
        "\n### `{name}`\n\n{about}\n\n- default `{value}`\n- {form}\n- variable `{variable}`{flag}{start}\n"
    )
}

fn form(form: &Form) -> String {
    match form {
        Form::Upstreams => format!("a list of 1 to {} addresses", crate::setting::MOST_UPSTREAMS),
        Form::Listeners => {
            format!("one address; with `[[listen]]` up to {}, no two alike", crate::setting::MOST_LISTENERS)
        }
        Form::Switch { .. } => "`true` or `false`".to_owned(),
        Form::Size { least, most, .. } => format!("a size from {least} to {most}"),
        Form::Time { least, most, .. } => {
            format!("a time from {} to {}", show_duration(*least), show_duration(*most))
        }
        Form::MaybeTime { least, most, .. } => {
            format!("`\"none\"`, or a time from {} to {}", show_duration(*least), show_duration(*most))
        }
        Form::Networks { .. } => format!("a list of 0 to {MOST_NETWORKS} networks"),
        Form::Count { least, most, .. } => format!("a whole number from {least} to {most}"),
        Form::Listener { .. } => "`\"none\"`, or one address".to_owned(),
        Form::File { .. } => "`\"none\"`, or the path of a file".to_owned(),
        Form::Folder { .. } => "`\"none\"`, or the path of a folder".to_owned(),
        Form::Models { most, .. } => format!("a list of 0 to {most} models' names"),
        Form::Variables { most, .. } => {
            format!("a table of 0 to {most} texts; in the variable `NAME=value`, separated by commas")
        }
        Form::Threads { least, most } => format!("`\"auto\"`, or a whole number from {least} to {most}"),
        Form::Texts { least, most, .. } => format!("a list of {least} to {most} texts"),
        Form::Line { get, what, .. } if get(&Config::default()).is_some() => (*what).to_owned(),
        Form::Line { what, .. } => format!("`\"none\"`, or {what}"),
        Form::Domains { most, .. } => format!("one text, or a list of 0 to {most} texts"),
        Form::Origins { most, .. } => format!("a list of 0 to {most} texts"),
        Form::Word { words, .. } => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
    }
}
