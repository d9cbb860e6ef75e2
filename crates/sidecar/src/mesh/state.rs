//! What is kept, so that a sidecar that starts without a control plane serves all the same?
//!
//! The last good configuration, the certificate and its key, and who is revoked, in a directory that nobody else may look
//! into. Each file is replaced in one step. Nothing is written where there is no directory.
//!
//! Invariants: one sidecar has a directory at a time; what is kept of who may call says whose it is, and nobody else goes by
//! it, whatever directory it is found in; what holds and can't be written down leaves no configuration of before behind,
//! so that nobody is let in by what held once. Where nothing at all can be written, that is told as an error.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_identity::{Denied, DenyList, TrustBundle, files};
use mesh_model::spiffe::SpiffeId;
use serde::de::DeserializeOwned;

use super::feed::Kept;

const CONFIGURATION: &str = "configuration.json";
/// One file, since its parts are worth nothing apart: a chain beside the key of the one before would be no identity, and
/// the token is spent.
const IDENTITY: &str = "identity.json";
/// Apart from the configuration: it is told apart, and holds whatever becomes of the rest.
const DENIED: &str = "denied.json";
/// Held locked as long as a sidecar has the directory. Always empty.
const LOCK: &str = "lock";
/// More is no state of ours.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A directory with what is kept.
pub(crate) struct State {
    path: PathBuf,
    /// What was written last.
    written: Option<Kept>,
    /// Who is revoked, where that could not be written.
    unwritten: Option<BTreeSet<String>>,
    /// A certificate with other roots than those that were kept, where that could not be written.
    unwritten_identity: Option<Identity>,
    /// Whether the configuration that is there is this workload's.
    is_own: bool,
    /// Whether it holds no more, and could not be taken away.
    is_void: bool,
    _lock: File,
}

/// Whose a configuration is: a workload's, in a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Owner {
    /// Its SPIFFE id, which names the trust domain too.
    identity: String,
    /// The fingerprints of the roots that it believed. Others may call their mesh by the same name; one root in common makes
    /// it the same, so that roots can be replaced.
    roots: Vec<String>,
}

impl Owner {
    /// A workload that believes these roots.
    pub(crate) fn new(identity: &SpiffeId, roots: &TrustBundle) -> Self {
        Self {
            identity: identity.as_str().to_owned(),
            roots: roots.fingerprints().map(|root| root.to_string()).collect(),
        }
    }

    /// Whether it is this workload, which believes some of these.
    ///
    /// # Errors
    /// Who it is.
    pub(crate) fn check(&self, identity: &SpiffeId, believed: &[&TrustBundle]) -> Result<(), String> {
        if self.identity != identity.as_str() {
            return Err(format!("it is of {}", self.identity));
        }
        let mut roots = believed.iter().flat_map(|bundle| bundle.fingerprints());
        match roots.any(|root| self.roots.contains(&root.to_string())) {
            true => Ok(()),
            false => Err("it is of a mesh with other roots".to_owned()),
        }
    }
}

/// A certificate that was kept, in PEM.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// Its key.
    pub(crate) key: String,
    /// It, then its issuer's.
    pub(crate) chain: String,
    /// The roots that were believed last.
    pub(crate) roots: String,
    /// When it was obtained: its life is counted from then, and not from the start of a sidecar.
    pub(crate) obtained: SystemTime,
}

impl State {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// It can't be made, is none, is somebody else's, is open to others, or another sidecar has it.
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
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "{}: another sidecar has it; each needs a --state-dir of its own",
                    path.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            written: None,
            unwritten: None,
            unwritten_identity: None,
            is_own: false,
            is_void: false,
            _lock: lock,
        })
    }

    /// The configuration that is there was found to be this workload's.
    pub(crate) fn own(&mut self) {
        self.is_own = true;
    }

    /// The last good configuration; nothing where none was kept, or where it was emptied.
    ///
    /// # Errors
    /// What is there can't be read.
    pub(crate) fn configuration(&self) -> Result<Option<Kept>, String> {
        match fs::metadata(self.path.join(CONFIGURATION)) {
            Ok(file) if file.len() == 0 => Ok(None),
            _ => self.value(CONFIGURATION),
        }
    }

    /// Whether there is a configuration that holds no more, and can't be taken away.
    pub(crate) fn is_void(&self) -> bool {
        self.is_void
    }

    /// The last certificate; nothing where none was kept.
    ///
    /// # Errors
    /// What is there can't be read.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, String> {
        self.value(IDENTITY)
    }

    /// Keeps a configuration, where it is another than before. Who is revoked and which roots are believed go first, where
    /// that is yet to be written.
    ///
    /// # Errors
    /// What the operating system says. An older configuration is gone then; one that is older in nothing but its time stays.
    pub(crate) fn keep(&mut self, kept: Kept) -> io::Result<()> {
        self.write_denied()?;
        self.write_identity()?;
        if self.written.as_ref() == Some(&kept) {
            return Ok(());
        }
        if let Err(error) = self.write(CONFIGURATION, &serde_json::to_vec(&kept)?) {
            return Err(match self.configuration() {
                Ok(Some(before)) if before.says_as_much_as(&kept) => error,
                _ => self.withdraw(&error),
            });
        }
        (self.is_own, self.is_void) = (true, false);
        self.written = Some(kept);
        Ok(())
    }

    /// Keeps a certificate, and the roots that are believed now. A configuration of somebody else's goes first.
    ///
    /// # Errors
    /// What the operating system says. Where other roots were kept, no configuration is there then, nor kept before these are.
    pub(crate) fn keep_identity(&mut self, identity: Identity) -> io::Result<()> {
        if !self.is_own {
            self.remove()?;
        }
        self.unwritten_identity = Some(identity);
        self.write_identity()
    }

    /// Writes down a certificate and its roots, where that is yet to be done.
    fn write_identity(&mut self) -> io::Result<()> {
        let Some(identity) = self.unwritten_identity.take() else {
            return Ok(());
        };
        let Err(error) = self.write(IDENTITY, &serde_json::to_vec(&identity)?) else {
            return Ok(());
        };
        if let Ok(Some(before)) = self.identity()
            && before.roots == identity.roots
        {
            return Err(error);
        }
        // Nobody is to be let in by a root that is believed no more.
        self.unwritten_identity = Some(identity);
        Err(self.withdraw(&error))
    }

    /// Who was revoked when that was said last; nobody where it never was.
    ///
    /// # Errors
    /// What is there can't be read. Nobody who was revoked is to be believed because a file is odd.
    pub(crate) fn denied(&self, now: SystemTime) -> Result<DenyList, String> {
        let odd = |error: &dyn Display| format!("{DENIED}: {error}");
        let names: Vec<String> = self.value(DENIED)?.unwrap_or_default();
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
    /// What the operating system says. No configuration is there then, nor kept before this is.
    pub(crate) fn keep_denied(&mut self, list: &DenyList) -> io::Result<()> {
        let entries = list.entries().into_iter();
        self.unwritten = Some(entries.map(|(denied, _)| denied.to_string()).collect());
        self.write_denied()
    }

    /// Writes down who is revoked, where that is yet to be done.
    fn write_denied(&mut self) -> io::Result<()> {
        let Some(names) = &self.unwritten else {
            return Ok(());
        };
        if let Err(error) = self.write(DENIED, &serde_json::to_vec(names)?)
            && self.value(DENIED).ok().flatten().as_ref() != Some(names)
        {
            return Err(self.withdraw(&error));
        }
        self.unwritten = None;
        Ok(())
    }

    /// Takes away the configuration, since something that holds can't be written. A full disk does not stop that.
    fn withdraw(&mut self, why: &io::Error) -> io::Error {
        self.written = None;
        let removed = self.remove();
        self.is_void = removed.is_err();
        io::Error::other(match removed {
            Ok(()) => format!("{why}; until it can be, a start without a control plane serves nothing"),
            Err(error) => format!(
                "{why}; nor can {CONFIGURATION} be removed ({error}): a start without a control plane serves what held before"
            ),
        })
    }

    /// Removes the configuration, if it is there. Where its directory can't be written to, it is emptied: that makes no file.
    fn remove(&self) -> io::Result<()> {
        let path = self.path.join(CONFIGURATION);
        files::remove(&path).or_else(|error| {
            let emptied = OpenOptions::new().write(true).truncate(true).open(&path);
            emptied.and_then(|file| file.sync_all()).map_err(|_| error)
        })
    }

    /// What a file says; nothing where there is none.
    fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, String> {
        let odd = |error: &dyn Display| format!("{name}: {error}");
        match self.read(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(odd(&error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| odd(&error)),
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.join(name))?;
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        files::replace(&self.path.join(name), bytes)
    }
}

#[cfg(test)]
mod unwritten;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use mesh_identity::authority::{Authority, Settings};

    use super::*;

    pub(super) fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("mesh-state-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    pub(super) fn identity(which: &str, obtained: SystemTime) -> Identity {
        Identity {
            key: format!("{which} key"),
            chain: format!("{which} chain"),
            roots: format!("{which} roots"),
            obtained,
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_is_nobody_elses() {
        let path = directory("kept");
        let mut state = State::open(&path).unwrap();
        assert_eq!(state.configuration(), Ok(None));
        assert!(state.identity().unwrap().is_none());
        state.keep(Kept::default()).unwrap();
        let now = SystemTime::now();
        state.keep_identity(identity("first", now)).unwrap();
        assert!(state.denied(now).unwrap().is_empty());
        let mut denied = DenyList::new();
        for whom in ["spiffe://mesh.test/ns/shop/sa/web", "0a1b"] {
            denied.deny(whom.parse().unwrap(), None, now).unwrap();
        }
        state.keep_denied(&denied).unwrap();
        drop(state);
        let again = State::open(&path).unwrap();
        assert_eq!(again.configuration(), Ok(Some(Kept::default())));
        assert_eq!(again.denied(now), Ok(denied));
        let kept = again.identity().unwrap().unwrap();
        assert_eq!((&*kept.key, kept.obtained), ("first key", now));
        for entry in fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
        fs::remove_dir_all(&path).unwrap();
    }

    /// Makes writing a file fail, for the superuser too, until its draft is no folder any more.
    pub(super) fn block(path: &Path, name: &str) -> PathBuf {
        let draft = path.join(format!("{name}.new"));
        fs::create_dir(&draft).unwrap();
        draft
    }

    #[test]
    fn what_held_before_is_gone_when_what_holds_cant_be_written() {
        let path = directory("full");
        let mut state = State::open(&path).unwrap();
        let kept = |heard_at, identity: &str| {
            let mut kept = Kept::default();
            kept.heard_at = heard_at;
            kept.of.identity = identity.into();
            kept
        };
        let [before, later, other] = [kept(Some(60), "a"), kept(Some(120), "a"), kept(Some(120), "b")];
        state.keep(before.clone()).unwrap();
        let draft = block(&path, CONFIGURATION);
        assert!(state.keep(later).is_err());
        assert_eq!(
            state.configuration(),
            Ok(Some(before.clone())),
            "it says the same"
        );
        let error = state.keep(other.clone()).unwrap_err().to_string();
        assert!(error.ends_with("serves nothing"), "{error}");
        assert_eq!(state.configuration(), Ok(None));
        fs::remove_dir(&draft).unwrap();
        state.keep(before.clone()).unwrap();
        assert_eq!(
            state.configuration(),
            Ok(Some(before)),
            "it was written before, and is not there"
        );
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn no_configuration_is_kept_beside_an_older_list_of_who_is_revoked() {
        let path = directory("unrevoked");
        let now = SystemTime::now();
        let mut state = State::open(&path).unwrap();
        let mut list = DenyList::new();
        list.deny("0a1b".parse().unwrap(), None, now).unwrap();
        state.keep_denied(&list).unwrap();
        state.keep(Kept::default()).unwrap();
        let draft = block(&path, DENIED);
        state.keep_denied(&list).unwrap();
        assert_eq!(
            state.configuration(),
            Ok(Some(Kept::default())),
            "the list is the same"
        );
        list.deny("2c3d".parse().unwrap(), None, now).unwrap();
        assert!(state.keep_denied(&list).is_err());
        assert_eq!(state.configuration(), Ok(None));
        assert!(state.keep(Kept::default()).is_err());
        assert_eq!(state.configuration(), Ok(None));
        fs::remove_dir(&draft).unwrap();
        state.keep(Kept::default()).unwrap();
        assert_eq!(state.configuration(), Ok(Some(Kept::default())));
        assert_eq!(state.denied(now), Ok(list));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_crash_while_an_identity_is_kept_leaves_a_whole_one() {
        let path = directory("crash");
        let mut state = State::open(&path).unwrap();
        let now = SystemTime::now();
        state.keep_identity(identity("first", now)).unwrap();
        let first = files(&path);
        state.keep_identity(identity("second", now)).unwrap();
        let second = files(&path);
        // As many steps lead from one to the other as there are files, and after each it may have ended.
        for (file, bytes) in &first {
            fs::write(file, bytes).unwrap();
        }
        for (file, bytes) in &second {
            fs::write(file, bytes).unwrap();
            let kept = state.identity().unwrap().unwrap();
            let of = |part: &str| part.split(' ').next().unwrap().to_owned();
            assert_eq!((of(&kept.chain), of(&kept.roots)), (of(&kept.key), of(&kept.key)));
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn one_sidecar_has_a_directory_at_a_time() {
        let path = directory("locked");
        let first = State::open(&path).unwrap();
        let refused = State::open(&path).err().unwrap();
        assert!(refused.contains("another sidecar has it"), "{refused}");
        drop(first);
        assert!(State::open(&path).is_ok());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_configuration_is_one_workloads_in_one_mesh() {
        let [a, b, c] = [(); 3].map(|()| {
            let settings = Settings::new("mesh.test".parse().unwrap());
            let authority = Authority::in_memory(settings, SystemTime::now()).unwrap();
            TrustBundle::clone(authority.bundle())
        });
        let [web, basket]: [SpiffeId; 2] =
            ["web", "basket"].map(|service| format!("spiffe://mesh.test/ns/a/sa/{service}").parse().unwrap());
        let both = |one: &TrustBundle, other: &TrustBundle| {
            let text = one.to_pem() + &other.to_pem();
            TrustBundle::from_pem("mesh.test".parse().unwrap(), text.as_bytes()).unwrap()
        };
        let kept = Owner::new(&web, &both(&a, &b));
        assert_eq!(kept.check(&web, &[&a]), Ok(()));
        let rotated = both(&b, &c);
        assert_eq!(
            kept.check(&web, &[&rotated]),
            Ok(()),
            "one root took another's place"
        );
        assert_eq!(kept.check(&web, &[&c, &a]), Ok(()));
        let other = Err("it is of a mesh with other roots".to_owned());
        assert_eq!(kept.check(&web, &[&c]), other);
        assert_eq!(kept.check(&web, &[]), other);
        let other = Err("it is of spiffe://mesh.test/ns/a/sa/web".to_owned());
        assert_eq!(kept.check(&basket, &[&a]), other);
        assert!(Owner::default().check(&web, &[&a]).is_err());
    }

    #[test]
    fn a_configuration_that_says_not_whose_it_is_is_nobodys() {
        let path = directory("unsigned");
        let state = State::open(&path).unwrap();
        let mut kept = serde_json::to_value(Kept::default()).unwrap();
        kept.as_object_mut().unwrap().remove("of");
        state.write(CONFIGURATION, kept.to_string().as_bytes()).unwrap();
        let error = state.configuration().unwrap_err();
        assert!(error.contains("missing field `of`"), "{error}");
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_configuration_of_somebody_else_goes_before_an_identity_comes() {
        let path = directory("succeeds");
        let now = SystemTime::now();
        State::open(&path).unwrap().keep(Kept::default()).unwrap();
        let mut state = State::open(&path).unwrap();
        state.own();
        state.keep_identity(identity("same", now)).unwrap();
        assert_eq!(state.configuration(), Ok(Some(Kept::default())));
        drop(state);
        let mut state = State::open(&path).unwrap();
        state.keep_identity(identity("other", now)).unwrap();
        assert_eq!(state.configuration(), Ok(None));
        state.keep(Kept::default()).unwrap();
        state.keep_identity(identity("renewed", now)).unwrap();
        assert_eq!(state.configuration(), Ok(Some(Kept::default())));
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn who_was_revoked_is_not_forgotten_because_the_file_is_odd() {
        let path = directory("denied");
        let state = State::open(&path).unwrap();
        for text in ["", "{}", "null", r#"["web"]"#] {
            state.write(DENIED, text.as_bytes()).unwrap();
            let error = state.denied(SystemTime::now()).unwrap_err();
            assert!(error.starts_with(DENIED), "{error}");
        }
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_is_odd_is_told_and_is_not_nothing() {
        let path = directory("odd");
        let state = State::open(&path).unwrap();
        for name in [CONFIGURATION, IDENTITY] {
            state.write(name, b"{").unwrap();
        }
        let configuration = state.configuration().unwrap_err();
        assert!(configuration.starts_with(CONFIGURATION), "{configuration}");
        let identity = state.identity().err().unwrap();
        assert!(identity.starts_with(IDENTITY), "{identity}");
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
