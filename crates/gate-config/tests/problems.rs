//! What a user sees of wrong settings: the line, its place and its hint, and all of them at once.

mod sources;

use sources::{Said, load};

/// Names that nobody knows: each file text with everything that is said about it.
#[test]
fn an_unknown_name_has_its_place_and_its_nearest_neighbour() {
    let rows: &[(&str, &[&str])] = &[
        (
            "upstreams = [\"http://a\"]\n\n[listen]\nadress = \":1\"\n",
            &["herdgate.toml:4:1 unknown setting \"adress\"  hint: did you mean \"address\"?"],
        ),
        (
            "upstream = []",
            &[
                "herdgate.toml:1:1 upstreams stand in [[upstream]], one each  hint: write [[upstream]] and below it url = …, or upstreams = [\"http://host:11434\"]",
            ],
        ),
        (
            "[limit]\nhead = 3",
            &["herdgate.toml:1:2 unknown section \"limit\"  hint: did you mean \"limits\"?"],
        ),
        ("[zzz]\na = 1\nb = 2", &["herdgate.toml:1:2 unknown section \"zzz\""]),
        ("colour = true", &["herdgate.toml:1:1 unknown setting \"colour\""]),
        (
            "[listen]\naddress = \":1\"\nupstreams = [\"http://a\"]",
            &[
                "herdgate.toml:3:1 unknown setting \"upstreams\"  hint: \"upstreams\" stands at the top, before the first [section]",
            ],
        ),
        (
            "probe_interval = \"5s\"",
            &[
                "herdgate.toml:1:1 unknown setting \"probe_interval\"  hint: \"probe_interval\" stands in [fleet]",
            ],
        ),
        (
            "limits.haed = \"8KiB\"",
            &["herdgate.toml:1:8 unknown setting \"haed\"  hint: did you mean \"head\"?"],
        ),
        ("\"a\\u001b[2J\" = 1", &["herdgate.toml:1:1 unknown setting \"a\\u{1b}[2J\""]),
    ];
    for (text, told) in rows {
        assert_eq!(load(Said { file: Some(text), ..Said::default() }).unwrap_err(), *told, "{text}");
    }
}

/// The parser's own words differ between its versions; place and hint are ours.
#[test]
fn syntax_errors_have_a_place_and_do_not_hide_the_rest() {
    let text = "[limits]\nhead = 32KiB\nbody = 5\n\n[timeouts]\nidle = = 5\n[log]\nlevel = \"loud\"\n";
    let told = load(Said { file: Some(text), ..Said::default() }).unwrap_err();
    assert!(told[0].starts_with("herdgate.toml:2:8 ") && told[0].contains("quoted"), "{told:#?}");
    assert!(told[0].ends_with("  hint: write texts between double quotes"), "{told:#?}");
    assert!(told.iter().any(|told| told.starts_with("herdgate.toml:3:8 5 has no unit")), "{told:#?}");
    assert!(told.iter().any(|told| told.starts_with("herdgate.toml:6:")), "{told:#?}");
    assert!(told.iter().any(|told| told.starts_with("herdgate.toml:8:9 \"loud\"")), "{told:#?}");
    assert_eq!(told.iter().filter(|told| told.starts_with("herdgate.toml:2:")).count(), 1, "{told:#?}");
    let text = "upstreams = [\"http://a\"\n[limits]\nhead = \"8KiB\"\nbody = \"1PiB\"\n";
    let told = load(Said { file: Some(text), ..Said::default() }).unwrap_err();
    assert_eq!(told.len(), 2, "a bracket that is not closed is one mistake: {told:#?}");
    assert!(told[0].contains("unclosed array") && told[1].starts_with("herdgate.toml:4:8 "), "{told:#?}");
}

#[test]
fn a_key_given_twice_and_an_unclosed_table_are_told_with_their_lines() {
    for (text, place) in [
        ("[limits]\nhead = \"8KiB\"\nhead = \"9KiB\"\n", "herdgate.toml:3:1 "),
        ("[limits]\n[log]\n[limits]\n", "herdgate.toml:3:"),
        ("[limits\nhead = \"8KiB\"", "herdgate.toml:1:"),
        ("upstreams = [\"http://a\"", "herdgate.toml:1:"),
    ] {
        let told = load(Said { file: Some(text), ..Said::default() }).unwrap_err();
        assert!(told.iter().any(|told| told.starts_with(place)), "{text}: {told:#?}");
    }
}

#[test]
fn columns_count_characters() {
    let text = "\"übergröße\" = 1\nupstreams = [\"http://a\", \"ü\"]";
    let told = load(Said { file: Some(text), ..Said::default() }).unwrap_err();
    assert!(told[0].starts_with("herdgate.toml:1:1 unknown setting \"übergröße\""), "{told:#?}");
    assert!(told[1].starts_with("herdgate.toml:2:26 "), "{told:#?}");
}

#[test]
fn a_file_beyond_all_reason_is_refused() {
    let text = format!("# {}", "x".repeat(256 << 10));
    let told = load(Said { file: Some(&text), ..Said::default() }).unwrap_err();
    assert_eq!(told, ["herdgate.toml:1:1 is longer than 256 KiB, which no settings file is"]);
}

#[test]
fn variables_and_flags_are_their_own_place_and_everything_comes_at_once() {
    let told = load(Said {
        file: Some("[limits]\nhead = \"1B\""),
        env: &[
            ("AUTH_TOKEN", "changeme"),
            ("HERDGATE_FLEET__PROBE_INTERVAL", "5"),
            ("HERDGATE_LISTEN__ADDRESS", ":1,gpu1:1"),
            ("HERDGATE_LOCAL__ENABLED", "perhaps"),
            ("HERDGATE_LOG__FORMAT", "json\u{fffd}"),
            ("HERDGATE_SERVER__THREADS", "many"),
            ("HERDGATE_UPSTREAMS", ","),
        ],
        upstream: &["http://a", "http://u:canary@b"],
        listen: &["7860"],
        ..Said::default()
    })
    .unwrap_err();
    let expected = [
        "herdgate.toml:2:8 1B is below",
        "AUTH_TOKEN the token is known to everybody",
        "HERDGATE_FLEET__PROBE_INTERVAL \"5\" has no unit",
        "HERDGATE_LISTEN__ADDRESS (item 2) \"gpu1:1\" has a host",
        "HERDGATE_LOCAL__ENABLED wants true or false",
        "HERDGATE_LOG__FORMAT is not UTF-8",
        "HERDGATE_SERVER__THREADS wants a whole number from 1 to 256 or \"auto\"",
        "HERDGATE_UPSTREAMS wants at least an upstream",
        "--listen \"7860\" has no host",
        "--upstream (item 2) has credentials",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains("canary") && !told.contains("changeme"), "{told}");
    }
}

#[test]
fn an_unknown_variable_is_a_warning_with_a_hint() {
    let loaded = load(Said {
        env: &[
            ("HERDGATE_AUTH_TOKEN", "x"),
            ("HERDGATE_CONFIG", "x"),
            ("HERDGATE_DATA", "x"),
            ("HERDGATE_KEY", "x"),
            ("HERDGATE_LIMITS_HEAD", "x"),
            ("HERDGATE_LISTEN", "x"),
            ("HERDGATE_LOGS", "x"),
            ("HERDGATE_TEST_OLLAMA", "x"),
            ("HERDGATE_ZZZ", "x"),
        ],
        ..Said::default()
    })
    .unwrap();
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "HERDGATE_AUTH_TOKEN unknown variable, ignored  hint: did you mean AUTH_TOKEN?",
            "HERDGATE_LIMITS_HEAD unknown variable, ignored  hint: did you mean HERDGATE_LIMITS__HEAD?",
            "HERDGATE_LISTEN unknown variable, ignored  hint: did you mean HERDGATE_LISTEN__ADDRESS?",
            "HERDGATE_LOGS unknown variable, ignored  hint: did you mean HERDGATE_LOG?",
            "HERDGATE_ZZZ unknown variable, ignored",
        ]
    );
}

#[test]
fn an_ollama_host_that_names_the_gate_or_a_bad_port_is_told() {
    let told = load(Said { env: &[("OLLAMA_HOST", "0.0.0.0:7860")], ..Said::default() }).unwrap_err();
    assert!(
        told[0].starts_with("OLLAMA_HOST the upstream http://127.0.0.1:7860 is herdgate's own address"),
        "{told:?}"
    );
    let told = load(Said { listen: &[":11434"], ..Said::default() }).unwrap_err();
    assert!(
        told[0].starts_with("--listen the upstream http://127.0.0.1:11434 is herdgate's own"),
        "{told:?}"
    );
    let told = load(Said { listen: &["http://u:canary@h"], ..Said::default() }).unwrap_err();
    assert!(told[0].starts_with("--listen the address is a URL") && !told[0].contains("canary"), "{told:?}");
    let told = load(Said { env: &[("OLLAMA_HOST", "https://u:canary@h")], ..Said::default() }).unwrap_err();
    assert!(told[0].starts_with("OLLAMA_HOST has credentials") && !told[0].contains("canary"), "{told:?}");
    let loaded = load(Said { env: &[("OLLAMA_HOST", "gpu1:99999")], ..Said::default() }).unwrap();
    let told = loaded.warnings[0].to_string();
    assert_eq!(told, "OLLAMA_HOST has a port that cannot be read; 11434 is taken, as Ollama does");
}

#[test]
fn an_address_copied_from_a_client_is_warned_about() {
    let loaded =
        load(Said { env: &[("OLLAMA_BASE_URL", "http://gpu1:11434/v1/")], ..Said::default() }).unwrap();
    let told = loaded.warnings[0].to_string();
    assert!(told.starts_with("OLLAMA_BASE_URL the upstream http://gpu1:11434/v1 has a base path"), "{told}");
}

#[test]
fn every_problem_of_every_key_is_told_at_its_place_and_no_digest() {
    let file = "\
[[key]]
name = \"ci\"
digest = \"canary\"

[[key]]
nam = \"x\"
digest = \"sha256:1\"
expires = \"30d\"

[[key]]
name = \"a b\"
digest = 7
scopes = [\"infer\", \"rite\"]
models = []

[[key]]
name = \"one\"
digest = \"sha256:2\"
scopes = \"infer\"

[[key]]
name = \"two\"
digest = \"sha256:3\"

[[key]]
name = \"two\"
digest = \"sha256:4\"

[[key]]
name = \"three\"
digest = \"sha256:3\"
";
    let problems = load(Said { file: Some(file), ..Said::default() }).unwrap_err();
    for told in [
        "herdgate.toml:3:1 is no digest  hint: make one",
        "herdgate.toml:5:1 a key without name  hint: write name = \"ci\"",
        "herdgate.toml:6:1 unknown setting \"nam\" of a key  hint: did you mean \"name\"?",
        "herdgate.toml:8:1 unknown setting \"expires\" of a key  hint: a key of the settings ends when it is taken out of them; keys of the store may expire",
        "herdgate.toml:11:1 holds a blank  hint: leave it out",
        "herdgate.toml:12:1 digest wants a text between quotes",
        "herdgate.toml:13:20 unknown scope \"rite\"  hint: the scopes are infer, embed, read, manage and cloud",
        "herdgate.toml:14:1 models is empty  hint: write models = [\"qwen3:*\"], or leave it out for the usual",
        "herdgate.toml:19:1 scopes wants a list of texts  hint: write scopes = [\"infer\", \"read\"]",
        "herdgate.toml:25:1 there is a key \"two\" at herdgate.toml:21:1 already  hint: give each its own name",
        "herdgate.toml:29:1 the key \"three\" has the digest of the one at herdgate.toml:21:1  hint: make each its own: herdgate key mint NAME",
    ] {
        assert!(problems.iter().any(|problem| problem == told), "no {told}\nin {problems:#?}");
    }
    assert_eq!(problems.len(), 11, "{problems:#?}");
    assert!(!problems.iter().any(|problem| problem.contains("canary")), "{problems:#?}");
}

#[test]
fn listeners_that_a_flag_replaces_are_told_of_where_they_said_more() {
    let warnings = |file| {
        let loaded = load(Said { file: Some(file), listen: &[":1"], ..Said::default() }).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(warnings("[listen]\naddress = \":2\"\n").is_empty());
    assert_eq!(
        warnings("[listen]\naddress = \":2\"\ntls = false\n"),
        [
            "--listen replaces every [[listen]] of the file, and what else stands in them does not count  hint: leave it out, or herdgate.toml:2:11 out of the file"
        ]
    );
}

#[test]
fn a_second_table_that_may_be_one_of_several_says_how() {
    for text in ["[listen]\naddress = \":1\"\n[[listen]]\naddress = \":2\"\n", "[listen]\n[listen]\n"] {
        let told = load(Said { file: Some(text), ..Said::default() }).unwrap_err();
        assert!(
            told.iter()
                .any(|line| line.ends_with("hint: where there are several, each begins with [[listen]]")),
            "{told:#?}"
        );
    }
    let told = load(Said { file: Some("[queue]\n[queue]\n"), ..Said::default() }).unwrap_err();
    assert!(told.iter().all(|line| !line.contains("hint")), "{told:#?}");
}
