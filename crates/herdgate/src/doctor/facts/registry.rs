//! Where Ollama pulls models from: is it reached from here?

use super::dial::{self, End};
use super::names::{self, Eyes};
use std::net::SocketAddr;

/// Where Ollama pulls models from.
const REGISTRY: (&str, u16) = ("registry.ollama.ai", 443);

/// Whether what Ollama pulls from is reached: its name, and its port. Nothing is asked there.
pub(super) async fn look() -> Option<String> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if ["HTTPS_PROXY", "https_proxy"].iter().any(is_set) {
        return None;
    }
    let (host, port) = REGISTRY;
    let names = names::look_up(&Eyes::Here, host).await;
    if let Some(why) = names.failed {
        return Some(format!("{host} cannot be looked up ({why})"));
    }
    let addresses: Vec<SocketAddr> =
        names.addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let dials = dial::dial_all(&addresses).await;
    dials.iter().all(|dial| dial.end != End::Open).then(|| format!("{host} does not answer"))
}
