//! Where in the resources does a problem with a certificate, a key or a root belong?

use mesh_model::issue::{Issue, IssueCode, PathStep};

/// A path into the resources that a check has come to.
#[derive(Clone)]
pub(super) struct At(Vec<PathStep>);

impl At {
    pub(super) fn new(path: &[PathStep]) -> Self {
        Self(path.to_vec())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(PathStep::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(PathStep::Index(index))
    }

    fn step(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// This problem, here.
    pub(super) fn issue(&self, problem: Problem) -> Issue {
        Issue {
            path: self.0.clone(),
            code: problem.code,
            message: problem.message,
            expected: problem.expected.map(str::to_owned),
            position: None,
        }
    }
}

/// A problem that does not know its place.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: IssueCode,
    pub(super) message: String,
    pub(super) expected: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(code: IssueCode, message: impl Into<String>, expected: &'static str) -> Self {
        Self {
            code,
            message: message.into(),
            expected: Some(expected),
        }
    }

    /// A problem that says all in its message.
    pub(super) fn plain(code: IssueCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            expected: None,
        }
    }
}
