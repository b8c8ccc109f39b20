//! Does the server have the same time as this machine?

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "clock";
/// Certificates and signed requests bear some minutes; a `Date` is cut to seconds, and may come from a cache.
const MOST: u64 = 60;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let judge = |place: &crate::doctor::facts::Place| {
        let ahead = place.served.as_ref()?.ahead?;
        let off = ahead.unsigned_abs();
        if off <= MOST || place.is_own {
            return None;
        }
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let cure = Cure::run("timedatectl show -p NTPSynchronized").then("sudo timedatectl set-ntp true");
        Some(
            Finding::warn(CHECK, &place.url, format!("its clock is {off} s {way} that of this machine"))
                .because("certificates seem expired or not valid yet, and signed logins of Ollama's command line are refused")
                .cured(cure.note("here and there: the one that is not synchronized is wrong")),
        )
    };
    facts.places.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Place, Served};

    #[test]
    fn only_another_machine_can_have_another_time() {
        let seen = |ahead, is_own| {
            let served = Some(Served { ahead: Some(ahead), ..Served::default() });
            let place = Place { served, is_own, ..Place::default() };
            judge(&Facts { places: vec![place], ..Facts::default() }).pop().map(|finding| finding.seen)
        };
        assert_eq!(seen(3, false), None);
        assert_eq!(seen(400, true), None);
        assert_eq!(seen(400, false).as_deref(), Some("its clock is 400 s ahead of that of this machine"));
        assert_eq!(seen(-90, false).as_deref(), Some("its clock is 90 s behind that of this machine"));
    }
}
