//! What the fuzz targets check: the properties that the tests of each crate check too, from the same file.

#[path = "../../crates/gate-h1/tests/wire/property.rs"]
mod property;

/// Any bytes as a connection full of HTTP/1.1 requests.
pub fn h1_request(bytes: &[u8]) {
    property::requests(bytes);
}

/// Any bytes as a connection full of HTTP/1.1 responses, to GET and to HEAD.
pub fn h1_response(bytes: &[u8]) {
    property::responses(bytes);
}

/// Any bytes as a chunked body, cut in several ways.
pub fn h1_body(bytes: &[u8]) {
    property::bodies(bytes);
}
