//! Which upstreams a command means. Pure but for reading the fleet.

use super::{Admin, Asked, Refusal};
use gate_types::UpstreamId;
use http::StatusCode;

impl Admin {
    /// The upstreams in use that run models.
    pub(super) fn upstreams(&self) -> Vec<UpstreamId> {
        self.puller.shared.with_fleet(|fleet| fleet.ollamas().map(|(id, _)| id).collect())
    }

    pub(super) fn name(&self, id: UpstreamId) -> String {
        self.puller.shared.upstream_name(id).to_owned()
    }

    /// Those that are named: all of them where none is.
    pub(super) fn named(&self, on: Option<&str>) -> Result<Vec<UpstreamId>, Refusal> {
        let all = self.upstreams();
        let Some(on) = on else { return Ok(all) };
        let found: Vec<_> = all.iter().copied().filter(|id| self.is_called(*id, on)).collect();
        match found.len() {
            0 => Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no upstream \"{on}\""))
                .hint(format!("the upstreams are {}", self.names(&all)))),
            1 => Ok(found),
            _ => Err(Refusal::new(StatusCode::CONFLICT, format!("\"{on}\" is more than one upstream"))
                .hint(format!("name one of {}", self.names(&found)))),
        }
    }

    /// The upstream that is meant where a model is to be added: the one that is named, else the gate's own, else the only one.
    pub(super) fn meant(&self, asked: &Asked) -> Result<Vec<UpstreamId>, Refusal> {
        if asked.all || asked.on.is_some() {
            return self.named(asked.on.as_deref());
        }
        let all = self.upstreams();
        let own = self.ollamas.first().filter(|id| all.contains(id));
        match (own, &all[..]) {
            (Some(own), _) => Ok(vec![*own]),
            (None, [only]) => Ok(vec![*only]),
            (None, []) => Err(Refusal::new(StatusCode::CONFLICT, "this gate has no upstream")),
            (None, _) => Err(self.which(&all)),
        }
    }

    pub(super) fn which(&self, all: &[UpstreamId]) -> Refusal {
        let text = format!("there are {} upstreams: which one?", all.len());
        Refusal::new(StatusCode::CONFLICT, text)
            .hint(format!("say --on with one of {}, or --all", self.names(all)))
    }

    fn names(&self, all: &[UpstreamId]) -> String {
        all.iter().map(|id| self.name(*id)).collect::<Vec<_>>().join(", ")
    }

    /// By its name, its URL, or as much of that as people type.
    fn is_called(&self, id: UpstreamId, on: &str) -> bool {
        let on = on.trim_end_matches('/');
        let of_url = self.roster.get(id).is_some_and(|endpoint| {
            [endpoint.authority(), endpoint.host()].iter().any(|part| part.eq_ignore_ascii_case(on))
                || endpoint.label().eq_ignore_ascii_case(on)
        });
        of_url || self.puller.shared.upstream_name(id).eq_ignore_ascii_case(on)
    }
}
