//! A load that comes at a steady rate, over kept connections and new ones.

use crate::harness::PATIENCE;
use crate::harness::load::TOKEN;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests that come at a steady rate, whether or not earlier ones were answered; every other one over a connection of its
/// own.
pub(super) struct Steady {
    begun: Instant,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Steady {
    /// So many may be without an answer at one time; with more, the machine cannot do the rate.
    const CLIENTS: usize = 64;

    pub(super) fn start(to: SocketAddr, per_second: u32) -> Self {
        let (stop, next): (Arc<AtomicBool>, Arc<AtomicU32>) = Default::default();
        let begun = Instant::now();
        let client = |_| {
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            std::thread::spawn(move || {
                let (mut kept, mut answered, mut wrong) = (None, 0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let due = begun + Duration::from_secs(1) * number / per_second;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let mut own = None;
                    let wire = if number.is_multiple_of(2) { &mut kept } else { &mut own };
                    match exchange(wire, to) {
                        Ok(()) => answered += 1,
                        Err(error) => wrong.push(error.to_string()),
                    }
                }
                (answered, wrong)
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Self { begun, stop, clients }
    }

    /// Tells the rate that this machine did; the one that counts is measured with the release build.
    #[track_caller]
    pub(super) fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answered, mut wrong) = (0, Vec::new());
        for client in self.clients {
            let (count, errors) = client.join().unwrap();
            answered += count;
            wrong.extend(errors);
        }
        let per_second = answered * 1000 / usize::try_from(self.begun.elapsed().as_millis()).unwrap();
        println!("{answered} requests, {per_second} a second, {} errors", wrong.len());
        assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), answered + wrong.len());
        answered
    }
}

/// One request and its answer, over the connection that is kept or a new one, which is kept where the gate keeps it.
fn exchange(kept: &mut Option<BufReader<TcpStream>>, to: SocketAddr) -> std::io::Result<()> {
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => BufReader::new(TcpStream::connect(to)?),
    };
    wire.get_ref().set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET /api/tags HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    wire.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if wire.read_line(&mut head)? == 0 {
            return Err(std::io::Error::other(format!("ended in the head: {head:?}")));
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    if !head.starts_with("HTTP/1.1 200 ") || length.is_none() {
        return Err(std::io::Error::other(head));
    }
    let mut body = vec![0; length.unwrap_or_default()];
    wire.read_exact(&mut body)?;
    if !head.contains("Connection: close") {
        *kept = Some(wire);
    }
    Ok(())
}
