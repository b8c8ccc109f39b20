//! Does a model fit into the memory of this machine? What is not known here, the server itself says when it is asked.

use super::question::smaller;
use crate::doctor::facts::{Facts, Memory, Place};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "memory";
const GIB: u64 = 1 << 30;
/// Names in a line.
const SHOWN: usize = 4;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.places.iter().filter_map(|place| one(facts, place, place.memory.as_ref()?)).collect()
}

fn one(facts: &Facts, place: &Place, memory: &Memory) -> Option<Finding> {
    let models = place.models.as_ref()?;
    let wanted = facts.asked.model.as_deref().and_then(|wanted| Some((wanted, place.too_large(wanted)?)));
    let here = match memory.cards {
        0 => format!("this machine has {}", gib(memory.ram)),
        cards => format!("this machine has {}, and {} on its cards", gib(memory.ram), gib(cards)),
    };
    if let Some((wanted, size)) = wanted {
        let seen = format!("{wanted} has {}, and {here}: it was not asked", gib(size));
        return Some(
            Finding::bad(CHECK, &place.url, seen)
                .because("Ollama refuses to load it, or the machine stands still over it")
                .cured(smaller(place, wanted)),
        );
    }
    let large: Vec<&str> = models
        .listed
        .iter()
        .map(|model| model.name.as_str())
        .filter(|name| place.too_large(name).is_some())
        .collect();
    let first = large.first()?;
    let more = large.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown: Vec<&str> = large.iter().take(SHOWN).copied().collect();
    let word = if large.len() == 1 { "does" } else { "do" };
    let seen = format!("{}{more} {word} not fit into memory: {here}", shown.join(", "));
    let gone = Cure::run(format!("OLLAMA_HOST={} ollama rm {first}", place.url))
        .note("it only takes room on the disk");
    Some(
        Finding::warn(CHECK, &place.url, seen)
            .because("whoever asks it gets an error")
            .cured(smaller(place, first).or(gone)),
    )
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Asked, Model, Models};
    use crate::doctor::finding::Mark;

    fn found(wanted: Option<&str>, ram: u64, cards: u64) -> Option<(Mark, String, Vec<String>)> {
        let model = |(name, size): (&str, u64)| Model { name: name.into(), size: size * GIB, answers: true };
        let listed = [("qwen3:8b", 5), ("qwen3:32b", 20), ("llama3.1:70b", 40)].map(model).to_vec();
        let place = Place {
            url: "http://127.0.0.1:11434".into(),
            models: Some(Models { listed, ..Models::default() }),
            memory: Some(Memory { ram: ram * GIB, cards: cards * GIB, has_card: cards > 0 }),
            ..Place::default()
        };
        let asked = Asked { model: wanted.map(str::to_owned), ..Asked::default() };
        let found = judge(&Facts { asked, places: vec![place], ..Facts::default() }).pop()?;
        Some((found.mark, found.seen, found.cure.unwrap().run))
    }

    #[test]
    fn a_model_that_cannot_fit_is_told_before_it_is_asked() {
        let (mark, seen, run) = found(Some("qwen3:32b"), 16, 0).unwrap();
        assert_eq!(
            (mark, seen.as_str()),
            (Mark::Bad, "qwen3:32b has 20.0 GiB, and this machine has 16.0 GiB: it was not asked")
        );
        assert_eq!(run, ["herdgate doctor http://127.0.0.1:11434 --model qwen3:8b"]);
        let (mark, seen, run) = found(Some("qwen3:8b"), 16, 0).unwrap();
        assert_eq!(
            (mark, seen.as_str()),
            (Mark::Warn, "qwen3:32b, llama3.1:70b do not fit into memory: this machine has 16.0 GiB")
        );
        assert_eq!(run, ["herdgate doctor http://127.0.0.1:11434 --model qwen3:8b"]);
        let (_, seen, run) = found(None, 16, 8).unwrap();
        assert!(
            seen.starts_with("llama3.1:70b does not fit")
                && seen.ends_with("16.0 GiB, and 8.0 GiB on its cards"),
            "{seen}"
        );
        assert!(run[0].ends_with("ollama pull llama3.1:8b"), "{run:?}");
        assert_eq!(found(None, 64, 0), None);
        assert_eq!(found(Some("llama3.1:70b"), 0, 0), None);
    }
}
