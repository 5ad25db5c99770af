//! What the first bytes that a client sends say of where it wants to go: the server's name in a TLS hello (RFC 8446 and
//! RFC 6066), the host of an HTTP/1 request (RFC 9112). Hostile bytes, often cut; nothing is allocated.

/// A TLS hello: handshake record, version 3.x.
const HELLO: [u8; 2] = [22, 3];
/// Extension with the server's name.
const SERVER_NAME: u16 = 0;
/// Extension with the protocols that the client can speak.
const PROTOCOLS: u16 = 16;
/// Longest name of a host.
const HOST: usize = 255;

/// Walks through bytes; each step fails at the end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes with their length, a number of `width` bytes, before them; as many as there are, if they are cut.
    fn block(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?.min(self.0.len());
        self.take(length)
    }

    fn skip_block(&mut self, width: usize) -> Option<()> {
        let length = self.number(width)?;
        self.take(length).map(drop)
    }
}

/// Whether the bytes begin a TLS connection.
pub fn is_tls_hello(bytes: &[u8]) -> bool {
    bytes.starts_with(&HELLO) && bytes.get(5) == Some(&1)
}

/// The data of the extension `wanted` of a TLS hello, if it came before the bytes were cut.
fn extension(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    if !is_tls_hello(bytes) {
        return None;
    }
    // Record: type, version, length. Handshake: type, length. Then version and 32 random bytes.
    let mut hello = Cursor(bytes.get(5 + 4 + 2 + 32..)?);
    hello.skip_block(1)?; // session
    hello.skip_block(2)?; // cipher suites
    hello.skip_block(1)?; // compression
    let mut extensions = Cursor(hello.block(2)?);
    loop {
        let kind = extensions.number(2)?;
        let data = extensions.block(2)?;
        if kind == usize::from(wanted) {
            return Some(data);
        }
    }
}

/// The name of the server that a TLS client asks for, as it wrote it.
pub fn server_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut list = Cursor(Cursor(extension(bytes, SERVER_NAME)?).block(2)?);
    loop {
        let kind = list.number(1)?;
        let length = list.number(2)?;
        let name = list.take(length)?;
        if kind == 0 {
            return (1..=HOST).contains(&name.len()).then_some(name);
        }
    }
}

/// The protocols that a TLS client offers, such as `h2`, in its order.
pub fn protocols(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = extension(bytes, PROTOCOLS).and_then(|data| Cursor(data).block(2));
    let mut list = Cursor(list.unwrap_or_default());
    std::iter::from_fn(move || {
        let length = list.number(1)?;
        list.take(length).filter(|name| !name.is_empty())
    })
}

/// The host of an HTTP/1 request without its port, as the client wrote it.
pub fn http_host(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let request = bytes.get(..line)?.trim_ascii_end();
    let method = request.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = request.ends_with(b" HTTP/1.1") || request.ends_with(b" HTTP/1.0");
    if !known || method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return None;
    }
    let lines = bytes.get(line + 1..)?.split_inclusive(|byte| *byte == b'\n');
    // A line that is cut is no line: half a name is another name.
    for line in lines.take_while(|line| line.ends_with(b"\n")) {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return None;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"host") {
            let value = value.get(1..)?.trim_ascii();
            let digits = value.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let host = match value.get(..value.len() - digits)?.strip_suffix(b":") {
                Some(host) => host,
                None => value,
            };
            return (1..=HOST).contains(&host.len()).then_some(host);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hello with a name behind an extension that is not known, and two protocols.
    fn hello(name: &[u8]) -> Vec<u8> {
        let sized = |bytes: &[u8], width: usize| {
            let mut out = (bytes.len() as u32).to_be_bytes()[4 - width..].to_vec();
            out.extend(bytes);
            out
        };
        let entry = [&[0][..], &sized(name, 2)].concat();
        let mut extensions = [&[0xfe, 0x0d][..], &sized(&[9; 40], 2)].concat();
        extensions.extend([&[0, 0][..], &sized(&sized(&entry, 2), 2)].concat());
        extensions.extend([&[0, 16][..], &sized(&sized(b"\x02h2\x08http/1.1", 2), 2)].concat());
        let mut body = [&[3, 3][..], &[7; 32]].concat();
        body.extend(sized(&[1; 32], 1));
        body.extend(sized(&[0x13, 1, 0x13, 2], 2));
        body.extend(sized(&[0], 1));
        body.extend(sized(&extensions, 2));
        let handshake = [&[1][..], &sized(&body, 3)].concat();
        [&[22, 3, 1][..], &sized(&handshake, 2)].concat()
    }

    #[test]
    fn a_hello_tells_name_and_protocols_and_a_cut_one_what_it_has() {
        let bytes = hello(b"Pool.example.org");
        assert_eq!(server_name(&bytes), Some(&b"Pool.example.org"[..]));
        assert_eq!(protocols(&bytes).collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
        assert_eq!(server_name(&bytes[..bytes.len() - 18]), Some(&b"Pool.example.org"[..]));
        assert_eq!(server_name(&bytes[..bytes.len() - 19]), None, "half a name is another name");
        assert_eq!(server_name(b"\x16\x03\x01"), None);
        assert_eq!(server_name(&hello(b"")), None);
    }

    #[test]
    fn a_request_tells_its_host() {
        let host = |text: &str| http_host(text.as_bytes()).map(|host| String::from_utf8(host.to_vec()).unwrap());
        assert_eq!(host("GET /a HTTP/1.1\r\nAccept: */*\r\nHOST:  shop.example:8080\r\n\r\n").unwrap(), "shop.example");
        assert_eq!(host("POST / HTTP/1.0\nhost: [::1]:80\n\n").unwrap(), "[::1]");
        assert_eq!(host("GET / HTTP/1.1\r\nHost: 2001\r\n\r\n").unwrap(), "2001");
        for none in [
            "GET / HTTP/1.1\r\nHost: cut",
            "GET / HTTP/1.1\r\n\r\nHost: body\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n",
            "GET / HTTP/2\r\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "{\"id\":1}\nHost: a\n",
            "",
        ] {
            assert_eq!(host(none), None, "{none:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn no_bytes_panic(
            start in prop_oneof![
                Just(hello(b"a.example")), Just(b"GET / HTTP/1.1\r\nHost: a:1\r\n\r\n".to_vec()), Just(Vec::new())
            ],
            noise in proptest::collection::vec(any::<u8>(), 0..60),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = start;
            bytes.extend(noise);
            for (place, byte) in flips {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            for found in [server_name(&bytes), http_host(&bytes)].into_iter().flatten() {
                prop_assert!((1..=HOST).contains(&found.len()));
            }
            prop_assert!(protocols(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}
