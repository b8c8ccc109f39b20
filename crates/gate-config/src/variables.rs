//! Environment variables for a program that the gate starts: names and values, each checked at its place.
//!
//! Never: repeats a value, which may be a secret.

use crate::problem::{Place, Plain, Problem};
use crate::read::{items, wants};
use crate::spec::{Item, Raw};
use crate::tables::Field;
use std::collections::BTreeMap;

/// Bytes of a variable's name, and of its value.
const LONGEST_VARIABLE: usize = 128;
const LONGEST_VALUE: usize = 4096;

/// Reads a table of them, or a list of `NAME=value`.
pub(crate) fn variables(
    item: &Item,
    example: &str,
    most: usize,
) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let pairs = match &item.raw {
        Raw::Table(fields) => fields.clone(),
        Raw::Word(_) => {
            let items = items(item, "a variable", example, 0..=most)?;
            items.iter().map(|item| pair(item, example)).collect::<Result<_, _>>().map_err(|bad| vec![bad])?
        }
        Raw::Text(_) | Raw::Number(_) | Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Other(_) => {
            return Err(vec![wants(item, "a table of variables").hint(format!("write {example}"))]);
        }
    };
    if pairs.len() > most {
        let reason = format!("holds {} variables; {most} are allowed", pairs.len());
        return Err(vec![Problem::new(item.place.clone(), reason)]);
    }
    let (mut variables, mut problems) = (BTreeMap::new(), Vec::new());
    for Field { name, place, item } in pairs {
        match variable(&name, &place, &item) {
            Ok(value) => drop(variables.insert(name, value)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(variables) } else { Err(problems) }
}

/// `NAME=value`.
fn pair(item: &Item, example: &str) -> Result<Field, Problem> {
    let none = || {
        Problem::new(item.place.clone(), "wants NAME=value in each item")
            .hint(format!("in the file one writes {example}"))
    };
    let Raw::Word(text) = &item.raw else { return Err(none()) };
    let (name, value) = text.split_once('=').ok_or_else(none)?;
    let value = Item { place: item.place.clone(), raw: Raw::Word(value.trim().to_owned()) };
    Ok(Field { name: name.trim().to_owned(), place: item.place.clone(), item: value })
}

/// The value of a variable of this name.
fn variable(name: &str, place: &Place, item: &Item) -> Result<String, Problem> {
    let wrong = |what: String| Problem::new(place.clone(), what);
    let is_name = !name.is_empty()
        && name.len() <= LONGEST_VARIABLE
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(wrong(format!("\"{}\" is no variable's name", Plain(name))));
    }
    if name == "OLLAMA_HOST" {
        return Err(wrong("OLLAMA_HOST is not yours to give here".to_owned())
            .hint("the gate starts Ollama on a loopback port that it chooses"));
    }
    if name.starts_with("HERDGATE_") {
        return Err(
            wrong(format!("{name} is a variable of the gate itself")).hint("what it starts never sees those")
        );
    }
    let value = match &item.raw {
        Raw::Text(text) | Raw::Word(text) => text.clone(),
        Raw::Number(number) => number.to_string(),
        Raw::Switch(switch) => switch.to_string(),
        Raw::List(_) | Raw::Table(_) | Raw::Read(_) | Raw::Other(_) => {
            return Err(wants(item, &format!("a text for {name}")));
        }
    };
    if value.len() > LONGEST_VALUE || value.contains(char::is_control) {
        return Err(wrong(format!(
            "the value of {name} is longer than {LONGEST_VALUE} bytes or holds a control character"
        )));
    }
    Ok(value)
}
