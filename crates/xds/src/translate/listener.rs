//! Stand-in until the real one comes.

use mesh_model::policy::{AuthorizationPolicy, PolicyDefault};

use super::{Refusal, Translate};
use crate::kind::Kind;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Json {
    #[prost(string, tag = "1000")]
    pub text: String,
}

/// Which table is for a name.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServiceListener {
    pub name: String,
    pub route_table: String,
}

/// Who may call a workload.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WorkloadListener {
    pub name: String,
    pub default_policy: PolicyDefault,
    pub policies: Vec<AuthorizationPolicy>,
}

macro_rules! json {
    ($name:ident, $kind:expr) => {
        impl Translate for $name {
            const KIND: Kind = $kind;
            type Message = Json;
            fn from_message(message: Json) -> Result<Self, Refusal> {
                serde_json::from_str(&message.text).map_err(|e| Refusal::new("json", e.to_string()))
            }
            fn to_message(&self) -> Result<Json, Refusal> {
                let text = serde_json::to_string(self).map_err(|e| Refusal::new("json", e.to_string()))?;
                Ok(Json { text })
            }
        }
    };
}
json!(ServiceListener, Kind::Listener);
json!(WorkloadListener, Kind::Listener);
