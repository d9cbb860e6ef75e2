//! Which endpoint of a cluster takes the next request?
//!
//! ```text
//!  Endpoints + Cluster ──compile──> Picker ──pick──> Picked ──start──> InFlight ──finish──> EndpointState
//!                                     │ tiers: one per priority, each with its plan              │
//!                                     └──────────── reads load, latency, backoff <───────────────┘
//! ```
//!
//! Two halves. An [`EndpointState`] is what has been learnt of one endpoint: requests in flight, latency,
//! backoff. It is made of atomics, shared by every data thread, kept by the [`EndpointRegistry`], and
//! outlives the updates that do not touch it. A [`Picker`] is the immutable plan compiled from a cluster and
//! its endpoints, replaced whole on a change.
//!
//! Invariants:
//! - Nothing here does I/O, reads a clock or waits. Time is [`Nanos`], randomness an [`Rng`]; the same inputs
//!   give the same answers, so simulations replay by seed.
//! - `pick`, `start` and `finish` neither allocate nor lock, and cost a constant time while endpoints are
//!   well. A pick costs time linear in the endpoints only where most of those it may use are out or tried,
//!   and once in 10 ms where there is more than one priority.
//! - An endpoint whose connects fail is out for a while, doubling up to a minute, and comes back with one
//!   probe. Where every endpoint is out all of them are used: a wrong verdict must not turn into a black
//!   hole.
//! - Every atomic is relaxed: they count and estimate, and publish no other memory.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod alias;
mod backoff;
mod circle;
mod endpoint;
mod hash;
mod latency;
mod picker;
mod priority;
mod registry;
mod rng;
mod schedule;
mod slow_start;
mod tier;
mod weights;

#[cfg(test)]
mod tests;

pub use endpoint::{EndpointState, EndpointStats, InFlight, Outcome, Probe};
pub use hash::hash_key;
pub use picker::{Member, PickError, Picked, Picker, Tried};
pub use registry::EndpointRegistry;
pub use rng::Rng;

/// Nanoseconds since the proxy started, from a clock that never goes back. Lasts 584 years.
pub type Nanos = u64;

const SECOND: Nanos = 1_000_000_000;
