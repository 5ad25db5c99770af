//! What a sample's process says on the network, as bytes.

use std::net::IpAddr;

use serde::Deserialize;

use super::SampleError;
use crate::dns;

/// A DNS message of a sample. With a response code or answers it is an answer, else a query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleDns {
    /// Name asked for.
    pub name: String,
    /// Type asked for; default `A`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Response code, such as `NXDOMAIN`; default of an answer: `NOERROR`.
    pub rcode: String,
    /// Answers: addresses, or `TXT some text`, `CNAME a.name`.
    pub answers: Vec<String>,
}

impl SampleDns {
    pub(super) fn is_answer(&self) -> bool {
        !self.rcode.is_empty() || !self.answers.is_empty()
    }

    /// The message (RFC 1035, 4.1).
    pub(super) fn encode(&self) -> Result<Vec<u8>, SampleError> {
        let number = |name: &str| dns::type_number(name).ok_or_else(|| SampleError::UnknownName(name.to_owned()));
        let rcode = match self.rcode.as_str() {
            "" => 0,
            name => dns::rcode_number(name).ok_or_else(|| SampleError::UnknownName(name.to_owned()))?,
        };
        let flags = if self.is_answer() { [0x81, 0x80 | rcode] } else { [1, 0] };
        let mut out = vec![0x12, 0x34, flags[0], flags[1], 0, 1, 0, self.answers.len().min(255) as u8, 0, 0, 0, 0];
        push_name(&mut out, &self.name);
        out.extend(number(if self.kind.is_empty() { "A" } else { &self.kind })?.to_be_bytes());
        out.extend([0, 1]);
        for answer in &self.answers {
            let mut data = Vec::new();
            let kind = match (answer.parse(), answer.split_once(' ')) {
                (Ok(IpAddr::V4(address)), _) => {
                    data.extend(address.octets());
                    "A"
                }
                (Ok(IpAddr::V6(address)), _) => {
                    data.extend(address.octets());
                    "AAAA"
                }
                (_, Some(("TXT", text))) => {
                    for piece in text.as_bytes().chunks(255) {
                        data.push(piece.len() as u8);
                        data.extend(piece);
                    }
                    "TXT"
                }
                (_, Some((kind, name))) => {
                    push_name(&mut data, name);
                    kind
                }
                _ => return Err(SampleError::UnknownName(answer.clone())),
            };
            out.extend([0xc0, 12]);
            out.extend(number(kind)?.to_be_bytes());
            out.extend([0, 1, 0, 0, 1, 44]);
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(data);
        }
        Ok(out)
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
}

/// A TLS hello that asks for `name`.
pub(super) fn hello(name: &str) -> Vec<u8> {
    fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = (bytes.len() as u32).to_be_bytes()[4 - width..].to_vec();
        out.extend(bytes);
        out
    }
    let entry = [&[0][..], &sized(2, name.as_bytes())].concat();
    let extension = [&[0, 0][..], &sized(2, &sized(2, &entry))].concat();
    let rest = [sized(1, &[]), sized(2, &[0x13, 1]), sized(1, &[0]), sized(2, &extension)].concat();
    let body = [&[3, 3][..], &[7; 32], &rest].concat();
    [&[22, 3, 1][..], &sized(2, &[&[1][..], &sized(3, &body)].concat())].concat()
}

/// Reads `ip:port` or `[ip]:port`.
pub(super) fn parse_end(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.rsplit_once(':')?;
    Some((ip.trim_matches(['[', ']']).parse().ok()?, port.parse().ok()?))
}
