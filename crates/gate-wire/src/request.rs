//! What a call's body says: model, stream, and where the parts lie that policy may want to see.
//!
//! One strict pass over the whole body. It passes only what has one reading, so that the very bytes can go on: Go's
//! decoder takes fields in any case, lets the last duplicate win, merges two `options` and ignores what follows the
//! object; all of that is refused here. It never changes a byte and never looks at who is asking.

use crate::called::{LONGEST, Reading};
use crate::fields::{Names, folded, other_spelling};
use crate::nested::{self, Name};
use crate::problem::{BodyProblem, Fault};
use crate::scan::{Quoted, Scan, Scanner, text};
use crate::shape::{Also, JsonShape, Naming};
use gate_types::{BadName, ModelName};
use std::borrow::Cow;
use std::ops::Range;

/// What a body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts<'b> {
    /// The model, or of a copy its source. `None`: the body names none, and the shape's
    /// [`unnamed`](JsonShape::unnamed) says how Ollama answers that.
    pub model: Option<ModelName>,
    /// The model as the client spelled it, empty where there is none.
    pub model_as_sent: Cow<'b, str>,
    /// Whether the answer is to be streamed, defaults applied.
    pub stream: bool,
    /// Of a copy, the name to make.
    pub destination: Option<ModelName>,
    /// Of a create, the model to make it from, as it was spelled.
    pub from: Option<Cow<'b, str>>,
    /// What else it asks for that a policy may refuse.
    pub asks: Asks,
    /// Where the parts lie.
    pub spans: Spans,
}

/// What a body asks for beyond its model: facts for policies, each only where the route reads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asks {
    /// `_debug_render_only`: the rendered prompt in place of an answer.
    pub rendering: bool,
    /// A tool that the server runs by itself, by asking its cloud service.
    pub server_tool: bool,
    /// `verbose` of a show.
    pub verbose: bool,
    /// `insecure`: a registry without a valid certificate, or without TLS.
    pub insecure: bool,
    /// A name that says how to reach its registry, and not by https.
    pub odd_scheme: bool,
    /// `remote_host` of a create: the model would only stand for one elsewhere.
    pub remote_host: bool,
}

/// Where the values of some fields lie in the body, quotes and braces included. `None`: absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// Of `model`.
    pub model: Option<Range<usize>>,
    /// Of `name`.
    pub name: Option<Range<usize>>,
    /// Of `stream`.
    pub stream: Option<Range<usize>>,
    /// Of `options`.
    pub options: Option<Range<usize>>,
}

/// Reads the body of a call to a route with this shape.
///
/// # Errors
/// [`BodyProblem`]: the first thing in the body that is wrong or has two readings.
pub fn read<'b>(shape: &JsonShape, body: &'b [u8]) -> Result<CallFacts<'b>, BodyProblem> {
    let mut reader = Reader { scanner: Scanner::new(body), body, shape, found: Found::default() };
    reader.object()?;
    reader.found.into_facts(shape)
}

/// A field's string and where it stood; `None` in place of the string for what is no text.
#[derive(Clone)]
struct Said<'b> {
    text: Option<Cow<'b, str>>,
    span: Range<usize>,
}

#[derive(Default)]
struct Found<'b> {
    model: Option<Said<'b>>,
    name: Option<Said<'b>>,
    source: Option<Said<'b>>,
    destination: Option<Said<'b>>,
    from: Option<Said<'b>>,
    stream: Option<bool>,
    asks: Asks,
    spans: Spans,
}

struct Reader<'s, 'b> {
    scanner: Scanner<'b>,
    body: &'b [u8],
    shape: &'s JsonShape,
    found: Found<'b>,
}

impl<'b> Reader<'_, 'b> {
    fn object(&mut self) -> Scan<()> {
        if let [0xef, 0xbb, 0xbf, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = self.body {
            return Err(BodyProblem { fault: Fault::ByteOrderMark, at: 0 });
        }
        self.scanner.blanks();
        if !self.scanner.take(b'{') {
            let fault = if self.scanner.peek().is_none() { Fault::Empty } else { Fault::NotAnObject };
            return Err(BodyProblem { fault, at: self.scanner.at() });
        }
        let mut names = Names::new();
        self.scanner.blanks();
        let mut more = !self.scanner.take(b'}');
        while more {
            self.scanner.blanks();
            let at = self.scanner.at();
            let Name { bytes: name, is_plain } = nested::name(&mut self.scanner, self.body)?;
            let is_new = if is_plain {
                names.add(name.clone())
            } else {
                let name = nested::shown(&name);
                match other_spelling(&name) {
                    Some(known) => Err(Fault::OtherSpelling(known)),
                    None => names.add(Cow::Owned(folded(&name).into_bytes())),
                }
            };
            if !is_new.map_err(|fault| BodyProblem { fault, at })? {
                return Err(BodyProblem { fault: Fault::Twice(nested::shown(&name)), at });
            }
            self.field(&name)?;
            more = self.scanner.more_fields()?;
        }
        self.scanner.blanks();
        match self.scanner.peek() {
            None => Ok(()),
            Some(_) => Err(BodyProblem { fault: Fault::Trailing, at: self.scanner.at() }),
        }
    }

    fn field(&mut self, name: &[u8]) -> Scan<()> {
        let start = self.scanner.at();
        let naming = self.shape.naming;
        match name {
            b"model" if !matches!(naming, Naming::SourceAndDestination | Naming::Nothing) => {
                self.found.model = self.string_field("model")?;
                self.found.spans.model = Some(start..self.scanner.at());
            }
            b"name" if naming == Naming::ModelOrName => {
                self.found.name = self.string_field("name")?;
                self.found.spans.name = Some(start..self.scanner.at());
            }
            b"name" if naming == Naming::ModelNative => {
                if self.scanner.peek() == Some(b'"') {
                    self.found.name = self.string_field("name")?;
                } else {
                    self.scanner.value(1)?;
                }
                self.found.spans.name = Some(start..self.scanner.at());
            }
            b"source" if naming == Naming::SourceAndDestination => {
                self.found.source = self.string_field("source")?;
                self.found.spans.model = Some(start..self.scanner.at());
            }
            b"destination" if naming == Naming::SourceAndDestination => {
                self.found.destination = self.string_field("destination")?;
            }
            b"from" if self.shape.has_from => self.found.from = self.string_field("from")?,
            b"stream" if self.shape.stream.is_some() => {
                self.found.stream = self.bool_field("stream")?;
                self.found.spans.stream = Some(start..self.scanner.at());
            }
            b"options" if self.shape.has_options => {
                nested::options(&mut self.scanner, self.body)?;
                self.found.spans.options = Some(start..self.scanner.at());
            }
            _ => self.further(name)?,
        }
        Ok(())
    }

    /// The fields that only policy looks at.
    fn further(&mut self, name: &[u8]) -> Scan<()> {
        let at = self.scanner.at();
        match (self.shape.also, name) {
            (Also::Rendering, b"_debug_render_only") => {
                self.found.asks.rendering = self.bool_field("_debug_render_only")?.unwrap_or(false);
            }
            (Also::Rendering, b"tools") => {
                self.found.asks.server_tool = nested::tools(&mut self.scanner, self.body, 1)?;
            }
            (Also::Verbose, b"verbose") => {
                self.found.asks.verbose = self.bool_field("verbose")?.unwrap_or(false);
            }
            (Also::Registry | Also::Making, b"insecure") => {
                self.found.asks.insecure = self.bool_field("insecure")?.unwrap_or(false);
            }
            (Also::Making, b"remote_host") => {
                let said = self.string_field("remote_host")?;
                self.found.asks.remote_host = said.is_some_and(|said| said.text.as_deref() != Some(""));
            }
            (Also::Making, b"files") => nested::files(&mut self.scanner, self.body, "files")?,
            (Also::Making, b"adapters") => nested::files(&mut self.scanner, self.body, "adapters")?,
            (Also::Making, b"draft_files") => nested::files(&mut self.scanner, self.body, "draft_files")?,
            (Also::Making, b"modelfile") => return Err(left_out("modelfile", at)),
            (Also::Making, b"path") => return Err(left_out("path", at)),
            _ => self.scanner.value(1)?,
        }
        Ok(())
    }

    /// A string, or null for absent.
    fn string_field(&mut self, field: &'static str) -> Scan<Option<Said<'b>>> {
        let at = self.scanner.at();
        match self.scanner.peek() {
            Some(b'"') => {
                let quoted = self.scanner.string()?;
                let text = self.short_text(&quoted);
                Ok(Some(Said { text, span: at..self.scanner.at() }))
            }
            Some(b'n') => self.scanner.value(1).map(|()| None),
            _ => {
                self.scanner.value(1)?;
                Err(BodyProblem { fault: Fault::WrongType { field, wants: "a string" }, at })
            }
        }
    }

    fn short_text(&self, quoted: &Quoted) -> Option<Cow<'b, str>> {
        if quoted.inner.len() > LONGEST { None } else { text(self.body, quoted) }
    }

    /// True, false, or null for absent.
    fn bool_field(&mut self, field: &'static str) -> Scan<Option<bool>> {
        let at = self.scanner.at();
        let first = self.scanner.peek();
        self.scanner.value(1)?;
        match first {
            Some(b't') => Ok(Some(true)),
            Some(b'f') => Ok(Some(false)),
            Some(b'n') => Ok(None),
            _ => Err(BodyProblem { fault: Fault::WrongType { field, wants: "true or false" }, at }),
        }
    }
}

impl<'b> Found<'b> {
    fn into_facts(self, shape: &JsonShape) -> Scan<CallFacts<'b>> {
        let mut asks = self.asks;
        asks.odd_scheme = [&self.model, &self.name, &self.source, &self.destination, &self.from]
            .into_iter()
            .any(|said| said.as_ref().and_then(|said| said.text.as_deref()).is_some_and(has_odd_scheme));
        let (model, model_as_sent) = match shape.naming {
            Naming::Nothing => (None, Cow::Borrowed("")),
            Naming::Model => named(self.model, shape.reading)?,
            Naming::SourceAndDestination => named(self.source, shape.reading)?,
            Naming::ModelNative => agreed(self.model, self.name, shape.reading, false)?,
            Naming::ModelOrName => agreed(self.model, self.name, shape.reading, true)?,
        };
        let (destination, _) = named(self.destination, shape.reading)?;
        let from = match self.from {
            Some(Said { text: None, span }) => return Err(bad_model(BadName::Invalid, &span)),
            Some(Said { text, .. }) => text.filter(|from| !from.is_empty()),
            None => None,
        };
        let stream = self.stream.or(shape.stream).unwrap_or(false);
        Ok(CallFacts { model, model_as_sent, stream, destination, from, asks, spans: self.spans })
    }
}

type Named<'b> = (Option<ModelName>, Cow<'b, str>);

fn named(said: Option<Said<'_>>, reading: Reading) -> Scan<Named<'_>> {
    let Some(Said { text, span }) = said else { return Ok((None, Cow::Borrowed(""))) };
    let text = text.ok_or_else(|| bad_model(BadName::Invalid, &span))?;
    let name = reading.named(&text).map_err(|bad| bad_model(bad, &span))?;
    Ok((name, text))
}

/// What `model` and `name` say together. An empty one says nothing; two that are not empty must say the same.
fn agreed<'b>(
    model: Option<Said<'b>>,
    name: Option<Said<'b>>,
    reading: Reading,
    either_counts: bool,
) -> Scan<Named<'b>> {
    let second = name.as_ref().map(|name| name.span.clone());
    let model = named(model, reading)?;
    let Some(at) = second else { return Ok(model) };
    let name = named(name, reading);
    match (&model.0, name) {
        (Some(_), Ok((None, _))) => Ok(model),
        (Some(said), Ok((Some(also), _))) if *said == also => Ok(model),
        (Some(_), _) => Err(BodyProblem { fault: Fault::Disagree, at: at.start }),
        (None, name) if either_counts => name,
        (None, _) => Ok(model),
    }
}

fn bad_model(bad: BadName, span: &Range<usize>) -> BodyProblem {
    BodyProblem { fault: Fault::BadModel(bad), at: span.start }
}

/// Fields that older servers read, with the names of files and registries in them.
fn left_out(field: &'static str, at: usize) -> BodyProblem {
    BodyProblem {
        fault: Fault::WrongType { field, wants: "left out; a model is made of `from` or `files`" },
        at,
    }
}

fn has_odd_scheme(name: &str) -> bool {
    name.trim().split_once("://").is_some_and(|(scheme, _)| !scheme.eq_ignore_ascii_case("https"))
}
