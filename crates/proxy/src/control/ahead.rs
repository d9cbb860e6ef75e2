//! Which names are looked up before a change has clusters of them?
//!
//! Changes go live in their order, and one waits for names that are new in it. Who has others behind it that must not wait
//! asks for the names first, and makes the change when it hears of them.
//!
//! Invariant: whoever asked is told once, within the span that a change would wait; what nobody came for is forgotten.

use std::collections::HashMap;
use std::time::Duration;

use mesh_model::resources::Discovery;

use crate::clock::{Nanos, nanos};

/// How long a name is kept for the change that is to have clusters of it.
const KEPT: Duration = Duration::from_secs(10);

/// Tells who asked. It must not wait for anything.
pub(super) type Tell = Box<dyn FnOnce() + Send>;

/// Names, by what they are looked up for.
#[derive(Default)]
pub(super) struct Ahead {
    sources: HashMap<Discovery, Asked>,
}

struct Asked {
    /// When a change waits for it no longer.
    until: Nanos,
    tells: Vec<Tell>,
}

impl Asked {
    /// When something is to be done about it.
    fn next(&self) -> Nanos {
        match self.tells.is_empty() {
            true => self.until.saturating_add(nanos(KEPT)),
            false => self.until,
        }
    }
}

impl Ahead {
    /// Somebody asks for a name, and is told until then.
    pub(super) fn ask(&mut self, source: Discovery, until: Nanos, tell: Tell) {
        let tells = Vec::new();
        let asked = self.sources.entry(source).or_insert(Asked { until, tells });
        asked.tells.push(tell);
    }

    /// What is to be looked up.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Discovery> {
        self.sources.keys()
    }

    /// Whether a name was waited for as long as a change would wait.
    pub(super) fn is_over(&self, source: &Discovery, now: Nanos) -> bool {
        self.sources.get(source).is_some_and(|asked| asked.until <= now)
    }

    /// When [`Self::tell`] has something to do; nothing where it has not.
    pub(super) fn next(&self) -> Option<Nanos> {
        self.sources.values().map(Asked::next).min()
    }

    /// Tells who waits for no name any more, and forgets names. Whether any was forgotten.
    pub(super) fn tell(&mut self, now: Nanos, is_settled: impl Fn(&Discovery) -> bool) -> bool {
        for (source, asked) in &mut self.sources {
            if asked.until <= now || is_settled(source) {
                asked.tells.drain(..).for_each(|tell| tell());
            }
        }
        let before = self.sources.len();
        self.sources.retain(|_, asked| now < asked.next());
        self.sources.len() < before
    }

    /// Clusters of these are in force: they are kept by that.
    pub(super) fn in_force(&mut self, is: impl Fn(&Discovery) -> bool) {
        self.sources
            .retain(|source, asked| !asked.tells.is_empty() || !is(source));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::sync::mpsc::{TryRecvError, channel};
    use std::time::Instant;

    use mesh_model::resources::{Cluster, Resources};

    use super::super::WARM;
    use super::*;
    use crate::proxy::{Change, Options, Proxy};

    const UNTIL: Nanos = 100;

    fn name(host: &str) -> Discovery {
        let host = host.to_owned();
        Discovery::Dns { host, port: 80 }
    }

    #[test]
    fn who_asked_is_told_once_when_it_is_settled_or_has_taken_too_long() {
        let told = Arc::new(AtomicU32::new(0));
        let mut ahead = Ahead::default();
        let ask = |ahead: &mut Ahead, host: &str, until| {
            let told = Arc::clone(&told);
            let tell = move || {
                told.fetch_add(1, Relaxed);
            };
            ahead.ask(name(host), until, Box::new(tell));
        };
        let settled = Cell::new("");
        let is_settled = |source: &Discovery| *source == name(settled.get());
        ask(&mut ahead, "a", UNTIL);
        ask(&mut ahead, "a", UNTIL + 50);
        ask(&mut ahead, "b", UNTIL + 1);
        assert_eq!(ahead.next(), Some(UNTIL));
        assert!(!ahead.tell(1, is_settled));
        assert_eq!(told.load(Relaxed), 0);
        settled.set("b");
        assert!(!ahead.tell(2, is_settled));
        assert_eq!(told.load(Relaxed), 1);
        assert!(!ahead.is_over(&name("a"), 99));
        assert!(!ahead.tell(UNTIL, is_settled));
        assert!(ahead.is_over(&name("a"), UNTIL));
        assert_eq!(told.load(Relaxed), 3);

        ahead.in_force(|source| *source == name("b"));
        assert_eq!(ahead.sources().collect::<Vec<_>>(), [&name("a")]);
        let forgotten = UNTIL + nanos(KEPT);
        assert_eq!(ahead.next(), Some(forgotten));
        assert!(ahead.tell(forgotten, is_settled));
        assert_eq!((ahead.next(), told.load(Relaxed)), (None, 3));
    }

    #[test]
    fn no_change_waits_for_a_name_nor_for_one_that_was_looked_for_long_enough() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let options = Options {
            dns_servers: vec![silent.local_addr().unwrap()],
            ..Options::default()
        };
        let proxy = Proxy::start(options).unwrap();
        let (sender, told) = channel();
        proxy.look_up_then(name("slow.example"), move || {
            let _ = sender.send(());
        });
        proxy.apply(Change::Replace(Resources::default())).unwrap();
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "it is looked up still");
        told.recv().unwrap();
        let mut cluster = Cluster::new("slow");
        cluster.discovery = name("slow.example");
        let resources = Resources {
            clusters: vec![cluster],
            ..Resources::default()
        };
        let begun = Instant::now();
        proxy.apply(Change::Replace(resources)).unwrap();
        assert!(begun.elapsed() < WARM, "{:?}", begun.elapsed());
    }
}
