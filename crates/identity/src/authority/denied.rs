//! Who was revoked before this start?
//!
//! A revocation that a restart forgets is none: the revoked would ask again, with a certificate that is still good.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::directory::MAX_LONG_FILE;
use super::{AuthorityError, Directory, DirectoryError, unix_seconds};
use crate::{Denied, DenyList};

/// The form of `denied.json`. Another one is refused rather than guessed at.
const VERSION: u32 = 1;

const FILE: &str = "denied.json";

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    denied: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    whom: String,
    /// In seconds since 1970; without, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// Whom a directory denies; nobody where nothing was ever stored.
pub(super) fn load(directory: &Directory, now: SystemTime) -> Result<DenyList, AuthorityError> {
    let Some(text) = directory.read_up_to(FILE, MAX_LONG_FILE)? else {
        return Ok(DenyList::new());
    };
    let damaged = |why: String| AuthorityError::State(format!("{FILE}: {why}").into());
    let file: File = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(damaged(format!("its version is {}, not {VERSION}", file.version)));
    }
    let mut list = DenyList::new();
    for Entry { whom, until } in file.denied {
        // Nobody who was revoked is believed because a text is odd.
        let denied: Denied = whom.parse().map_err(|error| damaged(format!("{error}")))?;
        let until = until.map(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        list.deny(denied, until.flatten(), now)
            .map_err(|error| damaged(error.to_string()))?;
    }
    list.forget(now);
    Ok(list)
}

/// Stores whom a directory denies.
pub(super) fn store(directory: &Directory, list: &DenyList) -> Result<(), DirectoryError> {
    let denied = list.entries().into_iter().map(|(denied, until)| Entry {
        whom: denied.to_string(),
        until: until.map(unix_seconds),
    });
    let file = File {
        version: VERSION,
        denied: denied.collect(),
    };
    // Numbers and texts: there is nothing in it that JSON can't say.
    let text = serde_json::to_vec(&file).unwrap_or_default();
    directory.write(FILE, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn who_was_revoked_stays_so_until_the_end() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(load(&directory, now).unwrap().entries().is_empty());
        let mut list = DenyList::new();
        let id: Denied = "spiffe://mesh.test/ns/shop/sa/web".parse().unwrap();
        let serial: Denied = "0a1b".parse().unwrap();
        let end = now + Duration::from_secs(60);
        list.deny(id.clone(), None, now).unwrap();
        list.deny(serial, Some(end), now).unwrap();
        store(&directory, &list).unwrap();
        assert_eq!(load(&directory, now).unwrap(), list);
        let later = load(&directory, end + Duration::from_secs(1)).unwrap();
        assert_eq!(later.entries(), [(&id, None)]);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        for text in [
            "",
            "{",
            r#"{"version":2,"denied":[]}"#,
            r#"{"version":1,"denied":[{"whom":"web"}]}"#,
        ] {
            directory.write(FILE, text.as_bytes()).unwrap();
            let error = load(&directory, SystemTime::now()).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }

    #[test]
    fn as_many_as_can_be_revoked_can_be_stored() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        let now = SystemTime::now();
        let mut list = DenyList::new();
        for number in 0..crate::deny::MAX_DENIED {
            let long = "a".repeat(200);
            let id = format!("spiffe://mesh.test/ns/{long}/sa/{number}");
            list.deny(id.parse().unwrap(), None, now).unwrap();
        }
        store(&directory, &list).unwrap();
        assert_eq!(load(&directory, now).unwrap(), list);
    }
}
