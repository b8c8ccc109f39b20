//! The socket itself: made with mode 0600 where there is none, taken over from a gate that was killed, left to one that runs.

use gate_store::ADMIN_SOCKET;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

/// How often it is looked whether another gate has left it.
const LOOK: Duration = Duration::from_secs(1);
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

impl Socket {
    /// Binds it; waits while another gate has it. None where it cannot be had at all.
    pub(super) async fn take(data: &Path) -> Option<Self> {
        let mut has_said = false;
        loop {
            match Self::bind(data).await {
                Ok(Some(socket)) => return Some(socket),
                Ok(None) => {
                    if !has_said {
                        let path = data.join(ADMIN_SOCKET);
                        tracing::info!("another gate answers at {}: commands reach that one", path.display());
                        has_said = true;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                // A gate whose keys all stand in its settings can do without a data directory.
                Err(error) if error.kind() == ErrorKind::NotFound => return None,
                Err(error) => {
                    let path = data.join(ADMIN_SOCKET);
                    tracing::warn!(
                        "no admin socket at {}: {error}; herdgate models, pull, rm and run cannot reach this gate by it",
                        path.display()
                    );
                    return None;
                }
            }
        }
    }

    /// Binds it; none where another gate has it.
    async fn bind(data: &Path) -> io::Result<Option<Self>> {
        let short = Short::of(data)?;
        let listener = match UnixListener::bind(&short.path) {
            Ok(listener) => listener,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !fs::symlink_metadata(&short.path)?.file_type().is_socket() {
                    return Err(io::Error::other("something else lies there"));
                }
                match UnixStream::connect(&short.path).await {
                    Ok(_answered) => return Ok(None),
                    // Its gate was killed.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        fs::remove_file(&short.path)?
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    // Its gate runs and has no time.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                    Err(error) => return Err(error),
                }
                UnixListener::bind(&short.path)?
            }
            Err(error) => return Err(error),
        };
        // The directory has been closed to others all the time.
        fs::set_permissions(&short.path, Permissions::from_mode(0o600))?;
        let meta = fs::symlink_metadata(&short.path)?;
        Ok(Some(Self { listener, path: data.join(ADMIN_SOCKET), place: (meta.dev(), meta.ino()) }))
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.place);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("the admin socket stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn a_dead_gates_is_taken_over_and_a_running_ones_is_not() {
        now(async {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(ADMIN_SOCKET);
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert!(path.exists(), "what a killed gate leaves");
            let first = Socket::bind(dir.path()).await.unwrap().expect("a dead gate's");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert!(Socket::bind(dir.path()).await.unwrap().is_none(), "a running gate's");
            drop(first);
            assert!(!path.exists());
            fs::write(&path, "a file").unwrap();
            assert!(Socket::bind(dir.path()).await.is_err());
            assert!(path.exists(), "nobody's file is removed");
        });
    }

    #[test]
    fn a_long_path_is_no_obstacle() {
        now(async {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("x".repeat(120));
            fs::create_dir(&deep).unwrap();
            let socket = Socket::bind(&deep).await.unwrap().unwrap();
            let short = Short::of(&deep).unwrap();
            let (met, _client) = tokio::join!(socket.accept(), UnixStream::connect(&short.path));
            met.unwrap();
        });
    }
}
