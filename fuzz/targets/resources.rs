//! Does any text of resources break its validation, or what follows a request through them?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_http1::Http1;
use mesh_model::decide::decide_json;
use mesh_model::validate::validate_json;

fuzz_target!(|text: &str| {
    let issues = validate_json(text);
    let request = r#"{"url":"http://a.test/b/c?d=e","headers":{"x":"y"}}"#;
    let decision = decide_json(text, request, &Http1);
    // What is refused is refused by both.
    assert_eq!(
        issues != "[]",
        decision.starts_with("{\"issues\""),
        "{issues} {decision}"
    );
    let _ = decide_json("{}", text, &Http1);
});
