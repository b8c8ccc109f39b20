//! What is said on the terminal of what programs do not show: that the gate is away, refuses the key, or that somebody knocked
//! who has no business here. Each thing once, until it is over; what waits to be written has a bound.

use super::door::Stranger;
use super::pass::Asked;
use crate::client::{Gate, NoWay};
use http::StatusCode;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Paths of which it is remembered that they were refused.
const PATHS: usize = 32;

/// The voice; what it says is written elsewhere.
pub(super) struct Voice {
    lines: mpsc::Sender<String>,
    /// The gate, in words.
    gate: String,
    said: Mutex<Said>,
}

/// What was said and is not over.
#[derive(Default)]
struct Said {
    trouble: Option<String>,
    is_key_bad: bool,
    refused: BTreeSet<String>,
    page: bool,
    host: bool,
    http1: bool,
}

impl Voice {
    pub(super) fn new(lines: mpsc::Sender<String>, gate: &Gate) -> Self {
        Voice { lines, gate: gate.url().to_string(), said: Mutex::default() }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says it, unless nobody writes what is said: then a program waits for no terminal.
    fn say(&self, line: String) {
        let _full = self.lines.try_send(line);
    }

    fn trouble(&self, what: String, hint: &str) {
        let mut said = self.said();
        if said.trouble.as_ref() != Some(&what) {
            self.say(format!("error: the gate at {}: {what}\nhint: {hint}", self.gate));
            said.trouble = Some(what);
        }
    }

    /// Whether it is asked without TLS.
    fn is_plain(&self) -> bool {
        self.gate.to_string().starts_with("http://")
    }

    /// There is no connection.
    pub(super) fn no_way(&self, no_way: &NoWay) {
        self.trouble(no_way.to_string(), no_way.hint());
    }

    /// Something answers that is no gate.
    pub(super) fn not_a_gate(&self, error: &hyper::Error) {
        let hint = "is that a gate? One that speaks TLS there is an https:// URL";
        self.trouble(format!("what answers there does not speak HTTP ({})", cause(error)), hint);
    }

    /// A connection ended under a request.
    pub(super) fn broke_off(&self, error: &hyper::Error) {
        // What a gate that speaks TLS makes of plain HTTP looks like this, or like no HTTP at all, as the time falls.
        let hint = if self.is_plain() {
            "was the gate restarted, or the network changed? The next request opens a new connection. A gate that speaks TLS \
             there is an https:// URL"
        } else {
            "was the gate restarted, or the network changed? The next request opens a new connection"
        };
        self.trouble(format!("the connection ended without an answer ({})", cause(error)), hint);
    }

    /// A request was answered, over HTTP/1.1 or over the one connection.
    pub(super) fn reached(&self, is_http1: bool) {
        let mut said = self.said();
        if said.trouble.take().is_some() {
            self.say(format!("the gate at {} answers again", self.gate));
        }
        if is_http1 && !std::mem::replace(&mut said.http1, true) {
            self.say(format!(
                "warning: what answers at {} does not speak HTTP/2; every request gets a connection of its own\n\
                 hint: something in front of the gate? If it can pass HTTP/2 on, let it",
                self.gate
            ));
        }
    }

    /// The answer to the look at the start.
    pub(super) fn looked(&self, status: StatusCode) {
        match status {
            StatusCode::UNAUTHORIZED => self.bad_key(status),
            StatusCode::TOO_MANY_REQUESTS => self.say(format!(
                "warning: the gate at {} has seen too many wrong keys from here and lets nobody in for a minute\n\
                 hint: is there another program on this network that has a wrong one?",
                self.gate
            )),
            // A key that may not see lists, or an address at which nobody shall show one: the status does not tell.
            StatusCode::FORBIDDEN => self.say(format!(
                "{} answers, and refuses to list its models (403)\n\
                 hint: a key without the scope \"read\" may still ask models; otherwise compare the address with the gate's{}",
                self.gate,
                if self.is_plain() { ": one that speaks TLS there is an https:// URL" } else { "" }
            )),
            status if status.is_success() => {
                self.say(format!("the gate at {} answers and takes the key", self.gate));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => self.say(format!(
                "warning: the gate at {} answers {status}: its model server may be starting, or away\n\
                 hint: whoever runs the gate reads the reason in its log",
                self.gate
            )),
            status => self.say(format!("warning: the gate at {} answers {status}", self.gate)),
        }
    }

    /// A program got an answer with this status.
    pub(super) fn answered(&self, asked: &Asked, status: StatusCode) {
        match status {
            StatusCode::UNAUTHORIZED => self.bad_key(status),
            StatusCode::FORBIDDEN => self.forbidden(asked),
            status if status.is_success() => {
                let mut said = self.said();
                // Nobody needs a key for these.
                if !matches!(asked.path.path(), "/" | "/api/version" | "/healthz" | "/readyz") {
                    said.is_key_bad = false;
                }
                if !said.refused.is_empty() {
                    said.refused.remove(asked.path.path());
                }
            }
            _ => {}
        }
    }

    fn bad_key(&self, status: StatusCode) {
        let mut said = self.said();
        if !said.is_key_bad {
            said.is_key_bad = true;
            self.say(format!(
                "error: the gate at {} refuses the key ({status}): it is unknown there, has expired or was revoked\n\
                 hint: whoever runs the gate can make another (herdgate key create NAME); start this anew with it",
                self.gate
            ));
        }
    }

    fn forbidden(&self, asked: &Asked) {
        let mut said = self.said();
        let path = asked.path.path();
        if said.refused.len() < PATHS && said.refused.insert(path.to_owned()) {
            self.say(format!(
                "warning: the gate at {} refuses {} {path} (403): the key may not do that, or is no longer valid; the \
                 program was told why\n\
                 hint: whoever runs the gate can let it do more (herdgate key set NAME --scope …)",
                self.gate, asked.method
            ));
        }
    }

    /// Somebody was not let in.
    pub(super) fn refused(&self, stranger: Stranger) {
        let mut said = self.said();
        let (before, line) = match stranger {
            Stranger::Page => (
                &mut said.page,
                "warning: a web page tried to use the gate through this port and was refused",
            ),
            Stranger::Host => (
                &mut said.host,
                "warning: a request for another host than localhost came to this port and was refused: a web page, or a \
                 program that knows this machine by another name",
            ),
        };
        if !std::mem::replace(before, true) {
            self.say(line.to_owned());
        }
    }
}

/// What is behind it all; what stands before it only says where it was noticed.
fn cause(error: &hyper::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
