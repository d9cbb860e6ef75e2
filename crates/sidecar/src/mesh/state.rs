//! What is kept, so that a sidecar that starts without a control plane serves all the same?
//!
//! The last good configuration, the certificate and its key, in a directory that nobody else may look into. Each file is
//! replaced in one step. Nothing is written where there is no directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::feed::Kept;

const CONFIGURATION: &str = "configuration.json";
const KEY: &str = "key.pem";
const CHAIN: &str = "chain.pem";
const ROOTS: &str = "roots.pem";
/// More is no state of ours.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A directory with what is kept.
pub(crate) struct State {
    path: PathBuf,
    /// What was written last.
    written: Option<Kept>,
}

/// A certificate that was kept, in PEM.
pub(crate) struct Identity {
    /// Its key.
    pub(crate) key: Vec<u8>,
    /// It, then its issuer's.
    pub(crate) chain: Vec<u8>,
    /// The roots that it was believed by.
    pub(crate) roots: Vec<u8>,
}

impl State {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// It can't be made, is none, is somebody else's, or is open to others.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let wrong = |error: io::Error| format!("{}: {error}", path.display());
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(path).map_err(wrong)?;
        if !metadata.is_dir() {
            return Err(format!("{} is not a directory", path.display()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "{} is open to others (mode {:o}): its mode must be 700",
                path.display(),
                metadata.mode() & 0o777
            ));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(format!("{} belongs to somebody else", path.display()));
        }
        Ok(Self {
            path: path.to_owned(),
            written: None,
        })
    }

    /// The last good configuration, if one was kept that can be read.
    pub(crate) fn configuration(&self) -> Option<Kept> {
        serde_json::from_slice(&self.read(CONFIGURATION)?).ok()
    }

    /// The last certificate.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(Identity {
            key: self.read(KEY)?,
            chain: self.read(CHAIN)?,
            roots: self.read(ROOTS)?,
        })
    }

    /// Keeps a configuration, where it is another than before.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn keep(&mut self, kept: Kept) -> io::Result<()> {
        if self.written.as_ref() == Some(&kept) {
            return Ok(());
        }
        self.write(CONFIGURATION, &serde_json::to_vec(&kept)?)?;
        self.written = Some(kept);
        Ok(())
    }

    /// Keeps a certificate. The key goes last: a chain without its key is not taken up.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn keep_identity(&self, identity: &Identity) -> io::Result<()> {
        self.write(ROOTS, &identity.roots)?;
        self.write(CHAIN, &identity.chain)?;
        self.write(KEY, &identity.key)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.join(name)).ok()?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("mesh-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn what_is_kept_comes_back_and_is_nobody_elses() {
        let path = directory("kept");
        let mut state = State::open(&path).unwrap();
        assert!(state.configuration().is_none() && state.identity().is_none());
        state.keep(Kept::default()).unwrap();
        let identity = Identity {
            key: b"key".to_vec(),
            chain: b"chain".to_vec(),
            roots: b"roots".to_vec(),
        };
        state.keep_identity(&identity).unwrap();
        let again = State::open(&path).unwrap();
        assert_eq!(again.configuration(), Some(Kept::default()));
        assert_eq!(again.identity().unwrap().key, b"key");
        for entry in fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_that_is_open_to_others_is_refused() {
        let path = directory("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        let refused = State::open(&path).err().unwrap();
        assert!(refused.contains("open to others (mode 750)"), "{refused}");
        fs::remove_dir_all(&path).unwrap();
    }
}
