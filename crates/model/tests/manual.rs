//! Do the pages `docs/limits.md` and `docs/errors.md` say what the code does?
//!
//! Their tables are made here. `UPDATE_DOCS=1 cargo test -p mesh-model --test manual` writes them after a change.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use mesh_model::errors::Reason;
use mesh_model::limits::{Counted, LIMITS, LimitDoc, Unit};

const MARK: &str = "<!-- generated: UPDATE_DOCS=1 cargo test -p mesh-model --test manual -->";

/// Compares a page's table with what it should be, or writes it. The table ends at the first empty line.
fn hold(page: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, after) = text
        .split_once(MARK)
        .unwrap_or_else(|| panic!("{page} has no mark for its table"));
    let after = after.trim_start();
    let rest = after.find("\n\n").map_or("", |end| &after[end + 1..]);
    let wanted = format!("{before}{MARK}\n\n{table}{rest}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "{page} is not up to date: see the head of this test"
        );
    }
}

fn value(limit: &LimitDoc, value: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const HOUR: u64 = 3_600_000;
    match limit.unit {
        _ if value == 0 && limit.zero_is_off => "off".into(),
        Unit::Count if value >= u64::from(u32::MAX) => "any".into(),
        Unit::Count => grouped(value),
        Unit::Bytes if value == u64::MAX => "any".into(),
        Unit::Bytes if value >= MIB && value.is_multiple_of(MIB) => format!("{} MiB", value / MIB),
        Unit::Bytes if value >= KIB && value.is_multiple_of(KIB) => format!("{} KiB", value / KIB),
        Unit::Bytes => format!("{value} B"),
        Unit::Milliseconds if value >= HOUR && value.is_multiple_of(HOUR) => format!("{} h", value / HOUR),
        Unit::Milliseconds if value >= 1000 => format!("{} s", value / 1000),
        Unit::Milliseconds => format!("{value} ms"),
    }
}

fn counted(counted: Counted) -> String {
    match counted {
        Counted::Limit(label) => format!("`limit=\"{label}\"`"),
        Counted::Responses => "reason of the response".into(),
        Counted::Connections => "reason of the connection".into(),
        Counted::Both => "reason of the response and of the connection".into(),
        Counted::Connects => "reason of the connect; of the response when it was the last".into(),
        Counted::UpstreamConnections => "reason of the connection to the server".into(),
        Counted::Nothing("") => "nothing".into(),
        Counted::Nothing(seen) => format!("nothing; {seen}"),
    }
}

/// `1,234,567`
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_page_of_limits() {
    let mut table = String::from(
        "| setting | default | from, to | when it is reached | reason | counted by | why this default |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for limit in LIMITS {
        let reasons: Vec<_> = limit
            .reasons
            .iter()
            .map(|reason| format!("`{}`", reason.as_str()))
            .collect();
        let reasons = if reasons.is_empty() {
            "-".to_owned()
        } else {
            reasons.join(", ")
        };
        table.push_str(&format!(
            "| `{}` | {} | {}, {}{} | {} | {reasons} | {} | {} |\n",
            limit.path,
            value(limit, limit.default),
            value(limit, limit.min),
            value(limit, limit.max),
            if limit.zero_is_off { "; 0: off" } else { "" },
            limit.reached,
            counted(limit.counted),
            limit.why,
        ));
    }
    hold("limits.md", &table);
}

#[test]
fn the_page_of_errors() {
    let mut table = String::from(
        "| reason | layer | status | `grpc-status` | `proxy-status` error | in words |\n\
         |---|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        table.push_str(&format!(
            "| `{}` | {} | {} | {} | `{}` | {} |\n",
            reason.as_str(),
            reason.layer().as_str(),
            reason.status(),
            reason.grpc_status(),
            reason.proxy_status_error(),
            reason.text(),
        ));
    }
    hold("errors.md", &table);
}
