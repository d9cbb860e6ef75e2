//! Whatever changes and whoever comes and goes, in either form: does the subscriber end up with what is there of what it
//! wants?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_model::resources::Cluster;
use proptest::prelude::*;

use super::{Catalogue, DeltaStream, StateOfTheWorldStream};
use crate::client::{Client, Event, Form, Response, Silence, Subscribed};
use crate::kind::Kind;
use crate::translate::Translate;
use crate::wire::Node;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u32),
    Remove(u8),
    Subscribe(u8),
    Unsubscribe(u8),
    /// The stream is lost, some messages with it; the next one may be of the other form.
    Reconnect(Form),
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
        1 => prop_oneof![Just(Form::Delta), Just(Form::StateOfTheWorld)].prop_map(Step::Reconnect),
        3 => Just(Step::Talk),
    ]
}

fn cluster(name: &str, value: u32) -> Cluster {
    let mut cluster = Cluster::new(name);
    cluster.timeouts.connect = format!("{value}s").parse().unwrap();
    cluster
}

/// Both streams that the server may have; one of them is spoken.
#[derive(Default)]
struct Streams {
    incremental: DeltaStream,
    whole: StateOfTheWorldStream,
}

impl Streams {
    fn hear(&mut self, client: &mut Client) {
        while let Some(request) = client.poll_request() {
            self.incremental.received(request).unwrap();
        }
        while let Some(request) = client.poll_whole_request() {
            self.whole.received(request).unwrap();
        }
    }

    fn say(&mut self, catalogue: &Catalogue) -> Option<Response> {
        let changes = self.incremental.poll_response(catalogue).map(Response::from);
        changes.or_else(|| self.whole.poll_response(catalogue).map(Response::from))
    }
}

struct World {
    client: Client,
    streams: Streams,
    catalogue: Catalogue,
    there: BTreeMap<String, Cluster>,
    wanted: BTreeSet<String>,
    believed: BTreeMap<String, Cluster>,
}

impl World {
    fn talk(&mut self, now: Instant) {
        loop {
            self.streams.hear(&mut self.client);
            let Some(response) = self.streams.say(&self.catalogue) else {
                return;
            };
            self.client.received(response, now, |_, name, any| {
                self.believed
                    .insert(name.to_owned(), Cluster::from_any(any).unwrap());
                Ok(())
            });
            while let Some(event) = self.client.poll_event() {
                match event {
                    Event::Removed(_, name) => drop(self.believed.remove(&name)),
                    Event::DoesNotExist(_, name) => drop(self.wanted.remove(&name)),
                    // Time passes.
                    Event::Held { until, .. } => self.client.tick(until, Silence::IsAnAnswer),
                    Event::Unsaid(..) => {}
                }
            }
        }
    }

    fn take(&mut self, step: Step, now: Instant) {
        let text = |name: u8| format!("c{name}");
        match step {
            Step::Put(name, value) => {
                let cluster = cluster(&text(name), value);
                self.catalogue.put(&text(name), &cluster).unwrap();
                self.there.insert(text(name), cluster);
            }
            Step::Remove(name) => {
                self.catalogue.remove(Kind::Cluster, &text(name));
                self.there.remove(&text(name));
            }
            Step::Subscribe(name) => {
                if self.client.subscribe(Kind::Cluster, &text(name), now) == Subscribed::Yes {
                    self.wanted.insert(text(name));
                }
            }
            Step::Unsubscribe(name) => {
                self.client.unsubscribe(Kind::Cluster, &text(name));
                self.wanted.remove(&text(name));
                self.believed.remove(&text(name));
            }
            Step::Reconnect(form) => {
                self.client.disconnected(0);
                self.streams = Streams::default();
                self.client.connected(form, now);
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
            streams: Streams::default(),
            catalogue: Catalogue::default(),
            there: BTreeMap::new(),
            wanted: BTreeSet::new(),
            believed: BTreeMap::new(),
        };
        world.client.connected(Form::Delta, now);
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
