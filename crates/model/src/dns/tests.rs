//! Messages as clients and servers write them, and as they would to do harm.

use super::*;
use proptest::prelude::*;

/// An answer of four records to "WWW.example.org A", as RFC 1035 4.1 lays it out, with pointers.
fn answer() -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 4, 0, 0, 0, 0];
    bytes.extend(b"\x03WWW\x07example\x03org\0\0\x01\0\x01");
    let mut record = |rtype: u8, data: &[u8]| {
        bytes.extend([0xc0, 12, 0, rtype, 0, 1, 0, 0, 1, 44, 0, data.len() as u8]);
        bytes.extend(data);
    };
    record(5, b"\x03cdn\xc0\x10");
    record(1, &[192, 0, 2, 7]);
    record(28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    record(16, b"\x05hello\x04 DNS");
    bytes
}

fn shown(answer: &Answer<'_>) -> String {
    let mut text = Vec::new();
    answer.show(|piece| text.extend_from_slice(piece));
    String::from_utf8(text).unwrap()
}

#[test]
fn an_answer_is_read_with_its_pointers() {
    let bytes = answer();
    let message = Message::parse(&bytes).unwrap();
    assert!(message.is_answer());
    assert_eq!((message.name.as_str(), message.qtype, message.rcode()), ("www.example.org", 1, 0));
    assert_eq!((message.name.labels(), message.name.longest_label()), (3, 7));
    let answers: Vec<_> = message.answers().map(|one| (one.rtype, one.ttl, shown(&one))).collect();
    let expected = [(5, "cdn.example.org"), (1, "192.0.2.7"), (28, "2001:db8::1"), (16, "hello DNS")];
    assert_eq!(answers, expected.map(|(rtype, text)| (rtype, 300, text.to_owned())));
    assert_eq!((type_name(65), rcode_name(3), rcode_name(15)), (Some("HTTPS"), Some("NXDOMAIN"), None));
}

#[test]
fn on_a_connection_the_length_may_be_there_or_not() {
    let bytes = answer();
    let mut framed = (bytes.len() as u16).to_be_bytes().to_vec();
    framed.extend(&bytes);
    for sent in [&bytes, &framed] {
        let message = Message::parse_stream(sent, sent.len() as u64).unwrap();
        assert_eq!(message.name.as_str(), "www.example.org");
        assert_eq!(message.answers().count(), 4);
    }
    // Cut: what is whole is read.
    let cut = &framed[..framed.len() - 5];
    assert_eq!(Message::parse_stream(cut, framed.len() as u64).unwrap().answers().count(), 3);
}

#[test]
fn what_cannot_be_plain_in_a_name_is_written_in_numbers() {
    let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(b"\x06a.\x1b[\xff \0\0\x10\0\x01");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.name.as_str(), r"a\.\027[\255\032");
    let root = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    assert_eq!(Message::parse(&root).unwrap().name.as_str(), ".");
}

#[test]
fn pointers_in_a_circle_and_names_too_long_are_refused() {
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\x40a", b"\xc0\xff", b"\x3fcut"] {
        let mut bytes = header.to_vec();
        bytes.extend(name);
        bytes.extend([0, 1, 0, 1, 0, 0, 0, 0]);
        assert!(Message::parse(&bytes).is_none(), "{name:?}");
    }
    let mut long = header.to_vec();
    (0..5).for_each(|_| {
        long.push(62);
        long.extend([b'x'; 62]);
    });
    long.extend([0, 0, 1, 0, 1]);
    assert!(Message::parse(&long).is_none());
    assert!(Message::parse(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").is_none());
    assert!(Message::parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_none());
    assert!(Message::parse(b"").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_bytes_panic_and_what_is_read_is_bounded(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        pure in any::<bool>(),
    ) {
        let mut bytes = if pure { Vec::new() } else { answer() };
        bytes.extend(noise);
        for (place, byte) in flips {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for message in [Message::parse(&bytes), Message::parse_stream(&bytes, 100_000)].into_iter().flatten() {
            prop_assert!(message.name.as_bytes().iter().all(u8::is_ascii_graphic));
            let mut bytes_shown = 0;
            let answers = message.answers().inspect(|one| one.show(|piece| bytes_shown += piece.len())).count();
            prop_assert!(answers <= RECORDS && bytes_shown <= RECORDS * (NAME_TEXT + bytes.len()));
        }
    }

    #[test]
    fn a_name_is_read_back(labels in proptest::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in &labels {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.extend([0, 0, 28, 0, 1]);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.name.as_str(), labels.join("."));
        prop_assert_eq!(usize::from(message.name.labels()), labels.len());
        prop_assert_eq!(message.qtype, 28);
    }
}
