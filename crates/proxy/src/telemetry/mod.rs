//! What did the proxy do, how long did it take, and what does it cost?
//!
//! ```text
//!   data thread 0 ── ThreadTelemetry ── blocks of cells ──┐
//!   data thread 1 ── ThreadTelemetry ── blocks of cells ──┤ read by the control thread
//!                                                         v
//!                     Telemetry ── look() / scrape() ──> Report ──> prometheus::render, json::render
//!
//!   data thread ── access_log::Queue ── bytes ──> writer thread ──> file or standard output
//! ```
//!
//! Invariants: counting costs a data thread plain loads and stores, never a lock; merging, rendering and writing run
//! elsewhere; everything that grows is bounded, and what the bound refuses is counted.

pub(crate) mod access_log;
mod control_plane;
mod counter;
mod decisions;
mod family;
pub mod histogram;
pub mod json;
mod labels;
mod process;
pub mod prometheus;
mod registry;
mod report;
pub mod stats;

pub use control_plane::ControlPlane;
pub use decisions::{Decision, Decisions};
pub use family::Own;
pub use labels::{Class, ControlLoss, Label, Limit, LookupResult, NameKind, Numbered, Owner, Protocol};
pub use registry::{Called, OwnRoute, RouteLabels, Telemetry, TelemetryOptions, ThreadTelemetry};
pub use report::{CertificateSample, EndpointSample, EndpointState, NameSample, Report, Samples};
pub use stats::{ClusterStats, Finished, Handshake, ListenerStats, RouteStats};

/// A span of time in nanoseconds.
pub type Nanos = u64;
