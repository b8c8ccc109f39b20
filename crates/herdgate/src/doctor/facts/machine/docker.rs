//! Containers that are an Ollama, or that ask one: what they publish, whom they ask, and by which names.
//!
//! Of a container's variables only those that name Ollama's address are kept.

use super::{shown, tool};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;

/// Who runs containers, and tells of them in the same words.
pub(in crate::doctor::facts) const ENGINES: [&str; 2] = ["docker", "podman"];
const MOST: usize = 100;
const LETTERS: usize = 300;
/// The variables by which programs find an Ollama, or something that speaks as one.
const ASKS: [&str; 13] = [
    "OLLAMA_BASE_URL",
    "OLLAMA_URL",
    "OLLAMA_HOST",
    "OLLAMA_API_BASE",
    "OLLAMA_API_BASE_URL",
    "OLLAMA_API_URL",
    "OLLAMA_BASE_URLS",
    "OLLAMA_ENDPOINT",
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_API_BASE_URL",
    "OPENAI_API_BASE_URLS",
    "ANTHROPIC_BASE_URL",
];
/// Parts of labels by which a front asks for a credential, and images of tunnels.
const GUARDS: [&str; 4] = ["basicauth", "basic_auth", "forwardauth", "forward_auth"];
const TUNNELS: [&str; 3] = ["cloudflared", "ngrok", "tailscale"];
/// The variables by which programs are given a key.
const KEYS: [&str; 8] = [
    "HERDGATE_KEY",
    "OLLAMA_API_KEY",
    "OLLAMA_API_CONFIGS",
    "OPENAI_API_KEY",
    "OPENAI_API_KEYS",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "OLLAMA_TOKEN",
];
/// What answers there is not looked at by anybody here.
const ELSEWHERE: [&str; 4] = ["openai.com", "anthropic.com", "ollama.com", "azure.com"];

/// A container.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Container {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) image: String,
    /// What others of its networks call it, beside its name.
    pub(in crate::doctor) aliases: Vec<String>,
    /// Of its first program; 0 where none runs.
    pub(in crate::doctor) pid: u32,
    pub(in crate::doctor) is_ollama: bool,
    /// A gate, by its image or by its command line.
    pub(in crate::doctor) is_gate: bool,
    /// No gate of ours, and given a token and a model: an Ollama with somebody's own front before it, in one container.
    pub(in crate::doctor) has_own_front: bool,
    /// Where its Ollama listens, as it was told.
    pub(in crate::doctor) listens: Option<String>,
    pub(in crate::doctor) is_running: bool,
    pub(in crate::doctor) is_restarting: bool,
    pub(in crate::doctor) restarts: u64,
    pub(in crate::doctor) exit: i64,
    pub(in crate::doctor) oom_killed: bool,
    /// It has the host's network.
    pub(in crate::doctor) on_host: bool,
    /// The ports of Ollama that it publishes, and on which address of the host.
    pub(in crate::doctor) published: Vec<(IpAddr, u16)>,
    pub(in crate::doctor) networks: Vec<String>,
    /// `--add-host`, `extra_hosts`.
    pub(in crate::doctor) extra_hosts: Vec<String>,
    /// The URLs of an Ollama that it was given.
    pub(in crate::doctor) asks: Vec<String>,
    /// The variables that gave them, in the same order.
    pub(in crate::doctor) asked_by: Vec<String>,
    /// The model that it asks.
    pub(in crate::doctor) model: Option<String>,
    /// Whether a variable gives it a key to show.
    pub(in crate::doctor) has_key: bool,
    /// A folder of models or keys that is in the container itself, on no volume.
    pub(in crate::doctor) forgets: Option<String>,
    /// What hands an Ollama's port on to a domain: labels of Traefik's or Caddy's, or the variable of nginx-proxy's.
    pub(in crate::doctor) fronted: Option<String>,
    /// Whether that asks for a credential.
    pub(in crate::doctor) is_guarded: bool,
    /// The word by which a tunnel was told to lead to an Ollama.
    pub(in crate::doctor) tunnels: Option<String>,
    pub(in crate::doctor) is_composed: bool,
    pub(in crate::doctor) has_gpu: bool,
    /// Whether its output has a bound: a `max-size`, or a driver that keeps its own.
    pub(in crate::doctor) log_is_bound: bool,
    pub(in crate::doctor) is_started_again: bool,
    pub(in crate::doctor) last_error: Option<String>,
}

/// Those of this machine that have to do with an Ollama.
pub(super) async fn look() -> Vec<Container> {
    for engine in ENGINES {
        let Some(mut containers) = all(engine).await else { continue };
        containers.retain(|container| {
            container.is_ollama
                || container.is_gate
                || container.has_own_front
                || container.tunnels.is_some()
                || !container.asks.is_empty()
        });
        for container in &mut containers {
            if container.is_restarting || (!container.is_running && container.exit != 0) {
                let said =
                    tool::ask(engine, &["logs", "--tail", "20", &container.name]).await.unwrap_or_default();
                container.last_error = last(&said.err).or_else(|| last(&said.out));
            }
        }
        return containers;
    }
    Vec::new()
}

/// All of one engine's; none where there is no such engine, or it does not tell.
pub(in crate::doctor::facts) async fn all(engine: &str) -> Option<Vec<Container>> {
    let ids = tool::told(engine, &["ps", "-aq", "--no-trunc"]).await?;
    let ids: Vec<&str> = ids.split_whitespace().take(MOST).collect();
    if ids.is_empty() {
        return Some(Vec::new());
    }
    let told = tool::told(engine, &[&["inspect"], ids.as_slice()].concat()).await.unwrap_or_default();
    Some(read(&told))
}

fn last(text: &str) -> Option<String> {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| line.to_ascii_lowercase().contains("error");
    lines()
        .find(tells)
        .or_else(|| lines().next())
        .map(|line| shown::line(line).chars().take(LETTERS).collect())
}

/// Reads `docker inspect`.
fn read(text: &str) -> Vec<Container> {
    let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    all.iter().map(one).collect()
}

fn one(value: &Value) -> Container {
    let (config, host, state) = (&value["Config"], &value["HostConfig"], &value["State"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let image = text(&config["Image"]);
    let variables = texts(&config["Env"]);
    let is_ollama =
        image.split([':', '@']).next().is_some_and(|name| name == "ollama" || name.ends_with("/ollama"));
    let set = |wanted: &str| {
        let pairs = variables.iter().filter_map(|word| word.split_once('='));
        pairs
            .filter(|(name, value)| *name == wanted && !value.is_empty())
            .map(|(_, value)| value.to_owned())
            .next_back()
    };
    let is_gate =
        image.split([':', '@']).next().is_some_and(|name| name.rsplit('/').next() == Some("herdgate"))
            || words(config).any(|word| Path::new(word).file_name() == Some("herdgate".as_ref()));
    let has_own_front =
        !is_gate && !is_ollama && set("AUTH_TOKEN").is_some() && set("OLLAMA_MODEL").is_some();
    let (asked_by, asks) = asks(&variables, is_ollama).into_iter().unzip();
    let log = &host["LogConfig"];
    let policy = host["RestartPolicy"]["Name"].as_str().unwrap_or_default();
    Container {
        name: text(&value["Name"]).trim_start_matches('/').to_owned(),
        aliases: aliases(value),
        pid: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        listens: set("OLLAMA_HOST").filter(|_| is_ollama).map(|host| shown::value("OLLAMA_HOST", &host)),
        has_key: KEYS.iter().any(|name| set(name).is_some()),
        fronted: fronted(value, &variables).filter(|_| is_ollama),
        is_guarded: labels(value).any(|(name, _)| GUARDS.iter().any(|guard| name.contains(guard))),
        tunnels: tunnels(value, &image, &variables),
        forgets: if is_gate {
            forgets(value, "/data")
        } else if is_ollama || has_own_front {
            forgets(value, &set("OLLAMA_MODELS").unwrap_or_else(|| "/root/.ollama".to_owned()))
        } else {
            None
        },
        is_ollama,
        is_gate,
        has_own_front,
        image,
        is_running: state["Running"] == true,
        is_restarting: state["Restarting"] == true,
        restarts: value["RestartCount"].as_u64().unwrap_or_default(),
        exit: state["ExitCode"].as_i64().unwrap_or_default(),
        oom_killed: state["OOMKilled"] == true,
        on_host: host["NetworkMode"] == "host",
        published: published(&host["PortBindings"]),
        networks: value["NetworkSettings"]["Networks"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect(),
        extra_hosts: texts(&host["ExtraHosts"]),
        asks,
        asked_by,
        model: set("OLLAMA_MODEL").filter(|_| !is_ollama),
        is_composed: config["Labels"]["com.docker.compose.project"].is_string(),
        has_gpu: host["DeviceRequests"].as_array().is_some_and(|requests| !requests.is_empty()),
        log_is_bound: log["Type"] != "json-file" || log["Config"]["max-size"].is_string(),
        is_started_again: !matches!(policy, "" | "no"),
        last_error: None,
    }
}

fn labels(value: &Value) -> impl Iterator<Item = (&str, &str)> {
    let labels = value["Config"]["Labels"].as_object().into_iter().flatten();
    labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

/// Coolify and others write such labels for each domain of a service.
fn fronted(value: &Value, variables: &[String]) -> Option<String> {
    let is_off = labels(value).any(|label| label == ("traefik.enable", "false"));
    let is_rule = |(name, _): &(&str, &str)| {
        (!is_off && name.starts_with("traefik.http.routers.") && name.ends_with(".rule"))
            || (name.starts_with("caddy") && name.ends_with("reverse_proxy"))
    };
    let label = labels(value).find(is_rule).map(|(name, value)| format!("{name}={value}"));
    label.or_else(|| variables.iter().find(|word| word.starts_with("VIRTUAL_HOST=")).cloned())
}

/// A tunnel's command line or variable that names Ollama's port.
fn tunnels(value: &Value, image: &str, variables: &[String]) -> Option<String> {
    if !TUNNELS.iter().any(|name| image.contains(name)) {
        return None;
    }
    let urls = variables.iter().filter_map(|word| word.strip_prefix("TUNNEL_URL="));
    words(&value["Config"]).chain(urls).find(|word| word.contains(":11434")).map(told)
}

/// A word without a user's name and a password, and without what is asked.
fn told(word: &str) -> String {
    shown::line(word.split(['?', '#']).next().unwrap_or_default()).replace("...@", "")
}

/// A folder that it must not lose, where no volume keeps it.
fn forgets(value: &Value, folder: &str) -> Option<String> {
    let mounts = value["Mounts"].as_array()?;
    let mut kept = mounts.iter().filter_map(|mount| mount["Destination"].as_str());
    (!kept.any(|kept| Path::new(folder).starts_with(kept))).then(|| folder.to_owned())
}

/// What it was started with.
fn words(config: &Value) -> impl Iterator<Item = &str> {
    let lists = [&config["Entrypoint"], &config["Cmd"]].into_iter();
    lists.flat_map(|list| list.as_array().into_iter().flatten()).filter_map(Value::as_str)
}

/// The variables that name an Ollama, and the URLs that they give.
fn asks(variables: &[String], is_ollama: bool) -> Vec<(String, String)> {
    let is_named = |(name, _): &(&str, &str)| ASKS.contains(name) && !(is_ollama && *name == "OLLAMA_HOST");
    let named = variables.iter().filter_map(|word| word.split_once('=')).filter(is_named);
    let urls =
        named.flat_map(|(name, urls)| shown::urls(urls).into_iter().map(move |url| (name.to_owned(), url)));
    let urls = urls.filter_map(|(name, url)| {
        // The command line's own variable does without a scheme.
        let bare = name == "OLLAMA_HOST" && !url.is_empty() && !url.contains("://");
        let url = if bare { shown::url(&format!("http://{url}")) } else { shown::url(&url) };
        Some((name, url?))
    });
    let is_here = |url: &str| {
        let host = url.split_once("://").map(|(_, rest)| rest.split(['/', ':']).next().unwrap_or_default());
        host.is_some_and(|host| host != "0.0.0.0" && !ELSEWHERE.iter().any(|end| host.ends_with(end)))
    };
    urls.filter(|(_, url)| is_here(url)).collect()
}

/// What Docker's name server answers to (`DNSNames`, `Aliases`), and the service of a compose file.
fn aliases(value: &Value) -> Vec<String> {
    let networks = value["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let lists = networks.flat_map(|(_, network)| [&network["Aliases"], &network["DNSNames"]]);
    let names = lists.flat_map(|list| list.as_array().into_iter().flatten());
    let service = &value["Config"]["Labels"]["com.docker.compose.service"];
    let mut aliases: Vec<String> =
        names.chain([service]).filter_map(Value::as_str).map(str::to_owned).collect();
    aliases.sort();
    aliases.dedup();
    aliases
}

/// `{"11434/tcp": [{"HostIp": "", "HostPort": "11434"}]}`; no address is every address.
fn published(bindings: &Value) -> Vec<(IpAddr, u16)> {
    let inner = bindings.as_object().into_iter().flatten().filter(|(port, _)| port.as_str() == "11434/tcp");
    let outer = inner.flat_map(|(_, outer)| outer.as_array().into_iter().flatten());
    outer
        .filter_map(|binding| {
            let ip = binding["HostIp"].as_str().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
            Some((ip.parse().ok()?, binding["HostPort"].as_str()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_read_without_their_secrets() {
        let text = r#"[
          {"Name": "/ollama", "RestartCount": 0, "State": {"Running": true, "Restarting": false, "ExitCode": 0, "OOMKilled": false},
           "Config": {"Image": "ollama/ollama:latest", "Env": ["OLLAMA_HOST=0.0.0.0", "SECRET=x"], "Labels": {"com.docker.compose.project": "ai"}},
           "HostConfig": {"NetworkMode": "ai_default", "PortBindings": {"11434/tcp": [{"HostIp": "", "HostPort": "11434"}]},
             "ExtraHosts": null, "DeviceRequests": null, "LogConfig": {"Type": "json-file", "Config": {}}, "RestartPolicy": {"Name": "unless-stopped"}},
           "Mounts": [{"Destination": "/etc/ssl"}], "NetworkSettings": {"Networks": {"ai_default": {}}}},
          {"Name": "/webui", "State": {"Running": true}, "Config": {"Image": "ghcr.io/open-webui/open-webui:main",
             "Env": ["OLLAMA_BASE_URL=http://me:pw@host.docker.internal:11434", "WEBUI_SECRET_KEY=abc"]},
           "HostConfig": {"NetworkMode": "bridge", "LogConfig": {"Type": "journald", "Config": {}}}},
          {"Name": "/db", "State": {"Running": true}, "Config": {"Image": "postgres:17", "Env": ["POSTGRES_PASSWORD=abc"]}, "HostConfig": {}}
        ]"#;
        let read = read(text);
        assert_eq!(read.len(), 3);
        assert!(!read[2].is_ollama && read[2].asks.is_empty());
        assert!(
            read[0].is_ollama && read[0].is_composed && read[0].is_started_again && !read[0].log_is_bound
        );
        assert_eq!(read[0].published, [("0.0.0.0".parse().unwrap(), 11434)]);
        assert_eq!(read[0].networks, ["ai_default"]);
        assert_eq!(read[1].asks, ["http://host.docker.internal:11434"]);
        assert!(read[1].log_is_bound && !read[1].is_started_again);
        assert_eq!(read[0].forgets.as_deref(), Some("/root/.ollama"));
        assert!(!read[1].has_key && read[1].forgets.is_none());
        assert_eq!(read[0].listens.as_deref(), Some("0.0.0.0"));
        let kept = serde_json::to_string(&read).unwrap();
        assert!(!kept.contains("abc") && !kept.contains("pw") && !kept.contains("SECRET"), "{kept}");
    }
    #[test]
    fn variables_name_an_ollama_in_many_ways() {
        let given = |word: &str, is_ollama| {
            asks(&[word.to_owned()], is_ollama).into_iter().map(|(_, url)| url).collect::<Vec<_>>()
        };
        assert_eq!(given("OLLAMA_HOST=gpu1:11434", false), ["http://gpu1:11434"]);
        assert_eq!(given("OLLAMA_BASE_URLS=http://a:1; http://b:2", false), ["http://a:1", "http://b:2"]);
        assert_eq!(given("OPENAI_BASE_URL=http://gate:7860/v1", false), ["http://gate:7860/v1"]);
        for (word, is_ollama) in [
            ("OLLAMA_HOST=0.0.0.0", false),
            ("OLLAMA_HOST=gpu1", true),
            ("OPENAI_BASE_URL=https://api.openai.com/v1", false),
            ("OLLAMA_BASE_URL=", false),
            ("OLLAMA_API_KEY=http://secret", false),
        ] {
            assert!(given(word, is_ollama).is_empty(), "{word}");
        }
    }
    #[test]
    fn ways_from_a_domain_to_an_ollama_are_seen() {
        let text = r#"[
          {"Name": "/ollama", "Config": {"Image": "ollama/ollama", "Labels": {"traefik.enable": "true", "traefik.http.routers.o.rule": "Host(`o.example`)",
             "traefik.http.middlewares.a.basicauth.users": "me:secret"}}},
          {"Name": "/off", "Config": {"Image": "ollama/ollama", "Labels": {"traefik.enable": "false", "traefik.http.routers.o.rule": "x"}}},
          {"Name": "/tunnel", "Config": {"Image": "cloudflare/cloudflared:latest", "Cmd": ["tunnel", "--url", "http://me:pw@ollama:11434"]}},
          {"Name": "/gate", "Config": {"Image": "ghcr.io/x/herdgate:1", "Env": ["AUTH_TOKEN=abc"]}, "Mounts": [{"Destination": "/data"}]},
          {"Name": "/own", "Config": {"Image": "own", "Entrypoint": ["/usr/local/bin/herdgate"], "Env": ["AUTH_TOKEN=abc", "OLLAMA_MODEL=m"]}, "Mounts": []},
          {"Name": "/nginx", "Config": {"Image": "ollama-nginx", "Cmd": ["/start.sh"], "Env": ["AUTH_TOKEN=abc", "OLLAMA_MODEL=m"]}, "Mounts": []}
        ]"#;
        let read = read(text);
        let told: Vec<_> =
            read.iter().map(|one| (one.fronted.as_deref(), one.is_guarded, one.tunnels.as_deref())).collect();
        let rule = Some("traefik.http.routers.o.rule=Host(`o.example`)");
        let expected = [
            (rule, true, None),
            (None, false, None),
            (None, false, Some("http://ollama:11434")),
            (None, false, None),
            (None, false, None),
            (None, false, None),
        ];
        assert_eq!(told, expected);
        assert!(read[3].is_gate && read[3].forgets.is_none());
        assert!(read[4].is_gate && read[4].forgets.as_deref() == Some("/data"));
        // Somebody's own nginx before an Ollama has no keys of ours to lose, and models.
        assert!(!read[5].is_gate && read[5].forgets.as_deref() == Some("/root/.ollama"));
        let kept = serde_json::to_string(&read).unwrap();
        assert!(!kept.contains("secret") && !kept.contains("pw@") && !kept.contains("abc"), "{kept}");
    }
}
