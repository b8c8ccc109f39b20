//! Lists of models: what several upstreams answer, made into the one list that a key may see.
//!
//! Entries go out byte for byte as their upstream wrote them, in order of name; of two with one name the first
//! upstream's stays. Only a path on the server's disk is taken out. Who may see what is the caller's to say.

use crate::render::quote;
use gate_types::ModelName;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::ops::Range;

/// A list made of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The body of the answer.
    pub body: String,
    /// How many models are in it.
    pub count: usize,
    /// Which of the given bodies could not be read, by their place.
    pub unreadable: Vec<usize>,
}

/// Whether a model may be seen, by its name and whether its entry says that it only stands for one elsewhere.
pub type MaySee<'f> = dyn Fn(&ModelName, bool) -> bool + 'f;

/// Merges bodies of `/api/tags`, or of `/api/ps`, in the order of the upstreams. Never `null`: no models are `[]`.
#[must_use]
pub fn merge_models(bodies: &[&[u8]], may_see: &MaySee<'_>) -> Merged {
    merge(bodies, may_see, "{\"models\":[", "]}")
}

/// Merges bodies of `/v1/models` in the order of the upstreams. Never `null`: no models are `[]`.
#[must_use]
pub fn merge_v1_models(bodies: &[&[u8]], may_see: &MaySee<'_>) -> Merged {
    merge(bodies, may_see, "{\"object\":\"list\",\"data\":[", "]}\n")
}

/// The answer of `/v1/models/{model}` out of bodies of `/v1/models`: the entry of `wanted` from the first upstream that
/// lists it, under the name that was asked for, as Ollama does it. `None`: no upstream lists it.
#[must_use]
pub fn v1_model(bodies: &[&[u8]], wanted: &ModelName, as_sent: &str) -> Option<String> {
    let (entries, _) = gather(bodies, &|name, _is_stub| name == wanted);
    let entry = entries.into_values().next()?;
    let id = entry.parsed.id.map(|id| range_in(entry.raw, id))?;
    let mut body = String::with_capacity(entry.raw.get().len() + as_sent.len());
    body.push_str(entry.raw.get().get(..id.start)?);
    quote(&mut body, as_sent);
    body.push_str(entry.raw.get().get(id.end..)?);
    body.push('\n');
    Some(body)
}

#[derive(Deserialize)]
struct List<'b> {
    #[serde(borrow, default, alias = "data")]
    models: Option<Vec<&'b RawValue>>,
}

#[derive(Deserialize)]
struct Parsed<'b> {
    #[serde(borrow)]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    name: Option<&'b RawValue>,
    #[serde(borrow)]
    details: Option<Details<'b>>,
    #[serde(borrow)]
    remote_host: Option<&'b RawValue>,
    #[serde(borrow)]
    remote_model: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Details<'b> {
    #[serde(borrow)]
    parent_model: Option<&'b RawValue>,
}

struct Entry<'b> {
    raw: &'b RawValue,
    parsed: Parsed<'b>,
}

impl Entry<'_> {
    /// Writes the entry, a path in `details.parent_model` made empty.
    fn write(&self, out: &mut String) {
        let whole = self.raw.get();
        let parent = self.parsed.details.as_ref().and_then(|details| details.parent_model);
        if let Some(parent) = parent.filter(|parent| is_path(parent.get())) {
            let hidden = range_in(self.raw, parent);
            if let (Some(before), Some(after)) = (whole.get(..hidden.start), whole.get(hidden.end..)) {
                out.push_str(before);
                out.push_str("\"\"");
                out.push_str(after);
                return;
            }
        }
        out.push_str(whole);
    }
}

fn merge(bodies: &[&[u8]], may_see: &MaySee<'_>, before: &str, after: &str) -> Merged {
    let (entries, unreadable) = gather(bodies, may_see);
    let size: usize = entries.values().map(|entry| entry.raw.get().len() + 1).sum();
    let mut body = String::with_capacity(before.len() + size + after.len());
    body.push_str(before);
    for (place, entry) in entries.values().enumerate() {
        if place > 0 {
            body.push(',');
        }
        entry.write(&mut body);
    }
    body.push_str(after);
    Merged { body, count: entries.len(), unreadable }
}

type Gathered<'b> = (BTreeMap<ModelName, Entry<'b>>, Vec<usize>);

fn gather<'b>(bodies: &[&'b [u8]], may_see: &MaySee<'_>) -> Gathered<'b> {
    let mut entries = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (place, body) in bodies.iter().enumerate() {
        let Ok(list) = serde_json::from_slice::<List<'b>>(body) else {
            unreadable.push(place);
            continue;
        };
        for raw in list.models.unwrap_or_default() {
            // An entry without a name that a client could ask for is of no use to any.
            let Ok(parsed) = serde_json::from_str::<Parsed<'b>>(raw.get()) else { continue };
            let Some(name) = parsed.name.or(parsed.id).and_then(name_in) else { continue };
            let is_stub = [parsed.remote_host, parsed.remote_model]
                .into_iter()
                .flatten()
                .any(|raw| raw.get() != "\"\"");
            if !may_see(&name, is_stub) {
                continue;
            }
            if let Place::Vacant(free) = entries.entry(name) {
                free.insert(Entry { raw, parsed });
            }
        }
    }
    (entries, unreadable)
}

fn name_in(raw: &RawValue) -> Option<ModelName> {
    ModelName::parse_stored(&serde_json::from_str::<String>(raw.get()).ok()?).ok()
}

/// Whether a string is a path rather than a model's name, on any system; what is no string is hidden as well.
pub(crate) fn is_path(json: &str) -> bool {
    match serde_json::from_str::<Option<String>>(json) {
        // A drive's letter would pass for a registry's host.
        Ok(Some(text)) => !text.is_empty() && (text.contains(":/") || ModelName::parse(&text).is_err()),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Where `part` lies in `whole`, which it was borrowed from.
fn range_in(whole: &RawValue, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr().wrapping_sub(whole.get().as_ptr().addr());
    start..start.wrapping_add(part.get().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = br#"{"models":[{"name":"b:latest","size": 1 },{"name":"a:latest","x":"\u0041"}]}"#;
    const B: &[u8] =
        br#"{"models":[{"name":"c:1b","details":{"parent_model":"user/base"}},{"name":"A","size":9}]}"#;

    fn all(_: &ModelName, _: bool) -> bool {
        true
    }

    #[test]
    fn lists_become_one_in_order_of_name_and_the_first_wins() {
        let merged = merge_models(&[A, B], &all);
        assert_eq!(
            merged.body,
            r#"{"models":[{"name":"a:latest","x":"\u0041"},{"name":"b:latest","size": 1 },{"name":"c:1b","details":{"parent_model":"user/base"}}]}"#
        );
        assert_eq!((merged.count, merged.unreadable), (3, vec![]));
        assert_eq!(merge_models(&[B, A], &all).count, 3);
        assert!(merge_models(&[B, A], &all).body.contains(r#"{"name":"A","size":9}"#));
    }

    #[test]
    fn a_key_sees_only_what_it_may() {
        let merged = merge_models(&[A, B], &|name, _| name.short() != "a:latest");
        assert_eq!(merged.count, 2);
        assert!(!merged.body.contains("a:latest") && !merged.body.contains("\"A\""));
    }

    #[test]
    fn what_stands_for_a_model_elsewhere_is_told_apart() {
        let body: &[u8] = br#"{"models":[{"name":"a","remote_host":"https://x"},{"name":"b","remote_model":"b"},{"name":"c","remote_host":"","remote_model":null}]}"#;
        assert_eq!(
            merge_models(&[body], &|_, is_stub| !is_stub).body,
            r#"{"models":[{"name":"c","remote_host":"","remote_model":null}]}"#
        );
        assert_eq!(merge_models(&[body], &all).count, 3);
    }

    #[test]
    fn a_name_in_a_list_is_the_one_on_disk() {
        let body: &[u8] = br#"{"models":[{"name":"a:cloud"},{"name":"a:latest"},{"name":"a:local"},{"name":"a:1b:cloud"}]}"#;
        let names = std::cell::RefCell::new(Vec::new());
        let seen = |name: &ModelName, _: bool| {
            names.borrow_mut().push(name.to_string());
            true
        };
        assert_eq!(merge_models(&[body], &seen).count, 3);
        assert_eq!(names.into_inner(), ["a:cloud", "a:latest", "a:local"]);
        for (asked, found) in [("a:local", "a:latest"), ("a", "a:latest"), ("a:cloud", "a:cloud")] {
            let list = format!(r#"{{"data":[{{"id":"{found}","from":"{found}"}}]}}"#);
            assert!(
                v1_model(&[list.as_bytes()], &ModelName::parse(asked).unwrap(), asked).is_some(),
                "{asked}"
            );
        }
        assert!(
            v1_model(&[br#"{"data":[{"id":"a:local"}]}"#], &ModelName::parse("a").unwrap(), "a").is_none()
        );
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(merge_models(&[], &all).body, r#"{"models":[]}"#);
        assert_eq!(merge_models(&[br#"{"models":null}"#, b"{}"], &all).body, r#"{"models":[]}"#);
        assert_eq!(
            merge_v1_models(&[br#"{"object":"list","data":null}"#], &all).body,
            "{\"object\":\"list\",\"data\":[]}\n"
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_there() {
        let merged = merge_models(&[b"<html>", A, b"", br#"{"models":[{"nom":1},7,{"name":"../x"}]}"#], &all);
        assert_eq!((merged.count, merged.unreadable), (2, vec![0, 2]));
    }

    #[test]
    fn no_path_of_the_server_goes_out() {
        for path in [
            "/usr/share/ollama/.ollama/models/blobs/sha256-00",
            "C:\\\\models\\\\x",
            "C:/models/x",
            "~/x.gguf",
            "./x",
            "a/b/c/d/e.gguf",
        ] {
            let body = format!(
                r#"{{"models":[{{"name":"m","details":{{"parent_model":"{path}","format":"gguf"}}}}]}}"#
            );
            assert_eq!(
                merge_models(&[body.as_bytes()], &all).body,
                r#"{"models":[{"name":"m","details":{"parent_model":"","format":"gguf"}}]}"#,
            );
        }
    }

    #[test]
    fn one_model_is_shown_under_the_name_that_was_asked_for() {
        let list: &[u8] = br#"{"object":"list","data":[{"id":"demo:latest","object":"model","created":1,"owned_by":"library"}]}"#;
        let name = ModelName::parse("DEMO").unwrap();
        assert_eq!(
            v1_model(&[b"{}", list], &name, "DEMO").as_deref(),
            Some("{\"id\":\"DEMO\",\"object\":\"model\",\"created\":1,\"owned_by\":\"library\"}\n")
        );
        assert_eq!(v1_model(&[list], &ModelName::parse("nope").unwrap(), "nope"), None);
    }
}
