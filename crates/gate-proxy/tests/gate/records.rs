//! Keeps the records that the gate writes, one per request.

use gate_proxy::{AccessLog, Fields};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// A record's fields as text.
pub(crate) type Record = BTreeMap<String, String>;

/// All records so far.
#[derive(Clone, Default)]
pub(crate) struct Records(Rc<RefCell<Vec<Record>>>);

impl Records {
    pub(crate) fn all(&self) -> Vec<Record> {
        self.0.borrow().clone()
    }
}

impl AccessLog for Records {
    fn take(&self, record: &gate_proxy::Record<'_>) {
        let mut texts = Texts(Record::new());
        record.visit(&mut texts);
        assert!(texts.0.keys().all(|name| gate_proxy::Record::FIELDS.contains(&name.as_str())));
        self.0.borrow_mut().push(texts.0);
    }
}

struct Texts(Record);

impl Fields for Texts {
    fn text(&mut self, name: &'static str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    fn plain(&mut self, name: &'static str, value: &str) {
        assert!(
            value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)),
            "{name}: {value}"
        );
        self.text(name, value);
    }

    fn address(&mut self, name: &'static str, value: IpAddr) {
        self.text(name, &value.to_string());
    }

    fn shown(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    fn millis(&mut self, name: &'static str, value: Duration) {
        self.0.insert(name.to_owned(), format!("{:.3}", value.as_secs_f64() * 1e3));
    }
}
