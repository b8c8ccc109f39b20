//! Containers that are an Ollama, or that ask one: what they publish, whom they ask, and by which names.
//!
//! Of a container's variables only those that name Ollama's address are kept.

use super::tool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

const MOST: usize = 100;
const LETTERS: usize = 300;
/// The variables by which programs find an Ollama.
const ASKS: [&str; 6] = [
    "OLLAMA_BASE_URL",
    "OLLAMA_URL",
    "OLLAMA_API_BASE_URL",
    "OLLAMA_API_URL",
    "OLLAMA_BASE_URLS",
    "OLLAMA_ENDPOINT",
];

/// A container.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Container {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) image: String,
    pub(in crate::doctor) is_ollama: bool,
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
    pub(in crate::doctor) is_composed: bool,
    pub(in crate::doctor) has_gpu: bool,
    /// Whether its output has a bound: a `max-size`, or a driver that keeps its own.
    pub(in crate::doctor) log_is_bound: bool,
    pub(in crate::doctor) is_started_again: bool,
    pub(in crate::doctor) last_error: Option<String>,
}

pub(super) async fn look() -> Vec<Container> {
    for engine in ["docker", "podman"] {
        let Some(ids) = tool::told(engine, &["ps", "-aq", "--no-trunc"]).await else { continue };
        let ids: Vec<&str> = ids.split_whitespace().take(MOST).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let told = tool::told(engine, &[&["inspect"], ids.as_slice()].concat()).await.unwrap_or_default();
        let mut containers = read(&told);
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

fn last(text: &str) -> Option<String> {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| line.to_ascii_lowercase().contains("error");
    lines().find(tells).or_else(|| lines().next()).map(|line| line.chars().take(LETTERS).collect())
}

/// Reads `docker inspect`; whoever has nothing to do with an Ollama is left out.
fn read(text: &str) -> Vec<Container> {
    let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    all.iter().map(one).filter(|container| container.is_ollama || !container.asks.is_empty()).collect()
}

fn one(value: &Value) -> Container {
    let (config, host, state) = (&value["Config"], &value["HostConfig"], &value["State"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let image = text(&config["Image"]);
    let variables = texts(&config["Env"]);
    let named =
        variables.iter().filter_map(|word| word.split_once('=')).filter(|(name, _)| ASKS.contains(name));
    let urls = named.flat_map(|(_, urls)| urls.split(';')).filter(|url| url.contains("://"));
    let asks = urls.map(without_user).collect();
    let log = &host["LogConfig"];
    let policy = host["RestartPolicy"]["Name"].as_str().unwrap_or_default();
    Container {
        name: text(&value["Name"]).trim_start_matches('/').to_owned(),
        is_ollama: image
            .split([':', '@'])
            .next()
            .is_some_and(|name| name == "ollama" || name.ends_with("/ollama")),
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
        is_composed: config["Labels"]["com.docker.compose.project"].is_string(),
        has_gpu: host["DeviceRequests"].as_array().is_some_and(|requests| !requests.is_empty()),
        log_is_bound: log["Type"] != "json-file" || log["Config"]["max-size"].is_string(),
        is_started_again: !matches!(policy, "" | "no"),
        last_error: None,
    }
}

fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
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
           "NetworkSettings": {"Networks": {"ai_default": {}}}},
          {"Name": "/webui", "State": {"Running": true}, "Config": {"Image": "ghcr.io/open-webui/open-webui:main",
             "Env": ["OLLAMA_BASE_URL=http://me:pw@host.docker.internal:11434", "WEBUI_SECRET_KEY=abc"]},
           "HostConfig": {"NetworkMode": "bridge", "LogConfig": {"Type": "journald", "Config": {}}}},
          {"Name": "/db", "State": {"Running": true}, "Config": {"Image": "postgres:17", "Env": ["POSTGRES_PASSWORD=abc"]}, "HostConfig": {}}
        ]"#;
        let read = read(text);
        assert_eq!(read.len(), 2);
        assert!(
            read[0].is_ollama && read[0].is_composed && read[0].is_started_again && !read[0].log_is_bound
        );
        assert_eq!(read[0].published, [("0.0.0.0".parse().unwrap(), 11434)]);
        assert_eq!(read[0].networks, ["ai_default"]);
        assert_eq!(read[1].asks, ["http://host.docker.internal:11434"]);
        assert!(read[1].log_is_bound && !read[1].is_started_again);
        let kept = serde_json::to_string(&read).unwrap();
        assert!(!kept.contains("abc") && !kept.contains("pw") && !kept.contains("SECRET"), "{kept}");
    }
}
