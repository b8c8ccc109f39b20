//! How a request ends. "The client went away" is an outcome, not an error.

use gate_wire::GateError;

/// The answer went out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// The status that the client saw.
    pub(crate) status: u16,
}

/// The request ended before its answer was whole.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The client left; there is nobody to tell.
    Gone,
    /// Refused or failed before the first byte of an answer: told to the client in its dialect.
    Refused(Box<GateError>),
    /// It ended after the first byte, by the upstream's failure or from outside: told in the answer itself where its
    /// dialect has words for that, and then the client's connection is cut, so that nobody takes the answer for whole.
    CutShort(Box<GateError>),
}

impl From<GateError> for Ended {
    fn from(error: GateError) -> Self {
        Ended::Refused(Box::new(error))
    }
}
