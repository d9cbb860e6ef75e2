//! Does a subscriber keep what it goes by until it has what takes its place, however requests come apart on their way?

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use mesh_model::resources::{Action, Cluster, Endpoints, RouteTable};
use serde_json::json;

use super::tests::catalogue;
use super::{Catalogue, DeltaStream};
use crate::client::{Client, Event, Form, Subscribed};
use crate::kind::Kind;
use crate::translate::{ServiceListener, Translate};
use crate::wire::Node;

const SERVICE: &str = "shop:80";

/// A service that leads to a cluster by a table.
fn leads(table: &str, cluster: &str) -> Catalogue {
    let mut catalogue = catalogue(&[cluster]);
    let route = json!({ "name": "all", "action": { "kind": "forward", "to": [{ "cluster": cluster }] } });
    let hosts = json!([{ "hosts": ["*"], "routes": [route] }]);
    let routes: RouteTable = serde_json::from_value(json!({ "name": table, "virtualHosts": hosts })).unwrap();
    catalogue.put(table, &routes).unwrap();
    let service = ServiceListener {
        name: SERVICE.into(),
        route_table: table.into(),
    };
    catalogue.put(SERVICE, &service).unwrap();
    catalogue
}

fn cluster_of(table: &RouteTable) -> String {
    match &table.virtual_hosts[0].routes[0].action {
        Action::Forward { to } => to[0].cluster.clone(),
        _ => panic!("it leads nowhere"),
    }
}

/// Who calls the service.
struct Caller {
    client: Client,
    stream: DeltaStream,
    table: Option<String>,
    tables: Vec<RouteTable>,
    /// What is there of clusters, and of their endpoints.
    there: BTreeSet<(Kind, String)>,
    asked: BTreeSet<(Kind, String)>,
    /// The cluster that it calls.
    live: Option<String>,
}

impl Caller {
    fn new() -> Self {
        let mut caller = Self {
            client: Client::new(Node::default()),
            stream: DeltaStream::default(),
            table: None,
            tables: Vec::new(),
            there: BTreeSet::new(),
            asked: BTreeSet::new(),
            live: None,
        };
        caller.connect();
        caller
    }

    fn connect(&mut self) {
        self.client.disconnected(0);
        self.stream = DeltaStream::default();
        self.client.connected(Form::Delta, Instant::now());
    }

    fn newest(&self) -> Option<String> {
        let mut tables = self.tables.iter();
        tables
            .find(|table| Some(&table.name) == self.table.as_ref())
            .map(cluster_of)
    }

    /// Asks for what it needs, and for nothing else.
    fn ask(&mut self) {
        let mut wishes = BTreeSet::from([(Kind::Listener, SERVICE.to_owned())]);
        wishes.extend(self.table.iter().map(|table| (Kind::RouteTable, table.clone())));
        for cluster in self.newest().into_iter().chain(self.live.clone()) {
            let of_cluster = (Kind::Cluster, cluster.clone());
            if self.there.contains(&of_cluster) {
                wishes.insert((Kind::Endpoints, cluster));
            }
            wishes.insert(of_cluster);
        }
        for (kind, name) in self.asked.difference(&wishes) {
            self.client.unsubscribe(*kind, name);
            self.there.remove(&(*kind, name.clone()));
        }
        for (kind, name) in &wishes {
            assert_eq!(
                self.client.subscribe(*kind, name, Instant::now()),
                Subscribed::Yes
            );
        }
        self.asked = wishes;
    }

    /// Takes what is whole.
    fn go_live(&mut self) {
        let is_whole = |cluster: &String| {
            let kinds = [Kind::Cluster, Kind::Endpoints];
            kinds
                .iter()
                .all(|kind| self.there.contains(&(*kind, cluster.clone())))
        };
        if let Some(newest) = self.newest().filter(is_whole) {
            self.live = Some(newest);
        }
        assert!(self.live.iter().all(is_whole), "it lost what it goes by");
    }

    fn talk(&mut self, catalogue: &Catalogue) {
        loop {
            self.ask();
            let mut responses = VecDeque::new();
            while let Some(request) = self.client.poll_request() {
                self.stream.received(request).unwrap();
                responses.extend(self.stream.poll_response(catalogue));
            }
            responses.extend(self.stream.poll_response(catalogue));
            if responses.is_empty() {
                return;
            }
            for response in responses {
                let (table, tables, there) = (&mut self.table, &mut self.tables, &mut self.there);
                self.client.received(response, Instant::now(), |kind, name, any| {
                    match kind {
                        Kind::Listener => *table = Some(ServiceListener::from_any(any).unwrap().route_table),
                        Kind::RouteTable => {
                            tables.retain(|table| table.name != name);
                            tables.push(RouteTable::from_any(any).unwrap());
                        }
                        Kind::Cluster => assert_eq!(Cluster::from_any(any).unwrap().name, name),
                        Kind::Endpoints => assert_eq!(Endpoints::from_any(any).unwrap().cluster, name),
                        Kind::Secret => {}
                    }
                    there.insert((kind, name.to_owned()));
                    Ok(())
                });
                while let Some(event) = self.client.poll_event() {
                    match event {
                        Event::Removed(kind, name) => drop(self.there.remove(&(kind, name))),
                        event => panic!("{event:?}"),
                    }
                }
                self.go_live();
            }
        }
    }
}

#[test]
fn what_it_goes_by_stays_until_what_takes_its_place_is_there() {
    for comes_again in [false, true] {
        for table in ["t", "another"] {
            let mut caller = Caller::new();
            caller.talk(&leads("t", "a"));
            assert_eq!(caller.live.as_deref(), Some("a"));
            if comes_again {
                caller.connect();
            }
            caller.talk(&leads(table, "b"));
            assert_eq!(caller.live.as_deref(), Some("b"), "{comes_again} {table}");
        }
    }
}
