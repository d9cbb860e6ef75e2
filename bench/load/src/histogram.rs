//! How are latencies kept? In log-linear buckets: 64 steps in each power of two, so no value is off by more than 1.6 %.

/// Bits of precision in one power of two.
const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;

/// Nanoseconds, counted.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; STEPS * (65 - STEP_BITS as usize)],
            total: 0,
            max: 0,
        }
    }

    fn index(nanos: u64) -> usize {
        let shift = (64 - STEP_BITS).saturating_sub(nanos.leading_zeros() + 1);
        shift as usize * STEPS + (nanos >> shift) as usize
    }

    /// The largest value that falls into the bucket.
    fn upper(index: usize) -> u64 {
        let shift = (index / STEPS).saturating_sub(1);
        let step = (index - shift * STEPS) as u64;
        ((step + 1) << shift) - 1
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(Self::index(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// The smallest kept value that at least `share` (0 to 1) of all values do not exceed, in microseconds.
    pub(crate) fn micros_at(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::upper(index).min(self.max) as f64 / 1e3;
            }
        }
        self.max as f64 / 1e3
    }

    pub(crate) fn max_micros(&self) -> f64 {
        self.max as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_within_the_promised_error() {
        let mut value = 1_u64;
        while value < 1 << 50 {
            for nanos in [value - 1, value, value + value / 3] {
                let upper = Histogram::upper(Histogram::index(nanos));
                assert!(upper >= nanos, "{nanos} above its bucket's end {upper}");
                assert!(upper - nanos <= nanos / 32, "{nanos} too far from {upper}");
            }
            value *= 2;
        }
    }

    #[test]
    fn percentiles_count_from_the_bottom() {
        let mut histogram = Histogram::new();
        for millis in 1..=100 {
            histogram.record(millis * 1_000_000);
        }
        let (median, p99) = (histogram.micros_at(0.5), histogram.micros_at(0.99));
        assert!((50_000.0..51_000.0).contains(&median), "{median}");
        assert!((99_000.0..100_000.1).contains(&p99), "{p99}");
        assert_eq!(histogram.micros_at(1.0), 100_000.0);
    }
}
