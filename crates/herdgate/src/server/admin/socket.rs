//! The socket itself: made with mode 0600 where there is none, taken over from a gate that was killed, left to one that runs.
//!
//! Must never lie in a directory that others may write to: they could put one of theirs in its place. And must never hear
//! anybody but its owner and root: between making it and closing it, another may have connected where the directory lets all look.

use gate_store::ADMIN_SOCKET;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How often it is looked whether another gate has left it, as in a hand-over.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked whether somebody has closed the directory to others.
const LOOK_AT_MODE: Duration = Duration::from_secs(2);
/// Bytes of a path that every system takes for a socket (unix(7): 108 with the end mark).
const SHORT: usize = 100;

/// The bound socket; removed when it is dropped, unless another gate has taken its place.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// What tells it from another gate's.
    place: (u64, u64),
}

/// A path to the socket that is short enough, and what keeps it one.
pub(crate) struct Short {
    pub(crate) path: PathBuf,
    _folder: Option<File>,
}

impl Short {
    /// Of the socket in this data directory.
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        let path = data.join(ADMIN_SOCKET);
        if path.as_os_str().len() <= SHORT {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(data)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(ADMIN_SOCKET);
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// What became of making it.
enum Made {
    Ours(Socket),
    /// Another gate has it.
    Anothers,
    /// The directory is no place for it: why, and what to do.
    Refused(String),
}

impl Socket {
    /// Binds it; waits while another gate has it, and while others may write to the directory. None where it cannot be had
    /// at all.
    pub(super) async fn take(data: &Path) -> Option<Self> {
        let path = data.join(ADMIN_SOCKET);
        let mut has_said = false;
        loop {
            let rest = match Self::bind(data).await {
                Ok(Made::Ours(socket)) => return Some(socket),
                Ok(Made::Anothers) => {
                    if !has_said {
                        tracing::info!("another gate answers at {}: commands reach that one", path.display());
                    }
                    LOOK
                }
                Ok(Made::Refused(why)) => {
                    if !has_said {
                        tracing::warn!("no admin socket at {}: {why}; {WITHOUT}", path.display());
                    }
                    LOOK_AT_MODE
                }
                // A gate whose keys all stand in its settings can do without a data directory.
                Err(error) if error.kind() == ErrorKind::NotFound && !data.exists() => return None,
                // Another gate has taken its own away, just while it was looked at.
                Err(error) if error.kind() == ErrorKind::NotFound => LOOK,
                Err(error) => {
                    tracing::warn!("no admin socket at {}: {error}; {WITHOUT}", path.display());
                    return None;
                }
            };
            has_said = true;
            tokio::time::sleep(rest).await;
        }
    }

    /// Binds it, where it may lie there and no other gate has it.
    async fn bind(data: &Path) -> io::Result<Made> {
        if let Some(why) = objection(&fs::metadata(data)?, rustix::process::geteuid().as_raw(), data) {
            return Ok(Made::Refused(why));
        }
        let short = Short::of(data)?;
        let listener = match UnixListener::bind(&short.path) {
            Ok(listener) => listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !fs::symlink_metadata(&short.path)?.file_type().is_socket() {
                    return Err(io::Error::other("something else lies there"));
                }
                match UnixStream::connect(&short.path).await {
                    Ok(_answered) => return Ok(Made::Anothers),
                    // Its gate was killed.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        fs::remove_file(&short.path)?
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    // Its gate runs and has no time.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Made::Anothers),
                    Err(error) => return Err(error),
                }
                UnixListener::bind(&short.path)?
            }
            Err(error) => return Err(error),
        };
        // The directory has been closed to others all the time.
        fs::set_permissions(&short.path, Permissions::from_mode(0o600))?;
        let meta = fs::symlink_metadata(&short.path)?;
        let place = (meta.dev(), meta.ino());
        Ok(Made::Ours(Self { listener, path: data.join(ADMIN_SOCKET), place }))
    }

    /// The next who may command this gate; others are turned away unheard.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        let own = rustix::process::geteuid().as_raw();
        loop {
            let (stream, _) = self.listener.accept().await?;
            // Who cannot be told is nobody.
            match stream.peer_cred() {
                Ok(peer) if may_command(peer.uid(), own) => return Ok(stream),
                Ok(peer) => tracing::debug!("user {} may not command this gate: turned away", peer.uid()),
                Err(error) => tracing::debug!("a command of nobody's: {error}"),
            }
        }
    }

    /// Takes it away, so that others can have one there, and gives those who had connected by then, `most` of them.
    pub(super) async fn leave(self, most: usize) -> Vec<UnixStream> {
        self.remove();
        let mut waiting = Vec::new();
        // Looks once before the time is over.
        while waiting.len() < most
            && let Ok(Ok(stream)) = tokio::time::timeout(Duration::ZERO, self.accept()).await
        {
            waiting.push(stream);
        }
        waiting
    }

    fn remove(&self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.place);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("the admin socket stays: {error}");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether user `peer` may command a gate of user `own`.
const fn may_command(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// What is said of a gate without one.
const WITHOUT: &str = "herdgate models, pull, rm and run cannot reach this gate by it";

/// Why the socket of user `own` may not lie in this directory. Root's gate may serve the owner of its directory, who may write
/// to the keys as well.
fn objection(folder: &Metadata, own: u32, data: &Path) -> Option<String> {
    let (mode, owner) = (folder.mode() & 0o7777, folder.uid());
    let foreign = own != 0 && owner != own && owner != 0;
    if mode & 0o022 == 0 && !foreign {
        return None;
    }
    let data = data.display();
    let whose = if foreign { format!("user {owner}, whose directory it is,") } else { "others".to_owned() };
    let chown = if foreign { format!("chown {own} {data} && ") } else { String::new() };
    Some(format!(
        "{whose} may write to it (mode {mode:04o}), and could put a socket of theirs there; close it: {chown}chmod 700 {data}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    async fn bound(dir: &Path) -> Option<Socket> {
        match Socket::bind(dir).await.unwrap() {
            Made::Ours(socket) => Some(socket),
            Made::Anothers | Made::Refused(_) => None,
        }
    }

    #[test]
    fn it_lies_where_nobody_else_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let of = |mode: u32, own: u32| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            objection(&fs::metadata(dir.path()).unwrap(), own, Path::new("/data"))
        };
        let owner = fs::metadata(dir.path()).unwrap().uid();
        assert!([0o700, 0o755].iter().all(|mode| of(*mode, owner).is_none()));
        for mode in [0o770, 0o702, 0o1777] {
            let why = of(mode, owner).unwrap();
            assert!(why.contains("others may write") && why.ends_with("close it: chmod 700 /data"), "{why}");
            now(async { assert!(bound(dir.path()).await.is_none()) });
            assert!(!dir.path().join(ADMIN_SOCKET).exists());
        }
        assert!(of(0o770, 0).is_some(), "nor for root");
        assert!(of(0o700, 0).is_none(), "its owner may read the keys as well");
        if owner != 0 {
            assert!(of(0o700, owner + 1).unwrap().contains(&format!("chown {} /data && ", owner + 1)));
        }
    }

    #[test]
    fn nobody_commands_it_but_its_owner_and_root() {
        for (peer, own, may) in
            [(1000, 1000, true), (0, 1000, true), (0, 0, true), (1000, 0, false), (1001, 1000, false)]
        {
            assert_eq!(may_command(peer, own), may, "{peer} {own}");
        }
    }

    #[test]
    fn a_dead_gates_is_taken_over_and_a_running_ones_is_not() {
        now(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(ADMIN_SOCKET);
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists(), "what a killed gate leaves");
            let first = bound(dir.path()).await.expect("a dead gate's");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert!(bound(dir.path()).await.is_none(), "a running gate's");
            drop(first);
            assert!(!path.exists());
            fs::write(&path, "a file").unwrap();
            assert!(Socket::bind(dir.path()).await.is_err());
            assert!(path.exists(), "nobody's file is removed");
        });
    }

    #[test]
    fn who_had_connected_when_it_was_left_is_served() {
        now(async {
            let dir = tempfile::tempdir().unwrap();
            let first = bound(dir.path()).await.unwrap();
            let path = dir.path().join(ADMIN_SOCKET);
            let _waiting =
                [UnixStream::connect(&path).await.unwrap(), UnixStream::connect(&path).await.unwrap()];
            assert_eq!(first.leave(9).await.len(), 2);
            assert!(bound(dir.path()).await.is_some(), "another can have it");
        });
    }

    #[test]
    fn a_long_path_is_no_obstacle() {
        now(async {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("x".repeat(120));
            fs::create_dir(&deep).unwrap();
            let socket = bound(&deep).await.unwrap();
            let short = Short::of(&deep).unwrap();
            let (met, _client) = tokio::join!(socket.accept(), UnixStream::connect(&short.path));
            met.unwrap();
        });
    }
}
