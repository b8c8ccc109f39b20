//! n8n, as a container: what every credential of the kind Ollama holds.

use super::Filled;
use super::container::{self, CA, Variable};

/// n8n's own bound, in milliseconds; other nodes live by it, too, so it is never made shorter.
const OWN: u64 = 3_600_000;

pub(super) fn text(filled: &Filled<'_>) -> String {
    let instead = container::instead(filled, "--n8n");
    let by_hand = format!(
        "By hand instead: Credentials → Create → Ollama: Base URL {}, API Key the key.",
        filled.url()
    );
    let model = format!(
        "In the nodes Ollama Chat Model and Embeddings Ollama choose this credential, and as the model {}.",
        filled.model()
    );
    let head = filled.head(
        "#",
        "herdgate for n8n: what its Ollama credentials hold, laid over a stack whose service is called n8n.",
        &[
            "Written by the sources of n8n 2.41, which was not run; compose is its reader in herdgate's tests.",
            container::key_line(filled),
            &by_hand,
            &model,
            &instead,
        ],
    );
    let data =
        format!(r#"{{"ollamaApi":{{"baseUrl":"{}","apiKey":"{}"}}}}"#, filled.url(), container::key(filled));
    let mut variables: Vec<Variable> = vec![
        (
            "CREDENTIALS_OVERWRITE_DATA",
            data,
            "Nobody fills it in, and nobody who builds workflows sees it. Where there is one already, put both into one object.",
        ),
        (
            "N8N_AI_TIMEOUT_MAX",
            filled.milliseconds().max(OWN).to_string(),
            "Milliseconds until the first word, and between two; an hour is n8n's own.",
        ),
    ];
    if filled.ca().is_some() {
        variables.push(("NODE_EXTRA_CA_CERTS", CA.to_owned(), "Beside the authorities that it knows."));
    }
    format!("{head}\n{}", container::stack(filled, "n8n", &variables))
}
