//! The settings file: TOML text to [`Given`](crate::spec::Given) values, each with line and column.
//!
//! Walks the parsed document itself instead of deserialising it: serde stops at the first value of a wrong type and does
//! not say where an unknown key stands. Statements that are no TOML are told and left out, so that they come with all the
//! rest.

use crate::keys;
use crate::listener;
use crate::nearest::nearest;
use crate::problem::{Place, Plain, Problem};
use crate::route;
use crate::setting::{Form, SETTINGS, Setting, sections};
use crate::spec::{Item, Rank, Raw, Spec};
use crate::statements;
use crate::tables::{Field, Table};
use crate::upstream;
use std::collections::BTreeSet;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest settings file; the most upstreams there may be fit into it twice.
const MOST_BYTES: usize = 256 << 10;

type Entry<'d, 't> = (&'d Spanned<toml::de::DeString<'t>>, &'d Spanned<DeValue<'t>>);

/// Reads the file's text into `spec`.
pub(crate) fn read(spec: &mut Spec, file: &Path, text: &str) {
    let places = Places::new(file, text);
    if text.len() > MOST_BYTES {
        spec.problems.push(Problem::new(places.at(0), "is longer than 256 KiB, which no settings file is"));
        spec.unread.add_anything();
        return;
    }
    let readable = statements::readable(text);
    let (root, errors) = DeTable::parse_recoverable(&readable.text);
    let between = errors.iter().map(|error| {
        let message: Vec<&str> = error.message().lines().collect();
        (error.span().unwrap_or_default().start, message.join(": "))
    });
    let between: Vec<Problem> = between.map(|(at, what)| places.syntax(at, &what)).collect();
    let broken_lines = between.iter().filter_map(|problem| problem.place.line()).collect();
    spec.problems.extend(readable.mistakes.iter().map(|(at, what)| places.syntax(*at, what)));
    spec.problems.extend(between);
    if !spec.problems.is_empty() {
        spec.unread.add_anything();
    }
    let mut walk = Walk { spec, places, broken_lines };
    for entry in root.get_ref() {
        walk.top(entry);
    }
}

struct Places<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(file: &'a Path, text: &'a str) -> Self {
        let behind_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Places { file, text, starts: std::iter::once(0).chain(behind_breaks).collect() }
    }

    fn at(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before =
            self.starts.get(line - 1).and_then(|start| self.text.get(*start..offset)).unwrap_or_default();
        Place::File { file: self.file.to_owned(), line, column: before.chars().count() + 1 }
    }

    fn syntax(&self, start: usize, what: &str) -> Problem {
        let problem = Problem::new(self.at(start), Plain(what).to_string());
        if let Some(table) = self.header(start) {
            let several = [upstream::SECTION, keys::SECTION, listener::SECTION, route::SECTION];
            return match several.contains(&table) {
                true => problem.hint(format!("where there are several, each begins with [[{table}]]")),
                false => problem,
            };
        }
        if self.is_bare_text(start) { problem.hint("write texts between double quotes") } else { problem }
    }

    /// The name in the header of a table that `offset` lies in.
    fn header(&self, offset: usize) -> Option<&str> {
        let begin = self.text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text.get(begin..)?.lines().next()?.trim_start();
        Some(line.strip_prefix('[')?.trim_start_matches('[').trim_end().trim_end_matches(']').trim())
    }

    /// Whether the value at `offset` looks like a text that nobody put between quotes: `32KiB`, `debug`, `http://a`.
    fn is_bare_text(&self, offset: usize) -> bool {
        let (Some(before), Some(rest)) = (self.text.get(..offset), self.text.get(offset..)) else {
            return false;
        };
        let value = rest.lines().next().unwrap_or_default();
        before.trim_end().ends_with(['=', '[', ',']) && value.starts_with(|c: char| c.is_alphanumeric())
    }
}

struct Walk<'a> {
    spec: &'a mut Spec,
    places: Places<'a>,
    /// Lines with a syntax error: what the parser made up there to go on is not worth a second problem.
    broken_lines: BTreeSet<usize>,
}

impl Walk<'_> {
    fn top(&mut self, (key, value): Entry<'_, '_>) {
        let name: &str = key.get_ref();
        if let Some(setting) = Setting::find(None, name) {
            self.setting(setting, (key, value));
            return;
        }
        if name == keys::SECTION {
            self.keys((key, value));
            return;
        }
        if name == upstream::SECTION {
            self.upstreams((key, value));
            return;
        }
        if name == route::SECTION {
            self.routes((key, value));
            return;
        }
        let Some(section) = sections().find(|section| *section == name) else {
            self.unknown(None, (key, value));
            return;
        };
        if section == listener::SECTION {
            match self.tables((key, value)) {
                Some(tables) => self.spec.raw_listeners.extend(tables),
                None => self.no_section(section, key),
            }
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => self.section(section, table),
            _ => self.no_section(section, key),
        }
    }

    /// The settings of a section, and of those within it.
    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for entry in table {
            let within = format!("{section}.{}", entry.0.get_ref());
            let within = sections().find(|section| *section == within);
            match (within, entry.1.get_ref()) {
                (Some(within), DeValue::Table(table)) => self.section(within, table),
                (Some(within), _) => self.no_section(within, entry.0),
                (None, _) => {
                    if let Some(setting) = self.known(section, entry) {
                        self.setting(setting, entry);
                    }
                }
            }
        }
    }

    /// One key for each table.
    fn keys(&mut self, (key, value): Entry<'_, '_>) {
        match self.tables((key, value)) {
            Some(tables) => self.spec.raw_keys.extend(tables),
            None if self.is_broken(key) => {}
            None => {
                let problem = Problem::new(self.place(key), "keys stand in [[key]], one each");
                self.spec.problems.push(problem.hint("herdgate key mint NAME prints one"));
            }
        }
    }

    /// One upstream for each table.
    fn upstreams(&mut self, (key, value): Entry<'_, '_>) {
        match self.tables((key, value)) {
            Some(tables) if !tables.is_empty() => self.spec.raw_upstreams.extend(tables),
            _ if self.is_broken(key) => {}
            _ => {
                self.spec.unread.add("upstreams");
                let problem = Problem::new(self.place(key), "upstreams stand in [[upstream]], one each");
                let hint = "write [[upstream]] and below it url = …, or upstreams = [\"http://host:11434\"]";
                self.spec.problems.push(problem.hint(hint));
            }
        }
    }

    /// One route for each table.
    fn routes(&mut self, (key, value): Entry<'_, '_>) {
        match self.tables((key, value)) {
            Some(tables) => self.spec.raw_routes.extend(tables),
            None if self.is_broken(key) => {}
            None => {
                self.spec.unread.add(route::SECTION);
                let problem = Problem::new(self.place(key), "routes stand in [[route]], one each");
                let hint = "write [[route]], and below it path, class and upstream";
                self.spec.problems.push(problem.hint(hint));
            }
        }
    }

    /// One table or several; none where something else stands there.
    fn tables(&self, (key, value): Entry<'_, '_>) -> Option<Vec<Table>> {
        let one =
            |start, table: &DeTable<'_>| Table { place: self.places.at(start), fields: self.fields(table) };
        match value.get_ref() {
            DeValue::Table(table) => Some(vec![one(key.span().start, table)]),
            DeValue::Array(array) => {
                array.iter().map(|item| Some(one(item.span().start, item.get_ref().as_table()?))).collect()
            }
            _ => None,
        }
    }

    fn fields(&self, table: &DeTable<'_>) -> Vec<Field> {
        let whole = table.iter().filter(|(key, _)| !self.is_broken(key));
        let field = |(key, value): Entry<'_, '_>| {
            Some(Field { name: key.get_ref().to_string(), place: self.place(key), item: self.item(value)? })
        };
        whole.filter_map(field).collect()
    }

    fn setting(&mut self, setting: &'static Setting, (key, value): Entry<'_, '_>) {
        if let (false, Some(Item { place, raw })) = (self.is_broken(key), self.item(value)) {
            self.spec.give(Rank::File, setting, place, raw);
        }
    }

    fn is_broken<T>(&self, key: &Spanned<T>) -> bool {
        self.place(key).line().is_some_and(|line| self.broken_lines.contains(&line))
    }

    fn known(&mut self, section: &str, entry: Entry<'_, '_>) -> Option<&'static Setting> {
        let setting = Setting::find(Some(section), entry.0.get_ref());
        if setting.is_none() {
            self.unknown(Some(section), entry);
        }
        setting
    }

    fn unknown(&mut self, section: Option<&str>, (key, value): Entry<'_, '_>) {
        if self.is_broken(key) {
            return;
        }
        let name: &str = key.get_ref();
        match section {
            Some(section) => self.spec.unread.add(section),
            None => self.spec.unread.add_anything(),
        }
        let is_section = section.is_none() && value.get_ref().is_table();
        let what = if is_section { "section" } else { "setting" };
        let problem = Problem::new(self.place(key), format!("unknown {what} \"{}\"", Plain(name)));
        let problem = match hint(section, name, is_section) {
            Some(hint) => problem.hint(hint),
            None => problem,
        };
        self.spec.problems.push(problem);
    }

    fn no_section(&mut self, section: &str, key: &Spanned<toml::de::DeString<'_>>) {
        if self.is_broken(key) {
            return;
        }
        self.spec.unread.add(section);
        let example = SETTINGS.iter().find(|setting| setting.section_and_name().0 == Some(section));
        let name = example.map_or("", |setting| setting.section_and_name().1);
        let reason = format!("\"{section}\" is a section, not a value");
        let problem =
            Problem::new(self.place(key), reason).hint(format!("write [{section}] and below it {name} = …"));
        self.spec.problems.push(problem);
    }

    /// `None` where the parser made a value up: everything that was written has a length.
    fn item(&self, value: &Spanned<DeValue<'_>>) -> Option<Item> {
        if value.span().is_empty() {
            return None;
        }
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Raw::Number(number),
                Err(_) => Raw::Other("a number beyond all bounds"),
            },
            DeValue::Float(_) => Raw::Other("a number with a fraction"),
            DeValue::Boolean(switch) => Raw::Switch(*switch),
            DeValue::Datetime(_) => Raw::Other("a date"),
            DeValue::Array(items) => {
                Raw::List(items.iter().map(|item| self.item(item)).collect::<Option<_>>()?)
            }
            DeValue::Table(table) => Raw::Table(self.fields(table)),
        };
        Some(Item { place: self.places.at(value.span().start), raw })
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        self.places.at(spanned.span().start)
    }
}

/// What was meant by an unknown `name` in `section`: a neighbour, the same name elsewhere, or nothing we know.
fn hint(section: Option<&str>, name: &str, is_section: bool) -> Option<String> {
    let here = SETTINGS.iter().map(Setting::section_and_name).filter(|(at, _)| *at == section);
    let here = here.map(|(_, name)| name).filter(|_| !is_section);
    let around =
        sections().chain([keys::SECTION, upstream::SECTION, route::SECTION]).filter(|_| section.is_none());
    if let Some(near) = nearest(name, here.chain(around)) {
        return Some(format!("did you mean \"{near}\"?"));
    }
    elsewhere(name)
}

/// Where a setting of this name stands, if there is one.
pub(crate) fn elsewhere(name: &str) -> Option<String> {
    let elsewhere = SETTINGS.iter().find(|setting| setting.section_and_name().1 == name)?;
    Some(match (elsewhere.section_and_name().0, &elsewhere.form) {
        (Some(section), _) => format!("\"{name}\" stands in [{section}]"),
        (None, Form::Upstreams) => format!("\"{name}\" stands at the top, before the first [section]"),
        (None, _) => format!("\"{name}\" stands at the top"),
    })
}
