//! The forms of credentials: any bytes, and the corpus of the fuzz target.

#[cfg(test)]
mod property;

#[cfg(test)]
mod tests {
    use super::property::credential;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn credentials_of_the_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/keys_credential");
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            credential(&std::fs::read(file.unwrap().path()).unwrap());
            read += 1;
        }
        assert!(read >= 10, "{read} files in the corpus");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            credential(&bytes);
        }

        #[test]
        fn what_looks_like_a_credential(
            target in "/[a-z/]{0,9}(\\?(ts=[0-9]{1,13}|[a-z=&0-9]{0,12}))?",
            value in "((?i:bearer|basic|digest) {1,3})?([A-Za-z0-9+/=:-]{0,90}|[A-Za-z0-9+/]{68}:[A-Za-z0-9+/]{86}==)",
        ) {
            credential(format!("{target}\n{value}").as_bytes());
        }
    }
}
