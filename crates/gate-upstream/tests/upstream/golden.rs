//! What real Ollama servers answered, played whole, byte by byte and in two pieces, against a naive second reader.

use std::fs;
use std::path::{Path, PathBuf};

use gate_upstream::Ask;

use crate::played::{GET, HEAD, ID, Played, Then, body, client, cuts};

/// Above this a transcript is cut at every place of its beginning and end only: the middle repeats itself.
const CUT_WHOLLY: usize = 3000;

fn transcripts() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let versions = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = versions
        .filter(|path| path.is_dir())
        .flat_map(|version| fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()))
        .collect();
    files.sort();
    assert!(files.len() > 20);
    files
}

/// The data of a body, read the simplest way that is right for these files.
fn data_of(head: &str, mut wire: &[u8]) -> Vec<u8> {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return wire.to_vec();
    }
    let mut data = Vec::new();
    loop {
        let line_end = wire.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..line_end]).unwrap(), 16).unwrap();
        wire = &wire[line_end + 2..];
        if size == 0 {
            assert_eq!(wire, b"\r\n");
            return data;
        }
        data.extend_from_slice(&wire[..size]);
        wire = &wire[size + 2..];
    }
}

async fn play(file: &Path, pieces: Vec<Vec<u8>>, bytes: &[u8]) {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (head, wire) = bytes.split_at(head_end);
    let head = std::str::from_utf8(head).unwrap();
    let status: u16 = head[9..12].parse().unwrap();
    let ask: Ask<'_> = if file.to_string_lossy().ends_with("-head.res") { HEAD } else { GET };
    let kept = (head.starts_with("HTTP/1.1") || head.contains("Connection: keep-alive"))
        && !head.contains("Connection: close");

    let (stream, seen) = Played::new(pieces, Then::End);
    let client = client([stream]);
    let mut answer = client.send(ID, &ask).await.unwrap();
    assert_eq!(answer.status(), status, "{file:?}");
    let lines = head.trim_end().split("\r\n").skip(1);
    assert!(
        answer
            .fields()
            .map(|(name, value)| format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ))
            .eq(lines.map(str::to_owned)),
        "{file:?}"
    );
    let (came, data) = body(&mut answer, 65536).await.unwrap();
    assert_eq!(came, wire, "{file:?}");
    assert_eq!(data, data_of(head, wire), "{file:?}");
    assert_eq!(client.idle(ID), usize::from(kept), "{file:?}");
    assert_eq!(seen.borrow().closed, !kept, "{file:?}");
}

#[tokio::test]
async fn recorded_answers_come_through_byte_for_byte_however_they_are_cut() {
    for file in transcripts() {
        let bytes = fs::read(&file).unwrap();
        for (place, pieces) in cuts(&bytes).enumerate() {
            if bytes.len() <= CUT_WHOLLY || place < 600 || place > bytes.len() - 300 {
                play(&file, pieces, &bytes).await;
            }
        }
    }
}
