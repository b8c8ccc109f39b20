//! `[[upstream]]`: all that may be said of one, what is wrong with it, and that no secret is shown.

mod sources;

use gate_config::{Upstream, changes, rows, to_toml};
use sources::{Said, load};
use std::time::Duration;

const FULL: &str = r#"
[[upstream]]
url = "https://gpu1.example/ollama"
name = "gpu1"
weight = 2
slots = 4
token_file = "/t/token"
headers = { X-Team = "canary-team" }
ca = "/t/cert.pem"
client_cert = "/t/cert.pem"
client_key = "/t/key.pem"
connect = "1s"
idle = "2m"
models = ["qwen3:8b", "qwen3:8b", "demo"]

[[upstream]]
url = "gpu2"
"#;

fn file(text: &str) -> Said<'_> {
    Said { file: Some(text), ..Said::default() }
}

#[test]
fn all_that_is_said_is_heard() {
    let config = load(file(FULL)).unwrap().config;
    let [first, second] = &config.upstreams[..] else { unreachable!() };
    assert!(config.upstreams_given);
    assert_eq!(first.to_string(), "gpu1 (https://gpu1.example:443/ollama)");
    assert_eq!((first.weight, first.slots), (2, Some(4)));
    assert_eq!(first.token.as_ref().unwrap().text.expose(), "canary-token");
    assert_eq!((first.headers[0].name.as_str(), first.headers[0].value.expose()), ("X-Team", "canary-team"));
    assert!(first.ca.is_some() && first.client.is_some() && first.has_credential());
    assert_eq!((first.connect, first.idle), (Some(Duration::from_secs(1)), Some(Duration::from_mins(2))));
    let models: Vec<_> = first.models.iter().map(|model| model.short().to_owned()).collect();
    assert_eq!(models, ["qwen3:8b", "demo:latest"]);
    assert_eq!(first.files().count(), 4);
    assert_eq!(*second, Upstream { ..Upstream::at(second.url.clone()) });
    assert!(second.is_plain() && second.to_string() == "http://gpu2:11434");
}

#[test]
fn no_secret_is_shown_and_the_rest_is_read_back() {
    let loaded = load(file(FULL)).unwrap();
    let toml = to_toml(&loaded, true);
    let shown = format!("{:?}\n{toml}\n{:?}", loaded.config, rows(&loaded));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(
        toml.contains("# headers = { X-Team = \"…\" }") && toml.contains("token_file = \"/t/token\""),
        "{toml}"
    );
    let again = load(file(&toml)).unwrap();
    let mut upstreams = again.config.upstreams;
    upstreams[0].headers.clone_from(&loaded.config.upstreams[0].headers);
    assert_eq!(upstreams, loaded.config.upstreams);
}

#[test]
fn another_credential_is_a_change_that_shows_none() {
    let with = |value: &str| {
        load(file(&format!("[[upstream]]\nurl = \"https://a\"\nheaders = {{ X-Key = \"{value}\" }}\n")))
            .unwrap()
    };
    let told: Vec<_> =
        changes(&with("canary-1"), &with("canary-2")).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["upstream is another"]);
    assert_eq!(changes(&with("canary-1"), &with("canary-1")), []);
}

#[test]
fn a_flag_or_a_variable_replaces_all_of_them() {
    let all = [
        Said { upstream: &["http://b"], ..file(FULL) },
        Said { env: &[("HERDGATE_UPSTREAMS", "http://b")], ..file(FULL) },
    ];
    for said in all {
        let config = load(said).unwrap().config;
        assert_eq!(config.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http://b:80"]);
    }
}

#[test]
fn every_problem_is_told_at_its_place() {
    let rows: &[(&str, &[&str])] = &[
        (
            "[[upstream]]\n",
            &["herdgate.toml:1:1 an upstream without url  hint: write url = \"http://host:11434\""],
        ),
        (
            "upstreams = [\"http://a\"]\n[[upstream]]\nurl = \"http://b\"\n",
            &[
                "herdgate.toml:2:1 [[upstream]], and upstreams at herdgate.toml:1:13  hint: write all of them in one way, [[upstream]] with url for each",
            ],
        ),
        (
            "upstreams = [{ url = \"http://a\" }]\n",
            &[
                "herdgate.toml:1:14 wants an upstream's address between quotes, not a table  hint: write [[upstream]], and below it url = \"http://host:11434\" and all else about it",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://user:canary@a\"\n",
            &[
                "herdgate.toml:2:7 this upstream has credentials (or another \"@\") in it  hint: write \"https://host:port\" without them; a credential stands in its [[upstream]]: token_file, or headers",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nname = \"x\"\n[[upstream]]\nurl = \"http://b\"\nname = \"x\"\n",
            &[
                "herdgate.toml:4:1 there is an [[upstream]] \"x\" at herdgate.toml:1:1 already  hint: give each its own name",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\n[[upstream]]\nurl = \"http://a:80/\"\nname = \"x\"\n",
            &["herdgate.toml:3:1 the upstream http://a:80 stands here twice"],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nname = \"a b\"\nweight = 0\nslots = 0\nconnect = \"0s\"\nidle = 3\n",
            &[
                "herdgate.toml:3:8 \"a b\" is no upstream's name  hint: names are 1 to 64 of A-Z a-z 0-9 . _ -",
                "herdgate.toml:4:10 wants a whole number from 1 to 100",
                "herdgate.toml:5:9 wants a whole number from 1 to 65536",
                "herdgate.toml:6:11 0s is below what is allowed: 100ms to 1m",
                "herdgate.toml:7:8 3 has no unit  hint: write it like \"10s\"; from 1s to 1d",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nwieght = 1\ntoken = \"canary\"\ninsecure = true\n",
            &[
                "herdgate.toml:3:1 unknown setting \"wieght\" of an upstream  hint: did you mean \"weight\"?",
                "herdgate.toml:4:1 unknown setting \"token\" of an upstream  hint: a secret stands in a file of its own: token_file = \"/run/secrets/upstream\"",
                "herdgate.toml:5:1 unknown setting \"insecure\" of an upstream  hint: certificates are always checked; name the authority's file: ca = \"/etc/ssl/own-ca.pem\"",
            ],
        ),
        (
            "[[upstream]]\nurl = \"https://a\"\ntoken_file = \"/t/none\"\nca = \"/t/key.pem\"\nclient_cert = \"/t/cert.pem\"\n",
            &[
                "herdgate.toml:1:1 client_cert without client_key  hint: name both files of the pair, or neither",
                "herdgate.toml:3:14 cannot read /t/none: entity not found",
                "herdgate.toml:4:6 /t/key.pem holds nothing in PEM that ca wants  hint: name the file with BEGIN CERTIFICATE",
            ],
        ),
        (
            "[[upstream]]\nurl = \"https://a\"\ntoken_file = \"/t/empty\"\n",
            &[
                "herdgate.toml:3:14 /t/empty holds no token  hint: the file holds the token alone, on one line, without \"Bearer\"",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nca = \"/t/cert.pem\"\ntoken_file = \"/t/token\"\nheaders = { authorization = \"Basic canary\" }\n",
            &[
                "herdgate.toml:3:1 ca for an upstream without TLS  hint: write https:// in its url",
                "herdgate.toml:5:1 Authorization in headers, and token_file  hint: token_file is sent as Authorization: leave one of the two out",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nheaders = { Host = \"canary\", \"a b\" = \"canary\", X-Key = \"can\\nary\", x_a = \"1\" }\n",
            &[
                "herdgate.toml:3:20 herdgate writes the field Host itself",
                "herdgate.toml:3:38 \"a b\" is no name of a field",
                "herdgate.toml:3:56 the value of X-Key is empty, too long, or not what a field can hold",
                "herdgate.toml:3:74 \"x_a\" is no name of a field",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nname = \"tts\"\nollama = false\n",
            &[
                "herdgate.toml:1:1 no [[route]] leads to the upstream tts (http://a:80), which is no Ollama  hint: write [[route]] with path, class and upstream = its name, or leave out ollama = false",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nollama = false\nslots = 2\nmodels = [\"demo\"]\n[[upstream]]\nurl = \"http://b\"\nollama = \"no\"\n",
            &[
                "herdgate.toml:4:1 slots for an upstream that is no Ollama  hint: it is about running models: leave it out, or ollama = false",
                "herdgate.toml:5:1 models for an upstream that is no Ollama  hint: it is about running models: leave it out, or ollama = false",
                "herdgate.toml:8:10 wants true or false, not a text  hint: ollama = false: it speaks something else, which a [[route]] leads to",
            ],
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nmodels = [\"demo\", \"no name\", 3]\n",
            &[
                "herdgate.toml:3:19 \"no name\" is no model's name",
                "herdgate.toml:3:30 wants a model's name between quotes, not a number",
            ],
        ),
    ];
    for (text, expected) in rows {
        let problems = load(file(text)).unwrap_err();
        assert!(!problems.concat().contains("canary"), "{problems:?}");
        assert_eq!(problems.len(), expected.len(), "{text}\n{problems:#?}");
        for (problem, expected) in problems.iter().zip(*expected) {
            assert!(problem.starts_with(expected), "{text}\n{problem}\n{expected}");
        }
    }
}

#[test]
fn a_credential_in_clear_is_a_warning() {
    let warnings = |url: &str| {
        let text = format!("[[upstream]]\nurl = \"{url}\"\ntoken_file = \"/t/token\"\n");
        let loaded = load(file(&text)).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("http://gpu1:11434"),
        [
            "herdgate.toml:1:1 the credential for http://gpu1:11434 crosses the network in clear  hint: speak TLS with it: write https:// in its url"
        ]
    );
    for fine in ["https://gpu1", "http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:2"] {
        assert_eq!(warnings(fine), Vec::<String>::new());
    }
}

#[test]
fn models_of_the_local_ollama_beside_named_upstreams_are_a_warning() {
    let text = "[local]\nmodels = [\"qwen3:8b\", \"gemma3\"]\n";
    let warnings = |text: &str| load(file(text)).unwrap().warnings;
    assert_eq!(warnings(text), []);
    let named = warnings(&format!("{text}[[upstream]]\nurl = \"http://gpu1:11434\"\n"));
    let told = "herdgate.toml:2:10 qwen3:8b is not pulled: the upstreams were named, so that they are not the gate's to fill  \
                hint: say per upstream what it shall have: [[upstream]] models";
    assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
}
