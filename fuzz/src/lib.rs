//! What the fuzz targets check: the properties that the tests of each crate check too, from the same file.

#[path = "../../crates/gate-config/tests/fuzzed/property.rs"]
mod config;
#[path = "../../crates/gate-keys/tests/credentials/property.rs"]
mod credentials;
#[path = "../../crates/gate-wire/tests/forms/property.rs"]
mod forms;
#[path = "../../crates/gate-keys/tests/parsed/property.rs"]
mod parsed;
#[path = "../../crates/gate-h1/tests/wire/property.rs"]
mod property;
#[path = "../../crates/gate-h1/tests/wire/proxy.rs"]
mod proxy;
#[path = "../../crates/gate-wire/tests/fuzzed/tee.rs"]
mod tee;
#[path = "../../crates/gate-wire/tests/fuzzed/property.rs"]
mod wire;

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

/// Any bytes as the beginning of a proxy's connection.
pub fn h1_proxy(bytes: &[u8]) {
    proxy::header(bytes);
}

/// Any bytes as the body of a JSON call, to each route that takes one.
pub fn wire_request(bytes: &[u8]) {
    wire::request(bytes);
}

/// Any bytes as the data of an answer, cut in several ways.
pub fn wire_tee(bytes: &[u8]) {
    tee::tee(bytes);
}

/// Any bytes as a form: its Content-Type in the first line, its body behind that.
pub fn wire_multipart(bytes: &[u8]) {
    forms::form(bytes);
}

/// Any bytes as the target and the `Authorization` of a request.
pub fn keys_credential(bytes: &[u8]) {
    credentials::credential(bytes);
}

/// Any bytes where somebody writes about keys: key, public key, digest, name, pattern, span of time.
pub fn keys_parse(bytes: &[u8]) {
    parsed::text(bytes);
}

/// Any bytes as a settings file.
pub fn config_settings(bytes: &[u8]) {
    config::settings(bytes);
}

/// Any bytes as the value of `OLLAMA_HOST`.
pub fn config_ollama_host(bytes: &[u8]) {
    config::host(bytes);
}
