//! What the gate that runs on this data directory knows: asked by the admin socket, as `herdgate models` asks it, so that no setting has
//! to be guessed at. Nothing is known of a gate of somebody else's.

use super::Look;
use crate::progress::plain;
use crate::reach::Reach;
use gate_config::UpstreamUrl;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// The gate gives each of its servers five seconds.
const TIME: Duration = Duration::from_secs(8);
/// Servers and pulls that are told.
const MOST: usize = 64;

/// A gate that runs here.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Running {
    /// The servers that it asks for models, whatever the settings say by now.
    pub(in crate::doctor) behind: Vec<Behind>,
}

/// One of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Behind {
    pub(in crate::doctor) url: String,
    /// Why it does not list its models to the gate.
    pub(in crate::doctor) failed: Option<String>,
    pub(in crate::doctor) pulls: Vec<Pulled>,
}

/// A model that is on its way there, or should be.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Pulled {
    pub(in crate::doctor) model: String,
    /// How far it is.
    pub(in crate::doctor) state: String,
    /// Why it does not come.
    pub(in crate::doctor) failing: Option<String>,
    /// What the gate knows to do about that.
    pub(in crate::doctor) hint: Option<String>,
}

impl Running {
    /// The server at this URL.
    pub(in crate::doctor) fn asks(&self, url: &str) -> Option<&Behind> {
        self.behind.iter().find(|one| one.url == url)
    }
}

/// None where none runs, or it does not let this user ask.
pub(super) async fn look(look: &Look) -> Option<Running> {
    let (_, places) = look.settings.as_ref().filter(|_| look.target.is_none())?;
    let here = Reach::Here(places.data.clone());
    let asking = async {
        let answer = here.admin(Method::GET, "/v1/models", &Value::Null).await?;
        answer.ok().await?.json().await
    };
    let told = timeout(TIME, Box::pin(asking)).await.ok()?.ok()?;
    Some(of(&told))
}

fn of(told: &Value) -> Running {
    let behind = told["upstreams"].as_array().into_iter().flatten().take(MOST).map(|one| {
        // A URL as the settings' are shown, with its port.
        let url = text(one, "url").or_else(|| text(one, "upstream")).unwrap_or_default();
        let url = UpstreamUrl::parse(&url).map_or(url, |url| url.to_string());
        let pulls = one["pulling"].as_array().into_iter().flatten().take(MOST).map(|pull| Pulled {
            model: text(pull, "model").unwrap_or_default(),
            state: text(pull, "state").unwrap_or_default(),
            failing: text(pull, "failing"),
            hint: text(pull, "hint"),
        });
        Behind { url, failed: text(one, "error"), pulls: pulls.collect() }
    });
    Running { behind: behind.collect() }
}

fn text(of: &Value, field: &str) -> Option<String> {
    of[field].as_str().map(plain).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_gate_tells_is_read() {
        let pull = json!({"model": "a:1b", "state": "about to be pulled", "failing": null, "hint": null});
        let lost =
            json!({"model": "b:1b", "state": "x", "failing": "its registry cannot be reached", "hint": "y"});
        let told = json!({"upstreams": [
            {"upstream": "card", "url": "http://gpu1", "pulling": [], "error": "no answer"},
            {"upstream": "http://127.0.0.1:4", "url": "http://127.0.0.1:4", "pulling": [pull, lost], "models": []},
        ]});
        let running = of(&told);
        assert_eq!(running.asks("http://gpu1:80").unwrap().failed.as_deref(), Some("no answer"));
        let here = running.asks("http://127.0.0.1:4").unwrap();
        assert_eq!(here.failed, None);
        let failing: Vec<_> = here.pulls.iter().map(|pull| pull.failing.as_deref()).collect();
        assert_eq!(failing, [None, Some("its registry cannot be reached")]);
        assert_eq!(of(&json!([])), Running::default());
    }
}
