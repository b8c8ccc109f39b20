//! The life of one request: let in, given the key, sent, answered. What the gate says passes as it comes; our own words are
//! only for what the gate never heard of, in the dialect of the route.
//!
//! A request is sent again where the gate surely did nothing with it: nothing was sent, or it said so (RFC 9113, 6.8 and 8.7).
//! One that broke off without a word is sent again only if it reads.

use super::House;
use super::body::{Answer, Rest, Upload};
use super::door::{Guest, Stranger};
use super::page;
use super::wire::Outlet;
use crate::client::NoWay;
use bytes::Bytes;
use gate_types::Scope;
use gate_wire::{Class, Found, GateError, Reason};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::error::Error;

/// How often a request is sent at most.
const SENDS: usize = 3;
/// Fields that are of one connection alone (RFC 9110, 7.6.1), and those that HTTP/2 has no place for (RFC 9113, 8.2.2).
const OF_ONE_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes a request and gives its answer. Dropping this, or the answer, takes the request back at the gate.
pub(super) async fn pass(house: &House, request: Request<Incoming>, outlet: Outlet) -> Response<Answer> {
    let is_http10 = request.version() == Version::HTTP_10;
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let asked = Asked { method: head.method.clone(), path };
    let guest = match house.door.admit(&head) {
        Ok(guest) => guest,
        Err(stranger) => return refuse(house, &asked, stranger),
    };
    if !asked.path.as_str().starts_with('/') || asked.method == Method::CONNECT {
        let what = "the request target is not a path";
        return own(&asked, &GateError::new(Reason::BadRequest).saying(what));
    }
    let origin = match guest {
        Guest::Program => None,
        Guest::Page(origin) if page::is_question(&head) => return page::may_all(&head, origin),
        Guest::Page(origin) => Some(origin),
    };
    page::forget(&mut head.headers);
    let mut response = match prepare(house, &mut head, &asked) {
        Ok(()) => ask(house, &asked, &head, body).await.unwrap_or_else(|error| own(&asked, &error)),
        Err(_) => own(&asked, &GateError::new(Reason::BadRequest).saying("the request target is not a path")),
    };
    // To HTTP/1.0 nothing but its length, or the end of the connection, tells the end of an answer.
    let ends_with_connection = is_http10 && !response.headers().contains_key(header::CONTENT_LENGTH);
    response.body_mut().goes_out_by(outlet, ends_with_connection);
    if let Some(origin) = origin {
        page::may_read(response.headers_mut(), origin);
    }
    response
}

/// Asks the gate once at the start, so that what is wrong is said before a program meets it.
pub(super) async fn look(house: &House) {
    let asked = Asked { method: Method::HEAD, path: PathAndQuery::from_static("/api/tags") };
    let name = concat!("herdgate-connect/", env!("CARGO_PKG_VERSION"));
    let request = Request::head("/").header(header::USER_AGENT, name).body(());
    let Ok((mut head, ())) = request.map(Request::into_parts) else { return };
    if prepare(house, &mut head, &asked).is_err() {
        return;
    }
    if let Ok(response) = send(house, &asked, &head, Upload::none()).await {
        house.voice.looked(response.status());
    }
}

/// What was asked for, for words about it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
}

fn prepare(house: &House, head: &mut Parts, asked: &Asked) -> Result<(), http::Error> {
    let takes_trailers = head.headers.get(header::TE).is_some_and(|te| te.as_bytes() == b"trailers");
    drop_of_one_connection(&mut head.headers);
    for name in [header::HOST, header::EXPECT, header::TE] {
        head.headers.remove(name);
    }
    if takes_trailers {
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    head.version = Version::HTTP_11;
    house.gate.address(head, &asked.path)
}

async fn ask(
    house: &House,
    asked: &Asked,
    head: &Parts,
    body: Incoming,
) -> Result<Response<Answer>, GateError> {
    let mut response = send(house, asked, head, Upload::new(body)).await?;
    drop_of_one_connection(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    house.voice.answered(asked, response.status());
    Ok(response)
}

/// Sends, and sends again where that is right.
async fn send(
    house: &House,
    asked: &Asked,
    head: &Parts,
    (body, rest): (Upload, Rest),
) -> Result<Response<Answer>, GateError> {
    let mut body = Some(body);
    for left in (0..SENDS).rev() {
        let mut link = match house.line.link().await {
            Some(Ok(link)) => link,
            Some(Err(no_way)) => return Err(unreachable(house, &no_way)),
            None => return Err(GateError::new(Reason::ShuttingDown)),
        };
        let Some(upload) = body.take() else { break };
        let failed = match link.send(Request::from_parts(head.clone(), upload)).await {
            Ok(response) => {
                house.voice.reached(link.share().is_none());
                return Ok(response.map(|body| Answer::passed(body, link)));
            }
            Err(failed) => failed,
        };
        if left > 0 {
            body = match failed.unsent {
                Some(request) => Some(request.into_body()),
                None if is_no_http2(&failed.error) && !house.gate.url().tls => {
                    house.line.fall_back();
                    rest.again()
                }
                None if was_left_undone(&failed.error) || only_reads(asked) => rest.again(),
                None => None,
            };
        }
        if body.is_none() {
            return Err(broken(house, &failed.error));
        }
    }
    Err(GateError::new(Reason::UpstreamFailed))
}

/// Whether the gate told that it did nothing with the request: it takes its leave, or is too busy.
fn was_left_undone(error: &hyper::Error) -> bool {
    let Some(error) = of_h2(error) else { return false };
    let is_leave = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (is_leave || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether the other side answered what is no HTTP/2: then it understood nothing of the request either.
fn is_no_http2(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(|error| error.is_library() && !error.is_remote())
}

fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// Whether asking twice is the same as asking once.
fn only_reads(asked: &Asked) -> bool {
    match gate_wire::find(asked.method.as_str(), asked.path.path()) {
        Found::Route(route, _) => matches!(route.class, Class::Public(_) | Class::Needs(Scope::Read)),
        Found::WrongMethod { .. } | Found::Unknown(_) => false,
    }
}

fn unreachable(house: &House, no_way: &NoWay) -> GateError {
    GateError::new(Reason::UpstreamUnreachable).saying(format!("the gate at {}: {no_way}", house.gate.url()))
}

fn broken(house: &House, error: &hyper::Error) -> GateError {
    let url = house.gate.url();
    if is_no_http2(error) || error.is_parse() {
        house.voice.not_a_gate(error);
        let text = format!("what answers at {url} does not speak HTTP; is that a gate?");
        return GateError::new(Reason::UpstreamFailed).saying(text);
    }
    house.voice.broke_off(error);
    GateError::new(Reason::UpstreamFailed).saying(format!(
        "the connection to the gate at {url} ended without an answer; it may have done what was asked"
    ))
}

fn refuse(house: &House, asked: &Asked, stranger: Stranger) -> Response<Answer> {
    house.voice.refused(stranger);
    own(asked, &GateError::new(Reason::OriginNotAllowed).saying(stranger.text()))
}

/// An answer of our own.
fn own(asked: &Asked, error: &GateError) -> Response<Answer> {
    let dialect = gate_wire::routes::dialect_of(asked.path.path());
    let rendered = gate_wire::render(dialect, error, None);
    let mut response = Response::new(Answer::Own(Some(Bytes::from(rendered.body))));
    *response.status_mut() = StatusCode::from_u16(rendered.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(rendered.content_type));
    for (name, value) in rendered.fields {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.insert(name, value);
        }
    }
    response
}

/// Takes out what is between two neighbours alone, also what `Connection` names.
fn drop_of_one_connection(fields: &mut HeaderMap) {
    let values = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        values.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        fields.remove(name);
    }
}
