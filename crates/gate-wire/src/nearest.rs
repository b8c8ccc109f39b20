//! Which known names a client may have meant by an unknown one.

use gate_types::ModelName;

/// At most so many names are offered.
const OFFERED: usize = 3;
/// At most so many names are compared, and none longer than this: it is a courtesy, not a search engine.
const COMPARED: usize = 2_000;
const LONGEST: usize = 120;

/// The names among `known` that are most like `wanted`, best first, at most three. Empty where none is like it.
///
/// `known` must hold only names that the caller may know of.
pub fn nearest<'a>(wanted: &ModelName, known: impl IntoIterator<Item = &'a ModelName>) -> Vec<&'a str> {
    let wanted = wanted.short();
    if wanted.len() > LONGEST {
        return Vec::new();
    }
    let mut offers: Vec<(usize, &str)> = known
        .into_iter()
        .take(COMPARED)
        .map(ModelName::short)
        .filter_map(|name| Some((distance(wanted, name)?, name)))
        .collect();
    offers.sort_unstable();
    offers.dedup();
    offers.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}

/// Edits between two names where they are alike; the less the better. The same model with another tag is very like it.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    if name.len() > LONGEST {
        return None;
    }
    let ((wanted_model, wanted_tag), (model, tag)) = (parts(wanted), parts(name));
    if wanted_model == model {
        return Some(usize::from(wanted_tag != tag));
    }
    // The last part alone tells that a namespace is missing or wrong.
    let (wanted_last, last) = (last(wanted_model), last(model));
    let allowed = 1 + wanted_last.len() / 4;
    if wanted_last.len().abs_diff(last.len()) <= allowed {
        let edits = strsim::damerau_levenshtein(wanted_last, last);
        if edits <= allowed {
            return Some(2 * (1 + edits) + usize::from(wanted_tag != tag));
        }
    }
    let (short, long) =
        if wanted_last.len() < last.len() { (wanted_last, last) } else { (last, wanted_last) };
    (short.len() >= 3 && long.starts_with(short)).then(|| 10 + long.len() - short.len())
}

fn parts(name: &str) -> (&str, &str) {
    name.rsplit_once(':').unwrap_or((name, ""))
}

fn last(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, last)| last)
}

/// Ollama's own words for an unknown model, and behind them what may have been meant.
#[must_use]
pub fn not_found_text(as_sent: &str, nearest: &[&str]) -> String {
    let mut text = format!("model '{as_sent}' not found");
    for (place, name) in nearest.iter().enumerate() {
        let before = match place {
            0 => "; did you mean ",
            _ if place + 1 == nearest.len() => " or ",
            _ => ", ",
        };
        text.push_str(before);
        text.push_str(name.strip_suffix(":latest").unwrap_or(name));
    }
    text.push_str(if nearest.is_empty() { "; /api/tags lists those that are here" } else { "?" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(wanted: &str, known: &[&str]) -> Vec<String> {
        let known: Vec<_> = known.iter().map(|name| ModelName::parse(name).unwrap()).collect();
        nearest(&ModelName::parse(wanted).unwrap(), &known).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn typing_errors_tags_and_namespaces_are_seen_through() {
        let known = [
            "qwen3:8b",
            "qwen3:32b",
            "llama3.2",
            "herdgate-demo",
            "hf.co/acme/mistral-7b:q4_k_m",
            "gemma3:1b",
        ];
        for (wanted, first) in [
            ("qwen3", "qwen3:32b"),
            ("quen3:8b", "qwen3:8b"),
            ("llama3.1", "llama3.2:latest"),
            ("lama3.2", "llama3.2:latest"),
            ("herdgate_demo", "herdgate-demo:latest"),
            ("herdgate", "herdgate-demo:latest"),
            ("mistral-7b", "hf.co/acme/mistral-7b:q4_k_m"),
            ("gemma3:4b", "gemma3:1b"),
        ] {
            assert_eq!(offered(wanted, &known).first().map(String::as_str), Some(first), "{wanted}");
        }
        assert!(offered("deepseek-r1", &known).is_empty());
    }

    #[test]
    fn at_most_three_are_offered_each_once() {
        let known = ["m:1", "m:2", "m:3", "m:4", "m:1"];
        assert_eq!(offered("m:9", &known), ["m:1", "m:2", "m:3"]);
    }

    #[test]
    fn ollamas_own_words_come_first() {
        assert_eq!(
            not_found_text("nope", &[]),
            "model 'nope' not found; /api/tags lists those that are here"
        );
        assert_eq!(not_found_text("nope", &["a:latest"]), "model 'nope' not found; did you mean a?");
        assert_eq!(
            not_found_text("x", &["a:1", "b:2", "c:3"]),
            "model 'x' not found; did you mean a:1, b:2 or c:3?"
        );
    }
}
