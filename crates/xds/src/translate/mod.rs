//! What does a message mean as a resource, and how is a resource said as a message?
//!
//! Both ways are total. A message that asks for what we can't do, and whose neglect would change who is reached, who may
//! ask, or how safely, is a [`Refusal`], which becomes the text of a NACK. What is harmless to neglect is skipped. A
//! resource that the subset can't say is a [`Refusal`] too: nothing is left out in silence. `docs/xds.md` has the table.
//!
//! Ranges, references and duplicates are not looked at here: the store validates what comes out, as it does for everyone.

mod cluster;
mod endpoints;
mod listener;
mod matchers;
mod rbac;
mod routes;
#[cfg(test)]
mod tests;
mod tls;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

pub use self::listener::{ServiceListener, WorkloadListener};
pub use self::tls::{IDENTITY_SECRET, ROOTS_SECRET, TrustRoots};
use crate::bounded::{self, MAX_NUMBERS};
use crate::kind::Kind;
use crate::wire;

/// Why something is not translated, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field, by the protocol's names or by the model's, as far as it is known.
    pub field: String,
    /// The reason.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same, seen from a message that holds the field.
    fn within(mut self, holder: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => holder.to_owned(),
            field => format!("{holder}.{field}"),
        };
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// A resource of the model that travels as one xDS resource.
pub trait Translate: Sized {
    /// The kind of the resource, and so the type of the message.
    const KIND: Kind;
    /// Whether a field that is not in our messages is refused rather than passed over.
    const WHOLE: bool = false;
    /// The message.
    type Message: prost::Message + Default;

    /// What the message means.
    ///
    /// # Errors
    /// What it asks for and can't have.
    fn from_message(message: Self::Message) -> Result<Self, Refusal>;

    /// How the resource is said.
    ///
    /// # Errors
    /// What the messages have no words for.
    fn to_message(&self) -> Result<Self::Message, Refusal>;

    /// Reads a message in its envelope.
    ///
    /// # Errors
    /// That the bytes are no such message, or as [`Self::from_message`].
    fn from_any(any: &wire::Any) -> Result<Self, Refusal> {
        let expected = Self::KIND.type_url();
        if any.type_url != expected {
            return Err(Refusal::new("type_url", format!("expected {expected}")));
        }
        let read = if Self::WHOLE { decode_whole } else { decode };
        Self::from_message(read(&any.value, "value")?)
    }

    /// The message in its envelope.
    ///
    /// # Errors
    /// As [`Self::to_message`].
    fn to_any(&self) -> Result<wire::Any, Refusal> {
        Ok(envelope(Self::KIND.type_url(), &self.to_message()?))
    }
}

fn decode<M: prost::Message + Default>(bytes: &Bytes, field: &str) -> Result<M, Refusal> {
    bounded::decode(bytes.clone(), MAX_NUMBERS).map_err(|refused| Refusal::new(field, refused.to_string()))
}

/// As [`decode`], and nothing may be in the bytes that is not in the message: what decoding skipped is missing when it is
/// encoded again.
fn decode_whole<M: prost::Message + Default>(bytes: &Bytes, field: &str) -> Result<M, Refusal> {
    let message: M = decode(bytes, field)?;
    if message.encoded_len() == bytes.len() {
        return Ok(message);
    }
    Err(Refusal::new(
        field,
        "holds a field that is not known, and to pass it over is not safe",
    ))
}

/// Refuses the first of these fields that is there.
fn refuse_present(fields: &[(&str, bool)]) -> Result<(), Refusal> {
    match fields.iter().find(|(_, there)| *there) {
        Some((field, _)) => Err(Refusal::new(
            *field,
            "is not known, and to pass it over is not safe",
        )),
        None => Ok(()),
    }
}

/// Translates each of a list; a refusal says which.
fn within<T, U>(
    field: &str,
    list: impl IntoIterator<Item = T>,
    translate: impl Fn(T) -> Result<U, Refusal>,
) -> Result<Vec<U>, Refusal> {
    let list = list.into_iter().enumerate();
    list.map(|(number, item)| {
        translate(item).map_err(|refusal| refusal.within(&format!("{field}[{number}]")))
    })
    .collect()
}

fn envelope(type_url: &str, message: &impl prost::Message) -> wire::Any {
    wire::Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec().into(),
    }
}

/// The metadata key under which stands what only this mesh says; others pass it over.
const OURS: &str = "mesh";

fn our_metadata(metadata: Option<&wire::Metadata>) -> BTreeMap<String, String> {
    let Some(ours) = metadata.and_then(|metadata| metadata.filter_metadata.get(OURS)) else {
        return BTreeMap::new();
    };
    ours.fields
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.string_value.clone()?)))
        .collect()
}

fn to_metadata(ours: BTreeMap<String, String>) -> Option<wire::Metadata> {
    if ours.is_empty() {
        return None;
    }
    let fields = ours
        .into_iter()
        .map(|(key, text)| {
            let string_value = Some(text);
            (key, wire::Value { string_value })
        })
        .collect();
    Some(wire::Metadata {
        filter_metadata: BTreeMap::from([(OURS.to_owned(), wire::Struct { fields })]),
    })
}
