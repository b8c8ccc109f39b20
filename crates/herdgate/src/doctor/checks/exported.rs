//! Was something exported in a shell that Ollama's service should have?

use super::{MACHINE, service, with_blanks};
use crate::deploy::ollama::KIND;
use crate::doctor::facts::{Facts, Machine, Service};
use crate::doctor::finding::{Cure, Finding};
use std::collections::BTreeMap;

const CHECK: &str = "exported";
/// What `herdgate deploy ollama-override` writes: anew each time, so all of it has to be said.
const OURS: &str = "/zz-herdgate.conf";
/// What stands for a proxy's user and password.
const MASK: &str = "...@";

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
    let ollama_override = Cure::run(command(ours, missed, service));
    if let Some(sets) = ours {
        let mut note = "its drop-in is written anew: these are all of its options".to_owned();
        if service.lets_in.is_empty() && bound(sets).is_some() {
            note.push_str("; GATE_ADDRESS: whom it let in before");
        }
        if sets.values().any(|value| value.contains(MASK)) {
            note.push_str("; ...@: the user and password of that proxy, which nobody is shown");
        }
        return ollama_override.note(note);
    }
    let lines: Vec<String> = shown.iter().map(|pair| format!("Environment=\"{pair}\"")).collect();
    service::drop_in(service, "tuning.conf", &lines.join("\\n"))
        .then(format!("sudo systemctl restart {}", service.word()))
        .or(ollama_override.note("which also binds Ollama to loopback, behind the gate"))
}

/// Where its drop-in has it listen for a gate elsewhere.
fn bound(sets: &BTreeMap<String, String>) -> Option<&str> {
    let host = sets.get("OLLAMA_HOST").map(String::as_str)?;
    (!host.starts_with("127.") && !host.starts_with("[::1]")).then_some(host)
}

/// With what its drop-in has already.
fn command(
    ours: Option<&BTreeMap<String, String>>,
    missed: &BTreeMap<String, String>,
    service: &Service,
) -> String {
    let mut all = ours.cloned().unwrap_or_default();
    all.extend(missed.clone());
    let mut words: Vec<String> = ["sudo", "herdgate", "deploy", KIND].map(str::to_owned).into();
    if let Some(host) = bound(&all) {
        words.extend(["--bind".to_owned(), host.to_owned()]);
        let allowed = service.lets_in.join(",");
        let allowed = if allowed.is_empty() { "GATE_ADDRESS".to_owned() } else { allowed };
        words.extend(["--allow".to_owned(), allowed]);
        words.extend(service.by.iter().map(|firewall| format!("--{firewall}")));
    }
    for (name, value) in all {
        let option = match name.as_str() {
            "OLLAMA_HOST" => continue,
            "OLLAMA_NUM_PARALLEL" => "--num-parallel",
            "OLLAMA_MAX_LOADED_MODELS" => "--max-loaded-models",
            "OLLAMA_KEEP_ALIVE" => "--keep-alive",
            "OLLAMA_CONTEXT_LENGTH" => "--context-length",
            "OLLAMA_MODELS" => "--models",
            _ => "--env",
        };
        let value = if option == "--env" { format!("{name}={value}") } else { value };
        words.extend([option.to_owned(), with_blanks(&value)]);
    }
    words.extend(["--write", "--run"].map(str::to_owned));
    words.join(" ")
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
        let findings = crate::doctor::judge(&Facts { machine: Some(machine), ..Facts::default() });
        findings.into_iter().find(|finding| finding.check == CHECK)
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
        let made = make(ollama::KIND, "", &words, ollama::make).unwrap();
        for pair in ["HOST=127.0.0.1:11434", "CONTEXT_LENGTH=8192", "NUM_PARALLEL=4", "FLASH_ATTENTION=1"] {
            let line = format!("Environment=\"OLLAMA_{pair}\"\n");
            assert!(text(&made, "zz-herdgate.conf").contains(&line), "no {line} by {}", cure.run[0]);
        }
    }

    /// What a shell makes of a cure, without its first words and its last.
    fn words_of(command: &str) -> Vec<String> {
        let echo = command.replacen("sudo herdgate deploy ollama-override", "printf '%s\\n'", 1);
        let echo = echo.strip_suffix(" --write --run").unwrap();
        let done = std::process::Command::new("/bin/sh").args(["-c", echo]).output().unwrap();
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_the_drop_in_has_reaches_it_through_a_shell_as_it_is() {
        let path = "/etc/systemd/system/ollama.service.d/zz-herdgate.conf";
        for lets_in in [&["192.168.1.2", "10.0.0.0/24"][..], &[][..]] {
            let has =
                variables(&[("OLLAMA_HOST", "192.168.1.100:11434"), ("OLLAMA_MODELS", "/srv/my models")]);
            let service = Service {
                drop_ins: [(path.to_owned(), has)].into(),
                lets_in: lets_in.iter().map(|word| (*word).to_owned()).collect(),
                by: Some("ufw".into()),
                ..Service::default()
            };
            let cure = told(&[("OLLAMA_KEEP_ALIVE", "24h")], service).unwrap().cure.unwrap();
            let words = words_of(&cure.run[0]);
            let allow = words.iter().position(|word| word == "--allow").unwrap();
            if lets_in.is_empty() {
                assert_eq!(words[allow + 1], "GATE_ADDRESS");
                assert!(cure.note.unwrap().ends_with("GATE_ADDRESS: whom it let in before"));
                continue;
            }
            assert_eq!(words[allow + 1..allow + 3], [lets_in.join(","), "--ufw".to_owned()]);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let made = make(ollama::KIND, "", &words, ollama::make).unwrap();
            let drop_in = text(&made, "zz-herdgate.conf");
            for pair in ["HOST=192.168.1.100:11434", "MODELS=/srv/my models", "KEEP_ALIVE=24h"] {
                assert!(drop_in.contains(&format!("Environment=\"OLLAMA_{pair}\"\n")), "{pair}: {drop_in}");
            }
        }
    }
}
