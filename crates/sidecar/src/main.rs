//! `mesh-sidecar`: the proxy as one binary. (bring-up)
#![forbid(unsafe_code)]
use mesh_proxy::proxy::{Change, Options, Proxy};
fn main() {
    let file = std::env::args().nth(1).unwrap_or_default();
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let resources = mesh_model::validate::parse(&text).unwrap_or_else(|e| {
        for i in e {
            eprintln!("{i}");
        }
        std::process::exit(64)
    });
    let proxy = Proxy::start(Options::default()).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1)
    });
    match proxy.apply(Change::Replace(resources)) {
        Ok(a) => eprintln!("{a:?}"),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(64)
        }
    }
    loop {
        std::thread::park();
    }
}
