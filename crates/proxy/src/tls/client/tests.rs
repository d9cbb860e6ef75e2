//! Client configurations, held against servers in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use mesh_model::issue::{Issue, PathStep};
use mesh_model::resources::{ClientCertificates, ClientTls, ListenerProtocol, Pem};
use rustls::pki_types::ServerName;

use super::super::ServerTls;
use super::super::fixtures::{Authority, Dir, lines, listener_path, server_tls, shake};
use super::*;

fn path() -> [PathStep; 3] {
    [
        PathStep::Key("clusters".into()),
        PathStep::Index(0),
        PathStep::Key("tls".into()),
    ]
}

fn trusting(roots: Pem) -> ClientTls {
    ClientTls {
        roots: Some(roots),
        ..ClientTls::default()
    }
}

fn config(configs: &ClientConfigs, tls: &ClientTls) -> Result<Arc<ClientConfig>, Vec<String>> {
    configs.config(tls, &[b"h2", b"http/1.1"], &path()).map_err(lines)
}

#[test]
fn servers_are_verified_by_the_given_roots_and_the_name() {
    let (dir, ca, others) = (Dir::new(), Authority::new("ca"), Authority::new("others"));
    let server = ServerTls::load(
        &server_tls(vec![ca.files(&dir, "a", &["a.test"])]),
        ListenerProtocol::Auto,
        &listener_path(),
    )
    .map_err(lines)
    .unwrap();
    let configs = ClientConfigs::new();
    let good = config(&configs, &trusting(dir.write("ca.crt", &ca.pem))).unwrap();
    let shaken = shake(&good, server.config(), "a.test").unwrap();
    assert_eq!(shaken.client.alpn_protocol(), Some(&b"h2"[..]));
    assert!(shake(&good, server.config(), "b.test").is_err());
    let foreign = config(&configs, &trusting(Pem(others.pem.clone()))).unwrap();
    assert!(shake(&foreign, server.config(), "a.test").is_err());
}

#[test]
fn a_certificate_of_its_own_is_shown() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let mut listener = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
    listener.client_certificates = Some(ClientCertificates {
        roots: Pem(ca.pem.clone()),
        optional: false,
    });
    let server = ServerTls::load(&listener, ListenerProtocol::Auto, &listener_path())
        .map_err(lines)
        .unwrap();
    let own = ca.files(&dir, "own", &["client.test"]);
    let configs = ClientConfigs::new();
    let mut tls = trusting(Pem(ca.pem.clone()));
    let bare = config(&configs, &tls).unwrap();
    assert!(shake(&bare, server.config(), "a.test").is_err());
    tls.certificate = Some(own.certificate);
    tls.key = Some(own.key);
    let proven = config(&configs, &tls).unwrap();
    assert!(shake(&proven, server.config(), "a.test").is_ok());
}

#[test]
fn equal_inputs_share_a_configuration_while_somebody_holds_it() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let configs = ClientConfigs::new();
    let tls = trusting(dir.write("ca.crt", &ca.pem));
    let first = config(&configs, &tls).unwrap();
    let named = ClientTls {
        server_name: Some("other.test".into()),
        ..tls.clone()
    };
    assert!(Arc::ptr_eq(&first, &config(&configs, &named).unwrap()));

    // Touched, but the same; then another authority.
    dir.write("ca.crt", &ca.pem);
    let (replaced, refused) = configs.look(Patience::Some);
    assert!(replaced.is_empty() && refused.is_empty());
    let next = Authority::new("next");
    dir.write("ca.crt", &next.pem);
    let (replaced, _) = configs.look(Patience::Some);
    let second = Arc::clone(replaced.get(&first).unwrap());
    assert!(Arc::ptr_eq(&second, &config(&configs, &tls).unwrap()));
    assert!(configs.look(Patience::Some).0.is_empty());
    let server = |ca: &Authority| {
        let tls = server_tls(vec![ca.files(&dir, "a", &["a.test"])]);
        let server = ServerTls::load(&tls, ListenerProtocol::Auto, &listener_path());
        server.map_err(lines).unwrap().config()
    };
    assert!(shake(&second, server(&ca), "a.test").is_err());
    assert!(shake(&second, server(&next), "a.test").is_ok());

    drop(replaced);
    drop((first, second));
    assert!(
        configs
            .inner
            .lock()
            .unwrap()
            .used
            .values()
            .all(|used| used.config.strong_count() == 0)
    );
}

#[test]
fn bad_files_are_refused_at_the_second_look_and_said_once() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let own = ca.files(&dir, "own", &["client.test"]);
    let mut tls = trusting(Pem(ca.pem.clone()));
    (tls.certificate, tls.key) = (Some(own.certificate), Some(own.key));
    let configs = ClientConfigs::new();
    let first = config(&configs, &tls).unwrap();
    let now = SystemTime::now();
    let shown = |config: &Arc<ClientConfig>| configs.certificates(now).remove(&Arc::as_ptr(config).addr());
    let (not_after, warning) = shown(&first).unwrap();
    assert_eq!(warning, None);

    dir.write("own.key", "no key at all");
    let look = || configs.look(Patience::Some);
    assert!(look().1.is_empty(), "it may be half written");
    let refused = look().1;
    assert!(refused[0].contains("holds no private key"), "{refused:?}");
    assert!(look().1.is_empty());
    assert_eq!(shown(&first).unwrap().0, not_after);

    let (certificate, key) = ca.sign(&["client.test"]);
    dir.write("own.crt", &certificate);
    dir.write("own.key", &key);
    let (replaced, refused) = look();
    assert!(refused.is_empty());
    assert_eq!(replaced.len(), 1);
    assert!(shown(&first).is_none());
    assert!(shown(replaced.get(&first).unwrap()).is_some());
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let (dir, ca) = (Dir::new(), Authority::new("ca"));
    let own = ca.files(&dir, "own", &["client.test"]);
    let other = ca.files(&dir, "other", &["client.test"]);
    let configs = ClientConfigs::new();
    let mut tls = trusting(Pem(dir.path("missing.crt").to_str().unwrap().into()));
    tls.certificate = Some(own.certificate);
    let found = config(&configs, &tls).unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|line| line.contains("clusters[0].tls.roots")));
    assert!(found.iter().any(|line| line.contains("clusters[0].tls.key")));
    tls.roots = Some(Pem(ca.pem.clone()));
    tls.key = Some(other.key);
    let found = config(&configs, &tls).unwrap_err();
    assert!(found[0].contains("is not the key of"), "{found:?}");
}

#[test]
fn names_to_verify() {
    let name = |text: Option<&str>| server_name(text, &path()).map_err(|issue: Issue| issue.to_string());
    assert_eq!(name(Some("a.test.")), Ok(ServerName::try_from("a.test").unwrap()));
    assert!(matches!(name(Some("::1")), Ok(ServerName::IpAddress(_))));
    for wrong in [None, Some(""), Some("a b"), Some("*.test")] {
        let error = name(wrong).unwrap_err();
        assert!(error.contains("clusters[0].tls.serverName"), "{error}");
    }
}
