//! Which endpoints do the answers make?
//!
//! Addresses with a port are endpoints of equal share. SRV records (RFC 2782) say more: the lower priority first, within
//! it shares by weight, and a port for each target. A target's share is split over its addresses. The result is sorted,
//! so that the same answers in another order are no change.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh_model::resources::Address;

/// More endpoints than this are cut off: no answer that is meant has them, and a cluster's memory must have a bound.
pub(super) const MOST_ENDPOINTS: usize = 1024;

/// An endpoint that discovery found by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// Lower is preferred.
    pub priority: u32,
    /// Where it answers.
    pub address: Address,
    /// Its share.
    pub weight: u32,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// The server's name, in lower case.
    pub(super) host: Arc<str>,
}

/// The endpoints behind addresses that share a port.
pub(super) fn of_host(addresses: &[IpAddr], port: u16) -> Vec<Resolved> {
    let mut endpoints: Vec<_> = addresses
        .iter()
        .map(|ip| Resolved {
            priority: 0,
            address: Address::Ip(SocketAddr::new(*ip, port)),
            weight: 1,
        })
        .collect();
    endpoints.sort();
    endpoints.dedup();
    endpoints.truncate(MOST_ENDPOINTS);
    endpoints
}

/// The endpoints behind SRV records whose targets have these addresses. Targets without any are left out.
pub(super) fn of_service<'a>(
    targets: &[Target],
    addresses: impl Fn(&Arc<str>) -> &'a [IpAddr],
) -> Vec<Resolved> {
    // By priority and address, as the same server may be named twice.
    let mut shares: BTreeMap<(u32, SocketAddr), u64> = BTreeMap::new();
    for target in targets {
        let addresses = addresses(&target.host);
        for ip in addresses {
            let key = (u32::from(target.priority), SocketAddr::new(*ip, target.port));
            let share = share(target.weight) / addresses.len() as u64;
            *shares.entry(key).or_default() += share.max(1);
        }
    }
    let divisor = shares
        .values()
        .fold(0, |divisor, share| gcd(divisor, *share))
        .max(1);
    shares
        .into_iter()
        .take(MOST_ENDPOINTS)
        .map(|((priority, address), share)| Resolved {
            priority,
            address: Address::Ip(address),
            weight: u32::try_from(share / divisor).unwrap_or(u32::MAX),
        })
        .collect()
}

/// A weight in parts so fine that "a very small chance of being selected", which RFC 2782 wants for 0, is one, and
/// that it can be split over up to eight addresses and stay exact.
fn share(weight: u16) -> u64 {
    const PARTS: u64 = 840;
    match weight {
        0 => PARTS / 100,
        weight => u64::from(weight) * PARTS,
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn target(priority: u16, weight: u16, port: u16, host: &str) -> Target {
        Target {
            priority,
            weight,
            port,
            host: host.into(),
        }
    }

    fn shown(endpoints: &[Resolved]) -> Vec<(u32, String, u32)> {
        endpoints
            .iter()
            .map(|e| (e.priority, e.address.to_string(), e.weight))
            .collect()
    }

    /// A service whose hosts `a` and `b` have one and two addresses.
    fn service(targets: &[Target]) -> Vec<(u32, String, u32)> {
        let (a, b) = (ips(&["10.0.0.1"]), ips(&["10.0.0.2", "fd00::2"]));
        let endpoints = of_service(targets, |host| match &**host {
            "a" => &a,
            "b" => &b,
            _ => &[],
        });
        shown(&endpoints)
    }

    #[test]
    fn a_host_is_its_addresses_once_and_in_order() {
        let endpoints = of_host(&ips(&["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2"]), 80);
        let expected = ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"].map(|address| (0, address.to_owned(), 1));
        assert_eq!(shown(&endpoints), expected);
        let many: Vec<_> = (0..5000u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
        assert_eq!(of_host(&many, 80).len(), MOST_ENDPOINTS);
    }

    #[test]
    fn weights_are_shares_whatever_the_number_of_addresses() {
        let found = service(&[target(1, 10, 80, "a"), target(1, 30, 81, "b")]);
        let expected = [
            (1, "10.0.0.1:80".to_owned(), 2),
            (1, "10.0.0.2:81".to_owned(), 3),
            (1, "[fd00::2]:81".to_owned(), 3),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn weight_zero_is_a_small_chance_and_all_zero_is_even() {
        let found = service(&[target(1, 0, 80, "a"), target(1, 10, 81, "a")]);
        assert_eq!(found.iter().map(|e| e.2).collect::<Vec<_>>(), [1, 1050]);
        let found = service(&[target(1, 0, 80, "a"), target(1, 0, 81, "a")]);
        assert_eq!(found.iter().map(|e| e.2).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn the_largest_weights_fit() {
        let found = service(&[target(1, u16::MAX, 80, "a"), target(1, 0, 81, "a")]);
        assert!(found[0].2 > found[1].2 * 1_000_000);
    }

    #[test]
    fn records_that_name_one_server_twice_add_up() {
        let found = service(&[
            target(0, 1, 80, "a"),
            target(0, 2, 80, "a"),
            target(9, 1, 80, "a"),
        ]);
        let address = "10.0.0.1:80".to_owned();
        assert_eq!(found, [(0, address.clone(), 3), (9, address, 1)]);
    }

    #[test]
    fn targets_without_addresses_are_left_out() {
        assert_eq!(
            service(&[target(0, 1, 80, "gone"), target(0, 1, 80, "a")]).len(),
            1
        );
        assert_eq!(service(&[]), []);
    }
}
