//! What Open WebUI and n8n share: a part of a stack that compose lays over the one that is there.

use super::Filled;

/// Where the authority's file is in the container.
pub(super) const CA: &str = "/etc/ssl/herdgate-ca.pem";

/// One variable, with why.
pub(super) type Variable = (&'static str, String, &'static str);

/// What stands where compose puts the key in, or the key itself. Behind a colon and `?`: compose says what is missing.
pub(super) fn key(filled: &Filled<'_>) -> String {
    filled.secret().map_or_else(|| "${HERDGATE_KEY:?herdgate key create NAME}".to_owned(), str::to_owned)
}

/// Where the key goes, for people.
pub(super) fn key_line(filled: &Filled<'_>) -> &'static str {
    if filled.secret().is_some() {
        "The key is in here: whoever reads this file may use it (chmod 600)."
    } else {
        "The key belongs into .env beside it, as HERDGATE_KEY=sk-hg-…"
    }
}

pub(super) fn stack(filled: &Filled<'_>, service: &str, variables: &[Variable]) -> String {
    let mut text = format!("services:\n  {service}:\n    environment:\n");
    for (name, value, why) in variables {
        if !why.is_empty() {
            text.push_str(&format!("      # {why}\n"));
        }
        text.push_str(&format!("      {name}: '{value}'\n"));
    }
    if filled.address.is_below {
        text.push_str("    extra_hosts:\n      - 'host.docker.internal:host-gateway'\n");
    }
    if let Some(file) = filled.ca() {
        text.push_str(&format!(
            "    volumes:\n      - type: bind\n        source: '{file}'\n        target: {CA}\n        read_only: true\n"
        ));
    }
    text
}

/// For whoever would rather give the container neither key nor authority.
pub(super) fn instead(filled: &Filled<'_>, option: &str) -> String {
    let ca = filled.ca().map_or_else(String::new, |file| format!(" --ca {file}"));
    format!(
        "`herdgate deploy compose --consumer {option} --gate {}{ca}` makes a stack in which `herdgate connect` has the key instead.",
        filled.url()
    )
}
