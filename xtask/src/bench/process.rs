//! A program under test as the system sees it: its run time, its memory, its end.

use std::fs;
use std::io::ErrorKind;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A child of ours, and its children. Ended with this value, whatever happens.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// `Some(how)` when it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| status.to_string()))
    }

    /// Sends a signal to the process itself.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Nanoseconds that all its threads and children have run, kernel work included.
    pub(crate) fn run_time(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.pids() {
            for thread in entries(&format!("/proc/{pid}/task"))? {
                let path = format!("/proc/{pid}/task/{thread}/schedstat");
                match fs::read_to_string(&path) {
                    Ok(text) => {
                        let first = text.split(' ').next().unwrap_or_default();
                        sum += first.parse::<u64>().with_context(|| format!("{path} holds no run time"))?;
                    }
                    // The thread has just ended.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).context(path),
                }
            }
        }
        Ok(sum)
    }

    /// Resident bytes of the process that serves: the child's child where there is one (nginx's worker).
    pub(crate) fn resident(&self) -> Result<u64> {
        let pid = self.pids().pop().context("no process")?;
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context(path)?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
        Ok(kilobytes * 1024)
    }

    /// The process and its children, children last.
    fn pids(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(pid).chain(children).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The id of one that has ended may be another's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // SIGTERM first: nginx's master ends its worker, which a SIGKILL would leave behind.
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let limit = Instant::now() + Duration::from_secs(3);
        while told.is_ok() && Instant::now() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn entries(folder: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.to_owned())?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}
