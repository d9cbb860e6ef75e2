//! The rules of policy one by one.

use super::*;
use crate::issue::render_path;

struct Call(&'static [u8], Vec<(&'static str, &'static [u8])>, bool);

impl RequestView for Call {
    fn host(&self) -> &[u8] {
        b"shop.test"
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn path(&self) -> &[u8] {
        self.0
    }
    fn query(&self) -> &[u8] {
        b""
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.1
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| *value)
    }
    fn is_grpc(&self) -> bool {
        self.2
    }
}

fn set(json: &str) -> PolicySet {
    PolicySet::compile(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap()
}

/// One policy for the listener `web`.
fn one(action: &str, rule: &str) -> String {
    format!(
        r#"{{"name": "{action}", "targets": [{{"kind": "listener", "value": "web"}}], "action": "{action}", "rules": [{rule}]}}"#
    )
}

const ANONYMOUS: ConnectionFacts<'static> = ConnectionFacts {
    identity: PeerIdentity::Anonymous,
    address: None,
    port: None,
};

fn passes(action: &str, rule: &str, peer: &ConnectionFacts<'_>, call: &Call) -> bool {
    let set = set(&format!("[{}]", one(action, rule)));
    let web = set.listener("web").unwrap();
    assert!(set.listener("other").is_none());
    web.request(peer, call, PolicyDefault::Allow).enforced.is_ok()
}

#[test]
fn what_can_not_be_evaluated_is_denied() {
    let path = r#"{"paths": [{"kind": "prefix", "value": "/a"}]}"#;
    let header = r#"{"headers": [{"name": "X-Role", "value": {"kind": "exact", "value": "admin"}}]}"#;
    let headers = |values: &[&'static [u8]]| {
        Call(
            b"/",
            values.iter().map(|value| ("x-role", *value)).collect(),
            false,
        )
    };
    for (rule, call) in [
        (path, Call(b"", vec![], false)),
        (path, Call(b"*", vec![], false)),
        (path, Call(b"/\xff", vec![], false)),
        (path, Call(b"/a;x=1", vec![], false)),
        (path, Call(b"/;x/a/b", vec![], false)),
        (header, headers(&[b"admin", b"admin"])),
        (header, headers(&[b"admin", b"user"])),
        (header, headers(&[b"\xff"])),
    ] {
        assert!(!passes("allow", rule, &ANONYMOUS, &call), "{rule}");
        assert!(!passes("deny", rule, &ANONYMOUS, &call), "{rule}");
    }
    for (call, holds) in [(headers(&[b"admin"]), true), (headers(&[]), false)] {
        assert_eq!(passes("allow", header, &ANONYMOUS, &call), holds);
        assert_eq!(passes("deny", header, &ANONYMOUS, &call), !holds);
    }
}

#[test]
fn peers_are_told_apart_by_identity() {
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    let call = Call(b"/", vec![], false);
    for (from, peer, holds) in [
        (r#"{"kind": "authenticated"}"#, "spiffe://td/a", true),
        (
            r#"{"kind": "identity", "value": "spiffe://td/a"}"#,
            "spiffe://td/a",
            true,
        ),
        (
            r#"{"kind": "identity", "value": "spiffe://td/a"}"#,
            "spiffe://td/a/b",
            false,
        ),
        (
            r#"{"kind": "identityPrefix", "value": "spiffe://td/ns/a"}"#,
            "spiffe://td/ns/a/sa/b",
            true,
        ),
        (
            r#"{"kind": "identityPrefix", "value": "spiffe://td/ns/a"}"#,
            "spiffe://td/ns/ab/sa/b",
            false,
        ),
        (
            r#"{"kind": "identityPrefix", "value": "spiffe://td/a"}"#,
            "spiffe://td.evil/a/b",
            false,
        ),
        (
            r#"{"kind": "namespace", "value": {"trustDomain": "td", "name": "a"}}"#,
            "spiffe://td/ns/a/sa/b",
            true,
        ),
        (
            r#"{"kind": "namespace", "value": {"trustDomain": "td", "name": "a"}}"#,
            "spiffe://evil/ns/a/sa/b",
            false,
        ),
    ] {
        let rule = format!(r#"{{"from": [{from}]}}"#);
        let id = id(peer);
        let known = ConnectionFacts {
            identity: PeerIdentity::Known(&id),
            ..ANONYMOUS
        };
        let unreadable = ConnectionFacts {
            identity: PeerIdentity::Unreadable,
            ..ANONYMOUS
        };
        assert_eq!(passes("allow", &rule, &known, &call), holds, "{from} {peer}");
        assert_eq!(passes("deny", &rule, &known, &call), !holds, "{from} {peer}");
        assert!(!passes("allow", &rule, &ANONYMOUS, &call) && passes("deny", &rule, &ANONYMOUS, &call));
        assert!(!passes("allow", &rule, &unreadable, &call) && !passes("deny", &rule, &unreadable, &call));
    }
}

#[test]
fn mapped_networks_take_addresses_in_either_form() {
    let rule = r#"{"networks": ["::ffff:127.0.0.0/104"]}"#;
    let rule: PolicyRule = serde_json::from_str(rule).unwrap();
    assert_eq!(rule.networks, ["127.0.0.0/8".parse().unwrap()]);
    let part = r#"{"networks": ["::ffff:127.0.0.0/90"]}"#;
    let error = serde_json::from_str::<PolicyRule>(part).unwrap_err().to_string();
    assert!(error.contains("holds IPv4 addresses among others"), "{error}");
}

#[test]
fn networks_take_mapped_addresses() {
    let rule = r#"{"networks": ["10.0.0.0/8"]}"#;
    let from = |address: &str| ConnectionFacts {
        address: Some(address.parse().unwrap()),
        ..ANONYMOUS
    };
    let call = Call(b"/", vec![], false);
    assert!(passes("allow", rule, &from("10.1.2.3"), &call));
    assert!(passes("allow", rule, &from("::ffff:10.1.2.3"), &call));
    assert!(!passes("deny", rule, &from("::ffff:10.1.2.3"), &call));
    assert!(!passes("allow", rule, &from("11.1.2.3"), &call));
    assert!(
        !passes("deny", rule, &ANONYMOUS, &call),
        "a Unix socket has no address"
    );
}

#[test]
fn a_grpc_call_is_denied_whatever_its_type() {
    let rule = r#"{"grpc": [{"service": "shop.Basket", "method": "Clear"}]}"#;
    for grpc in [true, false] {
        let call = Call(b"/shop.Basket/Clear", vec![], grpc);
        assert!(!passes("deny", rule, &ANONYMOUS, &call));
        assert_eq!(passes("allow", rule, &ANONYMOUS, &call), grpc);
    }
    assert!(passes(
        "deny",
        rule,
        &ANONYMOUS,
        &Call(b"/shop.Basket/Add", vec![], true)
    ));
}

#[test]
fn streams_are_denied_beside_http_rules() {
    let anybody = one("allow", "{}");
    let get = one("allow", r#"{"methods": ["GET"]}"#).replace(r#""name": "allow""#, r#""name": "get""#);
    let stream = |json: &str| {
        let set = set(json);
        let web = set.listener("web").unwrap();
        web.stream(&ANONYMOUS, PolicyDefault::Allow).enforced.map(|_| ())
    };
    assert_eq!(stream(&format!("[{anybody}]")), Ok(()));
    assert_eq!(stream(&format!("[{anybody}, {get}]")), Err(Denial::NotAllowed));
    let deny = one("deny", r#"{"methods": ["GET"]}"#);
    assert!(matches!(stream(&format!("[{deny}]")), Err(Denial::Rule(_))));
}

#[test]
fn http_rules_of_other_connections_are_no_matter_of_a_stream() {
    let all = "spiffe://td/all";
    let id: SpiffeId = all.parse().unwrap();
    let of = |port| ConnectionFacts {
        identity: PeerIdentity::Known(&id),
        address: None,
        port,
    };
    let stream = |json: &str, facts: &ConnectionFacts<'_>| {
        let set = set(json);
        let web = set.listener("web").unwrap();
        web.stream(facts, PolicyDefault::Allow).enforced.map(|_| ())
    };
    let bytes = one("allow", r#"{"ports": [5432]}"#).replace(r#""name": "allow""#, r#""name": "bytes""#);
    let other = r#""from": [{"kind": "identity", "value": "spiffe://td/other"}]"#;
    for (rule, is_asked) in [
        (r#"{"ports": [3000], "methods": ["GET"]}"#.to_owned(), false),
        (format!(r#"{{{other}, "methods": ["GET"]}}"#), false),
        (r#"{"ports": [3000, 5432], "methods": ["GET"]}"#.to_owned(), true),
        (
            other
                .replace("other", "all")
                .replace(r#""from""#, r#"{"methods": ["GET"], "from""#)
                + "}",
            true,
        ),
    ] {
        let allow = format!("[{bytes}, {}]", one("allow", &rule));
        let deny = format!("[{bytes}, {}]", one("deny", &rule));
        assert_eq!(stream(&allow, &of(Some(5432))).is_err(), is_asked, "{rule}");
        assert_eq!(stream(&deny, &of(Some(5432))).is_err(), is_asked, "{rule}");
        // Where it came in is not known.
        assert!(stream(&allow, &of(None)).is_err(), "{rule}");
    }
    let deny = format!("[{}]", one("deny", r#"{"ports": [3000], "methods": ["GET"]}"#));
    assert!(matches!(stream(&deny, &of(None)), Err(Denial::Rule(_))));
}

#[test]
fn audit_tells_and_lets_pass() {
    let deny = one("deny", "{}").replace(r#""action""#, r#""mode": "audit", "action""#);
    let set = set(&format!("[{deny}]"));
    let verdict =
        set.listener("web")
            .unwrap()
            .request(&ANONYMOUS, &Call(b"/", vec![], false), PolicyDefault::Allow);
    assert_eq!(verdict.enforced, Ok(None));
    assert!(matches!(verdict.audited, Some(Denial::Rule(_))), "{verdict:?}");
}

#[test]
fn a_denial_is_by_a_policy_or_by_several_or_by_the_default() {
    let named = |name: &str, action: &str, path: &str| {
        let rule = format!(r#"{{"paths": [{{"kind": "exact", "value": "{path}"}}]}}"#);
        one(action, &rule).replacen(action, name, 1)
    };
    let audit = |policy: String| policy.replace(r#""action""#, r#""mode": "audit", "action""#);
    let by = |policies: &[String], default: PolicyDefault| {
        let set = set(&format!("[{}]", policies.join(",")));
        let web = set.listener("web").unwrap();
        let verdict = web.request(&ANONYMOUS, &Call(b"/", vec![], false), default);
        let (denial, mode) = match (verdict.enforced, verdict.audited) {
            (Err(denial), None) => (denial, PolicyMode::Enforce),
            (Ok(_), Some(denial)) => (denial, PolicyMode::Audit),
            _ => panic!("{verdict:?}"),
        };
        let names: Vec<_> = web.denied_by(denial, mode).map(str::to_owned).collect();
        (mode, names.join(","))
    };
    let (enforced, audited) = (PolicyMode::Enforce, PolicyMode::Audit);
    let (one, two) = (named("one", "deny", "/other"), named("two", "deny", "/"));
    let (three, four) = (named("three", "allow", "/x"), named("four", "allow", "/y"));
    let open = named("open", "allow", "/");
    let allow = PolicyDefault::Allow;
    assert_eq!(by(&[one.clone(), two.clone()], allow), (enforced, "two".into()));
    assert_eq!(
        by(&[three.clone(), four.clone()], allow),
        (enforced, "three,four".into())
    );
    assert_eq!(
        by(&[one, audit(three.clone())], PolicyDefault::Deny),
        (enforced, String::new())
    );
    assert_eq!(by(&[open, audit(two)], allow), (audited, "two".into()));
    assert_eq!(
        by(&[audit(three), audit(four)], allow),
        (audited, "three,four".into())
    );
}

#[test]
fn a_rule_stays_until_it_is_gone_or_takes_less() {
    const GET: &str = r#"{"methods": ["GET", "PUT"], "ports": [80]}"#;
    let before = set(&format!("[{}]", one("allow", GET)));
    let call = Call(b"/", vec![], false);
    let web = before.listener("web").unwrap();
    let peer = ConnectionFacts {
        port: Some(80),
        ..ANONYMOUS
    };
    let by = web.request(&peer, &call, PolicyDefault::Deny).enforced;
    let by = by.unwrap().unwrap();
    let stays = |policies: &[String]| {
        let after = set(&format!("[{}]", policies.join(",")));
        let after = after.listener("web").unwrap();
        let known = after.still_allows(Some(web), by);
        assert!(
            known || !after.still_allows(None, by),
            "more is known with what was"
        );
        known
    };
    let other = |rule: &str| one("allow", rule).replacen("allow", "other", 1);
    assert!(
        stays(&[one("deny", ""), one("allow", GET)]),
        "its place is another"
    );
    assert!(stays(&[other(GET)]), "so is its policy");
    assert!(stays(&[one(
        "allow",
        r#"{"methods": ["PUT", "GET"], "ports": [80]}"#
    )]));
    assert!(stays(&[one(
        "allow",
        r#"{"methods": ["GET", "POST", "PUT"], "ports": [80, 81]}"#
    )]));
    assert!(stays(&[one("allow", r#"{"ports": [80]}"#)]));
    assert!(stays(&[one("allow", "{}")]));
    assert!(!stays(&[other("{}")]), "another policy's rule is another rule");
    assert!(!stays(&[one("allow", "")]), "it is gone");
    assert!(!stays(&[one("deny", GET)]));
    assert!(!stays(&[one("allow", GET).replacen(
        '{',
        r#"{"mode": "audit","#,
        1
    )]));
    assert!(!stays(&[one("allow", r#"{"methods": ["GET"], "ports": [80]}"#)]));
    assert!(!stays(&[one(
        "allow",
        r#"{"methods": ["GET", "PUT"], "ports": [80], "headers": [{"name": "a"}]}"#
    )]));
    assert!(!stays(&[one(
        "allow",
        r#"{"methods": ["GET", "PUT"], "ports": [80], "paths": [{"kind": "prefix", "value": "/"}]}"#
    )]));
}

#[test]
fn a_deny_rule_that_takes_no_more_than_before_is_not_new() {
    let before = set(&format!("[{}]", one("deny", r#"{"methods": ["GET", "PUT"]}"#)));
    let bars = |rule: &str| {
        let after = set(&format!("[{}]", one("deny", rule)));
        let after = after.listener("web").unwrap();
        after.bars(before.listener("web").map(|web| &**web), &ANONYMOUS)
    };
    assert!(!bars(r#"{"methods": ["PUT", "GET"]}"#));
    assert!(!bars(r#"{"methods": ["PUT"], "headers": [{"name": "a"}]}"#));
    assert!(bars(r#"{"methods": ["GET", "PUT", "POST"]}"#));
    assert!(bars(r#"{"paths": [{"kind": "prefix", "value": "/"}]}"#));
    assert!(bars(r#"{"from": []}"#), "it asks for no head");
    assert!(
        !bars(r#"{"from": [{"kind": "authenticated"}]}"#),
        "it is not for this peer"
    );
}

#[test]
fn patterns_that_do_not_compile_are_listed_with_their_place() {
    let json = format!(
        "[{}]",
        one(
            "deny",
            r#"{"paths": [{"kind": "regex", "value": "("}], "headers": [{"name": "a b"}]}"#
        )
    );
    let issues = PolicySet::compile(&serde_json::from_str::<Vec<_>>(&json).unwrap()).unwrap_err();
    let places: Vec<_> = issues.iter().map(|issue| render_path(&issue.path)).collect();
    assert_eq!(places, ["[0].rules[0].paths[0]", "[0].rules[0].headers[0]"]);
}
