//! How does the data plane behave on a bad network?
//!
//! Everything above the seam in [`crate::io`] runs here over a network that is made up: in one thread, in virtual time,
//! with every delay, cut, refusal and reset drawn from a seed. A run is the same every time it is run with its seed.
//!
//! ```text
//!   scripted clients ── network ── connection::serve ── network ── scripted servers
//!          └───────────────────── Sim: tasks, time, randomness ─────────┘
//! ```
//!
//! What must hold in every run, besides what each test asserts: a task that is polled again and again gets on; by a
//! drain's deadline all connections have ended; then no buffer is out, and what was counted as begun was counted as
//! ended.
//!
//! `SIM_SEED=n` runs one seed alone, `SIM_RUNS=n` that many, `SIM_TRACE=1` tells what passes.

mod bytes;
mod clock;
mod http;
mod network;
mod proxy;
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs a test with one seed after the other. The seed of one that fails is said.
fn each_seed(name: &str, runs: u64, test: impl Fn(u64)) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let seeds = match (number("SIM_SEED"), number("SIM_RUNS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, runs_wanted) => 0..runs_wanted.unwrap_or(runs),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("{name} failed with SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
