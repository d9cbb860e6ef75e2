//! EDS: `ClusterLoadAssignment` and [`Endpoints`].

use std::collections::HashSet;

use bytes::Bytes;
use mesh_model::resources::{Endpoint, Endpoints, Health, Locality};
use mesh_model::spiffe::{SpiffeError, SpiffeId};

use prost::Message;

use super::values::{address, to_address};
use super::{OURS, Refusal, Translate, our_metadata, to_metadata};
use crate::bounded::{self, Refused};
use crate::kind::Kind;
use crate::wire;

/// Numbers in all endpoints of a cluster: some 12,000 that have identities. The worst that can be made of it takes 15 MB.
const MAX_NUMBERS_OF_ALL: usize = 420 * 1024;
/// Numbers in one: it may have 500 labels.
const MAX_NUMBERS_OF_ONE: usize = 4096;

/// The key of our metadata that is no label.
const IDENTITY: &str = "identity";

/// `envoy.config.core.v3.HealthStatus`.
mod health {
    pub(super) const UNKNOWN: i32 = 0;
    pub(super) const HEALTHY: i32 = 1;
    pub(super) const UNHEALTHY: i32 = 2;
    pub(super) const DRAINING: i32 = 3;
}

impl Translate for Endpoints {
    const KIND: Kind = Kind::Endpoints;
    type Message = wire::ClusterLoadAssignment;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        if message
            .policy
            .is_some_and(|policy| !policy.drop_overloads.is_empty())
        {
            return Err(Refusal::new(
                "policy.drop_overloads",
                "shedding by category is not known, and more than was meant would reach the servers",
            ));
        }
        let mut seen = HashSet::new();
        let mut localities = Vec::new();
        let mut left = MAX_NUMBERS_OF_ALL;
        for (number, group) in message.endpoints.into_iter().enumerate() {
            if !seen.insert((group.priority, group.locality.clone().unwrap_or_default())) {
                let reason = "the same locality stands twice in one priority";
                return Err(Refusal::new(format!("endpoints[{number}].locality"), reason));
            }
            // Weight 0 means: no traffic. The model has no such locality.
            if group.load_balancing_weight != Some(0) {
                let locality = locality(group, &mut left);
                localities.push(locality.map_err(|refusal| refusal.within(&format!("endpoints[{number}]")))?);
            }
        }
        Ok(Self {
            cluster: message.cluster_name,
            localities,
        })
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        let mut seen = HashSet::new();
        let mut endpoints = Vec::with_capacity(self.localities.len());
        for (number, locality) in self.localities.iter().enumerate() {
            let place = to_place(&locality.zone);
            if !seen.insert((locality.priority, place.clone())) {
                let reason = "xDS wants localities of one priority to differ in their zone";
                return Err(Refusal::new(format!("localities[{number}].zone"), reason));
            }
            endpoints.push(wire::LocalityLbEndpoints {
                locality: Some(place),
                lb_endpoints: locality
                    .endpoints
                    .iter()
                    .map(|endpoint| Ok(to_lb_endpoint(endpoint)?.encode_to_vec().into()))
                    .collect::<Result<_, Refusal>>()
                    .map_err(|refusal| refusal.within(&format!("localities[{number}].endpoints")))?,
                load_balancing_weight: Some(locality.weight),
                priority: locality.priority,
                leds_cluster_locality_config: None,
            });
        }
        Ok(wire::ClusterLoadAssignment {
            cluster_name: self.cluster.clone(),
            endpoints,
            policy: None,
        })
    }
}

/// Reads the endpoints one by one, so that no more than one of them is there as a message.
fn locality(group: wire::LocalityLbEndpoints, left: &mut usize) -> Result<Locality, Refusal> {
    if group.leds_cluster_locality_config.is_some() {
        return Err(Refusal::new(
            "leds_cluster_locality_config",
            "endpoints that are found elsewhere are not known",
        ));
    }
    let endpoints = group.lb_endpoints.into_iter().enumerate();
    let endpoints = endpoints.map(|(number, bytes)| {
        let endpoint = read(bytes, left).and_then(lb_endpoint);
        endpoint.map_err(|refusal| refusal.within(&format!("lb_endpoints[{number}]")))
    });
    Ok(Locality {
        zone: zone(&group.locality.unwrap_or_default()),
        priority: group.priority,
        weight: group.load_balancing_weight.unwrap_or(1),
        endpoints: endpoints.collect::<Result<_, _>>()?,
    })
}

/// Reads an endpoint, of what is left to all.
fn read(bytes: Bytes, left: &mut usize) -> Result<wire::LbEndpoint, Refusal> {
    let most = MAX_NUMBERS_OF_ONE.min(*left);
    let mut unread = most;
    let read = bounded::decode_part(bytes, &mut unread);
    *left -= most - unread;
    read.map_err(|refused| match refused {
        Refused::TooMuch { .. } if most < MAX_NUMBERS_OF_ONE => Refusal::new(
            "",
            format!("all endpoints hold too many fields: more than {MAX_NUMBERS_OF_ALL} numbers"),
        ),
        refused => Refusal::new("", refused.to_string()),
    })
}

fn lb_endpoint(endpoint: wire::LbEndpoint) -> Result<Endpoint, Refusal> {
    let identity = identity(endpoint.metadata.as_ref())?;
    let mut metadata = our_metadata(endpoint.metadata.as_ref());
    metadata.remove(IDENTITY);
    let place = endpoint
        .endpoint
        .ok_or_else(|| Refusal::new("endpoint", "named endpoints are not known"))?;
    Ok(Endpoint {
        address: address(place.address).map_err(|refusal| refusal.within("endpoint.address"))?,
        weight: endpoint.load_balancing_weight.unwrap_or(1),
        health: match endpoint.health_status {
            health::UNKNOWN | health::HEALTHY => Health::Healthy,
            health::DRAINING => Health::Draining,
            _ => Health::Unhealthy,
        },
        identity,
        metadata,
    })
}

fn identity(metadata: Option<&wire::Metadata>) -> Result<Option<SpiffeId>, Refusal> {
    let refusal = |reason: &str| Refusal::new(format!("metadata.{OURS}.{IDENTITY}"), reason);
    let ours = metadata.and_then(|metadata| metadata.filter_metadata.get(OURS));
    let Some(value) = ours.and_then(|ours| ours.fields.get(IDENTITY)) else {
        return Ok(None);
    };
    let text = value.string_value.as_ref().ok_or_else(|| refusal("is no text"))?;
    let id = text
        .parse()
        .map_err(|error: SpiffeError| refusal(&error.to_string()))?;
    Ok(Some(id))
}

fn to_lb_endpoint(endpoint: &Endpoint) -> Result<wire::LbEndpoint, Refusal> {
    let mut metadata = endpoint.metadata.clone();
    // A label must not become an identity.
    if metadata.contains_key(IDENTITY) {
        return Err(Refusal::new(
            format!("metadata.{IDENTITY}"),
            "is the name of what is said about the endpoint itself",
        ));
    }
    if let Some(identity) = &endpoint.identity {
        metadata.insert(IDENTITY.to_owned(), identity.as_str().to_owned());
    }
    Ok(wire::LbEndpoint {
        endpoint: Some(wire::Endpoint {
            address: Some(to_address(&endpoint.address)),
        }),
        health_status: match endpoint.health {
            Health::Healthy => health::HEALTHY,
            Health::Draining => health::DRAINING,
            Health::Unhealthy => health::UNHEALTHY,
        },
        metadata: to_metadata(metadata),
        load_balancing_weight: Some(endpoint.weight),
    })
}

/// `region/zone/sub zone` as one text, as far as it is said.
fn zone(place: &wire::Locality) -> String {
    let parts = [&*place.region, &*place.zone, &*place.sub_zone];
    let said = parts.iter().rposition(|part| !part.is_empty());
    said.and_then(|last| parts.get(..=last))
        .map(|parts| parts.join("/"))
        .unwrap_or_default()
}

fn to_place(zone: &str) -> wire::Locality {
    let mut parts = zone.splitn(3, '/').map(str::to_owned);
    wire::Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        sub_zone: parts.next().unwrap_or_default(),
    }
}
