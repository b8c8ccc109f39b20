//! What a user sees of wrong values, sorted by what they are about: each file text with everything that is said about it.

mod sources;

use sources::{Said, load};

/// File texts, each with all that is told about it.
type Rows = &'static [(&'static str, &'static [&'static str])];

#[track_caller]
fn told(rows: Rows) {
    for (text, told) in rows {
        let problems = load(Said { file: Some(text), ..Said::default() }).err();
        assert_eq!(problems.unwrap_or_default(), *told, "{text}");
    }
}

#[test]
fn what_holds_between_values_is_told_beside_what_is_wrong_with_others() {
    told(TOGETHER);
}

#[test]
fn nothing_is_concluded_from_what_could_not_be_read() {
    told(UNREAD);
}

#[test]
fn what_lets_everybody_in_or_cannot_work_is_warned_of_at_its_line() {
    let warnings = |file| {
        let loaded = load(Said { file: Some(file), ..Said::default() }).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let everybody = "every caller is believed when it says that it comes from another address  hint: name the proxy's own \
                     address, or the network that it stands in";
    assert_eq!(
        warnings(
            "[[listen]]\naddress = \":1\"\n[[listen]]\naddress = \":2\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::/0\"]\n\
             [server]\ntrusted_proxies = [\"0.0.0.0/0\"]\n"
        ),
        [
            format!("herdgate.toml:4:11 trusted_proxies holds ::/0: {everybody}"),
            format!("herdgate.toml:7:19 trusted_proxies holds 0.0.0.0/0: {everybody}"),
        ]
    );
    let named =
        warnings("[tls]\ndomain = [\"localhost\", \"gate\", \"gate.local\", \"a.example\", \"mylocal.de\"]");
    let expected = ["gate", "gate.local", "localhost"]
        .map(|name| format!("herdgate.toml:2:10 no public authority gives a certificate for \"{name}\""));
    assert_eq!(named.len(), expected.len(), "{named:#?}");
    for (told, expected) in named.iter().zip(&expected) {
        assert!(told.starts_with(expected.as_str()) && told.contains("self_signed = true"), "{told}");
    }
    // An authority of the house may know them.
    assert!(
        warnings("[tls]\ndomain = \"gate\"\n[tls.acme]\ndirectory = \"https://ca.house/dir\"").is_empty()
    );
}

#[test]
fn registries() {
    told(REGISTRIES);
}

#[test]
fn the_started_program() {
    told(STARTED);
}

#[test]
fn types() {
    told(TYPES);
}

#[test]
fn certificates() {
    told(CERTIFICATES);
}

#[test]
fn metrics() {
    told(METRICS);
}

#[test]
fn bounds_and_units() {
    told(BOUNDS);
}

#[test]
fn upstreams() {
    told(UPSTREAMS);
}

/// Registries.
const REGISTRIES: Rows = &[
    (
        "manage.registries = [\"https://hf.co\", \"hf.co/acme\", 7, \"hf.co\", \"HF.co\"]",
        &[
            "herdgate.toml:1:22 \"https://hf.co\" is no registry's host as it stands in models' names  hint: write registries = [\"registry.ollama.ai\", \"hf.co\"]",
            "herdgate.toml:1:39 \"hf.co/acme\" is no registry's host as it stands in models' names  hint: write registries = [\"registry.ollama.ai\", \"hf.co\"]",
            "herdgate.toml:1:53 wants a registry's host between quotes, not a number",
        ],
    ),
    ("manage.registries = [\"hf.co\", \"HF.co\"]", &["herdgate.toml:1:31 \"hf.co\" stands here twice"]),
];

/// The started program.
const STARTED: Rows = &[
    (
        "local.models = [\"no name\", \"a\", \"A:latest\"]",
        &["herdgate.toml:1:17 \"no name\" is no model's name  hint: write models = [\"qwen3:8b\"]"],
    ),
    ("local.models = [\"a\", \"A:latest\"]", &["herdgate.toml:1:22 \"a:latest\" stands here twice"]),
    (
        "[local.env]\nOLLAMA_HOST = \":1\"\n\"a b\" = 1\nC = []\nHERDGATE_DATA = \"x\"\nD = \"canary\\n\"",
        &[
            "herdgate.toml:2:1 OLLAMA_HOST is not yours to give here  hint: the gate starts Ollama on a loopback port that it chooses",
            "herdgate.toml:3:1 \"a b\" is no variable's name",
            "herdgate.toml:4:5 wants a text for C, not a list",
            "herdgate.toml:5:1 HERDGATE_DATA is a variable of the gate itself  hint: what it starts never sees those",
            "herdgate.toml:6:1 the value of D is longer than 4096 bytes or holds a control character",
        ],
    ),
    (
        "local.env = \"A=b\"",
        &[
            "herdgate.toml:1:13 wants a table of variables, not a text  hint: write env = { OLLAMA_NUM_PARALLEL = \"4\", OLLAMA_KEEP_ALIVE = \"1h\" }",
        ],
    ),
    (
        "[local]\nmodels_dir = \"/m\"\nenv = { OLLAMA_MODELS = \"/n\" }",
        &[
            "herdgate.toml:2:14 local.models_dir, and OLLAMA_MODELS in local.env: one place is said twice  hint: leave one of the two out",
        ],
    ),
];

/// Wrong types.
const TYPES: Rows = &[
    (
        "limits = 3",
        &[
            "herdgate.toml:1:1 \"limits\" is a section, not a value  hint: write [limits] and below it head = …",
        ],
    ),
    (
        "listen = \":7860\"",
        &[
            "herdgate.toml:1:1 \"listen\" is a section, not a value  hint: write [listen] and below it address = …",
        ],
    ),
    (
        "upstreams = \"http://a\"",
        &[
            "herdgate.toml:1:13 wants a list, an upstream in each item, not a text  hint: write upstreams = [\"http://host:11434\"]",
        ],
    ),
    ("upstreams = []", &["herdgate.toml:1:13 wants at least an upstream"]),
    (
        "upstreams = [\"http://a\", 5]",
        &["herdgate.toml:1:26 wants an upstream's address between quotes, not a number"],
    ),
    (
        "[listen]\naddress = [\":1\", \":2\"]",
        &["herdgate.toml:2:11 wants one address, not a list  hint: write [[listen]] once for each address"],
    ),
    (
        "[listen]\naddress = 7860",
        &["herdgate.toml:2:11 wants an address, not a number  hint: write address = \":7860\""],
    ),
    (
        "[metrics]\naddress = 9090",
        &["herdgate.toml:2:11 wants an address, not a number  hint: write address = \":7860\""],
    ),
    (
        "[local]\nenabled = \"false\"",
        &["herdgate.toml:2:11 wants true or false, not a text  hint: write it without quotes"],
    ),
    ("[local]\nenabled = 1", &["herdgate.toml:2:11 wants true or false, not a number"]),
    (
        "[limits]\nconnections = \"5\"",
        &[
            "herdgate.toml:2:15 wants a whole number from 1 to 1000000, not a text  hint: write it without quotes",
        ],
    ),
    (
        "[limits]\nconnections = 1.5",
        &["herdgate.toml:2:15 wants a whole number from 1 to 1000000, not a number with a fraction"],
    ),
    (
        "[limits]\nhead = 1979-05-27",
        &[
            "herdgate.toml:2:8 wants a number with a unit, not a date  hint: write it like \"32KiB\"; from 4KiB to 1MiB",
        ],
    ),
];

/// TLS and who vouches.
const CERTIFICATES: Rows = &[
    (
        "[tls]\nkey = \"key.pem\"",
        &[
            "herdgate.toml:2:7 tls.key without tls.cert  hint: name both files, or neither: tls.cert is the other one of the pair",
        ],
    ),
    (
        "[tls]\ncert = \"a\"\nkey = \"b\"\nself_signed = true",
        &[
            "herdgate.toml:4:15 tls.self_signed and tls.cert, both  hint: leave one of the two out: a listener shows one certificate",
        ],
    ),
    (
        "[tls]\nself_signed = true\ndomain = \"a.example\"",
        &[
            "herdgate.toml:2:15 tls.self_signed and tls.domain, both  hint: leave one of the two out: a listener shows one certificate",
        ],
    ),
    (
        "[tls]\nself_signed = true\nclient_required = true",
        &[
            "herdgate.toml:3:19 tls.client_required without tls.client_ca  hint: name the file of those who vouch for callers: tls.client_ca",
        ],
    ),
    (
        "[tls]\nclient_ca = \"ca.pem\"",
        &[
            "herdgate.toml:2:13 tls.client_ca without TLS  hint: name the gate's own certificate too: tls.cert and tls.key, or tls.domain",
        ],
    ),
    (
        "[tls]\ndomain = [\"*.a.example\", \"192.0.2.1\", \"a_b.example\", \"A.example\", \"-a.example\"]",
        &[
            "herdgate.toml:2:11 \"*.a.example\" is a wildcard, which takes a record in the DNS: name each host  hint: write domain = \"ollama.example.com\"",
            "herdgate.toml:2:26 \"192.0.2.1\" is an address: tls.self_signed vouches for those  hint: write domain = \"ollama.example.com\"",
            "herdgate.toml:2:39 \"a_b.example\" is no host's name  hint: write domain = \"ollama.example.com\"",
            "herdgate.toml:2:67 \"-a.example\" is no host's name  hint: write domain = \"ollama.example.com\"",
        ],
    ),
    (
        "[tls]\ndomain = [\"a.example\", \"A.example\"]\nacme = true",
        &[
            "herdgate.toml:2:24 \"a.example\" stands here twice",
            "herdgate.toml:3:1 \"tls.acme\" is a section, not a value  hint: write [tls.acme] and below it directory = …",
        ],
    ),
    (
        "[tls.acme]\ndirectory = \"http://a\"\nemail = \"you\"\nmail = 1",
        &[
            "herdgate.toml:2:13 \"http://a\" is no https:// URL  hint: write directory = \"https://acme-staging-v02.api.letsencrypt.org/directory\"",
            "herdgate.toml:3:9 \"you\" is no e-mail address  hint: write email = \"you@example.com\"",
            "herdgate.toml:4:1 unknown setting \"mail\"  hint: did you mean \"email\"?",
        ],
    ),
    (
        "[tls]\ncert = \"\"\nkey = 'a\"b'",
        &[
            "herdgate.toml:2:8 \"\" is empty  hint: write cert = \"/etc/herdgate/fullchain.pem\"",
            "herdgate.toml:3:7 \"a\"b\" has a quote, a backslash or a control character  hint: write key = \"/etc/herdgate/privkey.pem\"",
        ],
    ),
];

/// Metrics at an address that is taken.
const METRICS: Rows = &[(
    "[metrics]\naddress = \"127.0.0.1:7860\"",
    &[
        "herdgate.toml:2:11 127.0.0.1:7860 and the listener [::]:7860 are the same port of the same address  hint: choose another port; /metrics is open at the listener too",
    ],
)];

/// Bounds and units.
const BOUNDS: Rows = &[
    (
        "[limits]\nhead = 32768",
        &["herdgate.toml:2:8 32768 has no unit  hint: write it like \"32KiB\"; from 4KiB to 1MiB"],
    ),
    ("[limits]\nhead = \"1KiB\"", &["herdgate.toml:2:8 1KiB is below what is allowed: 4KiB to 1MiB"]),
    ("[limits]\nbody = \"5GiB\"", &["herdgate.toml:2:8 5GiB is above what is allowed: 1KiB to 4GiB"]),
    (
        "[timeouts]\nidle = \"10min\"",
        &["herdgate.toml:2:8 \"10min\" has an unknown unit  hint: write it like \"10s\"; from 1s to 1d"],
    ),
    ("[timeouts]\nconnect = \"0s\"", &["herdgate.toml:2:11 0s is below what is allowed: 100ms to 1m"]),
    ("[limits]\nconnections = 0", &["herdgate.toml:2:15 wants a whole number from 1 to 1000000"]),
    ("[limits]\nconnections = -1", &["herdgate.toml:2:15 wants a whole number from 1 to 1000000"]),
    (
        "[limits]\nconnections = 99999999999999999999",
        &["herdgate.toml:2:15 wants a whole number from 1 to 1000000, not a number beyond all bounds"],
    ),
    ("[server]\nthreads = 257", &["herdgate.toml:2:11 wants a whole number from 1 to 256 or \"auto\""]),
    (
        "[log]\nlevel = \"warning\"",
        &[
            "herdgate.toml:2:9 \"warning\" is none of error, warn, info, debug, trace  hint: did you mean \"warn\"?",
        ],
    ),
];

/// Addresses of upstreams.
const UPSTREAMS: Rows = &[
    (
        "upstreams = [\n  \"http://u:canary@a\",\n  \"ftp://a\",\n]",
        &[
            "herdgate.toml:2:3 this upstream has credentials (or another \"@\") in it  hint: write \"https://host:port\" without them; a credential stands in its [[upstream]]: token_file, or headers",
            "herdgate.toml:3:3 this upstream has a scheme other than http:// and https://  hint: write \"http://host:11434\" or \"https://host\"",
        ],
    ),
    (
        "upstreams = [\"http://a\", \"http://A:80/\"]",
        &["herdgate.toml:1:26 the upstream http://a:80 stands here twice"],
    ),
    (
        "upstreams = [\"http://localhost:7860\"]",
        &[
            "herdgate.toml:1:13 the upstream http://localhost:7860 is herdgate's own address  hint: name the Ollama server behind it, on another port or machine: --upstream URL",
        ],
    ),
];

/// Faults of one value, and of others beside each other.
const TOGETHER: Rows = &[
    (
        "[limits]\nhead = \"1B\"\n[tls]\nkey = \"key.pem\"\n",
        &[
            "herdgate.toml:2:8 1B is below what is allowed: 4KiB to 1MiB",
            "herdgate.toml:4:7 tls.key without tls.cert  hint: name both files, or neither: tls.cert is the other one of the pair",
        ],
    ),
    (
        "[limits]\nhaed = \"8KiB\"\n[[listen]]\naddress = \":1\"\n[[listen]]\naddress = \":2\"\ntls = true\n[[listen]]\naddress = \":3\"\nredirect = true\ninsecure_anonymous = { networks = [\"10.0.0.0/8\"], as = \"a\" }\n",
        &[
            "herdgate.toml:2:1 unknown setting \"haed\"  hint: did you mean \"head\"?",
            "herdgate.toml:6:11 the listener [::]:2 has tls = true, and there is no certificate  hint: name one in [tls], or write self_signed = true there",
            "herdgate.toml:9:11 the listener [::]:3 redirects, and lets callers in without a key  hint: give each its own [[listen]]",
            "herdgate.toml:9:11 the listener [::]:3 redirects, and no listener speaks TLS  hint: add a [[listen]] for it, and a certificate in [tls]",
        ],
    ),
];

/// What is missing only because it could not be read.
const UNREAD: Rows = &[
    (
        "[tls]\ncert = 7\nkey = \"key.pem\"\n",
        &["herdgate.toml:2:8 wants a file's path between quotes, not a number"],
    ),
    (
        "[tls]\ncret = \"cert.pem\"\nkey = \"key.pem\"\n",
        &["herdgate.toml:2:1 unknown setting \"cret\"  hint: did you mean \"cert\"?"],
    ),
];
