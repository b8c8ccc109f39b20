//! What a user sees of wrong settings: the line, its place and its hint, and all of them at once.

mod sources;

use sources::{Said, load};

/// Each file text with everything that is said about it.
#[test]
fn every_problem_has_its_place_reason_and_hint() {
    let rows: &[(&str, &[&str])] = &[
        // Unknown names.
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
        // Registries.
        (
            "manage.registries = [\"https://hf.co\", \"hf.co/acme\", 7, \"hf.co\", \"HF.co\"]",
            &[
                "herdgate.toml:1:22 \"https://hf.co\" is no registry's host as it stands in models' names  hint: write registries = [\"registry.ollama.ai\", \"hf.co\"]",
                "herdgate.toml:1:39 \"hf.co/acme\" is no registry's host as it stands in models' names  hint: write registries = [\"registry.ollama.ai\", \"hf.co\"]",
                "herdgate.toml:1:53 wants a registry's host between quotes, not a number",
            ],
        ),
        ("manage.registries = [\"hf.co\", \"HF.co\"]", &["herdgate.toml:1:31 \"hf.co\" stands here twice"]),
        // The started program.
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
        // Wrong types.
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
            &[
                "herdgate.toml:2:11 wants one address, not a list  hint: write [[listen]] once for each address",
            ],
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
            "[metrics]\naddress = \"127.0.0.1:7860\"",
            &[
                "herdgate.toml:2:11 127.0.0.1:7860 and the listener [::]:7860 are the same port of the same address  hint: choose another port; /metrics is open at the listener too",
            ],
        ),
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
        // Bounds and units.
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
        // Addresses.
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
            "[[listen]]\naddress = \"7860\"\n[[listen]]\naddress = \"gpu1:80\"\n[[listen]]\n",
            &[
                "herdgate.toml:2:11 \"7860\" has no host  hint: write \":7860\" for every address, or \"127.0.0.1:7860\" for this machine alone",
                "herdgate.toml:4:11 \"gpu1:80\" has a host that is neither an IP address nor localhost  hint: write \":7860\", \"127.0.0.1:7860\" or \"[::1]:7860\"",
                "herdgate.toml:5:1 a listener without an address  hint: write address = \":7860\" in it",
            ],
        ),
        (
            "[[listen]]\naddress = \":80\"\n[[listen]]\naddress = \"127.0.0.1:80\"\n[[listen]]\naddress = \"127.0.0.1:81\"",
            &["herdgate.toml:4:11 127.0.0.1:80 and [::]:80 are the same port of the same address"],
        ),
        (
            "[[listen]]\naddress = \":1\"\ntsl = true\n[[listen]]\naddress = \":2\"\ntls = \"true\"\nredirect = 0\n[[listen]]\naddress = \":3\"\nredirect = \"443\"\n",
            &[
                "herdgate.toml:3:1 unknown setting \"tsl\"  hint: did you mean \"tls\"?",
                "herdgate.toml:6:7 wants true or false, not a text  hint: write it without quotes",
                "herdgate.toml:7:12 0 is no port  hint: true leads to the listener with TLS; 443 to the port that clients reach it by",
                "herdgate.toml:10:12 wants true, false or a port, not a text  hint: true leads to the listener with TLS; 443 to the port that clients reach it by",
            ],
        ),
        (
            "[listen]\ntrusted_proxies = [\"10.0.0.1/8\", \"gpu1\", 5]\n",
            &[
                "herdgate.toml:2:20 \"10.0.0.1/8\" is an address in 10.0.0.0/8: write that, or /32 for it alone  hint: write trusted_proxies = [\"10.0.0.0/8\"]",
                "herdgate.toml:2:34 \"gpu1\" is no network: write it like 172.18.0.0/24, fd00::/8 or 192.168.1.7  hint: write trusted_proxies = [\"10.0.0.0/8\"]",
                "herdgate.toml:2:42 wants a network between quotes, not a number",
            ],
        ),
        (
            "[listen]\ninsecure_anonymous = true\n[server]\ntrusted_proxies = [\"::1\", \"::1\"]\n",
            &[
                "herdgate.toml:2:22 wants a table, not true or false  hint: write insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }",
                "herdgate.toml:4:27 ::1 stands here twice",
            ],
        ),
        (
            "[listen]\ninsecure_anonymous = { networks = [], as = \"a b\", by = 1 }\n",
            &[
                "herdgate.toml:2:35 wants at least a network",
                "herdgate.toml:2:44 holds a blank  hint: leave it out",
                "herdgate.toml:2:51 unknown setting \"by\" of insecure_anonymous  hint: there are networks, as",
            ],
        ),
        (
            "[listen]\ninsecure_anonymous = { networks = [\"10.0.0.0/8\", \"0.0.0.0/0\"] }\n",
            &[
                "herdgate.toml:2:22 insecure_anonymous without as  hint: write insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }",
                "herdgate.toml:2:35 0.0.0.0/0 is not a private network: nobody is let in from there without a key  hint: name the network of the stack alone: docker network inspect NAME shows it",
            ],
        ),
        (
            "[listen]\naddress = \"8.8.8.8:1\"\ninsecure_anonymous = { networks = [\"10.0.0.0/8\"], as = \"a\" }\n",
            &[
                "herdgate.toml:2:11 the listener 8.8.8.8:1 is public, and would let callers in without a key  hint: listen on the address in the private network",
            ],
        ),
        (
            "[listen]\nredirect = true\n",
            &[
                "herdgate.toml:1:2 the listener [::]:7860 redirects, and no listener speaks TLS  hint: add a [[listen]] for it, and a certificate in [tls]",
            ],
        ),
        (
            "[listen]\naddress = \":1\"\ntls = true\n",
            &[
                "herdgate.toml:2:11 the listener [::]:1 has tls = true, and there is no certificate  hint: name one in [tls], or write self_signed = true there",
            ],
        ),
        (
            "tls.self_signed = true\n[[listen]]\naddress = \":1\"\n[[listen]]\naddress = \":2\"\nredirect = true\ntls = true\n[[listen]]\naddress = \":3\"\nredirect = true\ninsecure_anonymous = { networks = [\"10.0.0.0/8\"], as = \"a\" }\n",
            &[
                "herdgate.toml:3:11 the listener [::]:2 has tls = true and redirect = true  hint: leave tls out: who comes to be redirected does not speak TLS yet",
                "herdgate.toml:3:11 the listener [::]:3 redirects, and lets callers in without a key  hint: give each its own [[listen]]",
            ],
        ),
        (
            "upstreams = [\"http://localhost:7860\"]",
            &[
                "herdgate.toml:1:13 the upstream http://localhost:7860 is herdgate's own address  hint: name the Ollama server behind it, on another port or machine: --upstream URL",
            ],
        ),
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
