//! In which form is a stream spoken, and what does a response of either say?
//!
//! A state of the world is read as the change that it is, so that there is one way to believe, to hold and to forget.

use std::collections::BTreeSet;

use prost::Message;

use super::state::{Known, PerKind};
use super::{MAX_VERSION, Refused};
use crate::bounded::{self, MAX_NUMBERS};
use crate::kind::Kind;
use crate::wire::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};

/// How a stream is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What changed.
    Delta,
    /// All there is, each time.
    StateOfTheWorld,
}

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// What changed.
    Delta(DeltaDiscoveryResponse),
    /// All there is.
    StateOfTheWorld(DiscoveryResponse),
}

impl From<DeltaDiscoveryResponse> for Response {
    fn from(response: DeltaDiscoveryResponse) -> Self {
        Self::Delta(response)
    }
}

impl From<DiscoveryResponse> for Response {
    fn from(response: DiscoveryResponse) -> Self {
        Self::StateOfTheWorld(response)
    }
}

/// What a response of either form says.
#[derive(Default)]
pub(super) struct Said {
    pub(super) resources: Vec<Resource>,
    pub(super) removed: Vec<String>,
    pub(super) nonce: String,
    /// Of a state of the world.
    pub(super) version: Option<String>,
}

/// The field that all kinds begin with.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

impl Response {
    pub(super) fn type_url(&self) -> &str {
        match self {
            Self::Delta(response) => &response.type_url,
            Self::StateOfTheWorld(response) => &response.type_url,
        }
    }

    /// What it says of what is wanted. What of it makes no sense is `refused`.
    pub(super) fn said(self, kind: Kind, known: &PerKind, refused: &mut Refused) -> Said {
        match self {
            Self::Delta(response) => changes(response),
            Self::StateOfTheWorld(response) => change(response, kind, known, refused),
        }
    }
}

fn changes(response: DeltaDiscoveryResponse) -> Said {
    Said {
        resources: response.resources,
        removed: response.removed_resources,
        nonce: response.nonce,
        ..Said::default()
    }
}

/// What is not in a state of listeners or clusters is gone, if it was there: a name that was asked for while the response
/// was on its way is none that nobody knows. Of other kinds a state says nothing about what is not in it, nor does one of
/// which a part can't be read.
fn change(response: DiscoveryResponse, kind: Kind, known: &PerKind, refused: &mut Refused) -> Said {
    let mut version = response.version_info;
    if version.len() > MAX_VERSION {
        version.clear();
        refused.add(kind, "version_info".to_owned(), "is too long".to_owned());
    }
    let mut said = Said {
        nonce: response.nonce,
        version: Some(version),
        ..Said::default()
    };
    for (index, resource) in response.resources.into_iter().enumerate() {
        match bounded::decode::<Named>(resource.value.clone(), MAX_NUMBERS) {
            Ok(Named { name }) if known.wants.contains_key(&name) => said.resources.push(Resource {
                name,
                version: String::new(),
                resource: Some(resource),
            }),
            Ok(_) => {}
            Err(error) => refused.add(kind, format!("resources[{index}]"), error.to_string()),
        }
    }
    if kind.is_whole() && refused.told.is_empty() {
        let names: BTreeSet<_> = said.resources.iter().map(|each| each.name.as_str()).collect();
        let was_there = known.wants.iter().filter(|(name, want)| {
            let was_there = matches!(want.known, Known::Accepted { .. } | Known::Refused);
            was_there && !names.contains(name.as_str())
        });
        said.removed = was_there.map(|(name, _)| name.clone()).collect();
    }
    said
}
