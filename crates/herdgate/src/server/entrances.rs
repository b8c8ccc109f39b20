//! What the settings say of each listener, as the cores need it; and when to look anew at where nobody may come from without a key.

use super::bind::Bound;
use super::core::Door;
use super::neighbourhood::Neighbourhood;
use super::netlink;
use super::strangers::Never;
use super::tls::Speaking;
use anyhow::{Context as _, bail};
use gate_config::Config;
use gate_proxy::{Anonymous, Entrance, Strangers};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the machine's addresses and routes are looked at, where anybody is let in without a key.
const LOOK: Duration = Duration::from_secs(2);

/// All listeners that let somebody in without a key.
#[derive(Default)]
pub(super) struct Unkeyed {
    doors: Vec<Arc<Never>>,
    /// Theirs; none where there are none.
    neighbourhood: Option<Arc<Neighbourhood>>,
    looked: Option<Instant>,
    /// Why the latest look failed: told once.
    failed: Option<String>,
}

impl Unkeyed {
    fn neighbourhood(&mut self) -> anyhow::Result<Arc<Neighbourhood>> {
        if let Some(known) = &self.neighbourhood {
            return Ok(Arc::clone(known));
        }
        let known = Neighbourhood::of(Instant::now(), netlink::neighbours);
        let known = Arc::new(known.context("the neighbours of this machine cannot be read")?);
        self.neighbourhood = Some(Arc::clone(&known));
        Ok(known)
    }

    /// Looks anew at where nobody may come from. While that fails, what was seen last counts.
    pub(super) fn look(&mut self) {
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if self.doors.is_empty() || !is_due {
            return;
        }
        self.looked = Some(Instant::now());
        let failed = self.doors.iter().find_map(|door| door.look().err()).map(|error| format!("{error:#}"));
        match (&failed, &self.failed) {
            (Some(why), before) if before.as_ref() != Some(why) => {
                tracing::warn!("insecure_anonymous keeps the addresses that it has refused so far: {why}");
            }
            (None, Some(_)) => tracing::info!("insecure_anonymous sees this machine's addresses again"),
            (Some(_) | None, _) => {}
        }
        self.failed = failed;
    }
}

/// What each listener is on each of `cores` cores.
///
/// # Errors
/// Where callers shall come in without a key, and the addresses from which none may are not to be had.
pub(super) fn doors(
    bound: Vec<Bound>,
    config: &Config,
    speaking: Option<&Speaking>,
    cores: usize,
) -> anyhow::Result<(Vec<Vec<Door>>, Unkeyed)> {
    let secure = bound.iter().find(|bound| bound.listener.is_tls(config)).map(|bound| bound.address.port());
    let mut unkeyed = Unkeyed::default();
    let mut doors: Vec<Vec<Door>> = (0..cores).map(|_| Vec::new()).collect();
    for Bound { sockets, is_lent, listener, address: _ } in bound {
        let is_tls = listener.is_tls(config);
        let anonymous = match &listener.insecure_anonymous {
            None => None,
            Some(anonymous) => {
                let known = unkeyed.neighbourhood()?;
                let never = Arc::new(Never::of(anonymous.networks.clone(), known)?);
                unkeyed.doors.push(Arc::clone(&never));
                Some((anonymous, never))
            }
        };
        if listener.redirect && secure.is_none() {
            bail!("the listener {listener} redirects, and no socket that was handed over speaks TLS");
        }
        // Those of a gate before this one may be more than its cores, and connections come by each of them.
        for (place, socket) in sockets.into_iter().enumerate() {
            let anonymous = anonymous.as_ref().map(|(anonymous, never)| {
                let never: Arc<dyn Strangers> = Arc::<Never>::clone(never);
                Anonymous::new(anonymous.networks.clone(), anonymous.acts_as.clone(), never)
            });
            let entrance = Entrance {
                is_tls,
                redirect: secure
                    .filter(|_| listener.redirect)
                    .map(|own| listener.redirect_port.unwrap_or(own)),
                trusted_proxies: listener.trusted(config).to_vec(),
                anonymous,
                hsts: config.tls.hsts.filter(|_| is_tls).map(|time| format!("max-age={}", time.as_secs())),
            };
            let speaking = speaking.filter(|_| is_tls).map(Arc::clone);
            doors[place % cores].push(Door { socket, is_lent, entrance, speaking });
        }
    }
    Ok((doors, unkeyed))
}
