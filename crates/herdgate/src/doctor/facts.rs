//! What is known, as plain data: facts that were recorded somewhere can be judged here. Gathering them is in `facts/`.
//!
//! Never: a key, a body, or anything else that nobody else may see.

mod ask;
mod dial;
mod names;
mod places;
mod served;
mod tls;

pub(super) use dial::{Around, Dial, End};
pub(super) use names::Names;
pub(super) use places::{Place, Role};
pub(super) use served::{Failed, Served, What};
pub(super) use tls::{Fault, TlsFacts};

use gate_config::{Config, Locations, UpstreamUrl};
use serde::{Deserialize, Serialize};

/// What to look at.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Only this; else this machine by its settings.
    pub(crate) target: Option<UpstreamUrl>,
    pub(crate) settings: Option<(Box<Config>, Locations)>,
    /// The authorities that the target's certificate must come from, in PEM; the system's where there are none.
    pub(crate) roots: Vec<u8>,
}

/// Everything that is judged.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    /// What the person asked for.
    pub(super) asked: Asked,
    /// The servers that were looked at, in the order of the settings.
    pub(super) places: Vec<Place>,
}

/// What the person asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// Only one server is judged.
    pub(super) is_target: bool,
}

/// Looks at everything side by side.
pub(super) async fn gather(look: &Look) -> Facts {
    let asked = Asked { is_target: look.target.is_some() };
    Facts { asked, places: places::gather(look).await }
}
