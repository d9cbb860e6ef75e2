//! With what does a workload prove itself before it has a certificate?
//!
//! With a bootstrap token, where no platform vouches for it: 256 random bits that whoever starts the workload hands to it
//! (`mesh up`, an operator). A token speaks for one identity, for a while, and for a number of times; one that is spent,
//! or that nobody made, opens nothing.
//!
//! ```text
//!   Tokens::make(grant) ──> Token, shown once ──> the workload's token file
//!        │ only its SHA-256 is kept                      │
//!        └────────────── Tokens::spend <── control plane ┘
//! ```
//!
//! Only hashes are kept, so that a copy of the list is no key. With 256 random bits there is nothing to guess: the hash
//! need not be slow, and a look-up by the whole hash tells nothing by the time it takes.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use mesh_model::spiffe::SpiffeId;
use zeroize::Zeroizing;

/// How every token begins, so that people and scanners of secrets know one when they see it.
pub const PREFIX: &str = "mesh-token-";

/// The longest time. Whoever needs more has an identity by other means.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The most uses of one token: copies of a service that are started with one file.
pub const MAX_USES: u32 = 10_000;

/// The most tokens at a time: twice the sidecars that one control plane serves. Some 2 MiB.
pub const MAX_TOKENS: usize = 10_000;

const BYTES: usize = 32;

/// A token as a workload has it. It shows itself to [`Token::reveal`] alone, and clears itself when it goes.
pub struct Token(Zeroizing<String>);

/// What a token is kept as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; BYTES]);

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whom it speaks for.
    pub id: SpiffeId,
    /// From when it opens nothing.
    pub expires: SystemTime,
    /// How many times it opens something from now on.
    pub uses: u32,
}

/// Tokens that may be spent.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    grants: HashMap<TokenHash, Grant>,
}

/// Why a token is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// [`MAX_TOKENS`] are waiting to be spent.
    #[error("{MAX_TOKENS} tokens are waiting to be spent already")]
    TooMany,
    /// It would be good for no time, or for longer than [`MAX_TTL`].
    #[error("a token is good for 30 days at most, and for some time")]
    Ttl,
    /// It could be used never, or more than [`MAX_USES`] times.
    #[error("a token is good for 1 to {MAX_USES} uses")]
    Uses,
    /// There is no randomness.
    #[error("there is no randomness")]
    Random,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SpendError {
    /// Nobody made it, it was spent or taken back, or it has expired so long ago that it is forgotten.
    #[error("the token is not known")]
    Unknown,
    /// It came too late.
    #[error("the token has expired")]
    Expired,
    /// It speaks for somebody else. It is not spent by that.
    #[error("the token is for another identity")]
    OtherIdentity,
}

impl SpendError {
    /// The token used in metrics, logs and audits.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::OtherIdentity => "token_other_identity",
        }
    }
}

impl Token {
    /// A new one.
    fn random() -> Result<Self, MakeError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| MakeError::Random)?;
        // At its full length from the start, so that no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * BYTES));
        text.push_str(PREFIX);
        for byte in bytes.iter() {
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(half.into(), 16));
            }
        }
        Ok(Self(text))
    }

    /// The text to hand to the workload.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TokenHash {
    /// Of what somebody presents, spaces and line ends around it left out, as a file or a shell adds them. `None` when
    /// it can't be a token; then nothing is computed.
    pub fn of(presented: &str) -> Option<Self> {
        let presented = presented.trim_ascii();
        let digits = presented.strip_prefix(PREFIX)?;
        if !is_lower_hex(digits) {
            return None;
        }
        let hash = digest(&SHA256, presented.as_bytes());
        hash.as_ref().try_into().ok().map(Self)
    }
}

impl Tokens {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a token that speaks for this identity so many times, for so long from now.
    ///
    /// # Errors
    /// It would be good for too much, or there are too many.
    pub fn make(
        &mut self,
        id: SpiffeId,
        uses: u32,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Token, MakeError> {
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(MakeError::Ttl);
        }
        if !(1..=MAX_USES).contains(&uses) {
            return Err(MakeError::Uses);
        }
        if self.grants.len() >= MAX_TOKENS {
            self.forget(now);
        }
        if self.grants.len() >= MAX_TOKENS {
            return Err(MakeError::TooMany);
        }
        let token = Token::random()?;
        let hash = TokenHash::of(token.reveal()).ok_or(MakeError::Random)?;
        let expires = now + ttl;
        self.grants.insert(hash, Grant { id, expires, uses });
        Ok(token)
    }

    /// Uses a token once: for whom it speaks. `wished` is whom the workload says it is, if it does.
    ///
    /// # Errors
    /// It opens nothing, and is as it was.
    pub fn spend(
        &mut self,
        presented: &str,
        wished: Option<&SpiffeId>,
        now: SystemTime,
    ) -> Result<SpiffeId, SpendError> {
        let id = self.check(presented, wished, now)?;
        if let Some(hash) = TokenHash::of(presented)
            && let Some(grant) = self.grants.get_mut(&hash)
        {
            grant.uses = grant.uses.saturating_sub(1);
            if grant.uses == 0 {
                self.grants.remove(&hash);
            }
        }
        Ok(id)
    }

    /// For whom a token would speak if it were spent now.
    ///
    /// # Errors
    /// As [`Tokens::spend`].
    pub fn check(
        &self,
        presented: &str,
        wished: Option<&SpiffeId>,
        now: SystemTime,
    ) -> Result<SpiffeId, SpendError> {
        let hash = TokenHash::of(presented).ok_or(SpendError::Unknown)?;
        let grant = self.grants.get(&hash).ok_or(SpendError::Unknown)?;
        if now >= grant.expires {
            return Err(SpendError::Expired);
        }
        if wished.is_some_and(|wished| *wished != grant.id) {
            return Err(SpendError::OtherIdentity);
        }
        Ok(grant.id.clone())
    }

    /// What a token stands for.
    pub fn grant(&self, hash: &TokenHash) -> Option<&Grant> {
        self.grants.get(hash)
    }

    /// Lets a token stand for what it did before a use that came to nothing.
    pub fn give_back(&mut self, hash: TokenHash, before: Grant) {
        self.grants.insert(hash, before);
    }

    /// Takes a token back; whether there was one.
    pub fn revoke(&mut self, hash: &TokenHash) -> bool {
        self.grants.remove(hash).is_some()
    }

    /// Takes back all tokens of an identity; how many there were.
    pub fn revoke_all(&mut self, id: &SpiffeId) -> usize {
        let before = self.grants.len();
        self.grants.retain(|_, grant| grant.id != *id);
        before - self.grants.len()
    }

    /// Forgets what has expired.
    pub fn forget(&mut self, now: SystemTime) {
        self.grants.retain(|_, grant| now < grant.expires);
    }

    /// What is kept, by hash, to be stored or shown.
    pub fn grants(&self) -> Vec<(&TokenHash, &Grant)> {
        let mut all: Vec<_> = self.grants.iter().collect();
        all.sort_unstable_by_key(|(hash, _)| **hash);
        all
    }

    /// Takes up a token that was stored. What is good for too much, or one too many, is left out: whether it was taken.
    pub fn restore(&mut self, hash: TokenHash, grant: Grant, now: SystemTime) -> bool {
        let left = grant.expires.duration_since(now).unwrap_or_default();
        let good = !left.is_zero() && left <= MAX_TTL && (1..=MAX_USES).contains(&grant.uses);
        let fits = self.grants.len() < MAX_TOKENS;
        if good && fits {
            self.grants.insert(hash, grant);
        }
        good && fits
    }
}

/// A text that is no hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a token is 64 hexadecimal digits in lower case")]
pub struct NotAHash;

impl FromStr for TokenHash {
    type Err = NotAHash;

    /// What [`TokenHash`] writes of itself.
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        if !is_lower_hex(text) {
            return Err(NotAHash);
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

/// [`BYTES`] bytes in their one spelling.
fn is_lower_hex(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 2 * BYTES && text.bytes().all(digit)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
