//! What is sent to one upstream alone, and its change while connections stay.

use gate_upstream::probe::{probe, reach};
use gate_upstream::{Access, Client, ClientLimits, Endpoint, Tls};

use crate::played::{GET, ID};
use crate::scripted::{Scripted, Step, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn ask(client: &Client) {
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(9).await.unwrap(), b"ok");
}

fn with(value: &str) -> Access {
    Access::default().with_fields([("Authorization", value)]).unwrap()
}

/// What each connection was asked, as text.
fn asked(server: Scripted) -> Vec<String> {
    server.saw().into_iter().map(|saw| String::from_utf8(saw.bytes).unwrap()).collect()
}

#[tokio::test]
async fn a_credential_goes_along_and_another_one_needs_no_other_connection() {
    let mut script: Vec<Step> = (0..3).flat_map(|_| [Step::Request, Step::Send(OK)]).collect();
    script.push(Step::Gone);
    let server = serve(vec![script]);
    let client = server.client();
    ask(&client).await;
    client.roster().set_access(ID, with("Bearer one"));
    client.refresh();
    ask(&client).await;
    client.roster().set_access(ID, with("Bearer two"));
    client.refresh();
    client.refresh();
    ask(&client).await;
    assert_eq!((client.counts(ID).opened, client.counts(ID).reused), (1, 2));
    drop(client);
    let asked = asked(server).concat();
    let heads: Vec<&str> = asked.split("\r\n\r\n").collect();
    assert!(!heads[0].contains("Authorization"), "{asked}");
    assert!(heads[1].ends_with("\r\nAuthorization: Bearer one"), "{asked}");
    assert!(heads[2].ends_with("\r\nAuthorization: Bearer two"), "{asked}");
}

#[tokio::test]
async fn other_certificates_need_other_connections_and_answers_end_on_their_own() {
    let script = || vec![Step::Request, Step::Send(OK), Step::Gone];
    let server = serve(vec![script(), script()]);
    let client = server.client();
    let answer = client.send(ID, &GET).await.unwrap();
    client.roster().set_access(ID, Access::default().with_tls(Some(Tls::own(None, None))));
    client.refresh();
    // Its connection was made the old way, and is not kept for the new one.
    assert_eq!(answer.read_all(9).await.unwrap(), b"ok");
    assert_eq!(client.idle(ID), 0);
    ask(&client).await;
    assert_eq!((client.counts(ID).opened, client.counts(ID).reused), (2, 0));
    drop(client);
    assert_eq!(asked(server).len(), 2);
}

#[tokio::test]
async fn a_probe_brings_a_mark_and_learns_whether_a_gate_answers() {
    let mut marks = std::collections::HashSet::new();
    for (answers, is_gate) in [
        ("HTTP/1.1 200 OK\r\nHerdgate-Hops: gate\r\nContent-Length: 2\r\n\r\n{}", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false),
    ] {
        let server = serve(vec![vec![Step::Request, Step::Send(answers), Step::Gone]]);
        let client = server.client();
        assert!(client.roster().is_gate(ID), "nobody knows yet");
        let found = probe(&client, ID).await;
        assert!(!found.leads_back && found.version.is_err());
        assert_eq!(client.roster().is_gate(ID), is_gate);
        drop(client);
        let asked = asked(server);
        let mark = asked[0].lines().find_map(|line| line.strip_prefix("Herdgate-Hops: ")).unwrap();
        assert!(
            gate_upstream::Mark::read(mark).is_some() && marks.insert(mark.to_owned()),
            "a new one each time"
        );
    }
}

#[tokio::test]
async fn one_that_is_no_ollama_is_there_while_it_answers_whatever_it_says() {
    for answers in [
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 501 Unsupported method\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = serve(vec![vec![Step::Request, Step::Send(answers), Step::Gone]]);
        let client = server.client();
        let found = reach(&client, ID, false).await;
        assert!(found.is_other && !found.leads_back && found.version.is_err(), "{found:?}");
        drop(client);
        let asked = asked(server);
        assert!(asked.len() == 1 && asked[0].starts_with("HEAD / HTTP/1.1\r\n"), "{asked:?}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint::new(false, "127.0.0.1", nobody.port(), "").unwrap();
    let client = Client::new(vec![endpoint], Tls::system(), ClientLimits::default());
    let found = reach(&client, ID, false).await;
    assert!(!found.is_other && found.version.unwrap_err().as_str().starts_with("connection refused"));
}

#[tokio::test]
async fn who_takes_connections_and_gives_no_answer_is_down() {
    // What a TLS port says to a request in clear: an alert, or nothing.
    for (says, told) in [
        ("", "accepts connections and closes them without an answer to /; does it want https?"),
        ("\x15\x03\x03\0\x02\x02\x16", "its answer to / is no HTTP: "),
        ("HTTP/1.1 200 OK\r\nContent-", "closed the connection in the middle of its answer to /"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            "answered / with 101 Switching Protocols",
        ),
    ] {
        let script = || match says {
            "" => vec![Step::Request],
            says => vec![Step::Request, Step::Send(says)],
        };
        let server = serve(vec![script(), script()]);
        let found = reach(&server.client(), ID, false).await;
        let reason = found.version.unwrap_err().to_string();
        assert!(!found.is_other && reason.starts_with(told), "{says:?}: {reason}");
    }
    let sockets_alone = serve(vec![vec![Step::Request]]);
    assert!(reach(&sockets_alone.client(), ID, true).await.is_other, "its routes let WebSockets pass");
}

#[tokio::test]
async fn what_came_back_while_it_was_asked_is_no_upstream() {
    let (tell, told) = crate::scripted::signal();
    let refused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let server = serve(vec![vec![Step::Request, Step::Wait(told), Step::Send(refused), Step::Gone]]);
    let client = server.client();
    client.roster().came_back(ID);
    let looks = probe(&client, ID);
    let comes = async {
        client.roster().came_back(ID);
        tell();
    };
    let (found, ()) = tokio::join!(looks, comes);
    assert!(found.leads_back);
    assert!(found.version.unwrap_err().to_string().contains("leads back to it"));
}
