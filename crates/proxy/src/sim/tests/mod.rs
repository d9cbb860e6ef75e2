//! What must hold in every run.

mod exchanges;

use super::{bytes, clock, each_seed, http, network, proxy};
