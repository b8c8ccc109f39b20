//! Which models each upstream has, asked of the upstreams themselves: so that whoever restores a gate knows what to pull.
//! What does not answer is written down as such; a backup does not fail for it.

use crate::server::endpoint;
use gate_config::Config;
use gate_upstream::probe::{Probe, probe};
use gate_upstream::{Client, ClientLimits, Endpoint, Roster, Tls};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::LocalSet;

/// A list of the upstreams of these settings, with what each of them says it has.
///
/// # Errors
/// Where the system gives no runtime.
pub(crate) fn upstreams(config: &Config) -> anyhow::Result<Vec<Value>> {
    let endpoints = config.upstreams.iter().map(endpoint).collect::<anyhow::Result<Vec<Endpoint>>>()?;
    let roster: Arc<Roster> = Arc::new(endpoints.iter().cloned().collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limits = ClientLimits { connect: config.timeouts.connect, ..ClientLimits::default() };
    let answers = LocalSet::new().block_on(&runtime, async {
        let client = Client::of(Arc::clone(&roster), Tls::system(), limits);
        let all = endpoints.iter().filter_map(|endpoint| roster.enrol(endpoint.clone()));
        let asked: Vec<_> = all
            .map(|id| {
                let client = client.clone();
                tokio::task::spawn_local(async move { probe(&client, id).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.ok());
        }
        answers
    });
    Ok(endpoints.iter().zip(answers).map(|(endpoint, answer)| told(endpoint, answer.as_ref())).collect())
}

fn told(endpoint: &Endpoint, answer: Option<&Probe>) -> Value {
    let url = endpoint.to_string();
    let Some(Probe { version, models, .. }) = answer else { return json!({"url": url}) };
    match (version, models) {
        (Ok(version), Ok(models)) => {
            let mut models: Vec<_> = models.iter().collect();
            models.sort_by(|one, other| one.name.cmp(&other.name));
            let entry = |model: &&gate_upstream::probe::ModelEntry| json!({"name": model.name, "size": model.size, "digest": model.digest});
            json!({"url": url, "version": version, "models": models.iter().map(entry).collect::<Vec<_>>()})
        }
        (Err(reason), _) | (_, Err(reason)) => json!({"url": url, "error": reason.to_string()}),
    }
}
