//! Every input that a fuzz target has found interesting, checked again on each plain test run.

use std::path::Path;

use crate::{property, proxy};

#[test]
fn requests_of_the_corpus() {
    replay("h1_request", property::requests);
}

#[test]
fn responses_of_the_corpus() {
    replay("h1_response", property::responses);
}

#[test]
fn bodies_of_the_corpus() {
    replay("h1_body", property::bodies);
}

#[test]
fn proxy_headers_of_the_corpus() {
    replay("h1_proxy", proxy::header);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    files.sort();
    assert!(files.len() >= 5, "{} has only {} inputs", folder.display(), files.len());
    for file in files {
        check(&std::fs::read(file).unwrap());
    }
}
