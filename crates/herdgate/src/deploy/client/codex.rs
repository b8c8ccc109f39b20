//! Codex: a provider of models in its `config.toml`.

use super::Filled;

/// The last version that answered through a gate.
const RUN: &str = "0.169.0";

pub(super) fn text(filled: &Filled<'_>) -> String {
    let run = format!("Run with Codex {RUN}.");
    let context = filled.context_line("model_context_window");
    let ca = filled.ca().map(|file| {
        format!("In the environment of Codex: CODEX_CA_CERTIFICATE={file}, the gate's own authority.")
    });
    let mut lines = vec![
        run.as_str(),
        if filled.secret().is_some() {
            "The key is in here: whoever reads this file may use it (chmod 600)."
        } else {
            "The key belongs into the environment of Codex, as HERDGATE_KEY."
        },
        &context,
    ];
    lines.extend(ca.as_deref());
    let head = filled.head(
        "#",
        "herdgate for Codex. Where there is a config.toml already: what is above the table goes to its top, the table to its end.",
        &lines,
    );
    let key = filled.secret().map_or_else(
        || {
            "env_key = \"HERDGATE_KEY\"\nenv_key_instructions = \"herdgate key create NAME --for codex\""
                .to_owned()
        },
        |secret| format!("experimental_bearer_token = \"{secret}\""),
    );
    format!(
        "{head}\nmodel = \"{}\"\nmodel_provider = \"herdgate\"\n\
         # Ollama's search is the operator's, by its cloud: a key for it has the scope `cloud`.\n\
         web_search = \"disabled\"\n\
         # What Ollama has; Codex shortens in time what it says.\n\
         model_context_window = {}\n\n\
         [model_providers.herdgate]\nname = \"herdgate\"\nbase_url = \"{}/v1\"\n\
         # The one that Codex still speaks.\nwire_api = \"responses\"\n{key}\n\
         # Between two words.\nstream_idle_timeout_ms = {}\n",
        filled.model(),
        filled.context,
        filled.url(),
        filled.milliseconds(),
    )
}
