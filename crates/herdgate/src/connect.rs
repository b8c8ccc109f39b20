//! A gate that is somewhere else, on a port of this machine: for programs that can neither send a key nor speak TLS. Beside
//! the server, of which it uses nothing.
//!
//! Below stands the order of everything: a program is let in by `door`, its request passed by `pass` over the one connection
//! that `line` keeps; `voice` tells the terminal what the programs do not show. It never serves a page of the web, never
//! shows the key, and keeps nothing of a request but what it may have to send again.

mod body;
mod door;
mod line;
mod listen;
mod page;
mod pass;
#[cfg(test)]
mod tests;
mod voice;
mod wire;

pub(crate) use listen::{At, Reach};

use crate::client::Gate;
use door::Door;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use line::Line;
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use voice::Voice;
use wire::{Outlet, Wire};

/// Connections of programs at one time; further ones wait to be taken.
const PROGRAMS: usize = 256;
/// Bytes of a request's head.
const HEAD: usize = 64 * 1024;
/// How long a connection may rest between requests, or take for the head of one: longer than clients keep one that rests.
const REST: Duration = Duration::from_secs(120);
/// Lines for the terminal that wait to be written.
const LINES: usize = 64;

/// What every request is passed with.
struct House {
    gate: Gate,
    door: Door,
    line: Line,
    voice: Arc<Voice>,
}

/// Passes on what programs ask at `listener` until `end` is over. Lines for people go to `talk`.
pub(crate) async fn serve(
    gate: Gate,
    listener: TcpListener,
    at: &At,
    end: impl Future<Output = ()>,
    talk: &mut dyn Write,
) -> io::Result<()> {
    let door = Door::new(at, listener.local_addr()?);
    let (lines, mut said) = mpsc::channel(LINES);
    let voice = Arc::new(Voice::new(lines, &gate));
    let (line, keeping) = line::keep(gate.clone(), Arc::clone(&voice));
    let house = Arc::new(House { gate, door, line, voice });
    let mut tasks = JoinSet::new();
    tasks.spawn(keeping);
    let first = Arc::clone(&house);
    tasks.spawn(async move { pass::look(&first).await });
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(()),
            Some(line) = said.recv() => {
                // A closed terminal is no reason to leave the programs alone.
                let _closed = writeln!(talk, "{line}");
            }
            program = accept(&listener), if tasks.len() < PROGRAMS => {
                let house = Arc::clone(&house);
                tasks.spawn(async move { talk_with(program, house).await });
            }
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

/// The next program. Where the system has no room for one, it waits a moment instead of asking for ever.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((program, _from)) => return program,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn talk_with(program: TcpStream, house: Arc<House>) {
    // A chunk is a word of an answer: it waits for no other. Without, it is slower and no worse.
    let _slower = program.set_nodelay(true);
    let outlet = Outlet::default();
    let answer = service_fn(|request: Request<Incoming>| {
        let (house, outlet) = (Arc::clone(&house), outlet.clone());
        async move { Ok::<_, Infallible>(pass::pass(&house, request, outlet).await) }
    });
    let mut builder = http1::Builder::new();
    // Names of fields as Ollama writes them: some who read them are less than exact.
    builder.title_case_headers(true).max_buf_size(HEAD).timer(TokioTimer::new()).header_read_timeout(REST);
    // How it ended, the program knows.
    drop(builder.serve_connection(Wire::new(program, outlet.clone()), answer).await);
}
