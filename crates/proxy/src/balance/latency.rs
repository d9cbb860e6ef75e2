//! How slow has an endpoint been lately?
//!
//! A moving average over about ten seconds that believes bad news at once: a sample above the average
//! replaces it, a sample below pulls it down by how long ago the last one was (peak EWMA, as in Finagle and
//! Linkerd). Read without new samples it fades towards zero, so an endpoint that was slow once is tried
//! again: one second fades to one millisecond within 70 s.
//!
//! A failure weighs as a second of latency, mixed in without the jump: an endpoint that fails one request in
//! a hundred looks ten milliseconds slower, one that fails fast and always looks a second slow and attracts
//! nothing.
//!
//! One word holds the average (`f32` nanoseconds, upper half) and when it was written (ticks, lower half), so
//! a reader never sees one without the other. A word of zero means: nothing known.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Nanos, SECOND};

/// Time constant: a sample's weight falls to 37 % in this time. As Finagle and Linkerd do; longer than a
/// garbage collection, shorter than a person's patience.
const DECAY: Nanos = 10 * SECOND;

/// What a failure counts as, at least.
const FAILURE: f32 = 1e9;

/// Shorter is not told apart: below a microsecond it is noise, and load must still weigh once the average has
/// faded.
const FLOOR: f32 = 1_000.0;

/// A tick is 2^14 ns = 16 us: 32 bits of them last 19.5 hours.
const TICK_BITS: u32 = 14;

/// A stamp up to this far in the future is another thread's clock running ahead by a moment, not a stamp that
/// has wrapped round: 1.07 s. After 19.5 idle hours an endpoint may look fresh for as long as the average
/// takes to fade; that is all.
const SKEW_TICKS: u32 = 1 << 16;

/// Writers who lose this many races in a row drop their sample: others have just told the same.
const RACES: u32 = 4;

/// The average latency of one endpoint, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

/// What came of the request whose latency is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    Answer(Nanos),
    Failure(Nanos),
}

impl Latency {
    /// The average in nanoseconds as of `now`, never below a microsecond; `None` before the first sample.
    #[inline]
    pub(super) fn estimate(&self, now: Nanos) -> Option<f32> {
        let (average, stamp) = unpack(self.0.load(Relaxed))?;
        let keep = 1.0 - recency(elapsed(ticks(now), stamp));
        Some((average * keep as f32).max(FLOOR))
    }

    /// Takes one sample into the average.
    #[inline]
    pub(super) fn record(&self, now: Nanos, sample: Sample) {
        let (seen, weighed) = match sample {
            Sample::Answer(latency) => ((latency as f32).max(FLOOR), (latency as f32).max(FLOOR)),
            Sample::Failure(latency) => ((latency as f32).max(FLOOR), (latency as f32).max(FAILURE)),
        };
        let now = ticks(now);
        let mut word = self.0.load(Relaxed);
        for _ in 0..RACES {
            let next = match unpack(word) {
                None => pack(weighed, now),
                Some((average, stamp)) => {
                    let elapsed = elapsed(now, stamp);
                    if elapsed == 0 && seen <= average {
                        return;
                    }
                    let mixed = f64::from(average) + f64::from(weighed - average) * recency(elapsed);
                    pack((mixed as f32).max(seen), if elapsed == 0 { stamp } else { now })
                }
            };
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

/// The share of the average that the last `ticks` make up: `1 - e^(-t / DECAY)`, without the rounding of
/// small steps.
#[inline]
fn recency(ticks: u32) -> f64 {
    const PER_TICK: f64 = (1u64 << TICK_BITS) as f64 / DECAY as f64;
    let x = f64::from(ticks) * PER_TICK;
    // The first two terms are exact to 2e-7 here, and most samples of a busy endpoint come here.
    if x < 0.01 {
        x - 0.5 * x * x
    } else {
        1.0 - f64::from((-x as f32).exp())
    }
}

#[inline]
fn ticks(now: Nanos) -> u32 {
    (now >> TICK_BITS) as u32
}

#[inline]
fn elapsed(now: u32, stamp: u32) -> u32 {
    match now.wrapping_sub(stamp) {
        ahead if ahead > u32::MAX - SKEW_TICKS => 0,
        elapsed => elapsed,
    }
}

#[inline]
fn pack(average: f32, stamp: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(stamp)
}

#[inline]
fn unpack(word: u64) -> Option<(f32, u32)> {
    (word != 0).then_some((f32::from_bits((word >> 32) as u32), word as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    fn after(samples: &[(Nanos, Sample)], now: Nanos) -> f32 {
        let latency = Latency::default();
        for (at, sample) in samples {
            latency.record(*at, *sample);
        }
        latency.estimate(now).unwrap()
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(Latency::default().estimate(SECOND), None);
    }

    #[test]
    fn bad_news_counts_at_once_and_good_news_over_time() {
        let peak = [(0, Sample::Answer(MS)), (SECOND, Sample::Answer(100 * MS))];
        assert!((after(&peak, SECOND) - 100e6).abs() < 1e3);
        let mut samples = peak.to_vec();
        samples.extend((0..1000).map(|i| (SECOND + i * 10 * MS, Sample::Answer(MS))));
        // One time constant of good answers leaves 37 % of the peak.
        let average = after(&samples, 11 * SECOND);
        assert!((35e6..39e6).contains(&average), "{average}");
    }

    #[test]
    fn silence_fades_to_the_floor() {
        let slow = [(0, Sample::Answer(SECOND))];
        let minute = after(&slow, 69 * SECOND);
        assert!((0.9e6..1.1e6).contains(&minute), "{minute}");
        assert_eq!(after(&slow, 3600 * SECOND), FLOOR);
    }

    #[test]
    fn a_busy_endpoint_averages_though_each_step_is_tiny() {
        let latency = Latency::default();
        latency.record(0, Sample::Answer(2 * MS));
        for i in 0..2_000_000u64 {
            latency.record(i * 20_000, Sample::Answer(MS));
        }
        let average = latency.estimate(40 * SECOND).unwrap();
        assert!((1e6..1.1e6).contains(&average), "{average}");
    }

    #[test]
    fn failures_weigh_by_their_share() {
        let run = |one_in: u64| {
            let samples: Vec<_> = (0..60_000u64)
                .map(|i| {
                    let sample = if i % one_in == 0 {
                        Sample::Failure(MS)
                    } else {
                        Sample::Answer(MS)
                    };
                    (i * MS, sample)
                })
                .collect();
            after(&samples, 60 * SECOND)
        };
        let (always, often, seldom) = (run(1), run(10), run(100));
        assert!(always > 0.9e9, "{always}");
        assert!((0.07e9..0.25e9).contains(&often), "{often}");
        assert!((0.005e9..0.1e9).contains(&seldom), "{seldom}");
    }

    #[test]
    fn a_slow_failure_counts_as_slow() {
        assert_eq!(
            after(&[(0, Sample::Answer(MS)), (MS, Sample::Failure(5 * SECOND))], MS),
            5e9
        );
    }

    #[test]
    fn a_clock_slightly_behind_loses_nothing() {
        let samples = [
            (10 * SECOND, Sample::Answer(5 * MS)),
            (10 * SECOND - MS, Sample::Answer(MS)),
        ];
        assert_eq!(after(&samples, 10 * SECOND - 2 * MS), 5e6);
    }

    #[test]
    fn a_wrapped_stamp_still_fades() {
        let wrap = 1u64 << (32 + TICK_BITS);
        let slow = [(SECOND, Sample::Answer(SECOND))];
        assert_eq!(after(&slow, wrap / 2 + 2 * SECOND), FLOOR);
        assert_eq!(after(&slow, wrap - 2 * SECOND), FLOOR);
        assert_eq!(after(&slow, wrap + 1000 * SECOND), FLOOR);
    }

    proptest! {
        #[test]
        fn the_average_stays_within_what_was_seen(
            samples in prop::collection::vec((0u64..SECOND, 0u64..20 * SECOND), 1..50)
        ) {
            let latency = Latency::default();
            let (mut now, mut most) = (0, FLOOR);
            for (wait, sample) in samples {
                now += wait;
                latency.record(now, Sample::Answer(sample));
                most = most.max(sample as f32);
                let estimate = latency.estimate(now).unwrap();
                prop_assert!(estimate >= (sample as f32).max(FLOOR) * 0.999, "{estimate} < {sample}");
                prop_assert!(estimate <= most * 1.001, "{estimate} > {most}");
            }
        }
    }
}
