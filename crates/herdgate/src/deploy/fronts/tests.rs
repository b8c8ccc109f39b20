//! Fronts for every combination of settings and options: nginx and Caddy read theirs, a YAML reader those of the others, which are
//! compared with a text besides.

use super::{caddy, cloudflared, nginx, traefik};
use crate::deploy::testing::{all, likes, make, text, tool};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const ROUTES: &str = "[[upstream]]\nurl = \"http://gpu1:8000\"\nname = \"gpu1\"\nidle = \"30m\"\n\
                      [[route]]\npath = \"/tts/{rest}\"\nclass = \"infer\"\nupstream = \"gpu1\"\nupgrade = true\n";

fn settings() -> Vec<String> {
    let choices = all(&[
        &["", "[timeouts]\nidle = \"1d\"\n"],
        &[
            "",
            "[listen]\naddress = \"127.0.0.1:7860\"\n",
            "[listen]\naddress = \"[::1]:80\"\ntls = false\n",
            "[[listen]]\naddress = \":80\"\n[[listen]]\naddress = \"10.0.0.1:7861\"\n",
        ],
        &[
            "",
            "[tls]\nself_signed = true\n",
            "[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/gate.key\"\n",
        ],
        &["", ROUTES],
        &["", "[server]\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\n"],
    ]);
    choices.iter().map(|chosen| chosen.concat()).collect()
}

fn front() -> Vec<Vec<&'static str>> {
    let words =
        all(&[&["--name=ollama.example.com"], &["", "--gate=10.0.0.5:7860", "--front=10.0.0.9,fd00::9"]]);
    words.into_iter().map(|words| words.into_iter().filter(|word| !word.is_empty()).collect()).collect()
}

/// What every choice makes; choices without a listener of the port of `--gate` make nothing.
fn texts<A: clap::Args>(
    word: &str,
    name: &str,
    more: &[&'static str],
    kind: impl Fn(&A, &crate::deploy::Ground<'_>) -> anyhow::Result<crate::deploy::Deployment>,
) -> Vec<String> {
    let mut made = Vec::new();
    for settings in settings() {
        for front in front() {
            for more in more {
                let words: Vec<&str> =
                    front.iter().copied().chain(more.split(' ').filter(|word| !word.is_empty())).collect();
                match make(word, &settings, &words, &kind) {
                    Ok(deployment) => made.push(text(&deployment, name).to_owned()),
                    Err(error) => assert!(error.to_string().contains("--gate"), "{error}"),
                }
            }
        }
    }
    assert!(made.len() > 100, "{}", made.len());
    made.sort_unstable();
    made.dedup();
    made
}

/// A certificate and its key, for tools that read them.
fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["ollama.example.com".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn nginx_reads_every_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    certificate(dir.path());
    let mut http = String::new();
    for (number, text) in
        texts(super::NGINX, "herdgate.conf", &["", "--cert=c.pem --key=/etc/k.pem"], nginx).iter().enumerate()
    {
        let file = dir.path().join(format!("{number}.conf"));
        // Beside each other they need names of their own, and files that are there.
        let own: String = text
            .lines()
            .map(|line| match line.trim_start().split(' ').next() {
                Some("ssl_certificate") => format!("ssl_certificate {at}/cert.pem;\n"),
                Some("ssl_certificate_key") => format!("ssl_certificate_key {at}/key.pem;\n"),
                Some("proxy_ssl_trusted_certificate") => {
                    format!("proxy_ssl_trusted_certificate {at}/cert.pem;\n")
                }
                Some("server_name") => format!("server_name s{number}.example;\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let own = own
            .replace("upstream herdgate {", &format!("upstream herdgate{number} {{"))
            .replace("://herdgate;", &format!("://herdgate{number};"))
            .replace("$herdgate_connection", &format!("$herdgate_connection{number}"));
        fs::write(&file, own).unwrap();
        let _written = writeln!(http, "include {};", file.display());
    }
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};"))
        .join(" ");
    let main = format!(
        "pid {at}/pid; error_log stderr; events {{}}\nhttp {{ access_log off; variables_hash_max_size 4096; map_hash_max_size 65536; {temp}\n{http}}}\n"
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, main).unwrap();
    likes("nginx", &["-t", "-q", "-e", "stderr", "-p", &at.to_string(), "-c", file.to_str().unwrap()]);
}

#[test]
fn caddy_reads_every_site() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path());
    let ca = dir.path().join("cert.pem").display().to_string();
    let sites: String = texts(super::CADDY, "Caddyfile", &[""], caddy)
        .iter()
        .enumerate()
        .map(|(number, text)| {
            text.replace("\nollama.example.com {", &format!("\ns{number}.example {{"))
                .replace("/etc/herdgate/tls-ca.pem", &ca)
        })
        .collect();
    let file = dir.path().join("Caddyfile");
    fs::write(&file, sites).unwrap();
    likes("caddy", &["validate", "--adapter", "caddyfile", "--config", file.to_str().unwrap()]);
}

#[test]
fn the_others_are_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let traefik =
        texts(super::TRAEFIK, "herdgate.yml", &["", "--entry-point=https --cert-resolver=le"], traefik);
    let cloudflared = texts(
        super::CLOUDFLARED,
        "config.yml",
        &["--tunnel=6ff42ae2-765d-4adf-8112-31c55c1551ef", "--tunnel=gpu --credentials=/root/c.json"],
        cloudflared,
    );
    let all: Vec<String> =
        traefik.into_iter().chain(cloudflared).map(|text| format!("---\n{text}")).collect();
    let file = dir.path().join("all.yml");
    fs::write(&file, all.concat()).unwrap();
    if tool("python3", &["-c", "import yaml"]).is_none_or(|output| !output.status.success()) {
        return;
    }
    let reader = "import sys, yaml\nfor doc in yaml.safe_load_all(open(sys.argv[1])):\n    \
                  assert 'http' in doc and doc['http']['services']['herdgate']['loadBalancer']['servers'][0]['url'].startswith('http') \
                  or doc['ingress'][0]['hostname'] == 'ollama.example.com' and doc['ingress'][-1] == {'service': 'http_status:404'}, doc\n";
    likes("python3", &["-c", reader, file.to_str().unwrap()]);
}

#[test]
fn traefik_is_told_this() {
    let made =
        make(super::TRAEFIK, "", &["--name=ollama.example.com", "--cert-resolver=le"], traefik).unwrap();
    let expected = "\
http:
  routers:
    herdgate:
      rule: \"Host(`ollama.example.com`)\"
      entryPoints:
        - \"websecure\"
      service: herdgate
      tls:
        certResolver: \"le\"
  services:
    herdgate:
      loadBalancer:
        # X-Forwarded-For and X-Forwarded-Proto are Traefik's own; no middleware with buffering belongs here.
        passHostHeader: true
        serversTransport: herdgate
        # Answers go on as they are made.
        responseForwarding:
          flushInterval: \"-1ns\"
        servers:
          - url: \"http://127.0.0.1:7860\"
  serversTransports:
    herdgate:
      disableHTTP2: true
      forwardingTimeouts:
        dialTimeout: \"5s\"
        # Longer than the gate waits (queue.max_wait and timeouts.idle): a model that loads is silent.
        responseHeaderTimeout: \"660s\"
        idleConnTimeout: \"60s\"
";
    assert_eq!(text(&made, "herdgate.yml").split_once("\n\n").unwrap().1, expected);
    assert!(
        made.notes.iter().any(|note| note.contains("respondingTimeouts.readTimeout: \"660s\"")),
        "{:?}",
        made.notes
    );
}

#[test]
fn cloudflared_is_told_this_and_keeps_what_else_it_serves() {
    let made = make(
        super::CLOUDFLARED,
        "",
        &["--name=ollama.example.com", "--tunnel=6ff42ae2-765d-4adf-8112-31c55c1551ef"],
        cloudflared,
    )
    .unwrap();
    let expected = "\
tunnel: \"6ff42ae2-765d-4adf-8112-31c55c1551ef\"
credentials-file: \"/etc/cloudflared/6ff42ae2-765d-4adf-8112-31c55c1551ef.json\"

ingress:
  - hostname: \"ollama.example.com\"
    service: \"http://127.0.0.1:7860\"
    originRequest:
      connectTimeout: 5s
      keepAliveTimeout: 60s
      # A body goes on as it comes, with no length that nobody knows yet.
      disableChunkedEncoding: false
  # Nothing else of this machine is open.
  - service: http_status:404
";
    assert_eq!(text(&made, "config.yml").split_once("\n\n").unwrap().1, expected);
    assert_eq!(made.files[0].way, crate::deploy::Way::Sole);
    let moved = "~/.cloudflared/6ff42ae2-765d-4adf-8112-31c55c1551ef.json /etc/cloudflared/6ff42ae2-765d-4adf-8112-31c55c1551ef.json";
    assert!(made.notes.iter().any(|note| note.ends_with(moved)), "{:?}", made.notes);
}

#[test]
fn a_tunnels_name_says_not_where_its_credentials_are() {
    for name in ["gpu", "6ff42ae2", "6ff42ae2-765d-4adf-8112-31c55c1551eg"] {
        let tunnel = format!("--tunnel={name}");
        let error = make(super::CLOUDFLARED, "", &["--name=a.example", &tunnel], cloudflared)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--tunnel ID\nhint: ") && error.contains("--credentials FILE"), "{error}");
        let named =
            make(super::CLOUDFLARED, "", &["--name=a.example", &tunnel, "--credentials=c.json"], cloudflared)
                .unwrap();
        assert!(text(&named, "config.yml").contains("credentials-file: \"/srv/c.json\""));
    }
}

#[test]
fn who_must_be_trusted_is_said_until_it_is() {
    let notes = |settings: &str, words: &[&str]| {
        let words: Vec<&str> = ["--name=a.example"].into_iter().chain(words.iter().copied()).collect();
        make(super::NGINX, settings, &words, nginx).unwrap().notes.join("\n")
    };
    assert!(notes("", &[]).contains("trusted_proxies = [\"127.0.0.1\", \"::1\"]"));
    assert!(notes("", &["--front=10.0.0.9"]).contains("trusted_proxies = [\"10.0.0.9\"]"));
    assert!(notes("", &[]).contains("past the front"));
    let trusting = "[listen]\naddress = \"127.0.0.1:7860\"\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\n";
    assert_eq!(notes(trusting, &[]), "");
}

#[test]
fn the_front_waits_longer_than_the_gate() {
    let waits = |settings: &str| {
        let made = make(super::NGINX, settings, &["--name=a.example"], nginx).unwrap();
        text(&made, "herdgate.conf").contains("proxy_read_timeout 1860s;")
    };
    assert!(waits("[timeouts]\nidle = \"30m\"\n") && waits(ROUTES));
    assert!(!waits(""));
}

#[test]
fn a_gate_that_speaks_tls_is_looked_at() {
    let own = make(super::NGINX, "[tls]\nself_signed = true\n", &["--name=a.example"], nginx).unwrap();
    let own = text(&own, "herdgate.conf").to_owned();
    assert!(
        own.contains("proxy_pass https://herdgate;")
            && own.contains("trusted_certificate /var/lib/herdgate/tls-ca.pem;"),
        "{own}"
    );
    // By a name that its own certificate is for.
    assert!(own.contains("proxy_ssl_verify on;") && own.contains("proxy_ssl_name localhost;"), "{own}");
    let elsewhere = make(
        super::NGINX,
        "[tls]\nself_signed = true\n",
        &["--name=a.example", "--gate=10.0.0.5:7860"],
        nginx,
    );
    let notes = elsewhere.unwrap().notes;
    assert!(
        notes.iter().any(|note| note.contains("tls-ca.pem is on the gate's machine, 10.0.0.5")),
        "{notes:?}"
    );
    let own = make(super::CADDY, "[tls]\nself_signed = true\n", &["--name=a.example"], caddy).unwrap();
    assert!(text(&own, "Caddyfile").contains("tls_trusted_ca_certs /etc/herdgate/tls-ca.pem\n"));
    let copies = "install -D -m 0644 /var/lib/herdgate/tls-ca.pem /etc/herdgate/tls-ca.pem";
    assert_eq!(own.then[0].to_string(), copies, "Caddy's user cannot read it where it lies");
    let files = "[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/gate.key\"\n";
    let named = make(super::NGINX, files, &["--name=a.example"], nginx).unwrap();
    assert!(text(&named, "herdgate.conf").contains("proxy_ssl_name a.example;"));
}

#[test]
fn a_name_is_a_name() {
    for name in ["a;b", "a b", "{", "-x", "", "a\nb", "*.example"] {
        assert!(make(super::NGINX, "", &[&format!("--name={name}")], nginx).is_err(), "{name:?}");
    }
    assert!(make(super::NGINX, "", &[], nginx).unwrap_err().to_string().contains("hint: --name"));
    let acme =
        make(super::CADDY, "[tls]\ndomain = \"b.example\"\n[[listen]]\naddress = \":443\"\n", &[], caddy)
            .unwrap();
    assert!(text(&acme, "Caddyfile").contains("\nb.example {\n"));
    assert!(
        make(super::CADDY, "[listen]\naddress = \":0\"\n", &["--name=a.example"], caddy)
            .unwrap_err()
            .to_string()
            .contains("--gate")
    );
}

#[test]
fn nginx_is_told_this() {
    let made = make(super::NGINX, "", &["--name=ollama.example.com"], nginx).unwrap();
    let file = text(&made, "herdgate.conf");
    for line in [
        "listen 443 ssl;",
        "server_name ollama.example.com;",
        "ssl_certificate /etc/letsencrypt/live/ollama.example.com/fullchain.pem;",
        "ssl_certificate_key /etc/letsencrypt/live/ollama.example.com/privkey.pem;",
        "proxy_pass http://herdgate;",
        "proxy_set_header Host $http_host;",
        // What a client says of itself is not passed on: the gate trusts this front.
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "client_max_body_size 0;",
    ] {
        assert!(file.lines().any(|one| one.trim() == line), "no {line} in\n{file}");
    }
}
