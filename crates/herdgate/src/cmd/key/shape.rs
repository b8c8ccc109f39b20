//! How keys look: a table, a sheet, JSON. Prefixes only; times for people in their zone, for programs in RFC 3339.

use gate_keys::{AuditLine, Key, Kind, ModelGlob, State, UnixSeconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The moment and the zone that everything is shown for.
pub(super) struct Shape {
    pub(super) now: UnixSeconds,
    pub(super) zone: TimeZone,
}

/// What a list tells of a key. A plain one fits a terminal of 80 columns; `show` tells the rest.
const HEAD: [&str; 7] = ["NAME", "STATE", "KEY", "SCOPES", "MODELS", "EXPIRES", "LAST USED"];

impl Shape {
    /// Whether a list shows the key without being asked for all: it works, or it could be mistaken for one that does.
    pub(super) fn is_listed(&self, key: &Key) -> bool {
        match key.state(self.now) {
            State::Active | State::Overlapping | State::Expired => true,
            State::Replaced | State::Revoked => false,
        }
    }

    /// An aligned table, or nothing at all where there are no keys.
    pub(super) fn table(&self, keys: &[Key]) -> String {
        aligned(HEAD, keys.iter().map(|key| self.row(key)))
    }

    fn row(&self, key: &Key) -> [String; 7] {
        [
            key.name.to_string(),
            key.state(self.now).as_str().to_owned(),
            prefix(key),
            key.scopes.to_string(),
            models(key),
            self.day_or_never(key.expires),
            self.day_or_never(key.last_used()),
        ]
    }

    /// Everything about the newest of the keys of one name, and a line for each before it.
    pub(super) fn one(&self, keys: &[Key]) -> String {
        let Some((key, earlier)) = keys.split_first() else { return String::new() };
        let state = key.state(self.now).as_str();
        let state =
            key.revoked.map_or_else(|| state.to_owned(), |when| format!("{state} {}", self.time(when)));
        let mut text = String::new();
        line(&mut text, "name", key.name.as_str());
        line(&mut text, "state", &state);
        line(&mut text, "key", &prefix(key));
        text.push_str(&self.rights(key));
        line(&mut text, "created", &self.time(key.created));
        line(&mut text, "last used", &self.time_or_never(key.last_used()));
        for old in earlier {
            let state = old.state(self.now);
            let end = match (state, old.revoked, old.expires) {
                (State::Revoked, Some(end), _) => format!("revoked {}", self.time(end)),
                (State::Overlapping, _, Some(end)) => format!("works until {}", self.time(end)),
                (_, _, Some(end)) => format!("{} {}", state.as_str(), self.time(end)),
                (_, _, None) => state.as_str().to_owned(),
            };
            line(&mut text, "earlier", &format!("{}  {end}", prefix(old)));
        }
        text
    }

    /// What the key may do and until when, three lines.
    pub(super) fn rights(&self, key: &Key) -> String {
        let mut text = String::new();
        line(&mut text, "scopes", &key.scopes.to_string());
        line(&mut text, "models", &models(key));
        line(&mut text, "expires", &self.time_or_never(key.expires));
        text
    }

    pub(super) fn json_list(&self, keys: &[Key]) -> String {
        pretty(&Value::Array(keys.iter().map(|key| Value::Object(self.json(key))).collect()))
    }

    pub(super) fn json_one(&self, keys: &[Key]) -> String {
        let Some((key, earlier)) = keys.split_first() else { return pretty(&Value::Null) };
        let mut object = self.json(key);
        let earlier = earlier.iter().map(|key| Value::Object(self.json(key))).collect();
        object.insert("earlier".to_owned(), Value::Array(earlier));
        pretty(&Value::Object(object))
    }

    /// A key just made, with its secret: for its owner's standard output and nothing else.
    pub(super) fn json_made(&self, key: &Key, secret: &str, settings: Option<String>) -> String {
        let mut object = self.json(key);
        object.insert("secret".to_owned(), Value::from(secret));
        if let Some(settings) = settings {
            object.insert("settings".to_owned(), Value::from(settings));
        }
        pretty(&Value::Object(object))
    }

    /// A key as it is, without a secret.
    pub(super) fn json_of(&self, key: &Key) -> String {
        pretty(&Value::Object(self.json(key)))
    }

    /// The audit log as a table, the oldest line first.
    pub(super) fn log(&self, lines: &[AuditLine]) -> String {
        const HEAD: [&str; 7] = ["TIME", "WHO", "ACT", "NAME", "SCOPES", "MODELS", "EXPIRES"];
        let row = |line: &AuditLine| {
            let models = if line.models.is_empty() { "all".to_owned() } else { line.models.clone() };
            let (who, act, name) = (line.who.clone(), line.act.as_str().to_owned(), line.name.to_string());
            let (scopes, expires) = (line.scopes.to_string(), self.time_or_never(line.expires));
            [self.time(line.at), who, act, name, scopes, models, expires]
        };
        aligned(HEAD, lines.iter().map(row))
    }

    /// The audit log as JSON.
    pub(super) fn json_log(&self, lines: &[AuditLine]) -> String {
        let line = |line: &AuditLine| {
            let scopes: Vec<_> = line.scopes.iter().map(|scope| scope.as_str()).collect();
            let models: Option<Vec<_>> = (!line.models.is_empty()).then(|| line.models.split(',').collect());
            json!({
                "time": rfc3339(line.at),
                "who": line.who,
                "act": line.act.as_str(),
                "id": line.key.0,
                "name": line.name.as_str(),
                "kind": line.kind.as_str(),
                "scopes": scopes,
                "models": models,
                "expires": line.expires.map(rfc3339),
            })
        };
        pretty(&Value::Array(lines.iter().map(line).collect()))
    }

    fn json(&self, key: &Key) -> Map<String, Value> {
        let time = |at: Option<UnixSeconds>| at.map(rfc3339);
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let models: Option<Vec<_>> =
            (!key.models.is_empty()).then(|| key.models.iter().map(ModelGlob::as_str).collect());
        let fields = [
            ("id", json!(key.id.0)),
            ("name", json!(key.name.as_str())),
            ("state", json!(key.state(self.now).as_str())),
            ("kind", json!(key.kind.as_str())),
            ("prefix", json!(key.prefix)),
            ("scopes", json!(scopes)),
            // Null and not an empty list: every model, not none.
            ("models", json!(models)),
            ("created", json!(rfc3339(key.created))),
            ("expires", json!(time(key.expires))),
            ("replaced", json!(time(key.replaced))),
            ("revoked", json!(time(key.revoked))),
            ("last_used", json!(time(key.last_used()))),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub(super) fn time(&self, at: UnixSeconds) -> String {
        match Timestamp::from_second(at) {
            Ok(at) => at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string(),
            // Out of the calendar's range: only a hand in the database writes that.
            Err(_) => format!("@{at}"),
        }
    }

    /// A day, or the time of this one.
    fn day_or_never(&self, at: Option<UnixSeconds>) -> String {
        let zoned = |at| Timestamp::from_second(at).map(|at| at.to_zoned(self.zone.clone()));
        match (at.map(zoned), zoned(self.now)) {
            (None, _) => "never".to_owned(),
            (Some(Ok(at)), Ok(now)) if at.date() == now.date() => at.strftime("today %H:%M").to_string(),
            (Some(Ok(at)), _) => at.strftime("%Y-%m-%d").to_string(),
            // Out of the calendar's range, as in `time`.
            (Some(Err(_)), _) => at.map_or_else(String::new, |at| format!("@{at}")),
        }
    }

    fn time_or_never(&self, at: Option<UnixSeconds>) -> String {
        at.map_or_else(|| "never".to_owned(), |at| self.time(at))
    }
}

/// The beginning of the secret, marked as a beginning, or the whole fingerprint.
pub(super) fn prefix(key: &Key) -> String {
    match key.kind {
        Kind::Secret => format!("{}…", key.prefix),
        Kind::Ssh => key.prefix.clone(),
    }
}

/// Rows below their heads, columns as wide as they must be; nothing at all where there are no rows.
fn aligned<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            pad(&mut line, cell, width + 2);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn models(key: &Key) -> String {
    let patterns: Vec<_> = key.models.iter().map(ModelGlob::as_str).collect();
    if patterns.is_empty() { "all".to_owned() } else { patterns.join(",") }
}

fn rfc3339(at: UnixSeconds) -> Value {
    Timestamp::from_second(at).map_or_else(|_| Value::from(at), |at| Value::from(at.to_string()))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn line(text: &mut String, label: &str, value: &str) {
    pad(text, label, 11);
    text.push_str(value);
    text.push('\n');
}

fn pad(text: &mut String, cell: &str, width: usize) {
    // Writing to a string cannot fail.
    let _never = write!(text, "{cell:<width$}");
}
