//! What the end reader costs for each piece of a stream: `cargo run --release -p gate-wire --example tee_cost`.

use gate_wire::{EndReader, RouteId};
use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

const PIECES: [(&str, RouteId, &str, &str); 7] = [
    (
        "chat, a token",
        RouteId::Chat,
        "application/x-ndjson",
        "{\"model\":\"demo\",\"created_at\":\"2026-11-20T12:58:16.276085752Z\",\"message\":{\"role\":\"assistant\",\"content\":\" the\"},\"done\":false}\n",
    ),
    (
        "chat, with logprobs",
        RouteId::Chat,
        "application/x-ndjson",
        "{\"model\":\"demo\",\"created_at\":\"2026-11-20T12:58:12.126226301Z\",\"response\":\"se\",\"done\":false,\"logprobs\":[{\"token\":\"se\",\"logprob\":-0.0037,\"bytes\":[115,101]}]}\n",
    ),
    (
        "chat, the end record",
        RouteId::Chat,
        "application/x-ndjson",
        "{\"model\":\"puppet\",\"created_at\":\"2026-11-20T12:58:16.276953475Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":258891248,\"load_duration\":255175291,\"prompt_eval_count\":46,\"prompt_eval_duration\":810000,\"eval_count\":8,\"eval_duration\":1040999}\n",
    ),
    (
        "v1 chat, a token",
        RouteId::V1Chat,
        "text/event-stream",
        "data: {\"id\":\"chatcmpl-43\",\"object\":\"chat.completion.chunk\",\"created\":1795179503,\"model\":\"demo\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" the\"},\"finish_reason\":null}]}\n\n",
    ),
    (
        "responses, a token",
        RouteId::V1Responses,
        "text/event-stream",
        "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\" w27\",\"item_id\":\"msg_95282\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":311,\"type\":\"response.output_text.delta\"}\n\n",
    ),
    (
        "messages, a token",
        RouteId::V1Messages,
        "text/event-stream",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" the\"}}\n\n",
    ),
    (
        "embeddings, 32 numbers",
        RouteId::Embed,
        "application/json",
        "-0.23350143,0.03227524,0.029135711,-0.088194415,0.050973244,-0.10534393,-0.118504986,-0.032630138,0.027267022,-0.14709915,0.034805827,-0.048323978,-0.098829895,0.0044946903,-0.026720688,-0.06914647,",
    ),
];

fn main() -> io::Result<()> {
    const ROUNDS: u32 = 2_000_000;
    for (name, route, kind, piece) in PIECES {
        let mut reader = EndReader::new(route, Some(kind.as_bytes()));
        if route == RouteId::Embed {
            reader.feed(b"{\"embeddings\":[[");
        }
        let start = Instant::now();
        for _ in 0..ROUNDS {
            reader.feed(black_box(piece.as_bytes()));
        }
        let took = start.elapsed() / (ROUNDS / 1000);
        writeln!(
            io::stdout(),
            "{name:24} {:4} bytes {:6.1} ns",
            piece.len(),
            took.as_nanos() as f64 / 1000.0
        )?;
        black_box(reader.is_whole());
    }
    Ok(())
}
