//! The same calls in all dialects against every kind of upstream: the gate must make no difference between them.

mod guarded;
mod loops;

use crate::harness::peer::Kind;
use crate::harness::{Answer, Ask, Demo, Gate, Home, Peer};
use serde_json::{Value, json};

/// One upstream with a gate before it.
struct Row<'r> {
    peer: &'r Peer,
    gate: Gate<'r>,
    demo: &'r Demo,
}

/// Runs `check` before each kind of upstream that there is.
fn before_each(check: impl Fn(&Row<'_>)) {
    let demo = Demo::one();
    for peer in Peer::all() {
        println!("before {}", peer.name());
        let home = Home::new();
        let gate = home.serve(&["--upstream", &peer.url()]);
        let line = gate
            .running
            .says("its upstream", |line| line.starts_with("  upstream ") && line.contains(&peer.url()));
        assert!(line.contains(peer.model()), "{line}");
        check(&Row { peer: &peer, gate, demo: &demo });
    }
}

impl Row<'_> {
    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Answer {
        let answer = self.gate.ask(Ask::post(path, body));
        assert!(answer.status == 200 && answer.cut.is_none(), "{} {path}: {answer}", self.peer.name());
        assert_eq!(answer.field("server"), None, "{answer}");
        answer
    }

    /// A question in this dialect, with and without a stream. No chance is left: the answers are to be the same.
    fn question(&self, path: &str, stream: bool) -> Value {
        let mut body = json!({"model": self.peer.model(), "stream": stream});
        let native = path.starts_with("/api/");
        if path == "/api/generate" || path == "/v1/completions" {
            body["prompt"] = self.demo.question.as_str().into();
        } else {
            body["messages"] = json!([{"role": "user", "content": self.demo.question}]);
        }
        if native {
            body["options"] = json!({"temperature": 0, "seed": 1});
        } else {
            body["temperature"] = 0.into();
            body["max_tokens"] = 200.into();
        }
        body
    }

    /// Asks both ways and checks that they say the same: the demo model's answer where it is known.
    fn asks_both_ways(
        &self,
        path: &str,
        whole: impl Fn(&Value) -> String,
        parts: impl Fn(&Answer) -> Vec<String>,
    ) {
        let name = self.peer.name();
        let answer = self.post(path, &self.question(path, false));
        assert!(
            answer.field("content-type").is_some_and(|kind| kind.starts_with("application/json")),
            "{answer}"
        );
        let text = whole(&answer.json());
        let streamed = self.post(path, &self.question(path, true));
        assert!(streamed.is_chunked, "{name} {path}: {streamed}");
        let kind = if path.starts_with("/api/") { "application/x-ndjson" } else { "text/event-stream" };
        assert!(streamed.field("content-type").is_some_and(|sent| sent.starts_with(kind)), "{streamed}");
        let parts = parts(&streamed);
        assert!(parts.len() > 3, "{name} {path}: no stream: {parts:?}");
        assert_eq!(parts.concat(), text, "{name} {path}: the stream says something else");
        // The bare prompt of /v1/completions goes without the chat's template.
        if self.peer.knows_the_answers() && path != "/v1/completions" {
            assert_eq!(text, self.demo.answer, "{name} {path}");
        }
        for piece in &streamed.pieces {
            assert!(
                piece.ends_with(b"\n"),
                "{name} {path}: a line was cut: {:?}",
                String::from_utf8_lossy(piece)
            );
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The texts in NDJSON; the last line alone is done, and counts tokens.
fn ndjson(answer: &Answer, text: impl Fn(&Value) -> String) -> Vec<String> {
    let lines = answer.lines();
    let (last, before) = lines.split_last().unwrap();
    assert!(last["done"] == true && before.iter().all(|line| line["done"] == false), "{answer}");
    assert!(last["eval_count"].as_u64() > Some(0) && last["total_duration"].as_u64() > Some(0), "{last}");
    lines.iter().map(text).collect()
}

/// The texts in OpenAI's events, which end in `[DONE]`.
fn data(answer: &Answer, text: impl Fn(&Value) -> Option<&str>) -> Vec<String> {
    let events = answer.events();
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]", "{answer}");
    before.iter().filter_map(|event| text(event).map(str::to_owned)).filter(|text| !text.is_empty()).collect()
}

#[test]
fn a_model_talks_in_every_dialect() {
    before_each(|row| {
        let content = |value: &Value| word(&value["message"]["content"]);
        row.asks_both_ways("/api/chat", content, |answer| ndjson(answer, content));
        let response = |value: &Value| word(&value["response"]);
        row.asks_both_ways("/api/generate", response, |answer| ndjson(answer, response));
        row.asks_both_ways(
            "/v1/chat/completions",
            |value| word(&value["choices"][0]["message"]["content"]),
            |answer| data(answer, |event| event["choices"][0]["delta"]["content"].as_str()),
        );
        row.asks_both_ways(
            "/v1/messages",
            |value| word(&value["content"][0]["text"]),
            |answer| {
                let events = answer.events();
                assert_eq!(events.last().unwrap()["type"], "message_stop", "{answer}");
                let deltas = events.iter().filter(|event| event["type"] == "content_block_delta");
                deltas.map(|event| word(&event["delta"]["text"])).collect()
            },
        );
        // The engine leaves the next two out, and says so.
        if row.peer.kind == Kind::Engine {
            return;
        }
        row.asks_both_ways(
            "/v1/completions",
            |value| word(&value["choices"][0]["text"]),
            |answer| data(answer, |event| event["choices"][0]["text"].as_str()),
        );
        let body = json!({"model": row.peer.model(), "input": row.demo.question, "temperature": 0});
        let answer = row.post("/v1/responses", &body).json();
        assert_eq!(answer["status"], "completed", "{answer}");
    });
}

#[test]
fn texts_become_vectors() {
    before_each(|row| {
        let model = row.peer.embedder();
        let numbers =
            |value: &Value| value.as_array().map_or(0, |all| all.iter().filter(|one| one.is_f64()).count());
        for count in [1, 2, 33] {
            let texts: Vec<String> = (0..count).map(|place| format!("text {place}")).collect();
            let answer = row.post("/api/embed", &json!({"model": model, "input": texts})).json();
            let vectors = answer["embeddings"].as_array().unwrap();
            assert_eq!(vectors.len(), count);
            assert!(
                vectors.iter().all(|vector| numbers(vector) > 3 && numbers(vector) == numbers(&vectors[0]))
            );
            let answer = row.post("/v1/embeddings", &json!({"model": model, "input": texts})).json();
            let entries = answer["data"].as_array().unwrap();
            assert!(
                entries.len() == count && entries.iter().all(|one| numbers(&one["embedding"]) > 3),
                "{answer}"
            );
        }
        let answer = row.post("/api/embeddings", &json!({"model": model, "prompt": "text"})).json();
        assert!(numbers(&answer["embedding"]) > 3, "{answer}");
    });
}

#[test]
fn models_are_listed_and_shown() {
    before_each(|row| {
        let model = row.peer.model();
        let tagged = format!("{model}:latest");
        let name = row.peer.name();
        let tags = row.gate.ask(Ask::get("/api/tags")).ok().json();
        let entry = tags["models"].as_array().unwrap().iter().find(|entry| entry["name"] == tagged.as_str());
        let entry = entry.unwrap_or_else(|| panic!("{name}: {tags}"));
        assert!(
            entry["size"].as_u64() > Some(0) && entry["digest"].as_str().map(str::len) == Some(64),
            "{entry}"
        );
        let listed = row.gate.ask(Ask::get("/v1/models")).ok().json();
        let ids: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert!(ids.contains(&&tagged.as_str().into()), "{name}: {listed}");
        for spelled in [model.to_owned(), tagged.clone(), format!("library%2F{model}")] {
            let one = row.gate.ask(Ask::get(&format!("/v1/models/{spelled}"))).ok().json();
            assert_eq!(one["object"], "model", "{name}: {one}");
        }
        for field in ["model", "name"] {
            let shown = row.post("/api/show", &json!({field: model})).json();
            assert!(
                shown["model_info"].is_object() && shown["details"]["family"].is_string(),
                "{name}: {shown}"
            );
        }
        row.post("/api/generate", &json!({"model": model, "prompt": "Hi", "stream": false}));
        let loaded = row.gate.ask(Ask::get("/api/ps")).ok().json();
        let names: Vec<&Value> =
            loaded["models"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert!(names.contains(&&tagged.as_str().into()), "{name}: {loaded}");
        assert!(row.gate.ask(Ask::get("/api/version")).ok().json()["version"].is_string());
    });
}

#[test]
fn an_unknown_model_is_told_with_the_nearest_names() {
    before_each(|row| {
        let (model, wrong) = (row.peer.model(), format!("{}x", row.peer.model()));
        for path in ["/api/chat", "/api/generate", "/api/show", "/v1/chat/completions", "/v1/messages"] {
            let mut body = row.question(path, true);
            body["model"] = wrong.as_str().into();
            let answer = row.gate.ask(Ask::post(path, &body));
            assert_eq!(answer.status, 404, "{path}: {answer}");
            let text = answer.text();
            assert!(text.contains(&format!("model '{wrong}")), "{path}: {text}");
            assert!(text.contains("not found; did you mean"), "{path}: {text}");
            assert!(text.contains(&format!("mean {model}")), "{path}: {text}");
        }
        for path in ["/api/embed", "/v1/embeddings"] {
            let answer = row.gate.ask(Ask::post(path, &json!({"model": wrong, "input": "Hi"})));
            assert!(answer.status == 404 && answer.text().contains("did you mean"), "{path}: {answer}");
        }
        let answer = row.gate.ask(Ask::get(&format!("/v1/models/{wrong}")));
        assert!(answer.status == 404 && answer.text().contains(model), "{answer}");
    });
}

#[test]
fn every_learned_question_is_answered_exactly_by_the_engine_to_many_at_once() {
    let Some(peer) = Peer::engine() else { return };
    let home = Home::new();
    let gate = home.serve(&["--upstream", &peer.url()]);
    let questions = Demo::all();
    assert!(questions.len() >= 60);
    std::thread::scope(|scope| {
        for client in 0..20 {
            let (gate, questions) = (&gate, &questions);
            scope.spawn(move || {
                for demo in questions.iter().cycle().skip(client * 3).take(60) {
                    let messages = json!([{"role": "user", "content": demo.question}]);
                    let body =
                        json!({"model": Demo::NAME, "messages": messages, "options": {"temperature": 0}});
                    let answer = gate.ask(Ask::post("/api/chat", &body)).ok();
                    let said = ndjson(&answer, |line| word(&line["message"]["content"])).concat();
                    assert_eq!(said, demo.answer, "{}", demo.question);
                }
            });
        }
    });
}
