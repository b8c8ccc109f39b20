//! What is wrong with a request's body: what, and at which byte.

use crate::gate_error::GateError;
use crate::reason::Reason;
use gate_types::BadName;
use std::fmt;

/// The first thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyProblem {
    /// What is wrong.
    pub fault: Fault,
    /// At which byte of the body, counted from 0.
    pub at: usize,
}

/// What can be wrong with a body. Field names in it are the client's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing but blanks.
    Empty,
    /// A byte order mark, or UTF-16.
    ByteOrderMark,
    /// JSON, but no object.
    NotAnObject,
    /// Something else than what the grammar wants here.
    Expected(&'static str),
    /// The body ends within the object.
    Truncated,
    /// A byte below 0x20 within a string.
    ControlInString,
    /// An escape that JSON does not have.
    BadEscape,
    /// Bytes after the object.
    Trailing,
    /// More levels than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep,
    /// More fields than [`MAX_FIELDS`](crate::MAX_FIELDS).
    TooManyFields,
    /// A field's name longer than [`MAX_NAME`](crate::MAX_NAME).
    LongFieldName,
    /// A field's name that is no valid Unicode text: readers replace different parts of it.
    FieldNameNotText,
    /// A field twice, in whatever case.
    Twice(Box<str>),
    /// An option twice.
    OptionTwice(Box<str>),
    /// A known field in another spelling, which Ollama reads all the same.
    OtherSpelling(&'static str),
    /// A field with a value that Ollama does not take.
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        wants: &'static str,
    },
    /// `model` and `name` say different models.
    Disagree,
    /// A name that no model can have.
    BadModel(BadName),
    /// A form (`multipart/form-data`) that readers could take in two ways, or not at all.
    Form(&'static str),
}

impl BodyProblem {
    /// The reason that stands for it in the closed list.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self.fault {
            Fault::Empty => Reason::MissingBody,
            Fault::ByteOrderMark
            | Fault::NotAnObject
            | Fault::Expected(_)
            | Fault::Truncated
            | Fault::ControlInString
            | Fault::BadEscape => Reason::MalformedJson,
            Fault::Trailing
            | Fault::FieldNameNotText
            | Fault::Twice(_)
            | Fault::OptionTwice(_)
            | Fault::OtherSpelling(_)
            | Fault::Disagree => Reason::AmbiguousBody,
            Fault::TooDeep | Fault::TooManyFields | Fault::LongFieldName => Reason::BodyTooComplex,
            Fault::WrongType { .. } => Reason::WrongType,
            Fault::BadModel(_) => Reason::InvalidModelName,
            Fault::Form(_) => Reason::MalformedForm,
        }
    }
}

impl fmt::Display for BodyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match &self.fault {
            Fault::Empty => f.write_str("missing request body"),
            Fault::ByteOrderMark => {
                f.write_str("the body begins with a byte order mark; send UTF-8 without one")
            }
            Fault::NotAnObject => write!(f, "the body must be a JSON object (byte {at})"),
            Fault::Expected(what) => write!(f, "invalid JSON at byte {at}: {what} expected"),
            Fault::Truncated => write!(f, "invalid JSON: the body ends at byte {at} within the object"),
            Fault::ControlInString => {
                write!(f, "invalid JSON at byte {at}: a control character in a string must be escaped")
            }
            Fault::BadEscape => write!(f, "invalid JSON at byte {at}: no such escape"),
            Fault::Trailing => write!(f, "unexpected bytes after the JSON object, from byte {at} on"),
            Fault::TooDeep => write!(f, "more than {} levels of nesting (byte {at})", crate::MAX_DEPTH),
            Fault::TooManyFields => {
                write!(f, "more than {} fields in one object (byte {at})", crate::MAX_FIELDS)
            }
            Fault::LongFieldName => {
                write!(f, "a field's name of more than {} bytes (byte {at})", crate::MAX_NAME)
            }
            Fault::FieldNameNotText => write!(f, "the field's name at byte {at} is not valid Unicode"),
            Fault::Twice(name) => {
                write!(f, "the field \"{name}\" at byte {at} is there twice; case makes no difference")
            }
            Fault::OptionTwice(name) => write!(f, "the option \"{name}\" at byte {at} is there twice"),
            Fault::OtherSpelling(name) => {
                write!(f, "the field at byte {at} must be spelled \"{name}\"")
            }
            Fault::WrongType { field, wants } => write!(f, "\"{field}\" must be {wants} (byte {at})"),
            Fault::Disagree => write!(f, "\"model\" and \"name\" say different models (byte {at})"),
            Fault::BadModel(BadName::Invalid) => f.write_str(Reason::InvalidModelName.text()),
            Fault::BadModel(bad @ BadName::LocalAndCloud) => write!(f, "{bad}"),
            Fault::Form(what) => write!(f, "the form cannot be taken (byte {at}): {what}"),
        }
    }
}

impl std::error::Error for BodyProblem {}

impl From<BodyProblem> for GateError {
    fn from(problem: BodyProblem) -> Self {
        GateError::new(problem.reason()).saying(problem.to_string())
    }
}
