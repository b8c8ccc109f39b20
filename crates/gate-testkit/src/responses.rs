//! `/v1/responses`: the one form with an object of its own and a numbered event for each step. Ollama sorts the keys of its
//! events, not those of the whole answer; so does this.

use serde_json::{Value, json};

use crate::answer::{CREATED, Ending, Talk, event, text, token};

const RESPONSE_ID: &str = "resp_682193";
const ITEM_ID: &str = "msg_751360";

impl Talk<'_> {
    pub(crate) fn response_whole(&self, text: &str) -> Value {
        let (input, output) = self.counts();
        json!({
            "id": RESPONSE_ID, "object": "response", "created_at": CREATED, "completed_at": CREATED,
            "status": "completed", "incomplete_details": null, "model": self.model,
            "previous_response_id": null, "instructions": null,
            "output": [{"id": ITEM_ID, "type": "message", "status": "completed", "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]}],
            "error": null, "tools": [], "tool_choice": "auto", "truncation": "disabled",
            "parallel_tool_calls": true, "text": {"format": {"type": "text"}}, "top_p": 1,
            "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0, "temperature": 1,
            "reasoning": null,
            "usage": {"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
                "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
            "max_output_tokens": null, "max_tool_calls": null, "store": false, "background": false,
            "service_tier": "default", "metadata": {}, "safety_identifier": null, "prompt_cache_key": null,
        })
    }

    pub(crate) fn response_events(&self) -> Vec<String> {
        let mut events = Numbered::default();
        let begun = self.response_state("in_progress", &[], &Value::Null);
        let item = |status: &str, content: &[Value]| json!({"content": content, "id": ITEM_ID, "role": "assistant", "status": status, "type": "message"});
        let part =
            |text: &str| json!({"annotations": [], "logprobs": [], "text": text, "type": "output_text"});
        let place = json!({"content_index": 0, "item_id": ITEM_ID, "output_index": 0});
        events.push("response.created", json!({"response": begun}));
        events.push("response.in_progress", json!({"response": begun}));
        events
            .push("response.output_item.added", json!({"item": item("in_progress", &[]), "output_index": 0}));
        events.push("response.content_part.added", with(&place, &[("part", part(""))]));
        for number in 0..self.tokens {
            let delta = [("delta", json!(token(number))), ("logprobs", json!([]))];
            events.push("response.output_text.delta", with(&place, &delta));
        }
        if self.ending == Ending::Done {
            let said = text(self.tokens);
            let done = [("text", json!(said)), ("logprobs", json!([]))];
            events.push("response.output_text.done", with(&place, &done));
            events.push("response.content_part.done", with(&place, &[("part", part(&said))]));
            let whole = item("completed", &[part(&said)]);
            events.push("response.output_item.done", json!({"item": whole, "output_index": 0}));
            let (input, output) = self.counts();
            let usage = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input + output});
            let ended = self.response_state("completed", &[whole], &usage);
            events.push("response.completed", json!({"response": ended}));
        }
        events.said
    }

    fn response_state(&self, status: &str, output: &[Value], usage: &Value) -> Value {
        let completed_at = if usage.is_null() { Value::Null } else { json!(CREATED) };
        json!({
            "background": false, "completed_at": completed_at, "created_at": CREATED, "error": null,
            "frequency_penalty": 0, "id": RESPONSE_ID, "incomplete_details": null, "instructions": null,
            "max_output_tokens": null, "max_tool_calls": null, "metadata": {}, "model": self.model,
            "object": "response", "output": output, "parallel_tool_calls": true, "presence_penalty": 0,
            "previous_response_id": null, "prompt_cache_key": null, "reasoning": null,
            "safety_identifier": null, "service_tier": "default", "status": status, "store": false,
            "temperature": 1, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
            "top_logprobs": 0, "top_p": 1, "truncation": "disabled", "usage": usage,
        })
    }
}

#[derive(Default)]
struct Numbered {
    said: Vec<String>,
}

impl Numbered {
    fn push(&mut self, name: &str, mut fields: Value) {
        fields["sequence_number"] = json!(self.said.len());
        fields["type"] = json!(name);
        sort_keys(&mut fields);
        self.said.push(event(name, &fields));
    }
}

fn sort_keys(fields: &mut Value) {
    if let Value::Object(map) = fields {
        map.sort_keys();
    }
}

fn with(base: &Value, more: &[(&str, Value)]) -> Value {
    let mut fields = base.clone();
    for (name, value) in more {
        fields[*name] = value.clone();
    }
    fields
}
