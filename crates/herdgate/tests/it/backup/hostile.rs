//! Archives that no `herdgate backup` wrote: nothing of them is written anywhere.

use super::{done, files, refused, tree};
use crate::harness::load::home;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// An archive of these entries, with a list of digests that fits them.
struct Forged {
    tar: tar::Builder<Vec<u8>>,
    sums: String,
}

impl Forged {
    fn of(good: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut forged = Self { tar: tar::Builder::new(Vec::new()), sums: String::new() };
        let about = "herdgate-backup/about.json";
        forged.put(about, &good[about]);
        for (path, bytes) in good {
            if path != about && path != "herdgate-backup/SHA256SUMS" {
                forged.put(path, bytes);
            }
        }
        forged
    }

    fn header(path: &str, size: usize, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        // Not through the crate, which writes no path that leads outside.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(size as u64);
        header.set_cksum();
        header
    }

    fn put(&mut self, path: &str, bytes: &[u8]) {
        self.tar.append(&Self::header(path, bytes.len(), tar::EntryType::Regular), bytes).unwrap();
        let sum = gate_keys::hex(&Sha256::digest(bytes));
        self.sums += &format!("{sum}  {}\n", path.strip_prefix("herdgate-backup/").unwrap_or(path));
    }

    fn link(&mut self, path: &str, to: &str, kind: tar::EntryType) {
        let mut header = Self::header(path, 0, kind);
        header.set_link_name(to).unwrap();
        header.set_cksum();
        self.tar.append(&header, &[][..]).unwrap();
    }

    fn finish(mut self) -> Vec<u8> {
        let sums = std::mem::take(&mut self.sums);
        self.put("herdgate-backup/SHA256SUMS", sums.as_bytes());
        zstd::encode_all(&*self.tar.into_inner().unwrap(), 1).unwrap()
    }
}

#[test]
fn no_archive_writes_what_no_backup_has() {
    let from = home();
    from.key("a", &[]);
    let name = from.path("good.tar.zst");
    done(&from, &["backup", name.to_str().unwrap()]);
    let good = files(&name);
    let whole = fs::read(&name).unwrap();
    let forged = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::of(&good);
        change(&mut forged);
        forged.finish()
    };
    let link = tar::EntryType::Symlink;
    let mut bent = good.clone();
    bent.get_mut("herdgate-backup/data/herdgate.db").unwrap()[5000..].fill(0x5a);
    let mut newer = good.clone();
    newer.get_mut("herdgate-backup/data/herdgate.db").unwrap()[60..64].copy_from_slice(&99_i32.to_be_bytes());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut", whole[..whole.len() / 2].to_vec(), "no sound backup"),
        ("empty", Vec::new(), "no sound backup"),
        ("noise", vec![0x5a; 4096], "no sound backup"),
        ("an absolute path", forged(&|to| to.put("/tmp/herdgate-evil", b"x")), "a file that no backup has"),
        (
            "a path outside",
            forged(&|to| to.put("herdgate-backup/data/../../evil", b"x")),
            "a file that no backup has",
        ),
        (
            "a hidden file",
            forged(&|to| to.put("herdgate-backup/data/.evil", b"x")),
            "a file that no backup has",
        ),
        (
            "a link",
            forged(&|to| to.link("herdgate-backup/data/store-id", "/etc/passwd", link)),
            "no plain file",
        ),
        (
            "a hard link",
            forged(&|to| to.link("herdgate-backup/data/x", "/etc/passwd", tar::EntryType::Link)),
            "no plain file",
        ),
        (
            "a device",
            forged(&|to| to.link("herdgate-backup/data/x", "x", tar::EntryType::Block)),
            "no plain file",
        ),
        (
            "a long name",
            forged(&|to| to.link("herdgate-backup/data/x", "x", tar::EntryType::GNULongName)),
            "no plain file",
        ),
        ("a file twice", forged(&|to| to.put("herdgate-backup/data/herdgate.db", b"x")), "twice"),
        (
            "a log that the database would swallow",
            forged(&|to| to.put("herdgate-backup/data/herdgate.db-wal", b"x")),
            "no backup has",
        ),
        (
            "a large file",
            forged(&|to| to.put("herdgate-backup/data/acme.json", &vec![0; 2 << 20])),
            "larger than it can be",
        ),
        ("a bent database", Forged::of(&bent).finish(), "the database in it"),
        ("a newer database", Forged::of(&newer).finish(), "a newer herdgate (version 99"),
        (
            "a lie",
            {
                let mut to = Forged::of(&good);
                to.sums = to.sums.replacen(|byte: char| byte.is_ascii_digit(), "f", 3);
                to.finish()
            },
            "is damaged",
        ),
        (
            "a missing file",
            forged(&|to| to.sums += &format!("{}  data/gone\n", "0".repeat(64))),
            "is missing",
        ),
    ];
    for (what, bytes, words) in cases {
        let to = home();
        let archive = to.path("forged.tar.zst");
        fs::write(&archive, bytes).unwrap();
        let before = tree(&to.path(""));
        refused(&to, &["restore", archive.to_str().unwrap()], words);
        assert_eq!(tree(&to.path("")), before, "{what}");
    }
    assert!(!Path::new("/tmp/herdgate-evil").exists());
}

#[test]
fn a_bomb_costs_neither_memory_nor_disk() {
    let to = home();
    let archive = to.path("bomb.tar.zst");
    // Says that its first file has a thousand times what one may have, and has it: 1 GB of zeros in 30 KB.
    let mut encoder = zstd::Encoder::new(fs::File::create(&archive).unwrap(), 1).unwrap();
    let header = Forged::header("herdgate-backup/about.json", 1 << 30, tar::EntryType::Regular);
    std::io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(1 << 30), &mut encoder).unwrap();
    encoder.finish().unwrap();
    refused(&to, &["restore", archive.to_str().unwrap()], "larger than it can be");
}
