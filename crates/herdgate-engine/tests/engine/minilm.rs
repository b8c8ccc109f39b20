//! A real public embedding model, all-MiniLM-L6-v2: its vectors must be those of the original weights.
//!
//! The weights come in a Python package; where that cannot be had, the test says why, whatever the test runner hides, and ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use crate::wire::Engine;

/// The script's exit code for weights that cannot be had.
const CANNOT_BE_HAD: i32 = 3;

#[derive(Deserialize)]
struct Reference {
    sentences: Vec<Sentence>,
    paraphrases: Vec<[usize; 2]>,
    strangers: Vec<[usize; 2]>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    tokens: Vec<u32>,
    embedding: Vec<f64>,
}

/// Converts the model once per build directory.
fn converted() -> Result<PathBuf, String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("minilm");
    if out.join("reference_embeddings.json").exists() {
        return Ok(out);
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/test-models");
    let venv = out.join("venv");
    let python = venv.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(tools.join("requirements.txt")))?;
    run(Command::new(&python).arg(tools.join("convert_minilm.py")).arg("--out").arg(&out))?;
    Ok(out)
}

/// Runs a step. What a missing network or package brings about is a reason to skip; a broken script is a failure.
fn run(step: &mut Command) -> Result<(), String> {
    let name = step.get_program().to_string_lossy().into_owned();
    let output = step.output().map_err(|problem| format!("{name}: {problem}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_script = step.get_args().next().is_some_and(|first| first.to_string_lossy().ends_with(".py"));
    assert!(
        output.status.success() || !is_script || output.status.code() == Some(CANNOT_BE_HAD),
        "the conversion is broken: {said}"
    );
    if output.status.success() { Ok(()) } else { Err(said) }
}

fn nearness(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn a_real_embedding_model_gives_the_vectors_of_its_original() {
    let out = match converted() {
        Ok(out) => out,
        Err(reason) => {
            // Past the test runner, which shows nothing of a test that passes.
            let _closed = writeln!(std::io::stderr(), "LEFT OUT: all-MiniLM-L6-v2 cannot be had: {reason}");
            return;
        }
    };
    let reference: Reference =
        serde_json::from_slice(&std::fs::read(out.join("reference_embeddings.json")).unwrap()).unwrap();
    let model = std::fs::read(out.join("all-minilm-l6-v2.gguf")).unwrap();
    let engine = Engine::start(&[("minilm", model)], &[]);
    let texts: Vec<&str> = reference.sentences.iter().map(|sentence| sentence.text.as_str()).collect();
    let answer = engine.ask("/api/embed", &json!({"model": "minilm", "input": texts}));
    let vectors: Vec<Vec<f64>> = serde_json::from_value(answer["embeddings"].clone()).unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (vector, original) in vectors.iter().zip(&reference.sentences) {
        let near = nearness(vector, &original.embedding);
        assert!(near > 0.999, "{near} {:?}", original.text);
    }
    let tokens: usize = reference.sentences.iter().map(|sentence| sentence.tokens.len()).sum();
    assert_eq!(answer["prompt_eval_count"], tokens, "the tokenizer differs from the original's");
    let between = |pairs: &[[usize; 2]]| -> Vec<f64> {
        pairs.iter().map(|[a, b]| nearness(&vectors[*a], &vectors[*b])).collect()
    };
    let nearest_strangers = between(&reference.strangers).into_iter().fold(f64::MIN, f64::max);
    let farthest_paraphrases = between(&reference.paraphrases).into_iter().fold(f64::MAX, f64::min);
    assert!(farthest_paraphrases > nearest_strangers, "{farthest_paraphrases} {nearest_strangers}");
}
