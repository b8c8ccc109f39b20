//! May a page of any origin use the models from a browser (`OLLAMA_ORIGINS=*`)?

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "origins";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let open =
        facts.places.iter().filter(|place| place.models.as_ref().is_some_and(|models| models.any_origin));
    open.map(|place| {
        let files = "/etc/systemd/system/ollama.service /etc/systemd/system/ollama.service.d";
        let cure = Cure::run(format!("sudo sed -i '/OLLAMA_ORIGINS=\\*/d' $(grep -rl OLLAMA_ORIGINS {files})"))
            .then("sudo systemctl daemon-reload")
            .then("sudo systemctl restart ollama")
            .note("in a container: take OLLAMA_ORIGINS out of its environment; pages that may use a gate stand in cors.origins");
        let cure = if place.is_own { cure } else { cure.on(place.host.clone()) };
        Finding::warn(CHECK, &place.url, "pages of any origin may use it from a browser (OLLAMA_ORIGINS=*)")
            .because("every page that somebody opens in that network asks, and on Ollama itself deletes, the models there")
            .cured(cure)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Models, Place};

    #[test]
    fn only_an_open_door_is_told() {
        for any_origin in [true, false] {
            let models = Some(Models { any_origin, ..Models::default() });
            let facts = Facts { places: vec![Place { models, ..Place::default() }], ..Facts::default() };
            assert_eq!(!judge(&facts).is_empty(), any_origin);
        }
    }
}
