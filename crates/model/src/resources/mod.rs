//! What is a resource, and how is it written down?
//!
//! One set of typed resources steers the proxy: `Listener -> RouteTable -> Cluster -> Endpoints`, and
//! `AuthorizationPolicy` beside them. Their JSON form
//! (camelCase keys, unknown keys refused) is what `mesh compile` prints and `mesh-sidecar --config` reads.
//! A field that is absent takes its default; every default stands beside its field with the reason.

mod cluster;
mod endpoints;
mod listener;
mod route;
mod values;

pub use cluster::*;
pub use endpoints::*;
pub use listener::*;
pub use route::*;
pub use values::*;

use serde::{Deserialize, Serialize};

use crate::policy::AuthorizationPolicy;

/// A whole configuration: every resource of every kind. Names are unique within their kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resources {
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// How requests are told apart.
    pub route_tables: Vec<RouteTable>,
    /// Where requests may go.
    pub clusters: Vec<Cluster>,
    /// Who answers for each cluster.
    pub endpoints: Vec<Endpoints>,
    /// Who may do what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<AuthorizationPolicy>,
}

impl Resources {
    /// A copy fit to be shown: private keys given as PEM text, and credentials that routes put into headers, are
    /// replaced by a mark; paths stay.
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for tls in shown
            .listeners
            .iter_mut()
            .filter_map(|listener| listener.tls.as_mut())
        {
            for pair in &mut tls.certificates {
                pair.key = pair.key.redacted();
            }
        }
        for tls in shown
            .clusters
            .iter_mut()
            .filter_map(|cluster| cluster.tls.as_mut())
        {
            tls.key = tls.key.as_ref().map(Pem::redacted);
        }
        let hosts = shown
            .route_tables
            .iter_mut()
            .flat_map(|table| &mut table.virtual_hosts);
        for route in hosts.flat_map(|host| &mut host.routes) {
            let Filters {
                request_headers,
                response_headers,
                ..
            } = &mut route.filters;
            for edits in [request_headers, response_headers] {
                for header in edits.set.iter_mut().chain(&mut edits.add) {
                    if is_credential(&header.name) {
                        header.value = "REDACTED".into();
                    }
                }
            }
        }
        shown
    }
}

/// Whether a header's value lets somebody in: by its standard name, or by what makers of keys call theirs.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
    ];
    words.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_headers_are_not_shown() {
        let filters = r#"{"requestHeaders": {
            "set": [{"name": "Authorization", "value": "Bearer s3cret"}, {"name": "x-team", "value": "blue"}],
            "add": [{"name": "X-Api-Key", "value": "s3cret"}]
        }, "responseHeaders": {"set": [{"name": "set-cookie", "value": "s3cret"}]}}"#;
        let text = format!(
            r#"{{"routeTables": [{{"name": "r", "virtualHosts": [{{"hosts": ["*"], "routes": [{{
                "name": "a", "filters": {filters}, "action": {{"kind": "forward", "to": [{{"cluster": "c"}}]}}
            }}]}}]}}]}}"#
        );
        let resources: Resources = serde_json::from_str(&text).unwrap();
        let shown = serde_json::to_string(&resources.redacted()).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(shown.matches("REDACTED").count(), 3);
        assert!(shown.contains("blue"));
    }

    #[test]
    fn keys_are_not_shown() {
        const SECRET: &str = "-----BEGIN PRIVATE KEY-----\nsecret";
        let pem = |text: &str| Pem(text.into());
        let mut listener = Listener::new("l", ":0".parse().unwrap());
        let pair = |key| CertificateAndKey {
            certificate: pem("a.crt"),
            key: pem(key),
        };
        listener.tls = Some(ServerTls {
            certificates: vec![pair(SECRET), pair("a.key")],
            client_certificates: None,
            minimum_version: TlsVersion::default(),
            alpn: Vec::new(),
        });
        let mut cluster = Cluster::new("c");
        cluster.tls = Some(ClientTls {
            key: Some(pem(SECRET)),
            ..ClientTls::default()
        });
        let resources = Resources {
            listeners: vec![listener],
            clusters: vec![cluster],
            ..Resources::default()
        };
        let shown = serde_json::to_string(&resources.redacted()).unwrap();
        assert!(
            !shown.contains("secret") && shown.contains("a.key") && shown.contains("a.crt"),
            "{shown}"
        );
        assert!(!format!("{resources:?}").contains("secret"));
        assert!(serde_json::to_string(&resources).unwrap().contains("secret"));
    }
}
