//! Does anything that a caller shows of itself, or wants to have signed, break its reading?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_identity::{Csr, Peer};
use rustls_pki_types::CertificateDer;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(csr) = Csr::check(bytes) {
        assert!(!csr.public_key().is_empty());
    }
    if let Ok(peer) = Peer::of(&CertificateDer::from(bytes)) {
        // Who it is has one form, which reads as the same.
        assert_eq!(peer.id.to_string().parse(), Ok(peer.id));
    }
});
