//! What is known, as plain data: facts that were recorded somewhere can be judged here. Gathering them is in `facts/`.
//!
//! Never: a key, a body, or anything else that nobody else may see.

mod ask;
mod dial;
mod dns;
mod goals;
mod inside;
mod machine;
mod memory;
mod models;
mod multicast;
mod names;
mod places;
mod question;
mod registry;
mod resolver;
mod running;
mod served;
mod tls;
mod unit;

pub(super) use dial::{Around, Dial, End};
pub(super) use inside::Inside;
pub(super) use machine::{
    Answer, Backups, Card, Container, Disk, Firewall, Front, KeyFacts, LogFile, Machine, Maker, Program,
    Rights, Rule, Service, Socket, Tunnel, Verdict,
};
pub(super) use memory::Memory;
#[cfg(test)]
pub(super) use models::Model;
pub(super) use models::{Loaded, Models};
pub(super) use names::{Names, is_local};
pub(super) use places::{Place, Role};
pub(super) use question::Told;
pub(super) use running::{Behind, Pulled, Running};
#[cfg(test)]
pub(super) use served::Ready;
pub(super) use served::{Failed, Served, What};
pub(super) use tls::{Fault, TlsFacts};
pub(super) use unit::Unit;

use gate_config::{Config, Locations, UpstreamUrl};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What to look at.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Only this; else this machine by its settings.
    pub(crate) target: Option<UpstreamUrl>,
    pub(crate) settings: Option<(Box<Config>, Locations)>,
    /// The authorities that the target's certificate must come from, in PEM; the system's where there are none.
    pub(crate) roots: Vec<u8>,
    /// The key that the target is shown.
    pub(crate) bearer: Option<HeaderValue>,
    /// Whether a model may be asked.
    pub(crate) infers: bool,
    pub(crate) model: Option<String>,
    pub(crate) context: Option<u64>,
    pub(crate) after_update: bool,
    /// How long a model may take to answer; else what is left of a minute.
    pub(crate) wait: Option<Duration>,
    /// The container whose network is looked from.
    pub(crate) container: Option<String>,
}

/// Everything that is judged.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    /// What the person asked for.
    pub(super) asked: Asked,
    /// The servers that were looked at, in the order of the settings.
    pub(super) places: Vec<Place>,
    /// Ollama's service, where somebody asked what an update did to it.
    pub(super) unit: Option<Unit>,
    /// This machine, where it is judged.
    pub(super) machine: Option<Machine>,
    /// The gate that runs here, as far as it told.
    pub(super) running: Option<Running>,
    /// The container that was looked from.
    pub(super) inside: Option<Inside>,
}

/// What the person asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// Only one server is judged.
    pub(super) is_target: bool,
    /// The target was shown a key.
    pub(super) as_client: bool,
    /// The model that must be there.
    pub(super) model: Option<String>,
    /// The tokens of context that it must have.
    pub(super) context: Option<u64>,
}

/// Looks at everything side by side.
///
/// # Errors
/// Where a container cannot be looked from.
pub(super) async fn gather(look: &Look) -> anyhow::Result<Facts> {
    let mut asked = Asked {
        is_target: look.target.is_some(),
        as_client: look.bearer.is_some(),
        model: look.model.clone(),
        context: look.context,
    };
    let unit = look.after_update.then(unit::look);
    if let Some(container) = &look.container {
        let (inside, places) = Box::pin(inside::look(look, container)).await?;
        asked.model = asked.model.or_else(|| inside.container.model.clone());
        return Ok(Facts { asked, places, unit, inside: Some(inside), machine: None, running: None });
    }
    let (looked, machine, running) = tokio::join!(
        Box::pin(places::gather(look)),
        Box::pin(machine::gather(look)),
        Box::pin(running::look(look)),
    );
    let places = looked.told(look, look.model.as_deref()).await;
    Ok(Facts { asked, places, unit, machine, running, inside: None })
}
