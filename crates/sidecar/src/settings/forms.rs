//! How is a setting's text read? Each says what it expected where it can't be.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_model::resources::Address;
use mesh_model::spiffe::{SpiffeError, SpiffeId};
use mesh_proxy::discovery::name_server;
use mesh_proxy::log::Level;

use super::LogFormat;
use crate::mesh::settings::{OutboundFrom, Reach};

type Read<T> = Result<T, String>;

/// The one of these words that it is.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)], expected: &str) -> Read<T> {
    let word = words.iter().find(|(word, _)| *word == text);
    word.map(|(_, meant)| *meant)
        .ok_or_else(|| format!("expected {expected}"))
}

pub(super) fn text(text: &str) -> Read<Option<String>> {
    Ok(Some(text.to_owned()))
}

pub(super) fn threads(text: &str) -> Read<usize> {
    match text.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err("expected 1 to 256".to_owned()),
    }
}

pub(super) fn span(text: &str) -> Read<Duration> {
    text.parse::<mesh_model::resources::Duration>().map(|span| span.0)
}

pub(super) fn process(text: &str) -> Read<Option<u64>> {
    text.parse()
        .map(Some)
        .map_err(|_| "expected a process id".to_owned())
}

pub(super) fn name_servers(text: &str) -> Read<Vec<SocketAddr>> {
    let servers = text.split(',').map(|server| name_server(server.trim()));
    servers
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| "expected IP or IP:PORT, with commas between".to_owned())
}

pub(super) fn address(text: &str) -> Read<Option<Address>> {
    text.parse().map(Some)
}

pub(super) fn admin(text: &str) -> Read<Option<Address>> {
    match text {
        "off" => Ok(None),
        _ => address(text).map_err(|expected| format!("{expected}, or off")),
    }
}

pub(super) fn log_level(text: &str) -> Read<Level> {
    text.parse().map_err(|expected: &str| expected.to_owned())
}

pub(super) fn log_format(text: &str) -> Read<LogFormat> {
    one_of(
        text,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        "text or json",
    )
}

/// Control planes as `HOST:PORT`, with commas between.
pub(super) fn control(text: &str) -> Read<Vec<String>> {
    let all: Vec<_> = text.split(',').map(|one| one.trim().to_owned()).collect();
    let is_address = |one: &String| {
        let port = one
            .rsplit_once(':')
            .map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
        matches!(port, Some((false, Ok(1..))))
    };
    match all.iter().all(is_address) {
        true => Ok(all),
        false => Err("expected HOST:PORT, with commas between".to_owned()),
    }
}

pub(super) fn identity(text: &str) -> Read<Option<SpiffeId>> {
    text.parse()
        .map(Some)
        .map_err(|error: SpiffeError| error.to_string())
}

pub(super) fn name(text: &str) -> Read<Option<String>> {
    match mesh_protocol::is_name(text) {
        true => Ok(Some(text.to_owned())),
        false => Err(format!(
            "expected 1 to {} bytes without control characters",
            mesh_protocol::MAX_NAME
        )),
    }
}

pub(super) fn outbound_from(text: &str) -> Read<OutboundFrom> {
    one_of(
        text,
        &[("local", OutboundFrom::Local), ("any", OutboundFrom::Any)],
        "local or any",
    )
}

pub(super) fn egress(text: &str) -> Read<Reach> {
    one_of(
        text,
        &[("any", Reach::Any), ("known", Reach::Known)],
        "any or known",
    )
}

pub(super) fn switch(text: &str) -> Read<bool> {
    one_of(text, &[("on", true), ("off", false)], "on or off")
}
