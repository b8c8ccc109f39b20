//! `herdgate doctor` before real servers: each thing that can be wrong is the first that it calls wrong, with a cure; and once that
//! was run, nothing is wrong any more.

mod container;
mod listed;
mod machine;
mod network;
mod own;
mod proxies;
mod running;

use crate::harness::{Home, Peer, Running, front, now, testkit};
use gate_testkit::{Failure, Fault, Model, Ollama, Order, Setup};
use serde_json::Value;
use std::time::Duration;

/// What it found.
pub(super) struct Report {
    code: i32,
    pub(super) findings: Vec<Value>,
}

impl Report {
    #[track_caller]
    pub(super) fn read(code: i32, out: &str, err: &str) -> Self {
        let told: Value = serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"));
        let findings = told["findings"].as_array().unwrap().clone();
        let is_sound = findings.iter().all(|finding| finding["mark"] != "bad");
        assert_eq!((told["ok"] == true, code == 0), (is_sound, is_sound), "{out}");
        findings.iter().for_each(|finding| is_understood(&finding["cure"]));
        Self { code, findings }
    }

    /// The first thing that is wrong must be of this check and be told so.
    #[track_caller]
    pub(super) fn first(&self, check: &str, seen: &str) -> &Value {
        assert_eq!(self.code, 1, "{:#?}", self.findings);
        let first = self.findings.iter().find(|finding| finding["mark"] == "bad").unwrap();
        let told = first["seen"].as_str().unwrap();
        assert!(first["check"] == check && told.contains(seen), "{first:#}");
        assert!(first["why"].as_str().is_some_and(|why| !why.is_empty()), "{first:#}");
        first
    }

    /// The commands that cure it.
    #[track_caller]
    pub(super) fn cure(&self, check: &str, seen: &str) -> Vec<String> {
        commands(&self.first(check, seen)["cure"])
    }

    #[track_caller]
    pub(super) fn is_sound(&self) {
        assert_eq!(self.code, 0, "{:#?}", self.findings);
    }

    #[track_caller]
    pub(super) fn warns(&self, check: &str, seen: &str) -> &Value {
        let is_it = |finding: &&Value| {
            finding["mark"] == "warn"
                && finding["check"] == check
                && finding["seen"].as_str().unwrap().contains(seen)
        };
        self.findings.iter().find(is_it).unwrap_or_else(|| panic!("{:#?}", self.findings))
    }

    /// Nothing that this check says is worth a look.
    #[track_caller]
    pub(super) fn is_well(&self, check: &str) {
        let is_ill = |finding: &&Value| finding["check"] == check && finding["mark"] != "ok";
        assert_eq!(self.findings.iter().find(is_ill), None);
    }
}

/// What a cure says of our own program, that understands.
#[track_caller]
fn is_understood(cure: &Value) {
    for command in cure["run"].as_array().into_iter().flatten() {
        // What nobody but the reader knows.
        let text =
            command.as_str().unwrap().replace("NETWORK", "192.0.2.0/24").replace("GATE_ADDRESS", "192.0.2.1");
        let words = text.strip_prefix("sudo ").unwrap_or(&text).strip_prefix("herdgate ");
        let Some(words) = words else { continue };
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_herdgate"));
        let done = program.args(words.split(' ')).arg("--help").output().unwrap();
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
    }
    cure["or"].as_array().into_iter().flatten().for_each(is_understood);
}

#[track_caller]
pub(super) fn commands(cure: &Value) -> Vec<String> {
    let all = cure["run"].as_array().unwrap_or_else(|| panic!("no cure: {cure}"));
    all.iter().map(|command| command.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
pub(super) fn doctor(home: &Home, args: &[&str]) -> Report {
    let done = home.run(&[&["doctor", "--json"], args].concat());
    Report::read(done.code, &done.out, &done.err)
}

/// Runs the command that a cure tells, which is one of ours.
#[track_caller]
fn follow(home: &Home, command: &str) -> Report {
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(words[..2], ["herdgate", "doctor"], "{command}");
    doctor(home, &words[2..])
}

/// Runs `deploy ollama-override` as a cure tells it, below a folder of its own, and gives the variables that the drop-in sets: those
/// with which systemd would start Ollama anew.
#[track_caller]
fn overridden(home: &Home, command: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = command.split(' ').filter(|word| *word != "--run").collect();
    assert_eq!(words[..4], ["sudo", "herdgate", "deploy", "ollama-override"], "{command}");
    let root = home.path("root");
    let done = home.run(&[&words[2..], &["--yes", "--root", root.to_str().unwrap()]].concat());
    assert_eq!(done.code, 0, "{command}: {}", done.err);
    let drop_in = root.join("etc/systemd/system/ollama.service.d/zz-herdgate.conf");
    let text = std::fs::read_to_string(drop_in).unwrap();
    let pairs = text.lines().filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"'));
    pairs
        .map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect()
}

fn slow(pace: u64) -> Ollama {
    testkit(Setup::default().with_tokens(16).with_pace(Duration::from_millis(pace)))
}

#[test]
fn a_healthy_server_has_nothing_wrong() {
    let home = Home::new();
    for peer in Peer::all() {
        doctor(&home, &[&peer.url()]).is_sound();
        let report = doctor(&home, &[&peer.url(), "--model", peer.model()]);
        report.is_sound();
        let asked = report.findings.iter().any(|finding| finding["check"] == "question");
        assert!(asked, "{}: {:#?}", peer.name(), report.findings);
    }
}

#[test]
fn a_healthy_gate_has_nothing_wrong_here_and_from_afar() {
    let home = Home::new();
    let ollama = slow(1);
    let gate = home.begin(&["--upstream", &ollama.url()]);
    let (port, url) = (gate.address.port(), gate.url());
    gate.takes(&gate.first_key());
    let settings = format!("upstreams = [\"{}\"]\n[listen]\naddress = \"127.0.0.1:{port}\"\n", ollama.url());
    std::fs::write(home.path("herdgate.toml"), settings).unwrap();
    let here = doctor(&home, &[]);
    here.is_sound();
    for about in [ollama.url(), url.clone()] {
        assert!(here.findings.iter().any(|finding| finding["about"] == about), "{:#?}", here.findings);
    }
    let key_file = home.data("first-key");
    let afar = doctor(&home, &["--as-client", &url, "--key-file", key_file.to_str().unwrap()]);
    afar.is_sound();
    let told = |check: &str| afar.findings.iter().any(|finding| finding["check"] == check);
    assert!(told("client") && told("question"), "{:#?}", afar.findings);
    gate.end();
}

#[test]
fn one_question_of_sixteen_tokens_is_asked_or_none() {
    let home = Home::new();
    let ollama = slow(0);
    doctor(&home, &[&ollama.url(), "--no-inference"]).is_sound();
    assert!(ollama.seen_on("/api/generate").is_empty());
    doctor(&home, &[&ollama.url()]).is_sound();
    let asked = ollama.seen_on("/api/generate");
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert!(asked.len() == 1 && body["options"]["num_predict"] == 16, "{body}");
}

#[test]
fn wrong_usage_is_told_and_is_64() {
    let home = Home::new();
    for (args, said) in [
        (&["doctor", "ftp://x"][..], "hint: write a URL or host:port"),
        (&["doctor", "http://user:pw@x"], "credentials"),
        (&["doctor", "--as-client"], "TARGET"),
        (&["doctor", "--as-client", "x"], "HERDGATE_KEY"),
        (&["doctor", "--json", "--facts", "x"], "cannot be used with"),
    ] {
        let done = home.run(args);
        assert!(done.code == 64 && done.err.contains(said), "{args:?}: {} {}", done.code, done.err);
    }
    let lines = Home::new().env("LANG", "C.UTF-8").run(&["doctor", "http://127.0.0.1:1"]);
    assert!(lines.code == 1 && lines.out.contains("  \u{2717} port "), "{}", lines.out);
    let facts = home.run(&["doctor", "--facts", "http://127.0.0.1:1"]);
    let facts: Value = serde_json::from_str(&facts.out).unwrap();
    assert_eq!(facts["places"][0]["dials"][0]["end"], "refused");
}

/// Asked for TLS where none is spoken.
#[test]
fn tls_on_a_plain_port() {
    let (home, ollama) = (Home::new(), slow(0));
    let report = doctor(&home, &[&format!("https://{}", ollama.addr)]);
    let cure = report.cure("certificate", "speaks plain HTTP, and was asked for TLS");
    follow(&home, &cure[0]).is_sound();
}

/// Asked in plain where TLS is spoken, and by an authority that nobody here knows.
#[test]
fn plain_http_on_a_tls_port_and_an_unknown_authority() {
    let (home, ollama) = (Home::new().settings("[tls]\nself_signed = true\n"), slow(0));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let plain = doctor(&home, &[&format!("http://{}", gate.address)]);
    let cure = plain.cure("answer", "speaks TLS, and was asked in plain HTTP");
    let unknown = follow(&home, &cure[0]);
    let cure = unknown.cure("certificate", "nobody whom this machine trusts");
    let own = home.data("tls-ca.pem");
    follow(&home, &cure[0].replace("tls-ca.pem", own.to_str().unwrap())).is_sound();
    gate.end();
}

/// The certificate has expired.
#[test]
fn an_expired_certificate() {
    let (home, ollama) = (Home::new(), slow(0));
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut old =
        rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    old.not_before = rcgen::date_time_ymd(2020, 1, 1);
    old.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let cert = old.self_signed(&pair).unwrap();
    std::fs::write(home.path("old.pem"), cert.pem()).unwrap();
    std::fs::write(home.path("old.key"), pair.serialize_pem()).unwrap();
    let tls = |settings: &str| std::fs::write(home.path("herdgate.toml"), settings).unwrap();
    let nginx = front::find("nginx");
    let Some(nginx) = nginx else { return };
    let lines = format!(
        "server {{ listen 127.0.0.1:PORT ssl; ssl_certificate {0}/old.pem; ssl_certificate_key {0}/old.key; \
         location / {{ proxy_pass {1}; }} }}",
        home.path("").display(),
        ollama.url()
    );
    let address = crate::harness::peer::free_port();
    let server = front::nginx(
        &home,
        std::process::Command::new(nginx),
        &lines.replace("PORT", &address.port().to_string()),
    );
    front::listens(address);
    let url = format!("https://{address}");
    let expired = doctor(&home, &[&url, "--ca", home.path("old.pem").to_str().unwrap()]);
    let cure = expired.cure("certificate", "was good until 2021-01-01");
    drop(server);
    // The gate in the place of that proxy, with the lines of the cure.
    tls(&cure[0]);
    let gate = home.begin_at(&address.to_string(), &["--upstream", &ollama.url()]);
    doctor(&home, &[&url, "--ca", home.data("tls-ca.pem").to_str().unwrap()]).is_sound();
    gate.end();
}

/// The model that is wanted is not there.
#[test]
fn a_model_that_is_missing_is_pulled_through_the_gate() {
    let (home, ollama) = (Home::new(), slow(0));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let key = home.key("laptop", &["--scope", "infer,read,manage"]);
    gate.takes(&key);
    let client = Home::new().env("HERDGATE_KEY", &key);
    let args = ["--as-client", &gate.url(), "--model", "demo2"];
    let report = doctor(&client, &args);
    let cure = report.cure("model", "has no demo2; nearest: demo:latest");
    // The test kit's pull tells as Ollama's does, and keeps nothing.
    let words: Vec<&str> = cure[0].split(' ').skip(1).collect();
    let pulled = client.run(&words);
    assert_eq!(pulled.code, 0, "{}: {}", cure[0], pulled.err);
    ollama.change(|setup| setup.models.push(Model::named("demo2")));
    crate::harness::until("the gate to see it", || (doctor(&client, &args).code == 0).then_some(()));
    gate.end();
}

/// The model is larger than the memory.
#[test]
fn a_model_that_is_too_large_has_a_smaller_sibling() {
    let home = Home::new();
    let ollama = testkit(Setup::default().with_models(&["qwen3:8b", "qwen3:1.7b"]));
    ollama.change(|setup| setup.models[1].size = 1_000);
    ollama.order(Order::once(Fault::Fail(Failure::OutOfMemory)).on("/api/generate"));
    let report = doctor(&home, &[&ollama.url(), "--model", "qwen3:8b"]);
    let cure = report.cure("question", "requires more system memory");
    follow(&home, &cure[0]).is_sound();
    let asked: Value = serde_json::from_slice(&ollama.seen_on("/api/generate")[1].body).unwrap();
    assert_eq!(asked["model"], "qwen3:1.7b");
}

/// The same, seen before it is asked: it would never fit into this machine.
#[test]
fn a_model_that_can_never_fit_is_not_asked() {
    let home = Home::new();
    let ollama = testkit(Setup::default().with_models(&["qwen3:235b", "qwen3:8b"]));
    ollama.change(|setup| setup.models[0].size = 1 << 50);
    let report = doctor(&home, &[&ollama.url(), "--model", "qwen3:235b"]);
    let cure = report.cure("memory", "qwen3:235b has 1048576.0 GiB, and this machine has");
    assert!(ollama.seen_on("/api/generate").is_empty());
    let small = follow(&home, &cure[0]);
    small.is_sound();
    small.warns("memory", "qwen3:235b does not fit into memory");
}

/// The key is none of the gate's.
#[test]
fn a_key_that_the_gate_does_not_know() {
    let (home, ollama) = (Home::new(), slow(0));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let wrong = Home::new().env("HERDGATE_KEY", "sk-hg-0000000000000000000000000000000000000000");
    let report = doctor(&wrong, &["--as-client", &gate.url()]);
    let first = report.first("client", "the key is refused with 401");
    let made = commands(&first["cure"]["or"][0]);
    assert_eq!(made, ["herdgate key create NAME"]);
    let key = home.key("laptop", &[]);
    gate.takes(&key);
    doctor(&Home::new().env("HERDGATE_KEY", &key), &["--as-client", &gate.url()]).is_sound();
    gate.end();
}

/// An upstream of the gate wants a key, and the settings give none.
#[test]
fn an_upstream_that_wants_a_key() {
    let (inner, ollama) = (Home::new(), slow(0));
    let behind = inner.serve(&["--upstream", &ollama.url()]);
    let key = inner.key("gate", &[]);
    behind.takes(&key);
    let home = Home::new().settings(&format!("upstreams = [\"{}\"]\n", behind.url()));
    let report = doctor(&home, &[]);
    let cure = report.cure("model", "wants a key, and the settings give none");
    let file = home.path("upstream-token");
    std::fs::write(&file, key).unwrap();
    std::os::unix::fs::chown(&file, None, None).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let lines = cure[0].replace("/etc/herdgate/upstream-token", file.to_str().unwrap());
    std::fs::write(home.path("herdgate.toml"), lines).unwrap();
    doctor(&home, &[]).is_sound();
    behind.end();
}

/// A version with a hole that every page in a browser can use.
#[test]
fn a_version_with_an_open_hole() {
    let (home, ollama) = (Home::new(), slow(0));
    ollama.change(|setup| setup.version = "0.1.28".to_owned());
    let report = doctor(&home, &[&ollama.url()]);
    let cure = report.cure("version", "CVE-2024-28224");
    assert_eq!(cure[0], "curl -fsSL https://ollama.com/install.sh | sh");
    // What the installer would do.
    ollama.change(|setup| setup.version = "0.35.0".to_owned());
    follow(&home, &format!("{} {}", cure[1], ollama.url())).is_sound();
}

/// Nobody listens; a proxy listens, and nobody behind it.
#[test]
fn a_server_that_does_not_run() {
    let Some(nginx) = front::find("nginx") else { return };
    // A machine where nobody else has a port that an Ollama or a gate could have.
    let Some(wire) = network::Wire::new() else { return };
    let home = Home::new().through(&wire.net.moves_into("server"));
    let ollama = wire.ollama("127.0.0.1:0");
    let text = format!("server {{ listen 127.0.0.1:8080; location / {{ proxy_pass {}; }} }}", ollama.url());
    let _running: Running = front::nginx(&home, wire.net.command("server", &nginx), &text);
    wire.net.within("server", || front::listens("127.0.0.1:8080".parse().unwrap()));
    let proxy = "http://127.0.0.1:8080".to_owned();
    now(ollama.refuse()).unwrap();
    for (url, check, seen) in [
        (ollama.url(), "port", "refuses connections"),
        (proxy.clone(), "answer", "a proxy whose server is away"),
    ] {
        assert_eq!(doctor(&home, &[&url]).cure(check, seen), ["sudo systemctl start ollama"]);
    }
    // What systemd would do.
    wire.net.within("server", || now(ollama.accept()).unwrap());
    doctor(&home, &[&ollama.url()]).is_sound();
    doctor(&home, &[&proxy]).is_sound();
}

/// What is no failure is told all the same.
#[test]
fn what_is_worth_a_look() {
    let home = Home::new();
    let ollama = slow(0);
    let report = doctor(&home, &[&ollama.url(), "--context", "8192"]);
    report.is_sound();
    let told = format!("{:?}", report.findings);
    assert!(told.contains("demo:latest, embedder:latest run on the CPU"), "{told}");
    report.warns("model", "has 512 tokens of context, and 8192 are wanted");
    let open =
        b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n".to_vec();
    let play = Fault::Play { bytes: open, cuts: gate_testkit::Cuts::Whole, then: gate_testkit::Then::Close };
    // Of all questions for the listing the preflight is the one without a key that the test kit would refuse.
    let any = testkit(Setup::default());
    any.order(Order::always(play).on("/api/tags"));
    doctor(&home, &[&any.url()]).warns("origins", "pages of any origin");
    let old = testkit(Setup::default());
    doctor(&home, &[&old.url()]).warns("version", "Ollama 0.32.15 has CVE-2026-108836");
    let nobody = home.run(&["doctor", "--after-update", &old.url()]);
    assert!(nobody.out.contains("update"), "{}", nobody.out);
}
