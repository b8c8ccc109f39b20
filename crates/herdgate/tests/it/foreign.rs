//! Root in somebody else's directory: what lies there decides nothing, least of all where a file goes that only root can read.

use crate::harness::{Home, leave_out};
use rustix::process::geteuid;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

const NOBODY: u32 = 65534;

#[test]
fn roots_tokens_go_nowhere_that_another_user_names() {
    if !geteuid().is_root() {
        return leave_out("being somebody else takes root");
    }
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (token, folder) = (home.path("token"), home.path("theirs"));
    fs::write(&token, "canary-of-root\n").unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("herdgate.toml");
    let url = format!("http://{}", listener.local_addr().unwrap());
    fs::write(&file, format!("[[upstream]]\nurl = {url:?}\ntoken_file = {token:?}\n")).unwrap();
    let (data, named) = (folder.to_str().unwrap(), file.to_str().unwrap());
    let archive = home.path("gate.tar.zst");
    let commands = [
        &["doctor"][..],
        &["backup", archive.to_str().unwrap()],
        &["check"],
        &["config", "show"],
        &["serve", "--listen", "127.0.0.1:0"],
    ];
    let refused = |words: &str| {
        for command in commands {
            let told = home.run(&[command, &["--data", data]].concat());
            assert_eq!(told.code, 64, "{command:?}: {}", told.err);
            let says = told.err.starts_with(&format!("error: {named} ")) && told.err.contains(words);
            assert!(says && told.err.contains("--config FILE"), "{command:?}: {}", told.err);
            let heard = listener.accept().map_err(|error| error.kind());
            assert_eq!(heard.map(drop), Err(ErrorKind::WouldBlock), "{command:?} went there");
        }
        assert!(!archive.exists());
    };
    let give = |path, user| chown(path, Some(user), None).unwrap();
    give(&file, NOBODY);
    refused("belongs to user 65534, and this is user 0");
    give(&folder, NOBODY);
    give(&file, 0);
    refused(&format!("lies in {data}, which belongs to user 65534, and this is user 0"));
    give(&folder, 0);
    fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
    refused("may be written to by others (mode 0620)");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::rename(&file, home.path("elsewhere.toml")).unwrap();
    symlink(home.path("elsewhere.toml"), &file).unwrap();
    refused("is a link, or no plain file");
    fs::remove_file(&file).unwrap();
    symlink(home.path("nowhere"), &file).unwrap();
    refused("is a link, or no plain file");
    // What root names itself, or owns, is taken.
    let named =
        home.run(&["check", "--data", data, "--config", home.path("elsewhere.toml").to_str().unwrap()]);
    assert_eq!(named.code, 0, "{}", named.err);
    fs::remove_file(&file).unwrap();
    fs::rename(home.path("elsewhere.toml"), &file).unwrap();
    let own = home.run(&["config", "show", "--data", data]);
    assert!(own.code == 0 && own.out.contains(&url), "{}", own.err);
}
