//! A running program: its output line by line, its processes, its end. Ended by its process id when it is dropped.

use super::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of a program's output that a failed test shows.
const SHOWN: usize = 40;

/// A program that was started and not yet awaited.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    out: Lines,
    err: Lines,
}

impl Running {
    /// Starts `command` with its output gathered and its standard input held open.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::with_input(command, Stdio::piped())
    }

    /// Starts it with this as its standard input.
    pub(crate) fn with_input(command: &mut Command, input: Stdio) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A program that was just copied is "busy" while a fork of some other test still holds it open for writing.
        let mut child = until(&format!("{name} to be free"), || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            started => Some(started.unwrap_or_else(|error| panic!("cannot start {name}: {error}"))),
        });
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { name, child, out, err }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for a line on standard error.
    #[track_caller]
    pub(crate) fn says(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        match self.err.until(PATIENCE, fits) {
            Some(line) => line,
            None => panic!("{} never said {what}; it said:\n{}", self.name, self.err.text()),
        }
    }

    /// Waits for a line on standard output.
    #[track_caller]
    pub(crate) fn prints(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        match self.out.until(PATIENCE, fits) {
            Some(line) => line,
            None => panic!("{} never printed {what}; it said:\n{}", self.name, self.err.text()),
        }
    }

    /// All of standard error so far.
    pub(crate) fn err(&self) -> String {
        self.err.text()
    }

    /// All of standard output so far.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// Writes a line to its standard input. One that has ended does not read it.
    pub(crate) fn types(&mut self, line: &str) {
        use std::io::Write as _;
        let input = self.child.stdin.as_mut().unwrap();
        drop(input.write_all(format!("{line}\n").as_bytes()));
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let status = until(&what, || self.child.try_wait().unwrap());
        self.out.finish();
        self.err.finish();
        status
    }

    /// Waits for its own end, while others that it started may write on.
    #[track_caller]
    pub(crate) fn left(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.name), || self.child.try_wait().unwrap())
    }

    /// The processes that it started, and theirs, by id.
    pub(crate) fn descendants(&self) -> Vec<Process> {
        let all = Process::all();
        let mut found = vec![];
        let mut parents = vec![self.pid()];
        while let Some(parent) = parents.pop() {
            for process in all.iter().filter(|process| process.parent == parent) {
                parents.push(process.pid);
                found.push(process.clone());
            }
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what was not awaited is still ours to end: its id cannot be another's yet.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let orphans = self.descendants();
            drop(self.child.kill());
            drop(self.child.wait());
            for orphan in orphans.iter().filter(|orphan| orphan.is_alive()) {
                send(orphan.pid, Signal::KILL);
            }
        }
        if std::thread::panicking() {
            let said = self.err.text();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("--- {} said:\n{}\n---", self.name, last.join("\n"));
        }
    }
}

/// Sends a signal to a process that may be gone.
pub(crate) fn send(pid: i32, signal: Signal) {
    let sent = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
    assert!(sent.is_some(), "{pid} is no process id");
}

/// A process of this machine, as `/proc` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) parent: i32,
    state: String,
    /// With the id it names a process for good; ids alone are used again.
    begun: String,
}

impl Process {
    fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// `/proc/PID/stat` (proc(5)): id, `(name)`, state, parent; the start time is the 22nd.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let name = before.split_once('(')?.1.to_owned();
        let columns: Vec<&str> = after.split(' ').collect();
        let (state, parent) = (columns.first()?.to_string(), columns.get(1)?.parse().ok()?);
        Some(Self { pid, name, parent, state, begun: columns.get(19)?.to_string() })
    }

    /// Whether this very process still runs; one that only waits to be reaped does not.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.begun == self.begun && now.state != "Z" && now.state != "X")
    }
}

/// What a program writes, gathered by a thread.
#[derive(Debug)]
struct Lines {
    shared: Arc<(Mutex<Gathered>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Gathered {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared: Arc<(Mutex<Gathered>, Condvar)> = Arc::default();
        let writer = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                writer.0.lock().unwrap().lines.push(text);
                writer.1.notify_all();
                line.clear();
            }
            writer.0.lock().unwrap().ended = true;
            writer.1.notify_all();
        });
        Self { shared, thread: Some(thread) }
    }

    fn until(&self, limit: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + limit;
        let mut seen = 0;
        let mut gathered = self.shared.0.lock().unwrap();
        loop {
            if let Some(line) = gathered.lines[seen..].iter().find(|line| fits(line)) {
                return Some(line.clone());
            }
            seen = gathered.lines.len();
            let left = end.checked_duration_since(Instant::now())?;
            if gathered.ended {
                return None;
            }
            gathered = self.shared.1.wait_timeout(gathered, left).unwrap().0;
        }
    }

    fn text(&self) -> String {
        self.shared.0.lock().unwrap().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for the last line. A descendant that keeps the pipe open is one that should have ended.
    fn finish(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        until("the end of a program's output", || thread.is_finished().then_some(()));
        thread.join().unwrap();
    }
}
