//! LDS: what a name leads to, and who may call a workload.
//!
//! Both are listeners of kinds of their own. What a client calls is an API listener (gRFC A27), whose route table comes by
//! RDS. Who may call a workload is a server's listener (gRFC A36) with RBAC filters (gRFC A41, see `rbac.rs`).

use std::collections::BTreeSet;

use mesh_model::policy::{AuthorizationPolicy, PolicyDefault};

use super::rbac::filters;
use super::{OURS, Refusal, Translate, decode, envelope, our_metadata, to_metadata};
use crate::kind::Kind;
use crate::wire;

const HCM: &str = "envoy.filters.network.http_connection_manager";
const HCM_URL: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "envoy.filters.http.router";
const ROUTER_URL: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
/// The metadata that says a workload's policies in the mesh's own words.
const POLICIES: &str = "policies";

/// What a name and port lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceListener {
    /// As it is called: `basket:80`.
    pub name: String,
    /// The name of its route table.
    pub route_table: String,
}

/// Who may call a workload.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadListener {
    /// Its SPIFFE id.
    pub name: String,
    /// Whether this is said of whatever workload nothing is said of by its own name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub general: bool,
    /// What holds where no allow policy does.
    pub default_policy: PolicyDefault,
    /// What it enforces.
    pub policies: Vec<AuthorizationPolicy>,
    /// The ports that it may be called by; absent where nothing is said of them. No policy speaks of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeSet<u16>>,
}

impl Translate for ServiceListener {
    const KIND: Kind = Kind::Listener;
    type Message = wire::Listener;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        let api = message.api_listener.and_then(|api| api.api_listener);
        let api = api.ok_or_else(|| Refusal::new("api_listener", "expected one"))?;
        if api.type_url != HCM_URL {
            return Err(Refusal::new("api_listener", format!("expected {HCM_URL}")));
        }
        let within = |refusal: Refusal| refusal.within("api_listener");
        let manager: wire::HttpConnectionManager = decode(&api.value, "").map_err(within)?;
        let is_router = |filter: &wire::HttpFilter| {
            let config = filter.typed_config.as_ref();
            config.is_some_and(|config| config.type_url == ROUTER_URL)
        };
        if !manager.http_filters.last().is_some_and(is_router) {
            return Err(within(Refusal::new(
                "http_filters",
                "expected the router as the last one",
            )));
        }
        let unknown = manager
            .http_filters
            .iter()
            .find(|filter| !is_router(filter) && !filter.is_optional);
        if let Some(filter) = unknown {
            let reason = format!("`{}` is not known, and to pass it over is not safe", filter.name);
            return Err(within(Refusal::new("http_filters", reason)));
        }
        let rds = manager
            .rds
            .ok_or_else(|| within(Refusal::new("rds", "expected one")))?;
        if !rds.config_source.is_some_and(|source| source.is_aggregated()) {
            return Err(within(Refusal::new("rds.config_source", "expected ads or self")));
        }
        if rds.route_config_name.is_empty() {
            return Err(within(Refusal::new("rds.route_config_name", "expected a name")));
        }
        if !message.filter_chains.is_empty() {
            return Err(Refusal::new("filter_chains", "what is called has none"));
        }
        Ok(Self {
            name: message.name,
            route_table: rds.route_config_name,
        })
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        let manager = wire::HttpConnectionManager {
            stat_prefix: self.name.clone(),
            rds: Some(wire::Rds {
                config_source: Some(wire::ConfigSource::aggregated()),
                route_config_name: self.route_table.clone(),
            }),
            http_filters: vec![router()],
            ..wire::HttpConnectionManager::default()
        };
        Ok(wire::Listener {
            name: self.name.clone(),
            api_listener: Some(wire::ApiListener {
                api_listener: Some(envelope(HCM_URL, &manager)),
            }),
            ..wire::Listener::default()
        })
    }
}

impl Translate for WorkloadListener {
    const KIND: Kind = Kind::Listener;
    /// What is not read here might be what protects the workload.
    const WHOLE: bool = true;
    type Message = wire::Listener;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        let field = format!("metadata.{OURS}.{POLICIES}");
        let text = our_metadata(message.metadata.as_ref()).remove(POLICIES);
        let text = text.ok_or_else(|| {
            let reason = "expected a workload's policies as this mesh writes them";
            Refusal::new(field.as_str(), reason)
        })?;
        let read: Self = serde_json::from_str(&text)
            .map_err(|error| Refusal::new(field.as_str(), format!("not readable: {error}")))?;
        // The two forms of the policies must not say different things.
        if read.to_message()? != message {
            return Err(Refusal::new(
                "filter_chains",
                format!("say something else than {field}"),
            ));
        }
        Ok(read)
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        let mut http_filters = filters(self.default_policy, &self.policies)?;
        http_filters.push(router());
        let manager = wire::HttpConnectionManager {
            stat_prefix: "inbound".to_owned(),
            // The application is behind, whatever is asked (gRFC A36: `non_forwarding_action`).
            route_config: Some(wire::RouteConfiguration::default()),
            http_filters,
            ..wire::HttpConnectionManager::default()
        };
        let text = serde_json::to_string(self)
            .map_err(|error| Refusal::new("policies", format!("can't be written: {error}")))?;
        Ok(wire::Listener {
            name: self.name.clone(),
            filter_chains: vec![wire::FilterChain {
                filters: vec![wire::Filter {
                    name: HCM.to_owned(),
                    typed_config: Some(envelope(HCM_URL, &manager)),
                }],
            }],
            metadata: to_metadata([(POLICIES.to_owned(), text)].into()),
            ..wire::Listener::default()
        })
    }
}

fn router() -> wire::HttpFilter {
    wire::HttpFilter {
        name: ROUTER.to_owned(),
        typed_config: Some(envelope(ROUTER_URL, &wire::Empty {})),
        is_optional: false,
    }
}

#[cfg(test)]
mod tests;
