//! n8n, as a container: what every credential of the kind Ollama holds.

use super::Setup;
use super::container::{self, CA, Variable};

/// n8n's own bound, in milliseconds; other nodes live by it, too, so it is never made shorter.
const OWN: u64 = 3_600_000;

pub(super) fn text(setup: &Setup<'_>) -> String {
    let instead = container::instead(setup, "--n8n");
    let by_hand =
        format!("By hand instead: Credentials → Create → Ollama: Base URL {}, API Key the key.", setup.url());
    let model = format!(
        "In the nodes Ollama Chat Model and Embeddings Ollama choose this credential, and as the model {}.",
        setup.model()
    );
    let head = setup.head(
        "#",
        "herdgate for n8n: what its Ollama credentials hold, laid over a stack whose service is called n8n.",
        &[
            "Written by the sources of n8n 2.41, which was not run; compose is its reader in herdgate's tests.",
            container::key_line(setup),
            &by_hand,
            &model,
            &instead,
        ],
    );
    let data =
        format!(r#"{{"ollamaApi":{{"baseUrl":"{}","apiKey":"{}"}}}}"#, setup.url(), container::key(setup));
    let mut variables: Vec<Variable> = vec![
        (
            "CREDENTIALS_OVERWRITE_DATA",
            data,
            "Nobody fills it in, and nobody who builds workflows sees it. Where there is one already, put both into one object.",
        ),
        (
            "N8N_AI_TIMEOUT_MAX",
            setup.milliseconds().max(OWN).to_string(),
            "Milliseconds until the first word, and between two; an hour is n8n's own.",
        ),
    ];
    if setup.ca().is_some() {
        variables.push(("NODE_EXTRA_CA_CERTS", CA.to_owned(), "Beside the authorities that it knows."));
    }
    format!("{head}\n{}", container::stack(setup, "n8n", &variables))
}
