//! The life of a workload's certificates, by a clock of its own.

use super::*;
use crate::Csr;
use crate::authority::{Authority, Settings, Signed};
use crate::testing::{ID, at, domain};

const MINUTE: Duration = Duration::from_secs(60);

fn authority() -> Authority {
    Authority::in_memory(Settings::new(domain()).with_ttl(MINUTE), at(0)).unwrap()
}

fn manager() -> Manager {
    Manager::new(ID.parse().unwrap(), Arc::new(MeshTls::new(domain())), at(0), 1)
}

fn sign(authority: &mut Authority, request: &[u8], now: SystemTime) -> Signed {
    let csr = Csr::check(request).unwrap();
    authority.sign(&csr, &ID.parse().unwrap(), now).unwrap()
}

/// Asks and is answered.
fn renew(manager: &mut Manager, authority: &mut Authority, now: SystemTime) -> Arc<Svid> {
    let request = manager.request().unwrap();
    let signed = sign(authority, &request, now);
    manager.answered(signed.chain, signed.bundle, now).unwrap()
}

#[test]
fn a_certificate_is_asked_for_at_once_and_renewed_in_time() {
    let (mut manager, mut authority) = (manager(), authority());
    assert_eq!((manager.due(), manager.standing(at(0))), (at(0), Standing::None));
    let first = renew(&mut manager, &mut authority, at(0));
    assert_eq!(manager.tls.svid().unwrap().own(), first.own());
    assert_eq!(manager.tls.bundle().hash(), authority.bundle().hash());
    let due = manager.due().duration_since(at(0)).unwrap().as_secs_f64();
    assert!((39.0..=45.0).contains(&due), "{due}");
    assert_eq!(manager.standing(at(47)), Standing::Good);
    assert_eq!(manager.standing(at(49)), Standing::Ending);
    assert_eq!(manager.standing(at(60)), Standing::Expired);
    // Whoever waits for a change finds that it has changed.
    let changes = Standing::Good.changes(&first).unwrap();
    assert_eq!(manager.standing(changes), Standing::Ending);
    assert_eq!(
        manager.standing(changes - Duration::from_millis(2)),
        Standing::Good
    );
    assert_eq!(Standing::Ending.changes(&first), Some(at(60)));
    assert_eq!(Standing::Expired.changes(&first), None);
    let second = renew(&mut manager, &mut authority, at(42));
    assert_ne!(first.chain()[0], second.chain()[0]);
    assert_eq!(manager.standing(at(60)), Standing::Good);
}

#[test]
fn a_certificate_that_was_kept_is_as_old_as_it_is() {
    let (mut before, mut authority) = (manager(), authority());
    let svid = renew(&mut before, &mut authority, at(0));
    let again = |obtained, now| {
        let mut after = Manager::new(ID.parse().unwrap(), Arc::new(MeshTls::new(domain())), now, 2);
        let (key, chain) = (before.key().unwrap().clone(), svid.chain().to_vec());
        after
            .restored(key, chain, Arc::clone(authority.bundle()), obtained, now)
            .map(|_| after)
    };
    for (now, standing) in [(10, Standing::Good), (49, Standing::Ending)] {
        let after = again(at(0), at(now)).unwrap();
        assert_eq!(after.due(), before.due());
        assert_eq!(after.standing(at(now)), standing);
        assert_eq!(after.failures(), 0);
    }
    // A clock that was ahead when it came: no certificate is due after its end.
    let after = again(at(1000), at(10)).unwrap();
    assert!(after.due() < at(60), "{:?}", after.due());
    let late = again(at(0), at(62)).err();
    assert_eq!(late, Some(AnswerError::Unbelieved(Rejection::Expired)));
}

#[test]
fn by_a_clock_that_is_behind_it_is_renewed_in_time() {
    let (mut manager, mut authority) = (manager(), authority());
    let request = manager.request().unwrap();
    let signed = sign(&mut authority, &request, at(100));
    let svid = manager.answered(signed.chain, signed.bundle, at(0)).unwrap();
    let due = manager.due().duration_since(at(0)).unwrap().as_secs_f64();
    assert!((39.0..=45.0).contains(&due), "{due}");
    assert_eq!(manager.standing(at(49)), Standing::Ending);
    assert_eq!(Standing::Ending.changes(&svid), Some(at(60)));
    assert_eq!(manager.standing(at(60)), Standing::Expired);
}

#[test]
fn after_a_clock_that_was_ahead_a_new_one_is_due() {
    let (mut manager, mut authority) = (manager(), authority());
    renew(&mut manager, &mut authority, at(0));
    let due = manager.due();
    manager.look(at(0));
    assert_eq!(manager.due(), due);
    let back = at(0) - Duration::from_secs(301);
    manager.look(back);
    assert_eq!(manager.due(), back);
}

#[test]
fn tries_that_fail_leave_what_is_there() {
    let (mut manager, mut authority) = (manager(), authority());
    for failures in 1..5 {
        manager.request().unwrap();
        let next = manager.failed(at(0));
        assert!(next > at(0));
        assert_eq!((manager.due(), manager.failures()), (next, failures));
    }
    let good = renew(&mut manager, &mut authority, at(0));
    assert_eq!(manager.failures(), 0);
    manager.request().unwrap();
    manager.failed(at(42));
    assert!(manager.due() > at(42) && manager.due() < at(47));
    assert_eq!(manager.tls.svid().unwrap().own(), good.own());
}

#[test]
fn an_answer_that_is_wrong_is_not_used() {
    let (mut manager, mut ours, mut other) = (manager(), authority(), authority());
    let good = renew(&mut manager, &mut ours, at(0));
    let bundle = manager.tls.bundle();
    let stale = manager.request().unwrap();
    let request = manager.request().unwrap();
    let signed = sign(&mut ours, &stale, at(1));
    let found = manager.answered(signed.chain, signed.bundle, at(1)).unwrap_err();
    assert_eq!(
        found,
        AnswerError::Svid(SvidError::OtherKey),
        "an answer to the request before"
    );
    let signed = sign(&mut ours, &request, at(1));
    let found = manager.answered(signed.chain, signed.bundle, at(1)).unwrap_err();
    assert_eq!(found, AnswerError::NotAsked);

    let mut ask = |by: &mut Authority, bundle: Option<TrustBundle>, now, at_now| {
        let signed = sign(by, &manager.request().unwrap(), now);
        let bundle = bundle.map_or(signed.bundle, Arc::new);
        manager.answered(signed.chain, bundle, at_now).unwrap_err()
    };
    let of_other = (**other.bundle()).clone();
    assert!(matches!(
        ask(&mut ours, Some(of_other), at(1), at(1)),
        AnswerError::Unbelieved(Rejection::UnknownAuthority | Rejection::BadSignature)
    ));
    assert_eq!(
        ask(&mut other, Some(TrustBundle::empty(domain())), at(1), at(1)),
        AnswerError::Roots
    );
    let elsewhere = TrustBundle::empty("other.test".parse().unwrap());
    assert_eq!(ask(&mut ours, Some(elsewhere), at(1), at(1)), AnswerError::Roots);
    let late = AnswerError::Unbelieved(Rejection::Expired);
    assert_eq!(ask(&mut ours, None, at(1), at(62)), late);
    assert_eq!(manager.tls.svid().unwrap().own(), good.own());
    assert_eq!(manager.tls.bundle(), bundle);
}

#[test]
fn a_certificate_for_somebody_else_is_not_used() {
    let (mut manager, mut authority) = (manager(), authority());
    let other = "spiffe://mesh.test/ns/shop/sa/other".parse().unwrap();
    let key = WorkloadKey::generate().unwrap();
    let csr = Csr::check(&csr::request(&key, &other).unwrap()).unwrap();
    let signed = authority.sign(&csr, &other, at(0)).unwrap();
    manager.asked = Some(key);
    let found = manager.answered(signed.chain, signed.bundle, at(0)).unwrap_err();
    assert_eq!(found, AnswerError::OtherIdentity);
    assert_eq!(manager.standing(at(0)), Standing::None);
}

#[test]
fn roots_that_do_not_believe_us_make_a_renewal_due() {
    let (mut manager, mut ours, other) = (manager(), authority(), authority());
    renew(&mut manager, &mut ours, at(0));
    let due = manager.due();
    let both = ours.bundle().to_pem() + &other.bundle().to_pem();
    let both = Arc::new(TrustBundle::from_pem(domain(), both.as_bytes()).unwrap());
    manager.roots(Arc::clone(&both), at(1)).unwrap();
    assert_eq!((manager.due(), manager.tls.bundle()), (due, both));
    let none = Arc::new(TrustBundle::empty(domain()));
    assert_eq!(manager.roots(none, at(1)), Err(AnswerError::Roots));
    manager.roots(Arc::clone(other.bundle()), at(1)).unwrap();
    assert_eq!(manager.due(), at(1));
    assert_eq!(&manager.tls.bundle(), other.bundle());
}
