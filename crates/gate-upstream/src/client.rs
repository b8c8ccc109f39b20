//! The client: which connection a request goes over, and the one second try.
//!
//! A pooled connection that dies of having been idle, before any byte of an answer, is replaced by a fresh one, once,
//! inside [`Client::send`]: servers close idle connections, and no caller should see that. But nothing tells such a death from
//! that of an upstream which has done what it was asked (RFC 9110, section 9.2.2), so what must not be done twice, and every
//! upload, goes over a fresh connection and is sent once. Everything else is told to the caller, who alone decides about
//! another upstream.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gate_h1::Limits;
use gate_types::UpstreamId;
use tokio::time::Instant;

use crate::access::Access;
use crate::answer::Answer;
use crate::connect::connect;
use crate::endpoint::Endpoint;
use crate::error::UpstreamError;
use crate::exchange;
use crate::pool::Pool;
use crate::request::Ask;
use crate::roster::Roster;
use crate::socket::{Socket, Transport};
use crate::switched::{Reply, Switched};
use crate::tls::Tls;
use crate::upload::{BodySource, Upload, UploadFraming};

/// Bytes of the client's one read buffer. A whole listing or embedding mostly fits.
const SCRATCH: usize = 64 << 10;
/// A pooled connection that dies within this time of the request was dead already, or died of being idle: the request is
/// sent again. One that dies later had an upstream at work on it, which the same request might kill again.
const STALE_WITHIN: Duration = Duration::from_secs(3);

/// The bounds of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// For resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// Idle connections kept per upstream; 0 keeps none.
    pub idle_per_upstream: usize,
    /// How long a connection may be idle. Ollama itself has no such limit, but what stands between may forget sooner.
    pub idle_for: Duration,
    /// Bytes of an answer's head.
    pub head: usize,
}

impl Default for ClientLimits {
    /// 3 s to connect, 256 idle connections for a minute, heads of 32 KiB.
    fn default() -> Self {
        ClientLimits {
            connect: Duration::from_secs(3),
            idle_per_upstream: 256,
            idle_for: Duration::from_secs(60),
            head: Limits::DEFAULT.head,
        }
    }
}

/// What happened to the connections of one upstream since the client was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections opened.
    pub opened: u64,
    /// Requests that went over a connection already used.
    pub reused: u64,
    /// Of these, how many found it dead and were sent again over a fresh one.
    pub retried: u64,
}

/// Opens the byte stream to an upstream instead of TCP and TLS: for gates that run wholly in memory.
pub type Dial = Rc<dyn Fn(UpstreamId) -> io::Result<Box<dyn Transport>>>;

/// An HTTP/1.1 client for the upstreams of a [`Roster`]. Belongs to one thread; clones share everything.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

/// What the client and its answers share.
pub(crate) struct Shared {
    roster: Arc<Roster>,
    /// This thread's part of each upstream on the roster, as far as they were used.
    upstreams: RefCell<Vec<Rc<Upstream>>>,
    tls: Tls,
    dial: Option<Dial>,
    connect: Cell<Duration>,
    idle_per_upstream: usize,
    idle_for: Duration,
    pub(crate) h1: Limits,
    /// Borrowed within a poll only, never while waiting.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// The buffer of a request that was written, for the next one.
    pub(crate) spare: RefCell<Vec<u8>>,
}

/// What a request may go over.
enum Over {
    /// A pooled connection, and a fresh one where that has died.
    AnyConnection,
    FreshConnection,
}

/// One thread's part of an upstream. Replaced where the upstream is got at otherwise than before.
pub(crate) struct Upstream {
    pub(crate) endpoint: Endpoint,
    pub(crate) access: Arc<Access>,
    pool: RefCell<Pool>,
    counts: Cell<Counts>,
}

impl Client {
    /// A client for the upstreams of `roster`, those too that it gets later.
    ///
    /// `tls` is looked at only when a connection to an https endpoint is opened.
    #[must_use]
    pub fn of(roster: Arc<Roster>, tls: Tls, limits: ClientLimits) -> Self {
        Self::build(roster, tls, limits, None)
    }

    /// A client for these upstreams; an [`UpstreamId`] is the place in the list.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>, tls: Tls, limits: ClientLimits) -> Self {
        Self::build(Arc::new(endpoints.into_iter().collect()), tls, limits, None)
    }

    /// A client whose byte streams come from `dial`. Everything above them is the same; the endpoints give the `Host`.
    #[must_use]
    pub fn over(endpoints: Vec<Endpoint>, limits: ClientLimits, dial: Dial) -> Self {
        Self::build(Arc::new(endpoints.into_iter().collect()), Tls::system(), limits, Some(dial))
    }

    fn build(roster: Arc<Roster>, tls: Tls, limits: ClientLimits, dial: Option<Dial>) -> Self {
        let shared = Shared {
            roster,
            upstreams: RefCell::default(),
            tls,
            dial,
            connect: Cell::new(limits.connect),
            idle_per_upstream: limits.idle_per_upstream,
            idle_for: limits.idle_for,
            h1: Limits { head: limits.head, ..Limits::DEFAULT },
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            spare: RefCell::default(),
        };
        Client { shared: Rc::new(shared) }
    }

    /// Sends a request that may be done twice, and waits for the head of its answer, however long that takes: a model may
    /// have to load. Dropping the future closes the connection.
    ///
    /// # Errors
    /// Any [`UpstreamError`] but [`UpstreamError::ClosedMidBody`], [`UpstreamError::TooLarge`] and those of uploads. A
    /// status is none.
    pub fn send(&self, id: UpstreamId, ask: &Ask<'_>) -> impl Future<Output = Result<Answer, UpstreamError>> {
        self.send_over(id, ask, Over::AnyConnection)
    }

    /// The same for a request that must not be done twice: always over a fresh connection, and never sent again.
    ///
    /// # Errors
    /// Those of [`Client::send`].
    pub fn send_once(
        &self,
        id: UpstreamId,
        ask: &Ask<'_>,
    ) -> impl Future<Output = Result<Answer, UpstreamError>> {
        self.send_over(id, ask, Over::FreshConnection)
    }

    async fn send_over(&self, id: UpstreamId, ask: &Ask<'_>, over: Over) -> Result<Answer, UpstreamError> {
        let upstream = self.shared.upstream(id)?;
        let start = Instant::now();
        let mut pooled = match over {
            Over::AnyConnection => upstream.pool.borrow_mut().take(start),
            Over::FreshConnection => None,
        };
        loop {
            let reused = pooled.is_some();
            let mut socket = match pooled.take() {
                Some(socket) => socket,
                None => Box::pin(self.shared.open(id, &upstream)).await?,
            };
            upstream.count(|counts| if reused { counts.reused += 1 } else { counts.opened += 1 });
            match exchange::begin(&self.shared, &upstream, &mut socket, ask, None).await {
                Ok(begun) => {
                    return Ok(Answer::new(Rc::clone(&self.shared), id, upstream, socket, begun));
                }
                Err(UpstreamError::ClosedEarly { .. }) if reused && start.elapsed() < STALE_WITHIN => {
                    upstream.count(|counts| counts.retried += 1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request whose body streams from `source`, and waits for the head of its answer. An answer that comes
    /// before the body has left ends the upload: nothing more is taken from the source, and the connection is closed
    /// behind the answer. Always over a fresh connection, and never twice. Memory: one buffer of 64 KiB until the body is
    /// out. Dropping the future closes the connection.
    ///
    /// `ask.body` must be empty.
    ///
    /// # Errors
    /// Those of [`Client::send`]. Where [`UpstreamError::is_connect`] holds, nothing was taken from the source and another
    /// upstream may be asked. [`UpstreamError::SourceGone`] and [`UpstreamError::SourceLength`] are the source's doing: the
    /// connection was closed before the upstream had the end of the body.
    pub async fn upload(
        &self,
        id: UpstreamId,
        ask: &Ask<'_>,
        framing: UploadFraming,
        source: &mut dyn BodySource,
    ) -> Result<Answer, UpstreamError> {
        let upstream = self.shared.upstream(id)?;
        let mut upload = Upload::new(&upstream.endpoint, &upstream.access, ask, framing, source)?;
        let mut socket = upload.opened(Box::pin(self.shared.open(id, &upstream))).await?;
        upstream.count(|counts| counts.opened += 1);
        let begun = upload.begin(&mut socket, &self.shared).await?;
        drop(upload);
        Ok(Answer::new(Rc::clone(&self.shared), id, upstream, socket, begun))
    }

    /// Asks for another protocol over a fresh connection, and waits for the head of the answer: either that it is spoken from now
    /// on, or any other. Dropping the future, or what it gives, closes the connection.
    ///
    /// `ask.body` must be empty.
    ///
    /// # Errors
    /// Those of [`Client::send`]; [`UpstreamError::Unasked`] too where the upstream would speak a protocol that nobody asked for.
    pub async fn switch(
        &self,
        id: UpstreamId,
        ask: &Ask<'_>,
        protocol: &str,
    ) -> Result<Reply, UpstreamError> {
        let upstream = self.shared.upstream(id)?;
        let mut socket = Box::pin(self.shared.open(id, &upstream)).await?;
        upstream.count(|counts| counts.opened += 1);
        let begun = exchange::begin(&self.shared, &upstream, &mut socket, ask, Some(protocol)).await?;
        if begun.status == 101 {
            return Switched::new(&upstream, socket, begun, protocol).map(Reply::Switched);
        }
        Ok(Reply::Answered(Answer::new(Rc::clone(&self.shared), id, upstream, socket, begun)))
    }

    /// The upstreams that it can ask.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.shared.roster
    }

    /// The endpoint of an upstream.
    #[must_use]
    pub fn endpoint(&self, id: UpstreamId) -> Option<&Endpoint> {
        self.shared.roster.get(id)
    }

    /// Bounds connecting by another time from now on.
    pub fn set_connect(&self, connect: Duration) {
        self.shared.connect.set(connect);
    }

    /// Takes up how upstreams are got at from now on. Connections are kept where they may be used as before; requests that run
    /// end as they began.
    pub fn refresh(&self) {
        for (id, own) in (0..).map(UpstreamId).zip(self.shared.upstreams.borrow_mut().iter_mut()) {
            let Some(access) = self.shared.roster.access(id) else { continue };
            if Arc::ptr_eq(&access, &own.access) {
                continue;
            }
            let pool = if access.shares_connections(&own.access) {
                own.pool.replace(self.shared.pool())
            } else {
                self.shared.pool()
            };
            let (endpoint, counts) = (own.endpoint.clone(), own.counts.clone());
            *own = Rc::new(Upstream { endpoint, access, pool: RefCell::new(pool), counts });
        }
    }

    /// Closes connections that have been idle for too long. Sending looks only at the pool it needs, so the owner of
    /// the runtime calls this every few seconds.
    pub fn sweep(&self) {
        let now = Instant::now();
        for upstream in self.shared.upstreams.borrow().iter() {
            upstream.pool.borrow_mut().sweep(now);
        }
    }

    /// What happened to an upstream's connections; zeros for one that does not exist.
    #[must_use]
    pub fn counts(&self, id: UpstreamId) -> Counts {
        self.shared
            .upstreams
            .borrow()
            .get(id.index())
            .map(|upstream| upstream.counts.get())
            .unwrap_or_default()
    }

    /// How many idle connections an upstream has in the pool.
    #[must_use]
    pub fn idle(&self, id: UpstreamId) -> usize {
        self.shared.upstreams.borrow().get(id.index()).map_or(0, |upstream| upstream.pool.borrow().len())
    }
}

impl Shared {
    fn upstream(&self, id: UpstreamId) -> Result<Rc<Upstream>, UpstreamError> {
        let mut upstreams = self.upstreams.borrow_mut();
        while upstreams.len() <= id.index() {
            let next = u16::try_from(upstreams.len()).ok().and_then(|next| self.roster.get(UpstreamId(next)));
            let endpoint = next.ok_or(UpstreamError::NoSuchUpstream { id })?.clone();
            let place = UpstreamId(u16::try_from(upstreams.len()).unwrap_or(u16::MAX));
            let access = self.roster.access(place).unwrap_or_default();
            let pool = RefCell::new(self.pool());
            upstreams.push(Rc::new(Upstream { endpoint, access, pool, counts: Cell::default() }));
        }
        Ok(Rc::clone(&upstreams[id.index()]))
    }

    fn pool(&self) -> Pool {
        Pool::new(self.idle_per_upstream, self.idle_for)
    }

    async fn open(&self, id: UpstreamId, upstream: &Upstream) -> Result<Socket, UpstreamError> {
        let Some(dial) = &self.dial else {
            let tls = upstream.access.tls().unwrap_or(&self.tls);
            let limit = upstream.access.connect().unwrap_or(self.connect.get());
            return connect(&upstream.endpoint, tls, limit).await;
        };
        dial(id).map(Socket::Given).map_err(|cause| UpstreamError::Connect {
            at: Arc::clone(upstream.endpoint.label()),
            cause,
            addresses: 1,
        })
    }
}

impl Upstream {
    /// Keeps a connection whose exchange ended cleanly.
    pub(crate) fn put_back(&self, socket: Socket) {
        self.pool.borrow_mut().put(socket, Instant::now());
    }

    /// How it is called, for errors.
    pub(crate) fn label(&self) -> Arc<str> {
        Arc::clone(self.endpoint.label())
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}
