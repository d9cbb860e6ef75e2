//! What of a sidecar's message is more than anyone needs?
//!
//! A message within its bytes may still hold names without end. Whoever sends such a one is not a sidecar of ours.

use mesh_model::spiffe::MAX_ID;

use crate::message::{Edge, FromSidecar, Hello, PolicyDecision, SidecarMessage, Telemetry};

/// The longest name of a sidecar, service, resource or reason, in bytes: that of a DNS name.
pub const MAX_NAME: usize = 253;
/// Services of one workload.
pub const MAX_SERVICES: usize = 64;
/// Edges of one message.
pub const MAX_EDGES: usize = 10_000;
/// Reasons of one edge: the closed list is shorter.
pub const MAX_FAILURES: usize = 128;
/// Buckets of a histogram: the layout has 109.
pub const MAX_BUCKETS: usize = 128;
/// Decisions of one message.
pub const MAX_DECISIONS: usize = 64;
/// Policies that one decision names.
pub const MAX_POLICIES: usize = 4;
/// The longest method or path of a decision, in bytes: 256 that were escaped, and dots.
pub const MAX_ASKED: usize = 1027;
/// The longest reason of a NACK, in bytes.
pub const MAX_NACK: usize = 1024;
/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 1024;
/// The longest evidence, in bytes. A signed JSON token has some 2,000.
pub const MAX_EVIDENCE: usize = 64 * 1024;

/// What is too much.
pub(crate) type TooMuch = &'static str;

fn within(ok: bool, what: TooMuch) -> Result<(), TooMuch> {
    ok.then_some(()).ok_or(what)
}

fn name(text: &str, what: TooMuch) -> Result<(), TooMuch> {
    within(text.len() <= MAX_NAME, what)?;
    plain(text)
}

/// What a sidecar says stands in logs, in audits and on terminals.
fn plain(text: &str) -> Result<(), TooMuch> {
    within(
        !text.chars().any(char::is_control),
        "control characters in a name",
    )
}

/// Whether a sidecar or a service can be called so.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && name(text, "").is_ok()
}

/// Whether a kind of attestation can be called so: letters, digits, `.`, `_` and `-`, since it stands in logs and audits.
pub fn is_kind(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}

impl crate::message::SignRequest {
    /// Whether nothing of it is too long.
    pub(crate) fn check(&self) -> Result<(), TooMuch> {
        within(self.csr.len() <= mesh_identity::csr::MAX_BYTES, "csr: too long")?;
        within(self.token.len() <= MAX_TOKEN, "token: too long")?;
        self.attestation.as_ref().map_or(Ok(()), |attestation| {
            within(is_kind(&attestation.kind), "attestation.kind: no name of one")?;
            within(
                attestation.evidence.len() <= MAX_EVIDENCE,
                "attestation.evidence: too long",
            )
        })
    }
}

impl SidecarMessage {
    /// Whether nothing of it is too long or too many.
    pub(crate) fn check(&self) -> Result<(), TooMuch> {
        match &self.message {
            Some(FromSidecar::Hello(hello)) => hello.check(),
            Some(FromSidecar::Aside(aside)) => {
                name(&aside.name, "name: too long")?;
                within(!aside.name.is_empty(), "name: empty")
            }
            Some(FromSidecar::Telemetry(telemetry)) => telemetry.check(),
            Some(FromSidecar::ConfigState(state)) => {
                name(&state.kind, "kind: too long")?;
                name(&state.name, "name: too long")?;
                name(&state.version, "version: too long")?;
                within(state.nack.len() <= MAX_NACK, "nack: too long")?;
                plain(&state.nack)
            }
            Some(FromSidecar::CertificateState(state)) => name(&state.serial, "serial: too long"),
            // A message of a later version says nothing to us.
            Some(FromSidecar::Ready(_) | FromSidecar::Draining(_)) | None => Ok(()),
        }
    }
}

impl Hello {
    fn check(&self) -> Result<(), TooMuch> {
        name(&self.name, "name: too long")?;
        within(!self.name.is_empty(), "name: empty")?;
        name(&self.inbound_address, "inbound_address: too long")?;
        name(&self.version, "version: too long")?;
        within(self.services.len() <= MAX_SERVICES, "services: too many")?;
        self.services.iter().try_for_each(|service| {
            name(&service.service, "services.service: too long")?;
            within(service.port <= u16::MAX.into(), "services.port: no port")
        })
    }
}

impl Telemetry {
    fn check(&self) -> Result<(), TooMuch> {
        within(self.edges.len() <= MAX_EDGES, "edges: too many")?;
        self.edges.iter().try_for_each(Edge::check)?;
        within(self.decisions.len() <= MAX_DECISIONS, "decisions: too many")?;
        self.decisions.iter().try_for_each(PolicyDecision::check)
    }
}

impl PolicyDecision {
    fn check(&self) -> Result<(), TooMuch> {
        name(&self.why, "decisions.why: too long")?;
        within(
            self.policies.len() <= MAX_POLICIES,
            "decisions.policies: too many",
        )?;
        for policy in &self.policies {
            name(policy, "decisions.policies: too long")?;
        }
        within(self.port <= u16::MAX.into(), "decisions.port: no port")?;
        within(self.caller.len() <= MAX_ID, "decisions.caller: too long")?;
        within(self.method.len() <= MAX_ASKED, "decisions.method: too long")?;
        within(self.path.len() <= MAX_ASKED, "decisions.path: too long")?;
        [&self.caller, &self.method, &self.path]
            .into_iter()
            .try_for_each(|text| plain(text))
    }
}

impl Edge {
    fn check(&self) -> Result<(), TooMuch> {
        within(self.peer.len() <= MAX_ID, "edges.peer: too long")?;
        plain(&self.peer)?;
        name(&self.service, "edges.service: too long")?;
        within(self.port <= u16::MAX.into(), "edges.port: no port")?;
        within(self.failures.len() <= MAX_FAILURES, "edges.failures: too many")?;
        for failures in &self.failures {
            name(&failures.reason, "edges.failures.reason: too long")?;
        }
        self.latency.as_ref().map_or(Ok(()), |latency| {
            within(
                latency.buckets.len() <= MAX_BUCKETS,
                "edges.latency.buckets: too many",
            )?;
            within(
                latency.buckets.len() == latency.counts.len(),
                "edges.latency.counts: not as many as buckets",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        Aside, Attestation, CertificateState, ConfigState, Histogram, Ready, ServicePort, SignRequest,
    };

    fn hello() -> Hello {
        Hello {
            name: "basket-1".into(),
            ..Hello::default()
        }
    }

    fn judged(message: FromSidecar) -> Result<(), TooMuch> {
        SidecarMessage::from(message).check()
    }

    #[test]
    fn evidence_is_bounded_and_of_a_kind() {
        let judged = |kind: &str, bytes: usize| {
            let attestation = Attestation {
                kind: kind.to_owned(),
                evidence: vec![b'x'; bytes],
            };
            let request = SignRequest {
                attestation: Some(attestation),
                ..SignRequest::default()
            };
            request.check()
        };
        assert_eq!(judged("k8s_psat-1.0", MAX_EVIDENCE), Ok(()));
        assert_eq!(judged(&"k".repeat(MAX_NAME), 0), Ok(()));
        assert_eq!(
            judged("platform", MAX_EVIDENCE + 1),
            Err("attestation.evidence: too long")
        );
        for wrong in [
            "",
            "a kind",
            "k\n",
            "k\u{1b}[2J",
            "k=",
            "ä",
            &"k".repeat(MAX_NAME + 1),
        ] {
            assert_eq!(
                judged(wrong, 1),
                Err("attestation.kind: no name of one"),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn nothing_that_a_sidecar_says_is_a_line_or_an_order_to_a_terminal() {
        let odd = [
            "evil\nbasket-1: ready",
            "evil\u{1b}[2J",
            "evil\r",
            "\u{9b}2J",
            "a\0",
            "\u{7f}",
        ];
        for odd in odd.map(str::to_owned) {
            assert!(!is_name(&odd), "{odd:?}");
            let of_service = ServicePort {
                service: odd.clone(),
                ..ServicePort::default()
            };
            let edge = |edge: Edge| {
                FromSidecar::Telemetry(Telemetry {
                    edges: vec![edge],
                    ..Telemetry::default()
                })
            };
            let decision = |decision: PolicyDecision| {
                FromSidecar::Telemetry(Telemetry {
                    decisions: vec![decision],
                    ..Telemetry::default()
                })
            };
            let messages = [
                FromSidecar::Hello(Hello {
                    name: odd.clone(),
                    ..hello()
                }),
                FromSidecar::Aside(Aside { name: odd.clone() }),
                FromSidecar::Hello(Hello {
                    inbound_address: odd.clone(),
                    ..hello()
                }),
                FromSidecar::Hello(Hello {
                    version: odd.clone(),
                    ..hello()
                }),
                FromSidecar::Hello(Hello {
                    services: vec![of_service],
                    ..hello()
                }),
                FromSidecar::ConfigState(ConfigState {
                    kind: odd.clone(),
                    ..ConfigState::default()
                }),
                FromSidecar::ConfigState(ConfigState {
                    name: odd.clone(),
                    ..ConfigState::default()
                }),
                FromSidecar::ConfigState(ConfigState {
                    nack: odd.clone(),
                    ..ConfigState::default()
                }),
                FromSidecar::CertificateState(CertificateState {
                    serial: odd.clone(),
                    ..CertificateState::default()
                }),
                edge(Edge {
                    peer: odd.clone(),
                    ..Edge::default()
                }),
                edge(Edge {
                    service: odd.clone(),
                    ..Edge::default()
                }),
                decision(PolicyDecision {
                    caller: odd.clone(),
                    ..PolicyDecision::default()
                }),
                decision(PolicyDecision {
                    method: odd.clone(),
                    ..PolicyDecision::default()
                }),
                decision(PolicyDecision {
                    path: odd.clone(),
                    ..PolicyDecision::default()
                }),
                decision(PolicyDecision {
                    policies: vec![odd.clone()],
                    ..PolicyDecision::default()
                }),
            ];
            for message in messages {
                assert_eq!(
                    judged(message.clone()),
                    Err("control characters in a name"),
                    "{message:?}"
                );
            }
        }
        assert!(
            is_name("basket-1") && is_name("Körbchen") && !is_name("") && !is_name(&"n".repeat(MAX_NAME + 1))
        );
    }

    #[test]
    fn what_is_too_much_is_named() {
        assert_eq!(judged(FromSidecar::Hello(hello())), Ok(()));
        assert_eq!(judged(FromSidecar::Ready(Ready {})), Ok(()));
        assert_eq!(SidecarMessage::default().check(), Ok(()));
        assert_eq!(judged(FromSidecar::Hello(Hello::default())), Err("name: empty"));
        let services = vec![ServicePort::default(); MAX_SERVICES + 1];
        let many = Hello { services, ..hello() };
        assert_eq!(judged(FromSidecar::Hello(many)), Err("services: too many"));
        let long = ConfigState {
            name: "x".repeat(MAX_NAME + 1),
            ..ConfigState::default()
        };
        assert_eq!(judged(FromSidecar::ConfigState(long)), Err("name: too long"));
        let decisions = |count: usize, path: &str| {
            let decision = PolicyDecision {
                path: path.to_owned(),
                ..PolicyDecision::default()
            };
            judged(FromSidecar::Telemetry(Telemetry {
                decisions: vec![decision; count],
                ..Telemetry::default()
            }))
        };
        assert_eq!(decisions(MAX_DECISIONS, &"x".repeat(MAX_ASKED)), Ok(()));
        assert_eq!(decisions(MAX_DECISIONS + 1, ""), Err("decisions: too many"));
        let long = "x".repeat(MAX_ASKED + 1);
        assert_eq!(decisions(1, &long), Err("decisions.path: too long"));
        let uneven = Histogram {
            buckets: vec![1],
            ..Histogram::default()
        };
        let edges = vec![Edge {
            latency: Some(uneven),
            ..Edge::default()
        }];
        let telemetry = Telemetry {
            edges,
            ..Telemetry::default()
        };
        assert_eq!(
            judged(FromSidecar::Telemetry(telemetry)),
            Err("edges.latency.counts: not as many as buckets")
        );
    }
}
