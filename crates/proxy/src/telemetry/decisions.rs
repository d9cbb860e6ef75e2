//! What has policy decided against lately?
//!
//! What is said to the log ([`crate::policy_log`]) is kept here as well, for a host that takes it: the control plane of a
//! mesh wants to see who is denied by what. Nothing is kept before it was asked for once, and never more than [`MOST`].

use std::collections::VecDeque;
use std::sync::Mutex;

use mesh_model::policy::PolicyMode;

use crate::locked::locked;

/// The most that wait to be taken. The oldest give way: they count as unsaid.
pub const MOST: usize = 64;

/// A request or a stream that was denied, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Of policies that are enforced, or of those in audit mode.
    pub mode: PolicyMode,
    /// `rule`: one denies it; `no_rule`: none allows it; `default`: what holds where there is no policy.
    pub why: &'static str,
    /// The policies, the first few of them.
    pub policies: Vec<String>,
    /// The port that was called, where there is one.
    pub port: Option<u16>,
    /// An identity, or the address of a caller that has none that can be read.
    pub caller: String,
    /// The first bytes of the method and the path, escaped; of a stream that is not HTTP there are none.
    pub asked: Option<(String, String)>,
    /// Others that were not said since the one before.
    pub unsaid: u64,
}

/// Decisions that wait to be taken.
#[derive(Debug, Default)]
pub struct Decisions {
    /// `None` until somebody has asked.
    waiting: Mutex<Option<VecDeque<Decision>>>,
}

impl Decisions {
    /// Keeps one, if anybody wants it. Takes a lock: callers say no more than one a second of each kind.
    pub fn push(&self, decision: impl FnOnce() -> Decision) {
        let mut waiting = locked(&self.waiting);
        let Some(waiting) = &mut *waiting else {
            return;
        };
        let mut decision = decision();
        if waiting.len() >= MOST
            && let Some(oldest) = waiting.pop_front()
        {
            decision.unsaid += oldest.unsaid + 1;
        }
        waiting.push_back(decision);
    }

    /// Takes all that wait. From the first time on they are kept.
    pub fn take(&self) -> Vec<Decision> {
        let mut waiting = locked(&self.waiting);
        waiting.get_or_insert_default().drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(port: u16) -> Decision {
        Decision {
            mode: PolicyMode::Enforce,
            why: "rule",
            policies: Vec::new(),
            port: Some(port),
            caller: String::new(),
            asked: None,
            unsaid: 1,
        }
    }

    #[test]
    fn what_nobody_takes_is_not_kept_and_the_oldest_give_way() {
        let decisions = Decisions::default();
        decisions.push(|| unreachable!("nobody wants it"));
        assert_eq!(decisions.take(), []);
        for port in 0..=MOST {
            decisions.push(|| decision(u16::try_from(port).unwrap()));
        }
        let taken = decisions.take();
        assert_eq!(taken.len(), MOST);
        assert_eq!(taken.first(), Some(&decision(1)));
        assert_eq!(taken.last().map(|last| last.unsaid), Some(3));
        assert_eq!(decisions.take(), []);
    }
}
