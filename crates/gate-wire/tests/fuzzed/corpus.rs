//! The corpora of the fuzz targets.

use crate::{property, tee};
use std::path::Path;

#[test]
fn requests_of_the_corpus() {
    replay("wire_request", property::request);
}

#[test]
fn answers_of_the_corpus() {
    replay("wire_tee", tee::tee);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{} has only {} inputs", folder.display(), files.len());
    for file in files {
        check(&std::fs::read(file).unwrap());
    }
}
