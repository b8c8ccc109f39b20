//! What only a real socket shows: how a connection ends, and one that does not come about.

use crate::house::House;
use crate::wire::{CHAT, END, STREAM, chunk, json, post};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Runs a test with a clock that goes, since the system's sockets do not wait for one that stands.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.unwrap(), test);
}

async fn connect(house: &House) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (served, _) = listener.accept().await.unwrap();
    house.serve(served);
    client
}

#[test]
fn an_answer_to_http_1_0_that_was_cut_short_ends_in_a_reset() {
    run(async {
        for is_cut in [true, false] {
            let house = House::new(1);
            let mut client = connect(&house).await;
            let request = post("/api/chat", &house.key, CHAT).replace("HTTP/1.1", "HTTP/1.0");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut upstream = house.accept(0).await;
            upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
            let mut came = Vec::new();
            while !came.ends_with(b"{\"a\":1}\n") {
                assert!(client.read_buf(&mut came).await.unwrap() > 0);
            }
            if !is_cut {
                upstream.send(END).await;
            }
            drop(upstream);
            let end = client.read_to_end(&mut came).await.map_err(|error| error.kind());
            assert_eq!(end.err(), is_cut.then_some(ErrorKind::ConnectionReset));
            let last: &[u8] = if is_cut { b"\"code\":\"upstream_failed\"}\n" } else { b"{\"done\":true}\n" };
            assert!(came.ends_with(last), "{}", came.escape_ascii());
        }
    });
}

#[test]
fn a_refused_upload_sees_the_answer_and_no_reset() {
    run(async {
        let house = House::new(1);
        let mut client = connect(&house).await;
        let body = vec![b'x'; 8 << 20];
        let head = format!("POST /api/chat HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.unwrap();
        assert!(came.starts_with(b"HTTP/1.1 401 "), "{}", came.escape_ascii());
    });
}

/// A listener whose queue is full, so that it answers no further connection at all, and what fills it.
#[cfg(target_os = "linux")]
fn deaf() -> (u16, impl Sized) {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream as Blocking};
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = Blocking::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    (address.port(), (socket, queued))
}

/// How many connections to this port are being opened on this machine (`SYN_SENT`).
#[cfg(target_os = "linux")]
fn opening(port: u16) -> usize {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!(":{port:04X} 02 ");
    sockets.lines().filter(|line| line.contains(&to)).count()
}

/// Waits until `fits`, for as long as a busy machine may need.
async fn until(fits: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !fits() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never comes");
        tokio::task::yield_now().await;
    }
    start.elapsed()
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_leaves_while_its_upstream_is_connected_to_ends_that_at_once() {
    run(async {
        let (port, _kept) = deaf();
        let before = opening(port);
        let house = House::over_sockets(&[port], Duration::from_secs(60));
        for is_half in [true, false] {
            let mut client = connect(&house).await;
            client.write_all(post("/v1/messages", &house.key, CHAT).as_bytes()).await.unwrap();
            until(|| opening(port) == before + 1).await;
            assert_eq!(house.in_flight(0), 1);
            if is_half {
                client.shutdown().await.unwrap();
            } else {
                drop(client);
            }
            until(|| opening(port) == before).await;
            until(|| house.in_flight(0) == 0).await;
            assert_eq!(house.outcome(), ("cancelled".into(), "499".into()));
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_deaf_upstream_costs_the_time_to_connect_and_then_another_one_is_asked() {
    run(async {
        let (port, _kept) = deaf();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limit = Duration::from_millis(300);
        let house = House::over_sockets(&[port, listener.local_addr().unwrap().port()], limit);
        house.probed(0, &["demo"], &["demo"]);
        let mut client = connect(&house).await;
        let start = Instant::now();
        client.write_all(post("/api/chat", &house.key, CHAT).as_bytes()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        assert!(start.elapsed() >= limit);
        assert_eq!((house.in_flight(0), house.in_flight(1)), (0, 1));
        upstream.write_all(json(200, "{}").as_bytes()).await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"{}") {
            assert!(client.read_buf(&mut came).await.unwrap() > 0);
        }
        assert!(came.starts_with(b"HTTP/1.1 200 "), "{}", came.escape_ascii());
    });
}
