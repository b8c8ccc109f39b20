//! Is there a model, the one that is wanted, where it is fast, and with room for what it is asked?

use super::drop_in;
use crate::doctor::facts::{Facts, Loaded, Models, Place, Role, What};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "model";
/// Names that are offered in the place of one that is not there.
const NEAREST: usize = 3;
/// A slip in a short name, too.
const SLIP: usize = 2;
const SHOWN: usize = 6;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let of = |place| one(facts, place);
    facts.places.iter().flat_map(of).collect()
}

fn one(facts: &Facts, place: &Place) -> Vec<Finding> {
    let Some(models) = &place.models else { return Vec::new() };
    if models.status != Some(200) {
        return refused(place, models).into_iter().collect();
    }
    let mut findings = vec![there(facts, place, models)];
    findings.extend(on_cpu(place, models));
    findings.extend(facts.asked.context.and_then(|asked| short(place, models, asked)));
    findings
}

/// Who shows no key to a gate sees no models, and need not.
fn refused(place: &Place, models: &Models) -> Option<Finding> {
    let is_refused = matches!(models.status, Some(401 | 403));
    if is_refused && place.role == Role::Upstream {
        return Some(unshown(place, models));
    }
    if models.is_keyed || is_refused {
        return None;
    }
    let said = match models.status {
        Some(status) => format!("answers {status} to /api/tags"),
        None => "does not tell its models".to_owned(),
    };
    Some(
        Finding::bad(CHECK, &place.url, said)
            .because("programs that list the models first show none")
            .cured(Cure::run("sudo systemctl restart ollama").on(place.host.clone())),
    )
}

/// The gate shows an upstream no key, or a wrong one.
fn unshown(place: &Place, models: &Models) -> Finding {
    let seen = if models.is_keyed {
        "it refuses the credential that the settings give"
    } else {
        "it wants a key, and the settings give none"
    };
    let url = &place.url;
    let lines = format!("[[upstream]]\nurl = \"{url}\"\ntoken_file = \"/etc/herdgate/upstream-token\"");
    Finding::bad(CHECK, url, seen)
        .because("the gate cannot list its models, and every request there fails")
        .cured(
            Cure::run(lines)
                .within("herdgate.toml")
                .note("with a key of that server in this file: chmod 600"),
        )
}

fn there(facts: &Facts, place: &Place, models: &Models) -> Finding {
    let wanted = facts.asked.model.as_deref();
    let mut names: Vec<&str> = models.listed.iter().map(|model| model.name.as_str()).collect();
    match wanted {
        Some(wanted) if models.find(wanted).is_none() => missing(place, models, wanted, &names),
        None if names.is_empty() => {
            let finding = Finding::warn(CHECK, &place.url, "it has no models");
            let why = if models.is_keyed { "or the key may use none" } else { "nothing can be asked" };
            finding.because(why).cured(pull(place, "llama3.2:1b"))
        }
        Some(wanted) => Finding::ok(CHECK, &place.url, format!("has {wanted}")),
        None => {
            names.sort_unstable();
            let count = names.len();
            names.truncate(SHOWN);
            let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
            let word = if count == 1 { "model" } else { "models" };
            Finding::ok(CHECK, &place.url, format!("{count} {word}: {}{more}", names.join(", ")))
        }
    }
}

fn missing(place: &Place, models: &Models, wanted: &str, names: &[&str]) -> Finding {
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (distance(wanted, name), *name))
        .filter(|(distance, _)| *distance <= (wanted.len() / 2).max(SLIP))
        .collect();
    near.sort_unstable();
    near.truncate(NEAREST);
    let near: Vec<&str> = near.into_iter().map(|(_, name)| name).collect();
    let seen = match near.first() {
        Some(_) => format!("has no {wanted}; nearest: {}", near.join(", ")),
        None => format!("has no {wanted}"),
    };
    let why = if models.is_keyed {
        "every request for it gets 404, or 403 where the key may not use it"
    } else {
        "every request for it gets 404"
    };
    let mut cure = pull(place, wanted);
    let (seen, why) = match &place.registry {
        Some(lost) => {
            let proxy = drop_in("HTTPS_PROXY", "http://PROXY:3128");
            cure = proxy.note("where a proxy leads outside; else have the machine's name server and firewall let it out").or(cure);
            (
                format!("{seen}; and it cannot be pulled here: {lost}"),
                format!("{why}, and models come from registry.ollama.ai"),
            )
        }
        None => (seen, why.to_owned()),
    };
    if models.is_keyed {
        cure = cure.or(Cure::run(format!("herdgate key set NAME --models {wanted}"))
            .on(place.host.clone())
            .note(
                "where the gate has it, and the key may not use it; with all models that the key shall have",
            ));
    }
    if let Some(near) = near.first() {
        cure = cure
            .or(Cure::run(format!("export OLLAMA_MODEL={near}")).note("or ask for the one that is there"));
    }
    Finding::bad(CHECK, &place.url, seen).because(why).cured(cure)
}

/// Names without their tags are near each other, too.
fn distance(wanted: &str, name: &str) -> usize {
    let family = |name: &str| name.split(':').next().unwrap_or(name).to_ascii_lowercase();
    let whole = strsim::osa_distance(&wanted.to_ascii_lowercase(), &name.to_ascii_lowercase());
    whole.min(strsim::osa_distance(&family(wanted), &family(name)) + 1)
}

fn pull(place: &Place, name: &str) -> Cure {
    let is_gate = place.served.as_ref().is_some_and(|served| matches!(served.what, What::Gate(_)));
    match (is_gate, place.role) {
        (true, Role::Listener) => Cure::run(format!("herdgate pull {name}")),
        (true, _) => Cure::run(format!("herdgate pull {name} --url {}", place.url))
            .note("with a key that manages models")
            .or(Cure::run("herdgate models")
                .on(place.host.clone())
                .note("tells what is on its way there, and what does not come")),
        (false, _) => Cure::run(format!("OLLAMA_HOST={} ollama pull {name}", place.url))
            .or(Cure::run(format!("docker exec -it ollama ollama pull {name}"))
                .note("where it runs in a container")),
    }
}

/// Models of which a part is not in a GPU's memory.
fn on_cpu(place: &Place, models: &Models) -> Option<Finding> {
    let slow = |loaded: &&Loaded| loaded.size > 0 && loaded.in_gpu < loaded.size;
    let told = |loaded: &Loaded| match loaded.in_gpu.saturating_mul(100) / loaded.size.max(1) {
        0 => loaded.name.clone(),
        share => format!("{} % of {}", 100 - share, loaded.name),
    };
    let slow: Vec<String> = models.loaded.iter().filter(slow).map(told).collect();
    let word = if slow.len() == 1 && !slow.first()?.contains(" % of ") { "runs" } else { "run" };
    slow.first()?;
    let seen = format!("{} {word} on the CPU", slow.join(", "));
    if place.memory.as_ref().is_some_and(|memory| !memory.has_card) {
        return Some(Finding::ok(
            CHECK,
            &place.url,
            format!("{seen}: this machine has no graphics card for it"),
        ));
    }
    let cure = Cure::run("nvidia-smi")
        .then("journalctl -u ollama -b --no-pager | grep -iE 'gpu|cuda|rocm|vram' | tail -20")
        .on(place.host.clone())
        .note("in a container: --gpus all, or a smaller model or context where its memory is too small");
    Some(
        Finding::warn(CHECK, &place.url, seen)
            .because("ten times slower than on a GPU; where there is none this is as it must be")
            .cured(cure),
    )
}

fn short(place: &Place, models: &Models, asked: u64) -> Option<Finding> {
    let is_short = |loaded: &&Loaded| loaded.context > 0 && loaded.context < asked;
    let told = |loaded: &Loaded| format!("{} has {}", loaded.name, loaded.context);
    let short: Vec<String> = models.loaded.iter().filter(is_short).map(told).collect();
    short.first()?;
    let seen = format!("{} tokens of context, and {asked} are wanted", short.join(", "));
    let cure = drop_in("OLLAMA_CONTEXT_LENGTH", &asked.to_string());
    let cure = if place.is_own { cure } else { cure.on(place.host.clone()) };
    Some(
        Finding::warn(CHECK, &place.url, seen)
            .because("longer prompts lose their beginning without a word")
            .cured(cure.note("a model's own limit may be lower: ollama show NAME tells it")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Asked, Model, Served};
    use crate::doctor::finding::Mark;

    fn facts(names: &[&str], loaded: Vec<Loaded>, asked: Asked, is_gate: bool) -> Facts {
        let model = |name: &&str| Model { name: (*name).to_owned(), size: 9, answers: true };
        let listed = names.iter().map(model).collect();
        let what = if is_gate { What::Gate(None) } else { What::Ollama("0.35.0".into()) };
        let place = Place {
            url: "http://gpu1:11434".into(),
            host: "gpu1".into(),
            served: Some(Served { what, ..Served::default() }),
            models: Some(Models {
                status: Some(200),
                is_keyed: is_gate,
                listed,
                loaded,
                ..Models::default()
            }),
            ..Place::default()
        };
        Facts { asked, places: vec![place], ..Facts::default() }
    }

    fn wants(model: &str) -> Asked {
        Asked { model: Some(model.to_owned()), ..Asked::default() }
    }

    #[test]
    fn a_model_that_is_not_there_is_named_with_its_nearest() {
        let names = ["qwen3:4b", "llama3.2:1b", "mistral:7b"];
        let found = judge(&facts(&names, vec![], wants("qwen3:8b"), false)).remove(0);
        assert_eq!((found.mark, found.seen.as_str()), (Mark::Bad, "has no qwen3:8b; nearest: qwen3:4b"));
        assert_eq!(found.cure.unwrap().run, ["OLLAMA_HOST=http://gpu1:11434 ollama pull qwen3:8b"]);
        let found = judge(&facts(&names, vec![], wants("phi"), true)).remove(0);
        assert_eq!(found.cure.unwrap().run, ["herdgate pull phi --url http://gpu1:11434"]);
        let found = judge(&facts(&["demo:latest", "phi4"], vec![], wants("dmo"), false)).remove(0);
        assert_eq!(found.seen, "has no dmo; nearest: demo:latest");
        let found = judge(&facts(&["qwen3:latest"], vec![], wants("qwen3"), false)).remove(0);
        assert_eq!(found.mark, Mark::Ok);
        assert_eq!(judge(&facts(&[], vec![], Asked::default(), false))[0].mark, Mark::Warn);
        let found = judge(&facts(&names, vec![], Asked::default(), false)).remove(0);
        assert_eq!(found.seen, "3 models: llama3.2:1b, mistral:7b, qwen3:4b");
    }

    #[test]
    fn memory_and_context_are_looked_at() {
        let loaded = |in_gpu, context| vec![Loaded { name: "a:1b".into(), size: 1000, in_gpu, context }];
        let seen = |loaded, context| {
            let asked = Asked { context, ..Asked::default() };
            judge(&facts(&["a:1b"], loaded, asked, false)).get(1).map(|finding| finding.seen.clone())
        };
        assert_eq!(seen(loaded(1000, 4096), Some(4096)), None);
        assert_eq!(seen(loaded(0, 4096), None).as_deref(), Some("a:1b runs on the CPU"));
        assert_eq!(seen(loaded(750, 4096), None).as_deref(), Some("25 % of a:1b run on the CPU"));
        let short = "a:1b has 4096 tokens of context, and 8192 are wanted";
        assert_eq!(seen(loaded(1000, 4096), Some(8192)).as_deref(), Some(short));
    }
}
