//! Fields about what is said on the network: DNS messages, and the first bytes of connections.

use std::io::Write as _;
use std::net::IpAddr;

use bumpalo::collections::Vec as BumpVec;

use super::Arg;
use crate::dns::{self, Message};
use crate::event::{Event, EventKind};
use crate::first_bytes;
use crate::raw::{IPPROTO_TCP, SockBody, sock_attr};
use crate::value::Value;

fn said<'e>(event: &Event<'e>) -> Option<&'e SockBody> {
    event.raw.sock().filter(|_| event.kind() == EventKind::Dns)
}

fn message<'e>(event: &Event<'e>) -> Option<Message<'e>> {
    event.raw.dns()
}

fn text<'e>(event: &Event<'e>, bytes: &[u8]) -> Value<'e> {
    Value::Text(event.scratch.alloc_slice_copy(bytes))
}

fn lower<'e>(event: &Event<'e>, bytes: &[u8]) -> Value<'e> {
    let copy = event.scratch.alloc_slice_copy(bytes);
    copy.make_ascii_lowercase();
    Value::Text(copy)
}

pub(super) fn dns_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| text(event, message.name.as_bytes()))
}

/// `A`, or `TYPE1234` as RFC 3597 writes what has no name.
fn type_text<'e>(event: &Event<'e>, number: u16) -> &'e [u8] {
    if let Some(name) = dns::type_name(number) {
        return name.as_bytes();
    }
    let mut text = BumpVec::with_capacity_in(9, event.scratch);
    // A vector's write cannot fail.
    let _ = write!(text, "TYPE{number}");
    text.into_bump_slice()
}

pub(super) fn dns_type<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| Value::Text(type_text(event, message.qtype)))
}

pub(super) fn dns_is_answer<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| Value::Bool(message.is_answer()))
}

pub(super) fn dns_rcode<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let message = message(event).filter(Message::is_answer)?;
    if let Some(name) = dns::rcode_name(message.rcode()) {
        return Some(Value::Text(name.as_bytes()));
    }
    let mut text = BumpVec::with_capacity_in(8, event.scratch);
    // A vector's write cannot fail.
    let _ = write!(text, "RCODE{}", message.rcode());
    Some(Value::Text(text.into_bump_slice()))
}

/// `TYPE data` of each answer.
pub(super) fn dns_answers<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let message = message(event).filter(Message::is_answer)?;
    let mut list = BumpVec::new_in(event.scratch);
    for answer in message.answers() {
        let mut text = BumpVec::new_in(event.scratch);
        text.extend_from_slice(type_text(event, answer.rtype));
        let start = text.len();
        text.push(b' ');
        answer.show(|piece| text.extend_from_slice(piece));
        if text.len() == start + 1 {
            text.pop();
        }
        list.push(Value::Text(text.into_bump_slice()));
    }
    Some(Value::List(list.into_bump_slice()))
}

/// The answers in one text.
pub(super) fn dns_answers_text<'e>(event: &Event<'e>) -> Option<&'e [u8]> {
    let Some(Value::List(list)) = dns_answers(event, &Arg::None) else { return None };
    let mut text = BumpVec::new_in(event.scratch);
    for answer in list {
        let Value::Text(answer) = answer else { continue };
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(answer);
    }
    Some(text.into_bump_slice())
}

pub(super) fn dns_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let message = message(event).filter(Message::is_answer)?;
    let mut list = BumpVec::new_in(event.scratch);
    list.extend(message.answers().filter_map(|answer| answer.address()).map(Value::Ip));
    (!list.is_empty()).then(|| Value::Any(list.into_bump_slice()))
}

pub(super) fn dns_ttl<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let message = message(event).filter(Message::is_answer)?;
    message.answers().map(|answer| answer.ttl).min().map(|ttl| Value::Uint(ttl.into()))
}

pub(super) fn dns_server<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = said(event)?;
    let address: Option<IpAddr> = if body.has(sock_attr::CLIENT) { body.remote() } else { body.local() };
    address.map(Value::Ip)
}

pub(super) fn dns_size<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    said(event).map(|_| Value::Uint(event.raw.header.ret.max(0) as u64))
}

pub(super) fn dns_length<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| Value::Uint(message.name.as_bytes().len() as u64))
}

pub(super) fn dns_labels<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| Value::Uint(message.name.labels().into()))
}

pub(super) fn dns_longest_label<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    message(event).map(|message| Value::Uint(message.name.longest_label().into()))
}

/// On a connection a message may be in pieces: nothing can be said of one.
pub(super) fn dns_malformed<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = said(event)?;
    Some(Value::Bool(body.proto != IPPROTO_TCP && message(event).is_none()))
}

fn first<'e>(event: &Event<'e>) -> Option<&'e [u8]> {
    let body = event.raw.sock().filter(|body| event.kind() == EventKind::Write && body.has(sock_attr::FIRST))?;
    Some(event.raw.text(body.data))
}

pub(super) fn sni<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    first_bytes::server_name(first(event)?).map(|name| lower(event, name))
}

pub(super) fn alpn<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let mut list = BumpVec::new_in(event.scratch);
    list.extend(first_bytes::protocols(first(event)?).map(Value::Text));
    (!list.is_empty()).then(|| Value::List(list.into_bump_slice()))
}

pub(super) fn http_host<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    first_bytes::http_host(first(event)?).map(|host| lower(event, host))
}
