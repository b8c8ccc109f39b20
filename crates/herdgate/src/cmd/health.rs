//! `herdgate health`: whether the gate of this machine answers, for the health checks of containers whose images have no other
//! program. Asks the listener of the settings that speaks in clear; where all speak TLS, sees that one accepts, and asks by
//! the admin socket.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::cmd::settings;
use crate::reach::Reach;
use anyhow::{Context as _, bail};
use clap::Args;
use gate_config::{Config, Flags, Locations};
use http::Method;
use serde_json::Value;
use std::io::{Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For the whole of it. Docker's own limit is 30 s, that of the images 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of the answer that are looked at.
const ANSWER_BYTES: u64 = 4096;

/// `herdgate health`
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Also ask whether an upstream is there for the next request (/readyz instead of /healthz)
    #[arg(long)]
    ready: bool,
}

/// Prints what the gate says of itself. Ends with 0, 1 where it does not answer or is not well, 64 for wrong settings.
pub(crate) fn run(args: &HealthArgs, flags: &Flags, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let (loaded, places) = match settings::load(flags) {
        Ok(loaded) => loaded,
        Err(problems) => return settings::tell(&problems, talk),
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let Some(door) = Door::of(&loaded.config) else {
        let _closed = writeln!(
            talk,
            "error: no listener of the settings can be asked\nhint: one that is no redirect and has a fixed port"
        );
        return EXIT_USAGE;
    };
    match door.ask(path, &places) {
        Ok(said) => {
            let _closed = writeln!(out, "{said}");
            0
        }
        Err(error) => {
            let _closed = writeln!(talk, "error: {error:#}");
            EXIT_FAILURE
        }
    }
}

/// Where the gate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Door {
    address: SocketAddr,
    is_tls: bool,
}

impl Door {
    fn of(config: &Config) -> Option<Self> {
        let doors = config.listen.iter().filter(|one| !one.redirect && one.address.address.port() != 0);
        let doors: Vec<Door> = doors
            .map(|one| Door { address: reachable(one.address.address), is_tls: one.is_tls(config) })
            .collect();
        doors.iter().find(|door| !door.is_tls).or_else(|| doors.first()).copied()
    }

    fn ask(self, path: &str, places: &Locations) -> anyhow::Result<String> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)
            .with_context(|| format!("nobody answers at {}", self.address))?;
        if self.is_tls { by_socket(path, places) } else { in_clear(stream, self.address, path) }
    }
}

/// An address of this machine's by which a listener is reached that has all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        // `[::]` is IPv4 as well, and IPv4 alone where there is no IPv6.
        IpAddr::V4(_) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip @ IpAddr::V6(_) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn in_clear(mut stream: TcpStream, address: SocketAddr, path: &str) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut text = Vec::new();
    stream
        .write_all(asked.as_bytes())
        .and_then(|()| stream.take(ANSWER_BYTES).read_to_end(&mut text))
        .with_context(|| format!("{address} breaks off"))?;
    judge(address, &String::from_utf8_lossy(&text))
}

/// What an answer says, where it is a good one.
fn judge(address: SocketAddr, answer: &str) -> anyhow::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let said = body.lines().next().unwrap_or_default().trim();
    match status {
        Some("200") => Ok(said.to_owned()),
        Some(status) => bail!("the gate at {address} is not well: {status} {said}"),
        None => bail!("what answers at {address} is no gate"),
    }
}

fn by_socket(path: &str, places: &Locations) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let here = Reach::Here(places.data.clone());
        let answer = tokio::time::timeout(PATIENCE, here.gate(Method::GET, path, &Value::Null));
        let answer = answer.await.context("the gate does not answer at its admin socket")??;
        let text = answer.ok().await.context("the gate is not well")?.whole().await?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_config::Listener;

    fn config(listeners: &[(&str, Option<bool>, bool)], has_tls: bool) -> Config {
        let mut config = Config::default();
        config.tls.self_signed = has_tls;
        let one = |&(address, tls, redirect): &(&str, Option<bool>, bool)| {
            let address = gate_config::Listen { address: address.parse().unwrap() };
            Listener { tls, redirect, ..Listener::at(address) }
        };
        config.listen = listeners.iter().map(one).collect();
        config
    }

    #[test]
    fn the_plain_listener_is_asked_before_all_others() {
        let door = |address: &str, is_tls| Some(Door { address: address.parse().unwrap(), is_tls });
        for (listeners, has_tls, expected) in [
            (&[("[::]:7860", None, false)][..], false, door("127.0.0.1:7860", false)),
            (&[("0.0.0.0:1", None, false)], false, door("127.0.0.1:1", false)),
            (&[("10.0.0.9:1", None, false)], false, door("10.0.0.9:1", false)),
            (&[("[::1]:1", None, false)], false, door("[::1]:1", false)),
            (&[("[::]:443", None, false)], true, door("127.0.0.1:443", true)),
            (&[("[::]:80", None, true), ("[::]:443", None, false)], true, door("127.0.0.1:443", true)),
            (
                &[("[::]:443", None, false), ("127.0.0.1:7861", Some(false), false)],
                true,
                door("127.0.0.1:7861", false),
            ),
            (&[("127.0.0.1:0", None, false)], false, None),
        ] {
            assert_eq!(Door::of(&config(listeners, has_tls)), expected, "{listeners:?}");
        }
    }

    #[test]
    fn only_a_200_of_http_is_health() {
        let at: SocketAddr = "127.0.0.1:7860".parse().unwrap();
        assert_eq!(judge(at, "HTTP/1.1 200 OK\r\na: b\r\n\r\nok\n").unwrap(), "ok");
        for (answer, told) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\nno upstream\n", "503 no upstream"),
            ("", "no gate"),
            ("SSH-2.0-x\r\n", "no gate"),
        ] {
            let error = judge(at, answer).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
