//! What must hold for any bytes as a form: the property that plain tests and the fuzz target share.

#[path = "go.rs"]
pub(crate) mod go;

use gate_types::ModelName;

/// Reads `bytes`, the Content-Type in the first line and the form behind it. What is taken names the model that a Go
/// server reads. True where it is taken.
pub(crate) fn form(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (content_type, rest) = bytes.split_at(end);
    let body = rest.get(1..).unwrap_or_default();
    let Ok(facts) = gate_wire::multipart::read(content_type, body) else { return false };
    let shown = String::from_utf8_lossy(bytes);
    let theirs = go::model(content_type, body);
    assert_eq!(theirs.as_deref(), Some(&*facts.model_as_sent), "{shown}");
    assert_eq!(facts.model, ModelName::parse(&facts.model_as_sent).ok(), "{shown}");
    true
}
