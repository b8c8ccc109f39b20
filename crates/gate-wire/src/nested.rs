//! What lies deeper in a body than its own fields: options, tools, the files of a create. Part of the one strict pass.
//!
//! Keys of `options` and of the maps of files are a map's to Go and case-sensitive; those of a tool are a struct's and
//! are not.

use crate::fields::{Names, folded, is_plain};
use crate::problem::{BodyProblem, Fault};
use crate::scan::{Quoted, Scan, Scanner, text};
use std::borrow::Cow;

/// How Ollama's own tools begin, those that it runs itself by asking its cloud service.
const SERVER_TOOL: &str = "web_search";

/// An object without two equal names, or null for absent. At the value's first byte, one level deep.
pub(crate) fn options<'b>(scanner: &mut Scanner<'b>, body: &'b [u8]) -> Scan<()> {
    let fault = Fault::WrongType { field: "options", wants: "an object" };
    map(scanner, body, fault, Fault::OptionTwice, |scanner, _name| scanner.value(2))
}

/// An object of digests by relative file names, or null for absent: what a create makes a model from.
pub(crate) fn files<'b>(scanner: &mut Scanner<'b>, body: &'b [u8], field: &'static str) -> Scan<()> {
    let fault = |wants| Fault::WrongType { field, wants };
    map(scanner, body, fault("an object of digests"), Fault::Twice, |scanner, name| {
        let at = scanner.at();
        if is_outside(name) {
            return Err(BodyProblem { fault: fault("made of relative paths"), at });
        }
        let is_digest = if scanner.peek() == Some(b'"') {
            let quoted = scanner.string()?;
            text(body, &quoted).is_some_and(|text| is_digest(&text))
        } else {
            scanner.value(2)?;
            false
        };
        if is_digest { Ok(()) } else { Err(BodyProblem { fault: fault("an object of digests"), at }) }
    })
}

/// `sha256:` or `sha256-`, and 64 hexadecimal digits: nothing else is looked up among a server's files.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256-"));
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a file's name leads out of the folder that it is meant for, on any system.
fn is_outside(name: &[u8]) -> bool {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    let is_absolute = name.first().is_none_or(is_separator) || name.get(1) == Some(&b':');
    is_absolute || name.contains(&0) || name.split(is_separator).any(|part| part == b"..")
}

fn map<'b>(
    scanner: &mut Scanner<'b>,
    body: &'b [u8],
    no_object: Fault,
    twice: fn(Box<str>) -> Fault,
    mut value: impl FnMut(&mut Scanner<'b>, &[u8]) -> Scan<()>,
) -> Scan<()> {
    let start = scanner.at();
    if !scanner.take(b'{') {
        let is_null = scanner.peek() == Some(b'n');
        scanner.value(1)?;
        return if is_null { Ok(()) } else { Err(BodyProblem { fault: no_object, at: start }) };
    }
    let mut names = Names::new();
    scanner.blanks();
    let mut more = !scanner.take(b'}');
    while more {
        scanner.blanks();
        let at = scanner.at();
        let name = name(scanner, body)?.bytes;
        if !names.add(name.clone()).map_err(|fault| BodyProblem { fault, at })? {
            return Err(BodyProblem { fault: twice(shown(&name)), at });
        }
        value(scanner, &name)?;
        more = scanner.more_fields()?;
    }
    Ok(())
}

/// A field's name and the colon behind it; invalid Unicode has no place in a name that is compared. Its bytes: nearly every
/// name is ASCII, and to prove that it is text would cost more than to find it.
pub(crate) fn name<'b>(scanner: &mut Scanner<'b>, body: &'b [u8]) -> Scan<Name<'b>> {
    let at = scanner.at();
    let quoted = scanner.name()?;
    let raw = body.get(quoted.inner.clone()).unwrap_or_default();
    if !quoted.is_escaped && is_plain(raw) {
        return Ok(Name { bytes: Cow::Borrowed(raw), is_plain: true });
    }
    let bytes = match text(body, &quoted) {
        Some(Cow::Borrowed(name)) => Cow::Borrowed(name.as_bytes()),
        Some(Cow::Owned(name)) => Cow::Owned(name.into_bytes()),
        None => return Err(BodyProblem { fault: Fault::FieldNameNotText, at }),
    };
    let is_plain = is_plain(&bytes);
    Ok(Name { bytes, is_plain })
}

/// A field's name without its escapes.
pub(crate) struct Name<'b> {
    pub(crate) bytes: Cow<'b, [u8]>,
    /// Whether folding leaves it as it is.
    pub(crate) is_plain: bool,
}

/// A name as errors show it.
pub(crate) fn shown(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name).into()
}

/// Whether a list of tools, `depth` levels deep, holds one that the server runs itself by asking its cloud service. What
/// is no list Ollama refuses by itself.
///
/// A client's own function has the type `function`, whatever its name; groups of tools hold further lists.
pub(crate) fn tools<'b>(scanner: &mut Scanner<'b>, body: &'b [u8], depth: u32) -> Scan<bool> {
    if scanner.peek() != Some(b'[') {
        return scanner.value(depth).map(|()| false);
    }
    scanner.enter(depth)?;
    let mut found = false;
    scanner.blanks();
    let mut more = !scanner.take(b']');
    while more {
        scanner.blanks();
        if scanner.peek() == Some(b'{') {
            found |= tool(scanner, body, depth + 1)?;
        } else {
            scanner.value(depth + 1)?;
        }
        more = scanner.more_items()?;
    }
    Ok(found)
}

fn tool<'b>(scanner: &mut Scanner<'b>, body: &'b [u8], depth: u32) -> Scan<bool> {
    scanner.enter(depth)?;
    let (mut has_type, mut has_tools, mut found) = (false, false, false);
    scanner.blanks();
    let mut more = !scanner.take(b'}');
    while more {
        scanner.blanks();
        let at = scanner.at();
        let quoted = scanner.name()?;
        // A name with invalid Unicode is no field's.
        let name = text(body, &quoted).unwrap_or_default();
        match &*name {
            "type" if has_type => return Err(BodyProblem { fault: Fault::Twice(name.into()), at }),
            "tools" if has_tools => return Err(BodyProblem { fault: Fault::Twice(name.into()), at }),
            "type" => {
                has_type = true;
                found |= is_server_type(scanner, body, depth + 1)?;
            }
            "tools" => {
                has_tools = true;
                found |= tools(scanner, body, depth + 1)?;
            }
            _ => {
                let known = ["type", "tools"];
                if name.len() <= 8
                    && let Some(known) = known.into_iter().find(|known| folded(&name) == *known)
                {
                    return Err(BodyProblem { fault: Fault::OtherSpelling(known), at });
                }
                scanner.value(depth + 1)?;
            }
        }
        more = scanner.more_fields()?;
    }
    Ok(found)
}

/// What is no valid Unicode counts as the server's: readers replace different parts of it.
fn is_server_type<'b>(scanner: &mut Scanner<'b>, body: &'b [u8], depth: u32) -> Scan<bool> {
    if scanner.peek() != Some(b'"') {
        return scanner.value(depth).map(|()| false);
    }
    let quoted: Quoted = scanner.string()?;
    let Some(said) = text(body, &quoted) else { return Ok(true) };
    let start = said.trim_start().as_bytes();
    Ok(start.len() >= SERVER_TOOL.len()
        && start
            .get(..SERVER_TOOL.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SERVER_TOOL.as_bytes())))
}
