//! Open WebUI, as a container.

use super::Filled;
use super::container::{self, CA, Variable};

pub(super) fn text(filled: &Filled<'_>) -> String {
    let instead = container::instead(filled, "--open-webui");
    let head = filled.head(
        "#",
        "herdgate for Open WebUI: what its container is told, laid over a stack whose service is called open-webui.",
        &[
            "Written by the sources of Open WebUI 0.12.4, which was not run; compose is its reader in herdgate's tests.",
            container::key_line(filled),
            "They count at its first start. Later its database does: Admin Panel → Settings → Connections → Ollama API → Edit Connection → \
             Authentication → Bearer, the key; or ENABLE_PERSISTENT_CONFIG=false, with which they always count.",
            &instead,
        ],
    );
    let configs =
        format!(r#"{{"0":{{"enable":true,"auth_type":"bearer","key":"{}"}}}}"#, container::key(filled));
    let mut variables: Vec<Variable> = vec![
        ("ENABLE_OLLAMA_API", "true".to_owned(), ""),
        ("OLLAMA_BASE_URLS", filled.url().to_owned(), ""),
        ("OLLAMA_API_CONFIGS", configs, "\"0\" is the first of OLLAMA_BASE_URLS."),
        ("AIOHTTP_CLIENT_TIMEOUT", String::new(), "No end for a whole answer, which may take long…"),
        (
            "AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT",
            filled.seconds().to_string(),
            "…but for the silence between two words.",
        ),
    ];
    if filled.ca().is_some() {
        variables.push((
            "AIOHTTP_CLIENT_SSL_CERT_FILE",
            CA.to_owned(),
            "It believes this authority alone from then on. Where it asks others too, the file must have theirs as well.",
        ));
    }
    format!("{head}\n{}", container::stack(filled, "open-webui", &variables))
}
