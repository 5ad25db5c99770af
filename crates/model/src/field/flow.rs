//! Fields about how much went over a connection or a socket of datagrams.

use super::Arg;
use crate::event::Event;
use crate::value::Value;

pub(super) fn state<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.flow()?.state_name().map(|name| Value::Text(name.as_bytes()))
}

pub(super) fn bytes_out<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.flow().map(|flow| Value::Uint(flow.bytes_out))
}

pub(super) fn bytes_in<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.flow().map(|flow| Value::Uint(flow.bytes_in))
}

pub(super) fn packets_out<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.flow().map(|flow| Value::Uint(flow.packets_out))
}

pub(super) fn packets_in<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.flow().map(|flow| Value::Uint(flow.packets_in))
}

pub(super) fn duration<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let age = event.raw.header.time.saturating_sub(event.raw.flow()?.started);
    Some(Value::Int(age.min(i64::MAX as u64) as i64))
}
