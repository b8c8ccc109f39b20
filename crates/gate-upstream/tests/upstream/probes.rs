//! What the look at an upstream finds, and what it tells an operator when it finds something else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use gate_upstream::probe::{self, ModelEntry, probe};
use gate_upstream::{Client, ClientLimits, Endpoint, Tls, Transport};

use crate::played::{ID, Played, Then, client};
use crate::scripted;

const GONE: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// A client whose connection gives these answers, one per request.
fn answering(answers: &[&[u8]]) -> Client {
    client(answers.iter().map(|answer| Played::new([answer.to_vec()], Then::End).0))
}

fn json(body: &str) -> Vec<u8> {
    // Closed after each: every request gets the next stream.
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn closing(golden: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(golden.to_vec()).unwrap();
    text.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}

async fn reason(answer: &str) -> String {
    probe::version(&answering(&[answer.as_bytes()]), ID, None).await.unwrap_err().to_string()
}

#[tokio::test]
async fn both_versions_are_understood() {
    let version = closing(include_bytes!("../golden/v0.24.0/version-get.res"));
    let tags = closing(include_bytes!("../golden/v0.24.0/tags-several.res"));
    let ps = closing(include_bytes!("../golden/v0.24.0/ps-loaded.res"));
    let found = probe(&answering(&[&version, &tags, &ps]), ID).await;
    assert_eq!(found.version.unwrap(), "0.24.0");
    let models = found.models.unwrap();
    assert_eq!(
        models[0],
        ModelEntry {
            name: "demo:latest".into(),
            size: 967_783,
            digest: "aaae8fdf0d61dfb6237ae33259eb51ef19733f73696339dd534ce5f92249f6d9".into(),
            is_stub: false,
        }
    );
    assert_eq!(models.len(), 3);
    assert_eq!(found.loaded.unwrap(), ["demo:latest"]);

    let tags = closing(include_bytes!("../golden/v0.32.15/tags-several.res"));
    let models = probe::models(&answering(&[&tags]), ID, None).await.unwrap();
    let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["demo:latest", "puppet:latest", "user/demo-fim:latest"]);
}

#[tokio::test]
async fn what_stands_for_a_model_elsewhere_is_seen() {
    let body = json(
        r#"{"models":[{"name":"a","remote_host":"https://ollama.com:443","remote_model":"a"},{"name":"b","remote_host":""},{"name":"c","remote_model":"x"},{"name":"d","remote_host":null}]}"#,
    );
    let models = probe::models(&answering(&[&body]), ID, None).await.unwrap();
    assert_eq!(models.iter().map(|model| model.is_stub).collect::<Vec<_>>(), [true, false, true, false]);
}

#[tokio::test]
async fn listings_with_less_or_more_than_usual_are_read() {
    for (listing, names) in [
        (r#"{"models":null}"#, &[][..]),
        (r#"{"models":[]}"#, &[]),
        (r#"{"else":1}"#, &[]),
        (r#"{"models":[{"model":"a"},{"name":"b","size":null,"new":{"x":[1]}},{"size":1}]}"#, &["a", "b"]),
        (r#"{"models":[{"name":"\u001b[2Ja"},{"name":"\u202eb"},{"name":"c","digest":"\n"}]}"#, &["c"]),
    ] {
        let body = json(listing);
        let models = probe::models(&answering(&[&body]), ID, None).await.unwrap();
        assert_eq!(models.iter().map(|model| &model.name).collect::<Vec<_>>(), names, "{listing}");
        assert_eq!(probe::loaded(&answering(&[&body]), ID, None).await.unwrap(), names, "{listing}");
    }
}

#[tokio::test]
async fn a_listing_that_fails_is_not_an_empty_one() {
    let version = json(r#"{"version":"0.32.15"}"#);
    let found = probe(&answering(&[&version, GONE.as_bytes(), &json("[")]), ID).await;
    assert_eq!(found.version.unwrap(), "0.32.15");
    assert_eq!(found.models.unwrap_err().as_str(), "not an Ollama: answered 404 to /api/tags");
    assert_eq!(found.loaded.unwrap_err().as_str(), "its answer to /api/ps is no listing (column 1)");
}

#[tokio::test]
async fn an_operator_reads_what_to_do() {
    let head = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    for (answer, expected) in [
        (GONE.to_owned(), "not an Ollama: answered 404 to /api/version"),
        (head("403 Forbidden"), "answers 403 to /api/version: its Host check refuses \"127.0.0.1\""),
        (head("401 Unauthorized"), "it wants a credential; give one in its [[upstream]]"),
        (head("308 Permanent Redirect"), "give the address that it redirects to"),
        (head("502 Bad Gateway"), "answers 502 to /api/version"),
        (head("400 Bad Request"), "does it want https?"),
        ("\x15\x03\x01\0\x02\x02\x46".to_owned(), "not an Ollama: this is not HTTP/1; does it want https?"),
        ("SSH-2.0-x\r\n\r\n".to_owned(), "not an Ollama: malformed status line"),
        (String::new(), "closed the connection without an answer to /api/version; does it want https?"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_owned(), "in the middle of its answer"),
        (
            String::from_utf8(json("<html>")).unwrap(),
            "not an Ollama: its answer to /api/version holds no version",
        ),
        (String::from_utf8(json(r#"{"version":"\u001b]0;x"}"#)).unwrap(), "holds no version"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{".to_owned(),
            "its answer to /api/version is longer than 8388608 bytes",
        ),
    ] {
        let said = reason(&answer).await;
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains('\n') && !said.contains('\u{1b}'), "{said}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_once_for_all() {
    let client = scripted::client(scripted::closed_port());
    let found = probe(&client, ID).await;
    let reason = "connection refused: is Ollama running there?";
    assert_eq!(found.version.unwrap_err().as_str(), reason);
    assert_eq!(found.models.unwrap_err().as_str(), reason);
    assert_eq!(found.loaded.unwrap_err().as_str(), reason);
    // One that is no Ollama is not missed as one.
    let other = probe::reach(&client, ID, false).await;
    assert_eq!(other.version.unwrap_err().as_str(), "connection refused: nobody listens there");
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_given_up_on_and_left() {
    let (stream, seen) = Played::new([], Then::Silence);
    let started = tokio::time::Instant::now();
    let said = probe::version(&client([stream]), ID, None).await.unwrap_err();
    assert_eq!(said.as_str(), "no answer to /api/version within 5 s");
    assert_eq!(started.elapsed(), probe::TIME_LIMIT);
    assert!(seen.borrow().closed);
}

#[tokio::test]
async fn what_is_asked_names_no_caller() {
    let (stream, seen) = Played::new([json(r#"{"version":"1"}"#)], Then::Silence);
    let streams = RefCell::new(VecDeque::from([stream]));
    let endpoint = Endpoint::new(false, "gpu1", 11434, "/x").unwrap();
    let client = Client::over(
        vec![endpoint],
        ClientLimits::default(),
        Rc::new(move |_| {
            let stream = streams.borrow_mut().pop_front().ok_or(io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        }),
    );
    assert_eq!(probe::version(&client, ID, Some("0a")).await.unwrap(), "1");
    assert_eq!(
        String::from_utf8(seen.borrow().bytes.clone()).unwrap(),
        "GET /x/api/version HTTP/1.1\r\nHost: gpu1:11434\r\nAccept: application/json\r\nUser-Agent: herdgate\r\n\
         Herdgate-Hops: 0a\r\n\r\n"
    );
}

#[tokio::test]
async fn https_to_a_plain_server_says_so() {
    let server = scripted::serve(vec![vec![scripted::Step::Send("HTTP/1.1 400 Bad Request\r\n\r\n")]]);
    let endpoint = Endpoint::new(true, "127.0.0.1", server.port, "").unwrap();
    let roots = gate_upstream::config_with(rustls::RootCertStore::empty()).unwrap();
    let client = Client::new(vec![endpoint], Tls::with(roots), ClientLimits::default());
    let said = probe::version(&client, ID, None).await.unwrap_err();
    assert_eq!(said.as_str(), "no TLS is spoken there: Ollama itself wants http, not https");
    server.saw();
}
