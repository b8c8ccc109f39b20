//! Caddy: a site of its own, as a part of the Caddyfile. The certificate is Caddy's.

use super::{Behind, CADDY, FrontArgs};
use crate::deploy::{Act, Deployment, Ground, Made, Way};
use std::path::Path;

const FILE: &str = "/etc/caddy/Caddyfile";

/// Makes the site.
///
/// # Errors
/// Where the name cannot stand in a Caddyfile.
pub(crate) fn make(asked: &FrontArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let behind = Behind::of(asked, ground)?;
    let text = text(ground, &behind);
    let mut deployment = behind.deployment(CADDY, vec![Made { way: Way::Block, ..Made::new(FILE, text) }]);
    deployment.then = vec![
        Act::of(&format!("caddy validate --adapter caddyfile --config {FILE}")),
        Act::of("systemctl reload caddy.service"),
    ];
    deployment.after_undo = deployment.then.clone();
    Ok(deployment)
}

fn text(ground: &Ground<'_>, behind: &Behind) -> String {
    let tls = match &behind.tls {
        None => String::new(),
        Some(roots) => {
            let roots = roots.as_ref().map(|file| format!("            tls_trusted_ca_certs {file}\n"));
            // By this word and not by the scheme: Caddy takes no https:// with port 80.
            format!(
                "            tls\n            tls_server_name {}\n{}",
                behind.name,
                roots.unwrap_or_default()
            )
        }
    };
    let head = ground.head(Path::new(FILE), "herdgate behind Caddy: a site in the Caddyfile.");
    format!(
        "{head}\
         {name} {{\n    \
         reverse_proxy {address} {{\n        \
         # Answers go on as they are made; requests as they come, as long as they like (the gate has its own limits).\n        \
         flush_interval -1\n        \
         # Caddy sets X-Forwarded-For and X-Forwarded-Proto itself.\n        \
         transport http {{\n            \
         versions 1.1\n            \
         dial_timeout 5s\n            \
         # Longer than the gate waits (queue.max_wait and timeouts.idle): a model that loads is silent.\n            \
         response_header_timeout {seconds}s\n            \
         read_timeout {seconds}s\n            \
         write_timeout {seconds}s\n\
         {tls}        \
         }}\n    \
         }}\n}}\n",
        name = behind.name,
        address = behind.address,
        seconds = behind.seconds(),
    )
}
