//! nginx: a server of its own in `conf.d`.

use super::{Behind, NGINX, NginxArgs};
use crate::deploy::{Act, Deployment, Ground, Made, tame_path};
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/nginx/conf.d/herdgate.conf";
/// Where Debian and most others keep the system's roots.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes the server.
///
/// # Errors
/// Where a name or a path cannot stand in nginx's configuration.
pub(crate) fn make(asked: &NginxArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let behind = Behind::of(&asked.front, ground)?;
    let text = text(asked, ground, &behind)?;
    let mut deployment = behind.deployment(NGINX, vec![Made::new(FILE, text)]);
    deployment.then = vec![Act::of("nginx -t"), Act::of("systemctl reload nginx.service")];
    deployment.after_undo = deployment.then.clone();
    Ok(deployment)
}

fn text(asked: &NginxArgs, ground: &Ground<'_>, behind: &Behind) -> anyhow::Result<String> {
    let Behind { name, address, .. } = behind;
    let live = PathBuf::from("/etc/letsencrypt/live").join(name);
    let file = |own: &Option<PathBuf>, usual: &str| {
        let path = own.as_ref().map_or_else(|| live.join(usual), |path| ground.absolute(path));
        tame_path("the certificate's path", &path).map(str::to_owned)
    };
    let (cert, key) = (file(&asked.cert, "fullchain.pem")?, file(&asked.key, "privkey.pem")?);
    let (map, fields) = if behind.has_sockets {
        (
            "# WebSockets, for the routes with upgrade = true.\n\
             map $http_upgrade $herdgate_connection {\n    default upgrade;\n    \"\" \"\";\n}\n\n",
            "        proxy_set_header Upgrade $http_upgrade;\n        proxy_set_header Connection $herdgate_connection;\n",
        )
    } else {
        ("", "        proxy_set_header Connection \"\";\n")
    };
    let verified = match &behind.tls {
        None => String::new(),
        Some(tls) => format!(
            "        proxy_ssl_server_name on;\n        proxy_ssl_name {};\n        proxy_ssl_verify on;\n        \
             proxy_ssl_verify_depth 4;\n        proxy_ssl_trusted_certificate {};\n",
            tls.name,
            tls.roots.as_deref().unwrap_or(ROOTS)
        ),
    };
    let scheme = if behind.tls.is_some() { "https" } else { "http" };
    let head = ground.head(Path::new(FILE), "herdgate behind nginx.");
    let seconds = behind.seconds();
    Ok(format!(
        "{head}\n{map}\
         upstream herdgate {{\n    server {address};\n    keepalive 32;\n}}\n\n\
         server {{\n    \
         listen 443 ssl;\n    \
         listen [::]:443 ssl;\n    \
         server_name {name};\n    \
         ssl_certificate {cert};\n    \
         ssl_certificate_key {key};\n\n    \
         # The gate has its own limits (limits.body, limits.upload), and tells them in the dialect of the caller.\n    \
         client_max_body_size 0;\n\n    \
         location / {{\n        \
         proxy_pass {scheme}://herdgate;\n        \
         proxy_http_version 1.1;\n\
         {fields}\
         {verified}        \
         proxy_set_header Host $http_host;\n        \
         proxy_set_header X-Forwarded-For $remote_addr;\n        \
         proxy_set_header X-Forwarded-Proto $scheme;\n        \
         # Answers go on as they are made, and requests as they come.\n        \
         proxy_buffering off;\n        \
         proxy_request_buffering off;\n        \
         # Longer than the gate waits (queue.max_wait and timeouts.idle): a model that loads is silent.\n        \
         proxy_connect_timeout 5s;\n        \
         proxy_read_timeout {seconds}s;\n        \
         proxy_send_timeout {seconds}s;\n        \
         send_timeout {seconds}s;\n        \
         # Which upstream is asked next is the gate's to say; a request that was sent is not sent twice.\n        \
         proxy_next_upstream off;\n    \
         }}\n}}\n"
    ))
}
