//! Settings as the rules that requests keep to.

use super::access::Enrolled;
use super::descriptors;
use anyhow::Context as _;
use gate_config::{ByteSize, Config, RouteSetting, Upstream};
use gate_policy::QueueLimits;
use gate_proxy::{DoorRules, ExtraRoute, Limits, Manage, PlainKeys, Rules};
use gate_types::UpstreamId;
use gate_wire::Template;

/// The rules that these settings make.
///
/// # Errors
/// Where a limit is larger than this machine's memory can be.
pub(super) fn rules(config: &Config, named: &Enrolled) -> anyhow::Result<Rules> {
    Ok(Rules {
        limits: limits(config)?,
        queue: queue(config)?,
        manage: manage(config),
        door: door(config),
        own_idle: named.own_idle(),
        routes: routes(config, &named.ids())?,
    })
}

/// `ids` are those of the upstreams, in the order of the settings.
fn routes(config: &Config, ids: &[UpstreamId]) -> anyhow::Result<Vec<ExtraRoute>> {
    let route = |route: &RouteSetting| {
        let is_named = |upstream: &Upstream| upstream.name.as_ref() == Some(&route.upstream);
        let place = config.upstreams.iter().position(is_named);
        let upstream = place.and_then(|place| ids.get(place).copied());
        Ok(ExtraRoute {
            template: Template::parse(&route.path).with_context(|| format!("the route {}", route.path))?,
            scope: route.class,
            upstream: upstream.with_context(|| format!("no upstream {} for a route", route.upstream))?,
            upgrade: route.upgrade,
        })
    };
    config.routes.iter().map(route).collect()
}

fn limits(config: &Config) -> anyhow::Result<Limits> {
    let size = |size: ByteSize| usize::try_from(size.0).context("a limit is larger than memory can be");
    Ok(Limits {
        framing: gate_h1::Limits { head: size(config.limits.head)?, ..gate_h1::Limits::DEFAULT },
        body: size(config.limits.body)?,
        upload: config.limits.upload.0,
        held: size(config.limits.held)?,
        body_rate: config.limits.body_rate.0,
        streams: u32::try_from(config.limits.streams).unwrap_or(u32::MAX),
        connections: descriptors::connections(
            config.limits.connections,
            config.upstreams.iter().map(|upstream| upstream.slots.unwrap_or(config.fleet.slots)).sum(),
        ),
        per_address: config.limits.per_address,
        head_time: config.timeouts.head,
        keep_alive: config.timeouts.keep_alive,
        idle: config.timeouts.idle,
        connect: config.timeouts.connect,
    })
}

fn manage(config: &Config) -> Manage {
    Manage { push: config.manage.push, registries: config.manage.registries.clone() }
}

fn queue(config: &Config) -> anyhow::Result<QueueLimits> {
    Ok(QueueLimits {
        slots: u32::try_from(config.fleet.slots).context("more slots than can be counted")?,
        max_wait: config.queue.max_wait,
        depth: config.queue.depth,
    })
}

fn door(config: &Config) -> DoorRules {
    DoorRules {
        failures: config.auth.failures,
        proxy_names: config.auth.proxy_names.clone(),
        plain_keys: match config.tls.plain_keys {
            gate_config::PlainKeys::Warn => PlainKeys::Warn,
            gate_config::PlainKeys::RefusePublic => PlainKeys::RefusePublic,
            gate_config::PlainKeys::Refuse => PlainKeys::Refuse,
        },
        origins: config.cors.origins.clone(),
    }
}
