//! Which fields are known by number?
//!
//! 1 to 61 are those of RFC 7541 appendix A; behind them come those that were sent before, the latest first.

use std::collections::VecDeque;

use mesh_http1::{Known, classify};

/// The entries of the static table.
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry costs beside its bytes (RFC 7541 section 4.1).
pub const OVERHEAD: usize = 32;

/// A field that was sent before.
#[derive(Debug)]
pub struct Entry {
    bytes: Box<[u8]>,
    name: u32,
    /// What the name is.
    pub known: Known,
    /// What the one who keeps the table knows of it.
    pub note: u64,
}

impl Entry {
    /// The name.
    pub fn name(&self) -> &[u8] {
        self.bytes.get(..self.name as usize).unwrap_or_default()
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        self.bytes.get(self.name as usize..).unwrap_or_default()
    }

    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// A dynamic table.
#[derive(Debug)]
pub struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
    /// Entries that were ever added.
    added: u64,
}

impl Table {
    /// An empty table of up to `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            most,
            added: 0,
        }
    }

    /// The bound in bytes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Changes the bound.
    pub fn resize(&mut self, most: usize) {
        self.most = most;
        self.make_room(0);
    }

    /// The entry `index`, counted from the latest, which is 0.
    pub fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// The entry that was added as number `n`, counted from 1, and its index; `None` when it has gone.
    pub fn numbered(&self, n: u64) -> Option<(usize, &Entry)> {
        let index = usize::try_from(self.added.checked_sub(n)?).ok()?;
        self.entries.get(index).map(|entry| (index, entry))
    }

    /// Adds an entry, for which others make room; one that is larger than the table empties it (RFC 7541 section 4.4).
    /// Gives its number, 0 when it was not kept.
    pub fn add(&mut self, name: &[u8], value: &[u8], note: u64) -> u64 {
        let bytes = name.len() + value.len();
        self.make_room(bytes + OVERHEAD);
        if bytes + OVERHEAD > self.most {
            return 0;
        }
        let mut both = Vec::with_capacity(bytes);
        both.extend_from_slice(name);
        both.extend_from_slice(value);
        self.size += bytes + OVERHEAD;
        self.entries.push_front(Entry {
            bytes: both.into_boxed_slice(),
            name: name.len() as u32,
            known: classify(name),
            note,
        });
        self.added += 1;
        self.added
    }

    fn make_room(&mut self, bytes: usize) {
        while self.size + bytes > self.most {
            let Some(oldest) = self.entries.pop_back() else {
                break;
            };
            self.size -= oldest.size();
        }
    }
}
