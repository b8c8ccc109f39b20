//! The admin socket: `admin.sock` in the data directory, for the commands that its owner runs on this machine. Who may open it
//! is whoever may read the keys; nothing else is asked. HTTP/1.1 on the control plane, far from every request path.
//!
//! | route | what |
//! |---|---|
//! | `GET /v1/models` | the models of each upstream, and what is on its way |
//! | `POST /v1/pull`, `POST /v1/rm` | at the upstreams that are named, or at the one that is meant |
//! | any `/v1/gate/…` | the gate itself, in the operator's name (`relay.rs`) |

mod models;
mod operator;
mod out;
mod pull;
mod relay;
mod socket;
mod whom;

pub(super) use operator::Operator;
pub(crate) use socket::Short as ShortSocket;

use super::pulls::Puller;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Roster;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use out::Out;
use relay::Relay;
use serde_json::{Value, json};
use socket::Socket;
use std::convert::Infallible;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Commands at one time; a further one waits.
const AT_ONCE: usize = 32;
/// Bytes of what a command sends: a chat with pictures at most.
const BODY_BYTES: usize = 64 << 20;
/// After a failed accept, as without descriptors.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// What commands are answered from.
pub(super) struct Admin {
    pub(super) puller: Puller,
    pub(super) roster: Arc<Roster>,
    /// The Ollamas that the gate has started: what is meant where nobody says where.
    pub(super) ollamas: Vec<UpstreamId>,
    pub(super) relay: Relay,
}

impl Admin {
    /// All that the commands need; opens nothing yet.
    pub(super) fn new(
        puller: Puller,
        roster: Arc<Roster>,
        ollamas: Vec<UpstreamId>,
        operator: Operator,
    ) -> Self {
        let relay = Relay::new(Arc::clone(&puller.shared), (*puller.client).clone(), operator);
        Self { puller, roster, ollamas, relay }
    }

    /// Serves whoever opens the socket of this data directory, for ever.
    pub(super) async fn serve(self, data: PathBuf) {
        let Some(socket) = Socket::take(&data).await else { return };
        let admin = Rc::new(self);
        let mut open = JoinSet::new();
        loop {
            while open.len() >= AT_ONCE {
                open.join_next().await;
            }
            while open.try_join_next().is_some() {}
            match socket.accept().await {
                Ok(stream) => {
                    open.spawn_local(Rc::clone(&admin).converse(stream));
                }
                Err(error) => {
                    tracing::debug!("cannot accept a command: {error}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn converse(self: Rc<Self>, stream: UnixStream) {
        let answer = service_fn(|request| {
            let admin = Rc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        // A command that has left is not waited for, and what it asked for ends: a pull, a model that answers.
        let conversation = builder.half_close(false).serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = conversation.await {
            tracing::debug!("a command left: {error}");
        }
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Out> {
        let (parts, body) = request.into_parts();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let body = match read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal.told(),
        };
        if path.starts_with(relay::PREFIX) {
            return self.relay.pass(&parts, body).await.unwrap_or_else(Refusal::told);
        }
        let told = match (method, path.as_str()) {
            (Method::GET, "/v1/models") => self.models(&Asked::of_query(parts.uri.query())).await,
            (Method::POST, "/v1/pull") => match Asked::read(&body) {
                Ok(asked) => self.pull(&asked),
                Err(refusal) => Err(refusal),
            },
            (Method::POST, "/v1/rm") => match Asked::read(&body) {
                Ok(asked) => self.remove(&asked).await,
                Err(refusal) => Err(refusal),
            },
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "this gate does not know that command")
                .hint("herdgate and the gate that runs are of different versions: start the gate again")),
        };
        told.unwrap_or_else(Refusal::told)
    }
}

/// What a command asks for.
#[derive(Debug, Default)]
struct Asked {
    model: Option<ModelName>,
    /// The upstream that it names.
    on: Option<String>,
    all: bool,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let bad = |text: &str| Refusal::new(StatusCode::BAD_REQUEST, text);
        let value: Value = serde_json::from_slice(body).map_err(|_| bad("no JSON"))?;
        let name = value["model"].as_str().unwrap_or_default();
        let model = ModelName::parse(name).map_err(|_| {
            bad(&format!("\"{name}\" is no model's name"))
                .hint("names look like qwen3:8b or hf.co/user/model:tag")
        })?;
        let on = value["on"].as_str().map(str::to_owned);
        Ok(Self { model: Some(model), on, all: value["all"].as_bool().unwrap_or(false) })
    }

    fn of_query(query: Option<&str>) -> Self {
        let on = query.and_then(|query| query.strip_prefix("on=")).map(str::to_owned);
        Self { on, ..Self::default() }
    }
}

/// Why a command is not carried out.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
    hint: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn told(self) -> Response<Out> {
        json_answer(self.status, &json!({"error": self.text, "hint": self.hint}))
    }
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Out> {
    let mut answer = Response::new(Out::whole(body.to_string()));
    *answer.status_mut() = status;
    answer
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| bad(error.to_string()))?;
        let data = frame.into_data().unwrap_or_default();
        if all.len() + data.len() > BODY_BYTES {
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "more than 64 MiB"));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}
