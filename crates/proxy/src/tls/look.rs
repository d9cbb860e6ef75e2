//! What came of a look at files that may have changed?
//!
//! A certificate and its key are two files, and no editor writes two files at once: what does not fit together, or is
//! not there, at the first look may only be half written. So it gets a second look before it is said, once for each
//! wording.

use mesh_model::issue::Issue;

/// How much is borne before bad files are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// They get a second look.
    Some,
    /// None: somebody says that they are done with them.
    None,
}

/// What a look at files found. What was read before serves on unless they changed.
#[derive(Debug)]
pub enum Looked {
    /// They hold what is in use, or nothing that was not said before.
    Unchanged,
    /// New handshakes use what they hold now.
    Changed,
    /// They are bad. Each line is one problem.
    Refused(Vec<String>),
}

/// What is known of bad files between looks.
#[derive(Debug, Default)]
pub(super) enum Refusal {
    /// They were good.
    #[default]
    No,
    /// They were bad once.
    Suspected,
    /// They are bad, and this was said.
    Said(Vec<String>),
}

impl Refusal {
    /// Whether they are to be read again although they look the same.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Suspected)
    }

    /// Takes what reading them found.
    pub(super) fn judge(&mut self, issues: Vec<Issue>, patience: Patience) -> Looked {
        let lines: Vec<_> = issues.into_iter().map(|issue| issue.message).collect();
        match self {
            Self::No if patience == Patience::Some => {
                *self = Self::Suspected;
                Looked::Unchanged
            }
            Self::Said(said) if *said == lines => Looked::Unchanged,
            _ => {
                *self = Self::Said(lines.clone());
                Looked::Refused(lines)
            }
        }
    }
}
