//! Which tokens were made before this start, and not spent?
//!
//! Whoever was handed a token that is good for a day may come after a restart. Only hashes are kept: the file opens
//! nothing.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::directory::MAX_LONG_FILE;
use super::{AuthorityError, Directory, DirectoryError, unix_seconds};
use crate::token::{Grant, TokenHash, Tokens};

/// The form of `tokens.json`. Another one is refused rather than guessed at.
const VERSION: u32 = 1;

const FILE: &str = "tokens.json";

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    tokens: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    /// The SHA-256.
    hash: String,
    id: String,
    /// In seconds since 1970.
    expires: u64,
    /// How often yet.
    uses: u32,
}

/// The tokens that a directory knows and that are still good; none where none was ever stored.
pub(super) fn load(directory: &Directory, now: SystemTime) -> Result<Tokens, AuthorityError> {
    match directory.read_up_to(FILE, MAX_LONG_FILE)? {
        Some(text) => read(&text, now),
        None => Ok(Tokens::new()),
    }
}

/// The tokens that a text names, and that are still good.
pub(super) fn read(text: &[u8], now: SystemTime) -> Result<Tokens, AuthorityError> {
    let mut tokens = Tokens::new();
    let damaged = |why: String| AuthorityError::State(format!("{FILE}: {why}").into());
    let file: File = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
    if file.version != VERSION {
        return Err(damaged(format!("its version is {}, not {VERSION}", file.version)));
    }
    for Entry {
        hash,
        id,
        expires,
        uses,
    } in file.tokens
    {
        let hash: TokenHash = hash.parse().map_err(|error| damaged(format!("{error}")))?;
        let id = id.parse().map_err(|error| damaged(format!("{error}")))?;
        let Some(expires) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires)) else {
            return Err(damaged("a time is too late".into()));
        };
        // What has expired meanwhile is left out.
        tokens.restore(hash, Grant { id, expires, uses }, now);
    }
    Ok(tokens)
}

/// Stores the tokens that are good.
pub(super) fn store(directory: &Directory, tokens: &Tokens) -> Result<(), DirectoryError> {
    directory.write(FILE, &written(tokens))
}

/// The text of the tokens that are good.
pub(super) fn written(tokens: &Tokens) -> Vec<u8> {
    let tokens = tokens.grants().into_iter().map(|(hash, grant)| Entry {
        hash: hash.to_string(),
        id: grant.id.to_string(),
        expires: unix_seconds(grant.expires),
        uses: grant.uses,
    });
    let file = File {
        version: VERSION,
        tokens: tokens.collect(),
    };
    // Numbers and texts: there is nothing in it that JSON can't say.
    serde_json::to_vec(&file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ID, TempDir, at};
    use crate::token::{MAX_TOKENS, SpendError};

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_made_is_good_after_a_restart_as_often_as_is_left() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        assert!(load(&directory, at(0)).unwrap().grants().is_empty());
        let mut tokens = Tokens::new();
        let token = tokens.make(ID.parse().unwrap(), 2, MINUTE, at(0)).unwrap();
        tokens.spend(token.reveal(), None, at(1)).unwrap();
        store(&directory, &tokens).unwrap();
        let mut after = load(&directory, at(2)).unwrap();
        assert_eq!(after.grants(), tokens.grants());
        after.spend(token.reveal(), None, at(2)).unwrap();
        assert_eq!(after.spend(token.reveal(), None, at(2)), Err(SpendError::Unknown));
        assert!(load(&directory, at(60)).unwrap().grants().is_empty());
        let text = directory.read(FILE).unwrap().unwrap();
        let secret = token.reveal().strip_prefix(crate::token::PREFIX).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(secret));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        let entry = |hash: &str, id: &str| {
            format!(r#"{{"version":1,"tokens":[{{"hash":"{hash}","id":"{id}","expires":9,"uses":1}}]}}"#)
        };
        let hash = "0a".repeat(32);
        for text in [
            String::new(),
            "{".into(),
            r#"{"version":2,"tokens":[]}"#.into(),
            entry("0a", ID),
            entry(&hash, "web"),
        ] {
            directory.write(FILE, text.as_bytes()).unwrap();
            let error = load(&directory, at(0)).unwrap_err();
            assert!(error.to_string().contains(FILE), "{error}");
        }
    }

    #[test]
    fn as_many_as_can_be_made_can_be_stored() {
        let temp = TempDir::new();
        let directory = Directory::open(temp.path().join("authority")).unwrap();
        let mut tokens = Tokens::new();
        for number in 0..MAX_TOKENS {
            let id = format!("spiffe://mesh.test/ns/{}/sa/{number}", "a".repeat(200));
            tokens.make(id.parse().unwrap(), 1, MINUTE, at(0)).unwrap();
        }
        store(&directory, &tokens).unwrap();
        assert_eq!(load(&directory, at(0)).unwrap().grants(), tokens.grants());
        let error = directory.write(FILE, &vec![b' '; MAX_LONG_FILE as usize + 1]);
        assert!(matches!(error, Err(DirectoryError::TooLarge { .. })), "{error:?}");
    }
}
