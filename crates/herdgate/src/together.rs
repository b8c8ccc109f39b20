//! Several pieces of work at the same time, in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Does all of it; the results in the order of the work.
pub(crate) async fn together<F: Future>(work: Vec<F>) -> Vec<F::Output> {
    let mut work: Vec<_> = work.into_iter().map(|one| (Box::pin(one), None)).collect();
    poll_fn(|cx| {
        let mut is_done = true;
        for (one, result) in &mut work {
            if result.is_none() {
                match Pin::new(one).poll(cx) {
                    Poll::Ready(told) => *result = Some(told),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    work.into_iter().filter_map(|(_, result)| result).collect()
}
