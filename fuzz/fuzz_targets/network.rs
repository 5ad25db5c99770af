//! What a stranger says on the network: `cargo fuzz run network`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tw_model::dns::Message;
use tw_model::first_bytes;

fuzz_target!(|bytes: &[u8]| {
    for message in [Message::parse(bytes), Message::parse_stream(bytes, bytes.len() as u64)].into_iter().flatten() {
        assert!(message.name.as_bytes().iter().all(u8::is_ascii_graphic));
        for answer in message.answers() {
            answer.show(|piece| assert!(piece.len() <= 4 * 255 + bytes.len()));
            let _ = (answer.address(), answer.target());
        }
    }
    for host in [first_bytes::server_name(bytes), first_bytes::http_host(bytes)].into_iter().flatten() {
        assert!((1..=255).contains(&host.len()));
    }
    assert!(first_bytes::protocols(bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
});
