//! What a request must keep to, each a setting. Made by whoever reads the settings, checked there; nothing here decides.

use gate_policy::QueueLimits;
use gate_types::{OriginPattern, Scope, UpstreamId};
use gate_wire::Template;
use std::time::Duration;

/// The bounds of a request, each a setting.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bounds of heads and chunk framing.
    pub framing: gate_h1::Limits,
    /// Bytes of a request body.
    pub body: usize,
    /// Bytes of an uploaded blob, which passes through and is never held.
    pub upload: u64,
    /// Bytes of all request bodies together that are in memory at one time.
    pub held: usize,
    /// Bytes a second that a request body must bring on the whole, looked at in windows of `head_time`; 0: any number.
    pub body_rate: u64,
    /// Requests at one time on one HTTP/2 connection.
    pub streams: u32,
    /// Client connections at one time, over all cores.
    pub connections: usize,
    /// Client connections at one time from one address, or from one /64 of IPv6.
    pub per_address: usize,
    /// Time for a request head, from its first byte or the connection's beginning, and between two pieces of a request
    /// body.
    pub head_time: Duration,
    /// Time that a connection may wait for its next request.
    pub keep_alive: Duration,
    /// Time between two pieces of an upstream's answer, and before its first; also the time for which a client may take
    /// nothing of an answer that waits for it.
    pub idle: Duration,
    /// Time for a connection to an upstream to stand, TLS included.
    pub connect: Duration,
}

/// What a request must keep to. Replaced whole when the settings are read again: a request keeps the rules that it found.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The bounds.
    pub limits: Limits,
    /// The bounds of running models and of waiting for that.
    pub queue: QueueLimits,
    /// What keys that manage models may do.
    pub manage: Manage,
    /// Who is let in, and what they are told who are not.
    pub door: DoorRules,
    /// The upstreams with a limit of silence of their own in place of [`Limits::idle`].
    pub own_idle: Vec<(UpstreamId, Duration)>,
    /// The routes beside the built-in ones; few.
    pub routes: Vec<ExtraRoute>,
}

impl Rules {
    /// How long this upstream may be silent, where that is not as long as any other.
    pub(crate) fn own_idle(&self, id: UpstreamId) -> Option<Duration> {
        self.own_idle.iter().find(|(of, _)| *of == id).map(|(_, idle)| *idle)
    }

    /// The route beside the built-in ones that this path takes: the one that fixes most of it.
    pub(crate) fn extra(&self, path: &str) -> Option<&ExtraRoute> {
        let fitting = self.routes.iter().filter(|route| route.template.matches(path));
        fitting.max_by_key(|route| route.template.fixed_bytes())
    }
}

/// A path that leads to one upstream, which speaks more than Ollama.
#[derive(Debug, Clone)]
pub struct ExtraRoute {
    /// Which paths.
    pub template: Template,
    /// The scope that a key needs.
    pub scope: Scope,
    /// Where it leads.
    pub upstream: UpstreamId,
    /// Whether WebSockets pass.
    pub upgrade: bool,
}

/// What keys that manage models may do.
#[derive(Debug, Clone)]
pub struct Manage {
    /// Whether models may be pushed.
    pub push: bool,
    /// The registries that models may come from and go to: hosts in lower case, with their ports.
    pub registries: Vec<String>,
}

#[cfg(test)]
impl Rules {
    /// Rules that matter to the stages before the call.
    pub(crate) fn for_tests(proxy_names: &[&str], origins: &[&str]) -> Self {
        Rules {
            limits: Limits {
                framing: gate_h1::Limits::DEFAULT,
                body: 1,
                upload: 1,
                held: 1,
                body_rate: 0,
                streams: 1,
                connections: 1,
                per_address: 1,
                head_time: Duration::ZERO,
                keep_alive: Duration::ZERO,
                idle: Duration::ZERO,
                connect: Duration::ZERO,
            },
            queue: QueueLimits { slots: 1, max_wait: Duration::ZERO, depth: 0 },
            manage: Manage { push: false, registries: Vec::new() },
            own_idle: Vec::new(),
            routes: Vec::new(),
            door: DoorRules {
                failures: 1,
                proxy_names: proxy_names.iter().map(|name| (*name).to_owned()).collect(),
                plain_keys: PlainKeys::Warn,
                origins: origins.iter().map(|text| OriginPattern::parse(text).unwrap()).collect(),
            },
        }
    }
}

/// What the door goes by, each a setting.
#[derive(Debug, Clone)]
pub struct DoorRules {
    /// Wrong credentials a minute from one address that are told that they are wrong.
    pub failures: usize,
    /// The hosts for which the gate answers clients that take it for their proxy; in lower case, without a port.
    pub proxy_names: Vec<String>,
    /// What becomes of a key that crosses a network in clear.
    pub plain_keys: PlainKeys,
    /// The origins whose pages may use the gate from a browser.
    pub origins: Vec<OriginPattern>,
}

/// What becomes of a key that crosses a network in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainKeys {
    /// It is served, and told of once.
    Warn,
    /// It is refused where it comes from a public address.
    RefusePublic,
    /// It is refused.
    Refuse,
}
