//! What a key that manages models may do, and what only a key for the cloud: refused before anything is sent.

use crate::house::{House, run};
use crate::wire::{Client, get, json, post, with_fields};
use gate_proxy::Manage;
use gate_types::{ModelName, Scope, ScopeSet, UpstreamId};

fn stub(house: &House, place: u16, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| ModelName::parse(name).unwrap()).collect();
    house.shared.stubs.learn(UpstreamId(place), &names);
}

fn key(house: &House, scopes: &'static [Scope]) -> String {
    house.add_key(|key| key.scopes = ScopeSet::of(scopes))
}

async fn refused(client: &mut Client, key: &str, rows: &[(&str, &str, u16, &str)]) {
    for (path, body, status, code) in rows {
        let method = if *path == "/api/delete" { "DELETE" } else { "POST" };
        let answer = client.ask(with_fields(method, path, &format!("x-api-key: {key}\r\n"), body)).await;
        assert_eq!(answer.status, *status, "{path} {body}: {}", answer.text());
        assert!(answer.text().contains(&format!("\"code\":\"{code}\"")), "{path} {body}: {}", answer.text());
    }
}

/// Each passes, byte for byte.
async fn passed(house: &House, key: &str, rows: &[(&str, &str)]) {
    let mut client = house.connect();
    let mut upstream = None;
    for (path, body) in rows {
        let method = if *path == "/api/delete" { "DELETE" } else { "POST" };
        client.send(with_fields(method, path, &format!("x-api-key: {key}\r\n"), body)).await;
        let asked = house.asked(0, &mut upstream).await;
        upstream.as_mut().unwrap().send(json(200, "{}")).await;
        assert!(asked.head.starts_with(&format!("{method} {path} HTTP/1.1\r\n")), "{}", asked.head);
        assert_eq!(String::from_utf8(asked.body).unwrap(), *body, "{path}");
        assert_eq!(client.answer().await.status, 200, "{path} {body}");
    }
}

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn models_come_from_and_go_to_the_allowed_registries_alone() {
    run(async {
        let house = House::new(1);
        let key = key(&house, &[Scope::Manage]);
        let mut client = house.connect();
        let no = "registry_not_allowed";
        let rows = [
            ("/api/pull", r#"{"model":"evil.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"name":"evil.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"","name":"evil.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"https://evil.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"EVIL.example/a/b:latest"}"#, 403, no),
            ("/api/pull", r#"{"model":"hf.co:443/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"hf.co./a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"hf.co.evil.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"xn--hf-co.example/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"127.0.0.1:11434/a/b"}"#, 403, no),
            ("/api/pull", r#"{"model":"169.254.169.254/latest/meta-data"}"#, 403, no),
            ("/api/pull", r#"{"model":"hf.co@evil.example/a/b"}"#, 400, "invalid_model_name"),
            ("/api/pull", r#"{"model":"hf\u3002co/a/b"}"#, 400, "invalid_model_name"),
            ("/api/pull", r#"{"model":"[::1]:80/a/b"}"#, 400, "invalid_model_name"),
            ("/api/pull", r#"{"model":"a/b@sha256:00"}"#, 400, "invalid_model_name"),
            ("/api/create", r#"{"model":"mine","from":"evil.example/a/b"}"#, 403, no),
            ("/api/create", r#"{"model":"evil.example/a/b","from":"demo"}"#, 403, no),
            ("/api/create", r#"{"model":"mine","from":"/etc/passwd"}"#, 400, "invalid_model_name"),
            ("/api/create", r#"{"model":"mine","from":"demo@sha256:00"}"#, 400, "invalid_model_name"),
            ("/api/create", r#"{"model":"mine","modelfile":"FROM evil.example/a/b"}"#, 400, "wrong_type"),
            ("/api/create", r#"{"model":"mine","path":"/etc/passwd"}"#, 400, "wrong_type"),
            ("/api/create", r#"{"model":"mine","files":{"a.gguf":"sha256:../../x"}}"#, 400, "wrong_type"),
            ("/api/create", r#"{"model":"mine","adapters":{"a":7}}"#, 400, "wrong_type"),
            ("/api/create", r#"{"model":"mine","draft_files":["a"]}"#, 400, "wrong_type"),
            ("/api/copy", r#"{"source":"evil.example/a/b","destination":"demo"}"#, 403, no),
            ("/api/copy", r#"{"source":"demo","destination":"evil.example/a/b"}"#, 403, no),
            ("/api/push", r#"{"model":"evil.example/a/b"}"#, 403, "push_disabled"),
            ("/api/push", r#"{"model":"acme/b"}"#, 403, "push_disabled"),
            ("/api/pull", r#"{"model":"demo","insecure":true}"#, 403, "insecure_refused"),
            ("/api/create", r#"{"model":"mine","from":"demo","insecure":true}"#, 403, "insecure_refused"),
            ("/api/pull", r#"{"model":"demo","insecure":1}"#, 400, "wrong_type"),
            ("/api/pull", r#"{"model":"demo","insecure":"false"}"#, 400, "wrong_type"),
            ("/api/pull", r#"{"model":"demo","Insecure":true}"#, 400, "ambiguous_body"),
            ("/api/pull", r#"{"model":"demo","in\u017fecure":true}"#, 400, "ambiguous_body"),
            ("/api/pull", r#"{"model":"http://hf.co/a/b"}"#, 403, "insecure_refused"),
            ("/api/pull", r#"{"model":"gopher://hf.co/a/b"}"#, 403, "insecure_refused"),
        ];
        refused(&mut client, &key, &rows).await;
        assert_eq!(house.dialled(0), 0);
        let files = format!(r#"{{"model":"mine","files":{{"a/b.gguf":"{DIGEST}"}},"adapters":{{}}}}"#);
        let rows = [
            ("/api/pull", r#"{"model":"hf.co/Acme/B:Q4_K_M","stream":false}"#),
            ("/api/pull", r#"{"model":"","name":"HF.co/Acme/B","insecure":false}"#),
            ("/api/pull", r#"{"model":"HTTPS://huggingface.co/acme/b","insecure":null}"#),
            ("/api/pull", r#"{"model":"qwen3", "username":"u"}"#),
            ("/api/create", r#"{"model":"mine","from":"demo","system":"be brief"}"#),
            ("/api/create", &files),
            ("/api/copy", r#"{"source":"demo","destination":"acme/b"}"#),
            // What is here already may be deleted, wherever it came from.
            ("/api/delete", r#"{"model":"evil.example/a/b"}"#),
        ];
        passed(&house, &key, &rows).await;
    });
}

#[test]
fn models_are_pushed_only_where_the_settings_say_so_and_only_to_allowed_registries() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| {
            rules.manage = Manage { push: true, registries: vec!["registry.lan:5000".to_owned()] };
        });
        let key = key(&house, &[Scope::Manage]);
        let mut client = house.connect();
        let rows = [
            ("/api/push", r#"{"model":"acme/b"}"#, 403, "registry_not_allowed"),
            ("/api/push", r#"{"model":"registry.lan/acme/b"}"#, 403, "registry_not_allowed"),
            ("/api/push", r#"{"model":"registry.lan:5000/acme/b","insecure":true}"#, 403, "insecure_refused"),
        ];
        refused(&mut client, &key, &rows).await;
        passed(&house, &key, &[("/api/push", r#"{"model":"registry.lan:5000/acme/b"}"#)]).await;
    });
}

#[test]
fn what_leaves_the_machine_needs_the_scope_cloud() {
    run(async {
        let house = House::new(2);
        stub(&house, 1, &["mine", "big:120b-cloud"]);
        let plain = key(&house, &[Scope::Infer, Scope::Embed, Scope::Read, Scope::Manage]);
        let mut client = house.connect();
        let (no, search) = (
            "missing_scope",
            r#"{"model":"demo","tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
        );
        let mut rows = vec![
            ("/api/me", "", 403, no),
            ("/api/signout", "", 403, no),
            ("/api/experimental/web_search", r#"{"query":"x"}"#, 403, no),
            ("/api/experimental/web_fetch", r#"{"url":"x"}"#, 403, no),
            ("/api/create", r#"{"model":"x","from":"demo","remote_host":"https://a.example"}"#, 403, no),
            ("/api/create", r#"{"model":"x","from":"MINE"}"#, 403, no),
            ("/api/create", r#"{"model":"mine","from":"demo"}"#, 403, no),
            ("/api/copy", r#"{"source":"mine","destination":"x"}"#, 403, no),
            ("/api/show", r#"{"name":"mine"}"#, 403, no),
            ("/api/embed", r#"{"model":"mine:local"}"#, 403, no),
            ("/v1/embeddings", r#"{"model":"library/Mine"}"#, 403, no),
            ("/api/chat", r#"{"model":"big:120b-cloud"}"#, 403, no),
            ("/api/chat", r#"{"model":"big:120b:cloud"}"#, 403, no),
            ("/api/chat", r#"{"model":"big:120b-cloud:local"}"#, 400, "invalid_model_name"),
            ("/v1/responses", r#"{"model":"demo","tools":[{"type":"web_search"}]}"#, 403, no),
            (
                "/v1/responses",
                r#"{"model":"demo","tools":[{"type":"function"},{"type":"web_search_preview"}]}"#,
                403,
                no,
            ),
            (
                "/v1/responses",
                r#"{"model":"demo","tools":[{"type":"namespace","tools":[{"type":"web\u005fsearch"}]}]}"#,
                403,
                no,
            ),
            (
                "/v1/messages",
                r#"{"model":"demo","tools":[{"Type":"web_search_20250305"}]}"#,
                400,
                "ambiguous_body",
            ),
            (
                "/v1/messages",
                r#"{"model":"demo","tools":[{"type":"x","type":"web_search"}]}"#,
                400,
                "ambiguous_body",
            ),
            (
                "/v1/messages",
                r#"{"model":"demo","tools":[],"TOOLS":[{"type":"web_search"}]}"#,
                400,
                "ambiguous_body",
            ),
        ];
        for path in ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/messages"]
        {
            rows.push((path, r#"{"model":"mine"}"#, 403, no));
            rows.push((path, search, 403, no));
        }
        for (path, body, status, code) in &rows {
            let answer = client.ask(post(path, &plain, body)).await;
            assert_eq!(answer.status, *status, "{path} {body}: {}", answer.text());
            // Anthropic's shape has no room for a code.
            let told = answer.text().contains(code) || path.contains("messages");
            assert!(
                told && (*status == 400 || answer.text().contains("\\\"cloud\\\"")),
                "{path} {body}: {}",
                answer.text()
            );
        }
        let answer = client.ask(get("/v1/models/mine", &plain)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!((house.dialled(0), house.dialled(1)), (0, 0));
    });
}

#[test]
fn a_model_here_stays_open_where_one_of_its_name_runs_in_the_cloud() {
    run(async {
        let house = House::new(1);
        house.probed(0, &["x", "x:cloud"], &[]);
        let listed = [ModelName::parse_stored("x:cloud").unwrap()];
        house.shared.stubs.learn(UpstreamId(0), &listed);
        let key = key(&house, &[Scope::Infer]);
        passed(&house, &key, &[("/api/chat", r#"{"model":"x"}"#), ("/api/chat", r#"{"model":"x:local"}"#)])
            .await;
        let mut client = house.connect();
        refused(&mut client, &key, &[("/api/chat", r#"{"model":"x:cloud"}"#, 403, "missing_scope")]).await;
    });
}

#[test]
fn the_record_names_the_model_that_the_upstream_acts_on() {
    run(async {
        let house = House::new(1);
        let key = key(&house, &[Scope::Manage, Scope::Cloud, Scope::Infer]);
        for (path, body, model) in [
            ("/api/chat", r#"{"model":"x:local"}"#, "x:latest"),
            ("/api/chat", r#"{"model":"x:cloud"}"#, "x:cloud"),
            ("/api/pull", r#"{"model":"x:1b:cloud"}"#, "x:1b-cloud"),
            ("/api/delete", r#"{"model":"x:cloud"}"#, "x:cloud"),
            ("/api/delete", r#"{"model":"x:local"}"#, "x:latest"),
            ("/api/create", r#"{"model":"x:local","from":"y"}"#, "x:local"),
            ("/api/copy", r#"{"source":"x:local","destination":"y"}"#, "x:local"),
        ] {
            passed(&house, &key, &[(path, body)]).await;
            assert_eq!(house.records().pop().unwrap()["model"], model, "{path} {body}");
        }
    });
}

#[test]
fn a_clients_own_function_may_have_any_name() {
    run(async {
        let house = House::new(1);
        let rows = [
            (
                "/api/chat",
                r#"{"model":"demo","tools":[{"type":"function","function":{"name":"web_search","parameters":{"type":"object"}}}]}"#,
            ),
            (
                "/v1/chat/completions",
                r#"{"model":"demo","tools":[{"type":"function","function":{"name":"web_search"}}]}"#,
            ),
            (
                "/v1/responses",
                r#"{"model":"demo","tools":[{"type":"function","name":"web_search"},{"type":"namespace","tools":[{"type":"function","name":"web_fetch"}]}]}"#,
            ),
            (
                "/v1/messages",
                r#"{"model":"demo","tools":[{"name":"web_search","input_schema":{"type":"object"}},{"type":"custom","name":"web_search"},{"type":null}]}"#,
            ),
            (
                "/v1/messages",
                r#"{"model":"demo","tools":null,"messages":[{"content":[{"type":"web_search_tool_result"}]}]}"#,
            ),
        ];
        passed(&house, &house.key, &rows).await;
    });
}

#[test]
fn a_key_for_the_cloud_may_use_it() {
    run(async {
        let house = House::new(1);
        stub(&house, 0, &["mine"]);
        let key = key(&house, &[Scope::Infer, Scope::Cloud]);
        let rows = [
            ("/v1/messages", r#"{"model":"mine","tools":[{"type":"web_search_20250305"}]}"#),
            ("/api/chat", r#"{"model":"demo:cloud"}"#),
            ("/api/experimental/web_search", r#"{"query":"x","max_results":3}"#),
            ("/api/experimental/web_fetch", r#"{"url":"https://x.example"}"#),
            ("/api/me", ""),
            ("/api/signout", ""),
        ];
        passed(&house, &key, &rows).await;
    });
}

#[test]
fn prompts_as_rendered_are_for_who_manages() {
    run(async {
        let house = House::new(1);
        let body = r#"{"model":"demo","_debug_render_only":true}"#;
        let mut client = house.connect();
        for path in ["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions"] {
            let answer = client.ask(post(path, &house.key, body)).await;
            assert!(
                answer.status == 403 && answer.text().contains("\\\"manage\\\""),
                "{path}: {}",
                answer.text()
            );
        }
        let answer = client.ask(post("/api/show", &house.key, r#"{"model":"demo","verbose":true}"#)).await;
        assert!(answer.status == 403 && answer.text().contains("\\\"manage\\\""), "{}", answer.text());
        let rows = [
            ("/api/chat", r#"{"model":"demo","_DEBUG_RENDER_ONLY":true}"#, 400, "ambiguous_body"),
            ("/api/chat", r#"{"model":"demo","_debug_render_only":1}"#, 400, "wrong_type"),
            ("/api/show", r#"{"model":"demo","Verbose":true}"#, 400, "ambiguous_body"),
            ("/api/show", r#"{"model":"demo","verbose":"true"}"#, 400, "wrong_type"),
        ];
        refused(&mut client, &house.key, &rows).await;
        assert_eq!(house.dialled(0), 0);
        let both = key(&house, &[Scope::Infer, Scope::Read, Scope::Manage]);
        let rows = [
            ("/api/chat", body),
            ("/api/generate", r#"{"model":"demo","_debug_render_only":false}"#),
            ("/api/show", r#"{"model":"demo","verbose":true}"#),
        ];
        passed(&house, &both, &rows).await;
    });
}

/// Ollama may list more than a probe takes, or nonsense: then nobody knows what else would leave the house.
#[test]
fn what_an_upstream_does_not_tell_is_for_keys_of_the_cloud() {
    run(async {
        let house = House::new(2);
        house.probed(1, &["here"], &[]);
        house.shared.stubs.lose(UpstreamId(0));
        let of_cloud = key(&house, &[Scope::Infer, Scope::Cloud]);
        let mut client = house.connect();
        let body = |model: &str| format!("{{\"model\":\"{model}\"}}");
        let unknown = body("elsewhere");
        refused(&mut client, &house.key, &[("/api/chat", &unknown, 503, "models_unlisted")]).await;
        house.probed(0, &["elsewhere", "here"], &[]);
        passed(&house, &of_cloud, &[("/api/chat", &unknown)]).await;
        passed(&house, &house.key, &[("/api/chat", &unknown)]).await;
    });
}

#[test]
fn what_changes_models_has_them_asked_for_anew() {
    run(async {
        let house = House::new(1);
        let manage = key(&house, &[Scope::Manage, Scope::Read]);
        for (path, is_change) in [("/api/show", false), ("/api/delete", true), ("/api/copy", true)] {
            let doubts = house.shared.doubts();
            let body = r#"{"model":"demo","source":"demo","destination":"other"}"#;
            passed(&house, &manage, &[(path, body)]).await;
            assert_eq!(doubts.has_changed().unwrap(), is_change, "{path}");
        }
    });
}
