use proptest::prelude::*;

use super::*;

const MOST: usize = 4096;

/// A header of version 2 as senders make it.
#[derive(Clone, Debug)]
struct Sent {
    client: Client,
    /// Types and values behind the addresses.
    extras: Vec<(u8, Vec<u8>)>,
    /// Whether a checksum is put behind them.
    sum: bool,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let (command, family, addresses) = match self.client {
            Client::Sender => (LOCAL, 0x00, Vec::new()),
            Client::Unix => (PROXY, 0x31, vec![b'/'; 216]),
            Client::Ip(SocketAddr::V4(client)) => {
                let mut block = [client.ip().octets(), [10, 0, 0, 1]].concat();
                block.extend([client.port().to_be_bytes(), [1, 187]].concat());
                (PROXY, 0x11, block)
            }
            Client::Ip(SocketAddr::V6(client)) => {
                let mut block = [client.ip().octets(), [7; 16]].concat();
                block.extend([client.port().to_be_bytes(), [1, 187]].concat());
                (PROXY, 0x21, block)
            }
        };
        let mut block = addresses;
        for (kind, value) in &self.extras {
            block.push(*kind);
            block.extend((value.len() as u16).to_be_bytes());
            block.extend(value);
        }
        if self.sum {
            block.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
        }
        let mut bytes = block_of(command, family, &block);
        if self.sum {
            let at = bytes.len() - 4;
            let sum = !crc32c(!0, &bytes);
            bytes[at..].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

fn block_of(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend((block.len() as u16).to_be_bytes());
    bytes.extend(block);
    bytes
}

/// What is said at each split, which must be one answer once there is one.
fn answer(bytes: &[u8], most: usize) -> Header {
    let mut known = Header::Incomplete;
    for end in 0..=bytes.len() {
        let now = header(&bytes[..end], most);
        assert!(
            known == Header::Incomplete || now == known,
            "{known:?}, then {now:?} at {end}"
        );
        if let Header::Complete { length, .. } = now {
            assert!(length <= end && length <= most.max(MAX_TEXT));
            assert!(known == now || length == end, "told late, at {end}");
        }
        known = now;
    }
    known
}

fn client_of(bytes: &[u8]) -> Option<Client> {
    let behind = [bytes, b"\r\n\r\n\0\r\nQUIT\nPROXY "].concat();
    match (answer(bytes, MOST), answer(&behind, MOST)) {
        (Header::Complete { length, client }, again) => {
            assert_eq!(length, bytes.len());
            assert_eq!(again, Header::Complete { length, client });
            Some(client)
        }
        (Header::Invalid, again) => {
            assert_eq!(again, Header::Invalid);
            None
        }
        (other, _) => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

fn ip(text: &str) -> Client {
    Client::Ip(text.parse().unwrap())
}

#[test]
fn lines_say_who_it_is() {
    for (line, client) in [
        ("TCP4 192.0.2.1 198.51.100.2 56324 443", ip("192.0.2.1:56324")),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            ip("255.255.255.255:65535"),
        ),
        ("TCP4 0.0.0.0 0.0.0.0 0 0", ip("0.0.0.0:0")),
        ("TCP6 2001:db8::1 2001:DB8::2 1 2", ip("[2001:db8::1]:1")),
        ("TCP6 ::ffff:192.0.2.1 ::1 1 2", ip("[::ffff:192.0.2.1]:1")),
        (
            "TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            ip("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        ("UNKNOWN", Client::Sender),
        (
            "UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535",
            Client::Sender,
        ),
        ("UNKNOWN \n\r \0 PROXY ", Client::Sender),
    ] {
        let bytes = format!("PROXY {line}\r\n");
        assert_eq!(client_of(bytes.as_bytes()), Some(client), "{line}");
    }
}

#[test]
fn wrong_lines_are_refused() {
    for line in [
        "",
        " ",
        "TCP4",
        "TCP4 ",
        "TCP4 192.0.2.1",
        "TCP4 192.0.2.1 192.0.2.2",
        "TCP4 192.0.2.1 192.0.2.2 1",
        "TCP4 192.0.2.1 192.0.2.2 1 ",
        "TCP4 192.0.2.1 192.0.2.2 1 2 ",
        "TCP4 192.0.2.1 192.0.2.2 1 2 3",
        "TCP4  192.0.2.1 192.0.2.2 1 2",
        "TCP4\t192.0.2.1\t192.0.2.2\t1\t2",
        " TCP4 192.0.2.1 192.0.2.2 1 2",
        "TCP4 192.0.2.1 192.0.2.2 01 2",
        "TCP4 192.0.2.1 192.0.2.2 00 2",
        "TCP4 192.0.2.1 192.0.2.2 1 +2",
        "TCP4 192.0.2.1 192.0.2.2 -1 2",
        "TCP4 192.0.2.1 192.0.2.2 65536 2",
        "TCP4 192.0.2.1 192.0.2.2 1 65536",
        "TCP4 192.0.2.1 192.0.2.2 0x1 2",
        "TCP4 192.0.2.01 192.0.2.2 1 2",
        "TCP4 192.0.2 192.0.2.2 1 2",
        "TCP4 192.0.2.1 example.test 1 2",
        "TCP4 192.0.2.1:1 192.0.2.2 1 2",
        "TCP4 192.0.2.1\n 192.0.2.2 1 2",
        "TCP4 192.0.2.1 192.0.2.2 1 2\r",
        "TCP4 ::1 ::1 1 2",
        "TCP4 192.0.2.1 ::1 1 2",
        "TCP6 192.0.2.1 192.0.2.2 1 2",
        "TCP6 ::1 192.0.2.2 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 fe80::1%eth0 ::1 1 2",
        "TCP6 \u{ff11}::1 ::1 1 2",
        "UDP4 192.0.2.1 192.0.2.2 1 2",
        "tcp4 192.0.2.1 192.0.2.2 1 2",
        "UNKNOWN1",
        "unknown",
    ] {
        let bytes = format!("PROXY {line}\r\n");
        assert_eq!(client_of(bytes.as_bytes()), None, "{line}");
    }
    for bytes in [
        "GET / HTTP/1.1\r\n",
        "PROXYTCP4 ",
        "proxy TCP4",
        "PRI * HTTP/2.0\r\n",
        "\r\n\r\n\n",
        "\x16\x03\x01",
    ] {
        assert_eq!(client_of(bytes.as_bytes()), None, "{bytes}");
    }
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let unknown = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(client_of(unknown(107).as_bytes()), Some(Client::Sender));
    assert_eq!(client_of(unknown(108).as_bytes()), None);
    assert_eq!(header(&unknown(108).as_bytes()[..106], MOST), Header::Incomplete);
    assert_eq!(header(&unknown(108).as_bytes()[..107], MOST), Header::Invalid);
}

#[test]
fn blocks_say_who_it_is() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 187];
    let v6 = [[0x20; 16], [7; 16]].concat();
    let v6 = [&v6[..], &[0xdc, 0x04, 1, 187]].concat();
    let unix = [b'/'; 216];
    let v6_client = ip("[2020:2020:2020:2020:2020:2020:2020:2020]:56324");
    for (family, block, client) in [
        (0x11, &v4[..], ip("192.0.2.1:56324")),
        (0x12, &v4[..], ip("192.0.2.1:56324")),
        (0x21, &v6[..], v6_client),
        (0x22, &v6[..], v6_client),
        (0x31, &unix[..], Client::Unix),
        (0x32, &unix[..], Client::Unix),
        (0x00, &[], Client::Sender),
        (0x00, b"anything", Client::Sender),
    ] {
        assert_eq!(
            client_of(&block_of(PROXY, family, block)),
            Some(client),
            "{family:x}"
        );
        if family != 0 {
            let short = &block[..block.len() - 1];
            assert_eq!(client_of(&block_of(PROXY, family, short)), None, "{family:x}");
        }
        // Health checks are the sender's own, whatever they say.
        let local = block_of(LOCAL, family, block);
        assert_eq!(client_of(&local), Some(Client::Sender), "{family:x}");
    }
    assert_eq!(
        client_of(&block_of(LOCAL, 0xff, b"\x03\xff\xff")),
        Some(Client::Sender)
    );
    for (command, family) in [
        (0x11, 0x11),
        (0x31, 0x11),
        (0x01, 0x11),
        (0x22, 0x11),
        (0x2f, 0x11),
        (PROXY, 0x01),
        (PROXY, 0x10),
        (PROXY, 0x13),
        (PROXY, 0x20),
        (PROXY, 0x41),
        (PROXY, 0xf1),
    ] {
        assert_eq!(
            client_of(&block_of(command, family, &unix)),
            None,
            "{command:x} {family:x}"
        );
    }
}

#[test]
fn a_block_is_no_longer_than_it_may_be() {
    let v4 = |extra: usize| {
        let extras = vec![(0xea, vec![1; extra])];
        Sent {
            client: ip("192.0.2.1:1"),
            extras,
            sum: false,
        }
        .bytes()
    };
    // Signature and addresses, and a type with its length.
    let around = FIXED + 12 + 3;
    assert_eq!(client_of(&v4(MOST - around)), Some(ip("192.0.2.1:1")));
    let large = v4(MOST - around + 1);
    assert_eq!(answer(&large, MOST), Header::TooLarge);
    assert_eq!(
        header(&large[..FIXED], MOST),
        Header::TooLarge,
        "nothing of it is waited for"
    );
    assert_eq!(answer(&block_of(LOCAL, 0, &[0; 4081]), MOST), Header::TooLarge);
}

#[test]
fn pieces_that_lead_outside_are_refused() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 187];
    let with = |extras: &[u8]| block_of(PROXY, 0x11, &[&v4, extras].concat());
    for right in [
        &[][..],
        &[4, 0, 0],
        &[4, 0, 2, 1, 1],
        &[1, 0, 2, b'h', b'2', 0x20, 0, 1, 7],
    ] {
        assert!(client_of(&with(right)).is_some(), "{right:?}");
    }
    for wrong in [
        &[4][..],
        &[4, 0],
        &[4, 0, 1],
        &[4, 0, 3, 1, 1],
        &[4, 0xff, 0xff, 1, 1],
        &[4, 0, 1, 1, 4],
        &[1, 0, 2, b'h', b'2', 0x20, 0, 2, 7],
    ] {
        assert_eq!(client_of(&with(wrong)), None, "{wrong:?}");
    }
}

#[test]
fn a_checksum_is_of_the_whole() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283, "of the standard");
    for client in [ip("192.0.2.1:56324"), ip("[2001:db8::1]:1"), Client::Unix] {
        let extras = vec![(0x01, b"h2".to_vec()), (0x05, vec![7; 40])];
        let right = Sent {
            client,
            extras,
            sum: true,
        }
        .bytes();
        assert_eq!(client_of(&right), Some(client));
        for at in FIXED..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            // What made a piece of another type, or of another length, may have no checksum any more.
            let Header::Complete { .. } = answer(&wrong, MOST) else {
                continue;
            };
            let sum = right.len() - 7;
            assert_eq!(at, sum, "a changed byte goes unseen");
        }
    }
    let v4 = Sent {
        client: ip("192.0.2.1:1"),
        extras: Vec::new(),
        sum: false,
    }
    .bytes();
    let block = &v4[FIXED..];
    for wrong in [
        &[CRC32C, 0, 0][..],
        &[CRC32C, 0, 3, 0, 0, 0],
        &[CRC32C, 0, 5, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(client_of(&block_of(PROXY, 0x11, &[block, wrong].concat())), None);
    }
    let twice = Sent {
        client: ip("192.0.2.1:1"),
        extras: vec![(CRC32C, vec![0; 4])],
        sum: true,
    };
    assert_eq!(client_of(&twice.bytes()), None, "which of both?");
}

fn clients() -> impl Strategy<Value = Client> {
    prop_oneof![
        Just(Client::Sender),
        Just(Client::Unix),
        any::<(Ipv4Addr, u16)>().prop_map(|(ip, port)| Client::Ip((ip, port).into())),
        any::<(Ipv6Addr, u16)>().prop_map(|(ip, port)| Client::Ip((ip, port).into())),
    ]
}

proptest! {
    #[test]
    fn what_was_sent_is_what_is_read(
        client in clients(),
        extras in proptest::collection::vec(
            (any::<u8>().prop_filter("one checksum", |kind| *kind != CRC32C), proptest::collection::vec(any::<u8>(), 0..200)),
            0..8,
        ),
        sum: bool,
        behind: Vec<u8>,
    ) {
        let sent = Sent { client, extras, sum };
        let bytes = sent.bytes();
        let length = bytes.len();
        prop_assert_eq!(answer(&[bytes, behind].concat(), MOST), Header::Complete { length, client });
    }

    #[test]
    fn what_was_written_is_what_is_read(client in clients(), other: u16, behind: Vec<u8>) {
        let line = match client {
            Client::Ip(SocketAddr::V4(at)) => format!("TCP4 {} 10.0.0.1 {} {other}", at.ip(), at.port()),
            Client::Ip(SocketAddr::V6(at)) => format!("TCP6 {} ::1 {} {other}", at.ip(), at.port()),
            Client::Sender | Client::Unix => "UNKNOWN".to_owned(),
        };
        let line = format!("PROXY {line}\r\n");
        let length = line.len();
        let client = if client == Client::Unix { Client::Sender } else { client };
        let bytes = [line.as_bytes(), &behind].concat();
        prop_assert_eq!(answer(&bytes, MOST), Header::Complete { length, client });
    }

    /// Nothing panics, answers are final, and never are more bytes waited for than there may be.
    #[test]
    fn any_bytes_have_one_answer(start in 0usize..6, bytes in proptest::collection::vec(any::<u8>(), 0..600), most in 256usize..512) {
        let starts: [&[u8]; 6] = [
            b"",
            b"PROXY ",
            b"PROXY TCP4 192.0.2.1 ",
            SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x01",
        ];
        let bytes = [starts[start], &bytes].concat();
        let answer = answer(&bytes, most);
        prop_assert!(answer != Header::Incomplete || bytes.len() < most);
    }
}
