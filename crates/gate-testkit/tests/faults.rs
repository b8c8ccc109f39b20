//! The faults: each does what its name says, and no more.

#![expect(clippy::unwrap_used, reason = "what a test calls may fail the test")]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use gate_testkit::{Accept, BadFraming, Cuts, Failure, Fault, Ollama, Order, Setup, Then, recorded};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CHAT: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}]}"#;

async fn send(ollama: &Ollama, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(ollama.addr).await.unwrap();
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Everything up to the end, a reset included.
async fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the chunked end, the connection staying open.
async fn read_chunked(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

async fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_cut_answer_is_the_beginning_of_the_right_one() {
    let ollama = Ollama::start().await.unwrap();
    let right = read_chunked(&mut send(&ollama, "/api/chat", CHAT).await).await.into_bytes();
    for bytes in [0, 1, 40, right.len() / 2, right.len() - 1] {
        ollama.once_on("/api/chat", Fault::CutAfter { bytes, then: Then::Close });
        let got = to_end(&mut send(&ollama, "/api/chat", CHAT).await).await;
        assert_eq!(got, right[..bytes]);
    }
    ollama.once_on("/api/chat", Fault::CutAfter { bytes: 40, then: Then::Reset });
    let error = send(&ollama, "/api/chat", CHAT).await.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn orders_count_paths_and_times() {
    let ollama = Ollama::start().await.unwrap();
    ollama.order(Order::once(Fault::Fail(Failure::Busy)).on("/api/chat").times(2));
    ollama.order(Order::always(Fault::Fail(Failure::NotFound)).on("/v1/messages"));
    let mut statuses = Vec::new();
    for path in ["/api/generate", "/api/chat", "/api/chat", "/api/chat", "/v1/messages", "/v1/messages"] {
        let mut stream =
            send(&ollama, path, r#"{"model":"demo","stream":false,"prompt":"x","messages":[1]}"#).await;
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        statuses.push(String::from_utf8_lossy(&line[9..]).into_owned());
    }
    assert_eq!(statuses, ["200", "503", "503", "200", "404", "404"]);
    ollama.clear_orders();
    let mut stream = send(&ollama, "/v1/messages", CHAT).await;
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line[9..], b"200");
}

#[tokio::test]
async fn failures_are_worded_as_recorded() {
    let ollama = Ollama::start().await.unwrap();
    let body = r#"{"model":"nope","messages":[1],"prompt":"x","input":"x"}"#;
    let cases = [
        ("/api/chat", Failure::Busy, "faults/queue-full-chat"),
        ("/v1/chat/completions", Failure::Busy, "faults/queue-full-v1-chat"),
        ("/v1/messages", Failure::NotFound, "messages-missing"),
        ("/api/embed", Failure::NotFoundPullFirst, "embed-missing"),
        ("/v1/embeddings", Failure::NotFoundPullFirst, "v1-embeddings-missing"),
        ("/api/generate", Failure::NotFound, "generate-missing"),
    ];
    for (path, failure, name) in cases {
        ollama.once_on(path, Fault::Fail(failure));
        let mut stream = send(&ollama, path, body).await;
        let real = String::from_utf8(recorded(&format!("0.32.15/{name}")).unwrap()).unwrap();
        let mut ours = vec![0; real.len()];
        stream.read_exact(&mut ours).await.unwrap();
        let ours = String::from_utf8(ours).unwrap();
        let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        assert_eq!(body(&ours), body(&real), "{name}");
        assert_eq!(ours.lines().next(), real.lines().next(), "{name}");
    }
}

#[tokio::test]
async fn a_dying_runner_ends_each_stream_as_recorded() {
    let ollama = Ollama::start().await.unwrap();
    let stream = r#"{"model":"demo","stream":true,"prompt":"x","input":"x","messages":[{"role":"user","content":"x"}]}"#;
    let cases = [
        (
            "/api/generate",
            "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n\r\n",
        ),
        (
            "/api/chat",
            "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n\r\n",
        ),
        (
            "/v1/chat/completions",
            "\"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":null}]}\n\n\r\n",
        ),
        (
            "/v1/completions",
            "\"finish_reason\":null}],\"model\":\"\",\"system_fingerprint\":\"fp_ollama\"}\n\n\r\n",
        ),
        ("/v1/responses", "\"sequence_number\":6,\"type\":\"response.output_text.delta\"}\n\n\r\n"),
        ("/v1/messages", "\"delta\":{\"type\":\"text_delta\",\"text\":\" connection\"}}\n\n\r\n"),
    ];
    for (path, end) in cases {
        ollama.once_on(path, Fault::RunnerDies { tokens: 3 });
        let mut connection = send(&ollama, path, stream).await;
        let answer = read_chunked(&mut connection).await;
        let body = answer.strip_suffix("0\r\n\r\n").unwrap();
        assert!(body.ends_with(end), "{path}: {answer}");
        // The connection can be used again: framing shows nothing.
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(to_end(&mut connection).await.ends_with(b"Ollama is running"));
        ollama.once_on(path, Fault::GivesUp { tokens: 3 });
        let answer = read_chunked(&mut send(&ollama, path, stream).await).await;
        assert!(
            !answer.contains("error\":\"an") && !answer.contains("[DONE]") && !answer.contains("done\":true")
        );
    }
}

#[tokio::test]
async fn recordings_are_played_byte_for_byte_in_any_cut() {
    let ollama = Ollama::start().await.unwrap();
    let bytes = recorded("0.24.0/faults/crash-chat-stream").unwrap();
    for cuts in [Cuts::Whole, Cuts::EachByte, Cuts::At(vec![1, 17, 300])] {
        ollama.order(Order::once(Fault::Play { bytes: bytes.clone(), cuts, then: Then::Close }));
        assert_eq!(to_end(&mut send(&ollama, "/api/chat", CHAT).await).await, bytes);
    }
}

#[tokio::test]
async fn a_stalled_answer_waits_and_a_peer_that_leaves_is_noticed() {
    let ollama = Ollama::start().await.unwrap();
    ollama.once_on("/api/chat", Fault::StallAfter { bytes: 0, pause: None });
    let stream = send(&ollama, "/api/chat", CHAT).await;
    ollama.until(|seen| seen.len() == 1 && seen[0].complete).await.unwrap();
    drop(stream);
    let seen = ollama.until_left("/api/chat").await.unwrap();
    assert_eq!((seen.sent, seen.answered), (0, None));
    let pause = Duration::from_millis(50);
    ollama.once_on("/api/chat", Fault::StallAfter { bytes: 200, pause: Some(pause) });
    let begin = Instant::now();
    read_chunked(&mut send(&ollama, "/api/chat", CHAT).await).await;
    assert!(begin.elapsed() >= pause);
}

#[tokio::test]
async fn a_slow_load_is_not_listed_before_it_is_over() {
    let ollama = Ollama::with(Setup::default().with_models(&["big"])).await.unwrap();
    ollama.once_on("/api/chat", Fault::SlowLoad(Duration::from_millis(60)));
    let mut chat =
        send(&ollama, "/api/chat", r#"{"model":"big","messages":[{"role":"user","content":"x"}]}"#).await;
    ollama.until(|seen| !seen.is_empty()).await.unwrap();
    let ps = async || {
        let mut stream = TcpStream::connect(ollama.addr).await.unwrap();
        stream
            .write_all(b"GET /api/ps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8(to_end(&mut stream).await).unwrap()
    };
    assert!(ps().await.ends_with(r#"{"models":[]}"#));
    read_chunked(&mut chat).await;
    assert!(ps().await.contains("big:latest"));
}

#[tokio::test]
async fn every_bad_framing_is_sent_and_the_connection_ends() {
    let ollama = Ollama::start().await.unwrap();
    for bad in BadFraming::ALL {
        ollama.once_on("/api/chat", Fault::Framing(bad));
        let answer = read(send(&ollama, "/api/chat", CHAT).await).await;
        let expected = match bad {
            BadFraming::LengthTooLong | BadFraming::LengthTooShort => "Content-Length: ",
            BadFraming::TwoLengths => "\r\nContent-Length: ",
            BadFraming::NegativeLength => "Content-Length: -1\r\n",
            BadFraming::LengthAndChunked => "\r\nTransfer-Encoding: chunked\r\n",
            BadFraming::ChunkSize => "\r\n\r\nxyz\r\n",
            BadFraming::ChunkEnd => "}\n0\r\n\r\n",
            BadFraming::NoLastChunk => "}\n\r\n",
            BadFraming::BareLf => "HTTP/1.1 200 OK\nContent-Type",
            BadFraming::Garbage => "no HTTP at all",
            BadFraming::EndlessHead => "X-More: mmm",
        };
        assert!(answer.contains(expected), "{bad:?}: {answer}");
    }
}

#[tokio::test]
async fn refusing_dropping_and_coming_back() {
    let ollama = Ollama::start().await.unwrap();
    let mut idle = send(&ollama, "/api/chat", CHAT).await;
    read_chunked(&mut idle).await;
    ollama.kill().await.unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(TcpStream::connect(ollama.addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ollama.open_connections(), 0);
    ollama.accept().await.unwrap();
    ollama.order_accept(Accept::Close);
    let mut closed = TcpStream::connect(ollama.addr).await.unwrap();
    assert_eq!(closed.read(&mut [0; 1]).await.unwrap_or(0), 0);
    read_chunked(&mut send(&ollama, "/api/chat", CHAT).await).await;
    ollama.once_on("/api/chat", Fault::CloseAfterAnswer);
    let answer = to_end(&mut send(&ollama, "/api/chat", CHAT).await).await;
    assert!(answer.ends_with(b"0\r\n\r\n") && !answer.windows(17).any(|bytes| bytes == b"Connection: close"));
    let addr = ollama.addr;
    drop(ollama);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_paused_clock_is_the_servers_too() {
    let hour = Duration::from_secs(3600);
    let ollama = Ollama::with(Setup::default().with_pace(hour)).await.unwrap();
    let (mut near, far) = tokio::io::duplex(4096);
    let serving = ollama.serve(far);
    let client = async {
        let request = format!("POST /api/chat HTTP/1.1\r\nContent-Length: {}\r\n\r\n{CHAT}", CHAT.len());
        near.write_all(request.as_bytes()).await.unwrap();
        let begin = tokio::time::Instant::now();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            near.read_buf(&mut answer).await.unwrap();
        }
        drop(near);
        begin.elapsed()
    };
    let ((), elapsed) = tokio::join!(serving, client);
    assert_eq!(elapsed.as_secs(), 9 * 3600);
}
