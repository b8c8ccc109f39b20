//! Errors as clients see them, and the page that lists them.

use gate_types::{Dialect, Scope};
use gate_wire::shape::Unnamed;
use gate_wire::{Found, GateError, Reason, find, reference, render};
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

const DIALECTS: [Dialect; 3] = [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic];

#[test]
fn the_page_is_up_to_date() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    let committed = std::fs::read_to_string(page).unwrap();
    assert!(
        committed == reference(),
        "docs/errors.md is out of date: cargo run -q -p gate-wire --example errors_page > docs/errors.md"
    );
}

#[test]
fn every_reason_is_in_the_list() {
    for (place, reason) in Reason::ALL.iter().copied().enumerate() {
        assert_eq!(reason as usize, place, "{reason:?}");
    }
    assert_eq!(Reason::ALL.len(), Reason::Internal as usize + 1, "Internal stays the last");
}

#[test]
fn codes_are_unique_snake_case_and_statuses_are_errors() {
    let mut seen = HashSet::new();
    for reason in Reason::ALL.iter().copied() {
        let code = reason.code();
        assert!(seen.insert(code), "{code} twice");
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
        assert!((400..600).contains(&reason.status()), "{code}");
        assert!(!reason.text().ends_with('.') && reason.cure().ends_with('.'), "{code}");
    }
}

#[test]
fn the_three_401s_differ() {
    let of_401 = Reason::ALL.iter().copied().filter(|reason| reason.status() == 401);
    assert_eq!(of_401.map(Reason::text).collect::<HashSet<_>>().len(), 3);
}

#[test]
fn ollamas_own_bytes_where_it_says_the_same() {
    let missing = GateError::model_not_found("nope", &[]);
    let native = render(Dialect::Ollama, &missing, None);
    assert_eq!(
        native.body,
        r#"{"error":"model 'nope' not found; /api/tags lists those that are here","code":"model_not_found"}"#
    );
    assert_eq!(native.content_type, "application/json; charset=utf-8");
    assert_eq!(
        render(Dialect::OpenAi, &missing, None).body,
        r#"{"error":{"message":"model 'nope' not found; /api/tags lists those that are here","type":"not_found_error","param":null,"code":"model_not_found"}}"#
    );
    assert_eq!(
        render(Dialect::Anthropic, &missing, Some("req_1")).body,
        r#"{"type":"error","error":{"type":"not_found_error","message":"model 'nope' not found; /api/tags lists those that are here"},"request_id":"req_1"}"#
    );
}

#[test]
fn a_call_without_a_model_is_answered_as_by_ollama() {
    for (unnamed, status, text) in [
        (Unnamed::NotFound, 404, "model '' not found"),
        (Unnamed::Required, 400, "model is required"),
        (Unnamed::Invalid, 400, "invalid model name; names look like qwen3:8b or hf.co/user/model:tag"),
    ] {
        let error = GateError::unnamed(unnamed);
        assert_eq!((error.reason.status(), error.public.as_ref()), (status, text));
    }
}

#[test]
fn every_reason_is_sound_in_every_dialect() {
    for reason in Reason::ALL.iter().copied() {
        for dialect in DIALECTS {
            let rendered = render(dialect, &GateError::new(reason), None);
            assert_eq!(rendered.status, reason.status());
            let body: Value = serde_json::from_str(&rendered.body).unwrap();
            let text = match dialect {
                Dialect::Ollama => &body["error"],
                Dialect::OpenAi | Dialect::Anthropic => &body["error"]["message"],
            };
            assert_eq!(text, reason.text());
            assert!(!rendered.body.contains("signin_url"));
            let has = |name| rendered.fields.iter().any(|(field, _)| *field == name);
            assert_eq!(has("WWW-Authenticate"), reason.status() == 401, "{reason:?}");
            assert!(has("Retry-After") || reason.status() != 503, "{reason:?}");
        }
    }
}

#[test]
fn anthropics_types_follow_the_status() {
    for (reason, kind) in [
        (Reason::MalformedJson, "invalid_request_error"),
        (Reason::InvalidKey, "authentication_error"),
        (Reason::MissingScope, "permission_error"),
        (Reason::UnknownRoute, "not_found_error"),
        (Reason::NoUpstream, "overloaded_error"),
        (Reason::UpstreamFailed, "api_error"),
    ] {
        let body: Value =
            serde_json::from_str(&render(Dialect::Anthropic, &GateError::new(reason), None).body).unwrap();
        assert_eq!(body["type"], "error");
        assert_eq!(body["error"]["type"], kind, "{reason:?}");
    }
}

#[test]
fn a_wrong_method_names_the_right_ones() {
    let Found::WrongMethod { allow, dialect } = find("PUT", "/api/tags") else { panic!("open") };
    let rendered = render(dialect, &GateError::wrong_method(allow), None);
    assert_eq!(rendered.status, 405);
    assert_eq!(rendered.fields, [("Allow", "HEAD, GET".to_owned())]);
}

#[test]
fn a_missing_scope_is_named() {
    let error = GateError::missing_scope(Scope::Manage);
    assert!(error.public.contains("\"manage\""), "{}", error.public);
    assert_eq!(error.reason.status(), 403);
}

#[test]
fn waits_are_whole_seconds_and_never_none() {
    let wait = |wait| {
        let error = GateError::new(Reason::Loading).again_after(wait);
        render(Dialect::Ollama, &error, None).fields[0].1.clone()
    };
    assert_eq!(wait(Duration::ZERO), "1");
    assert_eq!(wait(Duration::from_millis(1_001)), "2");
    assert_eq!(wait(Duration::from_secs(30)), "30");
}

#[test]
fn hostile_text_stays_text() {
    let text = "a\"b\\c\nd\re\u{1b}[31m\u{85}\u{2028}é\u{1f600}</script>";
    for dialect in DIALECTS {
        let rendered = render(dialect, &GateError::new(Reason::BadRequest).saying(text), Some("\"x"));
        let body: Value = serde_json::from_str(&rendered.body).unwrap();
        let told = body["error"]["message"].as_str().or(body["error"].as_str()).unwrap();
        assert_eq!(told, text);
        assert!(rendered.body.chars().all(|c| !c.is_control()), "{}", rendered.body);
    }
}

#[test]
fn the_log_sees_the_cause_and_the_client_does_not() {
    let error = GateError::new(Reason::UpstreamFailed).because("connection reset by 10.0.0.7");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "connection reset by 10.0.0.7");
    for dialect in DIALECTS {
        assert!(!render(dialect, &error, None).body.contains("10.0.0.7"));
    }
}
