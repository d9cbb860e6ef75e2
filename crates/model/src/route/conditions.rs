//! Do the method, the headers and the query of a request hold what a route asks?
//!
//! Bytes are compared and nothing is decoded to text, so no value is undecodable. A header or parameter with several
//! values holds when all of them match; turned round, when none does.

use regex::bytes::Regex;

use crate::hosts;
use crate::issue::{IssueCode, Problem, shown};
use crate::pattern;
use crate::resources::{ValueCondition, ValueMatch};

use super::RequestView;
use super::query::{self, Encoded};

/// All conditions of a route save the one on its path.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) grpc: bool,
    pub(super) methods: Box<[Box<[u8]>]>,
    pub(super) headers: Box<[Condition]>,
    pub(super) query: Box<[Condition]>,
}

impl Conditions {
    /// Whether every request meets them.
    pub(super) fn is_empty(&self) -> bool {
        !self.grpc && self.methods.is_empty() && self.headers.is_empty() && self.query.is_empty()
    }

    #[inline]
    pub(super) fn hold(&self, request: &impl RequestView) -> bool {
        self.method_holds(request)
            && self.grpc_holds(request)
            && self
                .headers
                .iter()
                .all(|condition| condition.header_holds(request))
            && self.query.iter().all(|condition| condition.query_holds(request))
    }

    #[inline]
    pub(super) fn method_holds(&self, request: &impl RequestView) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| **method == *request.method())
    }

    #[inline]
    pub(super) fn grpc_holds(&self, request: &impl RequestView) -> bool {
        !self.grpc || request.is_grpc()
    }
}

impl ValueCondition {
    /// Whether a value without a byte meets it. A pattern that does not compile is met by none.
    pub fn takes_empty(&self) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(wanted) | Self::Prefix(wanted) | Self::Suffix(wanted) => wanted.is_empty(),
            Self::Regex(wanted) => pattern::compile(wanted).is_ok_and(|regex| regex.is_match(b"")),
        }
    }
}

/// A condition on the values of one name.
#[derive(Debug)]
pub(crate) struct Condition {
    name: Box<str>,
    test: Test,
    invert: bool,
}

#[derive(Debug)]
enum Test {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Regex(Regex),
}

impl Condition {
    /// A condition on a header, whose name is compared without case.
    pub(crate) fn header(source: &ValueMatch) -> Result<Self, Problem> {
        if !crate::syntax::is_token(&source.name) {
            return Err(Problem::new(
                IssueCode::BadHeader,
                format!("{} is not a header name", shown(&source.name)),
                "a token such as x-version",
            ));
        }
        let mut condition = Self::new(source.name.to_ascii_lowercase(), source)?;
        if &*condition.name == "host" {
            condition.test.compare_host();
        }
        Ok(condition)
    }

    /// A condition on a query parameter.
    pub(crate) fn query(source: &ValueMatch) -> Result<Self, Problem> {
        Self::new(source.name.clone(), source)
    }

    fn new(name: String, source: &ValueMatch) -> Result<Self, Problem> {
        let test = match &source.value {
            ValueCondition::Present => Test::Present,
            ValueCondition::Exact(value) => Test::Exact(value.as_bytes().into()),
            ValueCondition::Prefix(value) => Test::Prefix(value.as_bytes().into()),
            ValueCondition::Suffix(value) => Test::Suffix(value.as_bytes().into()),
            ValueCondition::Regex(value) => Test::Regex(pattern::compile(value)?),
        };
        Ok(Self {
            name: name.into(),
            test,
            invert: source.invert,
        })
    }

    #[inline]
    pub(crate) fn header_holds(&self, request: &impl RequestView) -> bool {
        self.holds(request.header(&self.name).map(Encoded::Plain))
    }

    #[inline]
    pub(super) fn query_holds(&self, request: &impl RequestView) -> bool {
        self.holds(query::values(request.query(), &self.name))
    }

    fn holds<'a>(&self, values: impl Iterator<Item = Encoded<'a>>) -> bool {
        let mut some = false;
        for value in values {
            some = true;
            if self.test.takes(value) == self.invert {
                return false;
            }
        }
        some || self.invert
    }
}

impl Test {
    /// Brings what a host is compared with into the form that it is compared in.
    fn compare_host(&mut self) {
        match self {
            Self::Exact(host) => *host = hosts::normal(host).into(),
            Self::Prefix(part) | Self::Suffix(part) => part.make_ascii_lowercase(),
            Self::Present | Self::Regex(_) => {}
        }
    }

    fn takes(&self, value: Encoded<'_>) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(wanted) => value.bytes().eq(wanted.iter().copied()),
            Self::Prefix(wanted) => value.starts_with(wanted),
            Self::Suffix(wanted) => value.decoded().ends_with(wanted),
            Self::Regex(wanted) => wanted.is_match(&value.decoded()),
        }
    }
}
