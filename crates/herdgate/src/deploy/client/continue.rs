//! Continue, in VS Code and JetBrains: a model of its `config.yaml`.

use super::Filled;

pub(super) fn text(filled: &Filled<'_>) -> String {
    let key = if filled.secret().is_some() {
        "The key is in here: whoever reads this file may use it (chmod 600)."
    } else {
        "The key belongs into ~/.continue/.env, as HERDGATE_KEY=sk-hg-…"
    };
    let head = filled.head(
        "#",
        "herdgate for Continue. Where there is a config.yaml already, put the entry of `models` into its list.",
        &["Written by the schema of @continuedev/config-yaml 1.42; Continue itself was not run.", key],
    );
    let bearer = filled.secret().unwrap_or("${{ secrets.HERDGATE_KEY }}");
    let ca = filled.ca().map_or_else(String::new, |file| {
        format!("      # The gate's own authority.\n      caBundlePath: '{file}'\n")
    });
    format!(
        "{head}\nname: herdgate\nversion: 1.0.0\nschema: v1\nmodels:\n  \
         - name: herdgate\n    \
         provider: ollama\n    \
         model: '{}'\n    \
         apiBase: '{}'\n    \
         roles: [chat, edit, apply]\n    \
         requestOptions:\n      \
         # Seconds.\n      \
         timeout: {}\n\
         {ca}      \
         headers:\n        \
         Authorization: 'Bearer {bearer}'\n",
        filled.model(),
        filled.url(),
        filled.seconds(),
    )
}
