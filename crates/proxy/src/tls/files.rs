//! What do the files of a configuration hold, and have they changed since?
//!
//! Whether a file changed is asked of its metadata alone, links followed, so that a rename, a swapped link (the way
//! Kubernetes updates mounts) and a write in place are all seen. What changed is told by the content: a touched file is
//! no new certificate.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use mesh_model::issue::IssueCode;
use mesh_model::resources::Pem;

use super::problem::Problem;
use crate::stamp::Stamp;

/// The longest PEM file that is read, in bytes: ten times the bundle of roots of a Linux distribution.
const MAX_FILE: u64 = 4 << 20;

/// A file written this shortly before it was read may be written again without its times changing, since file
/// systems count in ticks of up to two seconds. It is read again until it is older.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Seen {
    path: String,
    /// `None` when there was no such file.
    stamp: Option<Stamp>,
    /// Whether it was old enough that every later change shows in its stamp.
    settled: bool,
}

/// The files read for one configuration.
#[derive(Debug, Default)]
pub(super) struct Files {
    seen: Vec<Seen>,
    hasher: DefaultHasher,
}

impl Files {
    /// Reads a value's PEM text, from its file if it names one.
    pub(super) fn read(&mut self, pem: &Pem) -> Result<Vec<u8>, Problem> {
        let text = match pem.path() {
            None => pem.0.as_bytes().to_vec(),
            Some(path) => self.read_file(path)?,
        };
        text.hash(&mut self.hasher);
        Ok(text)
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Problem> {
        const EXPECTED: &str = "a PEM file that this process may read";
        let metadata = fs::metadata(path);
        let modified = metadata.as_ref().ok().and_then(|m| m.modified().ok());
        self.seen.push(Seen {
            path: path.to_owned(),
            stamp: metadata.as_ref().ok().map(Stamp::of),
            settled: modified.is_none_or(|modified| modified + SETTLE < SystemTime::now()),
        });
        let unreadable = |error: &io::Error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => IssueCode::Missing,
                _ => IssueCode::BadValue,
            };
            Problem::new(code, format!("`{path}` can't be read: {error}"), EXPECTED)
        };
        let metadata = metadata.map_err(|error| unreadable(&error))?;
        // To open a pipe might wait for ever.
        if !metadata.is_file() {
            return Err(Problem::new(
                IssueCode::BadValue,
                format!("`{path}` is not a file"),
                EXPECTED,
            ));
        }
        let mut text = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text))
            .map_err(|error| unreadable(&error))?;
        if text.len() as u64 > MAX_FILE {
            let message = format!("`{path}` is too large");
            return Err(Problem::new(IssueCode::OutOfRange, message, "at most 4 MiB"));
        }
        Ok(text)
    }

    /// Whether a file may hold something else than what was read. A few system calls.
    pub(super) fn changed(&self) -> bool {
        self.seen
            .iter()
            .any(|seen| !seen.settled || Stamp::of_file(&seen.path) != seen.stamp)
    }

    /// A fingerprint of all that was read, in the order it was read.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hasher.finish()
    }
}

/// How a value is called in a message.
pub(super) fn shown(pem: &Pem) -> String {
    pem.path()
        .map_or_else(|| "the inline PEM".to_owned(), |path| format!("`{path}`"))
}
