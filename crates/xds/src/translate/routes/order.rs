//! The order of routes.
//!
//! In xDS the first route that takes a request wins; in the model the most specific does, wherever it stands. A table in
//! the order of specificity means the same in both. Any other order is taken only if no request could tell the
//! difference.

use mesh_model::resources::{PathMatch, Route, RouteMatch, ValueCondition};
use mesh_model::route::Specificity;

use super::super::Refusal;

/// Routes of one host that are compared one by one when they are out of order.
const MAX_COMPARED: usize = 2000;

/// The routes, the most specific first.
pub(super) fn sorted(routes: &[Route]) -> Result<Vec<&Route>, Refusal> {
    let mut sorted: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(number, route)| Ok((specificity(&route.matches, number)?, route)))
        .collect::<Result<_, _>>()?;
    sorted.sort_by_key(|(specificity, _)| *specificity);
    Ok(sorted.into_iter().map(|(_, route)| route).collect())
}

/// Refuses an order in which another route would win than here.
pub(super) fn check(routes: &[Route]) -> Result<(), Refusal> {
    let ranks: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(number, route)| specificity(&route.matches, number))
        .collect::<Result<_, _>>()?;
    if ranks.is_sorted() {
        return Ok(());
    }
    if routes.len() > MAX_COMPARED {
        return Err(Refusal::new(
            "routes",
            format!("more than {MAX_COMPARED} routes have to stand the most specific first"),
        ));
    }
    let all: Vec<_> = routes.iter().zip(&ranks).enumerate().collect();
    for (number, (later, rank)) in &all {
        for (first, (earlier, earlier_rank)) in all.iter().take(*number) {
            if rank < earlier_rank && may_overlap(&earlier.matches, &later.matches) {
                return Err(Refusal::new(
                    format!("routes[{first}]"),
                    format!(
                        "comes before routes[{number}], which is more specific and would win here: {} and {}",
                        shown(earlier),
                        shown(later),
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn specificity(matches: &RouteMatch, number: usize) -> Result<Specificity, Refusal> {
    Specificity::of(matches).ok_or_else(|| {
        Refusal::new(
            format!("routes[{number}].match"),
            "the path condition can't be read",
        )
    })
}

fn shown(route: &Route) -> String {
    match (&route.name, &route.matches.path) {
        (name, _) if !name.is_empty() => format!("`{name}`"),
        (
            _,
            Some(
                PathMatch::Exact(path)
                | PathMatch::Prefix(path)
                | PathMatch::Template(path)
                | PathMatch::Regex(path),
            ),
        ) => format!("`{path}`"),
        _ => "one without name and path".to_owned(),
    }
}

/// Whether a request could be taken by both, as far as can be said cheaply: yes when in doubt.
fn may_overlap(one: &RouteMatch, other: &RouteMatch) -> bool {
    let common = one.methods.iter().any(|method| other.methods.contains(method));
    if !common && !one.methods.is_empty() && !other.methods.is_empty() {
        return false;
    }
    let differs = one.headers.iter().any(|header| {
        other.headers.iter().any(|against| {
            let exact = |value: &ValueCondition| matches!(value, ValueCondition::Exact(_));
            exact(&header.value)
                && exact(&against.value)
                && !header.invert
                && !against.invert
                && header.value != against.value
                && header.name.eq_ignore_ascii_case(&against.name)
        })
    });
    !differs && Paths::of(one).may_overlap(&Paths::of(other))
}

/// The paths that a match takes, or more.
#[derive(Debug)]
enum Paths {
    Only(String),
    /// This and what is below it, on segment borders.
    Below(String),
    /// What begins so.
    Begin(String),
}

impl Paths {
    fn of(matches: &RouteMatch) -> Self {
        match (&matches.path, &matches.grpc) {
            (Some(PathMatch::Exact(path)), _) => Self::Only(path.clone()),
            (Some(PathMatch::Prefix(path)), _) => Self::Below(path.clone()),
            (Some(PathMatch::Template(path)), _) => {
                Self::Begin(path.split('{').next().unwrap_or_default().to_owned())
            }
            (Some(PathMatch::Regex(pattern)), _) => Self::Begin(literal_start(pattern)),
            (None, Some(grpc)) => match &grpc.method {
                Some(method) => Self::Only(format!("/{}/{method}", grpc.service)),
                None => Self::Below(format!("/{}/", grpc.service)),
            },
            (None, None) => Self::Begin(String::new()),
        }
    }

    fn may_overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(one), Self::Only(other)) => one == other,
            (Self::Only(path), Self::Below(prefix)) | (Self::Below(prefix), Self::Only(path)) => {
                is_below(prefix, path)
            }
            (Self::Only(path), Self::Begin(start)) | (Self::Begin(start), Self::Only(path)) => {
                path.starts_with(start.as_str())
            }
            (Self::Below(one), Self::Below(other)) => is_below(one, other) || is_below(other, one),
            (Self::Below(one) | Self::Begin(one), Self::Below(other) | Self::Begin(other)) => {
                one.starts_with(other.as_str()) || other.starts_with(one.as_str())
            }
        }
    }
}

fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

/// What every text that the pattern takes begins with, as far as plain letters say so.
fn literal_start(pattern: &str) -> String {
    // One that has alternatives may begin in several ways, and what is followed by `?`, `*` or `{` may be absent.
    if pattern.contains('|') {
        return String::new();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-~%!&',;:=@".contains(c);
    let mut start: String = pattern.chars().take_while(|&c| plain(c)).collect();
    if pattern
        .get(start.len()..)
        .is_some_and(|rest| rest.starts_with(['?', '*', '{', '+']))
    {
        start.pop();
    }
    start
}
