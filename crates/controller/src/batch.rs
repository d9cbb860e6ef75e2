//! What is put in place, and what is taken away, together?
//!
//! A [`Batch`] is JSON to those who write it. It goes live whole or not at all.

use std::collections::BTreeSet;

use mesh_model::issue::{Issue, IssueCode, PathStep};
use mesh_model::policy::{AuthorizationPolicy, PolicyDefault};
use mesh_model::resources::{Cluster, Endpoints, RouteTable};
use serde::{Deserialize, Serialize};

/// The name that means every workload that nothing is said of by its own.
pub const ALL_OTHERS: &str = "*";

/// A change of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Batch {
    /// What takes the place of what has the same name.
    pub upsert: Upsert,
    /// What goes, before the rest comes. Names that are not there are passed over.
    pub delete: Delete,
}

/// Resources to put in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upsert {
    /// How requests are told apart.
    pub route_tables: Vec<RouteTable>,
    /// Where requests may go.
    pub clusters: Vec<Cluster>,
    /// Who answers for each cluster.
    pub endpoints: Vec<Endpoints>,
    /// What can be called.
    pub services: Vec<Service>,
    /// Who may call each workload; by the name [`ALL_OTHERS`], whatever workload has none of its own.
    pub workloads: Vec<Workload>,
}

/// Names to take away, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delete {
    /// Route tables.
    pub route_tables: Vec<String>,
    /// Clusters.
    pub clusters: Vec<String>,
    /// Clusters whose endpoints are meant.
    pub endpoints: Vec<String>,
    /// Services.
    pub services: Vec<String>,
    /// Workloads.
    pub workloads: Vec<String>,
}

/// What can be called by a name and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// `basket:80`.
    pub name: String,
    /// How requests for it are told apart.
    pub route_table: String,
}

/// Who may call a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Its SPIFFE id.
    pub name: String,
    /// What holds where no allow policy does.
    #[serde(default = "authenticated")]
    pub default_policy: PolicyDefault,
    /// What it is told of who may do what.
    #[serde(default)]
    pub policies: Vec<AuthorizationPolicy>,
    /// The ports that it may be called by; absent: all that it offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeSet<u16>>,
}

/// The mesh's default: whoever has an identity.
fn authenticated() -> PolicyDefault {
    PolicyDefault::AllowAuthenticated
}

impl Batch {
    /// Reads a batch from JSON. Its meaning is not looked at yet.
    ///
    /// # Errors
    /// One issue: reading ends at the first thing that can't be read.
    pub fn parse(json: &str) -> Result<Self, Vec<Issue>> {
        mesh_model::validate::read(json)
    }
}

/// A problem of one resource of a batch.
pub(crate) fn issue(kind: &str, at: usize, field: &str, code: IssueCode, message: String) -> Issue {
    let key = |text: &str| PathStep::Key(text.to_owned());
    let mut path = vec![key(kind), PathStep::Index(at)];
    path.extend(field.split('.').filter(|step| !step.is_empty()).map(key));
    Issue {
        path,
        code,
        message,
        expected: None,
        position: None,
    }
}
