//! Credentials, and header fields that other programs take for others.

use crate::rows::{Refused, all_are_refused, refused, with};

const CHAT: &[u8] = br#"{"model":"demo"}"#;
const UNKNOWN: &str = "sk-hg-000000000000000000000000000000000000000";

/// Fields, and what comes of a call with them.
const FIELDS: &[(&str, u16, &str)] = &[
    ("", 401, "no_credentials"),
    ("x-api-key:\r\n", 401, "no_credentials"),
    ("Cookie: key=@ALL@\r\n", 401, "no_credentials"),
    ("X-Auth-Token: @ALL@\r\n", 401, "no_credentials"),
    ("Authorization: @ALL@\r\n", 401, "bad_credentials_form"),
    ("Authorization: Bearer\r\n", 401, "bad_credentials_form"),
    ("Authorization: Digest @ALL@\r\n", 401, "bad_credentials_form"),
    ("Authorization: Bearer@ALL@\r\n", 401, "bad_credentials_form"),
    ("Authorization: Basic %%%\r\n", 401, "bad_credentials_form"),
    ("Authorization: Bearer @ALL@x\r\n", 401, "invalid_key"),
    ("Authorization: Bearer x@ALL@\r\n", 401, "invalid_key"),
    ("Authorization: Bearer @ALL@ @ALL@\r\n", 401, "invalid_key"),
    ("Authorization: Bearer @ALL@,@ALL@\r\n", 401, "invalid_key"),
    ("Authorization: Bearer \"@ALL@\"\r\n", 401, "invalid_key"),
    ("Authorization: Bearer @ALL@\r\nAuthorization: Bearer @ALL@\r\n", 400, "conflicting_credentials"),
    ("Authorization: Bearer @ALL@\r\nauthorization: Bearer @PLAIN@\r\n", 400, "conflicting_credentials"),
    ("Authorization: Bearer @ALL@\r\nx-api-key: @PLAIN@\r\n", 400, "conflicting_credentials"),
    ("x-api-key: @ALL@\r\nX-API-KEY: @ALL@\r\n", 400, "conflicting_credentials"),
    // Twins that a program behind a CGI-like interface takes for the real ones.
    ("Authorization: Bearer @ALL@\r\nX_Api_Key: @PLAIN@\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nContent_Length: 5\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nTransfer_Encoding: chunked\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nContent_Type: text/plain\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nX_Forwarded_For: 127.0.0.1\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nX_Request_Id: x\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nX-Forwarded_For: 127.0.0.1\r\n", 400, "bad_request"),
    ("x-api-key: @ALL@\r\nContent-Encoding: gzip\r\n", 415, "unsupported_encoding"),
    (
        "x-api-key: @ALL@\r\nContent-Encoding: identity\r\ncontent-encoding: zstd\r\n",
        415,
        "unsupported_encoding",
    ),
    ("x-api-key: @ALL@\r\nExpect: 100-continue, x\r\n", 417, "expectation_failed"),
];

#[test]
fn credentials_and_fields() {
    let mut rows: Vec<Refused> = FIELDS
        .iter()
        .map(|(fields, status, code)| {
            refused(*fields, with("POST", "/api/chat", fields, CHAT), *status, code)
        })
        .collect();
    for path in ["/api/tags?key=@ALL@", "/api/tags?api_key=@ALL@&x-api-key=@ALL@", "/v1/models?token=@ALL@"] {
        rows.push(refused(path, with("GET", path, "", b""), 401, "no_credentials"));
    }
    for path in ["/api/chat", "/api/generate", "/v1/messages", "/v1/chat/completions"] {
        let fields = format!("Authorization: Bearer {UNKNOWN}\r\n");
        rows.push(refused(
            format!("an unknown key at {path}"),
            with("POST", path, &fields, CHAT),
            401,
            "invalid_key",
        ));
    }
    assert!(rows.len() >= 35, "{}", rows.len());
    all_are_refused(&rows);
}
