//! The end of the gate: how long what runs may go on, and what is told to whom. What ends is the data plane's and the admin
//! socket's; this only says when.

use super::core::Stage;
use super::notify;
use anyhow::Context as _;
use gate_config::Server;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How long what is ended after the time of grace has to tell its client, and where somebody has no patience.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LAST_WORDS_AT_ONCE: Duration = Duration::from_secs(1);
/// Why the gate ends.
pub(super) enum Ending {
    /// Somebody wants it to.
    Signal(&'static str),
    /// Another gate is there in its place.
    HandedOver,
    /// It cannot go on.
    Broken,
}

impl Ending {
    /// Comes back when all who serve have ended, or were told twice to.
    pub(super) async fn serve_to_the_end(
        self,
        server: &Server,
        stage: &watch::Sender<Stage>,
        all_ended: &mut mpsc::Receiver<()>,
        signals: &mut Signals,
    ) {
        match self {
            Self::Signal(signal) => drain(signal, server.grace, stage, all_ended, signals).await,
            Self::HandedOver => leave(server.handover_grace, stage, all_ended, signals).await,
            Self::Broken => tracing::error!("a data-plane thread ended: ending"),
        }
    }
}

/// Ends as [`drain`] does, while another gate accepts at the same sockets. The service manager has no longer to do with it.
async fn leave(
    grace: Duration,
    stage: &watch::Sender<Stage>,
    all_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    tracing::info!("what still runs here has {} to end", gate_config::show_duration(grace));
    stage.send_replace(Stage::Pass);
    end_requests(grace, stage, all_ended, signals).await;
}

/// Lets every request that runs come to its end.
async fn drain(
    signal: &str,
    grace: Duration,
    stage: &watch::Sender<Stage>,
    all_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    notify::stopping("ending: what runs has its time", grace);
    let again = if signal == INTERRUPT { "Ctrl-C again" } else { "a second signal" };
    tracing::info!(
        "{signal}: listening no more; what runs has {} to end ({again} ends it at once)",
        gate_config::show_duration(grace)
    );
    stage.send_replace(Stage::Drain);
    end_requests(grace, stage, all_ended, signals).await;
}

/// Waits for `grace` at most or until a signal, after the one that there may have been; what still runs then is told so
/// before it is cut.
async fn end_requests(
    grace: Duration,
    stage: &watch::Sender<Stage>,
    all_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    let all_ended = async { while all_ended.recv().await.is_some() {} };
    tokio::pin!(all_ended);
    let last_words = tokio::select! {
        () = &mut all_ended => return tracing::info!("every request has ended"),
        () = tokio::time::sleep(grace) => {
            tracing::warn!("the time of grace is over: ending what still runs");
            LAST_WORDS
        }
        signal = signals.any() => {
            tracing::warn!("a second signal, {signal}: ending at once");
            LAST_WORDS_AT_ONCE
        }
    };
    stage.send_modify(Stage::cut);
    tokio::select! {
        () = all_ended => {}
        () = tokio::time::sleep(last_words) => {}
        _impatient = signals.any() => {}
    }
}

const INTERRUPT: &str = "SIGINT";

/// The signals that end the gate.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    pub(super) async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPT,
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
