//! From slices to a table: medians per gate, and medians of the ratios of neighbouring slices.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::gates::Kind;
use super::measure::Series;

/// Everything that a reader needs to judge the figures.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) series: Vec<Series>,
    /// Date, machine, versions: name and text.
    pub(crate) facts: Vec<(String, String)>,
}

impl Report {
    /// A table in Markdown.
    pub(crate) fn write(&self, out: &mut impl Write) -> Result<()> {
        for (name, text) in &self.facts {
            writeln!(out, "{name}: {text}")?;
        }
        let mut header = vec!["measure".to_owned()];
        header.extend(self.kinds.iter().map(|kind| kind.name().to_owned()));
        header.extend(self.pairs().map(|(one, other)| format!("{} / {}", one.name(), other.name())));
        let mut rows = vec![header];
        rows.extend(self.series.iter().map(|series| self.row(series)));
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        writeln!(out)?;
        for (number, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} "));
            writeln!(out, "|{}|", cells.collect::<Vec<_>>().join("|"))?;
            if number == 0 {
                let rules = widths.iter().map(|width| "-".repeat(width + 2));
                writeln!(out, "|{}|", rules.collect::<Vec<_>>().join("|"))?;
            }
        }
        Ok(())
    }

    pub(crate) fn json(&self) -> Value {
        let measures: Vec<Value> = self.series.iter().map(|series| self.json_of(series)).collect();
        let facts: serde_json::Map<_, _> =
            self.facts.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
        json!({"facts": facts, "measures": measures})
    }

    fn row(&self, series: &Series) -> Vec<String> {
        let mut row = vec![format!("{} ({})", series.name, series.unit)];
        row.extend(series.values.iter().map(|values| median(values).map_or("-".to_owned(), figure)));
        row.extend(
            self.pairs().map(|pair| {
                self.compared(series, pair).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
            }),
        );
        row
    }

    fn json_of(&self, series: &Series) -> Value {
        let gates = self.kinds.iter().zip(&series.values);
        let medians: serde_json::Map<_, _> =
            gates.clone().map(|(kind, values)| (kind.name().to_owned(), json!(median(values)))).collect();
        let slices: serde_json::Map<_, _> =
            gates.map(|(kind, values)| (kind.name().to_owned(), json!(values))).collect();
        let ratios: serde_json::Map<_, _> = self
            .pairs()
            .map(|pair| {
                (format!("{} / {}", pair.0.name(), pair.1.name()), json!(self.compared(series, pair)))
            })
            .collect();
        json!({"name": series.name, "unit": series.unit, "medians": medians, "ratios": ratios, "slices": slices})
    }

    /// What is compared with what: herdgate with each other gate.
    fn pairs(&self) -> impl Iterator<Item = (Kind, Kind)> {
        let others = self.kinds.iter().filter(|kind| matches!(kind, Kind::Nginx | Kind::Haproxy));
        let ours = self.kinds.contains(&Kind::Herdgate);
        others.filter(move |_| ours).map(|other| (Kind::Herdgate, *other))
    }

    fn compared(&self, series: &Series, (one, other): (Kind, Kind)) -> Option<f64> {
        let values = |wanted| {
            let place = self.kinds.iter().position(|kind| *kind == wanted)?;
            series.values.get(place)
        };
        let ratios: Vec<f64> =
            values(one)?.iter().zip(values(other)?).map(|(one, other)| one / other).collect();
        median(&ratios).filter(|ratio| ratio.is_finite())
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len().is_multiple_of(2) { Some((sorted[middle - 1] + upper) / 2.0) } else { Some(upper) }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let series = Series {
            name: "CPU".to_owned(),
            unit: "µs",
            values: vec![vec![10.0, 20.0, 100.0], vec![9.0, 10.0, 80.0]],
        };
        Report { kinds: vec![Kind::Nginx, Kind::Herdgate], series: vec![series], facts: Vec::new() }
    }

    #[test]
    fn ratios_are_medians_of_neighbours_not_ratios_of_medians() {
        let mut out = Vec::new();
        report().write(&mut out).unwrap();
        let last = String::from_utf8(out).unwrap().lines().last().unwrap().to_owned();
        let cells: Vec<&str> = last.split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "CPU (µs)", "20.0", "10.0", "0.80", ""]);
        assert_eq!(report().json()["measures"][0]["ratios"]["herdgate / nginx+Lua"], 0.8);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
