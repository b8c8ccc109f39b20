//! Forms (`multipart/form-data`): what is taken, what is not, and that whatever is taken a Go server reads alike.

mod property;

use gate_types::BadName;
use gate_wire::multipart::{MAX_PART_HEAD, MAX_PARTS, query_names_model, read};
use gate_wire::{Fault, Reason};
use property::go;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=XX";

/// A form whose lines are given without their CRLF.
fn lines(lines: &[&str]) -> Vec<u8> {
    lines.join("\r\n").into_bytes()
}

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn whole(parts: &[String]) -> Vec<u8> {
    format!("{}--XX--\r\n", parts.concat()).into_bytes()
}

fn model(content_type: &str, body: &[u8]) -> Result<String, Fault> {
    read(content_type.as_bytes(), body)
        .map(|facts| facts.model.map(|model| model.short().to_owned()).unwrap_or_default())
        .map_err(|problem| problem.fault)
}

#[test]
fn what_clients_send_is_taken() {
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a b;\u{e9}.wav\"";
    let bodies: &[(&str, Vec<u8>)] = &[
        // curl, Python's requests and httpx.
        (TYPE, lines(&["--XX", "Content-Disposition: form-data; name=\"model\"", "", "demo", "--XX", file, "Content-Type: audio/wav", "", "RIFF\0\r\n--X\n-- ", "--XX--", ""])),
        // undici and browsers.
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk", b"------WebKitFormBoundary7MA4YWxk\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n------WebKitFormBoundary7MA4YWxk--\r\n".to_vec()),
        // .NET: the boundary between quotes, names without.
        ("Multipart/Form-Data; Boundary=\"XX\"", lines(&["--XX", "Content-Type: text/plain; charset=utf-8", "Content-Disposition: form-data; name=model", "", "demo", "--XX--", ""])),
        // okhttp and Guzzle.
        (TYPE, lines(&["--XX", "content-disposition: form-data; name=\"model\"", "Content-Length: 4", "Content-Transfer-Encoding: binary", "", "demo", "--XX--"])),
        (TYPE, whole(&[field("language", "de"), field("model", "DEMO:latest"), field("timestamp_granularities[]", "word"), field("timestamp_granularities[]", "segment")])),
        ("multipart/form-data ;boundary=\"a=b/c:d?e,f'()+_-.\"", b"--a=b/c:d?e,f'()+_-.\r\nContent-Disposition: form-data;name=\"model\"\r\n\r\ndemo\r\n--a=b/c:d?e,f'()+_-.--\r\n".to_vec()),
    ];
    for (content_type, body) in bodies {
        let shown = String::from_utf8_lossy(body);
        assert_eq!(model(content_type, body).as_deref(), Ok("demo:latest"), "{content_type} {shown}");
        assert_eq!(
            go::model(content_type.as_bytes(), body)
                .as_deref()
                .map(str::to_ascii_lowercase)
                .map(|model| model.replace(":latest", "")),
            Some("demo".to_owned()),
            "{shown}"
        );
    }
    let most = whole(&[vec![field("x", "y"); MAX_PARTS - 1], vec![field("model", "demo")]].concat());
    let tabbed = lines(&[
        "--XX",
        "Content-Type: text/plain;\tcharset=utf-8",
        "Content-Disposition: form-data; name=model",
        "",
        "demo",
        "--XX--",
    ]);
    let padded = whole(&[field("model", &format!("{:>1024}", "demo"))]);
    for body in [most, tabbed, padded] {
        assert_eq!(model(TYPE, &body).as_deref(), Ok("demo:latest"));
    }
    // Single quotes are part of a name, to Go as well.
    let single = lines(&["--XX", "Content-Disposition: form-data; name='model'", "", "demo", "--XX--", ""]);
    for empty in [whole(&[]), whole(&[field("model", "")]), whole(&[field("file", "model")]), single] {
        assert_eq!(model(TYPE, &empty).as_deref(), Ok(""));
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    let demo = || field("model", "demo");
    let part = |head: &str| lines(&["--XX", head, "", "demo", "--XX--", ""]);
    type IsIt = fn(&Fault) -> bool;
    let rows: Vec<(Vec<u8>, IsIt)> = vec![
        (whole(&[demo(), demo()]), |fault| matches!(fault, Fault::Twice(_))),
        (whole(&[field("model", ""), demo()]), |fault| matches!(fault, Fault::Twice(_))),
        (whole(&[field("Model", "demo")]), |fault| matches!(fault, Fault::OtherSpelling("model"))),
        (whole(&[demo(), field("MODEL", "nope")]), |fault| matches!(fault, Fault::OtherSpelling("model"))),
        (whole(&[field("model", "../x")]), |fault| *fault == Fault::BadModel(BadName::Invalid)),
        (whole(&[field("model", &"x".repeat(2000))]), |fault| *fault == Fault::BadModel(BadName::Invalid)),
        (whole(&[field("model", &format!("{:>1025}", "demo"))]), |fault| {
            *fault == Fault::BadModel(BadName::Invalid)
        }),
        (part("Content-Disposition: form-data; name=\"model\"; filename=\"m\""), is_form),
        (part("Content-Disposition: form-data; name=\"model\"; filename=\"\""), is_form),
        (part("Content-Disposition: form-data; name*=utf-8''model"), is_form),
        (part("Content-Disposition: form-data; name*0=\"mo\"; name*1=\"del\""), is_form),
        (part("Content-Disposition: form-data; name=\"x\"; name*=utf-8''model"), is_form),
        (part("Content-Disposition: form-data; name=\"x\"; filename*=utf-8''model"), is_form),
        (part("Content-Disposition: form-data; name=\"x\"; name=\"model\""), is_form),
        (part("Content-Disposition: form-data; name=\"x\"; NAME=\"model\""), is_form),
        (part("Content-Disposition: form-data; name=\"mo\\del\""), is_form),
        (part("Content-Disposition: form-data; name=\"%6dodel\""), is_form),
        (part("Content-Disposition: form-data; name=\"model\" x"), is_form),
        (part("Content-Disposition: form-data; name = \"model\""), is_form),
        (part("Content-Disposition: form-data; name=\"\""), is_form),
        (part("Content-Disposition: form-data; name=\"model"), is_form),
        (part("Content-Disposition: form-data"), is_form),
        (part("Content-Disposition: attachment; name=\"model\""), is_form),
        (
            part(
                "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
            ),
            is_form,
        ),
        (part("Content-Disposition: form-data;\r\n name=\"model\""), is_form),
        (part("Content-Disposition : form-data; name=\"model\""), is_form),
        (
            part(
                "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: quoted-printable",
            ),
            is_form,
        ),
        (
            part("Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64"),
            is_form,
        ),
        (
            part(
                "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: multipart/mixed; boundary=YY",
            ),
            is_form,
        ),
        (part("Content-Disposition: form-data; name=\"model\"\r\nX-Other: 1"), is_form),
        (part("Content-Disposition: form-data; name=\"mo\0del\""), is_form),
        (part("Content-Disposition: form-data; name=\"mo\tdel\""), is_form),
        (part("Content-Disposition: form-data; name=mo@del"), is_form),
        (part("Content-Type: audio/\u{1}wav\r\nContent-Disposition: form-data; name=\"x\""), is_form),
        (part("Content-Type: audio/wav\u{7f}\r\nContent-Disposition: form-data; name=\"x\""), is_form),
        (part("Content-Disposition: form-data; name=\"model\"\n"), is_form),
        (part("Content-Disposition: form-data; name=\"model\"\n\x0c"), is_form),
        (part("Content-Disposition: form-data;\x0c name=\"model\""), is_form),
        (part("no colon"), is_form),
        (b"preamble\r\n--XX--\r\n".to_vec(), is_form),
        ([b"\r\n".to_vec(), whole(&[demo()])].concat(), is_form),
        ([whole(&[demo()]), b"--XX\r\n".to_vec()].concat(), is_form),
        ([whole(&[demo()]), b"epilogue".to_vec()].concat(), is_form),
        (b"--XX\nContent-Disposition: form-data; name=\"model\"\n\ndemo\n--XX--\n".to_vec(), is_form),
        (
            b"--XX \r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n--XX--\r\n".to_vec(),
            is_form,
        ),
        (b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\n--XX--\r\n".to_vec(), is_form),
        (
            b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n--XXY\r\n\r\n--XX--\r\n"
                .to_vec(),
            is_form,
        ),
        (
            b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo --XX\r\n--XX--\r\n".to_vec(),
            is_form,
        ),
        (b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n--XX--\r\n".to_vec(), is_form),
        (b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo\r\n--XX".to_vec(), is_form),
        (b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ndemo".to_vec(), is_form),
        (b"--XX\r\n\r\ndemo\r\n--XX--\r\n".to_vec(), is_form),
        (b"--XX\r\nContent-Disposition: form-data; name=\"model\"".to_vec(), is_form),
        (b"--YY\r\n".to_vec(), is_form),
        (b"{\"model\":\"demo\"}".to_vec(), is_form),
        (Vec::new(), |fault| *fault == Fault::Empty),
        (whole(&vec![field("x", "y"); MAX_PARTS + 1]), is_form),
        (part(&format!("Content-Disposition: form-data; name=\"{}\"", "x".repeat(MAX_PART_HEAD))), is_form),
    ];
    for (body, expected) in rows {
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let fault = model(TYPE, &body).expect_err(&shown);
        assert!(expected(&fault), "{shown}: {fault:?}");
    }
}

fn is_form(fault: &Fault) -> bool {
    matches!(fault, Fault::Form(_))
}

#[test]
fn the_content_type_has_one_reading() {
    let body = whole(&[field("model", "demo")]);
    for content_type in [
        "",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=XX; boundary=YY",
        "multipart/form-data; boundary=YY; boundary=XX",
        "multipart/form-data; charset=utf-8; boundary=XX",
        "multipart/form-data; boundary=XX; charset=utf-8",
        "multipart/form-data; boundary*=utf-8''XX",
        "multipart/form-data; boundary*0=X; boundary*1=X",
        "multipart/form-data; boundary=\"X\\X\"",
        "multipart/form-data; boundary=\"XX",
        "multipart/form-data; boundary=\"XX \"",
        "multipart/form-data; boundary=XX YY",
        "multipart/form-data; boundary=X=X",
        "multipart/form-data, boundary=XX",
        "multipart/mixed; boundary=XX",
        "multipart/form-data; boundary=\u{e9}",
        &format!("multipart/form-data; boundary={}", "X".repeat(71)),
    ] {
        let fault = model(content_type, &body).unwrap_err();
        assert!(is_form(&fault), "{content_type}: {fault:?}");
    }
    for (boundary, is_taken) in [("X".repeat(70), true), ("X".repeat(71), false), ("X{X".to_owned(), false)] {
        let part = "Content-Disposition: form-data; name=\"model\"\r\n\r\ndemo";
        let body = format!("--{boundary}\r\n{part}\r\n--{boundary}--\r\n");
        let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
        assert_eq!(model(&content_type, body.as_bytes()).is_ok(), is_taken, "{boundary}");
    }
    let problem = read(TYPE.as_bytes(), b"--XX--\r\nx").unwrap_err();
    assert_eq!(problem.to_string(), "the form cannot be taken (byte 6): bytes behind the last boundary");
    let problem = read(b"text/plain", &body).unwrap_err();
    assert_eq!((problem.reason(), problem.reason().status()), (Reason::MalformedForm, 400));
}

#[test]
fn a_model_in_the_query_is_seen_in_every_spelling() {
    for query in
        ["model=x", "a=b&model=x", "a=b;model=x", "model", "%6dodel=x", "MODEL=", "m%4Fdel=x", "&&model=x&"]
    {
        assert!(query_names_model(query), "{query}");
    }
    for query in ["", "a=model", "models=x", "mode=l", "%model=x", "mo%64e%6=", "m+odel=x", "%256dodel=x"] {
        assert!(!query_names_model(query), "{query}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn forms_are_read_alike(parts in prop::collection::vec(any_part(), 0..4), tail in any_tail(), edits in prop::collection::vec((any::<prop::sample::Index>(), any_piece(), 0usize..3), 0..3)) {
        let mut body = [parts.concat().into_bytes(), tail.as_bytes().to_vec()].concat();
        for (at, piece, cut) in edits {
            let at = at.index(body.len() + 1);
            let end = (at + cut).min(body.len());
            body.splice(at..end, piece.bytes());
        }
        property::form(&[TYPE.as_bytes(), b"\n", &body].concat());
    }

    #[test]
    fn content_types_are_read_alike(kind in "(?i)(multipart/form-data|text/plain);? ?(;? ?(boundary|charset|BOUNDARY|boundary\\*)=(\"XX\"|XX|\"X\\\\X\"|YY| XX)){0,2} ?;?") {
        let body = whole(&[field("model", "demo")]);
        property::form(&[kind.as_bytes(), b"\n", &body].concat());
    }
}

fn any_part() -> impl Strategy<Value = String> {
    let line = prop::sample::select(
        &[
            "Content-Disposition: form-data; name=\"model\"",
            "Content-Disposition: form-data; name=model",
            "content-disposition: FORM-DATA; NAME=\"model\"",
            "Content-Disposition: form-data; name=\"x\"",
            "Content-Disposition: form-data; name=\"x\"; filename=\"model\"",
            "Content-Disposition: form-data; name=\"model\"; filename=\"x\"",
            "Content-Type: text/plain",
            "Content-Transfer-Encoding: 8bit",
            "Content-Transfer-Encoding: quoted-printable",
        ][..],
    );
    let value = prop::sample::select(&["demo", "", "nope", "=64emo", "--X", "demo\n--XX", "x\r\n--X"][..]);
    (prop::collection::vec(line, 1..3), value)
        .prop_map(|(head, value)| format!("--XX\r\n{}\r\n\r\n{value}\r\n", head.join("\r\n")))
}

fn any_tail() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["--XX--\r\n", "--XX--", "--XX--\r\n", "", "--XX\r\n", "--XX--\r\n--XX\r\n"][..])
}

fn any_piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "",
            "\r\n",
            "\n",
            "\r",
            "--XX",
            "--XX--",
            "\"",
            ";",
            " ",
            "model",
            "*",
            "=",
            "\\",
            ":",
            "\0",
            "name=\"model\"",
            "\r\n\r\n",
            "%6d",
        ][..],
    )
}

#[test]
fn the_generator_is_worth_its_name() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let any = (prop::collection::vec(any_part(), 0..4), any_tail());
    let taken = (0..1_000)
        .filter(|_| {
            let (parts, tail) = proptest::strategy::ValueTree::current(&any.new_tree(&mut runner).unwrap());
            property::form(format!("{TYPE}\n{}{tail}", parts.concat()).as_bytes())
        })
        .count();
    assert!((100..900).contains(&taken), "{taken} of 1000 are taken: too few or too many to show anything");
}

#[test]
fn forms_of_the_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/wire_multipart");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has only {} inputs", folder.display(), files.len());
    for file in files {
        property::form(&std::fs::read(file).unwrap());
    }
}
