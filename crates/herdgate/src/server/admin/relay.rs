//! Requests that a command sends through the gate in the operator's name. They take the whole path that every other request
//! takes, in a gate of this thread's own, which is made when the first of them comes: what they send is passed on as it comes,
//! and bounded there like any other body.
//!
//! Must never keep a body, nor be kept out by those who hold connections from this machine.

use super::Refusal;
use super::operator::Operator;
use super::out::Out;
use crate::client::Link;
use gate_proxy::{Entrance, Gate, Shared, serve_connection};
use gate_upstream::Client;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What stands in front of the gate's own paths.
pub(super) const PREFIX: &str = "/v1/gate/";
/// Bytes between the two ends of a connection within this process.
const BETWEEN: usize = 16 * 1024;

/// The way into the gate.
pub(in crate::server) struct Relay {
    shared: Arc<Shared>,
    client: Client,
    operator: Operator,
    gate: OnceCell<Inside>,
}

/// A gate like that of a core, and what it needs to live.
struct Inside {
    gate: Rc<Gate>,
    entrance: Rc<Entrance>,
    _duties: JoinSet<()>,
}

impl Relay {
    pub(super) fn new(shared: Arc<Shared>, client: Client, operator: Operator) -> Self {
        Self { shared, client, operator, gate: OnceCell::new() }
    }

    fn inside(&self) -> &Inside {
        self.gate.get_or_init(|| {
            let seed = getrandom::u64().unwrap_or_default();
            let log = Box::new(crate::logging::Access);
            let gate = Rc::new(Gate::new(Arc::clone(&self.shared), self.client.clone(), log, seed));
            let mut duties = JoinSet::new();
            duties.spawn_local(Rc::clone(&gate.sweep).run());
            let tended = Rc::clone(&gate);
            duties.spawn_local(async move { tended.tend_leases().await });
            Inside { gate, entrance: Rc::default(), _duties: duties }
        })
    }

    /// Passes a request on, and its answer as it comes.
    pub(super) async fn pass(&self, parts: &Parts, body: Incoming) -> Result<Response<Out>, Refusal> {
        let refused = |text: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text);
        let inside = self.inside();
        let guest = inside.gate.admit_own(&inside.entrance);
        let (ours, gates) = tokio::io::duplex(BETWEEN);
        let mut served = JoinSet::new();
        served.spawn_local(serve_connection(guest, gates));
        let link = Link::begin(TokioIo::new(ours), false).await;
        let mut link = link.map_err(|error| refused(&error.to_string()))?;
        let request = self.request(parts, body).ok_or_else(|| refused("that is no request"))?;
        let answer = link.send(request).await;
        let answer = answer.map_err(|failed| refused(&failed.error.to_string()))?;
        let (mut head, body) = answer.into_parts();
        let kept = |name: HeaderName| head.headers.get(&name).cloned().map(|value| (name, value));
        let fields = [header::CONTENT_TYPE, header::RETRY_AFTER].map(kept);
        let fields: HeaderMap = fields.into_iter().flatten().collect();
        head.headers = fields;
        Ok(Response::from_parts(head, Out::Relayed { body, _link: link, _served: served }))
    }

    /// What still runs is told so, and cut.
    pub(super) fn cut(&self) {
        if let Some(inside) = self.gate.get() {
            inside.gate.leases.end_all();
        }
    }

    fn request(&self, parts: &Parts, body: Incoming) -> Option<Request<Incoming>> {
        let path = parts.uri.path_and_query()?.as_str().strip_prefix(PREFIX)?;
        let mut request =
            Request::builder().method(parts.method.clone()).uri(format!("http://localhost/{path}"));
        let json = HeaderValue::from_static("application/json");
        request = request.header(header::AUTHORIZATION, self.operator.bearer()?);
        request = request.header(header::CONTENT_TYPE, json);
        request.body(body).ok()
    }
}
