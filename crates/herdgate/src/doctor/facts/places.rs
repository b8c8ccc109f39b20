//! The servers that are looked at, and the looking: each by itself, side by side, step after step until one explains the rest.

use super::Look;
use super::ask::{Question, Way};
use super::dial::{self, Around, Dial, End};
use super::goals::{Goal, around_it, of_settings, of_target, without_version};
use super::machine::Container;
use super::memory::{self, Memory};
use super::models::{self, Models};
use super::names::{self, Eyes, Names};
use super::question::{self, Told};
use super::registry;
use super::served::{self, Failed, Served, What};
use super::tls::TlsFacts;
use crate::together::together;
use gate_config::UpstreamUrl;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// Servers that are looked at; a fleet has far fewer.
pub(super) const MOST: usize = 64;
/// All together, the question too: who waits a minute has left.
const ALL: Duration = Duration::from_secs(57);

/// A question that has less than this tells nothing of a model.
const LEAST: Duration = Duration::from_secs(1);
/// Of it, for names that a container does not know and this machine may.
const AFTER: Duration = Duration::from_secs(8);
/// What a server is to whoever asks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum Role {
    /// Named on the command line: it is looked at as a client would.
    #[default]
    Target,
    /// Behind the gate of this machine.
    Upstream,
    /// Where the gate of this machine listens.
    Listener,
}

/// One server, as far as could be seen.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Place {
    /// How it is called, also in the report.
    pub(in crate::doctor) url: String,
    pub(in crate::doctor) role: Role,
    pub(in crate::doctor) host: String,
    pub(in crate::doctor) port: u16,
    pub(in crate::doctor) is_tls: bool,
    /// Nobody named it: it is where an Ollama would be, and the gate may start one.
    pub(in crate::doctor) is_guess: bool,
    /// Nothing for an address.
    pub(in crate::doctor) names: Option<Names>,
    /// In the order in which a client tries them.
    pub(in crate::doctor) dials: Vec<Dial>,
    /// Whether the address that answers, or the first that does not, is this machine's own.
    pub(in crate::doctor) is_own: bool,
    /// The address of this machine that packets there leave from.
    pub(in crate::doctor) from: Option<IpAddr>,
    /// Looked at where no address could be connected to.
    pub(in crate::doctor) around: Option<Around>,
    /// The handshake, where TLS was asked for.
    pub(in crate::doctor) tls: Option<TlsFacts>,
    /// What answers, where a connection stands.
    pub(in crate::doctor) served: Option<Served>,
    /// The addresses of this machine at which others reach the same server, and get an answer without a key.
    pub(in crate::doctor) also_at: Vec<SocketAddr>,
    /// Its models, where it is an Ollama or a gate.
    pub(in crate::doctor) models: Option<Models>,
    /// What it has for models, where it is an Ollama of this machine.
    pub(in crate::doctor) memory: Option<Memory>,
    /// Why models cannot be pulled here, looked at where the wanted one is missing from an Ollama of this machine.
    pub(in crate::doctor) registry: Option<String>,
    /// The one question to a model: of all servers one is asked.
    pub(in crate::doctor) told: Option<Told>,
}

impl Place {
    /// The bytes of a model that can never be in the memory here.
    pub(in crate::doctor) fn too_large(&self, model: &str) -> Option<u64> {
        let size = self.models.as_ref()?.find(model)?.size;
        self.memory.as_ref().filter(|memory| memory.ram > 0 && size > memory.all()).map(|_| size)
    }

    /// The first address that could be connected to.
    pub(in crate::doctor) fn open(&self) -> Option<&Dial> {
        self.dials.iter().find(|dial| dial.end == End::Open)
    }

    /// A server called gpu1 for tables of tests, connected to once.
    #[cfg(test)]
    pub(in crate::doctor) fn gpu1(role: Role, address: &str, end: End, is_own: bool) -> Self {
        Place {
            url: "http://gpu1:11434".into(),
            role,
            host: "gpu1".into(),
            port: 11434,
            dials: vec![Dial { address: address.parse().unwrap(), end, micros: 1_200 }],
            is_own,
            from: Some("10.0.0.1".parse().unwrap()),
            ..Place::default()
        }
    }
}

pub(super) async fn gather(look: &Look) -> Looked {
    let goals = match (&look.target, &look.settings) {
        (Some(url), _) => vec![of_target(look, url.clone())],
        (None, Some(settings)) => of_settings(&settings.0, &settings.1),
        (None, None) => Vec::new(),
    };
    at_goals(&goals, &Eyes::Here, look.model.as_deref(), Instant::now() + ALL).await
}

/// The same by this thread, which is in a container's network: a target, or what the container was told to ask, and the gate and its
/// upstreams as the container finds them.
pub(super) async fn from_inside(
    look: &Look,
    container: &Container,
    gateway: Option<IpAddr>,
    eyes: &Eyes,
    begun: Instant,
) -> Vec<Place> {
    let goals = match (&look.target, &look.settings) {
        (Some(url), _) => vec![of_target(look, url.clone())],
        (None, settings) => {
            let asked = container.asks.iter().filter_map(|url| UpstreamUrl::parse(url).ok());
            let asked = asked.map(|url| of_target(look, without_version(url)));
            let around =
                settings.iter().flat_map(|settings| around_it(&settings.0, &settings.1, container, gateway));
            let mut goals: Vec<Goal> = Vec::new();
            for goal in asked.chain(around) {
                if !goals.iter().any(|known| known.url == goal.url) {
                    goals.push(goal);
                }
            }
            goals
        }
    };
    let model = look.model.as_deref().or(container.model.as_deref());
    let mut places = at_goals(&goals, eyes, model, begun + ALL - AFTER).await.told(look, model).await;
    // A gate that the container was told to ask, and was found by that name, is not told once more.
    let asked: Vec<SocketAddr> = places
        .iter()
        .filter(|place| place.role == Role::Target)
        .filter_map(|place| Some(place.open()?.address))
        .collect();
    places.retain(|place| {
        place.role != Role::Listener || place.open().is_none_or(|dial| !asked.contains(&dial.address))
    });
    places
}

/// Servers that were looked at, before a model of one of them is asked.
pub(super) struct Looked {
    places: Vec<Place>,
    ways: Vec<Option<Way>>,
    /// When that must be over.
    end: Instant,
}

impl Looked {
    /// Asks the one question, while this thread does nothing else: the times between its words are what is measured.
    pub(super) async fn told(mut self, look: &Look, model: Option<&str>) -> Vec<Place> {
        let left = self.end.saturating_duration_since(Instant::now());
        let limit = look.wait.unwrap_or(left);
        if look.infers && limit >= LEAST {
            ask_one(&mut self.places, &self.ways, model, limit).await;
        }
        self.places
    }
}

async fn at_goals(goals: &[Goal], eyes: &Eyes, model: Option<&str>, end: Instant) -> Looked {
    let looked = together(goals.iter().map(|goal| one(goal, eyes, end)).collect()).await;
    let (mut places, ways): (Vec<Place>, Vec<Option<Way>>) = looked.into_iter().unzip();
    if let (Some(named), Eyes::Here) = (model, eyes) {
        let is_missing = |place: &&mut Place| {
            place.memory.is_some() && place.models.as_ref().is_some_and(|models| models.find(named).is_none())
        };
        if let Some(place) = places.iter_mut().find(is_missing) {
            place.registry = timeout_at(end.into(), registry::look()).await.ok().flatten();
        }
    }
    Looked { places, ways, end }
}

/// Asks a model of the first server that has one.
async fn ask_one(places: &mut [Place], ways: &[Option<Way>], named: Option<&str>, limit: Duration) {
    for (place, way) in places.iter_mut().zip(ways) {
        if let (Some(way), Some(models)) = (way, &place.models)
            && let Some(model) = models.to_ask(named)
            && place.too_large(model).is_none()
        {
            place.told = Some(question::ask(way, model, models.is_loaded(model), limit).await);
            return;
        }
    }
}

/// Where else this machine answers who shows no key on that port, which was found on loopback.
async fn also_at(way: &Way) -> Vec<SocketAddr> {
    if !way.address.ip().is_loopback() {
        return Vec::new();
    }
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    // Link-local addresses need a zone, and whoever has one has another.
    let others = own.iter().filter(|own| !own.is_loopback() && !own.is_link_local());
    let ask = async |ip: IpAddr| {
        let mut there = way.as_stranger();
        there.address = SocketAddr::new(ip, way.address.port());
        let heard = there.ask(&Question::get("/api/tags")).await.ok()?;
        (heard.status == 200).then_some(there.address)
    };
    let asked = together(others.take(MOST).map(|own| ask(own.ip())).collect()).await;
    asked.into_iter().flatten().collect()
}

/// Looks at one server, until then and no longer: each step has its own limit, and who drips could use up all of them.
async fn one(goal: &Goal, eyes: &Eyes, end: Instant) -> (Place, Option<Way>) {
    let url = &goal.url;
    let mut place = Place {
        url: url.to_string(),
        role: goal.role,
        host: url.host.clone(),
        port: url.port,
        is_tls: url.tls,
        is_guess: goal.is_guess,
        ..Place::default()
    };
    if let Ok(way) = timeout_at(end.into(), Box::pin(steps(goal, eyes, &mut place))).await {
        return (place, way);
    }
    // What had not been told by then is an answer that did not come.
    if place.served.is_none() && place.open().is_some() {
        place.served = Some(Served { failed: Some(Failed::Silent), ..Served::default() });
    } else if place.served.is_some() {
        place.models.get_or_insert_default();
    }
    (place, None)
}

/// Step after step until one explains the rest. What is known stands in `place` at once.
async fn steps(goal: &Goal, eyes: &Eyes, place: &mut Place) -> Option<Way> {
    let url = &goal.url;
    let addresses = match url.host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => {
            let names = names::look_up(eyes, &url.host).await;
            let addresses = names.addresses.clone();
            place.names = Some(names);
            addresses
        }
    };
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, url.port)).collect();
    place.dials = dial::dial_all(&addresses).await;
    let open = place.open().map(|dial| dial.address);
    if let Some(address) = open.or_else(|| addresses.first().copied()) {
        place.is_own = dial::is_own(address.ip());
        place.from = dial::source(address);
    }
    let Some(open) = open else {
        if let Some(first) = addresses.first() {
            place.around = Some(dial::around(*first, place.is_own).await);
        }
        return None;
    };
    if !goal.is_ollama {
        return None;
    }
    let way = Way { address: open, url: url.clone(), trust: goal.trust.clone() };
    let (tls, served) = served::look(&way).await;
    let has_models =
        matches!(served.what, What::Ollama(_) | What::Engine(_) | What::Gate(_) | What::Guarded(_));
    (place.tls, place.served) = (tls, Some(served));
    let is_of_gate = goal.role == Role::Upstream && matches!(eyes, Eyes::Inside(_));
    if has_models && !is_of_gate {
        let (models, also_at) = tokio::join!(models::look(&way), also_at(&way));
        (place.models, place.also_at) = (Some(models), also_at);
    }
    let is_ollama =
        place.served.as_ref().is_some_and(|served| matches!(served.what, What::Ollama(_) | What::Engine(_)));
    if is_ollama && place.is_own && matches!(eyes, Eyes::Here) {
        place.memory = memory::look(open.port()).await;
    }
    Some(way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// The limit of one question alone would be five times as long, and another try would follow it.
    #[tokio::test]
    async fn a_server_that_drips_has_no_more_time_than_all_have() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = UpstreamUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let taken = AtomicUsize::new(0);
        let drips = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                taken.fetch_add(1, Ordering::Relaxed);
                // Who answers before it was asked speaks no HTTP.
                if !stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {
                    continue;
                }
                let mut next: &[u8] = b"HTTP/1.1 200 OK\r\nX-Slow: ";
                // Who asked leaves at some time.
                while stream.write_all(next).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    next = b".";
                }
            }
        };
        let goal = of_target(&Look::default(), url);
        let looking = async {
            let look = Look { infers: true, ..Look::default() };
            let end = Instant::now() + Duration::from_secs(1);
            at_goals(&[goal], &Eyes::Here, None, end).await.told(&look, None).await
        };
        let places = tokio::select! { places = looking => places, () = drips => Vec::new() };
        assert_eq!(places[0].served.as_ref().unwrap().failed, Some(Failed::Silent));
        // Whether anybody listens, and one question.
        assert_eq!(taken.load(Ordering::Relaxed), 2);
        assert!(places[0].told.is_none());
    }
}
