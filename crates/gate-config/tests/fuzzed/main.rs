//! Any bytes as settings, and the corpora of the fuzz targets.

#![cfg(test)]
mod property;

use property::{host, settings};
use proptest::prelude::*;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut read = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        check(&std::fs::read(file.unwrap().path()).unwrap());
        read += 1;
    }
    assert!(read >= 10, "{read} files in the corpus of {target}");
}

#[test]
fn settings_of_the_corpus() {
    replay("config_settings", settings);
}

#[test]
fn hosts_of_the_corpus() {
    replay("config_ollama_host", host);
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        settings(&bytes);
        host(&bytes);
    }

    #[test]
    fn what_looks_like_settings(
        lines in proptest::collection::vec("(\\[{1,2}(listen|limits|log|queue)\\]{0,2}|(head|body|address|level|upstreams|depth) ?= ?(\"[a-z0-9:/.KMiBs]{0,12}\"?|[0-9]{1,5}|\\[|true)|[a-z \\]\"=,]{0,9})", 0..9),
    ) {
        settings(lines.join("\n").as_bytes());
    }

    #[test]
    fn what_looks_like_a_host(text in "(https?://)?(\\[[0-9a-f:]{1,9}\\]|[a-z0-9.-]{0,12})(:[0-9]{0,6})?(/[a-z/?#]{0,6})?") {
        host(text.as_bytes());
    }
}
