//! What do the connections of a thread lend each other?
//!
//! Heads and payload of streams come and go with every request. They are kept here, a bounded number of them and none
//! that grew large, so that a busy connection seldom asks the allocator and an idle one holds nothing.

use std::cell::RefCell;

use crate::head::Head;

/// Kept of each kind: those of a few hundred streams under way. An idle thread keeps none.
const MOST: usize = 512;
/// Larger ones are not kept.
const LARGE: usize = 8 * 1024;

/// Buffers for what waits to be sent, from whoever owns the thread's buffers.
pub trait Buffers {
    /// An empty buffer.
    fn take(&self) -> Vec<u8>;
    /// Gives one back.
    fn give(&self, buffer: Vec<u8>);
}

/// Heads and payload that are used again.
pub struct Pool {
    buffers: Box<dyn Buffers>,
    #[expect(clippy::vec_box, reason = "heads move from stream to stream in their box")]
    heads: RefCell<Vec<Box<Head>>>,
    payloads: RefCell<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool; buffers for sending come from `buffers`.
    pub fn new(buffers: impl Buffers + 'static) -> Self {
        Self {
            buffers: Box::new(buffers),
            heads: RefCell::default(),
            payloads: RefCell::default(),
        }
    }

    /// Lets go of all that is kept.
    pub fn trim(&self) {
        *self.heads.borrow_mut() = Vec::new();
        *self.payloads.borrow_mut() = Vec::new();
    }

    /// An empty head.
    pub fn head(&self) -> Box<Head> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a head back.
    pub fn give_head(&self, mut head: Box<Head>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < MOST && head.capacity() <= LARGE {
            head.clear();
            heads.push(head);
        }
    }

    /// An empty buffer for payload.
    pub fn payload(&self) -> Vec<u8> {
        self.payloads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer for payload back.
    pub fn give_payload(&self, mut payload: Vec<u8>) {
        let mut payloads = self.payloads.borrow_mut();
        if payload.capacity() > 0 && payload.capacity() <= LARGE && payloads.len() < MOST {
            payload.clear();
            payloads.push(payload);
        }
    }

    pub(crate) fn out(&self) -> Vec<u8> {
        self.buffers.take()
    }

    pub(crate) fn give_out(&self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }
}
