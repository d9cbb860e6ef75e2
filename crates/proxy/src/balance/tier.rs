//! Which endpoint of one priority takes the request?
//!
//! One plan for each balancer. Each first tries a few draws (or turns, or slots), since most endpoints are
//! well most of the time; only when those all fall on endpoints that may not be used does it look at every
//! member. That look draws by weight among all that are left, so the neighbours of a dead endpoint do not
//! inherit its whole share.
//!
//! Two choices: two members are drawn by weight, the better one wins, the first where they are equal. So idle
//! endpoints share by weight, busy ones hold requests by weight, and none takes more than twice its share for
//! looking good: a herd can't form around one endpoint, however many proxies see the same numbers.

use mesh_model::resources::Balancer;

use super::alias::AliasTable;
use super::circle::Circle;
use super::picker::Tried;
use super::schedule::Schedule;
use super::slow_start::Ramp;
use super::{EndpointState, Member, Nanos, Rng, weights};

/// Draws before every member is looked at. Half of them out: one pick in 256.
const DRAWS: u32 = 8;

/// Members of one priority and the plan to choose among them. Indices are those of the whole picker.
#[derive(Debug)]
pub(super) struct Tier {
    first: usize,
    weights: Box<[u64]>,
    total: u64,
    plan: Plan,
    /// When the endpoint that has been here longest was added: slow start is measured against it.
    oldest: Nanos,
}

#[derive(Debug)]
enum Plan {
    TwoChoices {
        table: AliasTable,
        /// One over the weight, in units of the average weight: what one request is felt as.
        felt: Box<[f32]>,
        measure: Measure,
    },
    Turns(Schedule),
    Random(AliasTable),
    Keys(Circle),
}

/// What makes one of two choices the better one.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// Fewer requests in flight for its weight.
    Requests,
    /// Sooner done: latency times one more than the requests in flight for its weight.
    Latency,
}

/// Which endpoints may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    /// Those available that were not tried.
    Fresh,
    /// Those available, tried or not.
    Available,
    /// Those not tried, available or not.
    Untried,
}

/// One pick's circumstances.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) members: &'a [Member],
    pub(super) tried: &'a Tried,
    pub(super) now: Nanos,
    pub(super) usable: Usable,
    /// While some endpoint is in slow start.
    pub(super) ramp: Option<Ramp>,
    /// What consistent hashing goes by.
    pub(super) key: u64,
}

impl Ask<'_> {
    #[inline]
    fn admits(&self, index: usize) -> bool {
        let available = || self.members[index].endpoint.is_available(self.now);
        match self.usable {
            Usable::Fresh => available() && !self.tried.contains(index),
            Usable::Available => available(),
            Usable::Untried => !self.tried.contains(index),
        }
    }
}

impl Tier {
    /// The plan of `balancer` for `members`, none of weight 0; the first of them is number `first` of the
    /// picker.
    pub(super) fn new(balancer: &Balancer, members: &[Member], first: usize) -> Self {
        let weights = weights::flatten(members);
        let places = || {
            members
                .iter()
                .map(|member| member.endpoint.place())
                .collect::<Vec<_>>()
        };
        let plan = match balancer {
            Balancer::Ewma => Plan::two_choices(&weights, Measure::Latency),
            Balancer::LeastRequest => Plan::two_choices(&weights, Measure::Requests),
            Balancer::RoundRobin => Plan::Turns(Schedule::new(&weights)),
            Balancer::Random => Plan::Random(AliasTable::new(&weights)),
            Balancer::RingHash { ring_size } => Plan::Keys(Circle::ring(&places(), &weights, *ring_size)),
            Balancer::Maglev { table_size } => Plan::Keys(Circle::maglev(&places(), &weights, *table_size)),
        };
        Self {
            first,
            total: weights.iter().sum(),
            weights: weights.into(),
            plan,
            oldest: members
                .iter()
                .map(|member| member.endpoint.added_at())
                .min()
                .unwrap_or(0),
        }
    }

    /// How many members it has.
    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    /// The part of its weight that is available, 0 to 1.
    pub(super) fn available(&self, members: &[Member], now: Nanos) -> f64 {
        let members = members[self.first..].iter().zip(&self.weights);
        let available: u64 = members
            .filter(|(member, _)| member.endpoint.is_available(now))
            .map(|(_, weight)| weight)
            .sum();
        available as f64 / self.total.max(1) as f64
    }

    /// Chooses a member that `ask` admits, or `None` when it admits none.
    #[inline]
    pub(super) fn choose(&self, ask: &Ask<'_>, rng: &mut Rng) -> Option<usize> {
        if self.len() == 1 {
            return ask.admits(self.first).then_some(self.first);
        }
        match &self.plan {
            Plan::TwoChoices { table, felt, measure } => {
                let one = self.draw(ask, rng, |rng| table.draw(rng))?;
                let Some(other) = self.draw_another(ask, rng, table, one) else {
                    return Some(one);
                };
                Some(self.better(ask, *measure, felt, one, other))
            }
            Plan::Turns(schedule) => self.draw(ask, rng, |rng| schedule.take(rng)),
            Plan::Random(table) => self.draw(ask, rng, |rng| table.draw(rng)),
            Plan::Keys(circle) => {
                let owner = circle.owner(ask.key, |index| ask.admits(self.first + index))?;
                Some(self.first + owner)
            }
        }
    }

    /// Draws until a member is admitted; endpoints in slow start pass in proportion to their share.
    #[inline]
    fn draw(&self, ask: &Ask<'_>, rng: &mut Rng, next: impl Fn(&mut Rng) -> usize) -> Option<usize> {
        for _ in 0..DRAWS {
            let index = self.first + next(rng);
            if ask.admits(index) && self.warm_enough(ask, index, rng) {
                return Some(index);
            }
        }
        self.look_at_all(ask, rng)
    }

    /// Draws a second member, not `one`.
    #[inline]
    fn draw_another(&self, ask: &Ask<'_>, rng: &mut Rng, table: &AliasTable, one: usize) -> Option<usize> {
        let count = self.len();
        if count == 2 {
            let other = 2 * self.first + 1 - one;
            return (ask.admits(other) && self.warm_enough(ask, other, rng)).then_some(other);
        }
        for _ in 0..DRAWS {
            let index = self.first + table.draw(rng);
            if index != one && ask.admits(index) && self.warm_enough(ask, index, rng) {
                return Some(index);
            }
        }
        // One member holds nearly all weight, or most are out: any other will do, since the two are compared
        // anyway.
        let start = rng.below(count as u32) as usize;
        (0..count)
            .map(|step| self.first + (start + step) % count)
            .find(|&index| index != one && ask.admits(index))
    }

    /// Draws by weight among all members that are admitted.
    #[cold]
    fn look_at_all(&self, ask: &Ask<'_>, rng: &mut Rng) -> Option<usize> {
        let mut chosen = None;
        let mut total = 0.0;
        for (offset, &weight) in self.weights.iter().enumerate() {
            let index = self.first + offset;
            if ask.admits(index) {
                let weight = weight as f64 * f64::from(share(ask, index));
                total += weight;
                if rng.unit() * total < weight {
                    chosen = Some(index);
                }
            }
        }
        chosen
    }

    /// Whether an endpoint in slow start takes a request it was drawn for, relative to the one that is
    /// furthest.
    #[inline]
    fn warm_enough(&self, ask: &Ask<'_>, index: usize, rng: &mut Rng) -> bool {
        let Some(ramp) = ask.ramp else { return true };
        let furthest = ramp.share_since(self.oldest, ask.now);
        rng.unit() < f64::from(share(ask, index) / furthest)
    }

    /// The better of two, the first where they are equal: it was drawn by weight.
    #[inline]
    fn better(&self, ask: &Ask<'_>, measure: Measure, felt: &[f32], one: usize, other: usize) -> usize {
        let (first, second) = (&*ask.members[one].endpoint, &*ask.members[other].endpoint);
        // Requests in flight as an endpoint of average weight would feel them.
        let load = |endpoint: &EndpointState, index: usize| {
            endpoint.load() as f32 * felt[index - self.first] / share(ask, index)
        };
        let (a, b) = (load(first, one), load(second, other));
        let (a, b) = match measure {
            Measure::Requests => (a, b),
            Measure::Latency => {
                let (a, b) = (a + 1.0, b + 1.0);
                // An endpoint nobody has heard from is taken to be as fast as its rival: it gets as much as
                // least request would give it, neither the flood of a low guess nor the neglect of a high
                // one.
                match (first.latency(ask.now), second.latency(ask.now)) {
                    (Some(p), Some(q)) => (a * p, b * q),
                    _ => (a, b),
                }
            }
        };
        if b < a { other } else { one }
    }
}

impl Plan {
    fn two_choices(weights: &[u64], measure: Measure) -> Self {
        let mean = weights.iter().sum::<u64>() as f64 / weights.len().max(1) as f64;
        Self::TwoChoices {
            table: AliasTable::new(weights),
            felt: weights
                .iter()
                .map(|&weight| (mean / weight as f64) as f32)
                .collect(),
            measure,
        }
    }
}

/// The part of its full share that a member has now.
#[inline]
fn share(ask: &Ask<'_>, index: usize) -> f32 {
    ask.ramp
        .map_or(1.0, |ramp| ramp.share(&ask.members[index].endpoint, ask.now))
}
