//! The listener of its own for `/metrics`: one request, one answer, the end. Not for the data plane: it runs where probes
//! run, and whoever scrapes there needs no key.

use super::{CONTENT_TYPE, scrape};
use crate::gate::Shared;
use gate_h1::{HeadScan, Limits, Parsed, encode};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// For all of it, from the first byte to the last.
const TIME: Duration = Duration::from_secs(10);

/// Serves one connection of the metrics listener to its end.
pub async fn serve_metrics<IO: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, mut io: IO) {
    let served = async {
        let Some(answer) = read_head(&mut io).await else { return };
        let mut out = Vec::new();
        let (status, body) = match answer {
            Asked::Metrics { .. } => (200, scrape(shared)),
            Asked::Else => (404, "only /metrics is here\n".to_owned()),
            Asked::Unreadable(status) => (status, "that is no request\n".to_owned()),
        };
        encode::status_line(&mut out, status);
        // Fixed texts, all of them writable.
        for (name, value) in [("Content-Type", CONTENT_TYPE), ("Connection", "close")] {
            let _writable = encode::field(&mut out, name, value);
        }
        encode::content_length(&mut out, body.len() as u64);
        encode::end_of_head(&mut out);
        if !matches!(answer, Asked::Metrics { is_head: true }) {
            out.extend_from_slice(body.as_bytes());
        }
        // Whoever does not wait for the answer does not get it.
        let _gone = io.write_all(&out).await;
        let _gone = io.shutdown().await;
    };
    let _late = tokio::time::timeout(TIME, served).await;
}

enum Asked {
    Metrics { is_head: bool },
    Else,
    Unreadable(u16),
}

async fn read_head<IO: AsyncRead + Unpin>(io: &mut IO) -> Option<Asked> {
    let limits = Limits::DEFAULT;
    let (mut bytes, mut scan) = (Vec::with_capacity(1024), HeadScan::default());
    loop {
        match scan.request(&bytes, &limits) {
            Ok(Parsed::Done(head, _)) => {
                let path = head.target.split_once('?').map_or(head.target, |(path, _query)| path);
                return Some(match (head.method, path) {
                    ("GET", "/metrics") => Asked::Metrics { is_head: false },
                    ("HEAD", "/metrics") => Asked::Metrics { is_head: true },
                    _ => Asked::Else,
                });
            }
            Ok(Parsed::Partial) => {}
            Err(error) => return Some(Asked::Unreadable(error.status())),
        }
        if io.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
