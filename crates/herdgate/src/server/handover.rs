//! Handing the gate over to a fresh start of its program, without anybody noticing: SIGUSR2 starts the file that this gate was
//! started from once more, whatever lies there now, and gives it all that others must not find closed for a moment: the
//! listening sockets, the lock of the data directory, the programs that the gate started.
//!
//! Both accept for a while. Only when the fresh one has served for a moment does the old one leave, as at its end, but
//! without turning anybody away. Until then a fresh start that fails in any way changes nothing.
//!
//! The two talk over a socket that is the fresh one's standard input: descriptors come by it as such (unix(7)), numbered by
//! nobody, and its end says that the other is gone. The fresh one's parent is neither, but `foster.rs`. What is said, in order:
//!
//! | old | fresh |
//! |---|---|
//! | `version`, then one `item` for each thing, then `all` | |
//! | | `ready`: settings are read, everything is opened |
//! | `go`: the started programs are yours to watch | |
//! | | `serving`: the upstreams were looked at |
//! | `yours`: the service manager knows of you | |

mod foster;
mod give;
mod take;

pub(crate) use foster::run as foster;
pub(super) use give::{Offer, Origin};
pub(crate) use take::Handed;
pub(super) use take::{HandedLocal, Sockets, Taken, Voice};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde_json::Value;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::net::UnixStream;

/// Of what is said. Another number is another talk.
const VERSION: u64 = 1;
/// What the fresh start is told on its command line.
const FLAG: &str = "--handed-over";
/// Descriptors in one message; the system takes 253.
const MOST_FDS: usize = 64;
/// Bytes of one message.
const MOST_BYTES: usize = 16 << 10;

/// The socket as something that can be waited for. Its messages have bounds, which a stream's have not: nothing but
/// [`send`] and [`receive`] may be done with it.
fn ready_to_wait(socket: OwnedFd) -> io::Result<UnixStream> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    UnixStream::from_std(socket.into())
}

/// Sends one message.
fn send(socket: BorrowedFd<'_>, said: &Value, fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let text = said.to_string();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !with.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut with, SendFlags::NOSIGNAL).map(drop)
}

/// Receives one message; none where the other is gone.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Value, Vec<OwnedFd>)>> {
    let mut text = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut text)];
    let length = match rustix::net::recvmsg(socket, into, &mut with, RecvFlags::CMSG_CLOEXEC) {
        // What was sent to somebody who has gone is a reset.
        Ok(received) if received.bytes == 0 => return Ok(None),
        Err(Errno::CONNRESET) => return Ok(None),
        Ok(received) => received.bytes,
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let said = serde_json::from_slice(text.get(..length).unwrap_or_default());
    said.map(|said| Some((said, fds))).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use serde_json::json;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_said_comes_with_what_is_handed_over_and_in_order() {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let fds = vec![file.as_fd(); MOST_FDS];
        send(pair.0.as_fd(), &json!({"item": "one"}), &fds).unwrap();
        send(pair.0.as_fd(), &json!({"all": 1}), &[]).unwrap();
        let (said, handed) = receive(pair.1.as_fd()).unwrap().unwrap();
        assert_eq!((&said["item"], handed.len()), (&json!("one"), MOST_FDS));
        file.write_all(b"x").unwrap();
        assert_eq!(std::fs::File::from(handed.into_iter().next().unwrap()).metadata().unwrap().len(), 1);
        let (said, handed) = receive(pair.1.as_fd()).unwrap().unwrap();
        assert_eq!((&said["all"], handed.len()), (&json!(1), 0));
        drop(pair.0);
        assert!(receive(pair.1.as_fd()).unwrap().is_none());
        assert!(send(pair.1.as_fd(), &json!({}), &[]).is_err());
    }
}
