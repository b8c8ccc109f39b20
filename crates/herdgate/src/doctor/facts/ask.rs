//! One question to one address, each over a connection of its own: nothing is retried, nothing is followed, all is bounded.

use super::tls::{TlsFacts, Trust};
use crate::client::{Link, NoWay};
use bytes::Bytes;
use gate_config::UpstreamUrl;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the connection, TLS included.
const CONNECT: Duration = Duration::from_secs(4);
/// For a question that any server answers at once.
pub(super) const TIME: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MOST: usize = 8 << 20;

/// How a server is got at.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) address: SocketAddr,
    pub(super) url: UpstreamUrl,
    pub(super) trust: Trust,
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// For the whole answer.
    pub(super) limit: Duration,
}

impl Question {
    pub(super) fn get(path: &'static str) -> Self {
        Question { method: Method::GET, path, fields: Vec::new(), body: Bytes::new(), limit: TIME }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
    /// From the question to the answer's head, on a connection that stands.
    pub(super) took: Duration,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unheard {
    /// No connection any more.
    Connect(String),
    /// The handshake failed, or nobody should trust its certificate. Nothing was asked.
    Tls(Box<TlsFacts>),
    /// It closed the connection.
    Closed,
    /// What it said is no HTTP.
    NoHttp,
    /// It took the question and said nothing.
    Silent,
    /// Something else.
    Other(String),
}

impl Heard {
    /// A field as text.
    pub(super) fn field(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// A connection that stands, and what the handshake told.
pub(super) struct Open {
    link: Link<Full<Bytes>>,
    pub(super) tls: Option<TlsFacts>,
}

impl Way {
    /// Connects.
    pub(super) async fn open(&self) -> Result<Open, Unheard> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await;
            let stream = stream.map_err(|error| Unheard::Connect(error.to_string()))?;
            // What comes in pieces is looked at piece by piece.
            let _slower = stream.set_nodelay(true);
            let begun = |link: Result<_, NoWay>| link.map_err(|why| Unheard::Other(why.to_string()));
            if !self.url.tls {
                return Ok(Open { link: begun(Link::begin(TokioIo::new(stream), false).await)?, tls: None });
            }
            let (stream, facts) = self.trust.shake(&self.url.host, stream).await;
            match stream {
                Some(stream) if facts.fault.is_none() => {
                    let link = begun(Link::begin(TokioIo::new(stream), false).await)?;
                    Ok(Open { link, tls: Some(facts) })
                }
                _ => Err(Unheard::Tls(Box::new(facts))),
            }
        };
        timeout(CONNECT, Box::pin(connecting)).await.unwrap_or(Err(Unheard::Silent))
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn ask(&self, question: &Question) -> Result<Heard, Unheard> {
        let mut open = self.open().await?;
        self.ask_on(&mut open, question).await
    }

    /// Asks over this connection.
    pub(super) async fn ask_on(&self, open: &mut Open, question: &Question) -> Result<Heard, Unheard> {
        let asking = async {
            let begun = Instant::now();
            let answer = self.send(open, question).await?;
            let took = begun.elapsed();
            let (head, mut body) = answer.into_parts();
            let body = whole(&mut body).await?;
            Ok(Heard { status: head.status.as_u16(), fields: head.headers, body, took })
        };
        timeout(question.limit, Box::pin(asking)).await.unwrap_or(Err(Unheard::Silent))
    }

    /// Asks, and gives the answer as it begins.
    pub(super) async fn send(
        &self,
        open: &mut Open,
        question: &Question,
    ) -> Result<http::Response<Incoming>, Unheard> {
        let path = format!("{}{}", self.url.base, question.path);
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(format!("{}://{}{path}", if self.url.tls { "https" } else { "http" }, self.url.authority()))
            .header(header::USER_AGENT, concat!("herdgate-doctor/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(question.body.clone()))
            .map_err(|error| Unheard::Other(error.to_string()))?;
        if !question.body.is_empty() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in question.fields.iter().chain(&self.trust.fields) {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        open.link.send(request).await.map_err(|failed| unheard(&failed.error))
    }
}

fn unheard(error: &hyper::Error) -> Unheard {
    if error.is_parse() {
        Unheard::NoHttp
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Unheard::Closed
    } else {
        match std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
            Some(_reset) => Unheard::Closed,
            None => Unheard::Other(error.to_string()),
        }
    }
}

/// The next piece of a body; none behind the last.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Unheard> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(unheard(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn whole(body: &mut Incoming) -> Result<Bytes, Unheard> {
    let mut all = Vec::new();
    while let Some(data) = piece(body).await? {
        if all.len() + data.len() > MOST {
            return Err(Unheard::Other(format!("the answer is longer than {} MiB", MOST >> 20)));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}
