//! What must hold in every run.

mod ages;
mod answers;
mod connects;
mod drains;
mod exchanges;
mod grpc;
mod half_closed;
mod judged;
mod plan;
mod proxied;
mod swaps;
mod tunnels;
mod updates;
mod upgrades;

use super::{bytes, clock, each_seed, http, network, proxy};
