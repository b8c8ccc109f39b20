//! One connection to a gate, HTTP/2 or HTTP/1.1, and the tasks that hyper needs for it: they belong to the connection and
//! end with its last holder.

use super::NoWay;
use http::{Request, Response, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Executor, Read, Write};
use hyper_util::rt::TokioTimer;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinSet;

/// What a request may have on its way before it is taken: a slow reader holds up its own stream alone, for all of them
/// together fit into the connection's window.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// How often a connection is asked whether it still stands, and how long it may take to say so: networks that change and
/// machines that sleep end connections without a word.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIME: Duration = Duration::from_secs(10);
/// Bytes of an answer's head.
const HEAD: usize = 64 * 1024;

/// A connection. Clones of one that speaks HTTP/2 are the same connection.
pub(crate) struct Link<B> {
    sender: Sender<B>,
    tasks: Arc<Tasks>,
}

enum Sender<B> {
    H1(http1::SendRequest<B>),
    H2(http2::SendRequest<B>),
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Failed<B> {
    /// Why.
    pub(crate) error: hyper::Error,
    /// The request, where nothing of it was sent.
    pub(crate) unsent: Option<Request<B>>,
}

impl<B> Link<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Begins to speak over an open stream of bytes.
    pub(crate) async fn begin<T>(stream: T, is_h2: bool) -> Result<Self, NoWay>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let tasks = Arc::new(Tasks::default());
        let sender = if is_h2 {
            let mut builder = http2::Builder::new(Tied(Arc::downgrade(&tasks)));
            builder.timer(TokioTimer::new()).initial_stream_window_size(STREAM_WINDOW);
            builder.initial_connection_window_size(CONNECTION_WINDOW).max_header_list_size(HEAD as u32);
            builder.keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_TIME).keep_alive_while_idle(true);
            let (sender, connection) = builder.handshake(stream).await.map_err(NoWay::Protocol)?;
            // What it ends with, its requests are told.
            tasks.spawn(async move { drop(connection.await) });
            Sender::H2(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HEAD);
            let (sender, connection) = builder.handshake(stream).await.map_err(NoWay::Protocol)?;
            tasks.spawn(async move { drop(connection.await) });
            Sender::H1(sender)
        };
        Ok(Link { sender, tasks })
    }

    /// Another holder of the same connection, where it takes several requests at a time.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::H1(_) => None,
            Sender::H2(sender) => {
                Some(Link { sender: Sender::H2(sender.clone()), tasks: Arc::clone(&self.tasks) })
            }
        }
    }

    /// Whether it takes no more requests, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request that [`Gate::address`](super::Gate::address) addressed; gives the head of the answer. Dropping the answer, or
    /// this future, takes the request back.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Box<Failed<B>>> {
        let sent = match &mut self.sender {
            Sender::H1(sender) => {
                if let Err(error) = sender.ready().await {
                    return Err(Box::new(Failed { error, unsent: Some(request) }));
                }
                as_http1(&mut request);
                sender.try_send_request(request).await
            }
            Sender::H2(sender) => {
                if let Err(error) = sender.ready().await {
                    return Err(Box::new(Failed { error, unsent: Some(request) }));
                }
                sender.try_send_request(request).await
            }
        };
        sent.map_err(|mut failed| {
            let unsent = failed.take_message();
            Box::new(Failed { error: failed.into_error(), unsent })
        })
    }
}

/// HTTP/1.1 has the host in a field and the path alone in its first line.
fn as_http1<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().and_then(|authority| authority.as_str().try_into().ok());
    if let Some(host) = authority {
        request.headers_mut().insert(header::HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// The tasks of one connection.
#[derive(Default)]
struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        all.spawn(task);
    }
}

/// What hyper starts tasks by: they do not hold the connection themselves.
#[derive(Clone)]
struct Tied(Weak<Tasks>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tied {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(task);
        }
    }
}
