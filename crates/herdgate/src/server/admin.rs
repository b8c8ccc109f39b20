//! The admin socket: `admin.sock` in the data directory, for the commands that its owner runs on this machine. Who may open it
//! is whoever may read the keys; nothing else is asked. HTTP/1.1 on the control plane, far from every request path.
//!
//! | route | what |
//! |---|---|
//! | `GET /v1/models` | the models of each upstream, and what is on its way |
//! | `POST /v1/pull`, `POST /v1/rm` | at the upstreams that are named, or at the one that is meant |
//! | `POST /v1/keys/look` | answered when the gate knows all that the store of keys has now |
//! | any `/v1/gate/…` | the gate itself, in the operator's name (`relay.rs`) |
//!
//! The socket is left as the listeners are: a gate that ends or has handed over takes no more commands, and waits for those
//! that run until its time of grace is over. Pulls alone end with a gate that ends: they would take all of that time, and
//! lose nothing.

mod models;
mod operator;
mod out;
mod pull;
mod relay;
mod socket;
mod whom;

pub(super) use operator::Operator;
pub(crate) use socket::Short as ShortSocket;

use super::core::Stage;
use super::pulls::Puller;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Roster;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use out::Out;
use relay::Relay;
use serde_json::{Value, json};
use socket::Socket;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Commands at one time; a further one waits.
const AT_ONCE: usize = 32;
/// Bytes of what a command asks for here. What goes through the gate is bounded there, like every body.
const BODY_BYTES: usize = 64 * 1024;
/// Bytes of a connection that were read and not yet passed on.
const READ_BYTES: usize = 64 * 1024;
/// For a command to say what it wants: it knows that when it connects.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For all of what it asks for to arrive: it is there when it connects.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For a command to say it that had just connected when the gate began to leave.
const LAST_CALL: Duration = Duration::from_secs(1);
/// After a failed accept, as without descriptors.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// What commands are answered from.
pub(super) struct Admin {
    pub(super) puller: Puller,
    pub(super) roster: Arc<Roster>,
    /// The Ollamas that the gate has started: what is meant where nobody says where.
    pub(super) ollamas: Vec<UpstreamId>,
    pub(super) relay: Relay,
    /// How far the gate's end has come.
    pub(super) stage: watch::Receiver<Stage>,
}

impl Admin {
    /// All that the commands need; opens nothing yet.
    pub(super) fn new(
        puller: Puller,
        roster: Arc<Roster>,
        ollamas: Vec<UpstreamId>,
        operator: Operator,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        let relay = Relay::new(Arc::clone(&puller.shared), (*puller.client).clone(), operator);
        Self { puller, roster, ollamas, relay, stage }
    }

    /// Serves whoever opens the socket of this data directory until the gate leaves; then those alone whom it has begun to.
    /// `_ended` is dropped behind the last of them.
    pub(super) async fn serve(self, data: PathBuf, _ended: mpsc::Sender<()>) {
        let admin = Rc::new(self);
        let mut open = JoinSet::new();
        let socket = tokio::select! {
            Some(socket) = Socket::take(&data) => Some(socket),
            () = admin.until(Stage::Pass) => None,
        };
        if let Some(socket) = socket {
            tokio::select! {
                () = admin.accept(&socket, &mut open) => {}
                () = admin.until(Stage::Pass) => {}
            }
            for stream in socket.leave(AT_ONCE).await {
                open.spawn_local(Rc::clone(&admin).converse(stream));
            }
        }
        let cut = async {
            admin.until(Stage::CUT).await;
            admin.relay.cut();
            pending().await
        };
        tokio::select! {
            () = async { while open.join_next().await.is_some() {} } => {}
            () = cut => {}
        }
    }

    /// Accepts for ever.
    async fn accept(self: &Rc<Self>, socket: &Socket, open: &mut JoinSet<()>) {
        loop {
            while open.len() >= AT_ONCE {
                open.join_next().await;
            }
            while open.try_join_next().is_some() {}
            match socket.accept().await {
                Ok(stream) => {
                    open.spawn_local(Rc::clone(self).converse(stream));
                }
                Err(error) => {
                    tracing::debug!("cannot accept a command: {error}");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Waits until the gate's end has come so far.
    async fn until(&self, stage: Stage) {
        // An error means that the gate is gone.
        let mut now = self.stage.clone();
        let _gone = now.wait_for(|now| *now >= stage).await;
    }

    async fn converse(self: Rc<Self>, stream: UnixStream) {
        let answer = service_fn(|request| {
            let admin = Rc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(READ_BYTES);
        // A command that has left is not waited for, and what it asked for ends: a pull, a model that answers.
        let conversation = builder.half_close(false).serve_connection(TokioIo::new(stream), answer);
        let mut conversation = pin!(conversation);
        let outcome = tokio::select! {
            outcome = &mut conversation => outcome,
            () = async { self.until(Stage::Pass).await; tokio::time::sleep(LAST_CALL).await } => {
                // What it has asked for it gets, and nothing more.
                conversation.as_mut().graceful_shutdown();
                conversation.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!("a command left: {error}");
        }
    }

    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> Response<Out> {
        let (parts, body) = request.into_parts();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        if path.starts_with(relay::PREFIX) {
            return self.relay.pass(&parts, body).await.unwrap_or_else(Refusal::told);
        }
        let body = match tokio::time::timeout(BODY_TIME, read(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return refusal.told(),
            Err(_late) => return Refusal::new(StatusCode::REQUEST_TIMEOUT, "the rest never came").told(),
        };
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
            (Method::POST, "/v1/keys/look") => {
                let is_well = self.puller.shared.store.is_well().await;
                Ok(json_answer(StatusCode::OK, &json!({ "well": is_well })))
            }
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
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "more than 64 KiB"));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}
