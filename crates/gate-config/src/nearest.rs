//! "Did you mean": the known name that a misspelt one is closest to, or none where all are far.

use strsim::osa_distance;

/// Longest text worth comparing: no known name is half as long, and the cost grows with the length.
const LONGEST: usize = 64;

/// The nearest of `known` to `word`: a swap, slip or omission or two away, or one of which `word` is the beginning.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let near = |name: &'k str| {
        let lower = name.to_ascii_lowercase();
        let distance = osa_distance(&word, &lower);
        let starts = word.len() >= 3 && (lower.starts_with(&word) || word.starts_with(&lower));
        let close = distance <= lower.len().max(word.len()) / 3;
        (starts || close).then_some((distance, name))
    };
    known.into_iter().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["address", "upstreams", "keep_alive", "head", "connect"];
        for (word, found) in [
            ("adress", Some("address")),
            ("upstream", Some("upstreams")),
            ("upstraems", Some("upstreams")),
            ("keep-alive", Some("keep_alive")),
            ("HEAD", Some("head")),
            ("connect_timeout", Some("connect")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), found, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
