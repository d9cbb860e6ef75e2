//! How does a data thread count without paying for other threads?
//!
//! A cell has one writer, the thread that owns the block it stands in, and any number of readers. So writing is one
//! plain load and one plain store of an atomic: no lock prefix, no shared cache line. Readers see a recent value,
//! never a torn one. Only [`SharedCounter`] may be written by several threads; it is for rare events.
//!
//! Invariant: nothing here enforces the single writer. [`Own`](super::Own) does: it is the only
//! way to a block from outside and can't leave its thread.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use mesh_model::errors::Reason;
use once_cell::race::OnceBox;

/// A number that only grows, with one writing thread. Wraps at 2^64.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value as last seen.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, with one writing thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value as last seen.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A number that only grows, with any number of writing threads. A locked instruction each: for rare events.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value as last seen.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One counter for each reason. Made when the first reason is counted, since most blocks never see one.
#[derive(Debug, Default)]
pub struct ReasonCounters(OnceBox<[Counter; Reason::COUNT]>);

impl ReasonCounters {
    /// Counts one.
    pub fn increment(&self, reason: Reason) {
        let counters = self
            .0
            .get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
        if let Some(counter) = counters.get(reason.index()) {
            counter.increment();
        }
    }

    /// Adds what was counted to `totals`.
    pub fn add_to(&self, totals: &mut ReasonTotals) {
        let Some(counters) = self.0.get() else { return };
        let sums = totals.0.get_or_insert_with(|| Box::new([0; Reason::COUNT]));
        for (sum, counter) in sums.iter_mut().zip(counters.iter()) {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

/// Sums of [`ReasonCounters`] over threads.
#[derive(Clone, Debug, Default)]
pub struct ReasonTotals(Option<Box<[u64; Reason::COUNT]>>);

impl ReasonTotals {
    /// Every reason that was counted at least once, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let sums = self.0.as_deref().map_or(&[][..], |sums| &sums[..]);
        Reason::ALL
            .iter()
            .zip(sums)
            .filter(|(_, sum)| **sum > 0)
            .map(|(reason, sum)| (*reason, *sum))
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.iter()
            .fold(0, |total: u64, (_, count)| total.wrapping_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_count() {
        let counter = Counter::default();
        counter.increment();
        counter.add(41);
        assert_eq!(counter.get(), 42);

        let gauge = Gauge::default();
        gauge.add(2);
        gauge.add(-3);
        assert_eq!(gauge.get(), -1);
    }

    #[test]
    fn shared_counter_loses_nothing() {
        let counter = SharedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }

    #[test]
    fn reasons_merge_and_skip_what_never_happened() {
        let (a, b, unused) = (
            ReasonCounters::default(),
            ReasonCounters::default(),
            ReasonCounters::default(),
        );
        a.increment(Reason::NoRoute);
        b.increment(Reason::NoRoute);
        b.increment(Reason::ConnectTimeout);
        let mut totals = ReasonTotals::default();
        for counters in [&a, &b, &unused] {
            counters.add_to(&mut totals);
        }
        let mut seen: Vec<_> = totals.iter().collect();
        seen.sort();
        assert_eq!(seen, [(Reason::NoRoute, 2), (Reason::ConnectTimeout, 1)]);
        assert_eq!(totals.total(), 3);
        assert!(unused.0.get().is_none(), "no memory for what never happened");
    }
}
