//! A machine for one guide: namespaces of the kernel for its mounts, its networks and its processes, made of this machine's
//! programs. Nothing of it is seen outside, and all of it is gone once its first process is.

use crate::clients::{javascript, python};
use crate::harness::leave_out;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_herdgate");

/// Makes namespaces whose mounts nobody else sees: unshare(1) makes all of them private before anything else.
const UNSHARE: [&str; 8] =
    ["--mount", "--propagation=private", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Makes the machine inside the namespaces, then becomes the shell of the guide. `$1` is the room's folder; the others are
/// programs, which are too large to be copied and must lie where they are installed.
const ARRANGE: &str = r#"
set -eu
room=$1
[ "$(findmnt -no PROPAGATION /)" = private ] || { echo 'mounts are not private' >&2; exit 90; }
mount -t tmpfs -o mode=755 room "$room/own"
cd "$room/own" && mkdir -m 755 run bin var work && cp -a /etc etc
mount --bind etc /etc
mount -t overlay -o lowerdir=/var,upperdir=var,workdir=work room /var
mount --bind run /run
cp "$room"/bin/* bin/ && mount --bind bin /usr/local/bin
for program in "$2" "$3"; do
    : > "/usr/local/bin/${program##*/}" && mount --bind "$program" "/usr/local/bin/${program##*/}"
done
mkdir -p /run/lock
hostname server
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 server\n' > /etc/hosts
rm -f /etc/resolv.conf && : > /etc/resolv.conf
rm -rf /etc/herdgate /etc/netns
ip link set lo up
for line in 'lan0 192.168.1.100/24 another-machine 192.168.1.50/24' 'docker0 172.17.0.1/16 container 172.17.0.2/16'; do
    set -- $line
    ip netns add "$3"
    ip link add "$1" type veth peer name eth0 netns "$3"
    ip addr add "$2" dev "$1" && ip link set "$1" up
    ip -n "$3" link set lo up
    ip -n "$3" addr add "$4" dev eth0 && ip -n "$3" link set eth0 up
    ip -n "$3" route add default via "${2%/*}"
    mkdir -p "/etc/netns/$3"
    : > "/etc/netns/$3/resolv.conf"
    printf '127.0.0.1 localhost\n' > "/etc/netns/$3/hosts"
done
echo '172.17.0.1 host.docker.internal' >> /etc/netns/container/hosts
cd "$HOME"/guide
exec bash --norc
"#;

/// What guides run of this machine's own programs.
const NEEDED: [&str; 11] = [
    "bash",
    "caddy",
    "curl",
    "docker-compose",
    "ip",
    "nft",
    "nginx",
    "node",
    "openssl",
    "python3",
    "systemd-analyze",
];

/// Programs of the room beside `herdgate`.
const PROGRAMS: [(&str, &str); 9] = [
    ("sudo", "#!/bin/sh\nexec env \"$@\"\n"),
    (
        "on_another_machine",
        "#!/bin/sh\nHOME=${HOME%/*}/elsewhere exec ip netns exec another-machine \"$@\"\n",
    ),
    // From the guide's machine to another.
    (
        "scp",
        "#!/bin/sh\ncase $1 in 192.168.1.100:*) exec cp \"${HOME%/*}/home/${1#*:}\" \"$2\" ;; *) exit 2 ;; esac\n",
    ),
    ("in_a_container", "#!/bin/sh\nexec ip netns exec container \"$@\"\n"),
    (
        "until_answers",
        "#!/bin/sh\nexec timeout 60 sh -c 'until curl --insecure --noproxy \"*\" --output /dev/null --max-time 5 \"$@\" 2>/dev/null; do sleep 0.05; done' sh \"$@\"\n",
    ),
    ("compose_config", "#!/bin/sh\nexec docker-compose --file \"$1\" config --quiet\n"),
    (
        "yaml_reads",
        "#!/bin/sh\nfor file in \"$@\"; do /usr/bin/python3 -c 'import sys, yaml; yaml.safe_load(open(sys.argv[1]))' \"$file\" || exit; done\n",
    ),
    ("verify_unit", "#!/bin/sh\nexec systemd-analyze verify --man=no --recursive-errors=no \"$1\"\n"),
    ("ollama", OLLAMA),
];

/// What stands for programs where commands are only tried by their words: `herdgate` asks for the help of what it is told, which it
/// gives where it knows every word before. Whatever else there is does nothing.
const READERS: [(&str, &str); 4] = [
    (
        "herdgate",
        "#!/bin/sh\nsaid=$(/usr/local/bin/herdgate \"$@\" --help 2>&1) || printf 'herdgate %s\\n%s\\n' \"$*\" \"$said\" >> \"$0.refused\"\n",
    ),
    ("sudo", "#!/bin/sh\n/usr/bin/env \"$@\" 2>/dev/null\nexit 0\n"),
    ("ssh", "#!/bin/sh\nshift\nexec /bin/sh -c \"$*\"\n"),
    ("docker", DOCKER),
];

/// Takes the ports, volumes and variables of a `docker run` of the image from `Dockerfile.ollama` that the image has, and nothing
/// else. Then the last `herdgate WORD` of a command, or what a shell in the container is told.
const DOCKER: &str = r#"#!/bin/bash
refuse() { echo "docker $*" >> "${0%/*}/herdgate.refused"; exit 1; }
if [ "$1" = run ]; then
    has=' ' words=("$@") at=1
    while [[ ${words[at]:-} == -* ]]; do
        word=${words[at]} next=${words[at + 1]:-}
        case $word in
            -d | --rm) at=$((at + 1)); continue ;;
            -p) has+="EXPOSE:${next##*:} " ;;
            -v) has+="VOLUME:${next#*:} " ;;
            -e) [[ $next == *=* || -v $next ]] || refuse "run -e $next: nothing is exported by that name"; has+="ENV:${next%%=*} " ;;
            --name | --add-host | --gpus | --device) ;;
            *) refuse "run $word: not in the tests" ;;
        esac
        at=$((at + 2))
    done
    [ -n "${words[at]:-}" ] || refuse "run: no image"
    if [ "${words[at]}" = herdgate-ollama ]; then
        made=$HOME/guide/Dockerfile.ollama
        for one in $has; do
            case $one in
                ENV:AUTH_TOKEN | ENV:AUTH_TOKEN_FILE | ENV:OLLAMA_MODEL) ;;
                EXPOSE:*) /bin/grep -q "^EXPOSE ${one#*:}\$" "$made" || refuse "run: the image has no $one" ;;
                VOLUME:*) /bin/grep -q "^VOLUME .*\"${one#*:}\"" "$made" || refuse "run: the image has no $one" ;;
                *) refuse "run: $one is nothing to the image" ;;
            esac
        done
    fi
fi
for ((at = $#; at > 0; at--)); do
    next=$((at + 1))
    case ${!at} in
        herdgate) if [[ ${!next:-} =~ ^[a-z] ]]; then exec herdgate "${@:next}"; fi ;;
        -c) exec /bin/sh -c "${!next:-}" ;;
    esac
done
"#;

/// What guides ask of Ollama's program, of the test kit.
const OLLAMA: &str = r#"#!/bin/bash
set -euo pipefail
at=${OLLAMA_HOST:-127.0.0.1:11434}
at=${at#http://}
case $at in *:*) ;; *) at=$at:11434 ;; esac
ask() { curl --silent --show-error --fail --noproxy '*' "http://${at/#0.0.0.0/127.0.0.1}$@"; }
names() { ask "$1" | grep -o '"name": *"[^"]*"' | cut -d '"' -f 4; }
case ${1:-} in
    serve) exec testkit-ollama --listen "$at" --stay --no-models ;;
    pull) ask /api/pull -d "{\"model\":\"$2\"}" | tail -n 1 | grep -q success && echo success ;;
    rm) ask /api/delete -X DELETE -d "{\"model\":\"$2\"}" && echo "deleted '$2'" ;;
    list | ls) echo NAME && names /api/tags ;;
    ps) echo NAME && names /api/ps ;;
    --version | -v) echo "ollama version is 0.32.15" ;;
    *) echo "ollama $*: not in the tests" >&2; exit 2 ;;
esac
"#;

pub(super) struct Room {
    dir: TempDir,
    testkit: PathBuf,
}

impl Room {
    /// None where the kernel does not let us make namespaces, or something to make a room for this guide of is missing.
    #[track_caller]
    pub(super) fn new(guide: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let sbin = |name: &str| Path::new("/usr/sbin").join(name).is_file();
        if let Some(name) = NEEDED.into_iter().find(|name| !has(name) && !sbin(name)) {
            leave_out(&format!("guides are followed with `{name}`, which is not here"));
            return None;
        }
        let testkit = Path::new(BINARY).with_file_name("testkit-ollama");
        if !testkit.is_file() {
            leave_out(&format!("there is no {}: cargo build -p gate-testkit", testkit.display()));
            return None;
        }
        let room = Self { dir: TempDir::with_prefix("herdgate-it-").unwrap(), testkit };
        for folder in ["own", "bin", "home", "home/guide", "elsewhere", "read", "read/in", "tmp"] {
            std::fs::create_dir(room.path(folder)).unwrap();
        }
        // As at a terminal: no meter between the lines.
        for home in ["home", "elsewhere"] {
            std::fs::write(room.path(home).join(".curlrc"), "silent\nshow-error\n").unwrap();
        }
        for (folder, programs) in [("bin", &PROGRAMS[..]), ("read", &READERS[..])] {
            for (name, text) in programs {
                room.program(&room.path(folder).join(name), text);
            }
        }
        if let Err(why) = room.has_libraries(guide) {
            leave_out(&why);
            return None;
        }
        // Once for nothing: whether the kernel lets us.
        match room.command().stdin(Stdio::null()).output() {
            Ok(made) if made.status.success() => Some(room),
            Ok(made) => {
                let why = String::from_utf8_lossy(&made.stderr).into_owned();
                leave_out(&format!("namespaces and mounts cannot be made, which needs root: {}", why.trim()));
                None
            }
            Err(error) => {
                leave_out(&format!("namespaces are made with `unshare` of util-linux: {error}"));
                None
            }
        }
    }

    /// What `pip install` and `npm install` of the guide find installed already: the versions that the stock clients' tests have.
    fn has_libraries(&self, guide: &str) -> Result<(), String> {
        let bin = self.path("bin");
        if guide.contains("pip install ") {
            let python = python()?.program.display().to_string();
            let version =
                "import importlib.metadata, sys; [importlib.metadata.version(name) for name in sys.argv[1:]]";
            let pip = format!("[ \"$1\" = install ] || exit 2\nshift\nexec '{python}' -c '{version}' \"$@\"");
            self.program(&bin.join("pip"), &format!("#!/bin/sh\n{pip}\n"));
            self.program(&bin.join("python3"), &format!("#!/bin/sh\nexec '{python}' \"$@\"\n"));
        }
        if guide.contains("npm install ") {
            let modules = javascript()?.folder.join("node_modules").display().to_string();
            let each = format!("for name in \"$@\"; do [ -d '{modules}'/\"${{name%@*}}\" ] || exit 1; done");
            let npm =
                format!("[ \"$1\" = install ] || exit 2\nshift\n{each}\nln -sfn '{modules}' node_modules");
            self.program(&bin.join("npm"), &format!("#!/bin/sh\n{npm}\n"));
        }
        Ok(())
    }

    /// A path of the room outside the guide's own folder.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// A shell in the machine, in the guide's empty folder.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(UNSHARE)
            .args(["sh", "-c", ARRANGE, "sh"])
            .arg(self.dir.path())
            .arg(BINARY)
            .arg(&self.testkit)
            .env_clear();
        command.env("HOME", self.path("home")).env("TMPDIR", self.path("tmp"));
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8").env("TERM", "dumb").env("USER", "root");
        command
    }

    fn program(&self, at: &Path, text: &str) {
        std::fs::write(at, text).unwrap();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}
