//! Is this configuration right, and if not, what all is wrong with it?
//!
//! [`parse`] reads JSON, [`validate`] checks meaning: names, references, patterns, ranges, and fields that exclude or
//! need each other. Meaning is checked here and nowhere else; whoever writes resources (a file, TypeScript, a control
//! plane) asks this module and shows its [`Issue`]s at the place they came from.
//!
//! Invariants: all problems are found at once; what is accepted compiles
//! ([`RouteIndex::compile`](crate::route::RouteIndex::compile), [`SniIndex::compile`](crate::sni::SniIndex::compile));
//! nothing is read from the outside: files and names that resources point to are the hosts' business.

mod clusters;
mod endpoints;
mod listeners;
mod policies;
mod routes;
#[cfg(test)]
mod tests;
mod unreadable;
#[cfg(test)]
mod wrong_values;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;

use crate::issue::{At, Issues, Problem, shown};
pub use crate::issue::{Issue, IssueCode, PathStep, Position, render_path};
use crate::limits::{LIMITS, Unit};
use crate::resources::{Cluster, Duration, Resources, WeightedCluster};
use crate::syntax;

use self::unreadable::{empty, unreadable};

/// Reads resources from JSON. Meaning is not checked; see [`validate`].
///
/// # Errors
/// One issue, with its place in the text: reading ends at the first thing that can't be read.
pub fn parse(json: &str) -> Result<Resources, Vec<Issue>> {
    read(json)
}

/// Reads anything that is written as resources are, such as a change of them.
///
/// # Errors
/// As [`parse`].
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Vec<Issue>> {
    if json.trim_ascii().is_empty() {
        return Err(vec![empty()]);
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| vec![unreadable(error.path().iter(), error.inner())])?;
    reader
        .end()
        .map_err(|error| vec![unreadable([].iter(), &error)])?;
    Ok(value)
}

/// Reads and checks resources: the issues as a JSON array, `[]` when all is well.
pub fn validate_json(json: &str) -> String {
    let issues = match parse(json) {
        Ok(resources) => validate(&resources),
        Err(issues) => issues,
    };
    // Issues hold nothing but text and numbers, which always serialise.
    serde_json::to_string(&issues).unwrap_or_default()
}

/// Checks resources, and lists every problem.
pub fn validate(resources: &Resources) -> Vec<Issue> {
    validate_part(resources, &Whole::new(resources))
}

/// Checks some of the resources, and lists every problem of theirs; paths count within the part. What they refer to is
/// `known`, themselves included.
///
/// All listeners or none belong to a part, since they share the ports of a machine; and all policies or none.
pub fn validate_part(part: &Resources, known: &dyn Known) -> Vec<Issue> {
    let mut issues = Issues::default();
    listeners::check(&part.listeners, known, &mut issues);
    routes::check(&part.route_tables, known, &mut issues);
    clusters::check(&part.clusters, &mut issues);
    endpoints::check(&part.endpoints, known, &mut issues);
    policies::check(&part.policies, known, &mut issues);
    issues.into_vec()
}

/// What resources may refer to.
pub trait Known {
    /// The cluster of this name.
    fn cluster(&self, name: &str) -> Option<&Cluster>;
    /// Whether there is a route table of this name.
    fn has_route_table(&self, name: &str) -> bool;
    /// All clusters, to find one that was meant.
    fn cluster_names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
    /// All route tables.
    fn route_table_names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
    /// Whether there is a listener of this name.
    fn has_listener(&self, name: &str) -> bool;
    /// All listeners.
    fn listener_names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
}

/// Resources that refer to nothing but each other.
struct Whole<'a> {
    listeners: HashSet<&'a str>,
    tables: HashSet<&'a str>,
    clusters: HashMap<&'a str, &'a Cluster>,
}

impl<'a> Whole<'a> {
    fn new(resources: &'a Resources) -> Self {
        Self {
            listeners: resources
                .listeners
                .iter()
                .map(|listener| listener.name.as_str())
                .collect(),
            tables: resources
                .route_tables
                .iter()
                .map(|table| table.name.as_str())
                .collect(),
            clusters: resources
                .clusters
                .iter()
                .map(|cluster| (cluster.name.as_str(), cluster))
                .collect(),
        }
    }
}

impl Known for Whole<'_> {
    fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(name).copied()
    }

    fn has_route_table(&self, name: &str) -> bool {
        self.tables.contains(name)
    }

    fn cluster_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.clusters.keys().copied())
    }

    fn route_table_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tables.iter().copied())
    }

    fn has_listener(&self, name: &str) -> bool {
        self.listeners.contains(name)
    }

    fn listener_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.listeners.iter().copied())
    }
}

/// Checks targets drawn by weight: known, distinct, in range, not all without weight.
fn check_targets(known: &dyn Known, targets: &[WeightedCluster], at: &At<'_>, issues: &mut Issues) {
    /// Above it sums of weights say nothing that ratios below it can't.
    const MAX_WEIGHT: u32 = 1_000_000;
    let mut seen = HashSet::new();
    for (number, target) in targets.iter().enumerate() {
        let at = at.index(number);
        if known.cluster(&target.cluster).is_none() {
            issues.add(
                &at.key("cluster"),
                unknown("cluster", &target.cluster, known.cluster_names()),
            );
        } else if !seen.insert(&target.cluster) {
            issues.add(&at.key("cluster"), duplicate("cluster", &target.cluster));
        }
        if target.weight > MAX_WEIGHT {
            range(
                issues,
                &at.key("weight"),
                target.weight.into(),
                0..=MAX_WEIGHT.into(),
            );
        }
    }
    if targets.iter().all(|target| target.weight == 0) {
        issues.add(at, crate::route::no_weight(targets));
    }
}

/// Checks the names of one kind of resource: well formed and unique.
fn names<'a>(kind: &str, names: impl Iterator<Item = &'a str>, at: &At<'_>, issues: &mut Issues) {
    let mut seen = HashSet::new();
    for (number, name) in names.enumerate() {
        let at = at.index(number);
        let at = at.key("name");
        if let Err(problem) = name_problem(name) {
            issues.add(&at, problem);
        } else if !seen.insert(name) {
            issues.add(&at, duplicate(kind, name));
        }
    }
}

fn name_problem(name: &str) -> Result<(), Problem> {
    if syntax::is_name(name) {
        return Ok(());
    }
    let message = if name.is_empty() {
        "the name is empty".to_owned()
    } else {
        format!("{} is not a name", shown(name))
    };
    Err(Problem::new(
        IssueCode::BadName,
        message,
        "1 to 253 printable ASCII characters without spaces and quotes",
    ))
}

fn duplicate(kind: &str, name: &str) -> Problem {
    Problem::plain(
        IssueCode::Duplicate,
        format!("the {kind} {} stands here a second time", shown(name)),
    )
}

/// A name that nothing has, with the nearest one that something has.
fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let mut message = format!("there is no {kind} {}", shown(name));
    if let Some(near) = nearest(name, known) {
        message.push_str(&format!("; did you mean {}?", shown(near)));
    }
    Problem::plain(IssueCode::UnknownReference, message)
}

/// The known name that differs least from this one, if it differs little. Bounded: long lists are not searched.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const MOST_NAMES: usize = 1000;
    let most = (name.len() / 2).clamp(1, 3);
    known
        .take(MOST_NAMES)
        .filter(|other| other.len().abs_diff(name.len()) <= most && other.len() <= 64)
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, other)| other)
}

/// Levenshtein's distance with swaps of neighbours (optimal string alignment), in bytes.
pub fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let mut cost = (at(&above, column) + usize::from(a != b))
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            let is_swapped =
                |row: usize, column: usize| left.get(row) == Some(b) && right.get(column) == Some(a);
            if let (Some(up), Some(back)) = (row.checked_sub(1), column.checked_sub(1))
                && is_swapped(up, back)
            {
                cost = cost.min(at(&before, back) + 1);
            }
            current.push(cost);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or_default()
}

fn missing(what: &'static str, expected: &'static str) -> Problem {
    Problem::new(IssueCode::Missing, what, expected)
}

fn conflict(message: &'static str, expected: &'static str) -> Problem {
    Problem::new(IssueCode::Conflict, message, expected)
}

fn range(issues: &mut Issues, at: &At<'_>, value: u64, allowed: RangeInclusive<u64>) {
    if !allowed.contains(&value) {
        issues.add(
            at,
            Problem {
                code: IssueCode::OutOfRange,
                message: format!("{value} is out of range"),
                expected: Some(format!("{} to {}", allowed.start(), allowed.end())),
            },
        );
    }
}

/// Checks a number against the table of limits. `path` is the limit's, `at` where this number stands.
fn limit(issues: &mut Issues, at: &At<'_>, path: &str, value: u64) {
    let Some(limit) = LIMITS.iter().find(|limit| limit.path == path) else {
        return;
    };
    if (limit.min..=limit.max).contains(&value) || (limit.zero_is_off && value == 0) {
        return;
    }
    let text = |value: u64| match limit.unit {
        Unit::Milliseconds => Duration::from_millis(value).to_string(),
        Unit::Bytes => format!("{value} bytes"),
        Unit::Count => value.to_string(),
    };
    let off = if limit.zero_is_off { ", or 0 for none" } else { "" };
    issues.add(
        at,
        Problem {
            code: IssueCode::OutOfRange,
            message: format!("{} is out of range", text(value)),
            expected: Some(format!("{} to {}{off}", text(limit.min), text(limit.max))),
        },
    );
}

/// A duration as the table of limits counts it.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.0.as_millis()).unwrap_or(u64::MAX)
}
