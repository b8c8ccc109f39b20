//! What the tests of the kinds share: settings from a text, options from words, and the tools that judge what was made.

use super::{Deployment, Ground};
use clap::{ArgMatches, Args, Command};
use gate_config::{FileAccess, Flags, Locations, Place, Sources};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Every file that settings name is there: one that is called a token has a token in it, others certificates and keys.
struct Secret;

impl FileAccess for Secret {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = if path.ends_with("token") {
            "a-secret-of-some-length\n"
        } else {
            "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n"
        };
        Ok(text.to_owned())
    }
}

/// What a kind, which is this word of the command, makes of settings and options.
#[track_caller]
pub(crate) fn make<A: Args>(
    word: &str,
    settings: &str,
    words: &[&str],
    kind: impl Fn(&A, &Ground<'_>) -> anyhow::Result<Deployment>,
) -> anyhow::Result<Deployment> {
    let file = PathBuf::from("/etc/herdgate/herdgate.toml");
    make_of(word, Some((file, settings.to_owned())), &[], words, kind)
}

/// What a kind makes of a settings file, if there is one, an environment and options, in the folder `/srv`.
#[track_caller]
pub(crate) fn make_of<A: Args>(
    word: &str,
    file: Option<(PathBuf, String)>,
    env: &[(&str, &str)],
    words: &[&str],
    kind: impl Fn(&A, &Ground<'_>) -> anyhow::Result<Deployment>,
) -> anyhow::Result<Deployment> {
    let shown = file.as_ref().map_or("", |(_, text)| text).to_owned();
    let sources = Sources {
        flags: Flags::default(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        file,
        files: &Secret,
        key_form: |_| Ok("name".to_owned()),
        route_form: |_| Ok(()),
        token_form: |_| Ok(()),
    };
    let loaded = gate_config::load(&sources).unwrap_or_else(|problems| panic!("{shown}\n{problems:?}"));
    let places = Locations {
        config: None,
        config_named: None,
        is_in_data: false,
        data: "/var/lib/herdgate".into(),
        data_named: None::<Place>,
    };
    let command = [&["herdgate", "deploy", word], words].concat().join(" ");
    let ground = Ground { loaded: &loaded, places: &places, here: Path::new("/srv"), command };
    kind(&asked(words), &ground)
}

#[track_caller]
fn asked<A: Args>(words: &[&str]) -> A {
    let command = A::augment_args(Command::new("deploy").no_binary_name(true));
    let matches: ArgMatches =
        command.try_get_matches_from(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    A::from_arg_matches(&matches).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

/// The text of the file of this name.
#[track_caller]
pub(crate) fn text<'d>(made: &'d Deployment, name: &str) -> &'d str {
    let found = made.files.iter().find(|file| file.path.ends_with(name));
    &found.unwrap_or_else(|| panic!("no {name} among {:?}", made.files)).text
}

/// Every choice of one from each.
pub(crate) fn all<'c>(choices: &[&[&'c str]]) -> Vec<Vec<&'c str>> {
    choices.iter().fold(vec![Vec::new()], |made, choice| {
        made.iter().flat_map(|begun| choice.iter().map(|one| [&begun[..], &[*one]].concat())).collect()
    })
}

/// Leaves something out, saying why, or fails where nothing may be left out.
#[track_caller]
pub(crate) fn leave_out(why: &str) {
    let must = std::env::var_os("HERDGATE_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(!must, "cannot run, and HERDGATE_TEST_REQUIRE=1: {why}");
    let _closed = io::Write::write_all(&mut io::stderr(), format!("LEFT OUT: {why}\n").as_bytes());
}

/// Runs a tool; none, with a word about it, where it is not there and may be missing.
#[track_caller]
pub(crate) fn tool(program: &str, words: &[&str]) -> Option<Output> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    let Some(path) = found else {
        leave_out(&format!("there is no {program}"));
        return None;
    };
    let output =
        std::process::Command::new(path).args(words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    Some(output.unwrap_or_else(|error| panic!("{program}: {error}")))
}

/// Fails where the tool did not like it.
#[track_caller]
pub(crate) fn likes(program: &str, words: &[&str]) {
    let Some(output) = tool(program, words) else { return };
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let first: String = said.lines().take(40).map(|line| format!("{line}\n")).collect();
    assert!(
        output.status.success(),
        "{program} {:?}…: {}\n{first}",
        words.get(..words.len().min(6)),
        output.status
    );
}
