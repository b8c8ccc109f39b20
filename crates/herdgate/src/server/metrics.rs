//! The listener of the metrics alone. It belongs to the control plane: whoever scrapes takes no time from requests.

use super::bind::Bound;
use super::core::Stage;
use gate_proxy::{Shared, serve_metrics};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Scrapes at one time; whoever comes beyond that waits in the kernel's queue.
const AT_ONCE: usize = 8;
/// How long to wait after a failed accept, as without descriptors.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// Answers until another gate does; then only whom it has begun to. `names` are those of the settings by which it answers.
pub(super) async fn serve(
    bound: Bound,
    shared: Arc<Shared>,
    names: Vec<String>,
    mut stage: watch::Receiver<Stage>,
) {
    let names: Rc<[String]> = names.into();
    let sockets = bound.sockets.into_iter().next().map(TcpListener::from_std);
    let listener = match sockets {
        Some(Ok(listener)) => listener,
        Some(Err(error)) => return tracing::error!("metrics cannot be told at {}: {error}", bound.address),
        None => return,
    };
    let mut scrapes = JoinSet::new();
    loop {
        while scrapes.len() >= AT_ONCE {
            scrapes.join_next().await;
        }
        while scrapes.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _passed = stage.wait_for(|stage| stage.is_passed_on()) => break,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let (shared, names) = (Arc::clone(&shared), Rc::clone(&names));
                scrapes.spawn_local(async move { serve_metrics(&shared, &names, stream).await });
            }
            Err(error) => {
                tracing::debug!("cannot accept a scrape: {error}");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while scrapes.join_next().await.is_some() {}
}
