//! Networks for one test: namespaces of the kernel with links between them, gone with the test. Making them needs root.

use super::leave_out;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Namespaces, each called by a name that counts within the test alone.
#[derive(Debug)]
pub(crate) struct Networks {
    names: Vec<String>,
    /// Tests of one process run beside each other.
    number: usize,
}

/// How many were made.
static MADE: AtomicUsize = AtomicUsize::new(0);

impl Networks {
    /// Makes them, each with its loopback up; none where this machine does not let anybody make any.
    #[track_caller]
    pub(crate) fn make(names: &[&str]) -> Option<Self> {
        let mut made = Self { names: Vec::new(), number: MADE.fetch_add(1, Ordering::Relaxed) };
        for name in names {
            let whole = made.whole(name);
            let added = Command::new("ip").args(["netns", "add", &whole]).output();
            match added {
                Ok(output) if output.status.success() => made.names.push(whole),
                Ok(output) => {
                    let why = String::from_utf8_lossy(&output.stderr).into_owned();
                    leave_out(&format!(
                        "network namespaces cannot be made, which needs root: {}",
                        why.trim()
                    ));
                    return None;
                }
                Err(error) => {
                    leave_out(&format!("network namespaces are made with `ip` of iproute2: {error}"));
                    return None;
                }
            }
            made.ip(&format!("-n {name} link set lo up"));
        }
        Some(made)
    }

    /// Runs `ip`. Words that are names of namespaces stand for theirs.
    #[track_caller]
    pub(crate) fn ip(&self, words: &str) {
        let words: Vec<String> = words.split(' ').map(|word| self.named(word)).collect();
        let output = Command::new("ip").args(&words).output().unwrap();
        assert!(
            output.status.success(),
            "ip {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Does something in a namespace. Sockets that are made there stay there.
    pub(crate) fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = format!("/run/netns/{}", self.whole(name));
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let namespace = File::open(file).unwrap();
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs `program` in a namespace.
    pub(crate) fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.whole(name), program]);
        command
    }

    /// What a shell script begins with that shall run there.
    pub(crate) fn moves_into(&self, name: &str) -> String {
        format!(
            "[ -n \"$MOVED\" ] || MOVED=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin exec ip netns exec {} /bin/sh \"$0\" \"$@\"",
            self.whole(name)
        )
    }

    /// The folder whose files stand for those of `/etc` there (ip-netns(8)).
    pub(crate) fn folder(&self, name: &str) -> std::path::PathBuf {
        std::path::Path::new("/etc/netns").join(self.whole(name))
    }

    /// The name on this machine, where other tests have theirs.
    fn whole(&self, name: &str) -> String {
        format!("hgt-{}-{}-{name}", std::process::id(), self.number)
    }

    fn named(&self, word: &str) -> String {
        let whole = self.whole(word);
        if self.names.contains(&whole) { whole } else { word.to_owned() }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.names {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}
