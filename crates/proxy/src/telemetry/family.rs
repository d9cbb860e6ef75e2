//! Which blocks of one kind are there, and how does a thread come by its own?
//!
//! A family holds, for each label set, the blocks of all data threads. A thread makes its block at first use; only
//! then it takes the family's lock. From there on it finds it in a map of its own.
//!
//! ```text
//!   thread 0: LocalFamily ── shelf of the key ──> Rc<OwnShelf<B>> ── place ──┐
//!   thread 1: LocalFamily ── shelf of the key ──> Rc<OwnShelf<B>> ── place ─┐│      Slot<B>
//!   Family: key ──> Entry { labels, slots: [ ──────────────────────────────────┘┘ ] } ──> scrape adds them up
//! ```
//!
//! Bounded: at most `bound` label sets. What would be one more is counted under the label set `other`, and how often
//! that happened. A label set that an update made superfluous is *retired*: it stays until its last counts were
//! scraped and nothing of it is active; of those at most [`RETIRED_KEPT`] are kept, for where nobody scrapes.
//!
//! Invariant: a slot out of the family is not marked `attached`. Its thread sees that at the next use and brings the
//! slot back with all its counts, so that a label set that returns goes on from where it was.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use super::counter::SharedCounter;
use super::labels::Label;
use super::stats::Block;
use crate::locked::locked;

/// How many retired label sets wait for a scrape.
pub(super) const RETIRED_KEPT: usize = 1000;

/// A thread's map is swept for slots that left the family when it is at least this long.
const LEAST_SWEEP: usize = 64;

/// How many neighbours of a block lie on its shelf, where they are small and many: with it they are a
/// kilobyte.
pub(super) const NEIGHBOURS: usize = 15;

/// Labels that tell the blocks of a family apart.
pub trait LabelSet: Clone + Send + 'static {
    /// The numbers of the labels.
    type Key: LabelKey;

    /// The key of these labels.
    fn key(&self) -> Self::Key;
}

/// The numbers of labels. Keys that count on in one number are neighbours: they lie on one shelf.
pub trait LabelKey: Copy + Eq + Hash + Send + fmt::Debug {
    /// The number that tells neighbours apart.
    fn neighbours(&mut self) -> &mut u64;

    /// The key of the shelf of so many places, and the place on it.
    #[inline]
    fn shelf(mut self, places: usize) -> (Self, u8) {
        let number = self.neighbours();
        let place = *number % places as u64;
        *number /= places as u64;
        (self, place as u8)
    }
}

/// A block's place. Aligned, so that threads don't share a cache line, and what is counted in most is one; in this order,
/// so that the mark that is looked at for each use lies with it.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Slot<B> {
    /// Whether the block is in the family.
    attached: AtomicBool,
    cells: B,
}

/// Blocks of neighbours, of one thread, side by side: ten thousand that are counted in by turns are on few pages.
#[derive(Debug)]
struct Shelf<B, const MORE: usize> {
    thread: usize,
    first: Slot<B>,
    more: [Slot<B>; MORE],
}

impl<B: Default, const MORE: usize> Shelf<B, MORE> {
    /// How many blocks lie on it.
    const PLACES: usize = MORE + 1;

    fn new(thread: usize) -> Self {
        Self {
            thread,
            first: Slot::default(),
            more: std::array::from_fn(|_| Slot::default()),
        }
    }

    #[inline]
    fn at(&self, place: u8) -> &Slot<B> {
        let more = usize::from(place).checked_sub(1);
        // Places are numbers below this length.
        more.and_then(|place| self.more.get(place)).unwrap_or(&self.first)
    }

    /// Whether any of its blocks is in the family.
    fn is_in_use(&self) -> bool {
        let mut slots = self.more.iter().chain([&self.first]);
        slots.any(|slot| slot.attached.load(Relaxed))
    }
}

/// A shelf's own thread counts who uses it here: the count of the `Arc` would be a locked instruction for each use.
#[derive(Debug)]
struct OwnShelf<B, const MORE: usize>(Arc<Shelf<B, MORE>>);

impl<B: Default, const MORE: usize> OwnShelf<B, MORE> {
    fn new(thread: usize) -> Rc<Self> {
        Rc::new(Self(Arc::new(Shelf::new(thread))))
    }
}

/// A block of cells that this thread, and no other, may write.
#[derive(Debug)]
pub struct Own<B, const MORE: usize = 0> {
    shelf: Rc<OwnShelf<B, MORE>>,
    place: u8,
}

impl<B, const MORE: usize> Clone for Own<B, MORE> {
    fn clone(&self) -> Self {
        Self {
            shelf: Rc::clone(&self.shelf),
            place: self.place,
        }
    }
}

impl<B: Default, const MORE: usize> Deref for Own<B, MORE> {
    type Target = B;

    #[inline]
    fn deref(&self) -> &B {
        &self.shelf.0.at(self.place).cells
    }
}

/// One thread's block, as the family holds it.
#[derive(Debug)]
struct Held<B, const MORE: usize> {
    shelf: Arc<Shelf<B, MORE>>,
    place: u8,
}

impl<B, const MORE: usize> Clone for Held<B, MORE> {
    fn clone(&self) -> Self {
        Self {
            shelf: Arc::clone(&self.shelf),
            place: self.place,
        }
    }
}

impl<B: Default, const MORE: usize> Held<B, MORE> {
    fn slot(&self) -> &Slot<B> {
        self.shelf.at(self.place)
    }
}

#[derive(Debug)]
struct Entry<L, B, const MORE: usize> {
    labels: L,
    slots: Vec<Held<B, MORE>>,
    /// When it was retired, as a count of retirements.
    retired: Option<u64>,
}

#[derive(Debug)]
struct Entries<L: LabelSet, B, const MORE: usize> {
    by_key: HashMap<L::Key, Entry<L, B, MORE>>,
    retirements: u64,
}

/// Whether a reading is the one that retired label sets wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is kept by whoever asked: what is retired has been seen.
    Scrape,
    /// Somebody looks.
    Look,
}

/// All blocks of one kind. `MORE` neighbours lie on one shelf with each.
#[derive(Debug)]
pub(super) struct Family<L: LabelSet, B, const MORE: usize = 0> {
    entries: Mutex<Entries<L, B, MORE>>,
    bound: usize,
    /// A label set was refused since one was last dropped: don't even ask.
    full: AtomicBool,
    overflows: SharedCounter,
}

impl<L: LabelSet, B: Block, const MORE: usize> Family<L, B, MORE> {
    /// A family of at most `bound` label sets, those called `other` not counted.
    pub(super) fn new(bound: usize) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            retirements: 0,
        };
        Self {
            entries: Mutex::new(entries),
            bound,
            full: AtomicBool::new(false),
            overflows: SharedCounter::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries<L, B, MORE>> {
        locked(&self.entries)
    }

    /// Puts a block into the family, unless that needs a label set more than `bound`.
    fn attach(&self, labels: &L, held: Held<B, MORE>, bound: usize) -> bool {
        let mut entries = self.lock();
        let count = entries.by_key.len();
        let entry = match entries.by_key.entry(labels.key()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if count >= bound => {
                self.full.store(true, Relaxed);
                return false;
            }
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(Entry {
                labels: labels.clone(),
                slots: Vec::new(),
                retired: None,
            }),
        };
        held.slot().attached.store(true, Relaxed);
        entry.slots.push(held);
        true
    }

    /// Retires the label sets that `keep` refuses, and brings back those that it takes.
    pub(super) fn retire(&self, keep: impl Fn(&L) -> bool) {
        let mut entries = self.lock();
        let mut retirements = entries.retirements;
        let mut retired = Vec::new();
        for (key, entry) in &mut entries.by_key {
            if keep(&entry.labels) {
                entry.retired = None;
                continue;
            }
            let at = *entry.retired.get_or_insert_with(|| {
                retirements += 1;
                retirements
            });
            retired.push((at, *key));
        }
        entries.retirements = retirements;
        if retired.len() > RETIRED_KEPT {
            let surplus = retired.len() - RETIRED_KEPT;
            retired.sort_unstable_by_key(|(at, _)| *at);
            let doomed = retired.iter().take(surplus).map(|(_, key)| *key).collect();
            self.drop_idle(&mut entries, doomed);
        }
    }

    /// The totals of every label set, over all threads. `each` sees a thread's number with its block.
    pub(super) fn collect(&self, reading: Reading, mut each: impl FnMut(usize, &B)) -> Vec<(L, B::Totals)> {
        // The lock is held to copy pointers, not while adding up.
        let copied: Vec<_> = {
            let entries = self.lock();
            let all = entries.by_key.values();
            all.map(|entry| (entry.labels.clone(), entry.slots.clone(), entry.retired.is_some()))
                .collect()
        };
        let mut seen = Vec::new();
        let totals = copied
            .into_iter()
            .map(|(labels, slots, retired)| {
                let mut totals = B::Totals::default();
                for held in &slots {
                    let cells = &held.slot().cells;
                    cells.add_to(&mut totals);
                    each(held.shelf.thread, cells);
                }
                if retired {
                    seen.push(labels.key());
                }
                (labels, totals)
            })
            .collect();
        if reading == Reading::Scrape && !seen.is_empty() {
            self.drop_idle(&mut self.lock(), seen);
        }
        totals
    }

    /// Takes label sets out that are retired and of which nothing is active.
    fn drop_idle(&self, entries: &mut Entries<L, B, MORE>, keys: Vec<L::Key>) {
        for key in keys {
            let idle = entries.by_key.get(&key).is_some_and(|entry| {
                entry.retired.is_some() && !entry.slots.iter().any(|held| held.slot().cells.is_busy())
            });
            if idle && let Some(entry) = entries.by_key.remove(&key) {
                for held in entry.slots {
                    held.slot().attached.store(false, Relaxed);
                }
                self.full.store(false, Relaxed);
            }
        }
    }

    /// How often a label set was refused and its use counted under `other`.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows.get()
    }
}

/// One thread's blocks of a family.
#[derive(Debug)]
pub(super) struct LocalFamily<L: LabelSet, B, const MORE: usize = 0> {
    thread: usize,
    family: Arc<Family<L, B, MORE>>,
    own: RefCell<OwnMap<L, B, MORE>>,
    sweep_at: Cell<usize>,
}

/// Keys are numbers that this process makes, so a fast hash is safe.
type OwnMap<L, B, const MORE: usize> =
    HashMap<<L as LabelSet>::Key, Rc<OwnShelf<B, MORE>>, foldhash::fast::RandomState>;

impl<L: LabelSet, B: Block, const MORE: usize> LocalFamily<L, B, MORE> {
    /// The blocks of data thread number `thread`.
    pub(super) fn new(family: Arc<Family<L, B, MORE>>, thread: usize) -> Self {
        Self {
            thread,
            family,
            own: RefCell::default(),
            sweep_at: Cell::new(LEAST_SWEEP),
        }
    }

    /// This thread's block for a key. `labels` and `other` are asked only when there is none yet.
    #[inline]
    pub(super) fn get(
        &self,
        key: L::Key,
        labels: impl FnOnce() -> L,
        other: impl FnOnce() -> L,
    ) -> Own<B, MORE> {
        match self.attached(key) {
            Some(own) => own,
            None => self.attach(&labels(), other),
        }
    }

    #[inline]
    fn attached(&self, key: L::Key) -> Option<Own<B, MORE>> {
        let (key, place) = key.shelf(Shelf::<B, MORE>::PLACES);
        let own = self.own.borrow();
        let shelf = own.get(&key)?;
        shelf.0.at(place).attached.load(Relaxed).then(|| Own {
            shelf: Rc::clone(shelf),
            place,
        })
    }

    #[cold]
    fn attach(&self, labels: &L, other: impl FnOnce() -> L) -> Own<B, MORE> {
        if !self.family.full.load(Relaxed)
            && let Some(own) = self.attach_within(labels, self.family.bound)
        {
            return own;
        }
        self.family.overflows.increment();
        let other = other();
        match self.attached(other.key()) {
            Some(own) => own,
            // There is no bound that can refuse this one; the block counts even if it were.
            None => self.attach_within(&other, usize::MAX).unwrap_or_else(|| Own {
                shelf: OwnShelf::new(self.thread),
                place: 0,
            }),
        }
    }

    fn attach_within(&self, labels: &L, bound: usize) -> Option<Own<B, MORE>> {
        let (key, place) = labels.key().shelf(Shelf::<B, MORE>::PLACES);
        let before = self.own.borrow().get(&key).map(Rc::clone);
        let shelf = before.unwrap_or_else(|| OwnShelf::new(self.thread));
        let held = Held {
            shelf: Arc::clone(&shelf.0),
            place,
        };
        // Not even an empty shelf is kept for what is refused.
        if !self.family.attach(labels, held, bound) {
            return None;
        }
        let mut all = self.own.borrow_mut();
        if all.len() >= self.sweep_at.get() {
            all.retain(|_, shelf| shelf.0.is_in_use());
            self.sweep_at.set(LEAST_SWEEP.max(all.len() * 2));
        }
        all.insert(key, Rc::clone(&shelf));
        Some(Own { shelf, place })
    }
}

impl LabelKey for u64 {
    fn neighbours(&mut self) -> &mut u64 {
        self
    }
}

impl LabelSet for Label {
    type Key = u64;

    fn key(&self) -> u64 {
        self.id()
    }
}

#[cfg(test)]
mod tests;
