//! The pure decisions of the model for WebAssembly: thin, no logic. What comes in and goes out is JSON text.
//!
//! The border is numbers only, so that no tool has to generate code for it and nothing is imported. JavaScript asks
//! for room with [`mesh_input`], writes UTF-8 there, calls [`mesh_validate`] or [`mesh_route`], which answer with a
//! length, and reads that many bytes at [`mesh_output`]. The other side is `src/wasm/model.ts`.
//!
//! Texts are taken by the call that reads them, so a finished call holds its answer and nothing else. There is one
//! thread. A defect of the core traps: the instance is then thrown away and the host goes on.
#![allow(unsafe_code)] // For the names of the exports; there is no unsafe block here.

use std::cell::RefCell;
use std::mem;

use mesh_http1::Http1;

/// What lies at the border between two calls.
struct Border {
    resources: Vec<u8>,
    request: Vec<u8>,
    output: String,
}

thread_local! {
    static BORDER: RefCell<Border> = const {
        RefCell::new(Border { resources: Vec::new(), request: Vec::new(), output: String::new() })
    };
}

fn take(bytes: &mut Vec<u8>) -> String {
    String::from_utf8(mem::take(bytes))
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn answer(output: String) -> usize {
    let length = output.len();
    BORDER.with_borrow_mut(|border| border.output = output);
    length
}

/// Room for `length` bytes of resources (`which` 0) or of a request (anything else). Good until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn mesh_input(which: u32, length: usize) -> *mut u8 {
    BORDER.with_borrow_mut(|border| {
        let bytes = if which == 0 {
            &mut border.resources
        } else {
            &mut border.request
        };
        *bytes = vec![0; length];
        bytes.as_mut_ptr()
    })
}

/// Where the last answer lies. Good until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn mesh_output() -> *const u8 {
    BORDER.with_borrow(|border| border.output.as_ptr())
}

/// Everything that is wrong with the resources, as a JSON array; its length.
#[unsafe(no_mangle)]
pub extern "C" fn mesh_validate() -> usize {
    let resources = BORDER.with_borrow_mut(|border| take(&mut border.resources));
    answer(mesh_model::validate::validate_json(&resources))
}

/// Which listener, route and cluster the request would take, as JSON; its length.
#[unsafe(no_mangle)]
pub extern "C" fn mesh_route() -> usize {
    let (resources, request) =
        BORDER.with_borrow_mut(|border| (take(&mut border.resources), take(&mut border.request)));
    answer(mesh_model::decide::decide_json(&resources, &request, &Http1))
}
