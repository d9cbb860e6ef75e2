//! What can a sidecar that is hostile, or broken, do to its control plane and to the others? Over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "hostile/aside.rs"]
mod aside;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mesh_controller::{
    Attempt, Batch, Deciding, Decision, Decisions, MAX_EDGES_OF_ONE, Phase, Proof, Rates, RevokeError,
    Settings, TokenError, Workload,
};
use mesh_model::policy::{AuthorizationPolicy, PolicyAction, PolicyDefault, PolicyMode, PolicyTarget};
use mesh_protocol::client::Reports;
use mesh_protocol::message::{Edge, FromControl, FromSidecar, Ready, Telemetry};
use mesh_protocol::{Code, Error, MAX_EDGES};
use mesh_xds::kind::Kind;
use mesh_xds::wire::DeltaDiscoveryRequest;
use prost::Message;
use support::{Plane, Sidecar, id, within};
use tokio::sync::Barrier;

const WEB: &str = "spiffe://mesh.test/ns/shop/sa/web";
const TILL: &str = "spiffe://mesh.test/ns/shop/sa/till";

/// Why a stream of reports ends.
async fn end_of(reports: &mut Reports) -> Error {
    within(async {
        loop {
            match reports.incoming.receive().await {
                Ok(Some(_)) => {}
                other => break other.unwrap_err(),
            }
        }
    })
    .await
}

fn refusal(error: &Error) -> (Code, String) {
    let status = error.status().unwrap_or_else(|| panic!("{error}"));
    let (token, _) = status.message.split_once(':').unwrap_or_default();
    (status.code, token.to_owned())
}

fn denied(token: &str) -> (Code, String) {
    (Code::PermissionDenied, token.to_owned())
}

fn limited() -> (Code, String) {
    (Code::ResourceExhausted, "rate_limited".to_owned())
}

#[tokio::test]
async fn a_token_is_good_for_its_identity_and_as_often_as_was_said() {
    let plane = Plane::start();
    let minute = Duration::from_secs(60);
    let token = plane.controller.issue_token(id(WEB), 2, minute).unwrap();
    let thief = plane.sidecar(TILL).sign(&token).await.unwrap_err();
    assert_eq!(refusal(&thief), denied("token_other_identity"));
    for _ in 0..2 {
        plane.sidecar(WEB).sign(&token).await.unwrap();
    }
    let late = plane.sidecar(WEB).sign(&token).await.unwrap_err();
    assert_eq!(refusal(&late), denied("token_unknown"));
    for (uses, ttl) in [
        (0, minute),
        (1_000_000, minute),
        (1, Duration::from_secs(365 * 86_400)),
    ] {
        assert!(
            plane.controller.issue_token(id(WEB), uses, ttl).is_err(),
            "{uses} {ttl:?}"
        );
    }
    let nobody = plane.sidecar(WEB).sign("").await.unwrap_err();
    assert_eq!(refusal(&nobody), (Code::Unauthenticated, "no_proof".into()));
    let own = "spiffe://mesh.test/ns/mesh/sa/control";
    let control = plane.sidecar(own).sign("mesh-token-x").await.unwrap_err();
    assert_eq!(refusal(&control), denied("reserved"));
}

#[test]
fn the_control_plane_itself_is_not_revoked() {
    let own = "spiffe://mesh.test/ns/mesh/sa/control";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reserved-{}", std::process::id()));
    let plane = Plane::keeping(&folder);
    let refused = plane.controller.revoke(own);
    assert!(matches!(refused, Err(RevokeError::Reserved)), "{refused:?}");
    assert!(plane.controller.revoked().is_empty());
    plane.controller.revoke(TILL).unwrap();
    drop(plane);

    // One that was stored, or that others have said, is passed over.
    let file = folder.join("denied.json");
    let stored = fs::read_to_string(&file).unwrap();
    assert!(stored.contains(TILL), "{stored}");
    fs::write(&file, stored.replace(TILL, own)).unwrap();
    let plane = Plane::knowing(&folder, &[own, WEB]);
    assert_eq!(plane.controller.revoked(), [WEB]);
    drop(plane);
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_restart_forgets_no_token_and_no_use() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tokens-{}", std::process::id()));
    let minute = Duration::from_secs(60);
    let plane = Plane::keeping(&folder);
    let token = plane.controller.issue_token(id(WEB), 2, minute).unwrap();
    let void = plane.controller.issue_token(id(TILL), 1, minute).unwrap();
    plane.sidecar(WEB).sign(&token).await.unwrap();
    plane.controller.revoke(TILL).unwrap();
    assert!(plane.controller.allow(TILL).unwrap());
    drop(plane);

    let plane = Plane::keeping(&folder);
    plane.sidecar(WEB).sign(&token).await.unwrap();
    for (identity, spent) in [(WEB, &token), (TILL, &void)] {
        let error = plane.sidecar(identity).sign(spent).await.unwrap_err();
        assert_eq!(refusal(&error), denied("token_unknown"), "{identity}");
    }
    // What can't be stored is not handed out; nor is a certificate for a use that a restart would forget.
    let last = plane.controller.issue_token(id(WEB), 1, minute).unwrap();
    fs::create_dir(folder.join("tokens.json.new")).unwrap();
    let unkept = plane.controller.issue_token(id(WEB), 1, minute);
    assert!(matches!(unkept, Err(TokenError::NotKept(_))), "{unkept:?}");
    let unkept = plane.sidecar(WEB).sign(&last).await.unwrap_err();
    assert_eq!(refusal(&unkept), (Code::Internal, "authority_failed".to_owned()));
    // The use is still there when there is room again, and then it is spent for good.
    fs::remove_dir(folder.join("tokens.json.new")).unwrap();
    plane.sidecar(WEB).sign(&last).await.unwrap();
    drop(plane);
    let plane = Plane::keeping(&folder);
    let again = plane.sidecar(WEB).sign(&last).await.unwrap_err();
    assert_eq!(refusal(&again), denied("token_unknown"));
    drop(plane);
    fs::remove_dir_all(&folder).unwrap();
}

/// Decides by the identity alone, whatever speaks for it.
struct Careless {
    attests: bool,
}

impl Decisions for Careless {
    fn decide(&self, _: Attempt) -> Deciding<'_> {
        Box::pin(std::future::ready(Decision::Allow { ttl: None }))
    }

    fn attests(&self) -> bool {
        self.attests
    }
}

/// Believes certificates and tokens of this control plane, and counts how often it is asked.
struct Counting(Arc<AtomicUsize>);

impl Decisions for Counting {
    fn decide(&self, attempt: Attempt) -> Deciding<'_> {
        self.0.fetch_add(1, Relaxed);
        let reason = "nobody knows it".to_owned();
        Box::pin(std::future::ready(match attempt.proof {
            Proof::Certificate(_) | Proof::Token => Decision::Allow { ttl: None },
            Proof::OtherToken(_) | Proof::Attestation { .. } => Decision::Deny { reason },
        }))
    }

    fn attests(&self) -> bool {
        true
    }

    fn knows_other_tokens(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn nobody_is_let_in_by_evidence_that_nobody_looks_at() {
    let evidence = b"believe me";
    let plane = Plane::decided_by(Careless { attests: false });
    let error = plane.sidecar(WEB).attest("platform", evidence).await.unwrap_err();
    assert_eq!(refusal(&error), denied("no_attestor"));
    assert!(error.to_string().ends_with("nobody attests platform"), "{error}");
    let token = plane.controller.issue_token(id(WEB), 1, Duration::from_secs(60));
    plane.sidecar(WEB).sign(&token.unwrap()).await.unwrap();
    let plane = Plane::decided_by(Careless { attests: true });
    plane.sidecar(WEB).attest("platform", evidence).await.unwrap();
    let hidden = plane.sidecar(WEB).attest("\u{1b}[2J", evidence).await;
    assert_eq!(refusal(&hidden.unwrap_err()).0, Code::InvalidArgument);
}

#[tokio::test]
async fn signing_is_limited_and_who_had_to_wait_has_lost_nothing() {
    // The control plane's own certificate is none of these.
    let plane = Plane::signing(1, 2);
    let token = plane
        .controller
        .issue_token(id(WEB), 100, Duration::from_secs(60))
        .unwrap();
    let mut signed = 0;
    let refused = loop {
        match plane.sidecar(WEB).sign(&token).await {
            Ok(_) => signed += 1,
            Err(error) => break refusal(&error),
        }
        assert!(signed < 50, "nothing limits it");
    };
    assert_eq!(refused, limited());
    assert!(signed >= 2, "{signed}");
    within(async {
        while plane.sidecar(WEB).sign(&token).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_has_stolen_a_certificate_uses_up_nobody_elses_share() {
    let rates = Rates {
        identity_per_second: 1,
        identity_burst: 5,
        ..Rates::default()
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let plane = Plane::asked(rates, Counting(Arc::clone(&asked)));
    let thief = plane.member(WEB).await;
    let mut renewed = 0;
    let refused = loop {
        match thief.renew().await {
            Ok(()) => renewed += 1,
            Err(error) => break refusal(&error),
        }
        assert!(renewed < 200, "nothing limits it");
    };
    assert_eq!(refused, limited());
    assert_eq!(
        asked.load(Relaxed),
        renewed + 1,
        "nobody decides what is refused anyway"
    );
    plane.member(TILL).await.renew().await.unwrap();
}

/// How many ask at once.
const TOGETHER: usize = 2;

/// Spends tokens of other control planes, of which each is good once.
struct Spending {
    spent: Arc<AtomicUsize>,
    /// How many have to ask before anybody of them is answered.
    together: Arc<Barrier>,
}

impl Decisions for Spending {
    fn decide(&self, attempt: Attempt) -> Deciding<'_> {
        Box::pin(async move {
            if matches!(attempt.proof, Proof::OtherToken(_)) {
                // Whoever comes after them is answered at once.
                if self.spent.fetch_add(1, Relaxed) < TOGETHER {
                    self.together.wait().await;
                }
            }
            Decision::Allow { ttl: None }
        })
    }

    fn knows_other_tokens(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn no_token_of_another_control_plane_is_spent_for_nothing() {
    // What is scarce: the share of the identity, and the rate of all.
    for (identity_burst, burst) in [(1, 100), (100, 1)] {
        let mut settings = Settings::new("mesh.test".parse().unwrap());
        (settings.rates.identity_per_second, settings.rates.identity_burst) = (1, identity_burst);
        (settings.authority.per_second, settings.authority.burst) = (1, burst);
        while !who_is_late_has_spent_nothing(settings.clone()).await {}
    }
}

/// False where that can't be told, since there was room again when it came: a process that stood still for a second.
async fn who_is_late_has_spent_nothing(settings: Settings) -> bool {
    let token = |digit: &str| format!("mesh-token-{}", digit.repeat(64));
    let (first, second, third) = (token("1"), token("2"), token("3"));
    let spent = Arc::new(AtomicUsize::new(0));
    let together = Arc::new(Barrier::new(TOGETHER));
    let decisions = Spending {
        spent: Arc::clone(&spent),
        together,
    };
    let plane = Plane::with(settings, decisions);
    let (one, other) = (plane.sidecar(WEB), plane.sidecar(WEB));
    let begun = Instant::now();
    // Both at once, and there is room for one.
    let both = tokio::join!(one.sign(&first), other.sign(&second));
    both.0.unwrap();
    both.1.unwrap();
    let late = plane.sidecar(WEB).sign(&third).await;
    if begun.elapsed() >= Duration::from_secs(1) {
        return false;
    }
    assert_eq!(refusal(&late.unwrap_err()), limited());
    assert_eq!(spent.load(Relaxed), TOGETHER, "who is refused has spent nothing");
    true
}

#[tokio::test]
async fn strangers_are_not_judged_without_end_and_who_has_a_token_is_none() {
    let rates = Rates {
        stranger_per_second: 1,
        stranger_burst: 3,
        ..Rates::default()
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let plane = Plane::asked(rates, Counting(Arc::clone(&asked)));
    let unknown = format!("mesh-token-{}", "0".repeat(64));
    let mut tries = 0;
    let refused = loop {
        let by_token = plane.sidecar(WEB).sign(&unknown).await.unwrap_err();
        let by_evidence = plane.sidecar(WEB).attest("platform", b"me").await.unwrap_err();
        tries += 2;
        if refusal(&by_token) == limited() && refusal(&by_evidence) == limited() {
            break tries;
        }
        assert!(tries < 200, "nothing limits them");
    };
    assert!(asked.load(Relaxed) < refused, "some were not decided");
    plane.member(TILL).await.renew().await.unwrap();
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_and_its_tokens_are_void() {
    let plane = Plane::start();
    let web = plane.member(WEB).await;
    let mut reports = web.reports("web-1").await;
    within(plane.until(|sidecars| sidecars.len() == 1)).await;
    let token = plane
        .controller
        .issue_token(id(WEB), 5, Duration::from_secs(60))
        .unwrap();
    plane.controller.revoke(WEB).unwrap();
    let error = end_of(&mut reports).await;
    assert_eq!(refusal(&error), denied("revoked"));
    within(plane.until(|sidecars| sidecars.is_empty())).await;
    let again = plane.sidecar(WEB).sign(&token).await.unwrap_err();
    assert_eq!(refusal(&again), denied("revoked"));
    // Whoever has its certificate is no better off.
    let renewal = web.renew().await.unwrap_err();
    assert!(
        renewal.status().is_some() || renewal.rejection().is_some(),
        "{renewal}"
    );
    assert!(plane.controller.allow(WEB).unwrap());
    let old = plane.sidecar(WEB).sign(&token).await.unwrap_err();
    assert_eq!(refusal(&old), denied("token_unknown"));
    plane.member(WEB).await;
}

#[tokio::test]
async fn a_revocation_that_cant_be_stored_is_stored_later_and_keeps_no_token() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("unkept-{}", std::process::id()));
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let plane = Plane::keeping(&folder);
    let minute = Duration::from_secs(60);
    for identity in [WEB, TILL] {
        plane.controller.issue_token(id(identity), 1, minute).unwrap();
    }
    // Nothing can be written beside it.
    let draft = |name: &str| folder.join(format!("{name}.new"));
    fs::create_dir(draft("denied.json")).unwrap();
    let unkept = plane.controller.revoke(WEB);
    assert!(matches!(unkept, Err(RevokeError::NotKept(_))), "{unkept:?}");
    assert_eq!(plane.controller.revoked(), [WEB]);
    assert!(!text("tokens.json").contains(WEB), "{}", text("tokens.json"));
    fs::create_dir(draft("tokens.json")).unwrap();
    let unkept = plane.controller.revoke(TILL);
    assert!(matches!(unkept, Err(RevokeError::NotKept(_))), "{unkept:?}");
    for name in ["denied.json", "tokens.json"] {
        fs::remove_dir(draft(name)).unwrap();
    }
    within(async {
        let is_kept = || {
            let (denied, tokens) = (text("denied.json"), text("tokens.json"));
            denied.contains(WEB) && denied.contains(TILL) && !tokens.contains(TILL)
        };
        while !is_kept() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(plane);
    fs::remove_dir_all(&folder).unwrap();
}

/// Changes while a subscriber reads nothing.
const CHANGES: u32 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_revocations_that_nobody_reads_no_more_waits_than_one_list() {
    const REVOKED: usize = 2000;
    let plane = Plane::start();
    let web = plane.member(WEB).await;
    let mut reports = web.reports("web-1").await;
    within(plane.until(|sidecars| sidecars.len() == 1)).await;
    for number in 0..REVOKED {
        let id = format!("spiffe://mesh.test/ns/shop/sa/revoked-{number}");
        plane.controller.revoke(&id).unwrap();
    }
    for _ in 0..CHANGES / 2 {
        plane.controller.revoke(TILL).unwrap();
        plane.controller.allow(TILL).unwrap();
    }
    plane.controller.revoke(TILL).unwrap();
    let (mut lists, mut list) = (0, Vec::new());
    within(async {
        loop {
            let message = reports.incoming.receive().await.unwrap().unwrap();
            let Some(FromControl::Denied(denied)) = message.message else {
                continue;
            };
            list.extend(denied.identities);
            if denied.more {
                continue;
            }
            lists += 1;
            if list.len() > REVOKED && list.iter().any(|id| id == TILL) {
                break;
            }
            list.clear();
        }
    })
    .await;
    assert_eq!(list.len(), REVOKED + 1);
    // What had left before the way was full, one list that waited, and the last one.
    assert!(lists < 50, "{lists} lists");
    assert_eq!(plane.controller.sidecars().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_resources_that_nobody_reads_one_response_waits() {
    let plane = Plane::start();
    let web = plane.member(WEB).await;
    let workload = |default_policy, policies: usize| {
        let policy = |number| AuthorizationPolicy {
            name: format!("policy-{number}-{}", "x".repeat(200)),
            targets: vec![PolicyTarget::Listener("inbound".into())],
            action: PolicyAction::Allow,
            mode: PolicyMode::Enforce,
            rules: Vec::new(),
        };
        let mut batch = Batch::default();
        batch.upsert.workloads.push(Workload {
            name: WEB.into(),
            default_policy,
            policies: (0..policies).map(policy).collect(),
            ports: None,
        });
        plane.controller.apply(batch).unwrap();
    };
    workload(PolicyDefault::Deny, 100);
    let mut ads = web.resources().await;
    let mut asks = DeltaDiscoveryRequest {
        type_url: Kind::Listener.type_url().to_owned(),
        resource_names_subscribe: vec![WEB.into()],
        ..DeltaDiscoveryRequest::default()
    };
    within(ads.outgoing.send(&asks)).await.unwrap();
    for _ in 0..CHANGES / 2 {
        workload(PolicyDefault::Allow, 100);
        workload(PolicyDefault::Deny, 100);
    }
    workload(PolicyDefault::Deny, 1);
    asks.resource_names_subscribe.clear();
    let mut responses = Vec::new();
    within(async {
        while responses.last().is_none_or(|bytes| *bytes > 10_000) {
            let response = ads.incoming.receive().await.unwrap().unwrap();
            responses.push(response.encoded_len());
            asks.response_nonce = response.nonce;
            ads.outgoing.send(&asks).await.unwrap();
        }
    })
    .await;
    // The one that waited, and what holds.
    assert!(responses.len() <= 2, "{responses:?}");
}

#[tokio::test]
async fn a_name_is_taken_from_nobody_by_another_identity() {
    let plane = Plane::start();
    let (web, till) = (plane.member(WEB).await, plane.member(TILL).await);
    let mut first = web.reports("web-1").await;
    let mut thief = till.reports("web-1").await;
    within(plane.until(|sidecars| sidecars.len() == 2)).await;
    for reports in [&mut first, &mut thief] {
        reports
            .outgoing
            .send(&FromSidecar::Ready(Ready {}).into())
            .await
            .unwrap();
    }
    within(plane.until(|sidecars| sidecars.iter().all(|one| one.phase == Phase::Ready))).await;
    drop((thief, till));
    within(plane.until(|sidecars| sidecars.len() == 1)).await;
    let left = plane.controller.sidecars();
    assert_eq!((&*left[0].identity, &*left[0].name), (WEB, "web-1"));
    // The same one may come again: that takes the place of what was.
    let _second = web.reports("web-1").await;
    let error = end_of(&mut first).await;
    assert_eq!(refusal(&error), (Code::Aborted, "replaced".into()));
    assert_eq!(plane.controller.sidecars().len(), 1);
}

fn edges(numbers: std::ops::Range<usize>) -> FromSidecar {
    let edge = |number: usize| Edge {
        service: format!("service-{number}"),
        requests: 1,
        ..Edge::default()
    };
    FromSidecar::Telemetry(Telemetry {
        interval_ms: 1,
        edges: numbers.map(edge).collect(),
        decisions: Vec::new(),
    })
}

/// What a stream of reports ends with once this was said on it.
async fn ends_with(sidecar: &Sidecar, name: &str, message: FromSidecar) -> (Code, String) {
    let mut reports = sidecar.reports(name).await;
    // It may end before all was sent.
    let _ = reports.outgoing.send(&message.into()).await;
    let error = end_of(&mut reports).await;
    let status = error.status().unwrap_or_else(|| panic!("{error}"));
    (status.code, status.message.clone())
}

#[tokio::test]
async fn a_hundred_thousand_edges_take_the_room_of_nobody_else() {
    let plane = Plane::start();
    let (web, till) = (plane.member(WEB).await, plane.member(TILL).await);
    let refused = ends_with(&web, "all at once", edges(0..100_000)).await;
    assert_eq!(refused, (Code::InvalidArgument, "edges: too many".into()));
    // Half a million that say nothing are small on the wire.
    let empty = Telemetry {
        interval_ms: 1,
        edges: vec![Edge::default(); 600_000],
        decisions: Vec::new(),
    };
    let (code, text) = ends_with(&web, "nothing", FromSidecar::Telemetry(empty)).await;
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("holds too many fields"), "{text}");

    let mut reports = web.reports("one by one").await;
    for part in 0..100_000 / MAX_EDGES {
        let part = edges(part * MAX_EDGES..(part + 1) * MAX_EDGES);
        reports.outgoing.send(&part.into()).await.unwrap();
    }
    let requests = |identity: &str| -> u64 {
        let edges = plane.controller.edges();
        let own = edges.iter().filter(|edge| edge.identity == identity);
        own.map(|edge| edge.requests).sum()
    };
    within(async {
        while requests(WEB) < 100_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(plane.controller.edges().len(), MAX_EDGES_OF_ONE + 1);
    let mut reports = till.reports("till-1").await;
    reports.outgoing.send(&edges(0..1).into()).await.unwrap();
    within(async {
        while requests(TILL) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let all = plane.controller.edges();
    let own = all.iter().find(|edge| edge.identity == TILL).unwrap();
    assert_eq!(own.service, "service-0", "by its name");
}
