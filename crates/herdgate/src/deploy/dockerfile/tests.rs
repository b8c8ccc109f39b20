//! Every form of the file, and the repository's own. Images are built of them in `tests/it/image.rs`.

use super::make;
use crate::deploy::Deployment;
use crate::deploy::testing::{all, make_of, text};
use std::path::{Path, PathBuf};

const LOW: &str = "[listen]\naddress = \":443\"\n";
const SEVERAL: &str = "[[listen]]\naddress = \":80\"\n[[listen]]\naddress = \"10.0.0.1:7860\"\n\
                       [[listen]]\naddress = \"127.0.0.1:7861\"\n";
const LOOPBACK: &str = "[listen]\naddress = \"127.0.0.1:7860\"\n";

fn made(settings: &str, words: &[&str]) -> anyhow::Result<Deployment> {
    let file = (!settings.is_empty()).then(|| (PathBuf::from("/srv/herdgate.toml"), settings.to_owned()));
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    make_of(super::KIND, file, &[], &words, make)
}

fn in_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

#[track_caller]
fn repository(name: &str) -> String {
    std::fs::read_to_string(in_repository(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The instructions, each with its continued lines, without comments.
#[track_caller]
fn instructions(text: &str) -> Vec<String> {
    let mut made: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let is_more = std::mem::replace(&mut goes_on, line.ends_with('\\'));
        let line = line.trim_end_matches('\\');
        match made.last_mut() {
            Some(last) if is_more => last.push_str(line.trim_start()),
            Some(_) | None => made.push(line.to_owned()),
        }
    }
    assert!(!goes_on, "the last line goes on:\n{text}");
    made
}

#[test]
fn the_repositorys_own_is_what_the_command_prints() {
    let made = made("", &[]).unwrap();
    // Here the command is told without the kind's own word.
    let text = text(&made, "Dockerfile").replace("`herdgate deploy`", "`herdgate deploy dockerfile`");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(in_repository("Dockerfile"), text).unwrap();
        return;
    }
    assert!(
        text == repository("Dockerfile"),
        "UPDATE_DOCS=1 cargo test -p herdgate repositorys_own writes it"
    );
}

#[test]
fn it_is_built_by_the_compiler_of_the_repository_from_what_the_build_needs() {
    let channel = repository("rust-toolchain.toml");
    assert!(channel.contains(&format!("channel = \"{}\"", super::RUST)), "{channel}");
    let ignored = repository(".dockerignore");
    let lines: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.first(), Some(&"*"), "all but what is named");
    let demo = "!tools/demo-model/herdgate-demo.gguf";
    for needed in ["!Cargo.toml", "!Cargo.lock", "!crates", "!xtask", demo] {
        assert!(lines.contains(&needed), "{needed}");
    }
}

#[test]
fn every_combination_is_a_whole_file_with_nothing_open_that_is_not_meant() {
    let with = ["", "--with=ollama", "--with=engine"];
    for words in all(&[&with, &["", "--binary=dist/herdgate"], &["", LOW, SEVERAL, LOOPBACK]]) {
        let settings = words[2];
        let made = made(settings, &words[..2]).unwrap();
        let file = text(&made, "Dockerfile");
        let lines = instructions(file);
        let known = ["FROM", "LABEL", "COPY", "RUN", "ENV", "WORKDIR", "VOLUME", "USER", "EXPOSE"];
        for line in &lines {
            let word = line.split(' ').next().unwrap();
            let is_list = ["HEALTHCHECK", "ENTRYPOINT", "CMD"].contains(&word);
            assert!(known.contains(&word) || is_list, "{line}");
            if is_list || word == "VOLUME" {
                let list = &line[line.find('[').unwrap()..];
                serde_json::from_str::<Vec<String>>(list).unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
        let begins: Vec<&String> = lines.iter().filter(|line| line.starts_with("FROM ")).collect();
        assert!(begins.len() == 2 && begins[0].ends_with(" AS build"), "{file}");
        assert_eq!(begins[0], &lines[0], "{file}");
        let has = |line: &str| lines.iter().any(|one| one == line);
        let is_ollama = words[0] == "--with=ollama";
        assert_eq!(has("USER 65532:65532"), !is_ollama, "{file}");
        assert_eq!(has("VOLUME [\"/data\", \"/root/.ollama\"]"), is_ollama, "{file}");
        assert_eq!(has("ENV OLLAMA_HOST=\"\""), is_ollama, "else it would count as an upstream\n{file}");
        assert_eq!(file.contains("cargo build"), words[1].is_empty(), "{file}");
        let ports: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("EXPOSE ")).collect();
        let expected: &[&str] = match settings {
            LOW => &["443"],
            SEVERAL => &["80", "7860"],
            LOOPBACK => &[],
            _ => &["7860"],
        };
        assert_eq!(ports, expected, "{settings}");
        let is_told = made.notes.iter().any(|note| note.contains("on loopback"));
        assert_eq!(is_told, ports.is_empty(), "{:?}", made.notes);
    }
}

#[test]
fn nothing_of_the_options_leaves_its_word() {
    for words in [
        &["--binary=/usr/local/bin/herdgate"][..],
        &["--binary=../herdgate"],
        &["--binary=a b"],
        &["--binary=a\nRUN x"],
        &["--binary=a*"],
        &["--with=ollama", "--ollama=latest AS x"],
        &["--with=ollama", "--ollama="],
        &["--ollama=0.24.0"],
        &["--with=engine", "--ollama=rocm"],
    ] {
        assert!(made("", words).is_err(), "{words:?}");
    }
    let made = made("", &["--with=ollama", "--ollama=0.24.0-rocm"]).unwrap();
    assert!(text(&made, "Dockerfile").contains("\nFROM docker.io/ollama/ollama:0.24.0-rocm\n"));
}
