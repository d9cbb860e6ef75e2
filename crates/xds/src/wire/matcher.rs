//! Conditions on texts and headers (`envoy.type.matcher.v3`, `envoy.config.route.v3`).

use prost::Message;

use super::Opaque;

/// `RegexMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegexMatcher {
    /// The engine, which is always RE2.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub google_re2: Option<Opaque>,
    #[prost(string, tag = "2")]
    pub regex: String,
}

/// `RegexMatchAndSubstitute`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RegexMatchAndSubstitute {
    #[prost(message, optional, tag = "1")]
    pub pattern: Option<RegexMatcher>,
    #[prost(string, tag = "2")]
    pub substitution: String,
}

/// `StringMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StringMatcher {
    #[prost(string, optional, tag = "1")]
    pub exact: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub prefix: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub suffix: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub safe_regex: Option<RegexMatcher>,
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
    #[prost(string, optional, tag = "7")]
    pub contains: Option<String>,
}

/// `HeaderMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeaderMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, optional, tag = "4")]
    pub exact_match: Option<String>,
    #[prost(bool, optional, tag = "7")]
    pub present_match: Option<bool>,
    #[prost(bool, tag = "8")]
    pub invert_match: bool,
    #[prost(string, optional, tag = "9")]
    pub prefix_match: Option<String>,
    #[prost(string, optional, tag = "10")]
    pub suffix_match: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub safe_regex_match: Option<RegexMatcher>,
    #[prost(string, optional, tag = "12")]
    pub contains_match: Option<String>,
    #[prost(message, optional, tag = "13")]
    pub string_match: Option<StringMatcher>,
    #[prost(bool, tag = "14")]
    pub treat_missing_header_as_empty: bool,
}

/// `QueryParameterMatcher`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueryParameterMatcher {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "5")]
    pub string_match: Option<StringMatcher>,
    #[prost(bool, optional, tag = "6")]
    pub present_match: Option<bool>,
}
