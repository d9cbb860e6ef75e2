//! What do a sidecar and its control plane say to each other beside xDS?
//!
//! The structs are the schema, as in `mesh_xds::wire`; `proto/mesh/v1/mesh.proto` is the same for readers and for other
//! languages, and describes each field. A test holds the two together.
#![allow(missing_docs)] // The fields are described in the reference text.

use prost::{Enumeration, Message, Oneof};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct SignRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub csr: Vec<u8>,
    #[prost(string, tag = "2")]
    pub token: String,
    #[prost(message, optional, tag = "3")]
    pub attestation: Option<Attestation>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attestation {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(bytes = "vec", tag = "2")]
    pub evidence: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct SignResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    #[prost(string, tag = "2")]
    pub roots: String,
    #[prost(int64, tag = "3")]
    pub not_after: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct SidecarMessage {
    #[prost(oneof = "FromSidecar", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub message: Option<FromSidecar>,
}

/// What a [`SidecarMessage`] holds.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum FromSidecar {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Ready(Ready),
    #[prost(message, tag = "3")]
    Draining(Draining),
    #[prost(message, tag = "4")]
    Telemetry(Telemetry),
    #[prost(message, tag = "5")]
    ConfigState(ConfigState),
    #[prost(message, tag = "6")]
    CertificateState(CertificateState),
    #[prost(message, tag = "7")]
    Aside(Aside),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Protocol {
    Auto = 0,
    Http1 = 1,
    Http2 = 2,
    Tcp = 3,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub services: Vec<ServicePort>,
    #[prost(string, tag = "3")]
    pub inbound_address: String,
    #[prost(string, tag = "4")]
    pub version: String,
    #[prost(uint32, tag = "5")]
    pub pid: u32,
    #[prost(fixed64, tag = "6")]
    pub instance: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Aside {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServicePort {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
    #[prost(enumeration = "Protocol", tag = "3")]
    pub protocol: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Ready {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Draining {}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Telemetry {
    #[prost(uint64, tag = "1")]
    pub interval_ms: u64,
    #[prost(message, repeated, tag = "2")]
    pub edges: Vec<Edge>,
    #[prost(message, repeated, tag = "3")]
    pub decisions: Vec<PolicyDecision>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct PolicyDecision {
    #[prost(bool, tag = "1")]
    pub audit: bool,
    #[prost(string, tag = "2")]
    pub why: String,
    #[prost(string, repeated, tag = "3")]
    pub policies: Vec<String>,
    #[prost(uint32, tag = "4")]
    pub port: u32,
    #[prost(string, tag = "5")]
    pub caller: String,
    #[prost(string, tag = "6")]
    pub method: String,
    #[prost(string, tag = "7")]
    pub path: String,
    #[prost(uint64, tag = "8")]
    pub unsaid: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Direction {
    Inbound = 0,
    Outbound = 1,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Edge {
    #[prost(enumeration = "Direction", tag = "1")]
    pub direction: i32,
    #[prost(string, tag = "2")]
    pub peer: String,
    #[prost(string, tag = "3")]
    pub service: String,
    #[prost(uint32, tag = "4")]
    pub port: u32,
    #[prost(enumeration = "Protocol", tag = "5")]
    pub protocol: i32,
    #[prost(bool, tag = "6")]
    pub mtls: bool,
    #[prost(uint64, tag = "7")]
    pub requests: u64,
    #[prost(message, repeated, tag = "8")]
    pub failures: Vec<Failures>,
    #[prost(uint64, tag = "9")]
    pub denied: u64,
    #[prost(uint64, tag = "10")]
    pub bytes_in: u64,
    #[prost(uint64, tag = "11")]
    pub bytes_out: u64,
    #[prost(message, optional, tag = "12")]
    pub latency: Option<Histogram>,
    #[prost(uint64, tag = "13")]
    pub audited: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Failures {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Histogram {
    #[prost(uint32, repeated, tag = "1")]
    pub buckets: Vec<u32>,
    #[prost(uint64, repeated, tag = "2")]
    pub counts: Vec<u64>,
    #[prost(uint64, tag = "3")]
    pub sum_ns: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfigState {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(string, tag = "4")]
    pub nack: String,
    #[prost(uint64, tag = "5")]
    pub age_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct CertificateState {
    #[prost(int64, tag = "1")]
    pub not_after: i64,
    #[prost(string, tag = "2")]
    pub serial: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ControlMessage {
    #[prost(oneof = "FromControl", tags = "3, 4")]
    pub message: Option<FromControl>,
}

/// What a [`ControlMessage`] holds.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum FromControl {
    #[prost(message, tag = "3")]
    Denied(Denied),
    #[prost(message, tag = "4")]
    TelemetryInterval(TelemetryInterval),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Denied {
    #[prost(string, repeated, tag = "1")]
    pub identities: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub serials: Vec<String>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(bool, tag = "4")]
    pub partial: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct TelemetryInterval {
    #[prost(uint64, tag = "1")]
    pub interval_ms: u64,
}

impl ConfigState {
    /// The kind that stands for a name that is called, with all that is said of it. No resource of xDS is called so.
    pub const NAME: &str = "mesh.Name";
    /// The kind that stands for all that a sidecar was told.
    pub const CONFIGURATION: &str = "mesh.Configuration";
}

impl From<FromSidecar> for SidecarMessage {
    fn from(message: FromSidecar) -> Self {
        let message = Some(message);
        Self { message }
    }
}

impl From<FromControl> for ControlMessage {
    fn from(message: FromControl) -> Self {
        let message = Some(message);
        Self { message }
    }
}
