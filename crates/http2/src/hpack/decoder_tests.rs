use proptest::prelude::*;

use super::*;
use crate::hpack::huffman::tests::encode as pack;

type Pairs = Vec<(String, String)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Broken> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder
        .decode(
            block,
            |_, _| true,
            |field| fields.push((text(field.name), text(field.value))),
        )
        .map(|()| fields)
}

fn pairs(fields: &[(&str, &str)]) -> Pairs {
    fields.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![first, name.len() as u8];
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value);
    block
}

#[test]
fn the_requests_of_the_rfc() {
    // RFC 7541 section C.4: three requests on one connection, packed.
    let mut decoder = Decoder::new();
    let www = pack(b"www.example.com");
    let mut first = vec![0x82, 0x86, 0x84, 0x41, 0x80 | www.len() as u8];
    first.extend_from_slice(&www);
    let common = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    assert_eq!(decode(&mut decoder, &first), Ok(pairs(&common)));
    let cache = pack(b"no-cache");
    let mut second = vec![0x82, 0x86, 0x84, 0xbe, 0x58, 0x80 | cache.len() as u8];
    second.extend_from_slice(&cache);
    let expected = [&common[..], &[("cache-control", "no-cache")]].concat();
    assert_eq!(decode(&mut decoder, &second), Ok(pairs(&expected)));
    let third = [
        &[0x82, 0x87, 0x85, 0xbf][..],
        &literal(0x40, b"custom-key", b"custom-value"),
    ]
    .concat();
    let expected = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    assert_eq!(decode(&mut decoder, &third), Ok(pairs(&expected)));
    // The latest is the first of the table.
    assert_eq!(
        decode(&mut decoder, &[0xbe, 0xbf, 0xc0]),
        Ok(pairs(&[
            ("custom-key", "custom-value"),
            ("cache-control", "no-cache"),
            (":authority", "www.example.com"),
        ]))
    );
}

#[test]
fn the_table_makes_room_and_forgets_the_oldest() {
    let mut decoder = Decoder::new();
    let value = [b'v'; 100];
    for n in 0..40u8 {
        decode(
            &mut decoder,
            &literal(0x40, &[b'a' + n % 26, b'0' + n / 26], &value),
        )
        .unwrap();
    }
    // 134 bytes each: 30 of them fit.
    assert!(decode(&mut decoder, &[0x80 | (62 + 29)]).is_ok());
    assert_eq!(decode(&mut decoder, &[0x80 | (62 + 30)]), Err(Broken));
    // One that is larger than the table empties it (section 4.4).
    let mut large = vec![0x40, 1, b'x', 0x7f];
    large.extend_from_slice(&[0x81 + (5000 - 127 - 1) as u8 % 128, 38]);
    let length = 127 + usize::from(large[4] & 0x7f) + (38 << 7);
    large.resize(large.len() + length, b'y');
    assert!(decode(&mut decoder, &large).is_ok());
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(Broken));
}

#[test]
fn the_size_of_the_table_changes_at_the_beginning_only() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &literal(0x40, b"a", b"b")).unwrap();
    // To nothing and back to 4096 (section 4.2): what was in it is gone.
    assert!(decode(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f]).is_ok());
    assert_eq!(decode(&mut decoder, &[0xbe]), Err(Broken));
    assert_eq!(
        decode(&mut Decoder::new(), &[0x3f, 0xe2, 0x1f]),
        Err(Broken),
        "above what was allowed"
    );
    assert_eq!(
        decode(&mut Decoder::new(), &[0x82, 0x20]),
        Err(Broken),
        "behind a field"
    );
}

#[test]
fn what_can_not_be_read_is_refused() {
    for broken in [
        &[0x80][..],
        &[0xff, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0xff],
        &[0x40, 0x05, b'a'],
        &[0x40, 0x01, b'a', 0x81, 0x00],
        &[0x0f],
        &[0xc0],
        &[0x7f, 0x00, 0x00],
    ] {
        assert_eq!(decode(&mut Decoder::new(), broken), Err(Broken), "{broken:x?}");
    }
}

#[test]
fn fields_that_are_never_to_be_kept_say_so_and_good_ones_are_asked_once() {
    let mut decoder = Decoder::new();
    let asked = std::cell::Cell::new(0);
    let good = |_: &[u8], value: &[u8]| {
        asked.set(asked.get() + 1);
        value != b"bad"
    };
    let mut seen = Vec::new();
    let block = [
        literal(0x10, b"a", b"1"),
        literal(0x00, b"b", b"2"),
        literal(0x40, b"c", b"bad"),
        vec![0xbe, 0x82],
    ]
    .concat();
    decoder
        .decode(&block, good, |field| seen.push((field.never, field.good)))
        .unwrap();
    assert_eq!(
        seen,
        [
            (true, true),
            (false, true),
            (false, false),
            (false, false),
            (false, true)
        ]
    );
    assert_eq!(asked.get(), 3);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decode(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
