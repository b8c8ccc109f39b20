//! Which of two server versions is the lower. Ollama's are `0.32.15` and `0.33.0-rc2`; its own builds say `0.0.0`.

use std::cmp::Ordering;

/// Orders versions number by number; a pre-release comes before its release, what is no version after everything.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    match (read(a), read(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Whether it is a version that Ollama gave out, if only to be tried.
pub(crate) fn is_release(text: &str) -> bool {
    read(text).is_some_and(|(numbers, full, early)| {
        let is_early = early.iter().all(|(_, word)| word.starts_with("rc"));
        numbers.iter().any(|number| *number > 0) && (full || is_early)
    })
}

/// Numbers, whether it is a full release, and the numbers and text of the pre-release.
type Read<'t> = (Vec<u64>, bool, Vec<(u64, &'t str)>);

fn read(text: &str) -> Option<Read<'_>> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = text.split_once('+').map_or(text, |(before, _build)| before);
    let (release, early) =
        text.split_once('-').map_or((text, None), |(release, early)| (release, Some(early)));
    let numbers = release.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let early = early.map(|early| early.split('.').map(early_part).collect()).unwrap_or_default();
    let full = text.len() == release.len();
    Some((numbers, full, early))
}

/// `rc2` is later than `rc1` and earlier than `rc10`.
fn early_part(part: &str) -> (u64, &str) {
    let word = part.trim_end_matches(|c: char| c.is_ascii_digit());
    (part.get(word.len()..).and_then(|digits| digits.parse().ok()).unwrap_or(0), word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let ordered = [
            "0.0.0",
            "0.9.1",
            "0.24.0",
            "0.32.15",
            "0.33.0-rc1",
            "0.33.0-rc2",
            "0.33.0-rc10",
            "0.33.0",
            "1.0",
            "dev",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("v0.32.15", "0.32.15+build7"), Ordering::Equal);
    }
}
