//! How long did things take, in a form that can be added up?
//!
//! One layout for the whole project: 109 buckets with fixed borders, so that histograms of threads, proxies and
//! moments merge by addition, whoever made them. Percentiles are computed by the reader, at the very end.
//!
//! ```text
//!   0 ─ 50 us     steps of 10 us
//!   50 ─ 100 us   steps of 10 us
//!   each decade from 100 us to 10 s, in units of its first border:
//!     1  1.2  1.4  1.6  1.8  2  2.25  2.5  3  3.5  4  4.5  5  6  7  8  9  (10)
//!   10 s ─ 60 s   the same, up to 6
//!   above 60 s    one bucket
//! ```
//!
//! No bucket above 50 us is wider than a fifth of its lower border, so a quantile is off by at most a tenth
//! (exactly 1/11). The borders are decimal, so every `le` of the Prometheus exposition is a border and its count exact.
//!
//! Invariants: buckets are `(lower, upper]`, as `le` wants it; one thread records, any thread reads; recording is two
//! loads and stores without a lock and a lookup in a 184-byte table. Memory grows with the durations that occur: ten
//! thousand routes that all take a millisecond lie on a third of the pages that all their buckets would need.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};

use once_cell::race::OnceBox;

use super::counter::Counter;
use crate::telemetry::Nanos;

/// How many buckets there are, the last one without an upper border.
pub const BUCKETS: usize = 109;

/// Within one decade, in hundredths of its first border.
const STEPS: [u64; 17] = [
    120, 140, 160, 180, 200, 225, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000,
];

/// Upper borders in nanoseconds, inclusive, of all buckets but the last.
pub const UPPER: [Nanos; BUCKETS - 1] = upper_borders();

/// Where the lookup table begins: below 2^13 ns = 8.2 us everything is in the first bucket.
const FIRST_OCTAVE: u32 = 13;
/// Where it ends: from 2^36 ns = 68.7 s on everything is in the last bucket.
const LAST_OCTAVE: u32 = 36;
const OCTAVES: usize = (LAST_OCTAVE - FIRST_OCTAVE) as usize;

/// The bucket of the smallest value of each eighth of an octave.
const START: [u8; OCTAVES * 8] = starts();

const fn upper_borders() -> [Nanos; BUCKETS - 1] {
    let mut borders = [0; BUCKETS - 1];
    let mut at = 0;
    while at < 10 {
        borders[at] = (at as u64 + 1) * 10_000;
        at += 1;
    }
    let mut decade = 100_000;
    while at < BUCKETS - 1 {
        let mut step = 0;
        while step < STEPS.len() && at < BUCKETS - 1 {
            borders[at] = decade / 100 * STEPS[step];
            at += 1;
            step += 1;
        }
        decade *= 10;
    }
    borders
}

const fn starts() -> [u8; OCTAVES * 8] {
    let mut table = [0; OCTAVES * 8];
    let mut slot = 0;
    while slot < table.len() {
        let octave = FIRST_OCTAVE as usize + slot / 8;
        let smallest = (8 + slot as u64 % 8) << (octave - 3);
        let mut bucket = 0;
        while bucket < BUCKETS - 1 && smallest >= UPPER[bucket] {
            bucket += 1;
        }
        table[slot] = bucket as u8;
        slot += 1;
    }
    table
}

/// The bucket that counts `nanos`.
#[inline]
pub fn bucket_of(nanos: Nanos) -> usize {
    // Buckets include their upper border: one less makes it exclusive, which is what the table speaks.
    let value = nanos.saturating_sub(1);
    let octave = 63 - (value | 1).leading_zeros();
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let slot = (octave - FIRST_OCTAVE) as usize * 8 + ((value >> (octave - 3)) & 7) as usize;
    let Some(start) = START.get(slot) else {
        return BUCKETS - 1;
    };
    // An eighth of an octave holds at most two borders.
    let mut bucket = usize::from(*start);
    bucket += usize::from(UPPER.get(bucket).is_some_and(|upper| value >= *upper));
    bucket += usize::from(UPPER.get(bucket).is_some_and(|upper| value >= *upper));
    bucket
}

/// Buckets that are made together: most series stay within one or two such groups.
const GROUP: usize = 15;
const GROUPS: usize = BUCKETS.div_ceil(GROUP);

/// The live histogram of one thread: 88 bytes, and 240 for each group of buckets that was ever counted in.
#[derive(Debug, Default)]
pub struct Histogram {
    recent: Recent,
    groups: Groups,
}

/// What most durations of a series are counted in, 24 bytes: their sum, and the low bits of the group that most are of.
///
/// Apart from the buckets, so that it can lie beside other numbers. Ten thousand series cost a cache line each to count in
/// then, and not two.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Recent {
    sum: Counter,
    near: Near,
}

/// The buckets, without what is [near](Near).
#[derive(Debug, Default)]
pub(super) struct Groups([OnceBox<[Bucket; GROUP]>; GROUPS]);

/// What the buckets of one group count since the last carry: 255 at most.
#[derive(Debug, Default)]
#[repr(C)]
struct Near {
    /// One more than the group's number; 0 while there is none. Once there is one, it stays.
    group: AtomicU8,
    low: [AtomicU8; GROUP],
}

/// One bucket's count, without what is [near](Near).
///
/// It is written to `begun`, the low bits are set to nothing, and then it is written to `done`. So a reader that looks at
/// `done`, the low bits and `begun`, in this order, knows whether a carry came in between: then what `begun` says is the
/// whole, as it was when the carry began, and less than the whole is now. What is read never goes down.
#[derive(Debug, Default)]
struct Bucket {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Bucket {
    /// Adds `n`, and sets the low bits to nothing in between, if there are such. For the owning thread only.
    fn add(&self, n: u64, low: Option<&AtomicU8>) {
        let sum = self.begun.load(Relaxed).wrapping_add(n);
        self.begun.store(sum, Relaxed);
        if let Some(low) = low {
            low.store(0, Release);
        }
        self.done.store(sum, Release);
    }

    fn get(&self, low: Option<&AtomicU8>) -> u64 {
        let done = self.done.load(Acquire);
        let low = low.map_or(0, |low| low.load(Acquire));
        let begun = self.begun.load(Relaxed);
        match begun == done {
            true => done.wrapping_add(u64::from(low)),
            false => begun,
        }
    }
}

impl Near {
    /// The low bits of a group's buckets, if they are here.
    #[inline]
    fn of(&self, group: usize) -> Option<&[AtomicU8; GROUP]> {
        (usize::from(self.group.load(Acquire)) == group + 1).then_some(&self.low)
    }
}

impl Recent {
    /// Counts one duration. `groups` is asked for where it is not counted here alone. For the owning thread only.
    #[inline]
    pub(super) fn record<'a>(&self, nanos: Nanos, groups: impl FnOnce() -> &'a Groups) {
        let bucket = bucket_of(nanos);
        let (group, place) = (bucket / GROUP, bucket % GROUP);
        let low = self.near.of(group).and_then(|low| low.get(place));
        match low.map(|low| (low, low.load(Relaxed).checked_add(1))) {
            Some((low, Some(count))) => low.store(count, Release),
            Some((low, None)) => self.count(groups(), (group, place), 256, Some(low)),
            None => self.count(groups(), (group, place), 1, None),
        }
        self.sum.add(nanos);
    }

    /// Counts in a bucket that is not near, or whose low bits are full.
    #[cold]
    fn count(&self, groups: &Groups, (group, place): (usize, usize), n: u64, low: Option<&AtomicU8>) {
        let Some(buckets) = groups.0.get(group) else {
            return;
        };
        let is_new = buckets.get().is_none();
        if let Some(bucket) = buckets.get_or_init(Box::default).get(place) {
            bucket.add(n, low);
        }
        // The first duration of many a series is like no other: it waited for a connection.
        if !is_new && self.near.group.load(Relaxed) == 0 {
            self.near.group.store(group as u8 + 1, Release);
        }
    }

    /// Adds what was recorded here and in `groups` to `snapshot`. For any thread.
    pub(super) fn add_to(&self, groups: Option<&Groups>, snapshot: &mut Snapshot) {
        let groups = groups.into_iter().flat_map(|groups| &groups.0);
        let sums = snapshot.buckets.chunks_mut(GROUP);
        for (number, (sums, group)) in sums.zip(groups).enumerate() {
            let low = self.near.of(number);
            let buckets = group.get().into_iter().flat_map(|group| group.iter());
            for (place, (sum, bucket)) in sums.iter_mut().zip(buckets).enumerate() {
                *sum = sum.wrapping_add(bucket.get(low.and_then(|low| low.get(place))));
            }
        }
        snapshot.sum = snapshot.sum.wrapping_add(self.sum.get());
    }
}

impl Histogram {
    /// Counts one duration. For the owning thread only.
    #[inline]
    pub fn record(&self, nanos: Nanos) {
        self.recent.record(nanos, || &self.groups);
    }

    /// Adds what was recorded to `snapshot`. For any thread.
    pub fn add_to(&self, snapshot: &mut Snapshot) {
        self.recent.add_to(Some(&self.groups), snapshot);
    }

    /// What was recorded so far.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.add_to(&mut snapshot);
        snapshot
    }
}

/// A histogram that stands still, to be merged and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: Box<[u64; BUCKETS]>,
    sum: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            sum: 0,
        }
    }
}

impl Snapshot {
    /// Adds what somebody else counted in one bucket of this layout. What is in no bucket is left out.
    pub fn add_bucket(&mut self, bucket: usize, count: u64) {
        if let Some(sum) = self.buckets.get_mut(bucket) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Adds how long what was counted elsewhere took together.
    pub fn add_sum(&mut self, nanos: Nanos) {
        self.sum = self.sum.saturating_add(nanos);
    }

    /// What was recorded between `earlier` and this one, of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, before) in difference.buckets.iter_mut().zip(earlier.buckets.iter()) {
            *now = now.saturating_sub(*before);
        }
        difference.sum = self.sum.saturating_sub(earlier.sum);
        difference
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |total, count| total.wrapping_add(*count))
    }

    /// The sum of all durations, in nanoseconds.
    pub fn sum(&self) -> Nanos {
        self.sum
    }

    /// The counts, bucket by bucket, by the borders of [`UPPER`].
    pub fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// The duration that a share `p` of all durations did not exceed; `None` when there are none.
    ///
    /// Off by at most 1/11 from 50 us to 60 s, by at most 5 us below. Above 60 s it says 60 s. `p` is held to 0..=1.
    pub fn quantile(&self, p: f64) -> Option<Nanos> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((p.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen: u64 = 0;
        self.times()
            .find(|(_, count)| {
                seen = seen.wrapping_add(*count);
                seen >= rank
            })
            .map(|(time, _)| time)
    }

    /// How long things took, as closely as [`Snapshot::quantile`] says it, and how many took so long; the shortest first.
    pub fn times(&self) -> impl Iterator<Item = (Nanos, u64)> + '_ {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(at, count)| {
            let lower = at.checked_sub(1).and_then(|below| UPPER.get(below)).unwrap_or(&0);
            let time = UPPER.get(at).map_or(*lower, |upper| middle(*lower, *upper));
            (time, *count)
        })
    }

    /// The coarser cumulative buckets of the Prometheus exposition: `le` in seconds and how many durations are not
    /// above it. The last is `+Inf`, the count.
    pub fn exposition(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let mut total: u64 = 0;
        let mut next = 0;
        EXPOSED.iter().map(move |(le, upper)| {
            while let Some(count) = self.buckets.get(next)
                && UPPER.get(next).unwrap_or(&Nanos::MAX) <= upper
            {
                total = total.wrapping_add(*count);
                next += 1;
            }
            (*le, total)
        })
    }
}

/// The value whose relative distance to both borders is the same; for the first 50 us simply the middle.
fn middle(lower: Nanos, upper: Nanos) -> Nanos {
    if upper <= 50_000 {
        lower.midpoint(upper)
    } else {
        2 * lower * (upper / 1000) / ((lower + upper) / 1000)
    }
}

/// The `le` values that Prometheus sees and the border in nanoseconds that each one is: 20 series a histogram are
/// enough for a graph, 109 would cost every Prometheus of the house five times the memory.
const EXPOSED: [(&str, Nanos); 20] = [
    ("0.00005", 50_000),
    ("0.0001", 100_000),
    ("0.00025", 250_000),
    ("0.0005", 500_000),
    ("0.001", 1_000_000),
    ("0.0025", 2_500_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.025", 25_000_000),
    ("0.05", 50_000_000),
    ("0.1", 100_000_000),
    ("0.25", 250_000_000),
    ("0.5", 500_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
    ("5", 5_000_000_000),
    ("10", 10_000_000_000),
    ("30", 30_000_000_000),
    ("60", 60_000_000_000),
    ("+Inf", Nanos::MAX),
];

const _: () = assert!(size_of::<Histogram>() == 88 && size_of::<Bucket>() * GROUP == 240);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive_bucket(nanos: Nanos) -> usize {
        UPPER
            .iter()
            .position(|upper| nanos <= *upper)
            .unwrap_or(BUCKETS - 1)
    }

    fn snapshot_of(values: &[Nanos]) -> Snapshot {
        let histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram.snapshot()
    }

    /// Durations of every magnitude, and those around borders.
    fn durations() -> impl Strategy<Value = Nanos> {
        prop_oneof![
            (0u32..40, 0u64..u64::MAX).prop_map(|(bits, value)| value >> (63 - bits)),
            (0..UPPER.len(), 0u64..3).prop_map(|(at, off)| UPPER[at] - 1 + off),
        ]
    }

    #[test]
    fn the_layout_is_what_the_documentation_says() {
        assert!(UPPER.is_sorted_by(|a, b| a < b));
        assert_eq!(UPPER[0], 10_000);
        assert_eq!(UPPER[BUCKETS - 2], 60_000_000_000);
        for pair in UPPER.windows(2) {
            let (lower, upper) = (pair[0], pair[1]);
            if lower >= 50_000 {
                assert!((upper - lower) * 5 <= lower, "({lower}, {upper}] is too wide");
            }
        }
    }

    #[test]
    fn every_exposed_border_is_a_border() {
        let (infinite, finite) = EXPOSED.split_last().unwrap();
        assert_eq!(*infinite, ("+Inf", Nanos::MAX));
        for (le, upper) in finite {
            assert!(UPPER.contains(upper), "{le}");
            assert_eq!((le.parse::<f64>().unwrap() * 1e9).round() as u64, *upper);
        }
        assert!(EXPOSED.is_sorted_by(|a, b| a.1 < b.1));
    }

    #[test]
    fn the_table_finds_every_border() {
        for upper in UPPER {
            for nanos in [upper - 1, upper, upper + 1] {
                assert_eq!(bucket_of(nanos), naive_bucket(nanos), "{nanos}");
            }
        }
        for nanos in [0, 1, 2, Nanos::MAX] {
            assert_eq!(bucket_of(nanos), naive_bucket(nanos), "{nanos}");
        }
        for slot in 0..64 {
            for nanos in [(1 << slot) - 1, 1 << slot, (1u64 << slot) + 1] {
                assert_eq!(bucket_of(nanos), naive_bucket(nanos), "{nanos}");
            }
        }
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        let empty = Snapshot::default();
        assert_eq!(empty.quantile(0.5), None);
        assert_eq!(empty.count(), 0);
        assert!(empty.exposition().all(|(_, count)| count == 0));
    }

    #[test]
    fn beyond_the_last_border_is_the_last_border() {
        let snapshot = snapshot_of(&[61_000_000_000, 3_600_000_000_000]);
        assert_eq!(snapshot.quantile(0.5), Some(60_000_000_000));
        assert_eq!(snapshot.sum(), 3_661_000_000_000);
        assert_eq!(snapshot.exposition().last(), Some(("+Inf", 2)));
        assert_eq!(snapshot.exposition().nth(18), Some(("60", 0)));
    }

    #[test]
    fn shares_outside_of_reason_are_held_to_the_ends() {
        let snapshot = snapshot_of(&[100_000, 1_000_000]);
        assert_eq!(snapshot.quantile(-1.0), snapshot.quantile(0.0));
        assert_eq!(snapshot.quantile(7.0), snapshot.quantile(1.0));
        assert_eq!(snapshot.quantile(f64::NAN), snapshot.quantile(0.0));
    }

    #[test]
    fn what_is_near_is_carried() {
        for each in [1_000_000, 40_000, 61_000_000_000] {
            let histogram = Histogram::default();
            for recorded in 1..=1_000 {
                histogram.record(each);
                let snapshot = histogram.snapshot();
                assert_eq!(snapshot.count(), recorded);
                assert_eq!(snapshot.buckets[bucket_of(each)], recorded);
            }
        }
    }

    #[test]
    fn another_group_than_what_is_near_counts_as_well() {
        let histogram = Histogram::default();
        for at in 0..3_000u64 {
            histogram.record([20_000, 1_000_000, 300_000_000][at as usize % 3]);
        }
        for each in [20_000, 1_000_000, 300_000_000] {
            assert_eq!(histogram.snapshot().buckets[bucket_of(each)], 1_000);
        }
    }

    /// Records durations beside a reader, who must never see fewer than before.
    fn read_beside(writes: u64, duration: impl Fn(u64) -> Nanos + Sync) -> Histogram {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..writes).for_each(|at| histogram.record(duration(at))));
            let mut seen = 0;
            while seen < writes {
                let count = histogram.snapshot().count();
                assert!(count >= seen, "{count} after {seen}");
                assert!(count <= writes);
                seen = count;
            }
        });
        histogram
    }

    /// Of one bucket, so that carries are what is read.
    #[test]
    fn a_reader_beside_carries_sees_growing_counts() {
        read_beside(2_000_000, |_| 1_000_000);
    }

    #[test]
    fn a_reader_beside_a_writer_sees_growing_counts() {
        const WRITES: u64 = 200_000;
        let histogram = read_beside(WRITES, |at| at * 1_000);
        assert_eq!(histogram.snapshot().sum(), (0..WRITES).sum::<u64>() * 1_000);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_search(nanos in durations()) {
            prop_assert_eq!(bucket_of(nanos), naive_bucket(nanos));
        }

        #[test]
        fn quantiles_are_off_by_at_most_an_eleventh(
            mut values in prop::collection::vec(durations().prop_map(|n| n.min(60_000_000_000)), 1..200),
            p in 0.0f64..=1.0,
        ) {
            let estimate = snapshot_of(&values).quantile(p).unwrap();
            values.sort_unstable();
            let rank = ((p * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let error = estimate.abs_diff(exact) as f64;
            if exact <= 50_000 {
                prop_assert!(error <= 5_000.0, "{} for {}", estimate, exact);
            } else {
                prop_assert!(error <= exact as f64 / 11.0 * 1.0001, "{} for {}", estimate, exact);
            }
        }

        #[test]
        fn what_came_since_is_what_was_recorded_since(
            a in prop::collection::vec(durations(), 0..100),
            b in prop::collection::vec(durations(), 0..100),
        ) {
            let together = snapshot_of(&[a.clone(), b.clone()].concat());
            prop_assert_eq!(together.count() as usize, a.len() + b.len());
            prop_assert_eq!(together.since(&snapshot_of(&a)), snapshot_of(&b));
        }

        #[test]
        fn exposed_buckets_count_exactly(values in prop::collection::vec(durations(), 0..200)) {
            let snapshot = snapshot_of(&values);
            for ((le, count), (_, upper)) in snapshot.exposition().zip(EXPOSED) {
                let exact = values.iter().filter(|value| **value <= upper).count();
                prop_assert_eq!(count as usize, exact, "le {}", le);
            }
        }
    }
}
