//! What a test can order: when ([`Order`]), and what goes wrong ([`Fault`]). Words only; `fault.rs` carries them out.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A fault, the requests it is for, and how often.
#[derive(Debug, Clone)]
pub struct Order {
    pub(crate) path: Option<String>,
    pub(crate) left: Option<usize>,
    pub(crate) fault: Fault,
}

impl Order {
    /// For the next request only.
    #[must_use]
    pub fn once(fault: Fault) -> Self {
        Self { path: None, left: Some(1), fault }
    }

    /// For every request until [`Ollama::clear_orders`](crate::Ollama::clear_orders).
    #[must_use]
    pub fn always(fault: Fault) -> Self {
        Self { path: None, left: None, fault }
    }

    /// Only requests for this path (without a query) count.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// For this many requests.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Read the request, close without a byte.
    CloseBeforeAnswer,
    /// Send this many bytes of the right answer (head and framing counted), then leave.
    CutAfter {
        /// Bytes sent.
        bytes: usize,
        /// How to leave.
        then: Then,
    },
    /// Send this many bytes of the right answer, then nothing for so long (`None`: until the peer leaves), then the rest.
    StallAfter {
        /// Bytes sent before the silence; 0 stalls before the head.
        bytes: usize,
        /// How long; `None` for ever.
        pause: Option<Duration>,
    },
    /// Send this many bytes of the right answer, then nothing until the test releases it, then the rest.
    HoldAfter {
        /// Bytes sent before the silence; 0 holds before the head.
        bytes: usize,
        /// What the test keeps a clone of.
        until: Release,
    },
    /// Answer right, then close without having announced it: the next request on this connection finds it dead.
    CloseAfterAnswer,
    /// An answer whose framing is broken.
    Framing(BadFraming),
    /// An error as Ollama words it, in the dialect of the route.
    Fail(Failure),
    /// Wait as for a model that is being loaded, then answer; it is loaded from then on.
    SlowLoad(Duration),
    /// The runner dies after so many tokens: the stream says so as the dialect does (if it does) and ends with a correct last
    /// chunk; an answer that is not streamed is a 500. Recorded from v0.24.0 and v0.32.15.
    RunnerDies {
        /// Good tokens before.
        tokens: usize,
    },
    /// Ollama gives up after so many tokens (30 equal ones): the stream stops without any sign and ends with a correct last
    /// chunk; an answer that is not streamed is a 200 that is not done.
    GivesUp {
        /// Good tokens before.
        tokens: usize,
    },
    /// Exactly these bytes, head included.
    Play {
        /// The answer on the wire.
        bytes: Vec<u8>,
        /// In which writes.
        cuts: Cuts,
        /// What follows.
        then: Then,
    },
}

/// What held answers wait for: nothing until [`now`](Release::now), and nothing after it.
#[derive(Debug, Clone)]
pub struct Release(Arc<Semaphore>);

impl Release {
    /// Lets every answer go on that is held by it, and those that come later.
    pub fn now(&self) {
        self.0.close();
    }

    pub(crate) async fn wait(&self) {
        // A semaphore without permits lets nobody pass, until it is closed and refuses everybody.
        drop(self.0.acquire().await);
    }
}

impl Default for Release {
    fn default() -> Self {
        Release(Arc::new(Semaphore::new(0)))
    }
}

/// What happens to the connection afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    KeepOpen,
    /// Close (FIN).
    Close,
    /// Reset (RST), as a crashed host or an overfull socket does.
    Reset,
}

/// How played bytes are divided into writes. Writes are apart by a gap, so that the peer sees them one by one.
#[derive(Debug, Clone)]
pub enum Cuts {
    /// One write.
    Whole,
    /// One byte per write, without a gap: bounded by the length of the answer.
    EachByte,
    /// A new write at each of these offsets, 2 ms apart.
    At(Vec<usize>),
}

/// An answer that no client may trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadFraming {
    /// `Content-Length` larger than the body, then close.
    LengthTooLong,
    /// `Content-Length` smaller than the body: what follows would be read as the next answer.
    LengthTooShort,
    /// Two `Content-Length` that differ.
    TwoLengths,
    /// `Content-Length: -1`.
    NegativeLength,
    /// Both `Content-Length` and `Transfer-Encoding: chunked`.
    LengthAndChunked,
    /// A chunk size that is no number.
    ChunkSize,
    /// No line end after a chunk's bytes.
    ChunkEnd,
    /// Closed where the last chunk should stand.
    NoLastChunk,
    /// Line feeds alone.
    BareLf,
    /// No HTTP at all.
    Garbage,
    /// A head that does not end (1 MiB of fields).
    EndlessHead,
}

impl BadFraming {
    /// All of them, for table tests.
    pub const ALL: [Self; 11] = [
        Self::LengthTooLong,
        Self::LengthTooShort,
        Self::TwoLengths,
        Self::NegativeLength,
        Self::LengthAndChunked,
        Self::ChunkSize,
        Self::ChunkEnd,
        Self::NoLastChunk,
        Self::BareLf,
        Self::Garbage,
        Self::EndlessHead,
    ];
}

/// Errors of Ollama v0.24.0 to v0.32.15, by cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 404 `model 'x' not found` for the model that was asked for.
    NotFound,
    /// 404 `model "x" not found, try pulling it first`.
    NotFoundPullFirst,
    /// 503 `server busy, please try again.  maximum pending requests exceeded`.
    Busy,
    /// 500 `llama-server process has terminated: exit status 2`.
    LoadCrashed,
    /// 500 `timed out waiting for llama-server to start`.
    LoadTimedOut,
    /// 500 `model requires more system memory (…) than is available (…)`.
    OutOfMemory,
    /// 500 `model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, check
    /// ollama server logs for details`.
    RunnerStopped,
    /// 500 `option "num_ctx" must be of type integer`: the client's fault in spite of its status.
    WrongOption,
    /// Any other status and text, in the dialect of the route.
    Other(u16, String),
}

/// What happens to a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Closed at once, nothing read.
    Close,
    /// Reset at once.
    Reset,
    /// Held open, never read nor answered.
    Silent,
}
