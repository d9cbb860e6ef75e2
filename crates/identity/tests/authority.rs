//! Does OpenSSL believe what the authority signs, and can the authority go on with what OpenSSL made?
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::time::SystemTime;

use mesh_identity::authority::{Authority, Settings};
use mesh_identity::{Csr, CsrError, WorkloadKey, csr};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use support::{BASKET, Pki};

fn settings() -> Settings {
    Settings::new("mesh.test".parse().unwrap())
}

/// A request made by `openssl req` with these arguments.
fn openssl_csr(pki: &Pki, arguments: &[&str]) -> Vec<u8> {
    let mut all = vec![
        "req",
        "-new",
        "-nodes",
        "-keyout",
        "asked.key",
        "-out",
        "asked.csr",
    ];
    all.extend(arguments);
    pki.openssl(&all);
    let der = CertificateSigningRequestDer::from_pem_slice(&pki.read("asked.csr")).unwrap();
    der.to_vec()
}

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
fn requests_of_openssl() {
    let pki = Pki::new();
    let with = |more: &[&str]| Csr::check(&openssl_csr(&pki, &[&P256[..], more].concat()));
    let name = format!("subjectAltName=URI:{BASKET}");
    let asked = with(&["-subj", "/", "-addext", &name]).unwrap();
    assert_eq!(asked.id().unwrap().as_str(), BASKET);
    assert_eq!(with(&["-subj", "/CN=basket"]), Err(CsrError::Subject));
    let authority = [
        "-subj",
        "/",
        "-addext",
        &name,
        "-addext",
        "basicConstraints=CA:TRUE",
    ];
    assert_eq!(with(&authority), Err(CsrError::Extension));
    let two = format!("{name},URI:{BASKET}/2");
    assert_eq!(with(&["-subj", "/", "-addext", &two]), Err(CsrError::Identity));
    assert_eq!(
        with(&["-subj", "/", "-addext", "subjectAltName=DNS:basket"]),
        Err(CsrError::Identity)
    );
    let rsa = openssl_csr(&pki, &["-newkey", "rsa:2048", "-subj", "/", "-addext", &name]);
    assert_eq!(Csr::check(&rsa), Err(CsrError::KeyType));
    let p384 = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-subj",
        "/",
    ];
    assert_eq!(Csr::check(&openssl_csr(&pki, &p384)), Err(CsrError::KeyType));
    let sha384 = with(&["-subj", "/", "-sha384"]);
    assert_eq!(sha384, Err(CsrError::Signature), "another hash than SHA-256");
}

#[test]
fn openssl_believes_a_request_and_a_chain() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let (key, id) = (WorkloadKey::generate().unwrap(), BASKET.parse().unwrap());
    let request = csr::request(&key, &id).unwrap();
    fs::write(pki.file("own.csr"), &request).unwrap();
    let text = pki.openssl(&[
        "req", "-inform", "DER", "-in", "own.csr", "-verify", "-noout", "-text",
    ]);
    assert!(text.contains(&format!("URI:{BASKET}")), "{text}");

    let mut authority = Authority::in_memory(settings(), now).unwrap();
    let signed = authority.sign(&Csr::check(&request).unwrap(), &id, now).unwrap();
    fs::write(pki.file("chain.crt"), signed.chain_pem()).unwrap();
    fs::write(pki.file("roots.crt"), signed.bundle.to_pem()).unwrap();
    for purpose in ["sslclient", "sslserver"] {
        let verify = [
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            "roots.crt",
        ];
        pki.openssl(&[&verify[..], &["-untrusted", "chain.crt", "chain.crt"]].concat());
    }
    let text = pki.openssl(&["x509", "-in", "chain.crt", "-noout", "-text"]);
    for part in [
        &format!("URI:{BASKET}"),
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "prime256v1",
        "ecdsa-with-SHA256",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let serial = pki.openssl(&["x509", "-in", "chain.crt", "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap();
    assert_eq!(serial.parse(), Ok(signed.serial));
    fs::write(pki.file("own.key"), key.to_pem().unwrap().as_bytes()).unwrap();
    assert_eq!(
        pki.openssl(&["pkey", "-in", "own.key", "-pubout"]),
        pki.openssl(&["x509", "-in", "chain.crt", "-noout", "-pubkey"])
    );
}

/// A root that is kept elsewhere, here an RSA key, and an issuer with a name as organisations have them.
#[test]
fn an_issuer_under_an_offline_root() {
    let pki = Pki::new();
    pki.openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/C=DE/O=Example/CN=Root",
        "-keyout",
        "off.key",
        "-out",
        "off.crt",
    ]);
    pki.openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "issuer.key",
    ]);
    pki.openssl(&[
        "req",
        "-new",
        "-utf8",
        "-key",
        "issuer.key",
        "-subj",
        "/C=DE/O=Büro für Netze/OU=A+CN=Mesh issuer",
        "-multivalue-rdn",
        "-out",
        "issuer.csr",
    ]);
    let extensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n";
    fs::write(pki.file("issuer.cnf"), extensions).unwrap();
    pki.openssl(&[
        "x509",
        "-req",
        "-in",
        "issuer.csr",
        "-CA",
        "off.crt",
        "-CAkey",
        "off.key",
        "-CAcreateserial",
        "-days",
        "9",
        "-extfile",
        "issuer.cnf",
        "-out",
        "issuer.crt",
    ]);
    let now = SystemTime::now();
    let (chain, key, roots) = (
        pki.read("issuer.crt"),
        pki.read("issuer.key"),
        pki.read("off.crt"),
    );
    let mut authority = Authority::given(settings(), &chain, &key, &roots, None, now).unwrap();
    let (key, id) = (WorkloadKey::generate().unwrap(), BASKET.parse().unwrap());
    let request = Csr::check(&csr::request(&key, &id).unwrap()).unwrap();
    let signed = authority.sign(&request, &id, now).unwrap();
    fs::write(pki.file("chain.crt"), signed.chain_pem()).unwrap();
    pki.openssl(&[
        "verify",
        "-CAfile",
        "off.crt",
        "-untrusted",
        "chain.crt",
        "chain.crt",
    ]);
}
