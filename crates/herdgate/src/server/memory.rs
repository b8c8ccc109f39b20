//! How the system's allocator is to treat the room of request bodies.

use std::hint::black_box;

/// Bytes of the block whose freeing tells the allocator what is usual here.
const USUAL: usize = 2 << 20;

/// Tells the allocator that blocks of so many bytes come and go. glibc learns from the first large block that is freed
/// (mallopt(3), `M_MMAP_THRESHOLD`): blocks up to its size are kept at hand from then on, and up to twice as much of free room.
/// Before that, it gives the room of a few bodies back to the system each time that they have all been sent, and gets
/// every page of it back with the next ones: more than the copying of a body of 20 KB costs. Other allocators do not
/// mind.
pub(super) fn settle() {
    drop(black_box(Vec::<u8>::with_capacity(USUAL)));
}
