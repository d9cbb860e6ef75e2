//! Does a file still look as it did?
//!
//! Asked of its metadata alone, links followed, so that a rename, a swapped link (the way Kubernetes updates mounts) and
//! a write in place are all seen.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

/// How a file looked at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// `None` when there is no such file, or it can't be seen.
    pub(crate) fn of_file(path: &str) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of)
    }
}
