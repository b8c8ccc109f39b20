//! Every text that the fuzz target has found interesting, checked again on each plain test run.

mod property;

use std::path::Path;

#[test]
fn texts_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/keys_parse");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} has only {} inputs", folder.display(), files.len());
    for file in files {
        property::text(&std::fs::read(file).unwrap());
    }
}
