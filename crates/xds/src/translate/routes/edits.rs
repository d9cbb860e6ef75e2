//! Changes to headers.
//!
//! Values are formats in xDS: a `%` begins something to be filled in, and `%%` is one.

use mesh_model::resources::{HeaderEdits, HeaderValue};

use super::super::Refusal;
use crate::wire;

/// `envoy.config.core.v3.HeaderValueOption.HeaderAppendAction`.
mod action {
    pub(super) const APPEND: i32 = 0;
    pub(super) const OVERWRITE: i32 = 2;
}

pub(super) fn edits(add: Vec<wire::HeaderValueOption>, remove: Vec<String>) -> Result<HeaderEdits, Refusal> {
    let mut edits = HeaderEdits {
        remove,
        ..HeaderEdits::default()
    };
    for (number, option) in add.into_iter().enumerate() {
        let at = format!("[{number}]");
        let within = |refusal: Refusal| Refusal::new(format!("{at}.{}", refusal.field), refusal.reason);
        match edit(option).map_err(within)? {
            (header, false) => edits.add.push(header),
            // The model sets first.
            (header, true)
                if edits
                    .add
                    .iter()
                    .any(|added| added.name.eq_ignore_ascii_case(&header.name)) =>
            {
                return Err(Refusal::new(at, "what was added before is not replaced"));
            }
            (header, true) => edits.set.push(header),
        }
    }
    Ok(edits)
}

pub(super) fn to_edits(edits: &HeaderEdits) -> (Vec<wire::HeaderValueOption>, Vec<String>) {
    let option = |append_action| {
        move |header: &HeaderValue| wire::HeaderValueOption {
            header: Some(wire::HeaderValue {
                key: header.name.clone(),
                value: header.value.replace('%', "%%"),
            }),
            append: None,
            append_action,
            keep_empty_value: header.value.is_empty(),
        }
    };
    let set = edits.set.iter().map(option(action::OVERWRITE));
    let add = edits.add.iter().map(option(action::APPEND));
    (set.chain(add).collect(), edits.remove.clone())
}

/// The header, and whether it replaces.
fn edit(option: wire::HeaderValueOption) -> Result<(HeaderValue, bool), Refusal> {
    let replaces = match (option.append, option.append_action) {
        (None | Some(true), action::APPEND) => false,
        (Some(false), action::APPEND) | (None, action::OVERWRITE) => true,
        _ => {
            return Err(Refusal::new(
                "append_action",
                "depends on what is there, which is not known",
            ));
        }
    };
    let header = option.header.unwrap_or_default();
    if header.value.is_empty() && !option.keep_empty_value {
        return Err(Refusal::new(
            "keep_empty_value",
            "an empty value that is left out is not known",
        ));
    }
    Ok((
        HeaderValue {
            name: header.key,
            value: plain(&header.value)?,
        },
        replaces,
    ))
}

fn plain(format: &str) -> Result<String, Refusal> {
    let mut text = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c == '%' && rest.next() != Some('%') {
            return Err(Refusal::new(
                "header.value",
                "values that are filled in are not known",
            ));
        }
        text.push(c);
    }
    Ok(text)
}
