//! Which routes by regular expression take this path?
//!
//! Expressions are tried in order of specificity. Where there are many, sets of them are asked first whether any
//! matches at all, so that a path which none takes costs one pass for each set.

use regex::bytes::{Regex, RegexSet, RegexSetBuilder};

use super::RequestView;
use super::compiled::{CompiledRoute, Routes};
use super::specificity::PathPattern;

/// Patterns in one set: enough to make a miss cheap, few enough to bound a set's program.
const SET: usize = 32;

/// Up to this many patterns, asking each costs no more than asking a set first.
const FEW: usize = 4;

/// Most memory for one set. Larger sets are not built; their expressions are asked one by one.
const SET_BYTES: usize = 1024 * 1024;

/// The regular expressions of one host.
#[derive(Debug, Default)]
pub(super) struct Regexes {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    /// Absent for few patterns, and where the set would take too much memory: then each is asked.
    set: Option<RegexSet>,
    /// The most specific first.
    ids: Vec<u32>,
}

impl Regexes {
    /// Takes the routes by regular expression, the most specific first.
    pub(super) fn new(routes: &[(u32, &Regex)]) -> Self {
        let groups = routes.chunks(SET).map(|chunk| {
            let patterns = chunk.iter().map(|(_, regex)| regex.as_str());
            let build = || {
                RegexSetBuilder::new(patterns)
                    .unicode(false)
                    .dot_matches_new_line(true)
                    .size_limit(SET_BYTES)
                    .build()
                    .ok()
            };
            let set = if chunk.len() > FEW { build() } else { None };
            Group {
                set,
                ids: chunk.iter().map(|&(id, _)| id).collect(),
            }
        });
        Self {
            groups: groups.collect(),
        }
    }

    /// The most specific route that takes the request.
    #[inline]
    pub(super) fn find<'a>(
        &self,
        routes: &'a Routes,
        request: &impl RequestView,
    ) -> Option<CompiledRoute<'a>> {
        let path = request.path();
        let possible = self
            .groups
            .iter()
            .filter(|group| group.set.as_ref().is_none_or(|set| set.is_match(path)));
        possible
            .flat_map(|group| &group.ids)
            .filter_map(|&id| routes.get(id))
            .find(|route| {
                route.takes(request)
                    && matches!(route.pattern(), PathPattern::Regex(regex) if regex.is_match(path))
            })
    }
}
