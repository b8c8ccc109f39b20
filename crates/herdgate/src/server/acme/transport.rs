//! How an authority is reached: HTTP/1.1 over TLS, one connection for each request. An order is a dozen of them in three
//! months, and a connection that nobody keeps is one that nobody must watch.

use super::super::tls::add_roots;
use anyhow::Context as _;
use bytes::Bytes;
use gate_upstream::{config_with, system_roots};
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Uri};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// For one request and its answer.
const TIME: Duration = Duration::from_secs(30);
/// For one of the addresses of a name.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer; a chain of certificates has some thousand.
const MOST: usize = 1 << 20;

/// The way to an authority.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Arc<ClientConfig>,
    patience: Patience,
}

/// How many seconds the authority asked to be left alone for, in the latest answer that was an error.
#[derive(Clone, Default)]
pub(super) struct Patience(Arc<AtomicU64>);

impl Patience {
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0)
    }
}

impl Transport {
    /// One that trusts the system's roots and those in the file `ca`.
    ///
    /// # Errors
    /// Where there are none.
    pub(super) fn new(ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut roots = match (system_roots(), ca) {
            (Ok(roots), _) => roots,
            (Err(_none), Some(_)) => RootCertStore::empty(),
            (Err(error), None) => return Err(error.into()),
        };
        if let Some(ca) = ca {
            add_roots(&mut roots, ca)?;
        }
        Ok(Self { tls: config_with(roots)?, patience: Patience::default() })
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience.clone()
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (tls, patience) = (Arc::clone(&self.tls), self.patience.clone());
        Box::pin(async move {
            let asked = tokio::time::timeout(TIME, ask(tls, request)).await;
            let answer = asked.context("no answer in 30 s").and_then(|answer| answer);
            let answer = answer.map_err(|error| Error::Other(format!("{error:#}").into()))?;
            let is_error = answer.parts.status.as_u16() >= 400;
            let seconds = is_error.then(|| retry_after(&answer.parts.headers)).flatten();
            patience.0.store(seconds.unwrap_or(0), Ordering::Relaxed);
            Ok(answer)
        })
    }
}

async fn ask(
    tls: Arc<ClientConfig>,
    mut request: Request<BodyWrapper<Bytes>>,
) -> anyhow::Result<BytesResponse> {
    let uri = request.uri().clone();
    let authority = uri.authority().context("an address without a host")?.clone();
    anyhow::ensure!(uri.scheme_str() == Some("https"), "{uri} is not https");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, authority.port_u16().unwrap_or(443)).await?;
    let name = ServerName::try_from(host.to_owned()).context("the host's name")?;
    let stream = TlsConnector::from(tls).connect(name, stream).await;
    let stream = stream.with_context(|| format!("no TLS with {authority}"))?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = async {
        // What it carried is told by whoever waits for it.
        let _ended = connection.await;
        std::future::pending::<()>().await;
    };
    let asked = async {
        let (parts, mut body) = send.send_request(request).await?.into_parts();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame?.into_data() {
                whole.extend_from_slice(&piece);
            }
            anyhow::ensure!(whole.len() <= MOST, "an answer of more than 1 MiB");
        }
        anyhow::Ok(BytesResponse { parts, body: Box::new(Bytes::from(whole)) })
    };
    tokio::select! {
        answer = asked => answer.with_context(|| format!("{authority} does not answer")),
        () = driven => anyhow::bail!("the connection ended"),
    }
}

async fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let found = tokio::net::lookup_host((host, port)).await;
    let mut last = None;
    for address in found.with_context(|| format!("no address of {host}"))? {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error.to_string()),
            Err(_late) => last = Some("no answer in 5 s".to_owned()),
        }
    }
    let why = last.unwrap_or_else(|| "it has no address".to_owned());
    anyhow::bail!("cannot connect to {host}:{port}: {why}")
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => {
            let then = httpdate::parse_http_date(value).ok()?;
            then.duration_since(SystemTime::now()).ok().map(|wait| wait.as_secs())
        }
    }
}
