//! What is wrong with a resource, where, and what was expected instead?
//!
//! Every check reports an [`Issue`]: a path into the resources' JSON, a code that programs can act on, and words for
//! people. Checks never stop at the first problem; the list of problems is bounded, so that a broken file of
//! a million lines makes a page of errors and not a gigabyte.

use std::fmt;

use serde::{Serialize, Serializer};

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Where: a path into the JSON of [`Resources`](crate::resources::Resources), written `clusters[0].timeouts.connect`.
    #[serde(serialize_with = "as_text")]
    pub path: Vec<PathStep>,
    /// What kind of problem.
    pub code: IssueCode,
    /// The problem in words, without the path.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Where in the text, when the problem was found while reading JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{}:{}: ", position.line, position.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", Rendered(&self.path))?;
        }
        f.write_str(&self.message)?;
        match &self.expected {
            Some(expected) => write!(f, " (expected {expected})"),
            None => Ok(()),
        }
    }
}

/// A place in a text; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

/// One step of a path into JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathStep {
    /// Into an object.
    Key(String),
    /// Into an array, from 0.
    Index(usize),
}

struct Rendered<'a>(&'a [PathStep]);

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Key(key) if at == 0 => f.write_str(key)?,
                PathStep::Key(key) => write!(f, ".{key}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The path as text: `clusters[0].timeouts.connect`.
pub fn render_path(path: &[PathStep]) -> String {
    Rendered(path).to_string()
}

fn as_text<S: Serializer>(path: &[PathStep], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Rendered(path))
}

/// What kind of problem an [`Issue`] is. Closed: programs may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssueCode {
    /// The text is not JSON.
    Syntax,
    /// JSON of another shape: an unknown key, a missing key, a wrong type.
    Shape,
    /// A name or value that may stand once stands twice.
    Duplicate,
    /// A name that nothing has.
    UnknownReference,
    /// Something needed is absent.
    Missing,
    /// Two things that exclude each other.
    Conflict,
    /// A number, size or count outside its bounds.
    OutOfRange,
    /// Not a name of a resource.
    BadName,
    /// Not a host, server name or authority.
    BadHost,
    /// Not an address that can be used here.
    BadAddress,
    /// Not a path in normal form.
    BadPath,
    /// Not a path template.
    BadTemplate,
    /// Not a regular expression, or one that is too large.
    BadRegex,
    /// Not a method.
    BadMethod,
    /// Not a header name or value.
    BadHeader,
    /// A header that routes may not edit.
    ForbiddenHeader,
    /// Not a status that can stand here.
    BadStatus,
    /// Another value that can't stand here.
    BadValue,
    /// There are more problems than are listed.
    TooMany,
}

impl IssueCode {
    /// The code as text, lower snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Shape => "shape",
            Self::Duplicate => "duplicate",
            Self::UnknownReference => "unknown_reference",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::OutOfRange => "out_of_range",
            Self::BadName => "bad_name",
            Self::BadHost => "bad_host",
            Self::BadAddress => "bad_address",
            Self::BadPath => "bad_path",
            Self::BadTemplate => "bad_template",
            Self::BadRegex => "bad_regex",
            Self::BadMethod => "bad_method",
            Self::BadHeader => "bad_header",
            Self::ForbiddenHeader => "forbidden_header",
            Self::BadStatus => "bad_status",
            Self::BadValue => "bad_value",
            Self::TooMany => "too_many",
        }
    }
}

impl Serialize for IssueCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A problem whose place is known to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: IssueCode,
    pub(crate) message: String,
    pub(crate) expected: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: IssueCode, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            expected: Some(expected.into()),
        }
    }

    /// A problem that says all in its message.
    pub(crate) fn plain(code: IssueCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            expected: None,
        }
    }
}

/// Where a check is: a chain of borrowed steps, so that a walk that finds nothing wrong allocates nothing.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Root,
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    fn steps(&self) -> Vec<PathStep> {
        match self {
            Self::Root => Vec::new(),
            Self::Key(parent, key) => {
                let mut steps = parent.steps();
                steps.push(PathStep::Key((*key).to_owned()));
                steps
            }
            Self::Index(parent, index) => {
                let mut steps = parent.steps();
                steps.push(PathStep::Index(*index));
                steps
            }
        }
    }
}

/// The problems found so far.
#[derive(Default)]
pub(crate) struct Issues {
    list: Vec<Issue>,
    dropped: usize,
}

impl Issues {
    /// More problems than this are counted and not listed: nobody reads on, and memory stays bounded.
    pub(crate) const MAX: usize = 1000;

    pub(crate) fn add(&mut self, at: &At<'_>, problem: Problem) {
        if self.list.len() >= Self::MAX {
            self.dropped += 1;
            return;
        }
        self.list.push(Issue {
            path: at.steps(),
            code: problem.code,
            message: problem.message,
            expected: problem.expected,
            position: None,
        });
    }

    /// Keeps the value of a check, or its problem.
    pub(crate) fn keep<T>(&mut self, at: &At<'_>, result: Result<T, Problem>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.add(at, problem);
                None
            }
        }
    }

    /// Adds what was found by somebody who does not know where the things stand.
    pub(crate) fn extend_below(&mut self, at: &At<'_>, found: Vec<Issue>) {
        for mut issue in found {
            let mut path = at.steps();
            path.append(&mut issue.path);
            issue.path = path;
            match self.list.len() >= Self::MAX {
                true => self.dropped += 1,
                false => self.list.push(issue),
            }
        }
    }

    pub(crate) fn into_vec(mut self) -> Vec<Issue> {
        if self.dropped > 0 {
            self.list.push(Issue {
                path: Vec::new(),
                code: IssueCode::TooMany,
                message: format!("{} more problems are not listed", self.dropped),
                expected: None,
                position: None,
            });
        }
        self.list
    }
}

/// A value as it may stand in a message: short, and quoted with backticks.
pub(crate) fn shown(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}...`", value.get(..end).unwrap_or_default().escape_debug()),
        None => format!("`{}`", value.escape_debug()),
    }
}
