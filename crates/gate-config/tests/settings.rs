//! What settings mean: precedence, defaults, the way back from `config show`, and no text that breaks the reader.

mod sources;

use gate_config::{Anonymous, Config, Level, Listen, Listener, LogFormat, PlainKeys, Shown, rows, to_toml};
use proptest::prelude::*;
use sources::{Said, load};
use std::time::Duration;

#[test]
fn nothing_said_is_the_default() {
    let loaded = load(Said::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.origins.is_empty() && loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.listen, [Listener::at(Listen::DEFAULT)]);
    assert_eq!(config.upstreams[0].to_string(), "http://127.0.0.1:11434");
    assert!(!config.upstreams_given);
}

const FULL: &str = r#"
upstreams = ["http://gpu1:11434", "https://gpu2.example.org/ollama"]

[[listen]]
address = "127.0.0.1:7860"
[[listen]]
address = "[::1]:0"
tls = false
trusted_proxies = []
insecure_anonymous = { networks = ["172.18.0.0/24", "fd00::/8"], as = "Stack" }
[[listen]]
address = "127.0.0.1:80"
redirect = 443

[local]
enabled = false
[limits]
head = "64KiB"
body = "16 MB"
connections = 0x10
[timeouts]
connect = "500ms"
head = "5s"
idle = "1h30m"
keep_alive = "1m"
[server]
threads = 4
trusted_proxies = ["10.0.0.0/8", "::1"]
[tls]
self_signed = true
hsts = "180d"
plain_keys = "refuse"
[fleet]
probe_interval = "2s"
[manage]
push = true
registries = ["HF.co", "registry.lan:5000"]
[metrics]
address = "127.0.0.1:9090"
names = ["GPU1.example.org"]
[log]
level = "debug"
format = "json"
"#;

#[test]
fn a_full_file_sets_everything() {
    let config = load(Said { file: Some(FULL), ..Said::default() }).unwrap().config;
    let shown: Vec<String> = config.upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["http://gpu1:11434", "https://gpu2.example.org:443/ollama"]);
    assert!(config.upstreams_given && !config.local.enabled);
    let shown: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:7860", "[::1]:0", "127.0.0.1:80"]);
    assert_eq!(config.listen.iter().map(|one| one.is_tls(&config)).collect::<Vec<_>>(), [true, false, false]);
    let trusted = |place: usize| config.listen[place].trusted(&config).iter().map(ToString::to_string);
    assert_eq!(trusted(0).collect::<Vec<_>>(), ["10.0.0.0/8", "::1"]);
    assert!(config.listen[2].redirect && config.listen[2].redirect_port == Some(443));
    assert_eq!(trusted(1).count(), 0, "its own list is none");
    let networks = ["172.18.0.0/24", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
    let anonymous = Anonymous { networks, acts_as: "stack".to_owned() };
    assert_eq!(config.listen[1].insecure_anonymous, Some(anonymous));
    assert_eq!(config.tls.hsts, Some(Duration::from_secs(180 * 86_400)));
    assert_eq!(config.tls.plain_keys, PlainKeys::Refuse);
    assert_eq!(
        (config.limits.head.0, config.limits.body.0, config.limits.connections),
        (65_536, 16_000_000, 16)
    );
    assert_eq!(config.timeouts.connect, Duration::from_millis(500));
    assert_eq!(config.timeouts.head, Duration::from_secs(5));
    assert_eq!(config.timeouts.idle, Duration::from_secs(5400));
    assert_eq!(config.timeouts.keep_alive, Duration::from_secs(60));
    assert_eq!((config.server.threads, config.fleet.probe_interval), (Some(4), Duration::from_secs(2)));
    assert!(config.manage.push);
    assert_eq!(config.manage.registries, ["hf.co", "registry.lan:5000"]);
    assert_eq!(config.metrics.address.map(|door| door.to_string()).as_deref(), Some("127.0.0.1:9090"));
    assert_eq!(config.metrics.names, ["gpu1.example.org"]);
    assert_eq!((config.log.level, config.log.format), (Level::Debug, LogFormat::Json));
}

#[test]
fn one_domain_needs_no_list_and_a_section_within_another_is_read() {
    let file =
        "[tls]\ndomain = \"Ollama.Example.com\"\n[tls.acme]\nemail = \"you@example.com\"\nca = \"/ca.pem\"\n";
    let env = &[("HERDGATE_TLS__ACME__DIRECTORY", "https://ca.lan/dir")];
    let loaded = load(Said { file: Some(file), env, ..Said::default() }).unwrap();
    let tls = &loaded.config.tls;
    assert_eq!(tls.domains, ["ollama.example.com"]);
    assert_eq!(
        (tls.acme.directory.as_str(), tls.acme.email.as_deref()),
        ("https://ca.lan/dir", Some("you@example.com"))
    );
    // What is shown is read back as the same.
    let shown = gate_config::to_toml(&loaded, false);
    let again = load(Said { file: Some(&shown), ..Said::default() }).unwrap();
    assert_eq!(again.config.tls, loaded.config.tls, "{shown}");
    let list = &[("HERDGATE_TLS__DOMAIN", "a.example, b.example")];
    let listed = load(Said { env: list, ..Said::default() }).unwrap();
    assert_eq!(listed.config.tls.domains, ["a.example", "b.example"]);
}

#[test]
fn the_short_variable_of_the_log_gives_way_to_the_long_one() {
    let level = |env: &[(&'static str, &'static str)]| {
        load(Said { env, ..Said::default() }).unwrap().config.log.level
    };
    assert_eq!(level(&[("HERDGATE_LOG", "trace")]), Level::Trace);
    assert_eq!(level(&[("HERDGATE_LOG", "trace"), ("HERDGATE_LOG__LEVEL", "warn")]), Level::Warn);
}

/// Every subset of the sources of the upstream: the highest that speaks is heard, and `config show` says so.
#[test]
fn precedence_of_the_upstream() {
    let by_rank = [
        "--upstream",
        "HERDGATE_UPSTREAMS",
        "herdgate.toml:1",
        "OLLAMA_URL",
        "OLLAMA_BASE_URL",
        "OLLAMA_HOST",
    ];
    for subset in 0_u32..64 {
        let has = |at: usize| subset & (1 << at) != 0;
        let variables = [
            (1, ("HERDGATE_UPSTREAMS", "http://rank1:1")),
            (3, ("OLLAMA_URL", "http://rank3:1")),
            (4, ("OLLAMA_BASE_URL", "http://rank4:1")),
            (5, ("OLLAMA_HOST", "http://rank5:1")),
        ];
        let env: Vec<_> = variables.into_iter().filter(|(at, _)| has(*at)).map(|(_, pair)| pair).collect();
        let loaded = load(Said {
            file: has(2).then_some("upstreams = [\"http://rank2:1\"]"),
            env: &env,
            upstream: if has(0) { &["http://rank0:1"] } else { &[] },
            ..Said::default()
        })
        .unwrap();
        let highest = (0..6).find(|at| has(*at));
        let url = highest.map_or("http://127.0.0.1:11434".to_owned(), |rank| format!("http://rank{rank}:1"));
        assert_eq!(
            loaded.config.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [url],
            "{subset:b}"
        );
        assert_eq!(loaded.config.upstreams_given, highest.is_some(), "{subset:b}");
        assert_eq!(rows(&loaded)[0].origin.as_deref(), highest.map(|rank| by_rank[rank]), "{subset:b}");
    }
}

/// One setting of each form: default < file < environment.
#[test]
fn precedence_of_file_and_environment_for_every_form() {
    for (key, file, in_file, variable, in_env) in [
        ("local.enabled", "local.enabled = false", "false", "HERDGATE_LOCAL__ENABLED", "Yes"),
        ("limits.head", "limits.head = \"8KiB\"", "8KiB", "HERDGATE_LIMITS__HEAD", "16KiB"),
        ("limits.connections", "limits.connections = 7", "7", "HERDGATE_LIMITS__CONNECTIONS", "9"),
        ("timeouts.idle", "timeouts.idle = \"7s\"", "7s", "HERDGATE_TIMEOUTS__IDLE", "9s"),
        ("server.threads", "server.threads = 7", "7", "HERDGATE_SERVER__THREADS", "auto"),
        (
            "manage.registries",
            "manage.registries = []",
            "",
            "HERDGATE_MANAGE__REGISTRIES",
            "hf.co, registry.lan:5000",
        ),
        (
            "local.models",
            "local.models = [\"qwen3:8b\"]",
            "qwen3:8b",
            "HERDGATE_LOCAL__MODELS",
            "a:latest, hf.co/acme/x:q4",
        ),
        ("local.models_dir", "local.models_dir = \"/m\"", "/m", "HERDGATE_LOCAL__MODELS_DIR", "none"),
        (
            "local.env",
            "local.env = { OLLAMA_NUM_PARALLEL = 4, A = \"b\" }",
            "A=b, OLLAMA_NUM_PARALLEL=4",
            "HERDGATE_LOCAL__ENV",
            "OLLAMA_FLASH_ATTENTION=1, OLLAMA_KEEP_ALIVE=1h",
        ),
        ("log.level", "log.level = \"warn\"", "warn", "HERDGATE_LOG__LEVEL", "trace"),
        (
            "listen.address",
            "listen.address = \":7\"",
            "[::]:7",
            "HERDGATE_LISTEN__ADDRESS",
            "127.0.0.1:9, [::1]:9,",
        ),
    ] {
        let value = |env: &[(&str, &str)]| {
            let loaded = load(Said { file: Some(file), env, ..Said::default() }).unwrap();
            let row = rows(&loaded).into_iter().find(|row| row.key == key).unwrap();
            let shown = match row.value {
                Shown::Text(text) => text,
                Shown::Number(number) => number.to_string(),
                Shown::Switch(switch) => switch.to_string(),
                Shown::List(items) => items.join(", "),
                Shown::Table(pairs) => {
                    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
                }
            };
            (shown, row.origin.unwrap())
        };
        assert_eq!(value(&[]), (in_file.to_owned(), "herdgate.toml:1".to_owned()), "{key}");
        assert_eq!(value(&[(variable, "")]), (in_file.to_owned(), "herdgate.toml:1".to_owned()), "{key}");
        let expected = in_env.replace("Yes", "true").trim_end_matches(',').to_owned();
        assert_eq!(value(&[(variable, in_env)]), (expected, variable.to_owned()), "{key}");
    }
}

#[test]
fn ollamas_variable_names_models_where_nobody_else_does() {
    let models = |file: Option<&'static str>, value: &'static str| {
        let loaded = load(Said { file, env: &[("OLLAMA_MODEL", value)], ..Said::default() }).unwrap();
        let names: Vec<String> = loaded.config.local.models.iter().map(ToString::to_string).collect();
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        (names.join(" "), warnings.join("\n"))
    };
    let none = String::new;
    assert_eq!(models(None, ""), (none(), none()));
    assert_eq!(models(None, "qwen3:8b, Llama3 ,qwen3:8b"), ("qwen3:8b llama3:latest".to_owned(), none()));
    assert_eq!(models(Some("local.models = [\"a\"]"), "b"), ("a:latest".to_owned(), none()));
    assert_eq!(models(Some("local.models = []"), "b"), (none(), none()));
    let left_out =
        "OLLAMA_MODEL \"no name\" is no model's name; it is left out  hint: names look like qwen3:8b";
    assert_eq!(models(None, "no name,b"), ("b:latest".to_owned(), left_out.to_owned()));
}

#[test]
fn a_secret_among_the_variables_is_not_shown_and_yet_noticed() {
    let with = |secret: &str| {
        let file = format!(
            "[local.env]\nOLLAMA_API_KEY = \"{secret}\"\nHTTPS_PROXY = \"http://u:{secret}@p\"\nOLLAMA_DEBUG = true\n"
        );
        load(Said { file: Some(&file), ..Said::default() }).unwrap()
    };
    let (old, new) = (with("canary-1"), with("canary-2"));
    let shown = to_toml(&old, true);
    assert!(
        shown.contains("# env = { HTTPS_PROXY = \"…\", OLLAMA_API_KEY = \"…\", OLLAMA_DEBUG = \"true\" }"),
        "{shown}"
    );
    assert!(!shown.contains("canary") && !format!("{old:?}").contains("canary"), "{shown}");
    let told: Vec<_> = gate_config::changes(&old, &new).iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].starts_with("local.env") && !told[0].contains("canary"), "{told:?}");
}

#[test]
fn flags_replace_all_listeners_and_switch_the_local_server_off() {
    let said = Said { file: Some(FULL), env: &[("HERDGATE_LOCAL__ENABLED", "true")], ..Said::default() };
    assert!(load(said).unwrap().config.local.enabled);
    let loaded = load(Said { listen: &["127.0.0.1:0"], no_local: true, ..said }).unwrap();
    assert_eq!(loaded.config.listen.len(), 1);
    assert!(!loaded.config.local.enabled);
    assert_eq!(loaded.origins["local.enabled"].to_string(), "--no-local");
}

#[test]
fn what_ollamas_variables_say_is_not_even_read_where_an_upstream_is_given() {
    let said = Said { env: &[("OLLAMA_HOST", "ftp://x")], upstream: &["http://a"], ..Said::default() };
    assert!(load(said).is_ok());
}

#[test]
fn empty_sections_and_an_empty_file_say_nothing() {
    for text in ["", "\u{feff}", "# nothing\n", "[listen]\n[limits]\n[log]\r\n", "limits = {}"] {
        assert_eq!(
            load(Said { file: Some(text), ..Said::default() }).unwrap().config,
            Config::default(),
            "{text:?}"
        );
    }
}

#[test]
fn shown_with_origin() {
    let loaded = load(Said {
        file: Some("[limits]\nhead = \"8KiB\"\n"),
        env: &[("AUTH_TOKEN", "canary"), ("HERDGATE_LOG__LEVEL", "warn")],
        listen: &[":1"],
        ..Said::default()
    })
    .unwrap();
    let shown = to_toml(&loaded, true);
    for line in [
        "# upstreams = [\"http://127.0.0.1:11434\"]  # default",
        "address = \"[::]:1\"  # from --listen",
        "head = \"8KiB\"  # from herdgate.toml:2",
        "body = \"64MiB\"  # default",
        "level = \"warn\"  # from HERDGATE_LOG__LEVEL",
        "# AUTH_TOKEN = \"…\"  # from AUTH_TOKEN",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "no {line} in\n{shown}");
    }
    assert!(!shown.contains("canary") && !format!("{loaded:?}").contains("canary"), "{shown}");
}

#[test]
fn what_is_shown_is_read_back() {
    let said: [Said<'_>; 5] = [
        Said::default(),
        Said { file: Some(FULL), ..Said::default() },
        Said {
            file: Some("[local]\nmodels = [\"a\"]\nmodels_dir = \"/m\"\n[local.env]\nA = \"x \"\nB = 2\n"),
            ..Said::default()
        },
        Said { env: &[("OLLAMA_HOST", "::1")], listen: &["127.0.0.1:0"], no_local: true, ..Said::default() },
        Said {
            upstream: &["https://a/b", "[::1]:5", "c"],
            listen: &[":1", "127.0.0.1:2"],
            ..Said::default()
        },
    ];
    for said in said {
        let loaded = load(said).unwrap();
        for origin in [false, true] {
            let shown = to_toml(&loaded, origin);
            let again = load(Said { file: Some(&shown), ..Said::default() }).unwrap();
            assert_eq!(again.config, loaded.config, "{shown}");
        }
    }
}

/// Pieces of settings, whole and broken.
fn near_toml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[limits]\n"),
        Just("[[listen]]\n"),
        Just("[listen]\n"),
        Just("address = \":1\"\n"),
        Just("head = \"8KiB\"\n"),
        Just("head = 8KiB\n"),
        Just("upstreams = [\"http://a\", "),
        Just("]\n"),
        Just("{ a = 1, "),
        Just("\"\"\"\n"),
        Just("limits.head.x = 1\n"),
        Just("listen = [{address=\":1\"}, 5]\n"),
        Just("[a.b.c]\n"),
        Just("x = 1e999\n"),
        Just("\u{0}é\r"),
        Just("="),
        Just("\n"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,80}|[\\x00-\\x7f]{0,80}") {
        let told = load(Said { file: Some(&text), ..Said::default() });
        prop_assert!(told.map_or_else(|told| !told.is_empty(), |_| true));
    }

    #[test]
    fn no_near_settings_break_the_reader_and_problems_are_one_line_each(text in near_toml()) {
        if let Err(told) = load(Said { file: Some(&text), ..Said::default() }) {
            prop_assert!(!told.is_empty());
            for line in told {
                prop_assert!(line.starts_with("herdgate.toml:") && !line.contains(char::is_control), "{:?}", line);
            }
        }
    }

    #[test]
    fn no_variable_breaks_the_reader(name in "HERDGATE_[A-Z_]{0,20}", value in "\\PC{0,40}") {
        let env = [(name.as_str(), value.as_str()), ("HERDGATE_UPSTREAMS", &value), ("OLLAMA_HOST", &value)];
        if let Ok(loaded) = load(Said { env: &env, ..Said::default() }) {
            let shown = to_toml(&loaded, true);
            prop_assert_eq!(load(Said { file: Some(&shown), ..Said::default() }).unwrap().config, loaded.config);
        }
    }
}

#[test]
fn keys_stand_in_the_settings_by_their_digests() {
    let file = "\
upstreams = [\"http://a:1\"]

[[key]]
name = \"ci\"
digest = \"sha256:AB\"
scopes = [\"read\", \"infer\"]
models = [\"Qwen3:*\", \"qwen3:*\"]

[[key]]
name = \"bot\"
digest = \"sha256:cd\"
";
    let loaded = load(Said { file: Some(file), ..Said::default() }).unwrap();
    let told: Vec<_> = loaded
        .config
        .keys
        .iter()
        .map(|key| (key.name.as_str(), key.digest.as_str(), key.scopes.to_string(), key.models.join(",")))
        .collect();
    let wanted = [
        ("ci", "sha256:ab", "infer,read".to_owned(), "qwen3:*".to_owned()),
        ("bot", "sha256:cd", "infer,embed,read".to_owned(), String::new()),
    ];
    assert_eq!(told, wanted);
    let shown = to_toml(&loaded, true);
    assert!(
        shown.contains("# [[key]] ci: digest …, scopes infer,read, models qwen3:*  # from herdgate.toml:3"),
        "{shown}"
    );
    let all = format!("{shown}{:?}{:?}", loaded.config.keys, gate_config::rows(&loaded));
    assert!(!all.contains("sha256:"), "a digest is shown: {all}");
    let again = load(Said { file: Some(&to_toml(&loaded, false)), ..Said::default() }).unwrap();
    assert!(again.config.keys.is_empty());
}

#[test]
fn a_short_token_is_a_warning() {
    let with = |token| load(Said { env: &[("AUTH_TOKEN", token)], ..Said::default() }).unwrap().warnings;
    let warnings = with("hunter2");
    assert!(warnings[0].to_string().starts_with("AUTH_TOKEN the token has 7 characters"), "{warnings:?}");
    assert!(!warnings[0].to_string().contains("hunter2"));
    assert!(with("my_secure_token_123").is_empty());
}
