//! What is a subscriber told that knows states of the world only, and when?
//!
//! gRPC's clients are such. A response says all that was asked for of a kind, and what it lacks is gone, where the kind
//! says so (listeners and clusters); route tables and endpoints that are gone are not spoken of, and go with who uses
//! them.
//!
//! Invariants:
//! - A response is sent when it says something else than the last one of its kind, or was asked for with other names.
//! - Make before break: a cluster that is gone is said to be there until all that is new was answered.
//! - One response at a time waits for its answer.
//! - What is refused is not sent again until it changes; the reason is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalogue::{ByName, content_hash};
use super::{ALL, Catalogue, MAX_NAMES, Refused, TooManyNames, shortened};
use crate::kind::Kind;
use crate::wire::{self, DiscoveryRequest, DiscoveryResponse};

/// A subscriber of states of the world, as the server sees it.
#[derive(Debug, Default)]
pub struct StateOfTheWorldStream {
    kinds: BTreeMap<Kind, Subscription>,
    nonces: u64,
    /// The response without an answer yet.
    waiting: Option<(Kind, String)>,
}

#[derive(Debug, Default)]
struct Subscription {
    names: BTreeSet<String>,
    all: bool,
    /// Other names were asked for since the last response.
    is_asked: bool,
    /// The last response, whether it was accepted or not.
    told: ByName,
    nonce: String,
    refused: Option<Refused>,
}

impl StateOfTheWorldStream {
    /// Takes a request. Those for kinds that are not served are passed over, as are answers to what is outdated.
    ///
    /// # Errors
    /// That it asks for more names than anyone needs.
    pub fn received(&mut self, request: DiscoveryRequest) -> Result<(), TooManyNames> {
        let Some(kind) = Kind::of(&request.type_url) else {
            return Ok(());
        };
        let first = !self.kinds.contains_key(&kind);
        let of_kind = self.kinds.entry(kind).or_default();
        if !first && request.response_nonce != of_kind.nonce {
            return Ok(());
        }
        if self.waiting.take_if(|(waiting, _)| *waiting == kind).is_some() {
            of_kind.refused = request.error_detail.map(|status| Refused {
                version: of_kind.version(),
                reason: shortened(status.message),
            });
        }
        let mut names: BTreeSet<_> = request.resource_names.into_iter().collect();
        // Whoever never named any asks for everything, where the kind allows it.
        let may_be_all = kind.is_whole() && (first || of_kind.all);
        let all = names.remove(ALL) || (may_be_all && names.is_empty());
        if names.len() > MAX_NAMES {
            return Err(TooManyNames);
        }
        of_kind.is_asked |= first || all != of_kind.all || !names.is_subset(&of_kind.names);
        (of_kind.names, of_kind.all) = (names, all);
        Ok(())
    }

    /// The next response, if the subscriber lacks something and has answered the last. Ask again after each request and
    /// after each change of the catalogue.
    pub fn poll_response(&mut self, catalogue: &Catalogue) -> Option<DiscoveryResponse> {
        if self.waiting.is_some() {
            return None;
        }
        let forth = Kind::ALL.into_iter().map(|kind| (kind, true));
        let back = Kind::ALL.into_iter().rev().map(|kind| (kind, false));
        let (kind, resources) = forth.chain(back).find_map(|(kind, keeps)| {
            let of_kind = self.kinds.get(&kind)?;
            let resources = of_kind.wanted(kind, catalogue, keeps);
            of_kind.lacks(kind, &resources).then_some((kind, resources))
        })?;
        let of_kind = self.kinds.get_mut(&kind)?;
        self.nonces += 1;
        of_kind.nonce = self.nonces.to_string();
        of_kind.told = resources;
        of_kind.is_asked = false;
        self.waiting = Some((kind, of_kind.nonce.clone()));
        Some(DiscoveryResponse {
            version_info: of_kind.version(),
            // The content is shared with all other streams until here.
            resources: of_kind
                .told
                .values()
                .filter_map(|each| each.resource.clone())
                .collect(),
            type_url: kind.type_url().to_owned(),
            nonce: of_kind.nonce.clone(),
        })
    }

    /// What the subscriber refused and has not accepted since. It speaks of a response as a whole: all that was in it is
    /// named.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &str, &Refused)> {
        self.kinds.iter().flat_map(|(kind, of_kind)| {
            let names = of_kind.refused.iter().flat_map(|refused| {
                let names = of_kind.told.keys();
                names.map(move |name| (&**name, refused))
            });
            names.map(|(name, refused)| (*kind, name, refused))
        })
    }
}

impl Subscription {
    /// What is there of what it asked for; and, if it `keeps`, what it was told of and is gone.
    fn wanted(&self, kind: Kind, catalogue: &Catalogue, keeps: bool) -> ByName {
        let resources = catalogue.of(kind);
        if self.all {
            let mut all = resources.clone();
            let gone = self.told.iter().filter(|_| keeps && kind.is_whole());
            for (name, resource) in gone {
                all.entry(name.clone()).or_insert_with(|| Arc::clone(resource));
            }
            return all;
        }
        let named = self.names.iter().filter_map(|name| {
            let held = || self.told.get(name.as_str()).filter(|_| keeps && kind.is_whole());
            let resource = catalogue.named(kind, name).or_else(held)?;
            Some((name.as_str().into(), Arc::clone(resource)))
        });
        named.collect()
    }

    /// Whether this is to be said.
    fn lacks(&self, kind: Kind, resources: &ByName) -> bool {
        let says = |whole: bool| whole || !resources.is_empty();
        if self.is_asked {
            return says(kind.is_whole());
        }
        let known = |(name, resource): (&Arc<str>, &Arc<wire::Resource>)| {
            let told = self.told.get(name);
            told.is_some_and(|told| told.version == resource.version)
        };
        let wants = |name: &&Arc<str>| self.all || self.names.contains(&***name);
        let mut told = self.told.keys().filter(wants);
        let is_less = kind.is_whole() && told.any(|name| !resources.contains_key(name));
        is_less || !resources.iter().all(known)
    }

    /// The version of the last response: the same on every instance that says the same.
    fn version(&self) -> String {
        let parts = self
            .told
            .iter()
            .flat_map(|(name, resource)| [name.as_bytes(), b"\0", resource.version.as_bytes(), b"\0"]);
        format!("{:032x}", content_hash(parts.flatten().copied()))
    }
}

#[cfg(test)]
mod tests {
    use mesh_model::resources::{Cluster, Endpoints};

    use super::super::tests::catalogue;
    use super::*;
    use crate::translate::Translate;
    use crate::wire::Status;

    fn asks(kind: Kind, names: &[&str], nonce: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.into(),
            ..DiscoveryRequest::default()
        }
    }

    fn names_of(response: &DiscoveryResponse) -> Vec<String> {
        let clusters = response.resources.iter();
        clusters
            .map(|any| match Kind::of(&response.type_url) {
                Some(Kind::Cluster) => Cluster::from_any(any).unwrap().name,
                _ => Endpoints::from_any(any).unwrap().cluster,
            })
            .collect()
    }

    /// Sends all there is and accepts it: what came, in order.
    fn all(
        stream: &mut StateOfTheWorldStream,
        catalogue: &Catalogue,
        names: &[&str],
    ) -> Vec<(Kind, Vec<String>)> {
        let mut seen = Vec::new();
        while let Some(response) = stream.poll_response(catalogue) {
            let kind = Kind::of(&response.type_url).unwrap();
            assert_eq!(stream.poll_response(catalogue), None, "one at a time");
            stream.received(asks(kind, names, &response.nonce)).unwrap();
            seen.push((kind, names_of(&response)));
        }
        seen
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_gone_is_there_until_all_that_is_new_was_answered() {
        let mut stream = StateOfTheWorldStream::default();
        stream.received(asks(Kind::Endpoints, &["a", "b"], "")).unwrap();
        stream.received(asks(Kind::Cluster, &["a", "b"], "")).unwrap();
        let names = ["a", "b"];
        assert_eq!(
            all(&mut stream, &catalogue(&["a", "c"]), &names),
            [(Kind::Cluster, owned(&["a"])), (Kind::Endpoints, owned(&["a"]))]
        );
        assert_eq!(all(&mut stream, &catalogue(&["a", "c"]), &names), []);
        assert_eq!(
            all(&mut stream, &catalogue(&["b"]), &names),
            [
                (Kind::Cluster, owned(&["a", "b"])),
                (Kind::Endpoints, owned(&["b"])),
                (Kind::Cluster, owned(&["b"])),
            ]
        );
    }

    #[test]
    fn a_first_request_without_names_asks_for_all_clusters_and_for_no_endpoints() {
        let mut stream = StateOfTheWorldStream::default();
        stream.received(asks(Kind::Endpoints, &[], "")).unwrap();
        stream.received(asks(Kind::Cluster, &[], "")).unwrap();
        let now = catalogue(&["a", "b"]);
        assert_eq!(all(&mut stream, &now, &[]), [(Kind::Cluster, owned(&["a", "b"]))]);
        assert_eq!(
            all(&mut stream, &catalogue(&["b"]), &[]),
            [(Kind::Cluster, owned(&["b"]))]
        );
    }

    #[test]
    fn who_asks_for_other_names_is_answered_even_if_there_is_nothing() {
        let mut stream = StateOfTheWorldStream::default();
        stream.received(asks(Kind::Cluster, &["late"], "")).unwrap();
        let response = stream.poll_response(&catalogue(&[])).unwrap();
        assert!(response.resources.is_empty());
        stream
            .received(asks(Kind::Cluster, &["late", "never"], &response.nonce))
            .unwrap();
        let response = stream.poll_response(&catalogue(&["late"])).unwrap();
        assert_eq!(names_of(&response), ["late"]);
        stream
            .received(asks(Kind::Cluster, &["late"], &response.nonce))
            .unwrap();
        assert_eq!(stream.poll_response(&catalogue(&["late"])), None);
        stream.received(asks(Kind::Endpoints, &["ghost"], "")).unwrap();
        assert_eq!(
            stream.poll_response(&catalogue(&["late"])),
            None,
            "no endpoints, no word"
        );
    }

    #[test]
    fn a_refusal_is_kept_and_what_is_outdated_is_no_answer() {
        let mut now = catalogue(&["a"]);
        let mut stream = StateOfTheWorldStream::default();
        stream.received(asks(Kind::Cluster, &["a"], "")).unwrap();
        let response = stream.poll_response(&now).unwrap();
        stream.received(asks(Kind::Cluster, &["a"], "stale")).unwrap();
        assert_eq!(stream.poll_response(&now), None);
        let mut no = asks(Kind::Cluster, &["a"], &response.nonce);
        no.error_detail = Some(Status {
            code: 3,
            message: "a: no".into(),
        });
        stream.received(no).unwrap();
        assert_eq!(stream.poll_response(&now), None, "not sent again as it is");
        let refused: Vec<_> = stream
            .refused()
            .map(|(_, name, why)| (name, &*why.reason))
            .collect();
        assert_eq!(refused, [("a", "a: no")]);
        let mut better = Cluster::new("a");
        better.limits.requests = 7;
        now.put("a", &better).unwrap();
        all(&mut stream, &now, &["a"]);
        assert_eq!(stream.refused().count(), 0);
    }

    #[test]
    fn more_names_than_anyone_needs_end_the_stream() {
        let many: Vec<String> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
        let mut request = asks(Kind::Cluster, &[], "");
        request.resource_names = many;
        assert_eq!(
            StateOfTheWorldStream::default().received(request),
            Err(TooManyNames)
        );
    }
}
