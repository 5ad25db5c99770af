//! Fields of the coverage ledger: an event `coverage` is a minute of one class of events of one container.

use super::Arg;
use crate::coverage::permille;
use crate::event::{Event, EventKind};
use crate::raw::CallBody;
use crate::value::Value;

/// Place of the number seen in the arguments of the record.
pub const SEEN: usize = 0;
/// Place of the number lost.
pub const LOST: usize = 1;
/// Place of the number folded.
pub const FOLDED: usize = 2;
/// Place of the number left out of a sample.
pub const SAMPLED: usize = 3;
/// Place of the number of repetitions.
pub const REPEATED: usize = 4;

fn body<'e>(event: &Event<'e>) -> Option<&'e CallBody> {
    if event.kind() == EventKind::Coverage { event.raw.call() } else { None }
}

fn number<'e>(event: &Event<'e>, place: usize) -> Option<Value<'e>> {
    Some(Value::Uint(body(event)?.args[place]))
}

pub(super) fn percent<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let args = &body(event)?.args;
    let missing = args[LOST].saturating_add(args[FOLDED]).saturating_add(args[SAMPLED]);
    Some(Value::Uint(permille(args[SEEN], missing) / 10))
}

pub(super) fn seen<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event, SEEN)
}

pub(super) fn lost<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event, LOST)
}

pub(super) fn folded<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event, FOLDED)
}

pub(super) fn sampled<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event, SAMPLED)
}

pub(super) fn repeated<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event, REPEATED)
}

/// The text is `CLASS reason=number reason=number`.
pub(super) fn class<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let text = event.raw.text(body(event)?.text);
    Some(Value::Text(text.split(|byte| *byte == b' ').next().unwrap_or_default()))
}

pub(super) fn reason<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let text = event.raw.text(body(event)?.text);
    let at = text.iter().position(|byte| *byte == b' ').map_or(text.len(), |at| at + 1);
    Some(Value::Text(&text[at..]))
}
