//! The listener of its own for `/metrics`: one request, one answer, the end. Not for the data plane: it runs where probes
//! run, and whoever scrapes there needs no key. So it answers only to names that no page in a browser can come by: a name of
//! somebody's own that was bound anew to this address (DNS rebinding) is refused.

use super::{CONTENT_TYPE, scrape};
use crate::host::{is_of_the_house, name_and_port};
use crate::shared::Shared;
use gate_h1::{HeadScan, Limits, Parsed, RequestHead, Version, encode};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// For all of it, from the first byte to the last.
const TIME: Duration = Duration::from_secs(10);

/// What is told at another host.
const OF_ANOTHER: &str = "not answered by this name, which a web page could come by (DNS rebinding)\n\
                          hint: scrape by address, by a name without a dot, or name this host in metrics.names\n";

/// Serves one connection of the metrics listener to its end. Besides addresses and names of the house it answers to `names`, which
/// are in lower case.
pub async fn serve_metrics<IO: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    names: &[String],
    mut io: IO,
) {
    let served = async {
        let Some(answer) = read_head(&mut io, names).await else { return };
        let mut out = Vec::new();
        let (status, body) = match answer {
            Asked::Metrics { .. } => (200, scrape(shared)),
            Asked::Else => (404, "only /metrics is here\n".to_owned()),
            Asked::OfAnother => (403, OF_ANOTHER.to_owned()),
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
    OfAnother,
    Unreadable(u16),
}

/// Whether the request is meant for this gate. Programs older than `Host` are no browsers.
fn is_meant(head: &RequestHead<'_>, names: &[String]) -> Result<bool, u16> {
    let mut hosts = head.fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(is_of_the_house(host) || is_named(host, names)),
        (None, None) if head.version == Version::H10 => Ok(true),
        (None, None) | (_, Some(_)) => Err(400),
    }
}

fn is_named(host: &[u8], names: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, _port) = name_and_port(host);
    names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

async fn read_head<IO: AsyncRead + Unpin>(io: &mut IO, names: &[String]) -> Option<Asked> {
    let limits = Limits::DEFAULT;
    let (mut bytes, mut scan) = (Vec::with_capacity(1024), HeadScan::default());
    loop {
        match scan.request(&bytes, &limits) {
            Ok(Parsed::Done(head, _)) => {
                let path = head.target.split_once('?').map_or(head.target, |(path, _query)| path);
                return Some(match (is_meant(&head, names), head.method, path) {
                    (Err(status), _, _) => Asked::Unreadable(status),
                    (Ok(false), _, _) => Asked::OfAnother,
                    (Ok(true), "GET", "/metrics") => Asked::Metrics { is_head: false },
                    (Ok(true), "HEAD", "/metrics") => Asked::Metrics { is_head: true },
                    (Ok(true), _, _) => Asked::Else,
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
