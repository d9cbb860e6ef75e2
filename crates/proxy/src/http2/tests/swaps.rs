//! Plans that change between the moment when a stream comes and the one when its task begins.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use mesh_store::Store;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::clock::SystemClock;
use crate::compile::Compiler;
use crate::discovery::Discovered;
use crate::io::socket::{Socket, Sockets};
use crate::log::Log;
use crate::panics::Guard;
use crate::plan::Plan;
use crate::task::serve;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Telemetry, TelemetryOptions, ThreadTelemetry};
use crate::thread::Thread;

/// One listener before a server, in a cluster of this name.
fn before(server: SocketAddr, cluster: &str) -> String {
    let resources = json!({
        "listeners": [{ "name": "web", "address": "127.0.0.1:0", "routes": "main" }],
        "routeTables": [{ "name": "main", "virtualHosts": [{ "hosts": ["*"], "routes": [
            { "action": { "kind": "forward", "to": [{ "cluster": cluster }] } } ] }] }],
        "clusters": [{ "name": cluster, "protocol": "http1" }],
        "endpoints": [{ "cluster": cluster, "localities": [
            { "endpoints": [{ "address": server.to_string() }] } ] }],
    });
    resources.to_string()
}

/// A data thread, and plans between which it can go to and fro.
fn thread(server: SocketAddr, clusters: [&str; 2]) -> (Rc<Thread<Sockets>>, [Arc<Plan>; 2]) {
    let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
    let log = Arc::new(AccessLog::new(Arc::clone(telemetry.log())));
    let mut compiler = Compiler::new(Arc::clone(&telemetry), log, None);
    let store = Store::default();
    let mut last = Arc::new(Plan::default());
    let plans = clusters.map(|cluster| {
        let staged = store.stage_all(parse(&before(server, cluster)).unwrap()).unwrap();
        let draft = compiler
            .draft(staged.snapshot(), &Discovered::new(), &last, 0)
            .unwrap();
        store.commit(staged).unwrap();
        last = compiler.accept(draft);
        Arc::new(Plan {
            version: last.version,
            listeners: Arc::clone(&last.listeners),
            clusters: Arc::clone(&last.clusters),
            changed: None,
            own: Arc::clone(&last.own),
        })
    });
    let guard = Arc::new(Guard::new(Arc::clone(&telemetry), Arc::new(Log::silent())));
    let net = Sockets {
        clock: SystemClock::start(),
        dialled: Arc::default(),
    };
    let thread = Thread::new(net, ThreadTelemetry::new(telemetry, 0), guard, None, 1);
    thread.update(Arc::clone(&plans[0]));
    (thread, plans)
}

#[tokio::test]
async fn streams_are_served_whenever_their_cluster_is_replaced() {
    let server = hello().await;
    let test = async {
        let (thread, plans) = thread(server, ["one", "two"]);
        let listener = thread.listener(&"web".into()).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Rc::clone(&thread);
        spawn_local(async move {
            let (stream, client) = socket.accept().await.unwrap();
            let permit = listener.plan().shared.connection(1).unwrap();
            serve(shared, listener, Socket::Tcp(stream), Some(client), permit).await;
        });
        let mut send = connect(address).await;
        // Ready all the time, and so between all others.
        let mut turn = 0;
        spawn_local(poll_fn(move |cx| {
            turn = 1 - turn;
            thread.update(Arc::clone(&plans[turn]));
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        for _ in 0..100 {
            let whole = fetch(&mut send, get("/")).await.unwrap();
            assert_eq!((whole.status(), &whole.body[..]), (200, &b"hello"[..]));
        }
    };
    LocalSet::new().run_until(test).await;
}
