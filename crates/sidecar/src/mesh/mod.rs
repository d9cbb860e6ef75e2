//! How does a sidecar live in a mesh?
//!
//! ```text
//!   no certificate ──> asks for one with its token ──> connects with it ──> subscribes, becomes ready, serves, reports
//!         ^                                                 │   ^
//!         └── the control plane is gone: what is known serves on until the certificate ends ──┘ tries again
//! ```
//!
//! - [`settings`]: what it is told.
//! - [`own`]: what it does by itself.
//! - [`feed`]: what it needs of the mesh, and what has been said of it.
//! - [`life`]: the connection with the control plane.
//! - [`asking`]: in which form of xDS resources are asked for over it.
//! - [`answers`]: what is done with what comes over it.
//! - [`ousted`]: how long it stands aside where another one has its name.
//! - [`pace`]: how much of that is listened to.
//! - [`reports`]: what it tells there of itself.
//! - [`round`]: which control plane that is.
//! - [`standing`]: its certificate, and whom it believes.
//! - [`proof`]: what its first certificate is had for.
//! - [`usage`]: which names nobody calls any more.
//! - [`state`]: what is kept for a start without one.
//! - [`edges`]: what it reports of its calls.

mod answers;
mod asking;
mod edges;
mod feed;
mod life;
mod ousted;
mod own;
mod pace;
pub(crate) mod proof;
mod reports;
mod round;
pub(crate) mod settings;
mod standing;
mod state;
mod usage;

pub(crate) use life::{Life, trust};
