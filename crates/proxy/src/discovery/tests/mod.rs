//! Lookups against a name server that follows a script, on real sockets.

mod server;

use std::sync::Mutex;
use std::time::Duration;

use hickory_proto::rr::RecordType;

use super::*;
use crate::log::{Level, Log};
use crate::telemetry::{LookupResult, NameSample, TelemetryOptions};
use server::{Says, Server, address_record, alias_record};

/// Longer than any lookup may take.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    server: Server,
    lookups: Lookups,
    telemetry: Arc<Telemetry>,
    names: Arc<Names>,
    said: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let names = Arc::new(Names::default());
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let list = Arc::clone(&said);
        let log = Log::new(Level::Info, move |entry| {
            list.lock().unwrap().push(entry.message.to_owned());
        });
        let lookups = Lookups::new(
            vec![server.address],
            SystemClock::start(),
            1,
            Arc::clone(&telemetry),
            Arc::new(Guard::new(Arc::clone(&telemetry), Arc::new(log))),
            Arc::clone(&names),
        );
        Self {
            server,
            lookups,
            telemetry,
            names,
            said,
        }
    }

    async fn changed(&mut self) -> Vec<Source> {
        let changed = tokio::time::timeout(PATIENCE, self.lookups.changed()).await;
        changed.expect("something changes in time")
    }

    /// Goes on until this holds.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(tokio::time::Instant::now() < end, "it did not happen in time");
            let _ = tokio::time::timeout(Duration::from_millis(10), self.lookups.changed()).await;
        }
    }

    fn found(&self, source: &Source) -> Option<Found> {
        let known = self.lookups.discovered().get(source)?;
        known.found.as_deref().cloned()
    }

    /// Priority, address and weight of each endpoint.
    fn endpoints(&self, source: &Source) -> Vec<(u32, String, u32)> {
        match self.found(source) {
            Some(Found::Endpoints(found)) => found
                .into_iter()
                .map(|e| (e.priority, e.address.to_string(), e.weight))
                .collect(),
            other => panic!("{source:?}: {other:?}"),
        }
    }

    fn addresses(&self, source: &Source) -> Vec<String> {
        self.endpoints(source)
            .into_iter()
            .map(|(_, address, _)| address)
            .collect()
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().unwrap())
    }

    fn counted(&self, result: LookupResult) -> u64 {
        let report = self.telemetry.look(Vec::new());
        let mut counts = report.control.lookups.into_iter();
        counts.find(|(counted, _)| *counted == result).unwrap().1
    }

    fn sample(&self, name: &str) -> NameSample {
        let samples = self.names.samples(u64::MAX);
        samples.into_iter().find(|sample| sample.name == name).unwrap()
    }
}

fn dns(host: &str, port: u16) -> Source {
    Source::Dns {
        host: host.into(),
        port,
    }
}

fn srv(name: &str) -> Source {
    Source::DnsSrv { name: name.into() }
}

#[test]
fn name_servers_have_a_port_or_the_usual_one() {
    for (text, expected) in [
        ("10.0.0.53", Some("10.0.0.53:53")),
        ("10.0.0.53:5353", Some("10.0.0.53:5353")),
        ("::1", Some("[::1]:53")),
        ("[::1]:5353", Some("[::1]:5353")),
        ("10.0.0.53:0", None),
        ("ns.test", None),
        ("", None),
    ] {
        assert_eq!(
            name_server(text).map(|server| server.to_string()).as_deref(),
            expected
        );
    }
}

#[tokio::test]
async fn a_host_is_found_in_both_families_and_again_when_its_ttl_ends() {
    let mut world = World::new();
    world.server.host("a.test", &["127.0.0.1", "::1"], 1);
    let source = dns("A.test", 80);
    world.lookups.want([&source].into_iter());
    assert!(!world.lookups.is_settled([&source].into_iter()));
    assert_eq!(world.changed().await, std::slice::from_ref(&source));
    assert!(world.lookups.is_settled([&source].into_iter()));
    assert_eq!(world.addresses(&source), ["127.0.0.1:80", "[::1]:80"]);

    world.server.host("a.test", &["127.0.0.2", "127.0.0.1"], 60);
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.1:80", "127.0.0.2:80"]);
    assert!(world.said().is_empty());
    assert!(world.counted(LookupResult::Success) >= 2);
    let sample = world.sample("a.test");
    assert_eq!((sample.answers, sample.failures), (2, 0));
    assert!(sample.age.is_some() && sample.error.is_none());
}

#[tokio::test]
async fn the_same_answer_is_no_change() {
    let mut world = World::new();
    world.server.host("a.test", &["127.0.0.1", "127.0.0.2"], 1);
    let source = dns("a.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    let first = world.lookups.discovered()[&source].found.clone().unwrap();
    world.server.host("a.test", &["127.0.0.2", "127.0.0.1"], 1);
    world
        .until(|world| world.server.asked("a.test", RecordType::A) >= 3)
        .await;
    let last = world.lookups.discovered()[&source].found.clone().unwrap();
    assert!(Arc::ptr_eq(&first, &last));
}

#[tokio::test]
async fn what_was_found_outlives_every_failure_which_is_said_once() {
    for failure in [Says::NoSuchName(1), Says::Fails, Says::Records(Vec::new())] {
        let mut world = World::new();
        world.server.host("a.test", &["127.0.0.1"], 1);
        let source = dns("a.test", 80);
        world.lookups.want([&source].into_iter());
        world.changed().await;
        for kind in [RecordType::A, RecordType::AAAA] {
            world.server.says("a.test", kind, failure.clone());
        }
        world.until(|world| world.sample("a.test").failures >= 2).await;
        assert_eq!(world.addresses(&source), ["127.0.0.1:80"]);
        let said = world.said();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("a.test can't be looked up: "), "{said:?}");
        assert!(said[0].ends_with("what is known of it stays"), "{said:?}");
        assert!(world.sample("a.test").error.is_some());

        world.server.host("a.test", &["127.0.0.3"], 60);
        world.changed().await;
        assert_eq!(world.addresses(&source), ["127.0.0.3:80"]);
        assert_eq!(world.sample("a.test").failures, 0);
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_is_settled_as_nothing_until_it_comes() {
    let mut world = World::new();
    let source = dns("late.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.found(&source), Some(Found::Nothing));
    assert!(world.lookups.is_settled([&source].into_iter()));
    assert_eq!(
        world.said(),
        ["late.test can't be looked up: there is no such name; its clusters have no endpoints"]
    );
    assert_eq!(world.counted(LookupResult::NotFound), 1);
    assert_eq!(world.sample("late.test").age, None);
    world.server.host("late.test", &["127.0.0.1"], 60);
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.1:80"]);
}

#[tokio::test]
async fn a_family_that_is_never_answered_delays_the_other_and_does_not_hide_it() {
    let mut world = World::new();
    world.server.host("a.test", &["127.0.0.1"], 60);
    world.server.says("a.test", RecordType::AAAA, Says::Nothing);
    let source = dns("a.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.1:80"]);
    assert!(world.said().is_empty());
}

#[tokio::test]
async fn a_name_server_that_never_answers_is_given_up_in_time() {
    let mut world = World::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        world.server.says("a.test", kind, Says::Nothing);
    }
    let source = dns("a.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.found(&source), Some(Found::Nothing));
    assert_eq!(world.counted(LookupResult::Timeout), 1);
    assert_eq!(
        world.said(),
        ["a.test can't be looked up: no name server answered in time; its clusters have no endpoints"]
    );
}

#[tokio::test]
async fn aliases_are_followed_and_their_ttl_counts() {
    let mut world = World::new();
    world.server.says(
        "www.test",
        RecordType::A,
        Says::Records(vec![
            alias_record("www.test", "a.test", 1),
            address_record("a.test", "127.0.0.1", 300),
        ]),
    );
    let source = dns("www.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.1:80"]);
    world
        .until(|world| world.server.asked("www.test", RecordType::A) >= 2)
        .await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_udp_comes_by_tcp() {
    let mut world = World::new();
    let records = (1..=200).map(|n| address_record("big.test", &format!("127.0.1.{n}"), 60));
    world
        .server
        .says("big.test", RecordType::A, Says::TooLong(records.collect()));
    let source = dns("big.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.addresses(&source).len(), 200);
}

#[tokio::test]
async fn addresses_and_hosts_of_the_system_are_not_asked_for() {
    let mut world = World::new();
    let sources = [dns("127.0.0.9", 80), dns("localhost", 81)];
    world.lookups.want(sources.iter());
    world
        .until(|world| world.lookups.is_settled(sources.iter()))
        .await;
    assert_eq!(world.addresses(&sources[0]), ["127.0.0.9:80"]);
    assert!(world.addresses(&sources[1]).contains(&"127.0.0.1:81".to_owned()));
    assert_eq!(world.server.asked("localhost", RecordType::A), 0);
}

#[tokio::test]
async fn services_have_ports_priorities_weights_and_both_families() {
    let mut world = World::new();
    let name = "_grpc._tcp.web.test";
    world.server.service(
        name,
        &[
            (1, 30, 8001, "a.test."),
            (1, 10, 8002, "B.test."),
            (2, 0, 8003, "a.test."),
        ],
        60,
    );
    world.server.host("a.test", &["127.0.0.1", "::1"], 60);
    world.server.host("b.test", &["127.0.0.2"], 60);
    let source = srv(name);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    let found = world.endpoints(&source);
    let places: Vec<_> = found
        .iter()
        .map(|(priority, address, _)| (*priority, &**address))
        .collect();
    let expected = [
        (1, "127.0.0.1:8001"),
        (1, "127.0.0.2:8002"),
        (1, "[::1]:8001"),
        (2, "127.0.0.1:8003"),
        (2, "[::1]:8003"),
    ];
    assert_eq!(places, expected);
    let weight = |at: usize| f64::from(found[at].2);
    assert_eq!(
        weight(0) / weight(1),
        1.5,
        "30 split over two addresses, against 10"
    );
    assert_eq!(weight(0), weight(2));
    assert_eq!(world.sample(name).kind.as_str(), "srv");
}

#[tokio::test]
async fn a_service_follows_its_records_and_its_targets() {
    let mut world = World::new();
    let name = "_http._tcp.web.test";
    world.server.service(name, &[(0, 1, 80, "a.test.")], 1);
    world.server.host("a.test", &["127.0.0.1"], 1);
    let source = srv(name);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.1:80"]);
    // The target moves.
    world.server.host("a.test", &["127.0.0.2"], 1);
    world.changed().await;
    assert_eq!(world.addresses(&source), ["127.0.0.2:80"]);
    // Another target comes, which has no address: the first stays.
    world
        .server
        .service(name, &[(0, 1, 80, "a.test."), (0, 1, 80, "gone.test.")], 1);
    world
        .until(|world| world.server.asked("gone.test", RecordType::A) > 0)
        .await;
    assert_eq!(world.addresses(&source), ["127.0.0.2:80"]);
    world.until(|world| world.sample("gone.test.").failures > 0).await;
    assert_eq!(
        world.said(),
        ["gone.test. can't be looked up: there is no such name; its services do without it"]
    );
    // Only another one: the old name is forgotten.
    world.server.host("c.test", &["127.0.0.3"], 1);
    world.server.service(name, &[(0, 1, 81, "c.test.")], 1);
    world
        .until(|world| world.addresses(&source) == ["127.0.0.3:81"])
        .await;
    assert_eq!(world.lookups.names.len(), 2);
    // The records fail, the targets fail: all stays.
    world.server.forget(name);
    world.server.forget("c.test");
    world
        .until(|world| world.sample(name).failures > 0 && world.sample("c.test.").failures > 0)
        .await;
    assert_eq!(world.addresses(&source), ["127.0.0.3:81"]);
}

#[tokio::test]
async fn a_service_that_is_decidedly_not_there_has_no_endpoints() {
    let mut world = World::new();
    let name = "_http._tcp.off.test";
    world.server.service(name, &[(0, 0, 0, ".")], 60);
    let source = srv(name);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    assert_eq!(world.found(&source), Some(Found::Endpoints(Vec::new())));
    assert!(world.said().is_empty());
}

#[tokio::test]
async fn a_name_is_looked_up_once_for_all_that_want_it() {
    let mut world = World::new();
    world.server.host("a.test", &["127.0.0.1"], 60);
    let sources: Vec<_> = (1..=50).map(|port| dns("a.test", port)).collect();
    world.lookups.want(sources.iter());
    world
        .until(|world| world.lookups.is_settled(sources.iter()))
        .await;
    assert_eq!(world.addresses(&sources[49]), ["127.0.0.1:50"]);
    assert_eq!(world.server.asked("a.test", RecordType::A), 1);
    // Who goes takes nothing from those who stay; when all have gone nothing is left.
    world.lookups.want(sources[..1].iter());
    assert_eq!(
        (world.lookups.names.len(), world.lookups.discovered().len()),
        (1, 1)
    );
    world.lookups.want([].into_iter());
    let lookups = &world.lookups;
    assert!(lookups.names.is_empty() && lookups.due.is_empty() && lookups.wanted.is_empty());
    assert!(world.names.samples(0).is_empty());
}

#[tokio::test]
async fn many_names_are_looked_up_a_few_at_a_time() {
    let mut world = World::new();
    let sources: Vec<_> = (0..200).map(|n| dns(&format!("n{n}.test"), 80)).collect();
    for n in 0..200 {
        world.server.host(&format!("n{n}.test"), &["127.0.0.1"], 60);
    }
    world.lookups.want(sources.iter());
    let begun = std::time::Instant::now();
    world.lookups.start_due();
    assert_eq!(world.lookups.tasks.len(), MOST_LOOKUPS);
    world.lookups.start_due();
    if begun.elapsed() < SLOW {
        assert_eq!(world.lookups.tasks.len(), MOST_LOOKUPS);
    }
    world
        .until(|world| {
            let now = world.lookups.clock.now();
            let running = world.lookups.running.values();
            let quick = running.filter(|(_, begun)| begun + nanos(SLOW) > now);
            assert!(quick.count() <= MOST_LOOKUPS);
            world.lookups.is_settled(sources.iter())
        })
        .await;
    assert_eq!(world.counted(LookupResult::Success), 200);
}

#[tokio::test]
async fn names_that_nobody_answers_for_do_not_hold_up_others() {
    let mut world = World::new();
    let silent: Vec<_> = (0..200).map(|n| dns(&format!("n{n}.test"), 80)).collect();
    for n in 0..200 {
        for kind in [RecordType::A, RecordType::AAAA] {
            world.server.says(&format!("n{n}.test"), kind, Says::Nothing);
        }
    }
    world.lookups.want(silent[..MOST_LOOKUPS].iter());
    world.lookups.start_due();
    world.server.host("a.test", &["127.0.0.1"], 60);
    let source = dns("a.test", 80);
    let more = silent[..MOST_LOOKUPS].iter().chain([&source]);
    world.lookups.want(more);
    world
        .until(|world| world.lookups.is_settled([&source].into_iter()))
        .await;
    assert!(
        silent
            .iter()
            .all(|of| !world.lookups.is_settled([of].into_iter()))
    );
    // Nor are there more than a few, however many there are.
    world.lookups.want(silent.iter());
    world
        .until(|world| world.lookups.tasks.len() == MOST_LOOKUPS + MOST_SLOW)
        .await;
    assert_eq!(world.lookups.start_due(), NEVER);
    assert_eq!(world.lookups.tasks.len(), MOST_LOOKUPS + MOST_SLOW);
}

#[tokio::test]
async fn a_source_whose_endpoints_are_dead_is_looked_up_sooner_but_not_at_once_again() {
    let mut world = World::new();
    world.server.host("a.test", &["127.0.0.1"], 300);
    let source = dns("a.test", 80);
    world.lookups.want([&source].into_iter());
    world.changed().await;
    let due = |world: &World| world.lookups.due.first().unwrap().0;
    let planned = due(&world);
    let call = Arc::clone(&world.lookups.discovered()[&source].call);
    (0..1000).for_each(|_| call.raise());
    world.until(|world| due(world) < planned).await;
    let hastened = due(&world);
    (0..1000).for_each(|_| call.raise());
    let _ = tokio::time::timeout(Duration::from_millis(50), world.lookups.changed()).await;
    assert_eq!(due(&world), hastened);
    assert_eq!(world.server.asked("a.test", RecordType::A), 1);
}
