//! What is open and what is not, as a client meets it.

#![expect(clippy::panic, reason = "a test may")]

use gate_types::{Dialect, Scope};
use gate_wire::{Answering, BodyKind, Class, Found, Param, ROUTES, Route, RouteId, find};

fn open<'p>(method: &str, path: &'p str) -> (&'static Route, Option<Param<'p>>) {
    match find(method, path) {
        Found::Route(route, param) => (route, param),
        other => panic!("{method} {path}: {other:?}"),
    }
}

fn closed(method: &str, path: &str) -> Dialect {
    match find(method, path) {
        Found::Unknown(dialect) => dialect,
        other => panic!("{method} {path}: {other:?}"),
    }
}

#[test]
fn every_plain_route_is_found_by_its_own_line() {
    for route in ROUTES.iter().filter(|route| !route.path.ends_with('}')) {
        let (found, param) = open(route.method, route.path);
        assert!(std::ptr::eq(found, route), "{} {}", route.method, route.path);
        assert_eq!(param, None);
        assert_eq!(found.upstream_path(None), route.path);
    }
}

#[test]
fn classes_are_as_promised() {
    let public = ROUTES.iter().filter(|route| matches!(route.class, Class::Public(_)));
    assert_eq!(
        public.map(|route| route.path).collect::<Vec<_>>(),
        ["/", "/", "/api/version", "/api/version", "/healthz", "/healthz", "/readyz", "/readyz"]
    );
    for route in ROUTES {
        let expected = match route.id {
            RouteId::Root | RouteId::Version | RouteId::Healthz | RouteId::Readyz => continue,
            RouteId::Tags | RouteId::Ps | RouteId::Show | RouteId::V1Models | RouteId::V1Model => Scope::Read,
            RouteId::Embed | RouteId::Embeddings | RouteId::V1Embeddings => Scope::Embed,
            RouteId::Generate
            | RouteId::Chat
            | RouteId::V1Chat
            | RouteId::V1Completions
            | RouteId::V1Responses
            | RouteId::V1Messages
            | RouteId::V1Transcriptions => Scope::Infer,
            RouteId::Me | RouteId::Signout | RouteId::WebSearch | RouteId::WebFetch => Scope::Cloud,
            RouteId::Metrics
            | RouteId::Pull
            | RouteId::Push
            | RouteId::Create
            | RouteId::Copy
            | RouteId::Delete
            | RouteId::Blob => Scope::Manage,
        };
        assert_eq!(route.class, Class::Needs(expected), "{}", route.path);
    }
}

#[test]
fn what_is_forwarded_brings_a_body_and_the_rest_does_not() {
    for route in ROUTES {
        // What `me` and `signout` do is in their path.
        let is_bare = matches!(route.id, RouteId::Me | RouteId::Signout);
        let brings = !matches!(route.body, BodyKind::None);
        let forwards = route.answer == Answering::Forward && route.method != "HEAD";
        assert_eq!(brings, forwards && !is_bare, "{}", route.path);
    }
}

#[test]
fn other_methods_are_told_what_is_open() {
    for (method, path, allow, dialect) in [
        ("POST", "/api/tags", "HEAD, GET", Dialect::Ollama),
        ("GET", "/api/chat", "POST", Dialect::Ollama),
        ("POST", "/api/delete", "DELETE", Dialect::Ollama),
        ("HEAD", "/api/ps", "GET", Dialect::Ollama),
        ("OPTIONS", "/api/chat", "POST", Dialect::Ollama),
        ("get", "/api/tags", "HEAD, GET", Dialect::Ollama),
        ("HEAD", "/v1/models", "GET", Dialect::OpenAi),
        ("POST", "/v1/models/user%2Fdemo", "GET", Dialect::OpenAi),
        ("GET", "/v1/messages", "POST", Dialect::Anthropic),
        ("GET", &format!("/api/blobs/sha256:{}", "a0".repeat(32)), "HEAD, POST", Dialect::Ollama),
    ] {
        let Found::WrongMethod { allow: found, dialect: told } = find(method, path) else {
            panic!("{method} {path}: {:?}", find(method, path))
        };
        assert_eq!((found.to_string().as_str(), told), (allow, dialect), "{method} {path}");
    }
}

#[test]
fn everything_else_is_closed_in_the_dialect_of_its_path() {
    let digest = "0".repeat(64);
    for path in [
        "",
        "*",
        "//",
        "/api",
        "/api/",
        "/api/chat/",
        "//api/chat",
        "/api//chat",
        "/x/../api/chat",
        "/./api/chat",
        "/api/./chat",
        "/API/chat",
        "/api/%63hat",
        "/api%2Fchat",
        "/api/chat%2f",
        "/api/chat;a=b",
        "/api/chat?x",
        "/api/chat ",
        "/api/chat\0",
        "/api\\chat",
        "api/chat",
        "/apį/chat",
        "/api/status",
        "/api/user/keys/x",
        "/api/experimental/model-recommendations",
        "/api/experimental/aliases",
        "/api/experimental/web_search/",
        "/debug/pprof/",
        "/v2/models",
        "/api/blobs/",
        "/api/blobs/{digest}",
        "/api/blobs/nonsense",
        &format!("/api/blobs/sha256:{}", &digest[1..]),
        &format!("/api/blobs/sha256:{digest}0"),
        &format!("/api/blobs/sha256:{}g", &digest[1..]),
        &format!("/api/blobs/sha512:{digest}"),
        &format!("/api/blobs/SHA256:{digest}"),
        &format!("/api/blobs/sha256:{digest}/"),
        &format!("/api/blobs/../sha256:{digest}"),
        &format!("/api/blobs/%73ha256:{digest}"),
    ] {
        assert_eq!(closed("POST", path), Dialect::Ollama, "{path:?}");
    }
    for path in [
        "/v1",
        "/v1/",
        "/v1/models/",
        "/v1/models/{model}",
        "/v1/models/demo/",
        "/v1/models//demo",
        "/v1/models/a//b",
        "/v1/models/https:%2F%2Fx%2Fa%2Fb",
        "/v1/models/../models",
        "/v1/models/%2e%2e%2fdemo",
        "/v1/models/d%65mo",
        "/v1/models/demo%",
        "/v1/models/demo%2",
        "/v1/models/demo%3",
        "/v1/models/de%00mo",
        "/v1/models/%20demo",
        "/v1/models/ demo",
        "/v1/models/a%252Fb",
        "/v1/models/démo",
        "/v1/images/generations",
        "/v1/audio/translations",
        "/v1/audio/speech",
        "/v1/images/edits",
        "/v1/chat/completions/",
        "/v1/responses/resp_1",
    ] {
        assert_eq!(closed("GET", path), Dialect::OpenAi, "{path:?}");
    }
    for path in ["/v1/messages/count_tokens", "/v1/messages/", "/v1/messages/batches"] {
        assert_eq!(closed("POST", path), Dialect::Anthropic, "{path:?}");
    }
}

#[test]
fn a_model_in_the_path_has_many_spellings() {
    for (path, short, as_sent) in [
        ("/v1/models/demo", "demo:latest", "demo"),
        ("/v1/models/DEMO", "demo:latest", "DEMO"),
        ("/v1/models/demo:1b", "demo:1b", "demo:1b"),
        ("/v1/models/demo%3A1b", "demo:1b", "demo:1b"),
        ("/v1/models/user/demo-fim", "user/demo-fim:latest", "user/demo-fim"),
        ("/v1/models/user%2Fdemo-fim", "user/demo-fim:latest", "user/demo-fim"),
        ("/v1/models/hf.co%2fa/b%3aQ4_K_M", "hf.co/a/b:q4_k_m", "hf.co/a/b:Q4_K_M"),
        ("/v1/models/library/demo", "demo:latest", "library/demo"),
    ] {
        let (route, param) = open("GET", path);
        assert_eq!(route.id, RouteId::V1Model);
        assert_eq!(route.upstream_path(param.as_ref()), "/v1/models", "nothing of the client's path goes on");
        let Some(Param::Model { name, as_sent: told }) = param else { panic!("{path}: {param:?}") };
        assert_eq!((name.short(), told.as_ref()), (short, as_sent), "{path}");
    }
    let (_, param) = open("GET", "/v1/models/demo:cloud");
    assert!(matches!(param, Some(Param::Model { name, .. }) if name.is_cloud()));
}

#[test]
fn a_blob_goes_on_in_one_spelling() {
    let hex = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    for digest in ["sha256:", "sha256-", "sha256%3A", "sha256%3a"] {
        let path = format!("/api/blobs/{digest}{hex}");
        let (route, param) = open("POST", &path);
        assert_eq!(route.id, RouteId::Blob);
        assert_eq!(route.upstream_path(param.as_ref()), format!("/api/blobs/sha256:{hex}"));
    }
}
