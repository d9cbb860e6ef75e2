//! What of the control plane is native?
//!
//! The wire: certificates, resources over xDS, and how the sidecars are. What is decided, and what the world looks like,
//! is told from outside (in TypeScript, behind the bindings), through [`Decisions`] and [`Controller::apply`].
//!
//! ```text
//!   Decisions ──────> signing ──> identity::Authority, Tokens, DenyList ──┐
//!   apply(Batch) ───> served ───> store::Store, xds::Catalogue ───────────┼──> protocol::Server ──> sidecars
//!   sidecars(), <──── fleet, edges <── what sidecars report ──────────────┘
//!   edges(), events
//! ```
//!
//! Invariants:
//! - One thread of its own does everything that waits. What is called from outside takes short locks and never waits for
//!   that thread, but for [`Controller::close`].
//! - Nothing listens without TLS, on no address. Whoever has no certificate may ask for one.
//! - A certificate is given for a reason that is audited: a certificate that is still good, a token, or a decision.
//! - Everything a sidecar can grow is bounded, and what is full says so. Nobody asks so often for certificates that others
//!   get none.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod admission;
mod batch;
mod controller;
mod decisions;
mod edges;
mod event;
mod fleet;
mod rivals;
mod served;
mod service;
mod settings;
mod signing;

pub use admission::Rates;
pub use batch::{ALL_OTHERS, Batch, Delete, Service, Upsert, Workload};
pub use controller::{Controller, RevokeError, StartError};
pub use decisions::{Attempt, Deciding, Decision, Decisions, Proof, TokensAlone};
pub use edges::{EdgeView, MAX_EDGES, MAX_EDGES_OF_ONE};
pub use event::{Audit, Event, Events, PolicyDecision};
pub use fleet::{Held, MAX_SIDECARS, MAX_SIDECARS_OF_ONE, Nack, Phase, SidecarView};
pub use rivals::{Elsewhere, There};
pub use settings::{Issuer, Settings};
pub use signing::TokenError;
