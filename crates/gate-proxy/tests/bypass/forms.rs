//! Forms with two readings.

use crate::rows::{Refused, all_are_refused, refused, with};

const PATH: &str = "/v1/audio/transcriptions";
const TYPE: &str = "multipart/form-data; boundary=XX";
const FILE: &str =
    "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
const DEMO: &str = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n";
const END: &str = "--XX--\r\n";

/// The head of a part that a lenient reader takes for the model.
const HEADS: &[&str] = &[
    "Content-Disposition: form-data; name=\"model\"; filename=\"m\"",
    "Content-Disposition: form-data; name*=utf-8''model",
    "Content-Disposition: form-data; name*0=\"mo\"; name*1=\"del\"",
    "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
    "Content-Disposition: form-data; name=\"mo\\del\"",
    "Content-Disposition: form-data;\r\n name=\"model\"",
    "Content-Disposition : form-data; name=\"model\"",
    "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
    "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: quoted-printable",
    "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
    "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: multipart/mixed; boundary=YY",
    "Content-Disposition: attachment; name=\"model\"",
    "Content-Disposition: form-data; name=\"model\" ; filename*=utf-8''m",
    "X-Other: 1\r\nContent-Disposition: form-data; name=\"model\"",
];

const TYPES: &[&str] = &[
    "multipart/form-data",
    "multipart/form-data; boundary=YY",
    "multipart/form-data; boundary=XX; boundary=YY",
    "multipart/form-data; boundary*=utf-8''XX",
    "multipart/form-data; charset=utf-7; boundary=XX",
    "multipart/mixed; boundary=XX",
    "application/x-www-form-urlencoded",
    "application/json",
];

#[test]
fn forms_have_one_reading() {
    let fields = |kind: &str, key: &str| format!("Authorization: Bearer {key}\r\nContent-Type: {kind}\r\n");
    let usual = fields(TYPE, "@QWEN@");
    let allowed = DEMO.replace("demo", "qwen3:8b");
    let whole = |parts: &[&str]| [parts.concat(), END.to_owned()].concat().into_bytes();
    let mut rows: Vec<Refused> = Vec::new();
    let mut row = |what: &str, path: &str, fields: &str, body: Vec<u8>, status: u16, code: &'static str| {
        rows.push(refused(what, with("POST", path, fields, &body), status, code));
    };
    for head in HEADS {
        let hidden = format!("--XX\r\n{head}\r\n\r\ndemo\r\n");
        row(
            &format!("{head} behind an allowed model"),
            PATH,
            &usual,
            whole(&[&allowed, &hidden, FILE]),
            400,
            "malformed_form",
        );
    }
    for kind in TYPES {
        row(kind, PATH, &fields(kind, "@QWEN@"), whole(&[&allowed, FILE]), 400, "malformed_form");
    }
    row("two models, the first allowed", PATH, &usual, whole(&[&allowed, DEMO, FILE]), 400, "ambiguous_body");
    row(
        "two models, the second allowed",
        PATH,
        &usual,
        whole(&[DEMO, &allowed, FILE]),
        400,
        "ambiguous_body",
    );
    row(
        "Model in capitals",
        PATH,
        &usual,
        whole(&[&allowed, &DEMO.replace("model", "MODEL")]),
        400,
        "ambiguous_body",
    );
    row("another model", PATH, &usual, whole(&[DEMO, FILE]), 403, "model_not_allowed");
    row(
        "another spelling",
        PATH,
        &usual,
        whole(&[&DEMO.replace("demo", " library/DEMO:latest "), FILE]),
        403,
        "model_not_allowed",
    );
    row(
        "a model in the cloud",
        PATH,
        &fields(TYPE, "@PLAIN@"),
        whole(&[&DEMO.replace("demo", "demo:cloud")]),
        403,
        "missing_scope",
    );
    row(
        "a stub",
        PATH,
        &fields(TYPE, "@PLAIN@"),
        whole(&[&DEMO.replace("demo", "stub")]),
        403,
        "missing_scope",
    );
    row("no model", PATH, &usual, whole(&[FILE]), 400, "model_required");
    row(
        "a model that is a path",
        PATH,
        &usual,
        whole(&[&DEMO.replace("demo", "../x")]),
        400,
        "invalid_model_name",
    );
    row(
        "a preamble with another model",
        PATH,
        &usual,
        [DEMO.replace("--XX", "--YY").as_bytes(), &whole(&[&allowed])].concat(),
        400,
        "malformed_form",
    );
    row(
        "an epilogue with another model",
        PATH,
        &usual,
        [whole(&[&allowed]), whole(&[DEMO])].concat(),
        400,
        "malformed_form",
    );
    row(
        "bare LF",
        PATH,
        &usual,
        String::from_utf8(whole(&[&allowed])).unwrap().replace("\r\n", "\n").into_bytes(),
        400,
        "malformed_form",
    );
    row(
        "blanks behind the boundary",
        PATH,
        &usual,
        String::from_utf8(whole(&[&allowed, FILE]))
            .unwrap()
            .replacen("--XX\r\n", "--XX \r\n", 1)
            .into_bytes(),
        400,
        "malformed_form",
    );
    row(
        "a boundary in a file",
        PATH,
        &usual,
        whole(&[&allowed, &FILE.replace("RIFF", "RI\n--XX\nFF")]),
        400,
        "malformed_form",
    );
    row("no end", PATH, &usual, allowed.clone().into_bytes(), 400, "malformed_form");
    row("nothing", PATH, &usual, Vec::new(), 400, "missing_body");
    row("JSON", PATH, &usual, br#"{"model":"qwen3:8b"}"#.to_vec(), 400, "malformed_form");
    row(
        "zstd",
        PATH,
        &format!("{usual}Content-Encoding: zstd\r\n"),
        whole(&[&allowed]),
        415,
        "unsupported_encoding",
    );
    row(
        "two types",
        PATH,
        &format!("{usual}Content-Type: {TYPE}\r\n"),
        whole(&[&allowed]),
        400,
        "malformed_form",
    );
    for query in ["model=demo", "a=b&model=demo", "%6dodel=demo", "MODEL=demo", "x;model=demo", "model"] {
        row(query, &format!("{PATH}?{query}"), &usual, whole(&[&allowed, FILE]), 400, "malformed_form");
    }
    assert!(rows.len() >= 45, "{}", rows.len());
    all_are_refused(&rows);
}
