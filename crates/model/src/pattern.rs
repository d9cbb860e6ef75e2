//! How are regular expressions bounded?
//!
//! Patterns run over bytes, in time linear in the input, and must match the whole value. Classes are ASCII and take
//! bytes (`.` is any byte, a newline too, `\d` is `[0-9]`), so that no value is undecodable and none slips past a
//! condition by being malformed UTF-8.

use regex::bytes::{Regex, RegexBuilder};

use crate::issue::{IssueCode, Problem, shown};

/// Longest pattern. Longer ones are lists in disguise, which exact and prefix conditions do better.
pub(crate) const MAX_PATTERN_BYTES: usize = 2048;

/// Most memory for one compiled program: nested counted repetitions grow it without bound otherwise, and the worst case of
/// matching is its size times the length of the value.
const MAX_PROGRAM_BYTES: usize = 128 * 1024;

/// Most memory for the states that matching remembers, per thread.
const MAX_STATES_BYTES: usize = 512 * 1024;

/// Compiles a pattern that must match the whole value.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Problem> {
    const EXPECTED: &str = "an ASCII regular expression without look-around or back references";
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(Problem::new(
            IssueCode::BadRegex,
            format!("the pattern is {} bytes long", pattern.len()),
            "at most 2048 bytes",
        ));
    }
    // Alone first: wrapped, `a)|(b` would be well formed and mean something else.
    build(pattern)
        .and_then(|_| build(&format!(r"\A(?:{pattern})\z")))
        .map_err(|error| Problem::new(IssueCode::BadRegex, describe(pattern, &error), EXPECTED))
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(MAX_PROGRAM_BYTES)
        .dfa_size_limit(MAX_STATES_BYTES)
        .nest_limit(64)
        .build()
}

/// One line; the library draws several with carets.
fn describe(pattern: &str, error: &regex::Error) -> String {
    let reason = match error {
        regex::Error::CompiledTooBig(_) => "it needs too much memory".to_owned(),
        regex::Error::Syntax(text) => match text.rsplit_once("error: ") {
            Some((_, reason)) => reason.trim().to_owned(),
            None => text.lines().last().unwrap_or_default().trim().to_owned(),
        },
        other => other.to_string(),
    };
    format!("{} is not a regular expression: {reason}", shown(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_must_match() {
        let regex = compile("a|ab").unwrap();
        assert!(regex.is_match(b"ab") && regex.is_match(b"a"));
        assert!(!regex.is_match(b"abc") && !regex.is_match(b"xa") && !regex.is_match(b"a\n"));
        assert!(compile("(?i)x.*").unwrap().is_match(b"X\xff\xfe\n"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in [
            "(",
            "a)|(b",
            "a)(?:b",
            r"(?=a)",
            r"(a)\1",
            "[é]",
            r"\p{Greek}",
            "[z-a]",
            "((((a{99}){99}){99}){99})",
        ] {
            let problem = compile(pattern).unwrap_err();
            assert_eq!(problem.code, IssueCode::BadRegex, "{pattern}");
            assert!(!problem.message.contains('\n'), "{}", problem.message);
        }
        assert!(compile(&"a".repeat(MAX_PATTERN_BYTES + 1)).is_err());
        assert!(compile(&"(".repeat(1000)).is_err());
    }
}
