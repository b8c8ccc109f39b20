//! Carries out faults: a right answer in, the wrong bytes out.

use std::time::Duration;

use crate::order::{BadFraming, Cuts, Fault, Then};
use crate::script::{Content, Form, LAST_CHUNK, Reply, Script, Step, chunk};

/// Between two played writes, so that the peer sees them apart.
const GAP: Duration = Duration::from_millis(2);

pub(crate) fn apply(fault: Option<Fault>, reply: Reply, form: Form) -> Script {
    match fault {
        None
        | Some(Fault::Fail(_) | Fault::SlowLoad(_) | Fault::RunnerDies { .. } | Fault::GivesUp { .. }) => {
            reply.script(form)
        }
        Some(Fault::CloseBeforeAnswer) => Script { steps: Vec::new(), then: Then::Close },
        Some(Fault::CutAfter { bytes, then }) => {
            let (steps, _never_sent) = reply.script(form).split_at(bytes);
            Script { steps, then }
        }
        Some(Fault::StallAfter { bytes, pause }) => {
            paused(reply.script(form), bytes, pause.map_or(Step::Hang, Step::Wait))
        }
        Some(Fault::HoldAfter { bytes, until }) => paused(reply.script(form), bytes, Step::Hold(until)),
        Some(Fault::CloseAfterAnswer) => Script { then: Then::Close, ..reply.script(form) },
        Some(Fault::Framing(bad)) => {
            Script { steps: vec![Step::Send(misframe(reply, form, bad))], then: Then::Close }
        }
        Some(Fault::Play { bytes, cuts, then }) => Script { steps: pieces(&bytes, &cuts), then },
    }
}

fn paused(script: Script, bytes: usize, pause: Step) -> Script {
    let then = script.then;
    let (mut steps, rest) = script.split_at(bytes);
    steps.push(pause);
    steps.extend(rest);
    Script { steps, then }
}

fn pieces(bytes: &[u8], cuts: &Cuts) -> Vec<Step> {
    match cuts {
        Cuts::Whole => vec![Step::Send(bytes.to_vec())],
        Cuts::EachByte => bytes.iter().map(|byte| Step::Send(vec![*byte])).collect(),
        Cuts::At(places) => {
            let mut places: Vec<usize> =
                places.iter().copied().filter(|place| *place < bytes.len()).collect();
            places.sort_unstable();
            places.dedup();
            let mut steps = Vec::new();
            let mut from = 0;
            for to in places.into_iter().filter(|place| *place > 0).chain([bytes.len()]) {
                if from > 0 {
                    steps.push(Step::Wait(GAP));
                }
                steps.push(Step::Send(bytes[from..to].to_vec()));
                from = to;
            }
            steps
        }
    }
}

/// The answer's own head and body under a framing that no reader may accept.
fn misframe(reply: Reply, form: Form, bad: BadFraming) -> Vec<u8> {
    let head = reply.head(form);
    let body = match reply.content {
        Content::None => Vec::new(),
        Content::Whole(body) => body,
        Content::Stream(pieces) => pieces.concat(),
    };
    let length = body.len();
    let (fields, wire) = match bad {
        BadFraming::LengthTooLong => (format!("Content-Length: {}\r\n", length + 10), body),
        BadFraming::LengthTooShort => (format!("Content-Length: {}\r\n", length / 2), body),
        BadFraming::TwoLengths => {
            (format!("Content-Length: {length}\r\nContent-Length: {}\r\n", length + 1), body)
        }
        BadFraming::NegativeLength => ("Content-Length: -1\r\n".to_owned(), body),
        BadFraming::LengthAndChunked => {
            (format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), whole_chunked(&body))
        }
        BadFraming::ChunkSize => {
            (CHUNKED.to_owned(), [b"xyz\r\n", body.as_slice(), b"\r\n0\r\n\r\n"].concat())
        }
        BadFraming::ChunkEnd => {
            let size = format!("{length:x}\r\n").into_bytes();
            (CHUNKED.to_owned(), [size.as_slice(), body.as_slice(), LAST_CHUNK].concat())
        }
        BadFraming::NoLastChunk => (CHUNKED.to_owned(), chunk(&body)),
        BadFraming::BareLf => {
            let head = format!("{head}Content-Length: {length}\r\n\r\n").replace("\r\n", "\n");
            return [head.as_bytes(), &body].concat();
        }
        BadFraming::Garbage => return b"\x16\x03\x01 this is no HTTP at all\r\n\r\n".to_vec(),
        BadFraming::EndlessHead => {
            let field = format!("X-More: {}\r\n", "m".repeat(1014));
            return [head.as_bytes(), field.repeat(1024).as_bytes()].concat();
        }
    };
    [head.as_bytes(), fields.as_bytes(), b"\r\n", &wire].concat()
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn whole_chunked(body: &[u8]) -> Vec<u8> {
    [chunk(body).as_slice(), LAST_CHUNK].concat()
}
