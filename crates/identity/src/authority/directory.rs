//! Where are an authority's keys when it does not run?
//!
//! In a directory of its own, mode 0700, in files of mode 0600. One that others may read or write is refused, whoever
//! made it so: a key that others could have read is no key. `state.json` names the files that count and is replaced in
//! one step after they were written, so that a crash leaves the old state or the new one.
//!
//! ```text
//!   state.json     the rotation: which numbers, since when, until when
//!   root-1.crt     a root's certificate      root-1.key     its key, until it signs no more
//!   issuer-2.crt   the issuer's certificate  issuer-2.key   its key
//!   denied.json    who is revoked
//!   tokens.json    the hashes of tokens that are not spent yet
//!   lock           held by the one process that signs
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files;

/// The longest file that is read, in bytes. A state has some 500, a certificate 1,000.
const MAX_FILE: u64 = 64 << 10;
/// The longest that grows with use: 10,000 revocations or tokens of some 300 bytes each.
pub(super) const MAX_LONG_FILE: u64 = 4 << 20;

/// What others than the owner may do: nothing.
const OTHERS: u32 = 0o077;

/// An authority's directory, held by this process alone.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The operating system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Others may read or write it, or it is another user's.
    #[error("{} is open to others: its mode is {mode:04o} of user {owner}; take it for yourself alone, with chmod go= and chown", path.display())]
    Open {
        /// The directory or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// It is no directory, or no plain file.
    #[error("{} is not of the kind it should be", path.display())]
    Kind {
        /// The directory or file.
        path: PathBuf,
    },
    /// A file is, or would be, larger than any that is read here.
    #[error("{} is too large", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds it.
    #[error("{} is in use by another process: each control plane needs a folder of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file that the state names is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

impl Directory {
    /// Opens a directory, or makes it; its parent must be there.
    ///
    /// # Errors
    /// It is open to others, in use, or can't be read or made.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DirectoryError> {
        let path = path.into();
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(&path, error)),
            _ => {}
        }
        let metadata = fs::metadata(&path).map_err(|error| io_error(&path, error))?;
        if !metadata.is_dir() {
            return Err(DirectoryError::Kind { path });
        }
        check(&path, &metadata)?;
        let lock_path = path.join("lock");
        let lock = private()
            .read(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| io_error(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(io_error(&lock_path, error)),
        }
    }

    /// A file's content; `None` when there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        self.read_up_to(name, MAX_FILE)
    }

    /// The content of a file that may have so many bytes.
    pub(super) fn read_up_to(
        &self,
        name: &str,
        most: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        let path = self.path.join(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, error)),
        };
        if !metadata.is_file() {
            return Err(DirectoryError::Kind { path });
        }
        check(&path, &metadata)?;
        if metadata.len() > most {
            return Err(DirectoryError::TooLarge { path });
        }
        // Large enough that it never grows and leaves a copy of a key behind.
        let mut content = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        File::open(&path)
            .and_then(|file| file.take(metadata.len() + 1).read_to_end(&mut content))
            .map_err(|error| io_error(&path, error))?;
        if content.len() as u64 > metadata.len() {
            return Err(DirectoryError::TooLarge { path });
        }
        Ok(Some(content))
    }

    /// A file that must be there.
    pub(super) fn require(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, DirectoryError> {
        self.read(name)?.ok_or_else(|| DirectoryError::Missing {
            path: self.path.join(name),
        })
    }

    /// Writes a file whole or not at all, and to the disk.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        if content.len() as u64 > MAX_LONG_FILE {
            return Err(DirectoryError::TooLarge { path });
        }
        files::replace(&path, content).map_err(|error| io_error(&path, error))
    }

    /// Removes the certificates and keys that nothing names any more. What can't be removed now is tried next time.
    pub(super) fn keep_only(&self, names: &[String]) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = (name.starts_with("root-") || name.starts_with("issuer-"))
                && (name.ends_with(".crt") || name.ends_with(".key") || name.ends_with(".new"));
            if ours && !names.iter().any(|kept| kept == name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// For files that nobody else may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), DirectoryError> {
    let (mode, owner) = (metadata.permissions().mode() & 0o7777, metadata.uid());
    if mode & OTHERS != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Open {
            path: path.to_owned(),
            mode,
            owner,
        });
    }
    Ok(())
}

fn io_error(path: &Path, error: io::Error) -> DirectoryError {
    DirectoryError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn files_are_for_the_owner_alone() {
        let temp = TempDir::new();
        let path = temp.path().join("authority");
        let directory = Directory::open(&path).unwrap();
        directory.write("root-1.key", b"secret").unwrap();
        directory.write("root-1.key", b"secret 2").unwrap();
        assert_eq!(**directory.require("root-1.key").unwrap(), *b"secret 2");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o700);
        for entry in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn what_is_open_to_others_is_refused() {
        let temp = TempDir::new();
        let path = temp.path().join("authority");
        let directory = Directory::open(&path).unwrap();
        directory.write("root-1.key", b"secret").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(path.join("root-1.key"), fs::Permissions::from_mode(mode)).unwrap();
            let error = directory.read("root-1.key").unwrap_err();
            assert!(matches!(error, DirectoryError::Open { .. }), "{error}");
        }
        drop(directory);
        for mode in [0o750, 0o705, 0o770, 0o711] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Directory::open(&path).unwrap_err();
            assert!(matches!(error, DirectoryError::Open { .. }), "{error}");
        }
    }

    #[test]
    fn one_process_signs() {
        let temp = TempDir::new();
        let path = temp.path().join("authority");
        let first = Directory::open(&path).unwrap();
        assert!(matches!(
            Directory::open(&path),
            Err(DirectoryError::InUse { .. })
        ));
        drop(first);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let temp = TempDir::new();
        let path = temp.path().join("authority");
        let directory = Directory::open(&path).unwrap();
        assert!(directory.read("state.json").unwrap().is_none());
        assert!(matches!(
            directory.require("state.json"),
            Err(DirectoryError::Missing { .. })
        ));
        std::os::unix::fs::symlink("/etc/hostname", path.join("state.json")).unwrap();
        assert!(matches!(
            directory.read("state.json"),
            Err(DirectoryError::Kind { .. })
        ));
        directory
            .write("issuer-2.key", &vec![b' '; MAX_FILE as usize + 1])
            .unwrap();
        assert!(matches!(
            directory.read("issuer-2.key"),
            Err(DirectoryError::TooLarge { .. })
        ));
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Directory::open(&file), Err(DirectoryError::Kind { .. })));
    }

    #[test]
    fn what_nothing_names_goes() {
        let temp = TempDir::new();
        let path = temp.path().join("authority");
        let directory = Directory::open(&path).unwrap();
        for name in [
            "root-1.crt",
            "root-1.key",
            "issuer-2.crt",
            "state.json",
            "notes.txt",
        ] {
            directory.write(name, b"").unwrap();
        }
        directory.keep_only(&["root-1.crt".to_owned()]);
        let left = |name| directory.read(name).unwrap().is_some();
        assert!(left("root-1.crt") && left("state.json") && left("notes.txt"));
        assert!(!left("root-1.key") && !left("issuer-2.crt"));
    }
}
