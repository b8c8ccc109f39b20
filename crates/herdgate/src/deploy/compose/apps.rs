//! Programs of others in a stack. They ask `connect`, so that none needs a key; where somebody goes back to an Ollama of the
//! stack's own, [`LEAD`] leads there.

use super::yaml::{Map, Node};
use super::{LEAD, OWN, Stack};

impl Stack<'_> {
    pub(super) fn open_webui(&self) -> Map {
        let mut variables = vec![
            format!("OLLAMA_BASE_URL={}", self.asked_by_apps()),
            // No end for an answer: loading a large model alone takes minutes.
            "AIOHTTP_CLIENT_TIMEOUT=".to_owned(),
            // Kept with the rest, so that a new container logs nobody out.
            "WEBUI_SECRET_KEY_FILE=/app/backend/data/.webui_secret_key".to_owned(),
        ];
        if self.asked.coolify {
            variables.push("SERVICE_URL_OPENWEBUI_8080".to_owned());
        }
        self.app(
            "ghcr.io/open-webui/open-webui:main",
            "127.0.0.1:3000:8080",
            variables,
            "open_webui_data:/app/backend/data",
        )
    }

    pub(super) fn n8n(&self) -> Map {
        let asked = self.asked_by_apps();
        let mut variables = vec![
            // What every credential of the kind Ollama holds, without anybody filling it in.
            format!("CREDENTIALS_OVERWRITE_DATA={{\"ollamaApi\":{{\"baseUrl\":\"{asked}\"}}}}"),
        ];
        if self.asked.coolify {
            variables.push("SERVICE_URL_N8N_5678".to_owned());
        }
        self.app(
            "docker.n8n.io/n8nio/n8n:latest",
            "127.0.0.1:5678:5678",
            variables,
            "n8n_data:/home/node/.n8n",
        )
    }

    /// Where a program asks: in a stack without a gate of its own that is somebody's to change.
    fn asked_by_apps(&self) -> String {
        let connect = "http://connect:11434";
        if self.mode == super::Mode::Consumer {
            format!("${{{LEAD}:-{connect}}}")
        } else {
            connect.to_owned()
        }
    }

    fn app(&self, image: &str, port: &str, variables: Vec<String>, volume: &str) -> Map {
        let mut service = Map::default();
        service.put("image", image).put("restart", "unless-stopped");
        if !self.asked.coolify {
            // Whoever comes first may make the first account: this machine alone reaches it until somebody says otherwise.
            service.put("ports", &[port][..]);
        }
        service.put("environment", variables).put("volumes", &[volume][..]);
        service
            .put("networks", Map::of(OWN, Node::Empty))
            .put("depends_on", &["connect"][..])
            .put("logging", super::services::log());
        service
    }
}
