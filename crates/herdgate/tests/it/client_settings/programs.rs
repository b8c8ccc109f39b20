//! The programs: run with the libraries that they name, with a key from wherever they look for one, to the end of their patience.

use super::{SELF_SIGNED, answer, command, filled_in, out, told};
use crate::clients::{Runner, javascript, langchain, python};
use crate::harness::home::mode;
use crate::harness::{Home, leave_out, testkit};
use gate_testkit::{Fault, Order, Setup};
use std::fs;
use std::time::Duration;

/// The programs, what runs each, and a folder in which it finds its libraries.
fn programs() -> Vec<(&'static str, &'static str, Runner, tempfile::TempDir)> {
    let all = [
        ("python", "herdgate_client.py", python()),
        ("langchain", "herdgate_langchain.py", langchain()),
        ("javascript", "herdgate_client.mjs", javascript()),
        ("fetch", "herdgate_fetch.mjs", javascript()),
    ];
    let mut found = Vec::new();
    for (kind, name, runner) in all {
        match runner {
            Ok(runner) => {
                // Modules of Node are looked for above the program.
                let is_node = name.ends_with(".mjs");
                let above = if is_node { runner.folder.clone() } else { std::env::temp_dir() };
                let folder = tempfile::Builder::new().prefix("settings-").tempdir_in(above).unwrap();
                found.push((kind, name, runner, folder));
            }
            Err(why) => leave_out(&why),
        }
    }
    found
}

#[test]
fn programs_and_their_keys_are_made_by_one_paste() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    for (kind, name, runner, folder) in programs() {
        let script = filled_in(&gate, &home, kind);
        let (pasted, key) = (folder.path().join("pasted"), folder.path().join(format!("bot-{kind}.key")));
        fs::write(&pasted, &script).unwrap();
        out(command("sh", folder.path()).arg(&pasted).output().unwrap());
        assert_eq!((mode(&key), mode(&folder.path().join(name))), (0o600, 0o600), "{kind}");
        let said = out(command(&runner.program, folder.path()).args([name, "hi"]).output().unwrap());
        assert_eq!(said, format!("{}\n", answer(&ollama)), "{kind}");
        // Once more, over what somebody has changed by now.
        fs::write(folder.path().join(name), "changed").unwrap();
        let again = command("sh", folder.path()).arg(&pasted).output().unwrap();
        assert!(!again.status.success(), "{kind}");
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "changed", "{kind}");
    }
}

#[test]
fn no_key_is_made_for_a_folder_that_has_such_files_and_none_is_lost_in_one() {
    let home = Home::new();
    let words = ["key", "create", "bot", "--for", "python", "--model", "demo"];
    for file in ["herdgate_client.py", "bot.key"] {
        fs::write(home.path(file), "own").unwrap();
        let refused = home.run(&words);
        assert_eq!((refused.code, refused.out.as_str()), (64, ""), "{}", refused.err);
        assert!(refused.err.contains(&format!("error: {file} is in this folder already")), "{}", refused.err);
        fs::remove_file(home.path(file)).unwrap();
    }
    // The name is free: nothing was made. What is pasted elsewhere says where the key is.
    let made = home.run(&words);
    assert_eq!(made.code, 0, "{}", made.err);
    for (file, says) in [
        ("herdgate_client.py", "the key is in bot.key\nhint: herdgate deploy client python"),
        ("bot.key", "key rotate bot"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), "own").unwrap();
        let ended = command("sh", folder.path()).args(["-c", &made.out]).output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && err.contains(says), "{file}: {err}");
        assert_eq!(fs::read_to_string(folder.path().join(file)).unwrap(), "own");
        assert!(folder.path().join("bot.key").exists(), "{file}");
    }
}

#[test]
fn programs_take_the_key_from_the_environment_and_trust_the_gates_own_authority() {
    let ollama = testkit(Setup::default());
    let home = Home::new().settings(SELF_SIGNED);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    for (kind, name, runner, folder) in programs() {
        let (program, _) = told(&gate, &home, &["deploy", "client", kind, "--model", "demo"]);
        assert!(program.contains(home.data("tls-ca.pem").to_str().unwrap()), "{program}");
        fs::write(folder.path().join(name), program).unwrap();
        let run = |variable: &str, value: &str| {
            command(&runner.program, folder.path()).args([name, "hi"]).env(variable, value).output().unwrap()
        };
        let right = format!("{}\n", answer(&ollama));
        assert_eq!(out(run("HERDGATE_KEY", &gate.first_key())), right, "{kind}");
        assert_eq!(out(run("HERDGATE_KEY_FILE", home.data("first-key").to_str().unwrap())), right, "{kind}");
        let wrong = run("HERDGATE_KEY", "sk-hg-wrong");
        let err = String::from_utf8_lossy(&wrong.stderr);
        assert!(!wrong.status.success() && err.contains("API key"), "{kind}: {err}");
    }
}

/// With a second in the place of the minutes that a program waits, and a model that takes longer than any test.
#[test]
fn the_time_that_a_program_waits_is_the_one_that_it_says() {
    let ollama =
        testkit(Setup { load_time: Duration::from_secs(600), ..Setup::default() }.with_models(&["demo"]));
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    for (kind, name, runner, folder) in programs() {
        let (program, _) = told(&gate, &home, &["deploy", "client", kind, "--model", "demo"]);
        let (before, after) = if name.ends_with(".py") {
            ("WAIT = 660\n", "WAIT = 1\n")
        } else {
            ("WAIT = 660_000\n", "WAIT = 1_000\n")
        };
        assert!(program.contains(before), "{program}");
        fs::write(folder.path().join(name), program.replace(before, after)).unwrap();
        let gave_up = command(&runner.program, folder.path())
            .arg(name)
            .env("HERDGATE_KEY", gate.first_key())
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&gave_up.stderr);
        let says = if name.ends_with(".py") { "ReadTimeout" } else { "HeadersTimeoutError" };
        assert!(!gave_up.status.success() && err.contains(says), "{kind}: {err}");
    }
}

#[test]
fn a_stream_that_breaks_is_an_error_of_the_program_without_a_library() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::GivesUp { tokens: 4 }));
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let Some((kind, name, runner, folder)) = programs().into_iter().find(|program| program.0 == "fetch")
    else {
        return;
    };
    let (program, _) = told(&gate, &home, &["deploy", "client", kind, "--model", "demo"]);
    fs::write(folder.path().join(name), program).unwrap();
    let broken = command(&runner.program, folder.path())
        .arg(name)
        .env("HERDGATE_KEY", gate.first_key())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&broken.stderr);
    assert!(!broken.status.success() && err.contains("the model server broke off"), "{err}");
    assert!(!broken.stdout.is_empty(), "what came before is kept");
}
