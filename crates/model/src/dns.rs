//! DNS messages (RFC 1035) as processes send and get them. The bytes are hostile, and may be cut: what is whole is read,
//! and nothing is allocated.
//!
//! **Never:** a loop that a message can make longer than itself; a name that is looked up.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message's header.
const HEADER: usize = 12;
/// Longest name on the wire, with its lengths (RFC 1035, 2.3.4).
const NAME_WIRE: usize = 255;
/// Longest name as text: each byte may become `\123`.
const NAME_TEXT: usize = 4 * NAME_WIRE;
/// Most records that are looked at in one message.
const RECORDS: usize = 64;

/// Types of records that have a name here; the IANA registry "DNS Parameters" has them all.
static TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (41, "OPT"),
    (43, "DS"),
    (44, "SSHFP"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (50, "NSEC3"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

/// What an answer says of itself; the same registry.
static RCODES: &[&str] = &[
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE",
];

/// Name of a type, if it has one here.
pub fn type_name(number: u16) -> Option<&'static str> {
    TYPES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Number of a type that has a name here.
pub fn type_number(name: &str) -> Option<u16> {
    TYPES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// Number of a response code.
pub fn rcode_number(name: &str) -> Option<u8> {
    RCODES.iter().position(|known| *known == name).map(|number| number as u8)
}

/// Name of a response code, if it has one.
pub fn rcode_name(number: u8) -> Option<&'static str> {
    RCODES.get(usize::from(number)).copied()
}

/// A name as text: lower case, dots between the labels, none at the end; bytes that are not plain as `\123`, a dot in a
/// label as `\.`, the root as `.`.
#[derive(Clone, Copy)]
pub struct Name {
    text: [u8; NAME_TEXT],
    len: u16,
    labels: u8,
    longest: u8,
}

impl Name {
    fn new() -> Self {
        Self { text: [0; NAME_TEXT], len: 0, labels: 0, longest: 0 }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.len.into()).unwrap_or_default()
    }

    /// The text; always ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Number of labels: 3 for `www.example.org`.
    pub fn labels(&self) -> u8 {
        self.labels
    }

    /// Bytes of the longest label.
    pub fn longest_label(&self) -> u8 {
        self.longest
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }

    fn push_label(&mut self, label: &[u8]) {
        if self.labels > 0 {
            self.push(b'.');
        }
        self.labels = self.labels.saturating_add(1);
        self.longest = self.longest.max(label.len().min(255) as u8);
        for byte in label {
            match byte {
                b'.' | b'\\' => {
                    self.push(b'\\');
                    self.push(*byte);
                }
                b'!'..=b'~' => self.push(byte.to_ascii_lowercase()),
                _ => {
                    self.push(b'\\');
                    for digit in [byte / 100, byte / 10 % 10, byte % 10] {
                        self.push(b'0' + digit);
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the name at `at`; returns it with the place behind it. `None` if it is cut or wrong: a pointer must lead to
/// what lies before the part that it stands in, so that no chain of them is endless.
fn read_name(bytes: &[u8], at: usize) -> Option<(Name, usize)> {
    let mut name = Name::new();
    let (mut here, mut part, mut behind, mut wire) = (at, at, None, 0);
    loop {
        let first = usize::from(*bytes.get(here)?);
        match first >> 6 {
            0 if first == 0 => {
                if name.labels == 0 {
                    name.push(b'.');
                }
                return Some((name, behind.unwrap_or(here + 1)));
            }
            0 => {
                wire += first + 1;
                if wire >= NAME_WIRE {
                    return None;
                }
                name.push_label(bytes.get(here + 1..here + 1 + first)?);
                here += 1 + first;
            }
            3 => {
                let to = (first & 0x3f) << 8 | usize::from(*bytes.get(here + 1)?);
                if to >= part {
                    return None;
                }
                behind = behind.or(Some(here + 2));
                (here, part) = (to, to);
            }
            _ => return None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// One message whose first question could be read.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    flags: u16,
    /// Name asked for; of an answer without a question (multicast), that of its first record.
    pub name: Name,
    /// Type asked for.
    pub qtype: u16,
    answers: u16,
    /// Where the answers begin.
    at: usize,
}

impl<'a> Message<'a> {
    /// Reads a message from a datagram. `None` if it is none: another protocol, or damaged before the end of its
    /// question.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let flags = number(bytes, 2)?;
        let (questions, answers) = (number(bytes, 4)?, number(bytes, 6)?);
        if bytes.len() < HEADER {
            return None;
        }
        // Opcodes that are in use, one question, and no more answers than fit: other protocols seldom look like this.
        let opcode = flags >> 11 & 15;
        if opcode > 6 || opcode == 3 || questions > 1 || usize::from(answers) > bytes.len().max(512) {
            return None;
        }
        if questions == 0 {
            if answers == 0 || flags & 0x8000 == 0 {
                return None;
            }
            let (name, behind) = read_name(bytes, HEADER)?;
            return Some(Self { bytes, flags, name, qtype: number(bytes, behind)?, answers, at: HEADER });
        }
        let (name, behind) = read_name(bytes, HEADER)?;
        let qtype = number(bytes, behind)?;
        number(bytes, behind + 2)?;
        Some(Self { bytes, flags, name, qtype, answers, at: behind + 4 })
    }

    /// Reads a message from what was sent on a connection, `sent` bytes of which `bytes` are the first: there, each
    /// has its length before it, which may have been sent by itself.
    pub fn parse_stream(bytes: &'a [u8], sent: u64) -> Option<Self> {
        let framed = || Self::parse(bytes.get(2..)?);
        if u64::from(number(bytes, 0)?) + 2 == sent {
            return framed();
        }
        // With a length before it, its flags would lie where the number of questions is: it is not taken for one
        // without.
        Self::parse(bytes).or_else(framed)
    }

    /// Whether it answers.
    pub fn is_answer(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Response code; 0 in a query.
    pub fn rcode(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// Number of answers that it claims to hold.
    pub fn answer_count(&self) -> u16 {
        self.answers
    }

    /// Answers, as far as they can be read.
    pub fn answers(&self) -> Answers<'a> {
        Answers { bytes: self.bytes, left: usize::from(self.answers).min(RECORDS), at: self.at }
    }
}

/// One record of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    message: &'a [u8],
    /// Type.
    pub rtype: u16,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// Where its data lies in the message.
    data: (usize, usize),
}

impl<'a> Answer<'a> {
    fn bytes(&self) -> &'a [u8] {
        self.message.get(self.data.0..self.data.1).unwrap_or_default()
    }

    /// The address of an `A` or `AAAA` record.
    pub fn address(&self) -> Option<IpAddr> {
        match self.rtype {
            1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.bytes()).ok()?).into()),
            28 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(self.bytes()).ok()?).to_canonical()),
            _ => None,
        }
    }

    /// The name that a record of one of the types that are about names points to.
    pub fn target(&self) -> Option<Name> {
        // Names in the data may point to what is before them; bytes behind the data are not theirs.
        let message = self.message.get(..self.data.1)?;
        let skip = match self.rtype {
            2 | 5 | 6 | 12 | 39 => 0,
            15 | 64 | 65 => 2,
            33 => 6,
            _ => return None,
        };
        read_name(message, self.data.0 + skip).map(|(name, _)| name)
    }

    /// Hands the data as people write it to `put`, piece by piece: an address, a name, a text; other types nothing.
    pub fn show(&self, mut put: impl FnMut(&[u8])) {
        if let Some(address) = self.address() {
            let mut text = Short { bytes: [0; 48], len: 0 };
            // It is long enough for each address.
            let _ = write!(text, "{address}");
            put(text.bytes.get(..text.len).unwrap_or_default());
        } else if let Some(name) = self.target() {
            put(name.as_bytes());
        } else if matches!(self.rtype, 16 | 99) {
            let mut rest = self.bytes();
            while let Some((length, more)) = rest.split_first() {
                let (piece, behind) = more.split_at(usize::from(*length).min(more.len()));
                put(piece);
                rest = behind;
            }
        }
    }
}

struct Short {
    bytes: [u8; 48],
    len: usize,
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Walks over the answers of a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    bytes: &'a [u8],
    left: usize,
    at: usize,
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (_, behind) = read_name(self.bytes, self.at)?;
        let rtype = number(self.bytes, behind)?;
        let ttl = u32::from(number(self.bytes, behind + 4)?) << 16 | u32::from(number(self.bytes, behind + 6)?);
        let length = usize::from(number(self.bytes, behind + 8)?);
        let data = (behind + 10, behind + 10 + length);
        self.bytes.get(data.0..data.1)?;
        self.at = data.1;
        Some(Answer { message: self.bytes, rtype, ttl, data })
    }
}

#[cfg(test)]
mod tests;
