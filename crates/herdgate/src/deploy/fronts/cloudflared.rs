//! cloudflared: an ingress rule for a tunnel. Its file is one for all that a tunnel serves, so another one is never replaced.

use super::{Behind, CLOUDFLARED, CloudflaredArgs, word};
use crate::deploy::{Act, Deployment, Ground, Made, Way, tame_path};
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/cloudflared/config.yml";

/// Makes the file.
///
/// # Errors
/// Where a name cannot stand in it.
pub(crate) fn make(asked: &CloudflaredArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let behind = Behind::of(&asked.front, ground)?;
    let text = text(asked, ground, &behind)?;
    let route = format!("cloudflared tunnel route dns {} {}", asked.tunnel, behind.name);
    let mut deployment =
        behind.deployment(CLOUDFLARED, vec![Made { way: Way::Sole, ..Made::new(FILE, text) }]);
    deployment.then = vec![
        Act::of("cloudflared tunnel ingress validate"),
        Act::of(&route),
        Act::of("systemctl restart cloudflared.service"),
    ];
    deployment.after_undo = vec![Act::of("systemctl try-restart cloudflared.service")];
    deployment.notes.extend([
        "Cloudflare answers 524 where the first byte takes 100 s, whatever is set here: load large models beforehand (keep_alive)".to_owned(),
        "no tunnel should lead to Ollama's own port: `herdgate doctor` says so where one does".to_owned(),
    ]);
    Ok(deployment)
}

fn text(asked: &CloudflaredArgs, ground: &Ground<'_>, behind: &Behind) -> anyhow::Result<String> {
    let tunnel = word("--tunnel", &asked.tunnel)?;
    let usual = || PathBuf::from("/etc/cloudflared").join(format!("{tunnel}.json"));
    let credentials = asked.credentials.as_ref().map_or_else(usual, |path| ground.absolute(path));
    let credentials = tame_path("--credentials", &credentials)?;
    let verified = match &behind.tls {
        None => String::new(),
        Some(tls) => {
            let roots = tls.roots.as_ref().map(|file| format!("      caPool: \"{file}\"\n"));
            format!("      originServerName: \"{}\"\n{}", tls.name, roots.unwrap_or_default())
        }
    };
    let head = ground.head(Path::new(FILE), "herdgate behind a Cloudflare Tunnel.");
    let (name, url) = (&behind.name, behind.url());
    Ok(format!(
        "{head}\n\
         tunnel: \"{tunnel}\"\n\
         credentials-file: \"{credentials}\"\n\n\
         ingress:\n  \
         - hostname: \"{name}\"\n    \
         service: \"{url}\"\n    \
         originRequest:\n\
         {verified}      \
         connectTimeout: 5s\n      \
         keepAliveTimeout: 60s\n      \
         # A body goes on as it comes, with no length that nobody knows yet.\n      \
         disableChunkedEncoding: false\n  \
         # Nothing else of this machine is open.\n  \
         - service: http_status:404\n"
    ))
}
