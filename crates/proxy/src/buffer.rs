//! Where do bytes stay while they pass, and who gives the memory back?
//!
//! A thread has one pool of read buffers in two sizes and one of growing write buffers. A connection holds a buffer
//! only while there are bytes in it or a read is under way: an idle connection holds none. What the pool keeps is
//! bounded and trimmed by [`Buffers::trim`] to what was lately in use.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A buffer for heads and small bodies: a head of ordinary size and a 10 KiB body arrive in one read.
pub const SMALL: usize = 16 * 1024;
/// A buffer for bulk: where one read or write moves so much that the call's own cost no longer counts.
pub const LARGE: usize = 256 * 1024;
/// A write buffer that grew beyond this is not kept.
const KEPT_WRITE_BUFFER: usize = 64 * 1024;

/// A thread's buffers.
#[derive(Default)]
pub struct Buffers {
    small: Shelf,
    large: Shelf,
    write: Shelf,
}

#[derive(Default)]
struct Shelf {
    free: RefCell<Vec<Vec<u8>>>,
    /// Most buffers that were out at once since the last trim.
    peak: Cell<usize>,
    out: Cell<usize>,
}

impl Shelf {
    fn take(&self) -> Option<Vec<u8>> {
        self.out.set(self.out.get() + 1);
        self.peak.set(self.peak.get().max(self.out.get()));
        self.free.borrow_mut().pop()
    }

    fn put(&self, buffer: Vec<u8>, keep: bool) {
        self.out.set(self.out.get().saturating_sub(1));
        if keep {
            self.free.borrow_mut().push(buffer);
        }
    }

    fn trim(&self) {
        let spare = self.peak.replace(self.out.get()).saturating_sub(self.out.get());
        let mut free = self.free.borrow_mut();
        free.truncate(spare);
        free.shrink_to(spare.max(16));
    }
}

impl Buffers {
    /// An empty pool.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// A read buffer of [`SMALL`] initialised bytes.
    pub fn small(&self) -> Vec<u8> {
        self.small.take().unwrap_or_else(|| vec![0; SMALL])
    }

    /// A read buffer of [`LARGE`] initialised bytes.
    pub fn large(&self) -> Vec<u8> {
        self.large.take().unwrap_or_else(|| vec![0; LARGE])
    }

    /// Gives a read buffer back.
    pub fn put(&self, buffer: Vec<u8>) {
        match buffer.len() {
            SMALL => self.small.put(buffer, true),
            LARGE => self.large.put(buffer, true),
            // A buffer that was grown for an outsized head took the place of a small one.
            _ => self.small.put(buffer, false),
        }
    }

    /// An empty write buffer.
    pub fn write(&self) -> Vec<u8> {
        self.write.take().unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// Gives a write buffer back.
    pub fn put_write(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let keep = buffer.capacity() <= KEPT_WRITE_BUFFER && buffer.capacity() > 0;
        self.write.put(buffer, keep);
    }

    /// Frees what was not needed since the last call. Called about once a second.
    pub fn trim(&self) {
        self.small.trim();
        self.large.trim();
        self.write.trim();
    }

    /// Buffers that are out.
    #[cfg(test)]
    pub fn in_use(&self) -> usize {
        self.small.out.get() + self.large.out.get() + self.write.out.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_are_trimmed_to_recent_use() {
        let buffers = Buffers::default();
        let held: Vec<_> = (0..10).map(|_| buffers.small()).collect();
        assert_eq!(buffers.in_use(), 10);
        held.into_iter().for_each(|buffer| buffers.put(buffer));
        assert_eq!((buffers.in_use(), buffers.small.free.borrow().len()), (0, 10));
        buffers.trim();
        assert_eq!(buffers.small.free.borrow().len(), 10);
        let one = buffers.small();
        buffers.put(one);
        buffers.trim();
        assert_eq!(buffers.small.free.borrow().len(), 1);
        buffers.trim();
        assert_eq!(buffers.small.free.borrow().len(), 0);
    }

    #[test]
    fn outgrown_buffers_are_not_kept() {
        let buffers = Buffers::default();
        let mut write = buffers.write();
        write.reserve(1 << 20);
        buffers.put_write(write);
        let mut read = buffers.small();
        read.resize(SMALL * 2, 0);
        buffers.put(read);
        assert_eq!((buffers.in_use(), buffers.write.free.borrow().len()), (0, 0));
        assert_eq!(buffers.small.free.borrow().len(), 0);
    }
}
