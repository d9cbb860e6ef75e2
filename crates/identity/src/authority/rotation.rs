//! When does an issuer, and when does a root take the place of another?
//!
//! ```text
//!   One(old) ── AnnounceRoot ──> Announced ── SwitchRoot ──> Leaving ── DropRoot ──> One(new)
//!   bundle:  old                 old + new                   old + new               new
//!   signs:   old                 old                         new                     new
//! ```
//!
//! Pure: times in, steps out; who makes keys and stores them is [`super::Authority`].
//!
//! Why no handshake fails meanwhile:
//! - A workload gets the bundle with each certificate. [`Step::SwitchRoot`] waits until every certificate that was signed
//!   before the announcement has ended, so whoever holds one that is good has the new root.
//! - [`Step::DropRoot`] waits until every certificate under the old root has ended.
//! - A new issuer needs no announcement: workloads send its certificate with theirs.
//!
//! A clock that was ahead and was set back leaves an issuer whose time has not come. Another one takes its place at once,
//! as long as the root that signs is good now.
//!
//! For the times of certificates it relies on [`Rotation::promise`]: no certificate is given out that ends later than
//! what was promised, and stored, before.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Settings;

/// How far apart the clocks of two machines of a mesh may be.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// The share of an issuer's life after which the next one is made: a third is left for certificates to end in.
const ISSUER_SHARE: u32 = 70;

/// An authority's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Term {
    /// Which; no two authorities of a directory have the same number.
    pub(super) number: u32,
    #[serde(with = "seconds")]
    pub(super) made: SystemTime,
    #[serde(with = "seconds")]
    pub(super) ends: SystemTime,
}

impl Term {
    /// Whether its certificate is good already: its first second is [`CLOCK_SKEW`] before it was made.
    fn has_begun(&self, now: SystemTime) -> bool {
        self.made <= now + CLOCK_SKEW
    }
}

/// The roots that are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub(super) enum Roots {
    /// One, which signs.
    One { root: Term },
    /// The new one is made known, the old one signs.
    Announced {
        old: Term,
        new: Term,
        #[serde(with = "seconds")]
        switch_at: SystemTime,
    },
    /// The new one signs, the old one's certificates end.
    Leaving {
        old: Term,
        new: Term,
        #[serde(with = "seconds")]
        drop_at: SystemTime,
    },
}

/// Where a rotation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rotation {
    pub(super) roots: Roots,
    pub(super) issuer: Term,
    /// No certificate under the root that signs ends after this.
    #[serde(with = "seconds")]
    pub(super) promised: SystemTime,
    next: u32,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a root and let it be known; it signs nothing yet.
    AnnounceRoot(Term),
    /// Make an issuer under the announced root. The old root's key is needed no more.
    SwitchRoot(Term),
    /// Nothing under this root is good any more.
    DropRoot(Term),
    /// Make an issuer under the root that signs.
    RenewIssuer(Term),
}

impl Rotation {
    /// The first root and the first issuer.
    pub(super) fn begin(settings: &Settings, now: SystemTime) -> Self {
        let term = |number, life| Term {
            number,
            made: now,
            ends: now + life,
        };
        Self {
            roots: Roots::One {
                root: term(1, settings.root_life),
            },
            issuer: term(2, settings.issuer_life),
            promised: now,
            next: 3,
        }
    }

    /// The root that signs.
    pub(super) fn signs(&self) -> Term {
        match self.roots {
            Roots::One { root } => root,
            Roots::Announced { old, .. } => old,
            Roots::Leaving { new, .. } => new,
        }
    }

    /// The roots that are believed, the one that signs among them.
    pub(super) fn believed(&self) -> Vec<Term> {
        match self.roots {
            Roots::One { root } => vec![root],
            Roots::Announced { old, new, .. } | Roots::Leaving { old, new, .. } => vec![old, new],
        }
    }

    /// Takes the next step that is due. Ask again until there is none.
    pub(super) fn step(&mut self, settings: &Settings, now: SystemTime) -> Option<Step> {
        match self.roots {
            Roots::One { root } if now >= replace_at(root, settings) => return self.announce(settings, now),
            Roots::Announced { old, new, switch_at } if now >= switch_at.min(old.ends) => {
                let issuer = self.issuer_under(new, settings, now);
                self.roots = Roots::Leaving {
                    old,
                    new,
                    drop_at: self.promised.min(old.ends) + CLOCK_SKEW,
                };
                self.issuer = issuer;
                self.promised = now;
                return Some(Step::SwitchRoot(issuer));
            }
            Roots::Leaving { old, new, drop_at } if now >= drop_at => {
                self.roots = Roots::One { root: new };
                return Some(Step::DropRoot(old));
            }
            _ => {}
        }
        if now >= renew_at(self.issuer) || self.is_ahead(now) {
            return self.renew_issuer(settings, now);
        }
        None
    }

    /// Whether the issuer was made by a clock that was ahead, under a root that is good now: another one helps.
    fn is_ahead(&self, now: SystemTime) -> bool {
        let root = self.signs();
        !self.issuer.has_begun(now) && root.has_begun(now) && now < root.ends
    }

    /// Makes a new root known now, before the old one's time; nothing where a rotation is under way.
    pub(super) fn announce(&mut self, settings: &Settings, now: SystemTime) -> Option<Step> {
        let Roots::One { root: old } = self.roots else {
            return None;
        };
        let new = Term {
            number: self.number(),
            made: now,
            ends: now + settings.root_life,
        };
        self.roots = Roots::Announced {
            old,
            new,
            switch_at: self.promised.max(now) + CLOCK_SKEW,
        };
        Some(Step::AnnounceRoot(new))
    }

    /// Makes a new issuer now; nothing where it could not live longer than the one there is, unless nobody believes that
    /// one yet.
    pub(super) fn renew_issuer(&mut self, settings: &Settings, now: SystemTime) -> Option<Step> {
        let ends = (now + settings.issuer_life).min(self.signs().ends);
        if ends <= self.issuer.ends && !self.is_ahead(now) {
            return None;
        }
        let issuer = self.issuer_under(self.signs(), settings, now);
        self.issuer = issuer;
        Some(Step::RenewIssuer(issuer))
    }

    /// When a step is due next, so that nobody need look before.
    pub(super) fn due(&self, settings: &Settings) -> SystemTime {
        let roots = match self.roots {
            Roots::One { root } => replace_at(root, settings),
            Roots::Announced { old, switch_at, .. } => switch_at.min(old.ends),
            Roots::Leaving { drop_at, .. } => drop_at,
        };
        match self.issuer.ends < self.signs().ends {
            true => roots.min(renew_at(self.issuer)),
            false => roots,
        }
    }

    /// A certificate that ends at this time is about to be signed: whether the state must be stored first. It is promised
    /// for one lifetime more, so that this is once in a lifetime and not once for each certificate.
    pub(super) fn promise(&mut self, not_after: SystemTime, settings: &Settings) -> bool {
        if not_after <= self.promised {
            return false;
        }
        self.promised = not_after + settings.ttl;
        true
    }

    fn issuer_under(&mut self, root: Term, settings: &Settings, now: SystemTime) -> Term {
        Term {
            number: self.number(),
            made: now,
            ends: (now + settings.issuer_life).min(root.ends),
        }
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }
}

/// How long before its end a root is replaced: early enough that no issuer is cut short by its root's end, and that the way from [`Step::AnnounceRoot`] to
/// [`Step::SwitchRoot`], of two lifetimes at most, ends before.
pub(super) fn lead(settings: &Settings) -> Duration {
    settings.issuer_life + 2 * settings.ttl + 2 * CLOCK_SKEW
}

fn replace_at(root: Term, settings: &Settings) -> SystemTime {
    root.ends.checked_sub(lead(settings)).unwrap_or(root.made)
}

fn renew_at(issuer: Term) -> SystemTime {
    let life = issuer.ends.duration_since(issuer.made).unwrap_or_default();
    issuer.made + life / 100 * ISSUER_SHARE
}

/// Whole seconds since 1970, as certificates count.
mod seconds {
    use std::time::{Duration, SystemTime};

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const YEAR_10000: u64 = 253_402_300_800;

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_secs().serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<SystemTime, D::Error> {
        match u64::deserialize(from)? {
            seconds @ ..YEAR_10000 => Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            _ => Err(D::Error::custom("a time that no certificate can hold")),
        }
    }
}

#[cfg(test)]
mod tests;
