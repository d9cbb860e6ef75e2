//! What was asked on the command line? Options are `--name value`; a name followed by another option is a flag.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// The options, each used by its name.
pub(crate) struct Args {
    values: HashMap<String, String>,
}

impl Args {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut values = HashMap::new();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| format!("expected an option, got {word:?}"))?;
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            values.insert(name.to_owned(), value);
        }
        Ok(Self { values })
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(crate) fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        self.values
            .get(name)
            .map(|text| {
                text.parse()
                    .map_err(|error| format!("--{name} {text:?}: {error}"))
            })
            .transpose()
    }

    pub(crate) fn or<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    pub(crate) fn need<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, String> {
        self.get(name)?.ok_or_else(|| format!("--{name} is missing"))
    }
}
