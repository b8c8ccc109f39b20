//! Asking this machine's own tools: each by name, without input, within a time and a size. Only questions: none changes anything.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

const TIME: Duration = Duration::from_secs(8);
/// A ruleset of a machine with hundreds of containers has a few hundred KiB.
const MOST: u64 = 4 << 20;

/// What a tool said.
#[derive(Debug, Default, Clone)]
pub(in crate::doctor::facts) struct Said {
    pub(super) is_success: bool,
    pub(super) out: String,
    pub(in crate::doctor::facts) err: String,
}

/// None where there is no such tool, or it does not end.
pub(in crate::doctor::facts) async fn ask(tool: &str, words: &[&str]) -> Option<Said> {
    let mut command = Command::new(tool);
    // Words in other languages cannot be read here.
    command.args(words).env("LC_ALL", "C").env("PATH", path()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let (out, err) = (child.stdout.take()?, child.stderr.take()?);
    let both = async {
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let (mut out, mut err) = (out.take(MOST), err.take(MOST));
        let (one, other) = tokio::join!(out.read_to_end(&mut said), err.read_to_end(&mut complained));
        // What stood in the pipe until then counts.
        let _broken = (one, other);
        let status = child.wait().await.ok()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(Said { is_success: status.success(), out: text(said), err: text(complained) })
    };
    timeout(TIME, both).await.ok().flatten()
}

/// What a tool that did its work said.
pub(super) async fn told(tool: &str, words: &[&str]) -> Option<String> {
    ask(tool, words).await.filter(|said| said.is_success).map(|said| said.out)
}

/// People's PATH often lacks the folders of the administrator's tools, of which many answer to anybody. What lies in the working directory
/// is no tool.
fn path() -> OsString {
    folders(env::var_os("PATH"))
}

fn folders(path: Option<OsString>) -> OsString {
    let path = path.unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let has = |folder: &str| folders.iter().any(|known| known.as_os_str() == folder);
    let lacks: &[&str] = if folders.is_empty() {
        &["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    } else if has("/usr/bin") && !has("/usr/sbin") {
        &["/usr/sbin", "/sbin"]
    } else {
        &[]
    };
    folders.extend(lacks.iter().map(PathBuf::from));
    env::join_paths(folders).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tool_is_taken_from_the_working_directory() {
        let of = |path: Option<&str>| folders(path.map(OsString::from)).into_string().unwrap();
        for none in [None, Some(""), Some(":"), Some("."), Some("bin:./sbin")] {
            assert_eq!(of(none), "/usr/sbin:/usr/bin:/sbin:/bin", "{none:?}");
        }
        assert_eq!(of(Some("/usr/bin:")), "/usr/bin:/usr/sbin:/sbin");
        assert_eq!(of(Some("/opt/bin::/usr/sbin:/usr/bin")), "/opt/bin:/usr/sbin:/usr/bin");
    }
}
