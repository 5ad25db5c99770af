//! Fields about the person behind a process.

use super::Arg;
use crate::event::Event;
use crate::login::{ContainerExec, Login};
use crate::value::Value;

fn login<'e>(event: &Event<'e>) -> Option<&'e Login> {
    event.process.login.as_deref()
}

fn exec<'e>(event: &Event<'e>) -> Option<&'e ContainerExec> {
    login(event)?.exec.as_ref()
}

fn known(text: &str) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(text.as_bytes()))
}

pub(super) fn user<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(&login(event)?.user)
}

pub(super) fn source<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(login(event)?.source.name())
}

pub(super) fn address<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    login(event)?.address.map(Value::Ip)
}

pub(super) fn sudo_user<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(&login(event)?.sudo_user)
}

pub(super) fn is_exec_into<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(exec(event).is_some()))
}

pub(super) fn exec_id<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(&exec(event)?.id)
}

pub(super) fn exec_command<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(&exec(event)?.command)
}

pub(super) fn exec_client<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(&exec(event)?.client)
}
