//! Who answers for a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Address, Name};
use crate::spiffe::SpiffeId;

/// The endpoints of one cluster, grouped by locality. An empty list is honoured: requests get 503.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoints {
    /// The cluster these endpoints belong to.
    pub cluster: Name,
    /// Groups of endpoints that stand and fall together.
    #[serde(default)]
    pub localities: Vec<Locality>,
}

/// Endpoints in one place, preferred or spared together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Locality {
    /// Where this is, e.g. `eu-1/a`. Shown, not interpreted.
    pub zone: String,
    /// Lower is preferred. Higher ones get traffic only as far as lower ones can't carry it. Default 0.
    pub priority: u32,
    /// Share among localities of the same priority. Default 1.
    pub weight: u32,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Default for Locality {
    fn default() -> Self {
        Self {
            zone: String::new(),
            priority: 0,
            weight: 1,
            endpoints: Vec::new(),
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Where it answers.
    pub address: Address,
    /// Share of traffic relative to its neighbours, 1 to 1000. Default 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it may be used at all.
    #[serde(default)]
    pub health: Health,
    /// The identity that it must prove where its cluster says `workload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
    /// Free labels, shown by tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Endpoint {
    /// An endpoint with default weight and health.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            weight: 1,
            health: Health::Healthy,
            identity: None,
            metadata: BTreeMap::new(),
        }
    }
}

fn one() -> u32 {
    1
}

/// What discovery says of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Takes traffic.
    #[default]
    Healthy,
    /// Finishes what it has, takes nothing new.
    Draining,
    /// Takes nothing.
    Unhealthy,
}
