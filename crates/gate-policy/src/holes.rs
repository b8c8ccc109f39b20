//! Versions of Ollama with holes that are known to everybody, and the version that has none of them.
//!
//! From the CVE records, with the versions as they were published there; what cannot be told by a version (management without
//! authentication, CVE-2025-63389) is what the gate is for and does not stand here. Most of these need routes that the gate opens
//! to keys with `manage` alone, but an upstream may be reached by other ways than the gate.

use crate::version::{compare, is_release};
use std::cmp::Ordering;

/// One hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The name by which it is known.
    pub id: &'static str,
    since: &'static str,
    until: Until,
}

/// Where a hole ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// This version has it no more.
    Mended(&'static str),
    /// This is the last that is known to have it.
    Last(&'static str),
}

use Until::{Last, Mended};

const fn hole(id: &'static str, until: Until) -> Hole {
    Hole { id, since: "0.0.1", until }
}

/// Newest first.
const HOLES: &[Hole] = &[
    Hole { since: "0.34.2", ..hole("CVE-2026-103663", Mended("0.35.0")) },
    hole("CVE-2026-108836", Mended("0.34.2")),
    Hole { since: "0.30.0", ..hole("CVE-2026-85180", Last("0.33.2")) },
    hole("CVE-2026-7020", Last("0.20.2")),
    hole("CVE-2026-5530", Last("0.18.1")),
    hole("CVE-2026-7482", Mended("0.17.1")),
    hole("CVE-2025-51471", Mended("0.14.3")),
    hole("CVE-2025-66959", Last("0.12.10")),
    hole("CVE-2025-66960", Last("0.12.10")),
    hole("CVE-2025-1975", Last("0.5.11")),
    hole("CVE-2025-0312", Last("0.3.14")),
    hole("CVE-2025-0315", Last("0.3.14")),
    hole("CVE-2025-0317", Last("0.3.14")),
    hole("CVE-2024-12886", Last("0.3.14")),
    hole("CVE-2024-12055", Last("0.3.14")),
    hole("CVE-2024-8063", Last("0.3.14")),
    hole("CVE-2024-39719", Last("0.3.14")),
    hole("CVE-2024-45436", Mended("0.1.47")),
    hole("CVE-2024-39720", Mended("0.1.46")),
    hole("CVE-2024-39722", Last("0.1.45")),
    hole("CVE-2024-37032", Mended("0.1.34")),
    hole("CVE-2025-44779", Last("0.1.33")),
    hole("CVE-2024-28224", Mended("0.1.29")),
];

impl Hole {
    fn is_in(&self, version: &str) -> bool {
        let is_over = match self.until {
            Mended(mended) => compare(version, mended) != Ordering::Less,
            Last(last) => compare(version, last) == Ordering::Greater,
        };
        compare(version, self.since) != Ordering::Less && !is_over
    }
}

/// The holes that are known in this version, newest first; none in what is no release of Ollama's: its own builds say `0.0.0`,
/// and what is not Ollama (`…-herdgate`) has others or none.
#[must_use]
pub fn holes(version: &str) -> Vec<&'static Hole> {
    if !is_release(version) {
        return Vec::new();
    }
    HOLES.iter().filter(|hole| hole.is_in(version)).collect()
}

/// The lowest version behind this one in which none of them is known.
#[must_use]
pub fn mended_by(version: &str) -> Option<&'static str> {
    let mended = HOLES.iter().filter_map(|hole| match hole.until {
        Mended(mended) => Some(mended),
        Last(_) => None,
    });
    let sound =
        mended.filter(|mended| compare(mended, version) == Ordering::Greater && holes(mended).is_empty());
    sound.min_by(|a, b| compare(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(version: &str) -> Vec<&'static str> {
        holes(version).iter().map(|hole| hole.id).collect()
    }

    #[test]
    fn each_version_has_its_own() {
        assert_eq!(ids("0.34.2"), ["CVE-2026-103663"]);
        assert_eq!(ids("0.34.1"), ["CVE-2026-108836"]);
        assert_eq!(ids("0.32.15"), ["CVE-2026-108836", "CVE-2026-85180"]);
        assert_eq!(ids("v0.24.0"), ["CVE-2026-108836"]);
        assert!(ids("0.17.0").contains(&"CVE-2026-7482") && !ids("0.17.1").contains(&"CVE-2026-7482"));
        assert_eq!(ids("0.1.28").len(), HOLES.len() - 2);
        for none in ["0.35.0", "1.0.0", "0.36.0-rc1", "0.0.0", "dev", "0.24.0-herdgate", ""] {
            assert_eq!(ids(none), Vec::<&str>::new(), "{none}");
        }
    }

    #[test]
    fn the_version_that_mends_has_none() {
        for version in ["0.1.0", "0.17.0", "0.24.0", "0.34.2", "0.35.0-rc0"] {
            assert_eq!(mended_by(version), Some("0.35.0"), "{version}");
        }
        assert!(holes("0.35.0").is_empty() && mended_by("0.35.0").is_none());
    }
}
