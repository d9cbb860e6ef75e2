//! What is asked, what can come back, and what of it is believed?
//!
//! A host's addresses are two questions to a name server, A and AAAA, of which one may fail alone. What a failing one
//! said before still holds; what says that there is nothing is believed as long as the other has something. When both
//! have nothing, or fail, the whole lookup failed, and whoever asked keeps what is known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::endpoints::Target;
use crate::telemetry::{LookupResult, NameKind};

/// A name and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Question {
    /// A and AAAA.
    Host(Arc<str>),
    /// SRV.
    Service(Arc<str>),
}

impl Question {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Service(name) => name,
        }
    }

    pub(super) fn kind(&self) -> NameKind {
        match self {
            Self::Host(_) => NameKind::Host,
            Self::Service(_) => NameKind::Service,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Service(name) => write!(f, "{name} (SRV)"),
        }
    }
}

/// What a lookup gave.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Of a host.
    Host(Family, Family),
    /// Of a service.
    Service(Vec<Target>, Duration),
    /// Nothing that can be used.
    Failed(Failure),
}

/// What became of one of a host's two questions.
#[derive(Clone, Debug)]
pub(super) enum Family {
    /// At least one address.
    Found(Vec<IpAddr>, Duration),
    /// None, or no answer.
    Failed(Failure),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: LookupError,
    /// How long it holds that there is nothing, where the name server says so.
    pub(super) ttl: Option<Duration>,
}

/// Why a name could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is no such name (NXDOMAIN).
    NotFound,
    /// The name is there, and has no records of the kind.
    NoRecords,
    /// No name server answered in time.
    Timeout,
    /// The name server answered that it can't: SERVFAIL, REFUSED and the like.
    Server(Box<str>),
    /// It could not be asked.
    Failed(Box<str>),
}

impl LookupError {
    /// As what it is counted.
    pub const fn result(&self) -> LookupResult {
        match self {
            Self::NotFound => LookupResult::NotFound,
            Self::NoRecords => LookupResult::NoRecords,
            Self::Timeout => LookupResult::Timeout,
            Self::Server(_) => LookupResult::ServerFailure,
            Self::Failed(_) => LookupResult::Failed,
        }
    }

    /// Whether a name server says for sure that there is nothing.
    fn is_certain(&self) -> bool {
        matches!(self, Self::NotFound | Self::NoRecords)
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such name"),
            Self::NoRecords => f.write_str("the name has no such records"),
            Self::Timeout => f.write_str("no name server answered in time"),
            Self::Server(code) => write!(f, "the name server answered {code}"),
            Self::Failed(error) => f.write_str(error),
        }
    }
}

impl From<LookupError> for Failure {
    fn from(error: LookupError) -> Self {
        Self { error, ttl: None }
    }
}

/// The addresses of a host, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Addresses {
    pub(super) fn all(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }

    /// What is known after both families' answers, and for how long.
    ///
    /// # Errors
    /// Neither has an address. What was known before stays.
    pub(super) fn after(&self, v4: Family, v6: Family) -> Result<(Self, Duration), Failure> {
        let ttl = match (&v4, &v6) {
            (Family::Found(_, a), Family::Found(_, b)) => *a.min(b),
            (Family::Found(_, ttl), _) | (_, Family::Found(_, ttl)) => *ttl,
            (Family::Failed(a), Family::Failed(b)) => return Err(worse(a, b).clone()),
        };
        let known = |family, before: &[IpAddr]| match family {
            Family::Found(addresses, _) => addresses,
            Family::Failed(failure) if failure.error.is_certain() => Vec::new(),
            Family::Failed(_) => before.to_vec(),
        };
        let after = Self {
            v4: known(v4, &self.v4),
            v6: known(v6, &self.v6),
        };
        Ok((after, ttl))
    }
}

/// Which of two failures is told: the one that leaves most open, else the one with the shorter life.
fn worse<'a>(a: &'a Failure, b: &'a Failure) -> &'a Failure {
    match (a.error.is_certain(), b.error.is_certain()) {
        (true, false) => b,
        (true, true) if b.error == LookupError::NoRecords && a.error != b.error => b,
        (true, true) if a.error == b.error && b.ttl < a.ttl => b,
        _ => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(texts: &[&str], ttl: u64) -> Family {
        Family::Found(
            texts.iter().map(|text| text.parse().unwrap()).collect(),
            Duration::from_secs(ttl),
        )
    }

    fn failed(error: LookupError) -> Family {
        Family::Failed(error.into())
    }

    fn known(v4: &[&str], v6: &[&str]) -> Addresses {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses {
            v4: parse(v4),
            v6: parse(v6),
        }
    }

    #[test]
    fn both_families_count_and_the_shorter_life_holds() {
        let (after, ttl) = Addresses::default()
            .after(found(&["10.0.0.1"], 60), found(&["::1"], 7))
            .unwrap();
        assert_eq!((after, ttl.as_secs()), (known(&["10.0.0.1"], &["::1"]), 7));
    }

    #[test]
    fn a_family_that_fails_alone_keeps_what_it_had() {
        let before = known(&["10.0.0.1"], &["::1"]);
        for error in [
            LookupError::Timeout,
            LookupError::Server("SERVFAIL".into()),
            LookupError::Failed("".into()),
        ] {
            let (after, _) = before.after(found(&["10.0.0.2"], 1), failed(error)).unwrap();
            assert_eq!(after, known(&["10.0.0.2"], &["::1"]));
        }
    }

    #[test]
    fn a_family_that_is_gone_for_sure_is_gone_while_the_other_stands() {
        let before = known(&["10.0.0.1"], &["::1"]);
        let (after, _) = before
            .after(failed(LookupError::NoRecords), found(&["::2"], 1))
            .unwrap();
        assert_eq!(after, known(&[], &["::2"]));
    }

    #[test]
    fn nothing_at_all_is_a_failure_with_the_reason_that_leaves_most_open() {
        let fail = |a: LookupError, b: LookupError| {
            known(&["10.0.0.1"], &[])
                .after(failed(a), failed(b))
                .unwrap_err()
                .error
        };
        let (gone, none, slow) = (
            LookupError::NotFound,
            LookupError::NoRecords,
            LookupError::Timeout,
        );
        assert_eq!(fail(gone.clone(), gone.clone()), gone);
        assert_eq!(fail(none.clone(), slow.clone()), slow);
        assert_eq!(fail(slow.clone(), gone.clone()), slow);
        assert_eq!(fail(gone, none.clone()), none);
    }
}
