//! Buildah with a store of its own, and stand-ins for the images of others: programs of this machine with the libraries that
//! they need, under the names that Dockerfiles know.

use crate::harness::leave_out;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What instructions of the images run, besides the shell.
const TOOLS: [&str; 6] = ["install", "mkdir", "chmod", "cp", "chown", "rm"];
/// What distroless' image for C++ has beside the C library.
const LIBRARIES: [&str; 6] = ["libc.so", "libm.so", "libgcc_s.so", "libstdc++.so", "libgomp.so", "ld-linux-"];

pub(super) struct Builder {
    dir: TempDir,
}

/// What an image says of how it is run.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) user: String,
    pub(super) env: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) folder: String,
    pub(super) ports: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) health: Vec<String>,
}

impl Builder {
    /// None where this machine has no Buildah, or lets nobody use it.
    #[track_caller]
    pub(super) fn new() -> Option<Self> {
        let builder = Self { dir: TempDir::with_prefix("herdgate-it-").unwrap() };
        match builder.buildah(&["from", "--name=probe", "scratch"]) {
            Ok(output) if output.status.success() => Some(builder),
            Ok(output) => {
                leave_out(&format!("buildah: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                leave_out(&format!("images are built with buildah: {error}"));
                None
            }
        }
    }

    fn buildah(&self, words: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new("buildah");
        command
            .arg("--root")
            .arg(self.dir.path().join("store"))
            .arg("--runroot")
            .arg(self.dir.path().join("run"));
        // One copy for each layer: works on whatever file system the store lies on.
        command.args(["--storage-driver", "vfs"]).args(words).output()
    }

    #[track_caller]
    pub(super) fn run(&self, words: &[&str]) -> String {
        let output = self.buildah(words).unwrap();
        assert!(
            output.status.success(),
            "buildah {words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A place for one file or folder of a test's own.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    pub(super) fn build(&self, name: &str, file: &Path, context: &Path) -> Image {
        // Docker's format: the other one has no health checks.
        self.run(&[
            "bud",
            "--isolation=chroot",
            "--format=docker",
            "--pull-never",
            "--tag",
            name,
            "--file",
            file.to_str().unwrap(),
            context.to_str().unwrap(),
        ]);
        self.image(name)
    }

    fn image(&self, name: &str) -> Image {
        let text = self.run(&["inspect", "--type=image", name]);
        let all: Value = serde_json::from_str(&text).unwrap();
        let config = &all["Docker"]["config"];
        let list = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        let keys = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Image {
            name: name.to_owned(),
            user: word(&config["User"]),
            env: list(&config["Env"]),
            command: [list(&config["Entrypoint"]), list(&config["Cmd"])].concat(),
            folder: word(&config["WorkingDir"]),
            ports: keys(&config["ExposedPorts"]),
            volumes: keys(&config["Volumes"]),
            health: list(&config["Healthcheck"]["Test"]),
        }
    }

    /// Rust's image, whose cargo has built it all already: herdgate, and what else is named.
    pub(super) fn stand_in_for_rust(&self, built: &[&Path]) {
        let root = Root::new(self.place("rust"));
        root.tools();
        let mut packages = String::new();
        for program in built {
            let name = program.file_name().unwrap().to_str().unwrap();
            root.file(program, &format!("built/{name}"));
            packages.push_str(&format!(" -p {name}"));
        }
        root.script("usr/local/bin/cargo", &format!("[ \"$*\" = 'build --release --locked{packages}' ] || exit 9\n\
            [ -f Cargo.lock ] && [ -f crates/herdgate/Cargo.toml ] && [ -f crates/herdgate/src/main.rs ] || exit 8\n\
            [ ! -e target ] && [ ! -e .git ] && [ ! -e crates/herdgate/tests ] || exit 7\n\
            [ -f .cargo/config.toml ] || exit 6\n\
            mkdir -p target/release && cp /built/* target/release/"));
        // Packages that cannot be fetched here: what is built already needs none.
        let apt = "case \"$*\" in update) ;; 'install -y --no-install-recommends '*) ;; *) exit 9 ;; esac";
        root.script("usr/bin/apt-get", apt);
        let channel = format!("{}.0", env!("CARGO_PKG_RUST_VERSION"));
        self.commit(&root, &format!("docker.io/library/rust:{channel}-slim-bookworm"), "");
    }

    pub(super) fn stand_in_for_debian(&self) {
        let root = Root::new(self.place("debian"));
        root.tools();
        self.commit(&root, "docker.io/library/debian:bookworm-slim", "");
    }

    /// Libraries, for these programs, roots of authorities, users, and nothing to run.
    pub(super) fn stand_in_for_distroless(&self, programs: &[&Path]) {
        let root = Root::new(self.place("distroless"));
        for program in programs {
            for library in libraries(program) {
                let name = library.file_name().unwrap().to_str().unwrap();
                let is_there = LIBRARIES.iter().any(|known| name.starts_with(known));
                assert!(is_there, "{}: the image has no {name}", program.display());
            }
            root.libraries(program);
        }
        root.text("etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n");
        root.text("etc/group", "root:x:0:\nnonroot:x:65532:\n");
        self.commit(&root, "gcr.io/distroless/cc-debian12:nonroot", "USER 65532\nWORKDIR /home/nonroot\n");
    }

    /// Ollama's image, with its variables and its program's name; behind it the test kit, which takes some seconds for a pull and
    /// keeps its models where Ollama does.
    pub(super) fn stand_in_for_ollama(&self, testkit: &Path) {
        let root = Root::new(self.place("ollama"));
        root.file(testkit, "usr/lib/ollama/testkit-ollama");
        root.libraries(testkit);
        root.script(
            "usr/bin/ollama",
            "[ \"$1\" = serve ] || exit 2\n\
            exec /usr/lib/ollama/testkit-ollama --listen \"${OLLAMA_HOST#http://}\" --stay --pull-ms 500 --keep /root/.ollama/models",
        );
        self.commit_ollama(&root);
    }

    /// The same with a real one.
    pub(super) fn image_of_ollama(&self, program: &Path) {
        let root = Root::new(self.place("ollama"));
        root.program(program, "usr/bin/ollama");
        self.commit_ollama(&root);
    }

    fn commit_ollama(&self, root: &Root) {
        root.tools();
        root.libraries(Path::new(env!("CARGO_BIN_EXE_herdgate")));
        root.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        let rest =
            "ENV OLLAMA_HOST=0.0.0.0:11434\nEXPOSE 11434\nENTRYPOINT [\"/bin/ollama\"]\nCMD [\"serve\"]\n";
        self.commit(root, "docker.io/ollama/ollama:latest", rest);
    }

    fn commit(&self, root: &Root, name: &str, rest: &str) {
        let file = self.place("Base");
        std::fs::write(&file, format!("FROM scratch\nCOPY . /\nENV PATH={PATH}\n{rest}")).unwrap();
        self.run(&[
            "bud",
            "--isolation=chroot",
            "--format=docker",
            "--tag",
            name,
            "--file",
            file.to_str().unwrap(),
            root.folder.to_str().unwrap(),
        ]);
    }
}

/// The files of an image.
struct Root {
    folder: PathBuf,
}

impl Root {
    fn new(folder: PathBuf) -> Self {
        for inside in
            ["tmp", "usr/bin", "usr/local/bin", "usr/lib/ollama", "etc", "root", "proc", "dev", "sys"]
        {
            std::fs::create_dir_all(folder.join(inside)).unwrap();
        }
        for (link, to) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
            std::os::unix::fs::symlink(to, folder.join(link)).unwrap();
        }
        Self { folder }
    }

    fn file(&self, from: &Path, to: &str) {
        let to = self.folder.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    fn text(&self, to: &str, text: &str) {
        std::fs::write(self.folder.join(to), text).unwrap();
    }

    fn script(&self, to: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        self.text(to, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(self.folder.join(to), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn tools(&self) {
        self.program(Path::new("/bin/sh"), "usr/bin/sh");
        for tool in TOOLS {
            self.program(&Path::new("/usr/bin").join(tool), &format!("usr/bin/{tool}"));
        }
    }

    fn program(&self, from: &Path, to: &str) {
        self.file(from, to);
        self.libraries(from);
    }

    /// What a program is linked with, at the very paths, and the loader.
    fn libraries(&self, program: &Path) {
        for path in libraries(program) {
            self.file(&path, path.strip_prefix("/").unwrap().to_str().unwrap());
        }
    }
}

fn libraries(program: &Path) -> Vec<PathBuf> {
    let said = Command::new("ldd").arg(program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
