//! Traefik: router, service and transport for its file provider.

use super::{Behind, TRAEFIK, TraefikArgs, word};
use crate::deploy::{Deployment, Ground, Made};
use std::path::Path;

const FILE: &str = "/etc/traefik/dynamic/herdgate.yml";

/// Makes the file.
///
/// # Errors
/// Where a name cannot stand in it.
pub(crate) fn make(asked: &TraefikArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let behind = Behind::of(&asked.front, ground)?;
    let text = text(asked, ground, &behind)?;
    let seconds = behind.seconds();
    let mut deployment = behind.deployment(TRAEFIK, vec![Made::new(FILE, text)]);
    deployment.notes.extend([
        "Traefik reads it where its own settings say providers.file.directory: /etc/traefik/dynamic (with watch, at once)".to_owned(),
        format!(
            "its own settings must also give long uploads their time, 60 s by default: entryPoints.{0}.transport.respondingTimeouts.readTimeout: \"{seconds}s\"",
            asked.entry_point
        ),
    ]);
    Ok(deployment)
}

fn text(asked: &TraefikArgs, ground: &Ground<'_>, behind: &Behind) -> anyhow::Result<String> {
    let entry = word("--entry-point", &asked.entry_point)?;
    let tls = match &asked.cert_resolver {
        None => "      tls: {}\n".to_owned(),
        Some(name) => format!("      tls:\n        certResolver: \"{}\"\n", word("--cert-resolver", name)?),
    };
    let verified = match &behind.tls {
        None => String::new(),
        Some(tls) => {
            let roots = tls.roots.as_ref().map(|file| format!("      rootCAs:\n        - \"{file}\"\n"));
            format!("      serverName: \"{}\"\n{}", tls.name, roots.unwrap_or_default())
        }
    };
    let head = ground.head(Path::new(FILE), "herdgate behind Traefik: for its file provider.");
    let (name, url, seconds) = (&behind.name, behind.url(), behind.seconds());
    Ok(format!(
        "{head}\n\
         http:\n  \
         routers:\n    \
         herdgate:\n      \
         rule: \"Host(`{name}`)\"\n      \
         entryPoints:\n        - \"{entry}\"\n      \
         service: herdgate\n\
         {tls}\
         \x20 services:\n    \
         herdgate:\n      \
         loadBalancer:\n        \
         # X-Forwarded-For and X-Forwarded-Proto are Traefik's own; no middleware with buffering belongs here.\n        \
         passHostHeader: true\n        \
         serversTransport: herdgate\n        \
         # Answers go on as they are made.\n        \
         responseForwarding:\n          flushInterval: \"-1ns\"\n        \
         servers:\n          - url: \"{url}\"\n  \
         serversTransports:\n    \
         herdgate:\n\
         {verified}      \
         disableHTTP2: true\n      \
         forwardingTimeouts:\n        \
         dialTimeout: \"5s\"\n        \
         # Longer than the gate waits (queue.max_wait and timeouts.idle): a model that loads is silent.\n        \
         responseHeaderTimeout: \"{seconds}s\"\n        \
         idleConnTimeout: \"60s\"\n"
    ))
}
