//! `herdgate rm`: removes a model from an upstream.

use crate::progress::plain;
use crate::reach::{self, Reach, ReachArgs};
use anyhow::anyhow;
use clap::Args;
use gate_config::Locations;
use http::Method;
use serde_json::json;
use std::io::Write;

/// `herdgate rm …`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// The model
    name: String,
    /// The upstream that shall lose it: its name, URL or host [default: the only one that has it]
    #[arg(long, value_name = "UPSTREAM")]
    on: Option<String>,
    /// Every upstream that has it
    #[arg(long, conflicts_with = "on")]
    all: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

/// Removes it.
pub(crate) fn run(args: &RmArgs, places: &Locations, talk: &mut dyn Write) -> u8 {
    let done =
        Reach::of(&args.reach, places, talk).and_then(|reach| reach::block_on(remove(args, &reach, talk)));
    reach::finish(done, talk)
}

async fn remove(args: &RmArgs, reach: &Reach, talk: &mut dyn Write) -> anyhow::Result<()> {
    let name = &args.name;
    if !reach.is_here() {
        reach::refuse_choice(args.on.is_some() || args.all)?;
        reach.gate(Method::DELETE, "/api/delete", &json!({ "model": name })).await?.ok().await?;
        writeln!(talk, "removed {name}")?;
        return Ok(());
    }
    let body = json!({"model": name, "on": args.on, "all": args.all});
    let told = reach.admin(Method::POST, "/v1/rm", &body).await?.ok().await?.json().await?;
    let upstreams = told["upstreams"].as_array().cloned().unwrap_or_default();
    let mut failed = Vec::new();
    for one in &upstreams {
        let at = plain(one["upstream"].as_str().unwrap_or_default());
        match one["error"].as_str() {
            None => writeln!(talk, "removed {name} from {at}")?,
            Some(error) => {
                let error = plain(error);
                failed.push(anyhow!(
                    "cannot remove {name} from {at}: {}",
                    reach::without_its_name(&error, &at)
                ));
            }
        }
    }
    super::pull::several(failed, upstreams.len(), talk)
}
