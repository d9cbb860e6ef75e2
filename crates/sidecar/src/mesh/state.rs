//! What is kept, so that a sidecar that starts without a control plane serves all the same?
//!
//! The last good configuration, the certificate and its key, and who is revoked, in a directory that nobody else may look
//! into. Each file is replaced in one step. Nothing is written where there is no directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_identity::{Denied, DenyList};

use super::feed::Kept;

const CONFIGURATION: &str = "configuration.json";
const KEY: &str = "key.pem";
const CHAIN: &str = "chain.pem";
const ROOTS: &str = "roots.pem";
/// Apart from the configuration: it is told apart, and holds whatever becomes of the rest.
const DENIED: &str = "denied.json";
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
        serde_json::from_slice(&self.read(CONFIGURATION).ok()?).ok()
    }

    /// The last certificate.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(Identity {
            key: self.read(KEY).ok()?,
            chain: self.read(CHAIN).ok()?,
            roots: self.read(ROOTS).ok()?,
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

    /// Who was revoked when that was said last; nobody where it never was.
    ///
    /// # Errors
    /// What is there can't be read. Nobody who was revoked is to be believed because a file is odd.
    pub(crate) fn denied(&self, now: SystemTime) -> Result<DenyList, String> {
        let odd = |error: &dyn std::fmt::Display| format!("{DENIED}: {error}");
        let bytes = match self.read(DENIED) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DenyList::new()),
            read => read.map_err(|error| odd(&error))?,
        };
        let names: Vec<String> = serde_json::from_slice(&bytes).map_err(|error| odd(&error))?;
        let mut list = DenyList::new();
        for name in names {
            let denied: Denied = name.parse().map_err(|error| odd(&error))?;
            list.deny(denied, None, now).map_err(|error| odd(&error))?;
        }
        Ok(list)
    }

    /// Keeps who is revoked, by name: until when is not told, since each list takes the place of the one before.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn keep_denied(&self, list: &DenyList) -> io::Result<()> {
        let entries = list.entries().into_iter();
        let names: Vec<_> = entries.map(|(denied, _)| denied.to_string()).collect();
        self.write(DENIED, &serde_json::to_vec(&names)?)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.join(name))?;
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
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
        let now = SystemTime::now();
        assert!(state.denied(now).unwrap().is_empty());
        let mut denied = DenyList::new();
        for whom in ["spiffe://mesh.test/ns/shop/sa/web", "0a1b"] {
            denied.deny(whom.parse().unwrap(), None, now).unwrap();
        }
        state.keep_denied(&denied).unwrap();
        let again = State::open(&path).unwrap();
        assert_eq!(again.configuration(), Some(Kept::default()));
        assert_eq!(again.denied(now), Ok(denied));
        assert_eq!(again.identity().unwrap().key, b"key");
        for entry in fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn who_was_revoked_is_not_forgotten_because_the_file_is_odd() {
        let path = directory("odd");
        let state = State::open(&path).unwrap();
        for text in ["", "{}", r#"["web"]"#] {
            state.write(DENIED, text.as_bytes()).unwrap();
            let error = state.denied(SystemTime::now()).unwrap_err();
            assert!(error.starts_with(DENIED), "{error}");
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
