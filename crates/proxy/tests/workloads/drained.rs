//! What of a workload that goes, and has yet to ask others for what it was asked?

use std::net::{SocketAddr, TcpListener, TcpStream};

use mesh_proxy::proxy::{DrainOptions, Phase};
use serde_json::{Value, json};

use crate::support::{
    HALF, Mesh, Open, REST, application, apply, get, inbound, outbound, proxy, said, wait_for,
};

/// What the proxy of a workload does that others call, and that calls `basket`, at this address. Its listeners are `http` and
/// `tcp`, for its own calls, and `inbound` between these.
fn called_and_calling(basket: SocketAddr) -> Value {
    let mut resources = inbound(application(), json!([]));
    let mut calls = outbound(basket, "basket", 3000);
    for kind in ["listeners", "routeTables", "clusters", "endpoints"] {
        let more = calls[kind].as_array_mut().unwrap();
        resources[kind].as_array_mut().unwrap().append(more);
    }
    resources
}

#[test]
fn it_calls_others_until_all_that_it_was_asked_is_answered() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let basket_at = apply(&basket, &inbound(application(), json!([])));
    let shop = proxy(mesh.workload("shop"));
    let at = apply(&shop, &called_and_calling(basket_at[0]));
    let [http, called, tcp] = at[..] else {
        panic!("{at:?}")
    };
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(called, "shop", 3000));
    let mut asks = Open::new(own[0], HALF, "half");
    shop.drain(DrainOptions::default());
    wait_for(|| TcpStream::connect(called).is_ok(), &false);
    let answer = get(http, "/items", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(said(tcp, "hello\n", "\n"), "echo:hello\n");
    assert_eq!(*shop.phase().borrow(), Phase::Draining);
    asks.says(REST, "half");
    wait_for(|| *shop.phase().borrow(), &Phase::Drained);
    assert!(TcpStream::connect(http).is_err());
}

#[test]
fn it_hears_until_then_where_they_are_and_who_may_call_it() {
    let mesh = Mesh::new();
    let basket = proxy(mesh.workload("basket"));
    let basket_at = apply(&basket, &inbound(application(), json!([])));
    let shop = proxy(mesh.workload("shop"));
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut resources = called_and_calling(nowhere);
    let at = apply(&shop, &resources);
    let [http, called, _] = at[..] else {
        panic!("{at:?}")
    };
    let web = proxy(mesh.workload("web"));
    let own = apply(&web, &outbound(called, "shop", 3000));
    let mut asks = Open::new(own[0], HALF, "half");
    let mut streams = Open::new(own[1], "hello\n", "echo:hello\n");
    shop.drain(DrainOptions::default());
    wait_for(|| TcpStream::connect(called).is_ok(), &false);
    assert!(get(http, "/", "").starts_with("HTTP/1.1 502 "));
    resources["endpoints"][1] = called_and_calling(basket_at[0])["endpoints"][1].take();
    assert_eq!(apply(&shop, &resources), at);
    assert!(get(http, "/", "").starts_with("HTTP/1.1 200 "));
    asks.says(REST, "half");
    assert_eq!(*shop.phase().borrow(), Phase::Draining);
    resources["listeners"][0]["defaultPolicy"] = json!("deny");
    assert_eq!(apply(&shop, &resources), at);
    streams.ends();
    wait_for(|| *shop.phase().borrow(), &Phase::Drained);
}
