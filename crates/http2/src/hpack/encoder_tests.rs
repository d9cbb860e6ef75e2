use proptest::prelude::*;

use mesh_http1::classify;

use super::*;
use crate::hpack::decoder::Decoder;

type Pairs = Vec<(Vec<u8>, Vec<u8>, bool)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Pairs {
    let mut fields = Vec::new();
    decoder
        .decode(
            block,
            |_, _| true,
            |f| fields.push((f.name.to_vec(), f.value.to_vec(), f.never)),
        )
        .unwrap();
    fields
}

fn field(encoder: &mut Encoder, out: &mut Vec<u8>, name: &[u8], value: &[u8], never: bool) {
    encoder.field(out, classify(name), name, value, never);
}

#[test]
fn what_comes_again_is_one_byte() {
    let mut encoder = Encoder::new();
    let mut block = |fields: &[(&str, &str)]| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            field(&mut encoder, &mut out, name.as_bytes(), value.as_bytes(), false);
        }
        out
    };
    let fields = [("x-forwarded-for", "127.0.0.1"), ("accept", "*/*"), ("x-a", "1")];
    assert!(block(&fields).len() > 30);
    assert_eq!(block(&fields).len(), 3);
    // Another value: the name is known.
    assert_eq!(block(&[("x-forwarded-for", "10.0.0.1")]).len(), 2 + 1 + 8);
    // What differs each time enters no table.
    let once = [
        ("x-request-id", "a"),
        ("content-length", "5"),
        ("traceparent", "00-1"),
    ];
    assert_eq!(block(&once).len(), block(&once).len());
    assert_eq!(block(&fields[2..]).len(), 1);
}

#[test]
fn static_fields_and_names_have_their_numbers() {
    let mut encoder = Encoder::new();
    for (at, (name, _)) in STATIC.iter().enumerate().skip(14) {
        assert_eq!(static_name(name.as_bytes()), at + 1, "{name}");
    }
    let mut out = Vec::new();
    for status in [200, 204, 206, 304, 400, 404, 500, 418] {
        encoder.status(&mut out, status);
    }
    encoder.method(&mut out, b"GET");
    encoder.method(&mut out, b"PURGE");
    encoder.scheme(&mut out, b"https");
    encoder.path(&mut out, b"/", Indexing::Once);
    encoder.path(&mut out, b"/a", Indexing::Once);
    encoder.authority(&mut out, b"a.test");
    let values: Vec<_> = decode(&mut Decoder::new(), &out)
        .into_iter()
        .map(|(_, value, _)| String::from_utf8(value).unwrap())
        .collect();
    assert_eq!(
        values,
        [
            "200", "204", "206", "304", "400", "404", "500", "418", "GET", "PURGE", "https", "/", "/a",
            "a.test"
        ]
    );
}

#[test]
fn a_peer_may_shrink_the_table_and_is_told() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut round = |encoder: &mut Encoder| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        field(encoder, &mut out, b"x-a", b"1", false);
        assert_eq!(
            decode(&mut decoder, &out),
            [(b"x-a".to_vec(), b"1".to_vec(), false)]
        );
        out.len()
    };
    round(&mut encoder);
    assert_eq!(round(&mut encoder), 1);
    encoder.resize(0);
    encoder.resize(4096);
    assert!(round(&mut encoder) > 5, "forgotten on both sides");
    assert_eq!(round(&mut encoder), 1);
    encoder.resize(0);
    round(&mut encoder);
    assert_eq!(round(&mut encoder), 7, "nothing is kept");
    encoder.resize(1 << 20);
    round(&mut encoder);
    assert_eq!(round(&mut encoder), 1, "at most our own bound");
}

#[derive(Clone, Debug)]
enum Step {
    Field(usize, usize, bool),
    Block,
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..40usize, 0..6usize, any::<bool>()).prop_map(|(n, v, never)| Step::Field(n, v, never)),
        4 => Just(Step::Block),
        1 => prop_oneof![Just(0), Just(100), 0..5000usize].prop_map(Step::Resize),
    ]
}

proptest! {
    #[test]
    fn whatever_is_encoded_is_decoded(steps in proptest::collection::vec(step(), 0..300)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        encoder.begin(&mut out);
        for step in steps {
            match step {
                Step::Field(name, value, never) => {
                    let names = ["cookie", "accept", "x-request-id", "via", "x-long"];
                    let name = names.get(name).map_or_else(|| format!("x-{name}"), |n| (*n).into());
                    let value = "v".repeat(value * value * 13);
                    field(&mut encoder, &mut out, name.as_bytes(), value.as_bytes(), never && value.len() > 20);
                    let kept = never && value.len() > 20;
                    expected.push((name.into_bytes(), value.into_bytes(), kept));
                }
                Step::Block => {
                    prop_assert_eq!(decode(&mut decoder, &out), std::mem::take(&mut expected));
                    out.clear();
                    encoder.begin(&mut out);
                }
                // Between blocks only: SETTINGS come in whole frames.
                Step::Resize(most) if expected.is_empty() => {
                    encoder.resize(most);
                    let mut resized = Vec::new();
                    encoder.begin(&mut resized);
                    out.extend_from_slice(&resized);
                }
                Step::Resize(_) => {}
            }
        }
        prop_assert_eq!(decode(&mut decoder, &out), expected);
    }
}
