//! May a page of any origin use the models from a browser (`OLLAMA_ORIGINS=*`)?

use super::{docker, taken};
use crate::doctor::facts::{Facts, Place};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "origins";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let open =
        facts.places.iter().filter(|place| place.models.as_ref().is_some_and(|models| models.any_origin));
    open.map(|place| {
        Finding::warn(CHECK, &place.url, "pages of any origin may use it from a browser (OLLAMA_ORIGINS=*)")
            .because("every page that somebody opens in that network asks, and on Ollama itself deletes, the models there")
            .cured(cure(facts, place).note("pages that may use a gate stand in cors.origins"))
    })
    .collect()
}

fn cure(facts: &Facts, place: &Place) -> Cure {
    let machine = facts.machine.as_ref().filter(|_| place.is_own);
    let container =
        machine.and_then(|machine| machine.containers.iter().find(|one| one.is_ollama && one.is_running));
    let socket =
        machine.and_then(|machine| machine.sockets.iter().find(|one| one.address.port() == place.port));
    let owner = socket.and_then(|socket| socket.owner.as_ref());
    let is_contained = owner.is_some_and(|owner| owner.is("docker-proxy") || owner.container.is_some());
    if let Some(container) = container.filter(|_| is_contained || owner.is_none()) {
        return docker::lines(container, "environment:\n  OLLAMA_ORIGINS: \"\"".to_owned());
    }
    // By hand: not by a service, and nobody starts it again.
    if let Some(owner) = owner.filter(|owner| owner.unit.is_none() && owner.is("ollama")) {
        let host = socket.map(|socket| socket.address.to_string()).unwrap_or_default();
        return taken::stop(owner).then(format!("OLLAMA_ORIGINS= OLLAMA_HOST={host} ollama serve"));
    }
    let files = "/etc/systemd/system/ollama.service /etc/systemd/system/ollama.service.d";
    let cure =
        Cure::run(format!("sudo sed -i '/OLLAMA_ORIGINS=\\*/d' $(sudo grep -rl OLLAMA_ORIGINS {files})"))
            .then("sudo systemctl daemon-reload")
            .then("sudo systemctl restart ollama")
            .or(Cure::run("environment:\n  OLLAMA_ORIGINS: \"\"")
                .within("docker-compose.yml, at Ollama's service"));
    if place.is_own { cure } else { cure.on(place.host.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Models;

    #[test]
    fn only_an_open_door_is_told() {
        for any_origin in [true, false] {
            let models = Some(Models { any_origin, ..Models::default() });
            let facts = Facts { places: vec![Place { models, ..Place::default() }], ..Facts::default() };
            assert_eq!(!judge(&facts).is_empty(), any_origin);
        }
    }
}
