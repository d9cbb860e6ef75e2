//! When does the next request start, and what came of all of them?
//!
//! A closed loop starts one when one has ended; an open loop starts them by the clock, and counts each latency from the
//! time the request was due, so that a stalled proxy can't hide its stall by slowing the clients down (coordinated
//! omission).

use std::collections::VecDeque;
use std::time::Instant;

use serde_json::{Value, json};

use crate::histogram::Histogram;

/// The order in which requests start.
pub(crate) enum Pace {
    /// As soon as a connection is free, until the time is over or enough were started.
    Closed { until: Instant, left: u64 },
    /// At the times in the queue, which the driver's clock fills.
    Open { due: VecDeque<Instant> },
}

/// What all connections of one load share.
pub(crate) struct Run {
    /// The time of the last wake-up.
    pub(crate) now: Instant,
    pub(crate) pace: Pace,
    pub(crate) started: u64,
    pub(crate) finished: u64,
    body_bytes: u64,
    latency: Histogram,
}

impl Run {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            now: Instant::now(),
            pace,
            started: 0,
            finished: 0,
            body_bytes: 0,
            latency: Histogram::new(),
        }
    }

    /// The start of the next request, if one may start now.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        let start = match &mut self.pace {
            Pace::Closed { until, left } => {
                if *left == 0 || self.now >= *until {
                    return None;
                }
                *left -= 1;
                self.now
            }
            Pace::Open { due } => due.pop_front()?,
        };
        self.started += 1;
        Some(start)
    }

    /// A request that started at `start` was answered in full.
    pub(crate) fn done(&mut self, start: Instant, body_bytes: u64) {
        self.finished += 1;
        self.body_bytes += body_bytes;
        self.latency
            .record(u64::try_from((self.now - start).as_nanos()).unwrap_or(u64::MAX));
    }

    /// Forgets what was measured so far.
    pub(crate) fn reset(&mut self) {
        self.latency = Histogram::new();
    }

    /// The figures, latencies in microseconds.
    pub(crate) fn report(&self, seconds: f64) -> Value {
        json!({
            "requests": self.finished,
            "seconds": seconds,
            "bodyBytes": self.body_bytes,
            "latencyMicros": {
                "p50": self.latency.micros_at(0.5),
                "p90": self.latency.micros_at(0.9),
                "p99": self.latency.micros_at(0.99),
                "p999": self.latency.micros_at(0.999),
                "max": self.latency.max_micros(),
            },
        })
    }
}

/// Errors, counted, with the first one kept for the reader.
#[derive(Default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    first: Option<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, message: String) {
        self.count += 1;
        self.first.get_or_insert(message);
    }

    /// Prints the report with the errors in it.
    pub(crate) fn print(&self, mut report: Value) {
        report["errors"] = self.count.into();
        report["firstError"] = self.first.clone().into();
        println!("{report}");
    }
}
