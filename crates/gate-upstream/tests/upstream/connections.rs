//! Which connection a request goes over: reuse, death between and within requests, refusals, and leaving.

use std::time::{Duration, Instant};

use gate_types::UpstreamId;
use gate_upstream::{Ask, Client, ClientLimits, Counts, Endpoint, Tls, UpstreamError};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::played::{self, GET, ID, Played, Then, body};
use crate::scripted::{Step, client, closed_port, serve, signal};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn get(client: &Client) -> Result<Vec<u8>, UpstreamError> {
    client.send(ID, &GET).await?.read_all(1 << 20).await
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let requests = || [Step::Request, Step::Send(OK)];
    let script = [requests(), requests(), requests()].into_iter().flatten().chain([Step::Gone]).collect();
    let server = serve(vec![script]);
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(get(&client).await.unwrap(), b"ok");
        assert_eq!(client.idle(ID), 1);
    }
    assert_eq!(client.counts(ID), Counts { opened: 1, reused: 2, retried: 0 });
    let expected = format!("GET /api/tags HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port);
    drop(client);
    assert_eq!(String::from_utf8(server.saw().remove(0).bytes).unwrap(), expected.repeat(3));
}

#[tokio::test]
async fn two_at_once_take_two_connections_and_both_are_kept() {
    let script = || vec![Step::Request, Step::Send(OK), Step::Gone];
    let server = serve(vec![script(), script()]);
    let client = server.client();
    let first = client.send(ID, &GET).await.unwrap();
    assert_eq!(client.idle(ID), 0);
    let second = client.send(ID, &GET).await.unwrap();
    assert_eq!(first.read_all(9).await.unwrap(), b"ok");
    assert_eq!(second.read_all(9).await.unwrap(), b"ok");
    assert_eq!(client.idle(ID), 2);
    drop(client);
    server.saw();
}

#[tokio::test]
async fn a_connection_closed_after_its_answer_costs_the_next_request_nothing() {
    let script = || vec![Step::Request, Step::Send(OK)];
    let server = serve(vec![script(), script(), script()]);
    let client = server.client();
    for opened in 1..=3 {
        assert_eq!(get(&client).await.unwrap(), b"ok");
        assert_eq!(client.counts(ID).opened, opened);
    }
    server.saw();
}

#[tokio::test]
async fn a_reused_connection_that_dies_as_we_send_is_replaced_once() {
    let dying = || vec![Step::Request, Step::Send(OK), Step::Request];
    let server = serve(vec![dying(), vec![Step::Request, Step::Send(OK), Step::Gone]]);
    let client = server.client();
    assert_eq!(get(&client).await.unwrap(), b"ok");
    assert_eq!(get(&client).await.unwrap(), b"ok");
    assert_eq!(client.counts(ID), Counts { opened: 2, reused: 1, retried: 1 });
    drop(client);
    server.saw();

    // The fresh one dies as well: told, not tried again.
    let server = serve(vec![dying(), vec![Step::Request]]);
    let client = server.client();
    assert_eq!(get(&client).await.unwrap(), b"ok");
    let error = get(&client).await.unwrap_err();
    assert!(matches!(error, UpstreamError::ClosedEarly { .. }), "{error}");
    assert!(error.before_first_byte() && !error.is_connect());
    assert_eq!(client.counts(ID), Counts { opened: 2, reused: 1, retried: 1 });
    server.saw();
}

#[tokio::test]
async fn what_must_not_be_sent_twice_goes_over_a_fresh_connection_and_is_not_tried_again() {
    let server = serve(vec![vec![Step::Request, Step::Send(OK), Step::Gone], vec![Step::Request]]);
    let client = server.client();
    assert_eq!(get(&client).await.unwrap(), b"ok");
    let error = client.send_once(ID, &GET).await.err().unwrap();
    assert!(matches!(error, UpstreamError::ClosedEarly { .. }), "{error}");
    assert_eq!(client.counts(ID), Counts { opened: 2, reused: 0, retried: 0 });
    assert_eq!(client.idle(ID), 1, "the connection that was kept is for others");
    drop(client);
    server.saw();
}

#[tokio::test]
async fn a_reused_connection_that_dies_within_the_head_is_not_asked_again() {
    let server =
        serve(vec![vec![Step::Request, Step::Send(OK), Step::Request, Step::Send("HTTP/1.1 200 OK\r\nA:")]]);
    let client = server.client();
    assert_eq!(get(&client).await.unwrap(), b"ok");
    let error = get(&client).await.unwrap_err();
    assert!(matches!(error, UpstreamError::ClosedMidHead { .. }), "{error}");
    assert!(!error.before_first_byte());
    assert_eq!(client.counts(ID).retried, 0);
    server.saw();
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_dies_at_work_is_not_given_the_same_request_again() {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let once = std::cell::RefCell::new(Some(near));
    let endpoint = Endpoint::new(false, "127.0.0.1", 11434, "").unwrap();
    let client = Client::over(
        vec![endpoint],
        ClientLimits::default(),
        std::rc::Rc::new(move |_| Ok(Box::new(once.take().ok_or(std::io::ErrorKind::ConnectionRefused)?))),
    );
    let server = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut scratch = [0; 1024];
        assert!(far.read(&mut scratch).await.unwrap() > 0);
        far.write_all(OK.as_bytes()).await.unwrap();
        assert!(far.read(&mut scratch).await.unwrap() > 0);
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(far);
    };
    let asking = async {
        assert_eq!(get(&client).await.unwrap(), b"ok");
        get(&client).await.unwrap_err()
    };
    let ((), error) = tokio::join!(server, asking);
    assert!(matches!(error, UpstreamError::ClosedEarly { .. }), "{error}");
    assert_eq!(client.counts(ID).retried, 0);
}

#[tokio::test]
async fn a_refused_connection_is_told_with_the_endpoint() {
    let port = closed_port();
    let client = client(port);
    let error = get(&client).await.unwrap_err();
    assert!(error.is_connect() && error.before_first_byte());
    assert_eq!(error.to_string(), format!("http://127.0.0.1:{port}: cannot connect: connection refused"));
}

#[tokio::test]
async fn an_unknown_number_is_an_error() {
    let error = client(closed_port()).send(UpstreamId(7), &GET).await.err().unwrap();
    assert_eq!(error.to_string(), "no upstream has the number 7");
}

#[tokio::test]
async fn leaving_in_mid_body_closes_the_servers_socket() {
    let server = serve(vec![vec![
        Step::Request,
        Step::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        Step::Gone,
    ]]);
    let client = server.client();
    let mut answer = client.send(ID, &GET).await.unwrap();
    let reading = timeout(Duration::from_millis(1), body(&mut answer, 64)).await;
    assert!(reading.is_err(), "the body has no end");
    let left = Instant::now();
    drop(answer);
    let gone = server.saw()[0].gone.unwrap();
    assert!(gone.saturating_duration_since(left) < Duration::from_secs(2));
    assert_eq!(client.idle(ID), 0);
}

#[tokio::test]
async fn leaving_before_the_head_closes_the_servers_socket() {
    // On a fresh connection and on a reused one, while a model loads.
    for before in [0, 1] {
        let mut script = Vec::new();
        for _ in 0..before {
            script.extend([Step::Request, Step::Send(OK)]);
        }
        script.extend([Step::Request, Step::Gone]);
        let server = serve(vec![script]);
        let client = server.client();
        for _ in 0..before {
            assert_eq!(get(&client).await.unwrap(), b"ok");
        }
        assert!(timeout(Duration::from_millis(50), client.send(ID, &GET)).await.is_err());
        let left = Instant::now();
        let gone = server.saw()[0].gone.unwrap();
        assert!(gone.saturating_duration_since(left) < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn an_answer_that_comes_bit_by_bit_is_handed_on_bit_by_bit() {
    let (go_on, told) = signal();
    let server = serve(vec![vec![
        Step::Request,
        Step::Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"),
        Step::Wait(told),
        Step::Send("3\r\ntwo\r\n0\r\n\r\n"),
        Step::Gone,
    ]]);
    let client = server.client();
    let mut answer = client.send(ID, &GET).await.unwrap();
    let mut scratch = [0; 64];
    let mut pieces = Vec::new();
    let mut seen = Vec::new();
    while seen != b"one" {
        std::future::poll_fn(|cx| answer.poll_wire(cx, &mut scratch, &mut pieces)).await.unwrap();
        for piece in &pieces {
            seen.extend_from_slice(&scratch[piece.clone()]);
        }
    }
    go_on();
    assert_eq!(body(&mut answer, 64).await.unwrap().1, b"two");
    assert_eq!(client.idle(ID), 1);
    drop((answer, client));
    server.saw();
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_for_too_long_is_swept() {
    let (stream, seen) = Played::new([OK.as_bytes().to_vec()], Then::Silence);
    let client = played::client([stream]);
    assert_eq!(get(&client).await.unwrap(), b"ok");
    tokio::time::advance(Duration::from_secs(59)).await;
    client.sweep();
    assert!(!seen.borrow().closed);
    tokio::time::advance(Duration::from_secs(1)).await;
    client.sweep();
    assert!(seen.borrow().closed);
    assert_eq!(client.idle(ID), 0);
}

#[tokio::test]
async fn a_base_path_stands_before_every_path() {
    let server = serve(vec![vec![Step::Request, Step::Send(OK), Step::Gone]]);
    let endpoint = Endpoint::new(false, "localhost", server.port, "/ollama/").unwrap();
    let client = Client::new(vec![endpoint], Tls::system(), ClientLimits::default());
    let ask = Ask { method: "POST", path: "/api/show", fields: &[("X-A", "b")], body: b"{}" };
    assert_eq!(client.send(ID, &ask).await.unwrap().read_all(9).await.unwrap(), b"ok");
    let port = server.port;
    drop(client);
    assert_eq!(
        String::from_utf8(server.saw().remove(0).bytes).unwrap(),
        format!(
            "POST /ollama/api/show HTTP/1.1\r\nHost: localhost:{port}\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    );
}

#[test]
fn what_waits_is_small() {
    // Thousands of these wait at once; each lies within the future of its request.
    let client = client(1);
    assert!(size_of_val(&client.send(ID, &GET)) <= 512, "{}", size_of_val(&client.send(ID, &GET)));
    assert!(size_of::<gate_upstream::Answer>() <= 256, "{}", size_of::<gate_upstream::Answer>());
}

#[tokio::test]
async fn a_request_that_is_given_up_half_sent_is_not_fed_to_the_upstream() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new(false, "127.0.0.1", listener.local_addr().unwrap().port(), "").unwrap();
    let client = Client::new(vec![endpoint], Tls::system(), ClientLimits::default());
    let body = vec![b'x'; 32 << 20];
    let ask = Ask { method: "POST", path: "/", fields: &[], body: &body };
    let begun = async {
        let (mut upstream, _) = listener.accept().await.unwrap();
        upstream.read_u8().await.unwrap();
        upstream
    };
    let mut upstream = tokio::select! {
        _ = client.send(ID, &ask) => panic!("nobody answers"),
        upstream = begun => upstream,
    };
    let ended = upstream.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
