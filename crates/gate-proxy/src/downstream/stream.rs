//! What a client's connection must be able to do besides carrying bytes.

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// A client's connection: TCP, TLS over it, or one in memory.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin {
    /// Makes the close that dropping will bring a reset, where the stream knows such a thing. Without it, an answer that
    /// only the close delimits (to an HTTP/1.0 client) would look whole when it was cut short.
    fn reset_on_drop(&self) {}
}

/// Within this process, for who asks the gate from inside.
impl ClientStream for DuplexStream {}

impl ClientStream for TcpStream {
    fn reset_on_drop(&self) {
        // A socket that refuses is broken already: there is nobody left to be deceived.
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!("a connection cannot be reset: {error}");
        }
    }
}
