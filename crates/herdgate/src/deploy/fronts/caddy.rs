//! Caddy: a site of its own, as a part of the Caddyfile. The certificate is Caddy's.

use super::{Behind, CADDY, FrontArgs};
use crate::deploy::{Act, Deployment, Ground, Made, Way};
use std::path::Path;

const FILE: &str = "/etc/caddy/Caddyfile";
/// Caddy runs as a user of its own, who cannot look into the gate's data directory. Programs of this machine have a copy here, too.
const ROOTS: &str = "/etc/herdgate/tls-ca.pem";

/// Makes the site.
///
/// # Errors
/// Where the name cannot stand in a Caddyfile.
pub(crate) fn make(asked: &FrontArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let behind = Behind::of(asked, ground)?;
    let text = text(ground, &behind);
    let roots = behind.tls.as_ref().and_then(|tls| tls.roots.clone());
    let mut deployment = behind.deployment(CADDY, vec![Made { way: Way::Block, ..Made::new(FILE, text) }]);
    deployment.then = vec![
        Act::of(&format!("caddy validate --adapter caddyfile --config {FILE}")),
        Act::of("systemctl reload caddy.service"),
    ];
    deployment.after_undo = deployment.then.clone();
    if let Some(file) = roots {
        deployment
            .then
            .insert(0, Act(["install", "-D", "-m", "0644", &file, ROOTS].map(str::to_owned).into()));
    }
    Ok(deployment)
}

fn text(ground: &Ground<'_>, behind: &Behind) -> String {
    let tls = match &behind.tls {
        None => String::new(),
        Some(tls) => {
            let roots = tls.roots.as_ref().map(|_| format!("            tls_trusted_ca_certs {ROOTS}\n"));
            // By this word and not by the scheme: Caddy takes no https:// with port 80.
            format!(
                "            tls\n            tls_server_name {}\n{}",
                tls.name,
                roots.unwrap_or_default()
            )
        }
    };
    let head = ground.head(Path::new(FILE), "herdgate behind Caddy: a site in the Caddyfile.");
    format!(
        "{head}\
         {name} {{\n    \
         reverse_proxy {address} {{\n        \
         # Streams are flushed at once, and requests go on as they come. No flush_interval -1: with it Caddy would go on\n        \
         # reading the answer for a client that has left, and the model would work on.\n        \
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
