//! A string that cannot be printed. Keys and tokens live in it from the byte they are read to the digest.

use std::fmt;
use zeroize::Zeroizing;

/// A secret text: no `Display`, a `Debug` that shows nothing, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `text`. The caller's own copies are the caller's to drop.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Each use is a place to look at in a review: it may go to a digest or to its owner, never to a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", Secret::new("canary-canary".to_owned()));
        assert_eq!(shown, "Secret(…)");
    }
}
