//! The header reader against files that are sound, cut at every byte, or changed.

use super::*;

#[path = "../../tests/engine/written.rs"]
#[expect(dead_code, reason = "shared with the tests from outside, which need more of it")]
mod written;
use written::Written;

fn sound() -> Vec<u8> {
    let mut file = Written::default();
    file.text("general.architecture", "llama");
    file.number("llama.context_length", 512);
    file.real("general.sampling.temp", 0.5);
    file.flag("tokenizer.ggml.add_bos_token", false);
    file.texts("tokenizer.ggml.tokens", &vec!["x".to_owned(); 2000]);
    file.numbers("llama.attention.head_count_kv", &[2, 4, 3]);
    file.tensor("token_embd.weight", &[4, 3], vec![1.0; 12]);
    file.tensor("output_norm.weight", &[4], vec![1.0; 4]);
    file.bytes()
}

fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
    Reader { input: bytes, at: 0, length: bytes.len() as u64 }.header()
}

#[test]
fn a_sound_file_is_read() {
    let header = read(&sound()).unwrap();
    assert_eq!(header.text("general.architecture"), Some("llama"));
    assert_eq!(header.number("llama.context_length"), Some(512));
    assert_eq!(header.real("general.sampling.temp"), Some(0.5));
    assert_eq!(header.metadata["tokenizer.ggml.tokens"], Value::LongList);
    assert_eq!(header.number("llama.attention.head_count_kv"), Some(4));
    let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["token_embd.weight", "output_norm.weight"]);
    assert_eq!(header.tensors[0].shape, [4, 3]);
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let bytes = sound();
    for end in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let problem = read(&bytes[..end]).unwrap_err();
        assert!(matches!(problem, HeaderError::Truncated { .. }), "{end}: {problem}");
        assert!(problem.to_string().contains(&format!("ends at byte {end}")), "{problem}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let told = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(told(b"<html>").starts_with("is not a GGUF file"));
    assert!(told(b"GGUF\x00\x00\x00\x03").ends_with("(a big-endian file?)"));
    assert!(told(b"GGUF\x01\x00\x00\x00").starts_with("has GGUF version 1"));
    let many = [b"GGUF\x03\x00\x00\x00".as_slice(), &[0xff; 16]].concat();
    assert!(told(&many).contains("tensors are impossibly many"));
}

#[test]
fn no_change_of_a_byte_makes_it_panic_or_take_much_memory() {
    let bytes = sound();
    for at in 0..bytes.len().min(700) {
        for value in [0, 1, 9, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            // Any verdict will do.
            drop(read(&changed));
        }
    }
}
