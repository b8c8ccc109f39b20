//! Keeps the records that the gate writes, one per request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::{DefaultGuard, Interest};

/// A record's fields as text.
pub(crate) type Record = BTreeMap<String, String>;

pub(crate) struct Records {
    kept: Arc<Mutex<Vec<Record>>>,
    _until: DefaultGuard,
}

impl Records {
    /// Keeps all records of this thread from now on.
    pub(crate) fn start() -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = Keeper(Arc::clone(&kept));
        Records { kept, _until: tracing::subscriber::set_default(keeper) }
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.kept.lock().unwrap().clone()
    }
}

struct Keeper(Arc<Mutex<Vec<Record>>>);

impl tracing::Subscriber for Keeper {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        // Other threads keep other records: ask each time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "herdgate::access"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(Record::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fields(Record);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
