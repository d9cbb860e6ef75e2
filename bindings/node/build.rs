//! Tells the linker that the symbols of Node are found at load time.

fn main() {
    napi_build::setup();
}
