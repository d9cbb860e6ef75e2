//! Who is it that a request names, when nobody has said yet?
//!
//! A listener that asks on demand has a route table for each name that was asked for, `host:port`. A request for
//! another one waits while the host of the proxy finds out:
//!
//! ```text
//!   request ─> table? ─ no ─> Names::want ──> Names::next ──> host: subscribes, looks up, ...
//!                 ^                                             │
//!                 ├── a plan with the table <─── applies it ────┤
//!                 └── refused <───── Names::unknown, ::unusable, ... ──────┘
//! ```
//!
//! Invariants: [`MAX_PENDING`] names wait for an answer and as many are remembered as refused, for
//! [`REMEMBER_UNKNOWN`]; a request waits [`PATIENCE`] at most; a name that is known costs a look into a map.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mesh_model::resources::MAX_NAME;
use tokio::sync::Notify;

use crate::locked::locked;
use crate::plan::Routes;

/// Names without an answer.
pub const MAX_PENDING: usize = 256;
/// How long a name that nobody knows, that is of no use or that there is no room for is refused without asking.
pub const REMEMBER_UNKNOWN: Duration = Duration::from_secs(5);
/// How long a request waits for an answer: as long as for a name server.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The port of a name without one.
const DEFAULT_PORT: &[u8] = b":80";

/// The names that were asked for.
#[derive(Debug, Default)]
pub struct Names {
    state: Mutex<State>,
    asked: Notify,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<Box<str>, Known>,
    /// Not yet taken by the host.
    new: VecDeque<Box<str>>,
    pending: usize,
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Pending,
    Refused { why: Wanted, until: Instant },
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An answer is on its way.
    Pending,
    /// Nobody knows the name.
    Unknown,
    /// The name's host is known, and does not declare that port.
    Undeclared,
    /// What is said of the name can't be used.
    Unusable,
    /// Too many names wait for an answer, or are called.
    Full,
}

impl Names {
    /// Asks who this is.
    pub fn want(&self, name: &str) -> Wanted {
        let mut state = self.state();
        match state.names.get(name) {
            Some(Known::Pending) => return Wanted::Pending,
            Some(Known::Refused { why, until }) if Instant::now() < *until => return *why,
            Some(Known::Refused { .. }) | None => {}
        }
        if state.pending >= MAX_PENDING {
            return Wanted::Full;
        }
        state.pending += 1;
        state.names.insert(name.into(), Known::Pending);
        state.new.push_back(name.into());
        drop(state);
        self.asked.notify_one();
        Wanted::Pending
    }

    /// Why the name was refused, if it was.
    pub fn refused(&self, name: &str) -> Option<Wanted> {
        match self.state().names.get(name)? {
            Known::Refused { why, .. } => Some(*why),
            Known::Pending => None,
        }
    }

    /// The next name that is asked for, for the host.
    pub async fn next(&self) -> Box<str> {
        loop {
            if let Some(name) = self.state().new.pop_front() {
                return name;
            }
            self.asked.notified().await;
        }
    }

    /// There is a table for the name, in a plan that was applied.
    pub fn known(&self, name: &str) {
        let mut state = self.state();
        if let Some(Known::Pending) = state.names.remove(name) {
            state.pending -= 1;
        }
        drop(state);
        self.answered.notify_waiters();
    }

    /// Nobody knows the name.
    pub fn unknown(&self, name: &str) {
        self.refuse(name, Wanted::Unknown);
    }

    /// The name's host is known, and does not declare that port.
    pub fn undeclared(&self, name: &str) {
        self.refuse(name, Wanted::Undeclared);
    }

    /// What is said of the name can't be used.
    pub fn unusable(&self, name: &str) {
        self.refuse(name, Wanted::Unusable);
    }

    /// There is no room for a table for the name.
    pub fn full(&self, name: &str) {
        self.refuse(name, Wanted::Full);
    }

    fn refuse(&self, name: &str, why: Wanted) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(Known::Pending) = state.names.remove(name) {
            state.pending -= 1;
        }
        state
            .names
            .retain(|_, known| !matches!(known, Known::Refused { until, .. } if *until <= now));
        if state.names.len() < 2 * MAX_PENDING {
            let until = now + REMEMBER_UNKNOWN;
            state.names.insert(name.into(), Known::Refused { why, until });
        }
        drop(state);
        self.answered.notify_waiters();
    }

    /// Wakes when something was answered.
    pub fn answered(&self) -> tokio::sync::futures::Notified<'_> {
        self.answered.notified()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

/// The tables of a listener that asks on demand.
#[derive(Clone)]
pub struct OnDemand {
    /// All route tables, by the names that they are for.
    pub tables: Arc<HashMap<Arc<str>, Arc<Routes>>>,
    /// Where others are asked for.
    pub names: Arc<Names>,
}

impl OnDemand {
    /// The table for an authority.
    pub fn table(&self, authority: &[u8]) -> Option<&Arc<Routes>> {
        let name = Name::of(authority)?;
        self.tables.get(name.as_str())
    }
}

/// A name as tables are called by it: lower case, no final dot, with a port, and no longer than theirs.
pub struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Name {
    /// The name of an authority; nothing for one that can't be a name.
    pub fn of(authority: &[u8]) -> Option<Self> {
        let (host, port) = split(authority);
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        let mut name = Self {
            bytes: [0; MAX_NAME],
            len: 0,
        };
        for part in [host, if port.len() < 2 { DEFAULT_PORT } else { port }] {
            let end = name.len + part.len();
            let place = name.bytes.get_mut(name.len..end)?;
            place.copy_from_slice(part);
            place.make_ascii_lowercase();
            name.len = end;
        }
        Some(name)
    }

    /// The text; empty when it is no UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// The host of a name.
pub fn host_of(name: &str) -> &[u8] {
    split(name.as_bytes()).0
}

/// Host and port, the port with its colon.
fn split(authority: &[u8]) -> (&[u8], &[u8]) {
    let after = authority
        .iter()
        .rposition(|byte| *byte == b']')
        .map_or(0, |at| at + 1);
    let tail = authority.get(after..).unwrap_or_default();
    match tail.iter().position(|byte| *byte == b':') {
        Some(colon) => authority.split_at(after + colon),
        None => (authority, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let name = |text: &str| Name::of(text.as_bytes()).map(|name| name.as_str().to_owned());
        for (authority, expected) in [
            ("basket", "basket:80"),
            ("BASKET.Shop.", "basket.shop:80"),
            ("basket:3000", "basket:3000"),
            ("[::1]", "[::1]:80"),
            ("[::1]:81", "[::1]:81"),
            ("basket:", "basket:80"),
        ] {
            assert_eq!(name(authority).as_deref(), Some(expected), "{authority}");
        }
        assert_eq!(host_of("basket.shop:3000"), b"basket.shop");
        assert_eq!(host_of("[::1]:80"), b"[::1]");
        assert_eq!(name(""), None);
        assert_eq!(name(":80"), None);
        let longest = "a".repeat(MAX_NAME - 3);
        assert_eq!(name(&longest), Some(format!("{longest}:80")));
        assert_eq!(name(&format!("{longest}a")), None);
    }

    #[tokio::test]
    async fn a_name_is_asked_for_once_and_remembered_as_unknown() {
        let names = Names::default();
        assert_eq!(names.want("a:80"), Wanted::Pending);
        assert_eq!(names.want("a:80"), Wanted::Pending);
        assert_eq!(&*names.next().await, "a:80");
        assert!(names.state().new.is_empty());
        names.unknown("a:80");
        assert_eq!(names.want("a:80"), Wanted::Unknown);
        assert_eq!(names.refused("a:80"), Some(Wanted::Unknown));
        assert_eq!(names.want("b:80"), Wanted::Pending);
        assert_eq!(names.refused("b:80"), None);
        names.full("b:80");
        assert_eq!(names.want("b:80"), Wanted::Full);
    }

    #[test]
    fn what_waits_is_bounded() {
        let names = Names::default();
        for n in 0..MAX_PENDING {
            assert_eq!(names.want(&format!("{n}:80")), Wanted::Pending);
        }
        assert_eq!(names.want("more:80"), Wanted::Full);
        names.known("0:80");
        assert_eq!(names.want("more:80"), Wanted::Pending);
        for n in 0..4 * MAX_PENDING {
            names.unknown(&format!("u{n}:80"));
        }
        assert!(names.state().names.len() <= 2 * MAX_PENDING);
    }
}
