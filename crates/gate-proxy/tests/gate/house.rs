//! A gate with its keys, upstreams and clients, all in one thread.

use crate::records::{Record, Records};
use crate::wire::{Asked, Client, Upstream};
use gate_keys::{Key, KeyId, KeyName, KeyRing, Mark, OsEntropy, mint};
use gate_policy::{Observation, QueueLimits};
use gate_proxy::{
    ClientStream, DoorRules, Entrance, Gate, Limits, Manage, NotYet, PlainKeys, Rules, Shared,
    serve_connection,
};
use gate_types::{ModelName, Scope, ScopeSet, UpstreamId};
use gate_upstream::{ClientLimits, Endpoint, Transport};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::{JoinHandle, LocalSet};

/// How many bytes a pipe holds, as a socket's buffer would.
pub(crate) const PIPE: usize = 64 * 1024;
pub(crate) const LIMITS: Limits = Limits {
    framing: gate_h1::Limits::DEFAULT,
    body: 1 << 20,
    upload: 8 << 20,
    held: 16 << 20,
    body_rate: 0,
    streams: 128,
    connections: 1000,
    per_address: 1000,
    head_time: Duration::from_secs(10),
    keep_alive: Duration::from_secs(75),
    idle: Duration::from_secs(600),
    connect: Duration::from_secs(3),
};
/// The default of `[manage]`.
pub(crate) fn manage() -> Manage {
    Manage {
        push: false,
        registries: ["registry.ollama.ai", "hf.co", "huggingface.co"].map(str::to_owned).to_vec(),
    }
}
pub(crate) const QUEUE: QueueLimits =
    QueueLimits { slots: 64, max_wait: Duration::from_secs(30), depth: 256 };
pub(crate) const HINT: &str = "no upstream was given; start one with `ollama serve`";

/// Runs a test with a clock that moves only when everybody waits. A test that hangs ends after a day of that.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let day = Duration::from_secs(86_400);
    let done = LocalSet::new()
        .block_on(&runtime.unwrap(), async { tokio::time::timeout(day, Box::pin(test)).await });
    done.expect("the test waits for something that never comes");
}

type Shape = Box<dyn Fn(&mut Key)>;

pub(crate) struct House {
    gate: Rc<Gate>,
    pub(crate) shared: Arc<Shared>,
    upstreams: Rc<Vec<Port>>,
    keys: RefCell<Vec<(Mark, Shape)>>,
    records: Records,
    /// A key with the default scopes and every model.
    pub(crate) key: String,
}

/// Where connections to one upstream come out.
#[derive(Default)]
struct Port {
    refuses: Cell<bool>,
    narrow: Cell<Option<usize>>,
    waiting: RefCell<VecDeque<DuplexStream>>,
    waker: RefCell<Option<Waker>>,
    dialled: Cell<usize>,
}

fn door() -> DoorRules {
    let (proxy_names, plain_keys) = (vec!["ollama".to_owned()], PlainKeys::Warn);
    DoorRules { failures: FAILURES, proxy_names, plain_keys, origins: Vec::new() }
}

/// Wrong credentials a minute that are told so.
pub(crate) const FAILURES: usize = 60;

/// The gate's own address at which they arrive.
pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));

/// Where the house's clients say that they come from.
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

impl House {
    /// A gate in front of `count` upstreams, all of which are up and have the model `demo`.
    pub(crate) fn new(count: u16) -> Self {
        Self::with(count, LIMITS)
    }

    pub(crate) fn with(count: u16, limits: Limits) -> Self {
        Self::at((0..count).map(|place| Endpoint::new(false, &format!("up{place}"), 11434, "")), limits)
    }

    pub(crate) fn at<E: std::fmt::Debug>(
        endpoints: impl Iterator<Item = Result<Endpoint, E>>,
        limits: Limits,
    ) -> Self {
        let endpoints: Vec<Endpoint> = endpoints.map(Result::unwrap).collect();
        let upstreams: Rc<Vec<Port>> = Rc::new(endpoints.iter().map(|_| Port::default()).collect());
        let dialled = Rc::clone(&upstreams);
        let dial = Rc::new(move |id: UpstreamId| dialled[id.index()].dial());
        Self::build(gate_upstream::Client::over(endpoints, ClientLimits::default(), dial), upstreams, limits)
    }

    /// A gate that connects to these ports of this machine, for tests whose clock goes.
    pub(crate) fn over_sockets(ports: &[u16], connect: Duration) -> Self {
        let endpoints = ports.iter().map(|port| Endpoint::new(false, "127.0.0.1", *port, "").unwrap());
        let tls = gate_upstream::Tls::system();
        let client = gate_upstream::Client::new(endpoints.collect(), tls, ClientLimits::default());
        let upstreams = Rc::new(ports.iter().map(|_| Port::default()).collect());
        Self::build(client, upstreams, Limits { connect, ..LIMITS })
    }

    fn build(client: gate_upstream::Client, upstreams: Rc<Vec<Port>>, limits: Limits) -> Self {
        let not_yet =
            if upstreams.is_empty() { NotYet::NothingFound(HINT.to_owned()) } else { NotYet::Named };
        let door = door();
        let rules =
            Rules { limits, queue: QUEUE, manage: manage(), door, own_idle: Vec::new(), routes: Vec::new() };
        let shared = Arc::new(Shared::new(KeyRing::default(), rules, Arc::clone(client.roster()), not_yet));
        let records = Records::default();
        // As a probe of an Ollama tells.
        (0..).map(UpstreamId).take(upstreams.len()).for_each(|id| client.roster().set_gate(id, false));
        let gate = Rc::new(Gate::new(Arc::clone(&shared), client, Box::new(records.clone()), 7));
        tokio::task::spawn_local(Rc::clone(&gate.sweep).run());
        let tended = Rc::clone(&gate);
        tokio::task::spawn_local(async move { tended.tend_leases().await });
        let mut house =
            House { gate, shared, upstreams, keys: RefCell::default(), records, key: String::new() };
        house.key = house.add_key(|_| {});
        for place in 0..house.upstreams.len() {
            house.probed(place, &["demo"], &[]);
        }
        house
    }

    /// Makes a key that differs from the usual one as `shape` says, and returns its secret.
    pub(crate) fn add_key(&self, shape: impl Fn(&mut Key) + 'static) -> String {
        let minted = mint(&mut OsEntropy).unwrap();
        self.keys.borrow_mut().push((minted.mark, Box::new(shape)));
        let keys = self.keys.borrow();
        let ring = keys.iter().zip(1..).map(|((mark, shape), number)| {
            let name = KeyName::parse(&format!("key-{number}")).unwrap();
            let mut key = Key::new(KeyId(number), name, mark.clone(), ScopeSet::DEFAULT, 1);
            shape(&mut key);
            key
        });
        self.shared.replace_keys(KeyRing::new(ring.collect::<Vec<_>>()));
        minted.secret.expose().to_owned()
    }

    /// Makes a key that manages models, and can do nothing else.
    pub(crate) fn manager(&self) -> String {
        self.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Manage]))
    }

    /// From the next request on.
    pub(crate) fn change_rules(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = Rules::clone(&self.shared.rules());
        change(&mut rules);
        self.shared.set_rules(rules);
    }

    /// The upstream answered a probe with these models, those of them loaded.
    pub(crate) fn probed(&self, place: usize, models: &[&str], loaded: &[&str]) {
        let names = |list: &[&str]| Some(list.iter().map(|name| ModelName::parse(name).unwrap()).collect());
        let seen =
            Observation::Probed { version: "0.32.15".into(), models: names(models), loaded: names(loaded) };
        self.observe(place, seen);
    }

    pub(crate) fn observe(&self, place: usize, seen: Observation) {
        self.shared.observe(UpstreamId(place as u16), seen);
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A client's new connection.
    pub(crate) fn connect(&self) -> Client {
        self.connect_with(PIPE)
    }

    /// One that holds `room` bytes each way.
    pub(crate) fn connect_with(&self, room: usize) -> Client {
        self.connect_as(PEER, room)
    }

    /// One that comes from another address than the usual.
    pub(crate) fn connect_from(&self, peer: IpAddr) -> Client {
        self.connect_as(peer, PIPE)
    }

    fn connect_as(&self, peer: IpAddr, room: usize) -> Client {
        self.connect_by(&Rc::default(), peer, room)
    }

    /// One that comes in by another entrance.
    pub(crate) fn connect_by(&self, entrance: &Rc<Entrance>, peer: IpAddr, room: usize) -> Client {
        let (near, far) = duplex(room);
        let reset = Rc::new(Cell::new(false));
        let side = GateSide { io: far, reset: Rc::clone(&reset) };
        let served = self.serve_by(entrance, peer, side).expect("the gate has room");
        Client::new(near, reset, served)
    }

    /// Serves a client over any stream.
    pub(crate) fn serve(&self, io: impl ClientStream + 'static) -> JoinHandle<()> {
        self.serve_from(PEER, io).expect("the gate has room")
    }

    /// The same for a client from elsewhere; none where the gate does not let it in.
    pub(crate) fn serve_from(&self, peer: IpAddr, io: impl ClientStream + 'static) -> Option<JoinHandle<()>> {
        self.serve_by(&Rc::default(), peer, io)
    }

    /// The same by another entrance.
    pub(crate) fn serve_by(
        &self,
        entrance: &Rc<Entrance>,
        peer: IpAddr,
        io: impl ClientStream + 'static,
    ) -> Option<JoinHandle<()>> {
        let guest = self.gate.admit(peer, Some(LOCAL), entrance).ok()?;
        Some(tokio::task::spawn_local(serve_connection(guest, io)))
    }

    /// The next connection that the gate opens to an upstream.
    pub(crate) async fn accept(&self, place: usize) -> Upstream {
        let port = &self.upstreams[place];
        let stream = poll_fn(|cx| match port.waiting.borrow_mut().pop_front() {
            Some(stream) => Poll::Ready(stream),
            None => {
                port.waker.replace(Some(cx.waker().clone()));
                Poll::Pending
            }
        });
        Upstream::new(stream.await)
    }

    /// The next request that comes there, over the connection at hand or a new one, which is at hand then.
    pub(crate) async fn asked(&self, place: usize, at_hand: &mut Option<Upstream>) -> Asked {
        if let Some(kept) = at_hand {
            tokio::select! {
                asked = kept.asked() => return asked,
                fresh = self.accept(place) => *at_hand = Some(fresh),
            }
        } else {
            *at_hand = Some(self.accept(place).await);
        }
        at_hand.as_mut().unwrap().asked().await
    }

    /// The gate begins to end.
    pub(crate) fn drain(&self) {
        self.gate.drain.begin(Duration::from_secs(1));
    }

    /// From now on, nobody listens there; or somebody does again.
    pub(crate) fn refuse(&self, place: usize, refuses: bool) {
        self.upstreams[place].refuses.set(refuses);
    }

    /// From now on, connections to it hold so many bytes only.
    pub(crate) fn narrow(&self, place: usize, room: usize) {
        self.upstreams[place].narrow.set(Some(room));
    }

    /// How many connections the gate tried to open there.
    pub(crate) fn dialled(&self, place: usize) -> usize {
        self.upstreams[place].dialled.get()
    }

    pub(crate) fn in_flight(&self, place: usize) -> u32 {
        self.shared.with_fleet(|fleet| fleet.get(UpstreamId(place as u16)).unwrap().in_flight())
    }

    /// The records of the requests that have ended, oldest first.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.all()
    }

    /// The last record's outcome and status.
    pub(crate) fn outcome(&self) -> (String, String) {
        let record = self.records().pop().expect("no request has ended");
        (record["outcome"].clone(), record["status"].clone())
    }
}

impl Port {
    fn dial(&self) -> io::Result<Box<dyn Transport>> {
        self.dialled.set(self.dialled.get() + 1);
        if self.refuses.get() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(self.narrow.get().unwrap_or(PIPE));
        self.waiting.borrow_mut().push_back(far);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(Box::new(near))
    }
}

/// The gate's end of a client's connection whose end is of no interest.
pub(crate) fn plain(io: DuplexStream) -> impl ClientStream {
    GateSide { io, reset: Rc::default() }
}

/// The gate's end of a client's connection; remembers whether its close would be a reset.
struct GateSide {
    io: DuplexStream,
    reset: Rc<Cell<bool>>,
}

impl ClientStream for GateSide {
    fn reset_on_drop(&self) {
        self.reset.set(true);
    }
}

impl AsyncRead for GateSide {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for GateSide {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
