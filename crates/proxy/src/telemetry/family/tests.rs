use super::super::labels::Interner;
use super::super::stats::{ListenerStats, ListenerTotals};
use super::*;

/// Neighbours share a shelf here, as the routes of a listener do.
const MORE: usize = 3;
const PLACES: usize = Shelf::<ListenerStats, MORE>::PLACES;

type Shared = Arc<Family<Label, ListenerStats, MORE>>;
type Local = LocalFamily<Label, ListenerStats, MORE>;

fn family(bound: usize) -> (Shared, Interner) {
    (Arc::new(Family::new(bound)), Interner::default())
}

fn get(local: &Local, names: &Interner, name: &str) -> Own<ListenerStats, MORE> {
    let label = names.label(name);
    local.get(label.id(), || label.clone(), || names.label("other"))
}

/// How many blocks of a thread count in its family.
fn blocks(local: &Local) -> usize {
    let shelves = local.own.borrow();
    let places = shelves
        .values()
        .flat_map(|shelf| (0..PLACES).map(|place| shelf.0.at(place as u8)));
    places.filter(|slot| slot.attached.load(Relaxed)).count()
}

fn counts(family: &Shared, reading: Reading) -> Vec<(String, u64)> {
    let all = family.collect(reading, |_, _| ());
    let mut counts: Vec<_> = all
        .into_iter()
        .map(|(label, totals): (Label, ListenerTotals)| (label.as_str().to_owned(), totals.accepted))
        .collect();
    counts.sort();
    counts
}

fn expect(counts: &[(String, u64)], expected: &[(&str, u64)]) {
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    assert_eq!(counts, expected);
}

#[test]
fn a_thread_gets_one_block_for_each_label_set() {
    let (family, names) = family(10);
    let local = Local::new(Arc::clone(&family), 0);
    let first = get(&local, &names, "web");
    assert!(std::ptr::eq(&*first, &*get(&local, &names, "web")));
    assert!(!std::ptr::eq(&*first, &*get(&local, &names, "api")));
}

#[test]
fn blocks_of_all_threads_are_added_up_while_they_count() {
    const EACH: u64 = 50_000;
    let (family, names) = family(10);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (family, names) = (Arc::clone(&family), &names);
            scope.spawn(move || {
                let local = Local::new(family, thread);
                for _ in 0..EACH {
                    get(&local, names, "web").accepted();
                }
            });
        }
        let mut before = 0;
        while before < 4 * EACH {
            let now = counts(&family, Reading::Scrape)
                .first()
                .map_or(0, |(_, count)| *count);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    });
    let mut threads = Vec::new();
    let all = family.collect(Reading::Look, |thread, _| threads.push(thread));
    threads.sort_unstable();
    assert_eq!((all.len(), all[0].1.accepted), (1, 4 * EACH));
    assert_eq!(threads, [0, 1, 2, 3]);
}

#[test]
fn one_label_set_too_many_is_counted_under_other() {
    let (family, names) = family(2);
    let (one, two) = (
        Local::new(Arc::clone(&family), 0),
        Local::new(Arc::clone(&family), 1),
    );
    for name in ["a", "b", "c", "d", "c"] {
        get(&one, &names, name).accepted();
    }
    get(&two, &names, "e").accepted();
    expect(
        &counts(&family, Reading::Look),
        &[("a", 1), ("b", 1), ("other", 4)],
    );
    assert_eq!(family.overflows(), 4);
    assert_eq!(blocks(&one), 3, "what was refused leaves nothing behind");
}

#[test]
fn a_full_family_takes_what_every_thread_has() {
    let (family, names) = family(2);
    for thread in 0..3 {
        let local = Local::new(Arc::clone(&family), thread);
        for name in ["a", "b"] {
            get(&local, &names, name).accepted();
        }
    }
    expect(&counts(&family, Reading::Look), &[("a", 3), ("b", 3)]);
    assert_eq!(family.overflows(), 0);
}

#[test]
fn retired_label_sets_go_after_a_scrape_and_make_room() {
    let (family, names) = family(2);
    let local = Local::new(Arc::clone(&family), 0);
    for name in ["a", "b", "c"] {
        let stats = get(&local, &names, name);
        stats.accepted();
        stats.closed(None);
    }
    family.retire(|label| label.as_str() == "a");
    let all = [("a", 1), ("b", 1), ("other", 1)];
    expect(&counts(&family, Reading::Look), &all);
    expect(&counts(&family, Reading::Scrape), &all);
    expect(&counts(&family, Reading::Scrape), &[("a", 1)]);
    get(&local, &names, "c").accepted();
    expect(&counts(&family, Reading::Look), &[("a", 1), ("c", 1)]);
}

#[test]
fn what_is_active_is_not_dropped() {
    let (family, names) = family(2);
    let local = Local::new(Arc::clone(&family), 0);
    let stats = get(&local, &names, "a");
    stats.accepted();
    family.retire(|_| false);
    for _ in 0..3 {
        expect(&counts(&family, Reading::Scrape), &[("a", 1)]);
    }
    stats.closed(None);
    counts(&family, Reading::Scrape);
    expect(&counts(&family, Reading::Scrape), &[]);
}

#[test]
fn a_label_set_that_returns_goes_on_counting() {
    let (family, names) = family(2);
    let local = Local::new(Arc::clone(&family), 0);
    let stats = get(&local, &names, "a");
    stats.accepted();
    stats.closed(None);
    family.retire(|_| false);
    counts(&family, Reading::Scrape);
    expect(&counts(&family, Reading::Look), &[]);

    get(&local, &names, "a").accepted();
    expect(&counts(&family, Reading::Scrape), &[("a", 2)]);
    expect(&counts(&family, Reading::Scrape), &[("a", 2)]);
}

#[test]
fn a_label_set_kept_by_a_later_update_is_no_longer_retired() {
    let (family, names) = family(2);
    let local = Local::new(Arc::clone(&family), 0);
    get(&local, &names, "a");
    family.retire(|_| false);
    family.retire(|_| true);
    counts(&family, Reading::Scrape);
    expect(&counts(&family, Reading::Scrape), &[("a", 0)]);
}

#[test]
fn without_scrapes_the_oldest_retired_go() {
    let (family, names) = family(usize::MAX);
    let local = Local::new(Arc::clone(&family), 0);
    // So many that they fill a shelf and begin another one. They are held, so that they keep their numbers.
    let firsts: Vec<_> = (0..=PLACES)
        .map(|at| names.label(&format!("first{at}")))
        .collect();
    for label in &firsts {
        get(&local, &names, label.as_str());
    }
    family.retire(|_| false);
    for at in 0..RETIRED_KEPT {
        get(&local, &names, &format!("r{at}"));
    }
    family.retire(|_| false);
    let left = counts(&family, Reading::Look);
    assert_eq!(left.len(), RETIRED_KEPT);
    assert!(left.iter().all(|(name, _)| !name.starts_with("first")));
    // The thread forgets them too, at the latest when its map would grow.
    (0..2 * RETIRED_KEPT).for_each(|at| drop(get(&local, &names, &format!("s{at}"))));
    assert!(firsts.iter().all(|first| local.attached(first.key()).is_none()));
    assert!(!local.own.borrow().contains_key(&firsts[0].key().shelf(PLACES).0));
}
