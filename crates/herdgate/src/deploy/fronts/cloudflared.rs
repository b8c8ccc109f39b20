//! cloudflared: an ingress rule for a tunnel. Its file is one for all that a tunnel serves, so another one is never replaced.

use super::{Behind, CLOUDFLARED, CloudflaredArgs, word};
use crate::deploy::{Act, Deployment, Ground, Made, Way, tame_path};
use anyhow::bail;
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
    if asked.credentials.is_none() {
        deployment.notes.push(format!(
            "`cloudflared tunnel create` leaves the credentials in its user's home: sudo install -D -m 0600 ~/.cloudflared/{}.json {}",
            asked.tunnel,
            usual(&asked.tunnel).display()
        ));
    }
    deployment.notes.extend([
        "Cloudflare answers 524 where the first byte takes 100 s, whatever is set here: load large models beforehand (keep_alive)".to_owned(),
        "no tunnel should lead to Ollama's own port: `herdgate doctor` says so where one does".to_owned(),
    ]);
    Ok(deployment)
}

/// Where a service finds what `cloudflared tunnel create` leaves in the home of who calls it.
fn usual(tunnel: &str) -> PathBuf {
    PathBuf::from("/etc/cloudflared").join(format!("{tunnel}.json"))
}

/// Whether it is an id of a tunnel, a UUID.
fn is_id(tunnel: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|sign| sign.is_ascii_hexdigit());
    let lengths = tunnel.split('-').map(|part| if is_hex(part) { part.len() } else { 0 });
    lengths.eq([8, 4, 4, 4, 12])
}

fn text(asked: &CloudflaredArgs, ground: &Ground<'_>, behind: &Behind) -> anyhow::Result<String> {
    let tunnel = word("--tunnel", &asked.tunnel)?;
    let credentials = match &asked.credentials {
        Some(path) => ground.absolute(path),
        None if is_id(tunnel) => usual(tunnel),
        None => bail!(
            "a tunnel's credentials lie in a file that has its id, not its name\n\
             hint: `cloudflared tunnel list` shows the id of {tunnel}: --tunnel ID\n\
             hint: or say where they are: --credentials FILE"
        ),
    };
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
