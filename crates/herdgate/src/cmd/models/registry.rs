//! Whether a model's registry has another one by now under the same name: the digest of a model is that of its manifest
//! (Ollama's `manifest.go`), and manifests are small.
//!
//! Never: sends anything but the model's name, or asks a registry that the model did not come from.

use super::Row;
use crate::together::together;
use gate_keys::hex;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::{Ask, Client, ClientLimits, Endpoint, Tls};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// For one answer, redirections included.
const TIME: Duration = Duration::from_secs(10);
/// Bytes of a manifest.
const MOST: usize = 1 << 20;
/// Registries' answers at the same time.
const AT_ONCE: usize = 8;
const REDIRECTIONS: usize = 3;
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Newer {
    Yes,
    No,
    Unknown(String),
}

/// Asks for all of them.
pub(super) async fn look(rows: &mut [Row]) {
    let tls = Tls::system();
    for some in rows.chunks_mut(AT_ONCE) {
        let asking = some.iter().map(|row| newer(row, &tls)).collect();
        let told = together(asking).await;
        for (row, told) in some.iter_mut().zip(told) {
            row.newer = told;
        }
    }
}

/// None where there is nothing to ask for: the model runs elsewhere, or has no digest.
async fn newer(row: &Row, tls: &Tls) -> Option<Newer> {
    if row.is_stub || row.digest.is_empty() {
        return None;
    }
    let name = ModelName::parse_stored(&row.name).ok()?;
    let asked = tokio::time::timeout(TIME, Box::pin(manifest(&name, tls))).await;
    let host = name.registry();
    Some(match asked.unwrap_or_else(|_late| Err("it does not answer".to_owned())) {
        Ok(Some(manifest)) if is_of(&manifest, &row.digest) => Newer::No,
        Ok(Some(_)) => Newer::Yes,
        Ok(None) => Newer::Unknown(format!("{host} has none of this name: it was made here, or withdrawn")),
        Err(error) => Newer::Unknown(format!("{host}: {error}")),
    })
}

/// The manifest of this name; none where the registry has none.
async fn manifest(name: &ModelName, tls: &Tls) -> Result<Option<Vec<u8>>, String> {
    let (mut host, mut path) = (name.registry().to_owned(), path_of(name));
    for _ in 0..=REDIRECTIONS {
        let (bare, port) = match host.rsplit_once(':') {
            Some((bare, port)) => (bare.to_owned(), port.parse().map_err(|_| "it has no port".to_owned())?),
            None => (host.clone(), 443),
        };
        let endpoint = Endpoint::new(true, &bare, port, "").map_err(|error| error.to_string())?;
        let client = Client::new(vec![endpoint], tls.clone(), ClientLimits::default());
        let fields = [("Accept", ACCEPT), ("User-Agent", "herdgate")];
        let ask = Ask { method: "GET", path: &path, fields: &fields, body: b"" };
        let answer = client.send(UpstreamId(0), &ask).await.map_err(|error| error.to_string())?;
        match answer.status() {
            200 => return answer.read_all(MOST).await.map(Some).map_err(|error| error.to_string()),
            404 => return Ok(None),
            301 | 302 | 303 | 307 | 308 => {
                let to = answer.field("location").and_then(|to| std::str::from_utf8(to).ok());
                let to = to.ok_or_else(|| "it redirects to nowhere".to_owned())?;
                (host, path) =
                    redirected(&host, to).ok_or_else(|| "it redirects to where TLS ends".to_owned())?;
            }
            status => return Err(format!("it answers {status}")),
        }
    }
    Err("it redirects again and again".to_owned())
}

fn redirected(host: &str, to: &str) -> Option<(String, String)> {
    if to.starts_with('/') && !to.starts_with("//") {
        return Some((host.to_owned(), to.to_owned()));
    }
    let (host, path) = to.strip_prefix("https://")?.split_once('/')?;
    Some((host.to_owned(), format!("/{path}")))
}

/// `/v2/library/qwen3/manifests/8b`
fn path_of(name: &ModelName) -> String {
    let (path, tag) = name.short().rsplit_once(':').unwrap_or((name.short(), "latest"));
    let path = match path.split('/').count() {
        1 => format!("library/{path}"),
        2 => path.to_owned(),
        _ => path.split_once('/').map_or(path, |(_host, rest)| rest).to_owned(),
    };
    format!("/v2/{path}/manifests/{tag}")
}

/// Whether a model with this digest has this manifest: as the registry writes it, or as Ollama writes down what it has read.
fn is_of(manifest: &[u8], digest: &str) -> bool {
    let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
    let is = |bytes: &[u8]| hex(&Sha256::digest(bytes)) == digest.to_ascii_lowercase();
    is(manifest) || rewritten(manifest).is_some_and(|text| is(text.as_bytes()))
}

/// The fields that Ollama knows, in its order.
fn rewritten(manifest: &[u8]) -> Option<String> {
    let read: Value = serde_json::from_slice(manifest).ok()?;
    let layer = |layer: &Value| json!({"mediaType": layer["mediaType"], "digest": layer["digest"], "size": layer["size"]});
    let layers: Vec<Value> = read["layers"].as_array()?.iter().map(layer).collect();
    let written = json!({
        "schemaVersion": read["schemaVersion"], "mediaType": read["mediaType"], "config": layer(&read["config"]),
        "layers": layers,
    });
    Some(written.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_manifest() {
        for (name, registry, path) in [
            ("qwen3:8b", "registry.ollama.ai", "/v2/library/qwen3/manifests/8b"),
            ("llama3", "registry.ollama.ai", "/v2/library/llama3/manifests/latest"),
            ("acme/x:1b", "registry.ollama.ai", "/v2/acme/x/manifests/1b"),
            ("hf.co/acme/x:q4", "hf.co", "/v2/acme/x/manifests/q4"),
            ("registry.lan:5000/a/b", "registry.lan:5000", "/v2/a/b/manifests/latest"),
        ] {
            let name = ModelName::parse_stored(name).unwrap();
            assert_eq!((name.registry(), path_of(&name).as_str()), (registry, path));
        }
    }

    #[test]
    fn a_manifest_is_known_by_its_digest_however_it_is_written() {
        let raw = br#"{ "schemaVersion": 2, "mediaType": "m", "layers": [ {"size": 3, "digest": "sha256:a", "mediaType": "l"} ],
            "config": {"mediaType": "c", "size": 1, "digest": "sha256:b"} }"#;
        let compact = r#"{"schemaVersion":2,"mediaType":"m","config":{"mediaType":"c","digest":"sha256:b","size":1},"layers":[{"mediaType":"l","digest":"sha256:a","size":3}]}"#;
        assert!(is_of(raw, &hex(&Sha256::digest(raw))));
        assert!(is_of(raw, &format!("sha256:{}", hex(&Sha256::digest(compact)))));
        assert!(!is_of(raw, &hex(&Sha256::digest(b"another"))));
        assert!(!is_of(b"no JSON", "00"));
    }

    #[test]
    fn a_redirection_stays_with_tls() {
        assert_eq!(redirected("a", "/x"), Some(("a".into(), "/x".into())));
        assert_eq!(redirected("a", "https://b:1/x/y"), Some(("b:1".into(), "/x/y".into())));
        assert_eq!(redirected("a", "http://b/x"), None);
        assert_eq!(redirected("a", "//b/x"), None);
    }
}
