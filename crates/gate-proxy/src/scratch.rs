//! One read buffer per core. Whoever reads a socket reads into it and keeps only what must be kept: a connection that
//! waits holds no buffer at all.

use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Bytes that one read takes at most.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static DOWN: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
    static UP: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
    static PIECES: RefCell<Vec<Range<usize>>> = const { RefCell::new(Vec::new()) };
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer that grew above this is not kept for the next who needs one.
const SPARE_BYTES: usize = 4 * 1024;

/// An empty buffer with room for a short answer.
pub(crate) fn buffer(room: usize) -> Vec<u8> {
    let mut buffer = SPARE.take();
    buffer.reserve(room);
    buffer
}

/// Gives a buffer back for the next.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= SPARE_BYTES {
        buffer.clear();
        SPARE.set(buffer);
    }
}

/// The buffer for reading from clients. `read` must not call this again.
pub(crate) fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    DOWN.with_borrow_mut(|scratch| read(scratch))
}

/// The buffer for reading from upstreams: apart from the clients' one, which may be read while this is in use. Beside it
/// the places where data lies in what was read.
pub(crate) fn with_upstream<T>(read: impl FnOnce(&mut [u8], &mut Vec<Range<usize>>) -> T) -> T {
    UP.with_borrow_mut(|scratch| PIECES.with_borrow_mut(|pieces| read(scratch, pieces)))
}
