//! Which files are served, and what is said about the others.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::models::{self, GEMMA3, LLAMA, QWEN3, SLOW, Shape};
use crate::wire::{Engine, demo_file, program};

#[test]
fn several_architectures_answer_with_any_number_of_slots() {
    for shape in [LLAMA, QWEN3, GEMMA3] {
        let file = models::model(shape);
        for parallel in ["1", "3", "5", "8"] {
            let engine = Engine::start(&[("tiny", file.clone())], &["--parallel", parallel]);
            let body = json!({"model": "tiny", "prompt": "hello there", "stream": false,
                              "options": {"num_predict": 300, "temperature": 0}});
            let answers: Vec<_> = std::thread::scope(|scope| {
                let asked: Vec<_> =
                    (0..9).map(|_| scope.spawn(|| engine.ask("/api/generate", &body))).collect();
                asked.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let said: Vec<&str> = answers.iter().map(|answer| answer["response"].as_str().unwrap()).collect();
            for (answer, text) in answers.iter().zip(&said) {
                let what = format!("{} with {parallel} slots: {answer}", shape.architecture);
                assert_eq!(answer["eval_count"], 300, "{what}");
                // llama.cpp rounds by how many sequences share a batch. Random weights have near ties, so that two long
                // answers may part at some token; alone in its batch, the same question has one answer.
                let alike = if parallel == "1" { text == &said[0] } else { start(text) == start(said[0]) };
                assert!(alike, "{what} and {}", said[0]);
            }
            let embedded = engine.ask("/api/embed", &json!({"model": "tiny", "input": ["a", "b", "c"]}));
            assert_eq!(embedded["embeddings"].as_array().unwrap().len(), 3);
        }
        let engine = Engine::start(&[("tiny", file)], &[]);
        let shown = engine.ask("/api/show", &json!({"model": "tiny"}));
        assert_eq!(shown["details"]["family"], shape.architecture);
    }
}

/// What an answer begins with.
fn start(text: &str) -> String {
    text.chars().take(2).collect()
}

/// Runs the program until it ends by itself.
fn run(args: &[&str]) -> Output {
    program()
        .args(args)
        .args(["--listen", "127.0.0.1:0", "--exit-with-parent"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_directory_serves_its_sound_files_and_names_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let missing = dir.path().join("not made yet");
    for nothing in [path, missing.to_str().unwrap()] {
        let demo = run(&["--models-dir", nothing]);
        assert_eq!(demo.status.code(), Some(0));
        let said = String::from_utf8_lossy(&demo.stderr);
        assert!(said.contains("serving the demo model") && said.contains("herdgate-demo:latest"), "{said}");
    }
    std::fs::write(dir.path().join("broken.gguf"), b"GGUF").unwrap();
    std::fs::write(dir.path().join("note.txt"), b"no model").unwrap();
    std::fs::write(dir.path().join("Sound Model.gguf"), models::model(LLAMA)).unwrap();
    let served = run(&["--models-dir", path]);
    assert_eq!(served.status.code(), Some(0));
    let said = String::from_utf8_lossy(&served.stderr);
    assert!(said.contains("skipped") && said.contains("broken.gguf: is truncated"), "{said}");
    assert!(said.contains("sound-model:latest"), "{said}");
    assert_eq!(served.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn what_cannot_be_served_is_named_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sound = models::model(LLAMA);
    let other = models::model(Shape { architecture: "lhama", ..LLAMA });
    let huge = models::model(Shape { context: 1 << 20, ..SLOW });
    for (path, more, told) in [
        (file("short.gguf", b"x"), vec![], "is truncated"),
        (dir.path().join("none.gguf").to_str().unwrap().to_owned(), vec![], "No such file"),
        (dir.path().to_str().unwrap().to_owned(), vec![], "not a regular file"),
        (file("page.gguf", b"<html>not a model</html>"), vec![], "is not a GGUF file"),
        (file("cut.gguf", &sound[..sound.len() - 1]), vec![], "is truncated: the tensors' data needs"),
        (file("other.gguf", &other), vec![], "unknown model architecture: 'lhama'"),
        (file("huge.gguf", &huge), vec!["--ctx", "1048576", "--parallel", "64"], "are missing"),
    ] {
        let mut args = vec!["--model", path.as_str()];
        args.extend(more);
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(said.contains(told), "{path}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_file_that_failed_its_trial_is_tried_again_only_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let sound = models::model(LLAMA);
    let mut bad = sound.clone();
    let places: Vec<usize> = (0..sound.len() - 5).filter(|at| sound[*at..].starts_with(b"llama")).collect();
    places.into_iter().for_each(|at| bad[at + 1] = b'h');
    std::fs::write(&path, bad).unwrap();
    let first = path.metadata().unwrap().modified().unwrap();
    let engine = Engine::start(&[], &["--models-dir", dir.path().to_str().unwrap()]);
    let body = json!({"model": "tiny", "prompt": "x", "stream": false, "options": {"num_predict": 1}});
    let ask = || engine.post("/api/generate", body.to_string().as_bytes());
    let refused = ask();
    assert_eq!(refused.status, 500, "{}", refused.text());
    assert!(refused.text().contains("unknown model architecture: 'lhama'"), "{}", refused.text());
    // A sound file of the same time and length: only a second trial would find it.
    std::fs::write(&path, sound).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(first).unwrap();
    assert_eq!(ask().text(), refused.text());
    File::options().write(true).open(&path).unwrap().set_modified(first + Duration::from_secs(1)).unwrap();
    let served = ask();
    assert_eq!(served.status, 200, "{}", served.text());
}

#[test]
fn the_demo_model_stays_with_the_models_and_mends_itself() {
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    let (folder, demo) = (models.join(".demo"), models.join(".demo/herdgate-demo.gguf"));
    let serve = || {
        let served = run(&["--models-dir", models.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&served.stderr).into_owned();
        assert!(served.status.success() && said.contains("herdgate-demo:latest"), "{said}");
        said
    };
    for damage in ["", "x", "nothing"] {
        assert!(serve().contains(demo.to_str().unwrap()), "{damage:?}");
        assert!(std::fs::read(&demo).unwrap() == std::fs::read(demo_file()).unwrap(), "{damage:?}");
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(folder.read_dir().unwrap().count(), 1);
        std::fs::write(&demo, damage).unwrap();
    }
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    assert!(!serve().contains(demo.to_str().unwrap()), "there is no place for it");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let output = program().args(["--listen", "0.0.0.0:0"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("--listen 0.0.0.0:0: others can reach") && said.contains("--insecure-listen"),
        "{said}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_taken_port_is_told() {
    let engine = Engine::start(&[("tiny", models::model(LLAMA))], &[]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    std::fs::write(&path, models::model(LLAMA)).unwrap();
    let output = program().arg("--model").arg(path).args(["--listen", &engine.address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot listen on") && said.contains("in use"), "{said}");
}
