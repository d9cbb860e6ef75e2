//! What is a copy called that nobody named?
//!
//! A control plane takes two of one service and name for one that has come again, and leaves the earlier. So the name has
//! something that no other copy has. The process id is none: in containers it is 1 for all. The machine's name goes before
//! it, for people.

use std::hash::{BuildHasher, Hasher};

use mesh_protocol::MAX_NAME;

/// Bits that differ between copies: of a thousand on one machine, two are called alike once in a million starts of all.
const RANDOM_BITS: u32 = 40;
/// The longest label of a name in DNS.
const MAX_LABEL: usize = 63;

/// A name for this copy of a service, `basket-3f2a9c1b0d4e-7e5d0c13aa`.
pub(super) fn own_name(service: &str) -> String {
    // Where it can't be read, the copy goes without.
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Keyed by the system's randomness.
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    name(service, machine.trim(), random)
}

fn name(service: &str, machine: &str, random: u64) -> String {
    let digits = RANDOM_BITS as usize / 4;
    let mut end = format!("-{:0digits$x}", random >> (u64::BITS - RANDOM_BITS));
    if let Some(label) = label(machine) {
        end.insert_str(0, &format!("-{label}"));
    }
    let service = &service[..service.floor_char_boundary(MAX_NAME - end.len())];
    format!("{service}{end}")
}

/// The first label of a machine's name, unless it is odd or every machine's.
fn label(machine: &str) -> Option<String> {
    let label = machine.split('.').next()?.to_ascii_lowercase();
    let is_plain = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ((1..=MAX_LABEL).contains(&label.len()) && is_plain && label != "localhost").then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_service_and_the_machine() {
        let random = 0x0123_4567_89ab_cdef;
        for (machine, expected) in [
            ("3f2a9c1b0d4e", "basket-3f2a9c1b0d4e-0123456789"),
            ("Node-7.eu.example.test", "basket-node-7-0123456789"),
            ("localhost", "basket-0123456789"),
            ("localhost.localdomain", "basket-0123456789"),
            ("", "basket-0123456789"),
            ("(none)", "basket-0123456789"),
        ] {
            assert_eq!(name("basket", machine, random), expected, "{machine}");
        }
        for service in ["s".repeat(300), "ß".repeat(300)] {
            let name = name(&service, &"m".repeat(MAX_LABEL), random);
            assert!((MAX_NAME - 1..=MAX_NAME).contains(&name.len()), "{}", name.len());
            assert!(name.ends_with("m-0123456789"), "{name}");
        }
    }

    #[test]
    fn copies_with_one_process_id_are_called_otherwise() {
        assert_ne!(own_name("basket"), own_name("basket"));
    }
}
