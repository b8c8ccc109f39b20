use super::*;
use http::Request;
use std::fs;
use tempfile::TempDir;

const CANARY: &str = "sk-hg-canary";

fn with_key(dir: &TempDir, text: &str, mode: u32) -> Access {
    use std::os::unix::fs::PermissionsExt as _;
    let file = dir.path().join("key");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    Access { key_file: Some(file), ca: None }
}

fn gate(url: &str) -> anyhow::Result<Gate> {
    let dir = TempDir::new().unwrap();
    Gate::new(url, &with_key(&dir, CANARY, 0o600))
}

fn told(result: anyhow::Result<Gate>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn a_key_is_taken_only_from_a_file_of_ones_own() {
    let dir = TempDir::new().unwrap();
    for mode in [0o600, 0o400] {
        assert!(Gate::new("http://gate:7860", &with_key(&dir, " sk-hg-canary\r\n", mode)).is_ok());
    }
    for mode in [0o644, 0o640, 0o604, 0o620] {
        let text = told(Gate::new("http://gate:7860", &with_key(&dir, CANARY, mode)));
        assert!(text.contains("others may read it\nhint: chmod 600 "), "{text}");
        assert!(!text.contains(CANARY));
    }
}

#[test]
fn a_key_is_one_word_and_never_told() {
    let dir = TempDir::new().unwrap();
    for (text, why) in [
        ("", "is empty"),
        ("\n", "is empty"),
        ("sk-hg-canary two", "blanks"),
        ("sk-hg-canary\nsk-hg-canary", "blanks"),
        ("sk-hg-canäry", "blanks"),
        (&"a".repeat(5000), "far too long"),
    ] {
        let text = told(Gate::new("http://gate:7860", &with_key(&dir, text, 0o600)));
        assert!(text.contains(why) && !text.contains(CANARY), "{text}");
    }
    let gate = gate("https://gate.example").unwrap();
    assert_eq!(format!("{gate:?}"), "Gate(https://gate.example:443)");
    assert_eq!(format!("{:?}", gate.bearer), "Sensitive");
}

#[test]
fn a_path_that_programs_add_is_not_wanted() {
    for (url, instead) in [
        ("https://gate.example/v1", "https://gate.example"),
        ("https://gate.example/v1/", "https://gate.example"),
        ("http://127.0.0.1:7860/api", "http://127.0.0.1:7860"),
        ("https://gate.example:8443/ai/v1", "https://gate.example:8443/ai"),
    ] {
        let text = told(gate(url));
        assert!(
            text.contains("which programs add") && text.ends_with(&format!("hint: write {instead}")),
            "{text}"
        );
    }
    assert!(gate("https://gate.example/ai").is_ok());
}

#[test]
fn a_url_that_is_none_is_told_with_an_example() {
    for (url, why) in [
        ("", "is empty"),
        ("gate:7860", "neither http:// nor https://"),
        ("ftp://gate", "a scheme other"),
        ("http://gate:0", "has a port"),
        ("http://gate?x", "has a query"),
    ] {
        let text = told(gate(url));
        assert!(text.contains(why) && text.contains("\nhint: write it like https://"), "{url}: {text}");
    }
    let text = told(gate("https://user:sk-hg-canary@gate"));
    assert!(
        text.contains("credentials") && text.contains("HERDGATE_KEY") && !text.contains(CANARY),
        "{text}"
    );
}

#[test]
fn only_a_key_to_another_machine_crosses_a_network_in_clear() {
    for url in
        ["http://localhost:1", "http://127.0.0.9", "http://[::1]:7860", "https://gate", "http://0.0.0.0:1"]
    {
        assert!(!gate(url).unwrap().is_in_clear(), "{url}");
    }
    for url in ["http://gate", "http://192.168.1.2:7860", "http://localhost.example"] {
        assert!(gate(url).unwrap().is_in_clear(), "{url}");
    }
}

#[test]
fn a_request_gets_the_gates_address_and_its_key_in_place_of_every_other() {
    for (url, uri) in [
        ("https://gate.example", "https://gate.example/api/chat?x=1"),
        ("http://gate:7860/ollama/", "http://gate:7860/ollama/api/chat?x=1"),
    ] {
        let mut request = Request::get("/api/chat?x=1");
        for name in ["Authorization", "x-api-key", "Proxy-Authorization", "Cookie", "X-Other"] {
            request = request.header(name, "theirs").header(name, "again");
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let path = parts.uri.path_and_query().unwrap().clone();
        gate(url).unwrap().address(&mut parts, &path).unwrap();
        assert_eq!(parts.uri, uri);
        let mut fields: Vec<_> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        fields.sort_unstable();
        let bearer = format!("Bearer {CANARY}");
        let expected: [(&str, &[u8]); 3] =
            [("authorization", bearer.as_bytes()), ("x-other", b"again"), ("x-other", b"theirs")];
        assert_eq!(fields, expected);
    }
}

#[test]
fn a_file_of_authorities_holds_certificates_and_is_for_https() {
    let dir = TempDir::new().unwrap();
    let mut access = with_key(&dir, CANARY, 0o600);
    let file = dir.path().join("ca.pem");
    access.ca = Some(file.clone());
    assert!(told(Gate::new("https://gate", &access)).contains("--ca "));
    for (text, why) in
        [("", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nx", "no certificate in PEM")]
    {
        fs::write(&file, text).unwrap();
        let text = told(Gate::new("https://gate", &access));
        assert!(text.contains(why) && text.contains("\nhint: the gate names"), "{text}");
    }
    let pair = rcgen::generate_simple_self_signed(["gate".into()]).unwrap();
    fs::write(&file, pair.cert.pem()).unwrap();
    assert!(Gate::new("https://gate", &access).is_ok());
    assert!(told(Gate::new("http://gate", &access)).contains("--ca is for https://"));
}
