//! One guide, step after step in one bash. The first step that fails ends it, with its line and what it said.

use super::room::Room;
use super::text::{Run, Step, is_as_shown, steps};
use crate::harness::Running;
use crate::harness::peer::workspace;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one block may take: `doctor` alone has a minute.
const LIMIT: Duration = Duration::from_secs(150);
/// How long something in the background may take to say what the guide shows.
const LATE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Said by the shell around the guide's blocks.
const DONE: &str = "block is done: ";
const ENDED: &str = "shell ended: ";

/// Follows `docs/NAME`.
#[track_caller]
pub(super) fn guide(name: &str) {
    let text = std::fs::read_to_string(workspace().join("docs").join(name)).unwrap();
    let steps = steps(&text).unwrap_or_else(|why| panic!("docs/{name}:{why}"));
    let Some(room) = Room::new(&text) else { return };
    Walk::new(name, &room).all(&steps);
}

struct Walk<'r> {
    name: &'r str,
    room: &'r Room,
    shell: Running,
    count: usize,
}

impl<'r> Walk<'r> {
    fn new(name: &'r str, room: &'r Room) -> Self {
        let mut shell = Running::start(&mut room.command());
        let around = format!(
            "exec 9>&1; trap 'echo \"{ENDED}$?\" >&9' EXIT\n\
             trap 'echo \"line $LINENO ended with code $?: $BASH_COMMAND\"' ERR\nset -o pipefail"
        );
        shell.types(&around);
        Self { name, room, shell, count: 0 }
    }

    #[track_caller]
    fn all(mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::File { line, path, text } => self.write(*line, path, text),
                Step::Run(run) => self.run(run),
            }
        }
    }

    #[track_caller]
    fn write(&mut self, line: usize, path: &str, text: &str) {
        let from = self.room.path(&format!("file-{}", self.count));
        std::fs::write(&from, text).unwrap();
        let to =
            path.strip_prefix("~/").map_or_else(|| format!("'{path}'"), |rest| format!("\"$HOME\"/'{rest}'"));
        let commands = format!("mkdir -p \"$(dirname {to})\" && cat '{}' > {to}", from.display());
        self.block(line, &commands);
    }

    #[track_caller]
    fn run(&mut self, run: &Run) {
        if let Some(commands) = &run.not_here {
            self.reads(run.line, commands);
        }
        let said = if run.is_elsewhere {
            self.block(run.line, &self.elsewhere(run))
        } else {
            self.block(run.line, &run.commands)
        };
        let Some((line, shown)) = &run.shown else { return };
        let printed = || std::fs::read_to_string(&said).unwrap();
        // A program in the background may be about to say it.
        let begun = Instant::now();
        while run.begins_something() && !is_as_shown(&printed(), shown) && begun.elapsed() < LATE {
            std::thread::sleep(LOOK);
        }
        let printed = printed();
        assert!(
            is_as_shown(&printed, shown),
            "docs/{}:{line}: shown is\n{shown}\nand printed was\n{printed}",
            self.name
        );
    }

    /// What has another machine run this, in the same folder and with the variables of the guide so far: a reader who goes there
    /// takes both along.
    fn elsewhere(&self, run: &Run) -> String {
        let script = self.room.path(&format!("elsewhere-{}", self.count));
        std::fs::write(&script, format!("{}{}", "\n".repeat(run.line - 1), run.commands)).unwrap();
        format!(
            "(export $(compgen -A variable | grep -Evx 'BASH.*|SHELLOPTS|_'); \
             exec on_another_machine bash -eo pipefail '{}')",
            script.display()
        )
    }

    /// Whether bash can read what is not run, and herdgate knows the words that it is told there.
    #[track_caller]
    fn reads(&mut self, line: usize, commands: &str) {
        let read = std::process::Command::new("bash").args(["-n", "-c", commands]).output().unwrap();
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "docs/{}:{line}: {said}", self.name);
        let place = self.room.path("read");
        let around = format!(
            "(set +e; trap - ERR EXIT; cd '{0}/in'; PATH='{0}'\n\
             command_not_found_handle() {{ :; }}; kill() {{ :; }}; wait() {{ :; }}; cd() {{ :; }}\n{commands}\n:)",
            place.display()
        );
        self.block(line, &around);
        let refused = text_of(&place.join("herdgate.refused"));
        assert!(refused.is_empty(), "docs/{}:{line}: herdgate takes no such words: {refused}", self.name);
    }

    /// Runs commands to their end; gives the file with what they print.
    #[track_caller]
    fn block(&mut self, line: usize, commands: &str) -> PathBuf {
        self.count += 1;
        let number = self.count;
        let folder = self.room.path(&format!("block-{number}"));
        std::fs::create_dir(&folder).unwrap();
        // Bash tells lines of files: they shall be those of the guide.
        let script = folder.join(self.name);
        std::fs::write(&script, format!("{}{commands}", "\n".repeat(line - 1))).unwrap();
        let said = folder.join("said");
        std::fs::write(&said, "").unwrap();
        self.shell.types(&format!(
            "set -e; . '{}' >>'{}' 2>&1 </dev/null; set +e; echo '{DONE}{number}' >&9",
            script.display(),
            said.display()
        ));
        let done = format!("{DONE}{number}");
        let is_over = |out: String| {
            let mut lines = out.lines();
            lines.find_map(|line| (line == done || line.starts_with(ENDED)).then(|| line == done))
        };
        let begun = Instant::now();
        let is_done = loop {
            match is_over(self.shell.out()) {
                Some(is_done) => break is_done,
                None if begun.elapsed() > LIMIT => break false,
                None => std::thread::sleep(LOOK),
            }
        };
        assert!(is_done, "docs/{}:{line}: failed\n{commands}\nIt said:\n{}", self.name, text_of(&said));
        said
    }
}

fn text_of(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}
