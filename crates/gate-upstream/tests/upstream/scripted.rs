//! A server on a loopback socket that does what each connection's script says, byte for byte, in threads of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gate_upstream::{Client, ClientLimits, Endpoint, Tls};

/// How long a script waits for the client before it is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) enum Step {
    /// Reads a head and a body of its Content-Length.
    Request,
    /// Reads a head and nothing behind it.
    HeadOnly,
    Send(&'static str),
    /// Waits for the test.
    Wait(Receiver<()>),
    /// Reads until the client has closed, however it did.
    Gone,
}

/// What one connection saw.
#[derive(Default)]
pub(crate) struct Saw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) gone: Option<Instant>,
}

pub(crate) struct Scripted {
    pub(crate) port: u16,
    thread: JoinHandle<Vec<Saw>>,
}

/// Serves as many connections as there are scripts, in the order of their arrival; the socket closes at a script's end.
pub(crate) fn serve(scripts: Vec<Vec<Step>>) -> Scripted {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let running: Vec<JoinHandle<Saw>> = scripts
            .into_iter()
            .map(|script| {
                let (stream, _) = listener.accept().unwrap();
                thread::spawn(move || play(stream, script))
            })
            .collect();
        drop(listener);
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    Scripted { port, thread }
}

impl Scripted {
    pub(crate) fn client(&self) -> Client {
        client(self.port)
    }

    /// Waits for all scripts to end. The client must be gone or have nothing left to say.
    pub(crate) fn saw(self) -> Vec<Saw> {
        self.thread.join().unwrap()
    }
}

pub(crate) fn client(port: u16) -> Client {
    let endpoint = Endpoint::new(false, "127.0.0.1", port, "").unwrap();
    Client::new(vec![endpoint], Tls::system(), ClientLimits::default())
}

/// A port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A signal for [`Step::Wait`].
pub(crate) fn signal() -> (impl FnOnce(), Receiver<()>) {
    let (tell, told) = sync_channel(1);
    (move || tell.send(()).unwrap(), told)
}

fn play(mut stream: TcpStream, script: Vec<Step>) -> Saw {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut saw = Saw::default();
    for step in script {
        match step {
            Step::Request => {
                let length = read_head(&mut stream, &mut saw.bytes);
                let before = saw.bytes.len();
                saw.bytes.resize(before + length, 0);
                stream.read_exact(&mut saw.bytes[before..]).unwrap();
            }
            Step::HeadOnly => {
                read_head(&mut stream, &mut saw.bytes);
            }
            Step::Send(bytes) => stream.write_all(bytes.as_bytes()).unwrap(),
            Step::Wait(told) => told.recv_timeout(PATIENCE).unwrap(),
            Step::Gone => {
                let mut scratch = [0; 65536];
                // A reset is a close, too; a time-out is not.
                while match stream.read(&mut scratch) {
                    Ok(n) => n > 0,
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                        false
                    }
                } {}
                saw.gone = Some(Instant::now());
            }
        }
    }
    saw
}

/// Reads byte by byte, so that nothing behind the head is taken. Gives the Content-Length.
fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> usize {
    let start = bytes.len();
    let mut byte = [0];
    while !bytes[start..].ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes[start..].to_vec()).unwrap().to_ascii_lowercase();
    head.split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap())
}
