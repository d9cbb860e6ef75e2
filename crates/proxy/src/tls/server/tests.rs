//! Handshakes in memory against certificates in real files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_model::resources::{self, CertificateAndKey, ClientCertificates, ListenerProtocol, Pem, TlsVersion};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion};

use super::super::fixtures::{Authority, Dir, Shaken, lines, listener_path, server_tls, shake};
use super::*;

fn load(tls: &resources::ServerTls) -> ServerTls {
    ServerTls::load(tls, ListenerProtocol::Auto, &listener_path())
        .map_err(lines)
        .unwrap()
}

fn refused(tls: &resources::ServerTls) -> Vec<String> {
    lines(
        ServerTls::load(tls, ListenerProtocol::Auto, &listener_path())
            .err()
            .unwrap(),
    )
}

/// The certificate that a client is shown, as PEM text would hold it.
fn shown_leaf(shaken: &Shaken) -> CertificateDer<'static> {
    shaken.client.peer_certificates().unwrap()[0].clone().into_owned()
}

fn leaf_of(pair: &CertificateAndKey) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&pair.certificate.0).unwrap()
}

fn with_alpn(mut client: ClientConfig, names: &[&str]) -> Arc<ClientConfig> {
    client.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(client)
}

#[test]
fn tls_13_with_the_post_quantum_exchange_first() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let server = load(&server_tls(vec![ca.files(&dir, "a", &["a.test"])]));
    let shaken = shake(&Arc::new(ca.client()), server.config(), "a.test").unwrap();
    assert_eq!(shaken.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = shaken.server.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
}

#[test]
fn certificates_are_chosen_by_name() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let first = ca.files(&dir, "first", &["first.test"]);
    let exact = ca.files(&dir, "exact", &["api.shop.test"]);
    let wild = ca.files(&dir, "wild", &["*.shop.test"]);
    let server = load(&server_tls(vec![first.clone(), exact.clone(), wild.clone()]));
    let client = Arc::new(ca.client());
    for (name, pair) in [
        ("first.test", &first),
        ("api.shop.test", &exact),
        ("API.shop.test", &exact),
        ("www.shop.test", &wild),
    ] {
        let shaken = shake(&client, server.config(), name).unwrap();
        assert_eq!(shown_leaf(&shaken), leaf_of(pair), "{name}");
    }
    // A name that nobody has is shown the first one, and the client refuses it.
    let error = shake(&client, server.config(), "a.b.shop.test").err().unwrap();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
}

#[test]
fn protocols_follow_the_listener_unless_they_are_listed() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let mut tls = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
    let chosen = |tls: &resources::ServerTls, protocol, offered: &[&str]| {
        let server = ServerTls::load(tls, protocol, &listener_path())
            .map_err(lines)
            .unwrap();
        let client = with_alpn(ca.client(), offered);
        shake(&client, server.config(), "a.test").map(|shaken| {
            shaken
                .client
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned())
        })
    };
    use ListenerProtocol::{Auto, Http1, Http2};
    let both = &["http/1.1", "h2"];
    assert_eq!(chosen(&tls, Auto, both), Ok(Some("h2".into())));
    assert_eq!(chosen(&tls, Auto, &["http/1.1"]), Ok(Some("http/1.1".into())));
    assert_eq!(chosen(&tls, Http1, both), Ok(Some("http/1.1".into())));
    assert_eq!(chosen(&tls, Http2, both), Ok(Some("h2".into())));
    assert_eq!(chosen(&tls, Auto, &[]), Ok(None));
    assert!(chosen(&tls, Http2, &["http/1.1"]).is_err());
    tls.alpn = vec!["http/1.1".into()];
    assert_eq!(chosen(&tls, Auto, both), Ok(Some("http/1.1".into())));
}

#[test]
fn the_minimum_version_holds() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let mut tls = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
    let old = ClientConfig::builder_with_provider(super::super::provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let old = Arc::new(old);
    let shaken = shake(&old, load(&tls).config(), "a.test").unwrap();
    assert_eq!(shaken.server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    tls.minimum_version = TlsVersion::Tls13;
    assert!(shake(&old, load(&tls).config(), "a.test").is_err());
}

#[test]
fn sessions_are_resumed_also_after_a_reload() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let server = load(&server_tls(vec![ca.files(&dir, "a", &["a.test"])]));
    let client = Arc::new(ca.client());
    let kind = |server: &ServerTls| {
        shake(&client, server.config(), "a.test")
            .unwrap()
            .client
            .handshake_kind()
    };
    assert_eq!(kind(&server), Some(HandshakeKind::Full));
    assert_eq!(kind(&server), Some(HandshakeKind::Resumed));
    ca.files(&dir, "a", &["a.test"]);
    assert_eq!(server.reload().map_err(lines), Ok(Reloaded::Changed));
    assert_eq!(kind(&server), Some(HandshakeKind::Resumed));
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    let (dir, ca, others) = (Dir::new(), Authority::new("ca"), Authority::new("others"));
    let mut tls = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
    let client = |authority: Option<&Authority>| {
        let builder = ClientConfig::builder_with_provider(super::super::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(ca.roots());
        Arc::new(match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.sign(&["client.test"]);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    };
    tls.client_certificates = Some(ClientCertificates {
        roots: Pem(ca.pem.clone()),
        optional: false,
    });
    let server = load(&tls);
    let shaken = shake(&client(Some(&ca)), server.config(), "a.test").unwrap();
    assert!(shaken.server.peer_certificates().is_some());
    // A ticket would outlive the certificate that was shown.
    let again = shake(&client(Some(&ca)), server.config(), "a.test").unwrap();
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Full));
    let none = shake(&client(None), server.config(), "a.test").err();
    assert!(
        matches!(none, Some(rustls::Error::NoCertificatesPresented)),
        "{none:?}"
    );
    let foreign = shake(&client(Some(&others)), server.config(), "a.test").err();
    assert!(
        matches!(foreign, Some(rustls::Error::InvalidCertificate(_))),
        "{foreign:?}"
    );
    if let Some(clients) = &mut tls.client_certificates {
        clients.optional = true;
    }
    let server = load(&tls);
    assert!(shake(&client(None), server.config(), "a.test").is_ok());
    assert!(shake(&client(Some(&others)), server.config(), "a.test").is_err());
}

#[test]
fn a_root_of_clients_that_is_gone_tightens() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let [one, two] = ["one", "two"].map(Authority::new);
    dir.write("roots.pem", &(one.pem.clone() + &two.pem));
    let mut tls = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
    tls.client_certificates = Some(ClientCertificates {
        roots: Pem(dir.path("roots.pem").to_str().unwrap().to_owned()),
        optional: false,
    });
    let server = load(&tls);
    let reloaded = |roots: String| {
        dir.write("roots.pem", &roots);
        assert_eq!(server.reload().map_err(lines), Ok(Reloaded::Changed));
        server.tightened()
    };
    assert_eq!(reloaded(two.pem.clone() + &one.pem), 0, "another order");
    assert_eq!(reloaded(two.pem.clone()), 1);
    assert_eq!(reloaded(one.pem.clone() + &two.pem), 1, "more is less to ask");
    assert_eq!(reloaded(ca.pem.clone() + &one.pem), 2, "one for another");
    // Who takes its place goes by what it reads itself.
    let next = load(&tls);
    next.follow(&server);
    assert_eq!(next.tightened(), 2);
    dir.write("roots.pem", &one.pem);
    let last = load(&tls);
    last.follow(&next);
    assert_eq!(last.tightened(), 3);
}

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let (certificate, _) = ca.sign(&["a.test"]);
    let (_, other_key) = ca.sign(&["b.test"]);
    let missing = dir.path("missing.key").to_str().unwrap().to_owned();
    let found = refused(&server_tls(vec![
        CertificateAndKey {
            certificate: Pem("no pem at all\n".into()),
            key: Pem(missing.clone()),
        },
        CertificateAndKey {
            certificate: dir.write("a.crt", &certificate),
            key: dir.write("b.key", &other_key),
        },
    ]));
    assert_eq!(found.len(), 3, "{found:#?}");
    for (line, place) in found.iter().zip([
        "listeners[0].tls.certificates[0].certificate",
        "listeners[0].tls.certificates[0].key",
        "listeners[0].tls.certificates[1].key",
    ]) {
        assert!(line.contains(place), "{line} should name {place}");
    }
    assert!(found[1].contains(&missing), "{}", found[1]);
    assert!(found[2].contains("is not the key of"), "{}", found[2]);
    assert!(refused(&server_tls(Vec::new()))[0].contains("listeners[0].tls.certificates"));
}

#[test]
fn new_files_are_noticed_and_bad_ones_change_nothing() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let first = ca.files(&dir, "a", &["a.test"]);
    let before = leaf_of(&first);
    let server = load(&server_tls(vec![first.clone()]));
    // A client of its own each time: one that resumes is shown nothing.
    let served = || shown_leaf(&shake(&Arc::new(ca.client()), server.config(), "a.test").unwrap());
    assert!(!server.changed());
    assert_eq!(served(), before);

    // Half of a pair: the new certificate has come, its key has not.
    let (certificate, key) = ca.sign(&["a.test"]);
    dir.write("a.crt", &certificate);
    assert!(server.changed());
    let problems = lines(server.reload().err().unwrap());
    assert!(problems[0].contains("is not the key of"), "{problems:?}");
    assert_eq!(served(), before);
    assert!(!server.changed(), "a bad file is told once");

    dir.write("a.key", &key);
    assert!(server.changed());
    assert_eq!(server.reload().map_err(lines), Ok(Reloaded::Changed));
    assert_eq!(served(), leaf_of(&first));
    assert_ne!(served(), before);

    // Touched, but the same.
    dir.age("a.key", Duration::from_secs(30));
    assert!(server.changed());
    assert_eq!(server.reload().map_err(lines), Ok(Reloaded::Unchanged));
}

#[test]
fn a_swapped_link_is_noticed() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    for version in ["one", "two"] {
        ca.files(&dir, version, &["a.test"]);
    }
    let link = |from: &str, to: &str| {
        let next = dir.path("next");
        std::os::unix::fs::symlink(dir.path(from), &next).unwrap();
        std::fs::rename(next, dir.path(to)).unwrap();
    };
    link("one.crt", "live.crt");
    link("one.key", "live.key");
    let path = |name: &str| Pem(dir.path(name).to_str().unwrap().to_owned());
    let pair = CertificateAndKey {
        certificate: path("live.crt"),
        key: path("live.key"),
    };
    let server = load(&server_tls(vec![pair.clone()]));
    assert!(!server.changed());
    link("two.crt", "live.crt");
    link("two.key", "live.key");
    assert!(server.changed());
    assert_eq!(server.reload().map_err(lines), Ok(Reloaded::Changed));
    let shaken = shake(&Arc::new(ca.client()), server.config(), "a.test").unwrap();
    assert_eq!(shown_leaf(&shaken), leaf_of(&pair));
}

#[test]
fn certificates_outside_their_dates_are_served_with_a_warning() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let (certificate, key) = ca.sign_with(
        &["old.test"],
        |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        },
        &KeyPair::generate().unwrap(),
    );
    let old = CertificateAndKey {
        certificate: dir.write("old.crt", &certificate),
        key: dir.write("old.key", &key),
    };
    let server = load(&server_tls(vec![ca.files(&dir, "a", &["a.test"]), old]));
    let warnings = lines(server.warnings(SystemTime::now()));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("certificates[1]") && warnings[0].contains("has expired"));
    assert_eq!(server.not_after(), Some(1_609_459_200));
}

#[test]
fn a_certificate_in_its_last_fifth_is_warned_of_in_the_same_words() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let (certificate, key) = ca.sign_with(
        &["a.test"],
        |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 4, 10);
        },
        &KeyPair::generate().unwrap(),
    );
    let server = load(&server_tls(vec![CertificateAndKey {
        certificate: dir.write("a.crt", &certificate),
        key: dir.write("a.key", &key),
    }]));
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    let on_day = |day: u64| {
        let warnings = server.warnings(begin + Duration::from_secs(day * 86_400));
        warnings
            .into_iter()
            .map(|issue| issue.message)
            .collect::<Vec<_>>()
    };
    assert!(on_day(79).is_empty());
    assert!(
        on_day(81)[0].ends_with("ends at 2020-04-10T00:00:00.000Z"),
        "{:?}",
        on_day(81)
    );
    assert_eq!(on_day(81), on_day(99));
    assert!(on_day(101)[0].ends_with("has expired"));
}

#[test]
fn a_pair_that_does_not_fit_gets_a_second_look() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let server = load(&server_tls(vec![ca.files(&dir, "a", &["a.test"])]));
    let look = |patience| match server.look(patience) {
        Looked::Unchanged => "unchanged".to_owned(),
        Looked::Changed => "changed".to_owned(),
        Looked::Refused(lines) => lines.join("; "),
    };
    assert_eq!(look(Patience::Some), "unchanged");
    let (certificate, key) = ca.sign(&["a.test"]);
    dir.write("a.crt", &certificate);
    assert_eq!(look(Patience::Some), "unchanged", "its key may be on its way");
    dir.write("a.key", &key);
    assert_eq!(look(Patience::Some), "changed");

    let (_, foreign) = ca.sign(&["a.test"]);
    dir.write("a.key", &foreign);
    assert_eq!(look(Patience::Some), "unchanged");
    assert!(look(Patience::Some).contains("is not the key of"));
    assert_eq!(look(Patience::Some), "unchanged", "it was said");
    dir.write("a.key", "nothing");
    assert!(look(Patience::None).contains("holds no private key"));
    dir.write("a.key", &key);
    assert_eq!(look(Patience::None), "unchanged", "it is what serves");
}
