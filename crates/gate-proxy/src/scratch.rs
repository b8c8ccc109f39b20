//! One read buffer per core. Whoever reads a socket reads into it and keeps only what must be kept: a connection that
//! waits holds no buffer at all.

use std::cell::RefCell;

/// Bytes that one read takes at most.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static DOWN: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
    static UP: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// The buffer for reading from clients. `read` must not call this again.
pub(crate) fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    DOWN.with_borrow_mut(|scratch| read(scratch))
}

/// The buffer for reading from upstreams: apart from the clients' one, which may be read while this is in use.
pub(crate) fn with_upstream<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    UP.with_borrow_mut(|scratch| read(scratch))
}
