//! What `/metrics` tells: counts that each core keeps for itself, summed when somebody asks, and the state of the fleet at that
//! moment. Labels are bounded: routes, outcomes, codes and upstreams are closed lists, models are those that an upstream
//! lists. No label holds a key's name or words of a client.

mod counts;
mod listener;
mod text;

pub(crate) use counts::Counter;
pub use listener::serve_metrics;

use crate::certificate::Vouched;
use crate::crowd::TurnedAway;
use crate::record::Outcome;
use crate::shared::Shared;
use counts::{Count, Counts, OfRoute, PLACES, Times};
use gate_policy::Health;
use gate_wire::{ROUTES, Reason};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use text::Page;

/// The value of `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric: what its samples are called, and what they say.
struct Metric {
    name: &'static str,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
    write: fn(&mut Page, &'static str, &View<'_>),
}

/// What a scrape looks at.
struct View<'s> {
    shared: &'s Shared,
    cores: Vec<Arc<Counts>>,
}

/// Everything that is told, in this order.
static METRICS: &[Metric] = &[
    Metric {
        name: "herdgate_requests_total",
        kind: "counter",
        labels: "route, outcome, status",
        help: "Requests that have ended, by route (\"none\" where no route took them), outcome and class of status (\"none\" where they ended before any answer).",
        write: requests,
    },
    Metric {
        name: "herdgate_request_seconds",
        kind: "histogram",
        labels: "route",
        help: "From a request's head to its end.",
        write: |page, name, view| per_route(page, name, view, |route| &route.total),
    },
    Metric {
        name: "herdgate_first_byte_seconds",
        kind: "histogram",
        labels: "route",
        help: "From a request's head to the first byte of an upstream's answer (TTFT).",
        write: |page, name, view| per_route(page, name, view, |route| &route.first_byte),
    },
    Metric {
        name: "herdgate_queue_seconds",
        kind: "histogram",
        labels: "",
        help: "How long requests waited for their turn; those that did not wait are not counted.",
        write: queued,
    },
    Metric {
        name: "herdgate_tokens_total",
        kind: "counter",
        labels: "model, kind",
        help: "Tokens as the upstreams counted them, of prompts and of answers; \"other\" stands for models that no upstream lists.",
        write: tokens,
    },
    Metric {
        name: "herdgate_errors_total",
        kind: "counter",
        labels: "code",
        help: "Requests that were refused or failed, by the code that the caller was told.",
        write: errors,
    },
    Metric {
        name: "herdgate_auth_failures_total",
        kind: "counter",
        labels: "code",
        help: "Requests without a valid key.",
        write: auth_failures,
    },
    Metric {
        name: "herdgate_connections_total",
        kind: "counter",
        labels: "",
        help: "Connections of clients that were let in.",
        write: |page, name, view| page.sample(name, &[], view.sum(|core| &core.opened)),
    },
    Metric {
        name: "herdgate_connections_turned_away_total",
        kind: "counter",
        labels: "limit",
        help: "Connections that were closed as they came, by the setting in `limits` whose bound was reached.",
        write: |page, name, view| {
            for (why, limit) in TurnedAway::ALL {
                page.sample(name, &[("limit", limit)], view.shared.crowd.turned_away(why));
            }
        },
    },
    Metric {
        name: "herdgate_connections_made_room_total",
        kind: "counter",
        labels: "",
        help: "Connections that were closed while they waited for a request, because a bound was reached and others came.",
        write: |page, name, view| page.sample(name, &[], view.shared.crowd.made_room()),
    },
    Metric {
        name: "herdgate_connections",
        kind: "gauge",
        labels: "",
        help: "Connections of clients that are open.",
        write: |page, name, view| {
            // Closed first: a connection that ends between the two reads must not count as less than none.
            let closed = view.sum(|core| &core.closed);
            page.sample(name, &[], view.sum(|core| &core.opened).saturating_sub(closed));
        },
    },
    Metric {
        name: "herdgate_upstream_up",
        kind: "gauge",
        labels: "upstream",
        help: "1 where the upstream is up, 0 where it is down or not known yet.",
        write: |page, name, view| {
            per_upstream(page, name, view, |upstream| u64::from(upstream.health() == Health::Up));
        },
    },
    Metric {
        name: "herdgate_upstream_ejected",
        kind: "gauge",
        labels: "upstream",
        help: "1 where the upstream failed so many requests in a row that others are asked first, 0 otherwise.",
        write: |page, name, view| {
            per_upstream(page, name, view, |upstream| u64::from(upstream.is_ejected()));
        },
    },
    Metric {
        name: "herdgate_upstream_ejected_models",
        kind: "gauge",
        labels: "upstream",
        help: "Models that alone failed so often in a row at the upstream that others are asked first for them.",
        write: |page, name, view| {
            per_upstream(page, name, view, |upstream| upstream.ejected_models() as u64);
        },
    },
    Metric {
        name: "herdgate_upstream_in_flight",
        kind: "gauge",
        labels: "upstream",
        help: "Requests of this gate that the upstream has not finished.",
        write: |page, name, view| {
            per_upstream(page, name, view, |upstream| upstream.in_flight().into());
        },
    },
    Metric {
        name: "herdgate_upstream_slots",
        kind: "gauge",
        labels: "upstream",
        help: "So many requests may run a model there at one time.",
        write: |page, name, view| per_upstream(page, name, view, |upstream| upstream.slots().into()),
    },
    Metric {
        name: "herdgate_queue_length",
        kind: "gauge",
        labels: "",
        help: "Requests that wait for a slot.",
        write: |page, name, view| page.sample(name, &[], view.shared.waiting() as u64),
    },
    Metric {
        name: "herdgate_held_bytes",
        kind: "gauge",
        labels: "",
        help: "Memory that the cores have set aside for request bodies and for what HTTP/2 may bring of them ahead.",
        write: |page, name, view| page.sample(name, &[], view.shared.held_bytes() as u64),
    },
    Metric {
        name: "herdgate_certificate_expiry_timestamp_seconds",
        kind: "gauge",
        labels: "",
        help: "When the certificate that clients see expires, in seconds since 1970; 0 where there is none yet, no sample without TLS.",
        write: |page, name, view| match view.shared.certificate.get() {
            Vouched::Plain => {}
            Vouched::NotYet => page.sample(name, &[], 0),
            Vouched::For(life) => page.sample(name, &[], life.until),
        },
    },
    Metric {
        name: "herdgate_store_degraded",
        kind: "gauge",
        labels: "",
        help: "1 where the store of keys cannot be read or trusted, 0 otherwise.",
        write: |page, name, view| page.sample(name, &[], view.shared.store.is_degraded().into()),
    },
    Metric {
        name: "herdgate_build_info",
        kind: "gauge",
        labels: "version",
        help: "1; the version stands in the label.",
        write: |page, name, _| page.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1),
    },
];

/// The counts of all cores.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    cores: Mutex<Vec<Arc<Counts>>>,
}

impl Metrics {
    /// The counter of one more core.
    pub(crate) fn counter(&self) -> Counter {
        let counts = Arc::new(Counts::default());
        self.cores().push(Arc::clone(&counts));
        Counter::new(counts)
    }

    fn cores(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Counts>>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All metrics as they are now, in the text format of Prometheus.
pub(crate) fn scrape(shared: &Shared) -> String {
    let view = View { shared, cores: shared.metrics.cores().clone() };
    let mut page = Page::new();
    for metric in METRICS {
        page.metric(metric.name, metric.kind, metric.help);
        (metric.write)(&mut page, metric.name, &view);
    }
    page.into_text()
}

impl View<'_> {
    fn sum(&self, of: impl Fn(&Counts) -> &Count) -> u64 {
        self.cores.iter().map(|core| of(core).get()).sum()
    }
}

/// The path that stands for a place in the counts.
fn route(place: usize) -> &'static str {
    ROUTES.iter().find(|route| route.id as usize == place).map_or("none", |route| route.path)
}

/// The places that a route can have, and the one of no route.
fn places() -> impl Iterator<Item = usize> {
    (0..PLACES).filter(|place| *place == ROUTES.len() || route(*place) != "none")
}

/// Hands each route's label to `tell`, with what every core has counted of it: the built-in ones, then those beside them.
fn each_route(view: &View<'_>, mut tell: impl FnMut(&str, &[&OfRoute])) {
    for place in places() {
        let counts: Vec<&OfRoute> = view.cores.iter().map(|core| &core.routes[place]).collect();
        tell(route(place), &counts);
    }
    let mut extra: BTreeMap<Arc<str>, Vec<Arc<OfRoute>>> = BTreeMap::new();
    for core in &view.cores {
        for (template, counts) in core.extra.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            extra.entry(Arc::clone(template)).or_default().push(Arc::clone(counts));
        }
    }
    for (template, counts) in extra {
        tell(&template, &counts.iter().map(Arc::as_ref).collect::<Vec<_>>());
    }
}

fn requests(page: &mut Page, name: &'static str, view: &View<'_>) {
    const STATUS: [&str; counts::CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
    each_route(view, |route, counts| {
        for outcome in Outcome::ALL {
            for (class, status) in STATUS.into_iter().enumerate() {
                let count: u64 = counts.iter().map(|core| core.requests[outcome as usize][class].get()).sum();
                if count > 0 {
                    let labels = [("route", route), ("outcome", outcome.as_str()), ("status", status)];
                    page.sample(name, &labels, count);
                }
            }
        }
    });
}

fn per_route(
    page: &mut Page,
    name: &'static str,
    view: &View<'_>,
    of: impl Fn(&counts::OfRoute) -> &counts::Histogram,
) {
    each_route(view, |route, counts| {
        let mut times = Times::default();
        counts.iter().for_each(|core| of(core).add_to(&mut times));
        if times.buckets.iter().any(|bucket| *bucket > 0) {
            page.histogram(name, &[("route", route)], &times);
        }
    });
}

impl View<'_> {
    fn times(&self, of: impl Fn(&Counts) -> &counts::Histogram) -> Times {
        let mut sum = Times::default();
        for core in &self.cores {
            of(core).add_to(&mut sum);
        }
        sum
    }
}

fn queued(page: &mut Page, name: &'static str, view: &View<'_>) {
    page.histogram(name, &[], &view.times(|core| &core.queued));
}

fn tokens(page: &mut Page, name: &'static str, view: &View<'_>) {
    let mut models: BTreeMap<Box<str>, (u64, u64)> = BTreeMap::new();
    for core in &view.cores {
        for (model, tokens) in core.models.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let sum = models.entry(model.clone()).or_default();
            sum.0 += tokens.prompts.get();
            sum.1 += tokens.answers.get();
        }
    }
    for (model, (prompts, answers)) in models {
        page.sample(name, &[("model", &model), ("kind", "prompt")], prompts);
        page.sample(name, &[("model", &model), ("kind", "answer")], answers);
    }
}

fn errors(page: &mut Page, name: &'static str, view: &View<'_>) {
    by_reason(page, name, view, Reason::ALL.iter().copied());
}

fn auth_failures(page: &mut Page, name: &'static str, view: &View<'_>) {
    let failures = [
        Reason::NoCredentials,
        Reason::BadCredentialsForm,
        Reason::ConflictingCredentials,
        Reason::InvalidKey,
        Reason::TooManyFailures,
    ];
    by_reason(page, name, view, failures.into_iter());
}

fn by_reason(page: &mut Page, name: &'static str, view: &View<'_>, reasons: impl Iterator<Item = Reason>) {
    for reason in reasons {
        let count = view.sum(|core| &core.reasons[reason as usize]);
        if count > 0 {
            page.sample(name, &[("code", reason.code())], count);
        }
    }
}

fn per_upstream(
    page: &mut Page,
    name: &'static str,
    view: &View<'_>,
    of: impl Fn(&gate_policy::Upstream) -> u64,
) {
    let all: Vec<_> =
        view.shared.with_fleet(|fleet| fleet.iter().map(|(id, upstream)| (id, of(upstream))).collect());
    for (id, value) in all {
        page.sample(name, &[("upstream", view.shared.upstream_name(id))], value);
    }
}

/// The page `docs/metrics.md`.
#[must_use]
pub fn metrics_reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Made from the list of metrics in crates/gate-proxy; `UPDATE_DOCS=1 cargo test -p gate-proxy` writes it. -->\n\n\
         `GET /metrics`, in the text format of Prometheus, for keys with the scope `manage`; or, for a Prometheus without a key, on a\n\
         listener of its own, which answers nothing else: `metrics.address = \"127.0.0.1:9090\"`. That one asks for no key, so keep\n\
         it on loopback or on a network of your own.\n\n\
         Counts are summed over all threads when somebody asks; a series that has counted nothing yet is left out. No label\n\
         holds a key's name: who asked what stands in the [access records](records.md). The outcomes are explained there, the\n\
         codes in [errors.md](errors.md).\n\n\
         | metric | kind | labels | what it says |\n|---|---|---|---|\n",
    );
    for Metric { name, kind, labels, help, .. } in METRICS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
    }
    let bounds: Vec<String> = counts::BOUNDS.iter().map(|millis| format!("{millis}")).collect();
    let _infallible = writeln!(
        page,
        "\nHistograms have buckets up to {} milliseconds, and one without a bound.",
        bounds.join(", ")
    );
    page
}
