//! Does a rule still take what another one took?
//!
//! Told by what is written: each condition is one number, and a rule takes all that another takes where its lists of
//! alternatives hold all of the other's, or ask nothing, and no header is asked for that the other did not ask for. A
//! rule that takes as much in other words is not recognised, which ends what need not end and lets nothing pass.

use serde::Serialize;

use crate::route::stable_hash;

use super::PolicyRule;

/// What a rule asks.
#[derive(Debug)]
pub(super) struct Asks {
    /// Lists of which one must hold, in the order of [`PolicyRule`].
    any: [Box<[u64]>; 6],
    /// Headers, which all must.
    all: Box<[u64]>,
}

impl Asks {
    pub(super) fn of(rule: &PolicyRule) -> Self {
        Self {
            any: [
                numbers(&rule.from),
                numbers(&rule.networks),
                numbers(&rule.ports),
                numbers(&rule.methods),
                numbers(&rule.paths),
                numbers(&rule.grpc),
            ],
            all: numbers(&rule.headers),
        }
    }

    /// All of it as one number.
    pub(super) fn key(&self) -> u64 {
        let lists = self.any.iter().chain([&self.all]);
        let framed = lists.flat_map(|list| [list.len() as u64].into_iter().chain(list.iter().copied()));
        stable_hash(framed.flat_map(u64::to_le_bytes))
    }

    /// Whether it takes all that the other takes. Costs as much as both are long: it is asked on data threads.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut lists = self.any.iter().zip(&other.any);
        lists.all(|(these, those)| these.is_empty() || (!those.is_empty() && holds_all(these, those)))
            && holds_all(&other.all, &self.all)
    }
}

/// In order, each once.
fn numbers<T: Serialize>(items: &[T]) -> Box<[u64]> {
    let number = |item| stable_hash(serde_json::to_vec(item).unwrap_or_default().into_iter());
    let mut numbers: Vec<_> = items.iter().map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into()
}

/// Whether all of `some` are among `all`; both in order.
fn holds_all(all: &[u64], some: &[u64]) -> bool {
    let mut all = all.iter();
    some.iter().all(|wanted| all.any(|one| one == wanted))
}
