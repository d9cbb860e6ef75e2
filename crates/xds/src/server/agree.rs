//! Whatever changes and whoever comes and goes: does the subscriber end up with what is there of what it wants?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_model::resources::{Endpoints, Locality};
use proptest::prelude::*;

use super::{Catalogue, Stream};
use crate::client::{Client, Event, Subscribed};
use crate::kind::Kind;
use crate::translate::Translate;
use crate::wire::Node;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u32),
    Remove(u8),
    Subscribe(u8),
    Unsubscribe(u8),
    /// The stream is lost, some messages with it.
    Reconnect,
    /// Messages go both ways until there are none.
    Talk,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..5_u8;
    prop_oneof![
        3 => (name.clone(), 1..4_u32).prop_map(|(name, value)| Step::Put(name, value)),
        2 => name.clone().prop_map(Step::Remove),
        3 => name.clone().prop_map(Step::Subscribe),
        2 => name.prop_map(Step::Unsubscribe),
        1 => Just(Step::Reconnect),
        3 => Just(Step::Talk),
    ]
}

fn endpoints(name: &str, value: u32) -> Endpoints {
    Endpoints {
        cluster: name.to_owned(),
        localities: vec![Locality {
            weight: value,
            ..Locality::default()
        }],
    }
}

struct World {
    client: Client,
    stream: Stream,
    catalogue: Catalogue,
    there: BTreeMap<String, Endpoints>,
    wanted: BTreeSet<String>,
    believed: BTreeMap<String, Endpoints>,
}

impl World {
    fn talk(&mut self, now: Instant) {
        loop {
            while let Some(request) = self.client.poll_request() {
                self.stream.received(request).unwrap();
            }
            let Some(response) = self.stream.poll_response(&self.catalogue) else {
                return;
            };
            self.client.received(response, now, |_, name, any| {
                self.believed
                    .insert(name.to_owned(), Endpoints::from_any(any).unwrap());
                Ok(())
            });
            while let Some(event) = self.client.poll_event() {
                match event {
                    Event::Removed(_, name) => drop(self.believed.remove(&name)),
                    Event::DoesNotExist(_, name) => drop(self.wanted.remove(&name)),
                    // Time passes.
                    Event::Held { until, .. } => self.client.tick(until),
                }
            }
        }
    }

    fn take(&mut self, step: Step, now: Instant) {
        let text = |name: u8| format!("e{name}");
        match step {
            Step::Put(name, value) => {
                let endpoints = endpoints(&text(name), value);
                self.catalogue.put(&text(name), &endpoints).unwrap();
                self.there.insert(text(name), endpoints);
            }
            Step::Remove(name) => {
                self.catalogue.remove(Kind::Endpoints, &text(name));
                self.there.remove(&text(name));
            }
            Step::Subscribe(name) => {
                if self.client.subscribe(Kind::Endpoints, &text(name), now) == Subscribed::Yes {
                    self.wanted.insert(text(name));
                }
            }
            Step::Unsubscribe(name) => {
                self.client.unsubscribe(Kind::Endpoints, &text(name));
                self.wanted.remove(&text(name));
                self.believed.remove(&text(name));
            }
            Step::Reconnect => {
                self.client.disconnected(0);
                self.stream = Stream::default();
                self.client.connected(now);
            }
            Step::Talk => self.talk(now),
        }
    }
}

proptest! {
    #[test]
    fn they_agree(steps in prop::collection::vec(step(), 0..60)) {
        let mut now = Instant::now();
        let mut world = World {
            client: Client::new(Node::default()),
            stream: Stream::default(),
            catalogue: Catalogue::default(),
            there: BTreeMap::new(),
            wanted: BTreeSet::new(),
            believed: BTreeMap::new(),
        };
        world.client.connected(now);
        for step in steps {
            now += Duration::from_secs(1);
            world.take(step, now);
        }
        world.talk(now);
        let mut expected = world.there.clone();
        expected.retain(|name, _| world.wanted.contains(name));
        prop_assert_eq!(world.believed, expected);
    }
}
