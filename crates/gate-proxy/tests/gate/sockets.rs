//! What only a real socket shows: how a connection ends.

use crate::house::House;
use crate::wire::{CHAT, LAST, STREAM, chunk, post};
use std::io::ErrorKind;
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
                upstream.send(LAST).await;
            }
            drop(upstream);
            let end = client.read_buf(&mut came).await.map_err(|error| error.kind());
            assert_eq!(end, if is_cut { Err(ErrorKind::ConnectionReset) } else { Ok(0) });
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
