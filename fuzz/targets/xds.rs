//! Does anything that a control plane sends break its reading, and does what was read mean the same when it is told on?
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use mesh_model::resources::{Cluster, Endpoints, RouteTable};
use mesh_xds::translate::{ServiceListener, Translate, TrustRoots, WorkloadListener};
use mesh_xds::wire::Any;

fn told_on<T: Translate + PartialEq + Debug>(bytes: &[u8]) {
    let any = Any {
        type_url: T::KIND.type_url().to_owned(),
        value: bytes.to_vec().into(),
    };
    let Ok(read) = T::from_any(&any) else { return };
    // What was said in words that we would not use may have none of ours.
    let Ok(again) = read.to_any() else { return };
    assert_eq!(T::from_any(&again), Ok(read));
}

fuzz_target!(|bytes: &[u8]| {
    told_on::<Cluster>(bytes);
    told_on::<Endpoints>(bytes);
    told_on::<RouteTable>(bytes);
    told_on::<ServiceListener>(bytes);
    told_on::<WorkloadListener>(bytes);
    told_on::<TrustRoots>(bytes);
});
