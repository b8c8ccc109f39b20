//! Damaged files end with a reason, never with a signal.

use std::process::Stdio;

use crate::models::{self, Dice, GEMMA3, LLAMA};
use crate::wire::{demo_file, program};

/// The number of header bytes of the demo file, about: damage there tells most.
const HEADER: u64 = 31_000;

/// Forty files: cut short, with changed bytes in the header, in the first fields, and in the weights.
fn damaged() -> Vec<(String, Vec<u8>)> {
    let demo = std::fs::read(demo_file()).unwrap();
    let mut dice = Dice(40);
    let mut all = Vec::new();
    for length in [0, 3, 4, 7, 23, 24, 100, 5000, 20_000, 31_000, demo.len() / 2, demo.len() - 1] {
        all.push((format!("cut at {length}"), demo[..length].to_vec()));
    }
    let mut change = |what: &str, bytes: &[u8], from: u64, to: u64, times: usize| {
        let mut bytes = bytes.to_vec();
        let mut places = Vec::new();
        for _ in 0..times {
            let at = from + dice.below(to - from);
            bytes[at as usize] = dice.next() as u8;
            places.push(at);
        }
        all.push((format!("{what} changed at {places:?}"), bytes));
    };
    for _ in 0..12 {
        change("header", &demo, 24, HEADER, 3);
    }
    for _ in 0..6 {
        change("first fields", &demo, 4, 1000, 2);
    }
    for _ in 0..4 {
        change("weights", &demo, HEADER + 100, demo.len() as u64, 2000);
    }
    let (llama, gemma) = (models::model(LLAMA), models::model(GEMMA3));
    for _ in 0..2 {
        change("llama", &llama, 24, 6000, 5);
        change("gemma", &gemma, 24, 6000, 5);
    }
    // A byte-pair vocabulary that claims to be of sentence pieces: llama.cpp throws at the first text.
    let label = b"gpt2";
    let at = llama.windows(4).position(|four| four == label).unwrap();
    let mut mislabelled = llama.clone();
    mislabelled[at..at + 4].copy_from_slice(b"bert");
    all.push(("labelled bert".into(), mislabelled));
    let mut not_numbers = llama;
    let weights = not_numbers.len() - 4000;
    not_numbers[weights..].fill(0xff);
    all.push(("weights that are no numbers".into(), not_numbers));
    all
}

#[test]
fn forty_damaged_files_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = damaged();
    assert!(all.len() >= 40, "{}", all.len());
    let mut refused = 0;
    for (at, (what, bytes)) in all.iter().enumerate() {
        let path = dir.path().join(format!("damaged-{at}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        let output = program()
            .arg("--model")
            .arg(&path)
            .args(["--listen", "127.0.0.1:0", "--exit-with-parent"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            // Some damage changes nothing that can be told, a name's letter for instance.
            Some(0) => assert!(output.stdout.starts_with(b"listening on "), "{what}: {said}"),
            Some(1) => {
                refused += 1;
                let last = said.lines().last().unwrap_or_default();
                let named = last.contains(&format!("damaged-{at}.gguf: "));
                assert!(last.starts_with("herdgate-engine: ") && named, "{what}: {said}");
            }
            _ => panic!("{what}: {}: {said}", output.status),
        }
    }
    assert!(refused >= 25, "only {refused} of {} were refused", all.len());
}
