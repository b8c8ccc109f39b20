//! `herdgate backup` and `restore`: what was taken under load works elsewhere, what is there is never lost, and no archive
//! writes anything but what a backup is.

mod hostile;

use crate::harness::home::mode;
use crate::harness::load::{Load, home, slow_ollama};
use crate::harness::{Ask, Home, leave_out, testkit};
use gate_testkit::Setup;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

/// Every file below a folder with its bytes, and every folder.
fn tree(root: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let is_folder = path.symlink_metadata().unwrap().is_dir();
            found.insert(name, (!is_folder).then(|| fs::read(&path).unwrap_or_default()));
            if is_folder {
                folders.push(path);
            }
        }
    }
    found
}

#[track_caller]
fn done(home: &Home, args: &[&str]) -> String {
    let finished = home.run(args);
    assert_eq!(finished.code, 0, "{args:?}: {}", finished.err);
    finished.err
}

#[track_caller]
fn refused(home: &Home, args: &[&str], words: &str) {
    let finished = home.run(args);
    assert_eq!(finished.code, 1, "{args:?}: {}", finished.err);
    assert!(finished.err.starts_with("error: ") && finished.err.contains(words), "{words}: {}", finished.err);
    assert!(finished.err.lines().count() <= 2, "{}", finished.err);
}

/// The files of an archive, by their paths.
fn files(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let plain = zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    let mut tar = tar::Archive::new(plain);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    entries.collect()
}

#[test]
fn what_is_taken_under_load_works_elsewhere() {
    let ollama = slow_ollama();
    let from = home().settings("[limits]\nstreams = 17\n[tls]\nself_signed = false\n");
    let before: Vec<String> = (0..20).map(|count| from.key(&format!("k{count}"), &[])).collect();
    let revoked = from.key("gone", &[]);
    done(&from, &["key", "revoke", "gone"]);
    let gate = from.serve(&["--upstream", &ollama.url()]);
    let load = Load::start(gate.address, 16);
    load.goes_on(16);
    let archive = from.path("gate.tar.zst");
    let name = archive.to_str().unwrap();
    // Keys are made and used while the copy is taken.
    let late = std::thread::scope(|scope| {
        let late =
            scope.spawn(|| (0..5).map(|count| from.key(&format!("late{count}"), &[])).collect::<Vec<_>>());
        for key in &before {
            gate.takes(key);
        }
        for _ in 0..3 {
            let said = done(&from, &["backup", name]);
            assert!(said.contains("gate.tar.zst") && said.contains("keep it private"), "{said}");
        }
        late.join().unwrap()
    });
    load.goes_on(16);
    load.stop();
    done(&from, &["backup", name]);
    assert_eq!(mode(&archive), 0o600);
    let left: Vec<_> = tree(&from.path("")).into_keys().filter(|name| name.ends_with(".tmp")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    gate.end();

    let to = home();
    let said = done(&to, &["restore", name]);
    assert!(
        said.contains("26 keys") && said.ends_with("restored; start it with: herdgate serve\n"),
        "{said}"
    );
    let settings = |home: &Home| fs::read_to_string(home.path("herdgate.toml")).unwrap();
    assert_eq!(settings(&to), settings(&from));
    let gate = to.serve(&["--upstream", &ollama.url()]);
    for key in before.iter().chain(&late) {
        Ask::get("/api/tags").key(key).send(gate.address).ok();
    }
    assert_eq!(Ask::get("/api/tags").key(&revoked).send(gate.address).status, 401);
    gate.end();
}

#[test]
fn it_takes_certificates_and_tells_the_models_of_each_upstream() {
    let ollama = testkit(Setup::default());
    let from = home().settings(&format!(
        "upstreams = [\"{}\", \"http://127.0.0.1:9\"]\n[tls]\nself_signed = true\n",
        ollama.url()
    ));
    let gate = from.begin(&[]);
    let archive = from.path("gate.tar.zst");
    let name = archive.to_str().unwrap();
    let said = done(&from, &["backup", name]);
    assert!(said.contains("note: http://127.0.0.1:9: its models are not listed"), "{said}");
    gate.end();
    let taken = files(&archive);
    let list: Value = serde_json::from_slice(&taken["herdgate-backup/upstreams.json"]).unwrap();
    let models = list["upstreams"][0]["models"].as_array().unwrap();
    assert!(
        models.iter().any(|model| model["digest"].as_str().is_some_and(|digest| digest.len() == 64)),
        "{list}"
    );
    assert!(list["upstreams"][1]["error"].is_string(), "{list}");
    let sums = String::from_utf8(taken["herdgate-backup/SHA256SUMS"].clone()).unwrap();
    assert_eq!(sums.lines().count(), taken.len() - 1);

    let to = home();
    done(&to, &["restore", name]);
    for file in ["tls-ca.pem", "tls-ca-key.pem", "store-id"] {
        assert_eq!(fs::read(to.data(file)).unwrap(), fs::read(from.data(file)).unwrap(), "{file}");
        assert_eq!(mode(&to.data(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&to.path("data")), 0o700);
}

#[test]
fn certificates_that_the_settings_name_come_along() {
    let from = home();
    let own = rcgen_pair();
    let (cert, key) = (from.path("cert.pem"), from.path("key.pem"));
    fs::write(&cert, &own.0).unwrap();
    fs::write(&key, &own.1).unwrap();
    let text = format!("[tls]\ncert = {:?}\nkey = {:?}\n", cert.to_str().unwrap(), key.to_str().unwrap());
    let from = from.settings(&text);
    from.key("a", &[]);
    let archive = from.path("gate.tar.zst");
    done(&from, &["backup", archive.to_str().unwrap()]);
    let to = home().settings("[limits]\nstreams = 9\n");
    let said = done(&to, &["restore", archive.to_str().unwrap()]);
    assert!(said.contains("others are there and stay") && said.contains("its settings name"), "{said}");
    assert_eq!(fs::read_to_string(to.data("from-backup/tls-key.pem")).unwrap(), own.1);
    assert_eq!(fs::read_to_string(to.data("from-backup/herdgate.toml")).unwrap(), text);
    assert_eq!(fs::read_to_string(to.path("herdgate.toml")).unwrap(), "[limits]\nstreams = 9\n");
    let said = done(&to, &["restore", "--replace", archive.to_str().unwrap()]);
    assert!(said.contains("the old ones become"), "{said}");
    assert_eq!(fs::read_to_string(to.path("herdgate.toml")).unwrap(), text);
}

/// Any certificate with its key, as files have them.
fn rcgen_pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_dry_run_touches_nothing_and_a_gate_that_runs_is_left_alone() {
    let ollama = testkit(Setup::default());
    let from = home();
    from.key("a", &[]);
    let archive = from.path("gate.tar.zst");
    let name = archive.to_str().unwrap();
    done(&from, &["backup", name]);

    let to = home();
    let before = tree(&to.path(""));
    let said = done(&to, &["restore", "--dry-run", name]);
    assert!(said.contains("1 key") && said.ends_with("nothing was changed (--dry-run)\n"), "{said}");
    assert_eq!(tree(&to.path("")), before);

    let gate = to.serve(&["--upstream", &ollama.url()]);
    let pid = gate.running.pid().to_string();
    for args in [&["restore", name][..], &["restore", "--replace", name], &["restore", "--dry-run", name]] {
        refused(&to, args, &format!("in use by a gate that runs (process {pid})"));
    }
    // Nor may another gate have the directory.
    let second = to.run(&["serve", "--listen", "127.0.0.1:0", "--upstream", &ollama.url()]);
    assert!(
        second.code == 1 && second.err.contains(&format!("in use by a gate that runs (process {pid})")),
        "{}",
        second.err
    );
    gate.end();
}

#[test]
fn what_was_there_is_kept_aside() {
    let ollama = testkit(Setup::default());
    let from = home();
    let restored = from.key("restored", &[]);
    let archive = from.path("gate.tar.zst");
    let name = archive.to_str().unwrap();
    done(&from, &["backup", name]);
    let to = home();
    let old = to.key("old", &[]);
    fs::create_dir(to.data("models")).unwrap();
    fs::write(to.data("models/mine.gguf"), "GGUF").unwrap();
    let before = tree(&to.path("data"));
    refused(&to, &["restore", name], "is not empty");
    assert_eq!(tree(&to.path("data")), before);
    done(&to, &["restore", "--replace", name]);
    let aside = fs::read_dir(to.path("data")).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside
        .into_iter()
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("before-"))
        .unwrap();
    assert_eq!(fs::read(aside.join("herdgate.db")).unwrap(), before["herdgate.db"].clone().unwrap());
    assert!(to.data("models/mine.gguf").is_file(), "models are not moved about");
    let gate = to.serve(&["--upstream", &ollama.url()]);
    Ask::get("/api/tags").key(&restored).send(gate.address).ok();
    assert_eq!(Ask::get("/api/tags").key(&old).send(gate.address).status, 401);
    gate.end();
}

#[test]
fn models_come_along_where_they_are_wanted() {
    let from = home().settings("[limits]\nstreams = 17\n");
    from.key("a", &[]);
    let store = from.path("store");
    let blob = b"weights".repeat(1000);
    let digest = gate_keys::hex(&Sha256::digest(&blob));
    let manifest = serde_json::json!({"config": {"digest": format!("sha256:{digest}"), "size": blob.len()}, "layers": []});
    let put = |path: &str, bytes: &[u8]| {
        let path = store.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(&format!("blobs/sha256-{digest}"), &blob);
    put("manifests/registry.ollama.ai/library/demo/latest", manifest.to_string().as_bytes());
    put(
        "manifests/registry.ollama.ai/library/half/latest",
        manifest.to_string().replace(&digest, &"0".repeat(64)).as_bytes(),
    );
    fs::create_dir(from.data("models")).unwrap();
    fs::write(from.data("models/own.gguf"), "GGUF").unwrap();
    let archive = from.path("gate.tar.zst");
    let name = archive.to_str().unwrap();
    let folder = store.to_str().unwrap();
    let said = done(&from, &["backup", "--models", "--models-dir", folder, name]);
    assert!(said.contains("half:latest is not whole on this disk: left out"), "{said}");

    let to = home();
    // Where something goes wrong on the way, there are neither new settings nor new data.
    let broken = to.path("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("blobs"), "no folder").unwrap();
    let before = tree(&to.path(""));
    refused(&to, &["restore", name, "--models-dir", broken.to_str().unwrap()], "blobs");
    let mut after = tree(&to.path(""));
    after
        .retain(|path, _| path != "broken/manifests" && before.contains_key(path) || path.ends_with(".toml"));
    assert_eq!(after, before);

    let target = to.path("elsewhere/models");
    let said = done(&to, &["restore", name, "--models-dir", target.to_str().unwrap()]);
    assert!(said.contains("1 of Ollama, 7.") && said.contains("1 of the engine"), "{said}");
    let mut expected = tree(&store);
    expected.retain(|path, _| !path.contains("half"));
    assert_eq!(tree(&target), expected);
    assert_eq!(fs::read(to.data("models/own.gguf")).unwrap(), b"GGUF");
    // Once more: what is there already stays.
    done(&to, &["restore", "--replace", name, "--models-dir", target.to_str().unwrap()]);
    assert_eq!(tree(&target), expected);
}

#[test]
fn it_goes_to_standard_output_too() {
    let from = home();
    from.key("a", &[]);
    let output = from.command(&["backup", "-"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let archive = from.path("piped");
    fs::write(&archive, output.stdout).unwrap();
    assert!(files(&archive).contains_key("herdgate-backup/data/herdgate.db"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = from.command(&["backup", "-"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the backup"), "{output:?}");
}

#[test]
fn a_directory_that_is_named_gets_the_settings_too_and_a_start_reads_them() {
    let from = Home::new().settings("[limits]\nconnections = 77\n");
    from.key("a", &[]);
    let archive = from.path("gate.tar.zst");
    done(&from, &["backup", archive.to_str().unwrap()]);
    let to = Home::new();
    let place = to.path("other gate");
    let (name, place) = (archive.to_str().unwrap(), place.to_str().unwrap());
    let said = done(&to, &["restore", name, "--data", place]);
    let settings = format!("{place}/herdgate.toml");
    assert!(said.contains(&format!("  settings      {settings}\n")), "{said}");
    assert!(said.ends_with(&format!("restored; start it with: herdgate serve --data '{place}'\n")), "{said}");
    assert_eq!(fs::read_to_string(to.path("herdgate.toml")).unwrap(), "", "those of this machine stay");
    assert!(done(&to, &["check", "--data", place]).contains(&settings));
    let shown = to.run(&["config", "show", "--data", place]);
    assert!(shown.out.contains("connections = 77"), "{}", shown.out);
    // The settings are no obstacle to another one, and what is there gives way only when it is told to.
    refused(&to, &["restore", name, "--data", place], "is not empty");
    let said = done(&to, &["restore", "--replace", name, "--data", place]);
    assert!(said.contains("the same already"), "{said}");
    let said = done(&to, &["backup", to.path("again").to_str().unwrap(), "--data", place]);
    assert!(said.contains("the settings") && !said.contains("left out"), "{said}");
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let from = home();
    from.key("a", &[]);
    let full = from.path("full");
    fs::create_dir(&full).unwrap();
    // Mounted for the shell and what it runs alone, and gone with them.
    let script = r#"mount -t tmpfs -o size=4k none "$0" || exit 77
        head -c 4096 /dev/zero >"$0/other"; "$@"; code=$?; ls -A "$0"; exit $code"#;
    let command = from.command(&["backup", full.join("gate.tar.zst").to_str().unwrap()]);
    let mut shell = Command::new("unshare");
    shell
        .args(["--mount", "sh", "-c", script])
        .arg(&full)
        .arg(command.get_program())
        .args(command.get_args());
    shell.current_dir(from.path("")).env("HERDGATE_DATA", from.data(""));
    let finished = match shell.output() {
        Ok(output) if output.status.code() != Some(77) => output,
        Ok(_) | Err(_) => return leave_out("only root can mount a small disk"),
    };
    let (out, err) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    if err.starts_with("unshare: ") {
        return leave_out(&format!("only root can mount a small disk: {err}"));
    }
    assert_eq!((finished.status.code(), &*out), (Some(1), "other\n"), "{err}");
    let hint = format!("hint: nothing is left behind; make room on the disk of {}", full.display());
    assert!(err.contains(&hint), "{err}");
}

#[test]
fn nothing_to_back_up_is_said() {
    let from = home();
    fs::remove_file(from.path("herdgate.toml")).unwrap();
    let name = from.path("gate.tar.zst");
    refused(&from, &["backup", name.to_str().unwrap()], "there is nothing to back up");
    assert!(!name.exists());
    refused(&from, &["backup", "/nowhere/at/all.tar.zst", "--config", "/dev/null"], "cannot write beside");
}

#[test]
fn sums_can_be_checked_without_herdgate() {
    let from = home();
    from.key("a", &[]);
    let name = from.path("gate.tar.zst");
    done(&from, &["backup", name.to_str().unwrap()]);
    let folder = from.path("unpacked");
    for (path, bytes) in files(&name) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut check = Command::new("sha256sum");
    check.args(["-c", "--quiet", "SHA256SUMS"]).current_dir(folder.join("herdgate-backup"));
    assert!(check.status().unwrap().success());
}

#[test]
fn the_directory_of_a_gate_that_was_killed_is_free() {
    let ollama = testkit(Setup::default());
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    gate.running.signal(rustix::process::Signal::KILL);
    gate.running.ended();
    home.serve(&["--upstream", &ollama.url()]).end();
}
