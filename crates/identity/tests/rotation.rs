//! Does any call fail while issuers and roots turn over?
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use mesh_identity::authority::{Authority, Changed, Settings};
use mesh_identity::tls::Protocol;
use mesh_identity::{Csr, Manager, MeshTls};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use support::{BASKET, Call, FRONT, echo};

/// Steps of the clock that both workloads and the authority share, in seconds, and how many.
const STEP: u64 = 9;
const STEPS: u64 = 900;

/// A clock that a test sets.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.0.load(Ordering::Relaxed),
        )))
    }
}

/// A workload that renews as [`Manager`] says.
struct Workload {
    tls: Arc<MeshTls>,
    manager: Manager,
}

impl Workload {
    fn new(id: &str, clock: &Arc<Clock>, authority: &mut Authority) -> Self {
        let time = Arc::clone(clock) as Arc<dyn TimeProvider>;
        let tls = Arc::new(MeshTls::with_clock("mesh.test".parse().unwrap(), time));
        let manager = Manager::new(id.parse().unwrap(), Arc::clone(&tls), clock.now(), 7);
        let mut workload = Self { tls, manager };
        workload.renew(clock.now(), authority);
        workload
    }

    fn renew(&mut self, now: SystemTime, authority: &mut Authority) {
        let request = Csr::check(&self.manager.request().unwrap()).unwrap();
        let signed = authority.sign(&request, self.manager.id(), now).unwrap();
        self.manager.answered(signed.chain, signed.bundle, now).unwrap();
    }
}

#[test]
fn issuers_and_roots_turn_over_under_calls() {
    let clock = Arc::new(Clock(AtomicU64::new(1_800_000_000)));
    let minute = Duration::from_secs(60);
    let mut settings = Settings::new("mesh.test".parse().unwrap()).with_ttl(minute);
    (settings.issuer_life, settings.root_life) = (4 * minute, 60 * minute);
    let mut authority = Authority::in_memory(settings, clock.now()).unwrap();
    let mut front = Workload::new(FRONT, &clock, &mut authority);
    let mut basket = Workload::new(BASKET, &clock, &mut authority);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = basket.tls.server_config(Protocol::ALL).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().take(STEPS as usize + 1) {
            let (stream, config) = (stream.unwrap(), Arc::clone(&config));
            thread::spawn(move || echo(stream, config));
        }
    });

    // One stream outlives every certificate and root of its beginning.
    let mut long = Call::begin(&front.tls, BASKET, address).unwrap();
    let mut changes = Vec::new();
    let mut renewals = 0;
    for step in 0..STEPS {
        let now = clock.now();
        changes.extend(authority.tick(now).unwrap());
        for workload in [&mut front, &mut basket] {
            if now >= workload.manager.due() {
                workload.renew(now, &mut authority);
                renewals += 1;
            }
        }
        let line = format!("step {step}");
        let mut call = Call::begin(&front.tls, BASKET, address).unwrap();
        assert_eq!(call.say(&line).unwrap(), line, "after {changes:?}");
        assert_eq!(long.say(&line).unwrap(), line);
        clock.0.fetch_add(STEP, Ordering::Relaxed);
    }
    let count = |what| changes.iter().filter(|one| **one == what).count();
    assert!(renewals > 200, "{renewals}");
    assert!(count(Changed::IssuerRenewed) > 30, "{changes:?}");
    assert!(
        count(Changed::RootSwitched) >= 2 && count(Changed::RootDropped) >= 2,
        "{changes:?}"
    );
}
