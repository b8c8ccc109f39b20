//! Was something exported in a shell that Ollama's service should have?

use super::{MACHINE, service};
use crate::doctor::facts::{Facts, Machine, Service};
use crate::doctor::finding::{Cure, Finding};
use std::collections::BTreeMap;

const CHECK: &str = "exported";
/// What `herdgate deploy ollama-override` writes: anew each time, so all of it has to be said.
const OURS: &str = "/zz-herdgate.conf";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.machine.as_ref().and_then(one).into_iter().collect()
}

fn one(machine: &Machine) -> Option<Finding> {
    let service = machine.services.iter().find(|service| service.is_ollama() && service.is_running())?;
    // A file of variables is seen by root alone, in what the program was started with.
    let has = |name: &str, value: &str| {
        let all = [Some(&service.sets), service.runs_with.as_ref()];
        all.into_iter().flatten().any(|sets| sets.get(name).is_some_and(|set| set == value))
    };
    let mut missed = machine.exported.clone();
    missed.retain(|name, value| !has(name, value));
    let shown: Vec<String> = missed.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if shown.is_empty() {
        return None;
    }
    let seen = format!("{} is set in this shell, and not in {}", shown.join(", "), service.name);
    Some(
        Finding::warn(CHECK, MACHINE, seen)
            .because("a service sees nothing of what a shell exports: starting it again changes nothing")
            .cured(cure(service, &missed, &shown)),
    )
}

fn cure(service: &Service, missed: &BTreeMap<String, String>, shown: &[String]) -> Cure {
    let ours = service.drop_ins.iter().find(|(path, _)| path.ends_with(OURS)).map(|(_, sets)| sets);
    let ollama_override = Cure::run(command(ours, missed));
    if ours.is_some() {
        return ollama_override.note("its drop-in is written anew: these are all of its options");
    }
    let lines: Vec<String> = shown.iter().map(|pair| format!("Environment=\"{pair}\"")).collect();
    service::drop_in(service, "tuning.conf", &lines.join("\\n"))
        .then(format!("sudo systemctl restart {}", service.name.trim_end_matches(".service")))
        .or(ollama_override.note("which also binds Ollama to loopback, behind the gate"))
}

/// With what its drop-in has already.
fn command(ours: Option<&BTreeMap<String, String>>, missed: &BTreeMap<String, String>) -> String {
    let mut all = ours.cloned().unwrap_or_default();
    all.extend(missed.clone());
    let mut command = "sudo herdgate deploy ollama-override".to_owned();
    for (name, value) in all {
        let option = match name.as_str() {
            "OLLAMA_HOST" if value.starts_with("127.") || value.starts_with("[::1]") => continue,
            "OLLAMA_HOST" => format!("--bind {value} --allow GATE_ADDRESS"),
            "OLLAMA_NUM_PARALLEL" => format!("--num-parallel {value}"),
            "OLLAMA_MAX_LOADED_MODELS" => format!("--max-loaded-models {value}"),
            "OLLAMA_KEEP_ALIVE" => format!("--keep-alive {value}"),
            "OLLAMA_CONTEXT_LENGTH" => format!("--context-length {value}"),
            "OLLAMA_MODELS" => format!("--models {value}"),
            _ => format!("--env {name}={value}"),
        };
        command = format!("{command} {option}");
    }
    format!("{command} --write --run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::ollama;
    use crate::deploy::testing::{make, text};

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn told(exported: &[(&str, &str)], service: Service) -> Option<Finding> {
        let service = Service { name: "ollama.service".into(), active: "active".into(), ..service };
        let machine =
            Machine { services: vec![service], exported: variables(exported), ..Machine::default() };
        judge(&Facts { machine: Some(machine), ..Facts::default() }).pop()
    }

    #[test]
    fn what_the_service_does_not_see_is_told_and_what_it_has_is_not() {
        let wanted = [("OLLAMA_KEEP_ALIVE", "24h"), ("OLLAMA_NUM_PARALLEL", "4")];
        let seen = told(&wanted, Service::default()).unwrap().seen;
        assert_eq!(
            seen,
            "OLLAMA_KEEP_ALIVE=24h, OLLAMA_NUM_PARALLEL=4 is set in this shell, and not in ollama.service"
        );
        let other =
            Service { sets: variables(&[("OLLAMA_KEEP_ALIVE", "5m"), wanted[1]]), ..Service::default() };
        assert!(told(&wanted, other).unwrap().seen.starts_with("OLLAMA_KEEP_ALIVE=24h is set"));
        assert_eq!(told(&wanted, Service { sets: variables(&wanted), ..Service::default() }), None);
        let by_file = Service { runs_with: Some(variables(&wanted)), ..Service::default() };
        assert_eq!(told(&wanted, by_file), None);
        assert_eq!(told(&[], Service::default()), None);
    }

    #[test]
    fn the_drop_in_of_deploy_keeps_what_it_has() {
        let path = "/etc/systemd/system/ollama.service.d/zz-herdgate.conf";
        let has = variables(&[("OLLAMA_HOST", "127.0.0.1:11434"), ("OLLAMA_CONTEXT_LENGTH", "8192")]);
        let service = Service { drop_ins: [(path.to_owned(), has)].into(), ..Service::default() };
        let exported = [("OLLAMA_NUM_PARALLEL", "4"), ("OLLAMA_FLASH_ATTENTION", "1")];
        let cure = told(&exported, service).unwrap().cure.unwrap();
        let words = cure.run[0].strip_prefix("sudo herdgate deploy ollama-override ").unwrap();
        let words: Vec<&str> = words.strip_suffix(" --write --run").unwrap().split(' ').collect();
        let made = make("", &words, ollama::make).unwrap();
        for pair in ["HOST=127.0.0.1:11434", "CONTEXT_LENGTH=8192", "NUM_PARALLEL=4", "FLASH_ATTENTION=1"] {
            let line = format!("Environment=\"OLLAMA_{pair}\"\n");
            assert!(text(&made, "zz-herdgate.conf").contains(&line), "no {line} by {}", cure.run[0]);
        }
    }
}
