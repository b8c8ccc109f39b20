//! A real browser, and the servers of the pages that it is shown: what a page sees, it tells the test. Each run has a new
//! profile; nothing but loopback can be reached from it.

use super::{Home, Running, leave_out};
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A browser starts, and its page runs, far sooner, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every page can do: tell the test, and ask somebody for something and say what it saw of it.
const SHARED: &str = "
const told = what => fetch(TEST, {method: 'POST', mode: 'no-cors', body: JSON.stringify(what)});
const seen = async (url, options) => {
    try {
        const answer = await fetch(url, options);
        return {status: answer.status, text: await answer.text()};
    } catch (error) {
        return {error: error.name};
    }
};";

/// Chromium without a window. Ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    running: Running,
}

impl Browser {
    /// Shows the page at `url`, the name `name` meaning `address`. None where there is no such browser.
    #[track_caller]
    pub(crate) fn show(home: &Home, url: &str, name: &str, address: SocketAddr) -> Option<Self> {
        let programs = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
        let Some(program) = programs.into_iter().find(|program| Path::new(program).exists()) else {
            leave_out("chromium is not installed");
            return None;
        };
        let profile = tempfile::tempdir_in(home.path("")).unwrap().keep();
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &profile).env("PATH", "/usr/bin:/bin").current_dir(&profile);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--disable-quic", "--no-first-run", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--disable-sync", "--disable-breakpad"]);
        command.args(["--no-proxy-server", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        let names = format!("MAP {name} {address}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        command.arg(format!("--host-resolver-rules={names}")).arg(url);
        Some(Self { running: Running::start(&mut command) })
    }

    /// What the page tells next.
    #[track_caller]
    pub(crate) fn hears(&self, page: &Page) -> Value {
        let told = page.heard.recv_timeout(PATIENCE);
        told.unwrap_or_else(|error| panic!("the page tells nothing: {error}\n{}", self.running.err()))
    }
}

/// A server of one page, and the ear for what the page tells.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) address: SocketAddr,
    html: Arc<Mutex<String>>,
    ear: SocketAddr,
    heard: Receiver<Value>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Page {
    pub(crate) fn new() -> Self {
        Self::start(None)
    }

    /// A server that gives up its place to `to` once it has sent its page: whatever comes after that is passed on, byte for
    /// byte. So it is when a page's name is made to mean another machine while the page is open.
    pub(crate) fn rebound(to: SocketAddr) -> Self {
        Self::start(Some(to))
    }

    fn start(to: Option<SocketAddr>) -> Self {
        let over = Arc::<AtomicBool>::default();
        let html = Arc::<Mutex<String>>::default();
        let (sender, heard) = sync_channel(64);
        let (page, was_sent) = (Arc::clone(&html), AtomicBool::new(false));
        let (address, first) = serve(&over, move |wire| match to {
            Some(to) if was_sent.load(Ordering::SeqCst) => pass_on(wire, to),
            _ => {
                let text = page.lock().unwrap().clone();
                was_sent.store(true, Ordering::SeqCst);
                answer(wire, &text)
            }
        });
        let (ear, second) = serve(&over, move |wire| hear(wire, &sender));
        Self { address, html, ear, heard, over, threads: vec![first, second] }
    }

    /// The page runs this, with these constants.
    pub(crate) fn runs(&self, constants: &[(&str, Value)], script: &str) {
        let constants: String =
            constants.iter().map(|(name, value)| format!("const {name} = {value};\n")).collect();
        *self.html.lock().unwrap() = format!(
            "<!doctype html><title>page</title><body><script>const TEST = 'http://{}/';{SHARED}\n{constants}\
             (async () => {{ {script} }})().catch(error => told({{failed: String(error)}}));</script>",
            self.ear
        );
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for (address, thread) in [self.address, self.ear].into_iter().zip(self.threads.drain(..)) {
            drop(TcpStream::connect(address));
            drop(thread.join());
        }
    }
}

/// Serves every connection that says something; browsers open some only in case.
fn serve(
    over: &Arc<AtomicBool>,
    each: impl Fn(BufReader<TcpStream>) -> io::Result<()> + Send + Sync + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (over, each) = (Arc::clone(over), Arc::new(each));
    let accept = move || {
        for wire in listener.incoming().flatten() {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let each = Arc::clone(&each);
            std::thread::spawn(move || {
                let mut wire = BufReader::new(wire);
                // The browser leaves as it likes.
                drop(wire.fill_buf().map(<[u8]>::len).and_then(|length| match length {
                    0 => Ok(()),
                    _ => each(wire),
                }));
            });
        }
    };
    (address, std::thread::spawn(accept))
}

/// Reads a request and gives its body.
fn request(wire: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if wire.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    wire.read_exact(&mut body)?;
    Ok(body)
}

fn answer(mut wire: BufReader<TcpStream>, html: &str) -> io::Result<()> {
    request(&mut wire)?;
    let fields = format!("Content-Type: text/html\r\nContent-Length: {}\r\nConnection: close", html.len());
    wire.get_mut().write_all(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{html}").as_bytes())
}

fn hear(mut wire: BufReader<TcpStream>, heard: &SyncSender<Value>) -> io::Result<()> {
    let told = serde_json::from_slice(&request(&mut wire)?)?;
    // Nobody listens any more where the test has failed.
    drop(heard.send(told));
    wire.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}

fn pass_on(wire: BufReader<TcpStream>, to: SocketAddr) -> io::Result<()> {
    let target = TcpStream::connect(to)?;
    let (mut back_from, mut back_to) = (target.try_clone()?, wire.get_ref().try_clone()?);
    let back = std::thread::spawn(move || {
        drop(io::copy(&mut back_from, &mut back_to));
        drop(back_to.shutdown(Shutdown::Both));
    });
    let (mut from, mut target) = (wire, target);
    drop(io::copy(&mut from, &mut target));
    drop(target.shutdown(Shutdown::Write));
    drop(back.join());
    Ok(())
}
