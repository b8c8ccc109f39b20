//! One container of an image, made of what a container engine makes it of: namespaces, a root from the image that is read-only
//! where asked for, its volumes, its user, its variables. Ends with the test.

use super::build::{Builder, Image};
use crate::harness::running::{Process, send};
use crate::harness::{Networks, Running, until};
use rustix::process::Signal;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Arranges the root and becomes the program: ROOT, `ro` or `rw`, FOLDER, UID, GID, pairs of volumes up to `--`, the program.
const ARRANGE: &str = r#"
root=$1 mode=$2 folder=$3 uid=$4 gid=$5; shift 5
mount --bind "$root" "$root" && mkdir -p "$root/proc" "$root/dev" "$root/tmp" || exit 91
while [ "$1" != -- ]; do mkdir -p "$root$2" && mount --bind "$1" "$root$2" || exit 92; shift 2; done; shift
mount -t proc proc "$root/proc" && mount -t tmpfs -o mode=755 dev "$root/dev" || exit 93
for one in null zero random urandom; do : > "$root/dev/$one"; mount --bind "/dev/$one" "$root/dev/$one" || exit 94; done
[ "$mode" = rw ] || mount -o remount,bind,ro "$root" || exit 95
exec setpriv --no-new-privs unshare --root "$root" --wd "$folder" --setgid "$gid" --setuid "$uid" "$@"
"#;

/// Where each volume lies on the machine, by its path inside.
pub(super) type Volumes = Vec<(String, PathBuf)>;

pub(super) struct Container {
    running: Running,
    root: PathBuf,
    volumes: Volumes,
    env: Vec<(String, String)>,
    user: (String, String),
}

impl Container {
    /// Starts it, as `docker run -e … [--read-only]` would.
    pub(super) fn start(
        builder: &Builder,
        image: &Image,
        networks: &Networks,
        variables: &[&str],
        is_read_only: bool,
    ) -> Self {
        Self::start_on(&Volumes::new(), builder, image, networks, variables, is_read_only)
    }

    /// The same with volumes that are there already.
    pub(super) fn start_on(
        volumes: &Volumes,
        builder: &Builder,
        image: &Image,
        networks: &Networks,
        variables: &[&str],
        is_read_only: bool,
    ) -> Self {
        let name = builder.run(&["from", "--pull-never", &image.name]);
        let root = PathBuf::from(builder.run(&["mount", &name]));
        let known = |inside: &String| volumes.iter().find(|(name, _)| name == inside).cloned();
        let fresh = |inside: &String| (inside.clone(), fresh_volume(builder, &name, &root, inside));
        let volumes: Volumes =
            image.volumes.iter().map(|inside| known(inside).unwrap_or_else(|| fresh(inside))).collect();
        let (uid, gid) = image.user.split_once(':').unwrap_or(("0", "0"));
        let home = if uid == "0" { "HOME=/root" } else { "HOME=/" };
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = image.env.iter().map(String::as_str).chain([home]);
        let env: Vec<(String, String)> = own.chain(variables.iter().copied()).filter_map(pair).collect();

        let mut command = networks.command("box", "unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ARRANGE, "sh"]).arg(&root);
        command.args([if is_read_only { "ro" } else { "rw" }, &image.folder, uid, gid]);
        for (inside, outside) in &volumes {
            command.arg(outside).arg(inside);
        }
        command.arg("--").args(&image.command).env_clear().envs(env.iter().cloned());
        let user = (uid.to_owned(), gid.to_owned());
        let running = Running::start(&mut command);
        Self { running, root, volumes, env, user }
    }

    pub(super) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// Runs the image's own check, word for word: its exit code is what Docker goes by.
    #[track_caller]
    pub(super) fn check(&self, image: &Image) -> i32 {
        let [kind, words @ ..] = &image.health[..] else { panic!("no check") };
        assert_eq!((kind.as_str(), words[0].as_str()), ("CMD", "/usr/local/bin/herdgate"));
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        self.exec(&words).0
    }

    /// A process of it, once it is there.
    #[track_caller]
    pub(super) fn process(&self, name: &str) -> Process {
        until(&format!("{name} in the container"), || {
            self.running.descendants().into_iter().find(|process| name.starts_with(&process.name))
        })
    }

    /// Runs the image's herdgate in it: exit code, standard output, standard error.
    #[track_caller]
    pub(super) fn exec(&self, words: &[&str]) -> (i32, String, String) {
        let gate = self.process("herdgate");
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", gate.pid);
        command.args([&target, "--mount", "--pid", "--net", "--root", "--wd"]);
        command.args([&format!("--setuid={}", self.user.0), &format!("--setgid={}", self.user.1)]);
        command.arg("/usr/local/bin/herdgate").args(words);
        let output = command.env_clear().envs(self.env.iter().cloned()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    pub(super) fn says(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.running.says(what, fits)
    }

    pub(super) fn signal_gate(&self, signal: Signal) {
        send(self.process("herdgate").pid, signal);
    }

    pub(super) fn ended(&mut self) -> ExitStatus {
        self.running.ended()
    }

    /// Where a volume of it lies on the machine.
    pub(super) fn volume(&self, inside: &str) -> &Path {
        let found = self.volumes.iter().find(|(name, _)| name == inside);
        &found.unwrap_or_else(|| panic!("no volume {inside}")).1
    }

    /// The root that its image gave it.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// A new volume: empty, and its folder as the image has it.
fn fresh_volume(builder: &Builder, container: &str, root: &Path, inside: &str) -> PathBuf {
    let folder = builder.place(&format!("{container}{}", inside.replace('/', "-")));
    std::fs::create_dir_all(&folder).unwrap();
    if let Ok(like) = std::fs::metadata(root.join(inside.trim_start_matches('/'))) {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(like.mode() & 0o7777)).unwrap();
        chown(&folder, Some(like.uid()), Some(like.gid())).unwrap();
    }
    folder
}
