//! `docs/instead-of.md`: no cell is empty, each test that it names is there and runs, each command is one that herdgate takes, and
//! each setting one of `docs/settings.md`. Whether a test shows what its row says is for whoever reads both.

use crate::harness::Home;
use crate::harness::peer::workspace;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEAD: [&str; 3] = ["what you did by hand", "with herdgate", "shown by"];

/// A row, and where it stands.
struct Row {
    at: String,
    cells: [String; 3],
}

fn page(name: &str) -> String {
    fs::read_to_string(workspace().join("docs").join(name)).unwrap()
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn rows() -> Vec<Row> {
    let text = page("instead-of.md");
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = format!("docs/instead-of.md:{}", number + 1);
        assert!(!line.contains('|') || line.starts_with('|'), "{at}: a row begins with a bar");
        let Some(cells) = line.starts_with('|').then(|| cells(line).unwrap_or_default()) else { continue };
        assert_eq!(cells.len(), 3, "{at}: three cells, and no bar within one");
        if cells != HEAD && cells != ["---"; 3] {
            rows.push(Row { at, cells: [0, 1, 2].map(|place: usize| cells[place].to_owned()) });
        }
    }
    rows
}

/// What stands between backticks.
fn spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_is_whole_and_there_once() {
    let rows = rows();
    assert!(rows.len() >= 120, "{}", rows.len());
    let mut seen = BTreeSet::new();
    for Row { at, cells } in &rows {
        for cell in cells {
            assert!(cell.chars().any(char::is_alphanumeric), "{at}: an empty cell");
            assert_eq!(cell.matches('`').count() % 2, 0, "{at}: a backtick without its other half");
        }
        assert!(seen.insert(&cells[0]), "{at}: this is there already");
    }
    let text = page("instead-of.md");
    for title in text.lines().filter_map(|line| line.strip_prefix("## ")) {
        assert!(
            text.contains(&format!("[{title}](#{})", anchor(title))),
            "{title} is not in the list of contents"
        );
    }
}

/// The anchor of a title, as pages show it.
pub(crate) fn anchor(title: &str) -> String {
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let text = page("instead-of.md");
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links {
        let (name, place) = link.split_once('#').unwrap_or((link, ""));
        let there = if name.is_empty() { text.clone() } else { page(name) };
        let titles = there
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()));
        assert!(place.is_empty() || titles.into_iter().any(|title| title == place), "{link} leads nowhere");
    }
}

/// The tests that a cell names: each of its parts is one, between backticks.
#[track_caller]
fn proofs(at: &str, cell: &str) -> Vec<(String, String)> {
    let proof = |part: &str| {
        let span = part.strip_prefix('`')?.strip_suffix('`')?;
        let (place, name) = span.split_once(": ")?;
        Some((place.to_owned(), name.to_owned()))
    };
    cell.split("; ").map(|part| proof(part).unwrap_or_else(|| panic!("{at}: {part} is no test"))).collect()
}

/// Names of the recorded situations.
fn recorded() -> BTreeSet<String> {
    let folder = workspace().join("crates/herdgate/src/doctor/recorded");
    let names = fs::read_dir(folder).unwrap().flat_map(|file| {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        all.into_iter().map(|one| one["name"].as_str().unwrap().to_owned())
    });
    names.collect()
}

/// Where modules of a crate begin: the folder of its sources, or that of a test program, whose name is then the first word.
fn root<'w>(folder: &Path, words: &'w [&'w str]) -> Option<(PathBuf, PathBuf, &'w [&'w str])> {
    let (first, rest) = words.split_first()?;
    let tests = folder.join("tests");
    for main in [tests.join(first).join("main.rs"), tests.join(format!("{first}.rs"))] {
        if main.is_file() {
            return Some((main, tests.join(first), rest));
        }
    }
    let main = ["src/lib.rs", "src/main.rs"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|main| main.is_file())?;
    Some((main, folder.join("src"), words))
}

/// The file of a module, and the modules within that file that lead to it.
fn source<'w>(folder: &Path, words: &'w [&'w str]) -> Option<(PathBuf, &'w [&'w str])> {
    let (mut file, mut folder, mut words) = root(folder, words)?;
    while let Some((first, rest)) = words.split_first() {
        let here = [folder.join(format!("{first}.rs")), folder.join(first).join("mod.rs")];
        let Some(next) = here.into_iter().find(|file| file.is_file()) else { break };
        (file, folder, words) = (next, folder.join(first), rest);
    }
    Some((file, words))
}

/// Whether a function of this name is there that `cargo test` runs.
fn is_test(text: &str, inside: &[&str], name: &str) -> bool {
    let start = inside
        .iter()
        .try_fold(0, |start, module| Some(start + text[start..].find(&format!("mod {module} {{"))?));
    let Some(start) = start else { return false };
    // The list of guides makes a test of each.
    if text.contains("$(#[test] fn $test()") && text.contains(&format!("\n    {name}: \"")) {
        return inside.is_empty();
    }
    // What stands within modules of a file is as far from the margin.
    let margin = "    ".repeat(inside.len());
    let heads = ["", "async "].map(|how| format!("{margin}{how}fn {name}("));
    let lines: Vec<&str> = text[start..].lines().collect();
    let Some(place) = lines.iter().position(|line| heads.iter().any(|head| line.starts_with(head))) else {
        return false;
    };
    let lines: Vec<&str> = lines[..place].iter().map(|line| line.trim()).collect();
    let above = lines.iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let above: Vec<&str> = above.copied().collect();
    let has = |word: &str| above.iter().any(|line| line.starts_with(word));
    (has("#[test]") || has("#[tokio::test")) && !has("#[ignore")
}

/// Where a function of this name is now, for whoever has moved it.
fn with_a_function(name: &str) -> String {
    let head = format!("fn {}(", name.rsplit("::").next().unwrap());
    let (mut folders, mut found) = (vec![workspace().join("crates")], String::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && fs::read_to_string(&path).unwrap().contains(&head)
            {
                found.push_str(&format!("; moved to {}?", path.display()));
            }
        }
    }
    found
}

#[test]
fn every_test_that_it_names_is_there() {
    let situations = recorded();
    // What is looked for in every stack that can be made.
    let judge = workspace().join("crates/herdgate/src/deploy/compose/facts.py");
    let faults = fs::read_to_string(judge).unwrap();
    let mut wrong = Vec::new();
    for Row { at, cells } in rows() {
        for (place, name) in proofs(&at, &cells[2]) {
            let is_there = if place == "recorded" {
                situations.contains(&name)
            } else if place == "no stack" {
                faults.lines().any(|line| line.trim().starts_with("yield ") && line.contains(&name))
            } else {
                let mut words: Vec<&str> = name.split("::").collect();
                let function = words.pop().unwrap_or_default();
                let found = source(&workspace().join("crates").join(&place), &words);
                found.is_some_and(|(file, inside)| {
                    is_test(&fs::read_to_string(file).unwrap(), inside, function)
                })
            };
            if !is_there {
                let moved = with_a_function(&name);
                wrong.push(format!("{at}: there is no test {place}: {name}{moved}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words of a command, as a shell would split them.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut is_quoted) = (vec![String::new()], false);
    for sign in command.chars() {
        match sign {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(sign),
        }
    }
    words
}

#[test]
fn every_command_is_one_that_herdgate_takes() {
    let home = Home::new();
    let mut commands = BTreeSet::new();
    for Row { cells, .. } in rows() {
        let own =
            spans(&cells[1]).filter_map(|span| span.trim_start_matches("sudo ").strip_prefix("herdgate "));
        commands.extend(own.map(|command| command.split(" > ").next().unwrap().to_owned()));
    }
    assert!(commands.len() > 40, "{commands:?}");
    for command in commands {
        let mut words = words(&command);
        words.push("--help".to_owned());
        let told = home.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(told.code, 0, "herdgate {command}: {}", told.err);
    }
}

/// Whether the settings have it: a section, a key with its section, or a field of one of the tables.
fn is_setting(settings: &str, span: &str) -> bool {
    let name = span.split(" = ").next().unwrap();
    if span.starts_with('[') {
        return settings.contains(&format!("\n## `{span}`\n"));
    }
    let Some((section, key)) = name.rsplit_once('.') else {
        let is_field = |line: &str| line.starts_with(&format!("{name} = "));
        return settings.contains(&format!("\n### `{name}`\n")) || settings.lines().any(is_field);
    };
    let Some(at) = settings.find(&format!("\n## `[{section}]`\n")) else { return false };
    let rest = &settings[at + 1..];
    let rest = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    rest.contains(&format!("\n### `{key}`\n"))
}

/// Whether it looks like a setting: `section.key`, `key = value`, `[section]`, or a name with a `_`.
fn looks_like_one(span: &str) -> bool {
    let name = span.split(" = ").next().unwrap();
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'))
        && !name.starts_with('.');
    span.starts_with('[') || is_name && (name.contains(['_', '.']) || span.contains(" = "))
}

#[test]
fn every_setting_is_one_of_the_settings() {
    let settings = page("settings.md");
    // Codes of errors and names of metrics look alike.
    let others = [page("errors.md"), page("metrics.md")].concat();
    let mut found = 0;
    for Row { at, cells } in rows() {
        for span in spans(&cells[1]).filter(|span| looks_like_one(span)) {
            let is_known = is_setting(&settings, span) || others.contains(&format!("`{span}`"));
            assert!(is_known, "{at}: {span} is no setting");
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}
