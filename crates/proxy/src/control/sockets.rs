//! Which sockets does a change keep, hand on and open?
//!
//! A listener that stays where it is keeps its sockets. One that comes to an address which another listener of ours leaves
//! gets that one's, so that renaming a listener, or exchanging the ports of two, refuses nobody. All others are bound
//! before anything has changed: an address that can't be had refuses the change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mesh_model::resources::{Address, Listener};

use crate::bind::{Listening, bind};
use crate::proxy::ApplyError;
use crate::worker::{Accepting, Command, Open};

/// Where listeners are, by name: as configured, and with the port that was chosen.
pub(super) type Bound = HashMap<Arc<str>, (Address, Address)>;

/// What a change means for sockets.
pub(super) struct Settled {
    /// Where listeners are once it is live.
    pub(super) bound: Bound,
    /// Whose sockets go to whom.
    pub(super) moved: Vec<(Arc<str>, Arc<str>)>,
    /// New sockets, one for each data thread.
    pub(super) opened: Vec<(Arc<str>, Vec<Listening>)>,
}

/// The sockets of a listener, which data threads have.
pub(super) struct Opened {
    /// Whose they are.
    pub(super) name: Arc<str>,
    /// Where they are.
    pub(super) address: Address,
    open: Open,
    accepting: Accepting,
}

impl Opened {
    /// Those of a listener, before they are given to threads.
    pub(super) fn new(name: Arc<str>, address: Address) -> Self {
        let (open, accepting) = Default::default();
        Self {
            name,
            address,
            open,
            accepting,
        }
    }

    /// Gives one of them to a thread.
    pub(super) fn given(&self, socket: Listening) -> Command {
        let (open, accepting) = (Arc::clone(&self.open), Arc::clone(&self.accepting));
        Command::Listen(Arc::clone(&self.name), socket, accepting, open)
    }

    /// Whether a thread has not closed its one yet.
    pub(super) fn are_open(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    /// Whether a thread has not heard yet that it is to stop, or still takes in who was in the queue.
    pub(super) fn accept(&self) -> bool {
        Arc::strong_count(&self.accepting) > 1
    }
}

/// Whether a listener of this name is where it is configured to be.
pub(super) fn stays(bound: &Bound, name: &str, address: &Address) -> bool {
    bound
        .get(name)
        .is_some_and(|(configured, _)| configured == address)
}

/// Finds a socket for every listener.
///
/// # Errors
/// [`ApplyError::Listen`]: an address can't be had. Nothing has changed then.
pub(super) fn settle<'a>(
    before: &Bound,
    listeners: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Listener>)> + Clone,
    threads: usize,
) -> Result<Settled, ApplyError> {
    let staying: HashSet<_> = listeners
        .clone()
        .filter(|(name, listener)| stays(before, name, &listener.address))
        .map(|(name, _)| Arc::clone(name))
        .collect();
    // What nobody keeps. A port that the system chose is found under its number: that it be chosen again is a new wish.
    let mut left: HashMap<&Address, &Arc<str>> = before
        .iter()
        .filter(|(name, _)| !staying.contains(*name))
        .map(|(name, (configured, actual))| (if is_chosen(configured) { actual } else { configured }, name))
        .collect();
    let mut settled = Settled {
        bound: Bound::new(),
        moved: Vec::new(),
        opened: Vec::new(),
    };
    for (name, listener) in listeners {
        let configured = &listener.address;
        let actual = match before.get(name) {
            Some((_, actual)) if staying.contains(name) => actual.clone(),
            _ => match left
                .remove(configured)
                .and_then(|from| before.get_key_value(from))
            {
                Some((from, (_, actual))) => {
                    settled.moved.push((Arc::clone(from), Arc::clone(name)));
                    actual.clone()
                }
                None => {
                    let (sockets, actual) =
                        bind(configured, threads).map_err(|error| ApplyError::Listen {
                            listener: name.to_string(),
                            address: configured.clone(),
                            holder: holder(before, configured),
                            error,
                        })?;
                    settled.opened.push((Arc::clone(name), sockets));
                    actual
                }
            },
        };
        settled
            .bound
            .insert(Arc::clone(name), (configured.clone(), actual));
    }
    Ok(settled)
}

/// Whether the system chooses the port.
fn is_chosen(address: &Address) -> bool {
    matches!(address, Address::Ip(address) if address.port() == 0)
}

/// A listener of ours that has the port of this address at another one, which the system lets nobody else have as long as
/// one of both is that of all interfaces.
fn holder(before: &Bound, wanted: &Address) -> Option<String> {
    let Address::Ip(wanted) = wanted else {
        return None;
    };
    let mut holders = before.iter().filter(|(_, (_, actual))| match actual {
        Address::Ip(actual) => {
            actual.port() == wanted.port() && (actual.ip().is_unspecified() || wanted.ip().is_unspecified())
        }
        Address::Unix(_) => false,
    });
    holders
        .next()
        .map(|(name, (_, actual))| format!("{name} ({actual})"))
}

#[cfg(test)]
mod tests {
    use mesh_model::validate::parse;
    use serde_json::json;

    use crate::proxy::{Change, Options, Proxy};

    #[test]
    fn an_address_that_the_change_before_has_left_can_be_had() {
        let proxy = Proxy::start(Options {
            threads: 2,
            ..Options::default()
        })
        .unwrap();
        let folder = std::env::temp_dir();
        let path = |n| folder.join(format!("mesh-sockets-{}-{n}", std::process::id()));
        let apply = |listeners| {
            let listeners: Vec<_> = (0..listeners)
                .map(|n| {
                    let address = format!("unix:{}", path(n).display());
                    json!({ "name": n.to_string(), "address": address, "routes": "main" })
                })
                .collect();
            let routes = json!([{ "name": "all", "action": { "kind": "respond", "status": 200 } }]);
            let hosts = json!([{ "hosts": ["*"], "routes": routes }]);
            let tables = json!([{ "name": "main", "virtualHosts": hosts }]);
            let resources = json!({ "listeners": listeners, "routeTables": tables });
            proxy.apply(Change::Replace(parse(&resources.to_string()).unwrap()))
        };
        for round in 0..10 {
            apply(50).unwrap_or_else(|error| panic!("round {round}: {error}"));
            apply(0).unwrap();
        }
    }
}
