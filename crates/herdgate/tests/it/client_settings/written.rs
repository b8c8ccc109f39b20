//! `deploy client KIND --write` and `--undo`, for every kind: what is there afterwards, and that what others wrote stays.

use super::KINDS;
use crate::harness::Home;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Every file and folder of a home and working directory, but for the gate's own.
fn picture(home: &Home) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![home.path("")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("data") || path.ends_with(".herdgate-deploy") {
                continue;
            } else if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path.clone(), fs::read(path).ok());
        }
    }
    found
}

/// The only file that is not in the picture of before.
#[track_caller]
fn new_file(home: &Home, before: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> PathBuf {
    let now = picture(home);
    let mut new = now.into_iter().filter(|(path, text)| text.is_some() && !before.contains_key(path));
    let (path, _) = new.next().unwrap();
    assert_eq!(new.next(), None);
    path
}

#[test]
fn every_kind_is_written_once_and_taken_back_to_the_byte() {
    for kind in KINDS {
        let home = Home::new();
        let run =
            |words: &[&str]| home.run(&[&["deploy", "client", kind, "--model", "qwen3:8b"], words].concat());
        let before = picture(&home);
        let asked = run(&["--write"]);
        assert_eq!(asked.code, 1, "{kind}: {}", asked.err);
        assert!(asked.err.contains("hint: --yes") && asked.err.contains("\n+"), "{kind}: {}", asked.err);
        assert_eq!(picture(&home), before, "{kind}: nobody agreed to anything");

        let written = run(&["--write", "--yes"]);
        assert_eq!((written.code, written.out.as_str()), (0, ""), "{kind}: {}", written.err);
        let path = new_file(&home, &before);
        let text = fs::read_to_string(&path).unwrap();
        let printed = run(&[]);
        assert!(
            printed.err.contains(&format!("deploy client {kind} --model qwen3:8b --write")),
            "{}",
            printed.err
        );
        assert!(text.contains(&printed.out) && (text == printed.out || kind == "env"), "{kind}: {text}");
        assert!(printed.out.contains("belongs at") || kind == "claude-code", "{kind}: {text}");

        let after = picture(&home);
        let again = run(&["--write", "--yes"]);
        assert!(again.code == 0 && again.err.contains("nothing was changed"), "{kind}: {}", again.err);
        assert_eq!(picture(&home), after, "{kind}");
        // Other settings take the place of what was written, and lead back to the very beginning.
        let other = home.run(&["deploy", "client", kind, "--gate", "http://gpu", "--write", "--yes"]);
        assert_eq!(other.code, 0, "{kind}: {}", other.err);
        assert!(fs::read_to_string(&path).unwrap().contains("http://gpu"), "{kind}");

        let back = run(&["--undo", "--yes"]);
        assert_eq!((back.code, picture(&home)), (0, before), "{kind}: {}", back.err);
        assert!(!home.path(".herdgate-deploy").exists(), "{kind}");
        let none = run(&["--undo", "--yes"]);
        assert!(none.code == 0 && none.err.contains("nothing was written"), "{kind}: {}", none.err);
    }
}

#[test]
fn what_others_wrote_is_never_touched() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "env") {
        let home = Home::new();
        let run = |words: &[&str]| home.run(&[&["deploy", "client", kind, "--yes"], words].concat());
        let before = picture(&home);
        assert_eq!(run(&["--write"]).code, 0, "{kind}");
        let path = new_file(&home, &before);
        // Changed since: by its client, or by a person.
        let changed = fs::read_to_string(&path).unwrap() + "\n";
        fs::write(&path, &changed).unwrap();
        let refused = |text: &str| {
            let left = run(&["--write"]);
            assert_eq!((left.code, left.out.as_str()), (64, ""), "{kind}: {}", left.err);
            let told = format!("not as `herdgate deploy client {kind}` wrote it\nhint: put into it by hand");
            assert!(left.err.contains("nothing was written") && left.err.contains(&told), "{}", left.err);
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "{kind}");
        };
        refused(&changed);
        let back = run(&["--undo"]);
        assert!(back.code == 0 && back.err.contains("left as it is"), "{kind}: {}", back.err);
        assert_eq!(fs::read_to_string(&path).unwrap(), changed, "{kind}");
        // And where it was there before anything was written.
        fs::write(&path, "somebody's").unwrap();
        refused("somebody's");
        assert!(run(&["--undo"]).err.contains("nothing was written"), "{kind}");
        fs::remove_file(&path).unwrap();
        assert_eq!(run(&["--write"]).code, 0, "{kind}");
    }
}

#[test]
fn two_kinds_are_written_and_taken_back_apart() {
    let home = Home::new();
    let run = |kind: &str, what: &str| home.run(&["deploy", "client", kind, what, "--yes"]);
    for kind in ["env", "python", "codex", "n8n"] {
        assert_eq!(run(kind, "--write").code, 0, "{kind}");
    }
    // One file of compose's is one part of a stack.
    assert_eq!(run("open-webui", "--write").code, 64);
    assert_eq!(run("python", "--undo").code, 0);
    for (file, is_there) in [
        (".env", true),
        ("herdgate_client.py", false),
        (".codex/config.toml", true),
        ("compose.override.yaml", true),
    ] {
        assert_eq!(home.path(file).exists(), is_there, "{file}");
    }
}
