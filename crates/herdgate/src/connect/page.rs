//! What a browser is told where a page of this machine asks (the CORS protocol of the Fetch standard), as Ollama tells it: the
//! gate knows nothing of such pages, and its own rules are for pages that ask the gate.

use super::body::Answer;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};

/// Seconds for which a browser may keep the answer to its question: as long as Ollama says.
const MAX_AGE: HeaderValue = HeaderValue::from_static("43200");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, retry-after");

/// Whether a browser asks what a page may do, before the page does it.
pub(super) fn is_question(head: &Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer: everything, from this origin.
pub(super) fn may_all(head: &Parts, origin: HeaderValue) -> Response<Answer> {
    let mut response = Response::new(Answer::nothing());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let fields = response.headers_mut();
    fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(asked) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    may_read(fields, origin);
    response
}

/// Lets the page read an answer.
pub(super) fn may_read(fields: &mut HeaderMap, origin: HeaderValue) {
    fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    fields.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Takes out of a request what only the browser and this door have to do with.
pub(super) fn forget(fields: &mut HeaderMap) {
    fields.remove(header::ORIGIN);
    fields.remove(header::ACCESS_CONTROL_REQUEST_METHOD);
    fields.remove(header::ACCESS_CONTROL_REQUEST_HEADERS);
}
