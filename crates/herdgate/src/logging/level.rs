//! The level in force, which may change while herdgate runs. What is not logged costs one look at a flag, as if the level
//! stood for good.

use gate_config::Level;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{Context, Filter};

/// The levels, least important last; the flag holds a place in it.
const LEVELS: [LevelFilter; 5] =
    [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];

static IN_FORCE: AtomicU8 = AtomicU8::new(2);

/// From now on this is the least important level that is logged.
pub(crate) fn set(level: Level) {
    let place = match level {
        Level::Error => 0,
        Level::Warn => 1,
        Level::Info => 2,
        Level::Debug => 3,
        Level::Trace => 4,
    };
    if IN_FORCE.swap(place, Ordering::Relaxed) != place {
        // Each place in the code that logs remembers whether it does.
        tracing::callsite::rebuild_interest_cache();
    }
}

fn in_force() -> LevelFilter {
    let place = usize::from(IN_FORCE.load(Ordering::Relaxed));
    LEVELS.get(place).copied().unwrap_or(LevelFilter::INFO)
}

/// The HTTP/2 library tells of frames, and header fields are in them: credentials.
const NEVER_HEARD: &str = "h2";

fn is_let_through(meta: &Metadata<'_>) -> bool {
    let is_never_heard = || {
        let rest = meta.target().strip_prefix(NEVER_HEARD);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    *meta.level() <= in_force() && !is_never_heard()
}

/// Whether what is usual is logged, access records among it. Asked for every request.
pub(super) fn is_usual_logged() -> bool {
    in_force() >= LevelFilter::INFO
}

/// Lets through what the level in force does.
pub(super) struct InForce;

impl<S> Filter<S> for InForce {
    fn enabled(&self, meta: &Metadata<'_>, _cx: &Context<'_, S>) -> bool {
        is_let_through(meta)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        if is_let_through(meta) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(in_force())
    }
}
