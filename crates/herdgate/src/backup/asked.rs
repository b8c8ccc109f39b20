//! Which models each upstream has, asked of the upstreams themselves: so that whoever restores a gate knows what to pull.
//! What does not answer is written down as such; a backup does not fail for it.

use crate::server;
use gate_config::Config;
use gate_types::UpstreamId;
use gate_upstream::probe::{Probe, probe};
use gate_upstream::{Client, ClientLimits, Endpoint, Tls};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::LocalSet;

/// A list of the upstreams of these settings, with what each of them says it has.
///
/// # Errors
/// Where the system gives no runtime.
pub(crate) fn upstreams(config: &Config) -> anyhow::Result<Vec<Value>> {
    let roster = Arc::new(server::roster(config)?);
    let mut endpoints: Vec<(UpstreamId, Endpoint)> =
        (0..).map(UpstreamId).map_while(|id| Some((id, roster.get(id)?.clone()))).collect();
    // They are on the roster in the order of the settings; one that is no Ollama has no models.
    let mut upstreams = config.upstreams.iter();
    endpoints.retain(|_| upstreams.next().is_none_or(|upstream| upstream.is_ollama));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limits = ClientLimits { connect: config.timeouts.connect, ..ClientLimits::default() };
    let answers = LocalSet::new().block_on(&runtime, async {
        let client = Client::of(Arc::clone(&roster), Tls::system(), limits);
        let asked: Vec<_> = endpoints
            .iter()
            .map(|(id, _)| {
                let id = *id;
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
    Ok(endpoints.iter().zip(answers).map(|((_, endpoint), answer)| told(endpoint, answer.as_ref())).collect())
}

fn told(endpoint: &Endpoint, answer: Option<&Probe>) -> Value {
    let url = endpoint.url();
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
