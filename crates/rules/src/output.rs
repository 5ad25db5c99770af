//! Output templates: `%field`, `%field[arg]`, `%12field`, `%transformer(field)`.

use std::fmt::Write as _;

use tw_model::field::{FieldError, is_known};
use tw_model::finding::Shown;
use tw_model::{Event, FieldRef, FieldType, Value};

use crate::ast::{Operand, Transformer};
use crate::compile::{Operands, field_problem};
use crate::diagnostic::{Problem, code};
use crate::extract::Extract;
use crate::lexer::is_name_byte;
use crate::parser::parse_operand;
use crate::text::{Span, Text};

/// What stands for null.
const NULL: &str = "<NA>";
/// More characters a field is not padded to.
const MAX_WIDTH: usize = 1000;

/// With more problems the rest is not looked at.
const MAX_PROBLEMS: usize = 100;
/// No field's name is longer, in bytes.
const MAX_NAME: usize = 200;

/// A compiled output.
#[derive(Debug, Default)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// Fields to show that the text does not name, each with its key.
    extra: Vec<(String, Extra)>,
}

#[derive(Debug)]
enum Extra {
    /// A value with its type.
    Value(Field),
    /// A text put together.
    Text(Vec<Part>),
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Field(Field),
}

#[derive(Debug)]
struct Field {
    /// As written, without `%` and width.
    name: String,
    /// Padded or cut to so many characters.
    width: Option<usize>,
    extract: Extract,
    ty: FieldType,
    is_field: bool,
}

impl Template {
    /// Compiles an output. Where something is wrong there is a problem more.
    pub fn compile(text: &Text, problems: &mut Vec<Problem>) -> Self {
        let mut parts = Vec::new();
        let source = text.as_str();
        let mut at = 0;
        let before = problems.len();
        while let Some(found) = source[at..].find('%') {
            if problems.len() - before > MAX_PROBLEMS {
                let place = text.place(Span::new(at, at + found));
                problems.push(Problem::error(code::OUTPUT, place, "too much is wrong with this output"));
                return Self::default();
            }
            let percent = at + found;
            if percent > at {
                parts.push(Part::Literal(source[at..percent].to_owned()));
            }
            match token(text, percent, problems) {
                Some((field, end)) => {
                    parts.extend(field.map(Part::Field));
                    at = end;
                }
                None => at = percent + 1,
            }
        }
        if at < source.len() {
            parts.push(Part::Literal(source[at..].to_owned()));
        }
        Self { parts, extra: Vec::new() }
    }

    /// Adds a field to those that are shown beside the text; with its type only if `other` is one field.
    pub fn add_field(&mut self, key: &str, mut other: Self, typed: bool) {
        let extra = match other.parts.as_slice() {
            [Part::Field(_)] if typed => match other.parts.swap_remove(0) {
                Part::Field(field) => Extra::Value(field),
                part @ Part::Literal(_) => Extra::Text(vec![part]),
            },
            _ => Extra::Text(other.parts),
        };
        self.extra.push((key.to_owned(), extra));
    }

    /// The message for an event. Control characters of values are still in it.
    pub fn message(&self, event: &Event<'_>) -> String {
        Self::text(&self.parts, event)
    }

    fn text(parts: &[Part], event: &Event<'_>) -> String {
        let mut message = String::new();
        for part in parts {
            match part {
                Part::Literal(text) => message.push_str(text),
                Part::Field(field) => match field.width {
                    None => field.write(event, &mut message),
                    Some(width) => {
                        let mut text = String::new();
                        field.write(event, &mut text);
                        // A string's write cannot fail.
                        let _ = write!(message, "{text:<width$.width$}");
                    }
                },
            }
        }
        message
    }

    /// The fields named, each once, and their values.
    pub fn fields(&self, event: &Event<'_>) -> Vec<(String, Shown)> {
        let mut shown: Vec<(String, Shown)> = Vec::with_capacity(self.parts.len() / 2 + 1 + self.extra.len());
        for part in &self.parts {
            if let Part::Field(field) = part
                && field.is_field
                && !shown.iter().any(|(name, _)| *name == field.name)
            {
                shown.push((field.name.clone(), show(&field.extract, field.ty, event)));
            }
        }
        for (key, extra) in &self.extra {
            if !shown.iter().any(|(name, _)| name == key) {
                let value = match extra {
                    Extra::Value(field) => show(&field.extract, field.ty, event),
                    Extra::Text(parts) => Shown::Text(Self::text(parts, event)),
                };
                shown.push((key.clone(), value));
            }
        }
        shown
    }
}

/// Reads what is behind a `%`: the field, if there is anything to show, and where it ends.
fn token(text: &Text, percent: usize, problems: &mut Vec<Problem>) -> Option<(Option<Field>, usize)> {
    let source = text.as_str();
    let digits = source[percent + 1..].bytes().take_while(u8::is_ascii_digit).count();
    let start = percent + 1 + digits;
    let width = source[percent + 1..start].parse().ok().map(|width: usize| width.min(MAX_WIDTH));
    let run = source[start..].bytes().take(MAX_NAME).take_while(|byte| is_name_byte(*byte) || *byte == b'.').count();
    let name = &source[start..start + run];
    if name.trim_matches('.').is_empty() {
        let place = text.place(Span::new(percent, start));
        let problem = Problem::error(code::OUTPUT, place, "there is no field behind this `%`");
        problems.push(problem.help("an output cannot show a `%` itself"));
        return None;
    }
    if name == "container.info" {
        return Some((None, start + run));
    }
    let (operand, end) = match operand_at(text, start, name, problems)? {
        Ok(found) => found,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut operands = Operands { text, code: code::OUTPUT, problems: Vec::new() };
    let side = operands.side(&operand);
    problems.append(&mut operands.problems);
    let side = side?;
    let is_field = matches!(operand, Operand::Field { .. });
    let name = source[start..end].to_owned();
    Some((Some(Field { name, width, extract: side.extract, ty: side.ty, is_field }), end))
}

type Found = Result<(Operand, usize), Problem>;

/// The longest field or transformer at `start`, whose name is a prefix of `name`.
fn operand_at(text: &Text, start: usize, name: &str, problems: &mut Vec<Problem>) -> Option<Found> {
    let source = text.as_str();
    let behind = source.as_bytes().get(start + name.len());
    if behind == Some(&b'(') && Transformer::from_name(name).is_some() {
        return Some(parse_operand(source, start).map_err(|error| {
            let problem = Problem::error(code::OUTPUT, text.place(error.span), error.message);
            Problem { help: error.help, ..problem }
        }));
    }
    let mut first_error = None;
    if behind == Some(&b'[')
        && let Ok((Operand::Field { name, arg, span }, end)) = parse_operand(source, start)
    {
        match FieldRef::resolve(&name, arg.as_deref()) {
            Ok(_) => return Some(Ok((Operand::Field { name, arg, span }, end))),
            Err(error) => first_error = Some(field_problem(code::OUTPUT, text.place(span), &name, &error)),
        }
    }
    for length in (1..=name.len()).rev() {
        let prefix = &name[..length];
        let whole = length == name.trim_end_matches('.').len();
        if !whole && !is_known(prefix) {
            continue;
        }
        let error = match FieldRef::resolve(prefix, None) {
            Ok(_) => {
                let span = Span::new(start, start + length);
                if name[length..].bytes().any(is_name_byte) {
                    let message = format!("there is no field `{name}`: this shows `{prefix}`, then the rest as text");
                    let place = text.place(Span::new(start, start + name.len()));
                    problems.push(Problem::warning(code::COMPILE_OUTPUT, place, message));
                }
                let operand = Operand::Field { name: prefix.to_owned(), arg: None, span };
                return Some(Ok((operand, start + length)));
            }
            Err(error) => error,
        };
        if first_error.is_none() && (whole || error == FieldError::ArgMissing) {
            let place = text.place(Span::new(start, start + length));
            first_error = Some(field_problem(code::OUTPUT, place, prefix, &error));
        }
    }
    first_error.map(Err)
}

impl Field {
    fn write(&self, event: &Event<'_>, out: &mut String) {
        match self.extract.get(event) {
            None => out.push_str(NULL),
            // A string's write cannot fail.
            Some(Value::Int(number)) if self.name == "fd.dev" => drop(write!(out, "{number:X}")),
            Some(value) => write_value(&value, self.time_ns(&value), self.ty, out),
        }
    }

    /// The time, if it is to be shown as date and time.
    fn time_ns(&self, value: &Value<'_>) -> Option<i128> {
        let Extract::Field(field) = &self.extract else { return None };
        let dated = field.field.name.starts_with("evt.time") || field.field.name.starts_with("evt.datetime");
        match value {
            Value::Int(ns) if dated && self.ty == FieldType::Time => Some((*ns).into()),
            Value::Uint(ns) if dated && self.ty == FieldType::Time => Some((*ns).into()),
            _ => None,
        }
    }
}

/// A value of an event as it is told to people and in JSON.
pub(crate) fn show(extract: &Extract, ty: FieldType, event: &Event<'_>) -> Shown {
    match extract.get(event) {
        None => Shown::Null,
        Some(Value::Bool(value)) => Shown::Bool(value),
        Some(Value::Int(value)) => Shown::Int(value),
        Some(Value::Uint(value)) => Shown::Uint(value),
        Some(value) => {
            let mut text = String::new();
            write_value(&value, None, ty, &mut text);
            Shown::Text(text)
        }
    }
}

fn write_value(value: &Value<'_>, time_ns: Option<i128>, ty: FieldType, out: &mut String) {
    // A string's write cannot fail.
    let _ = match value {
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(_) | Value::Uint(_) if time_ns.is_some() => write_time(time_ns.unwrap_or_default(), out),
        Value::Int(value) => write!(out, "{value}"),
        Value::Uint(value) => write!(out, "{value}"),
        Value::Ip(address) => write!(out, "{address}"),
        Value::Text(text) if ty == FieldType::Bytes => {
            out.extend(text.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }));
            Ok(())
        }
        Value::Text(text) => {
            out.push_str(&String::from_utf8_lossy(text));
            Ok(())
        }
        Value::Any(values) => {
            write_all(values, " ", ty, out);
            Ok(())
        }
        Value::List(values) => {
            out.push('(');
            write_all(values, ",", ty, out);
            out.push(')');
            Ok(())
        }
    };
}

fn write_all(values: &[Value<'_>], separator: &str, ty: FieldType, out: &mut String) {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        write_value(value, None, ty, out);
    }
}

/// Writes nanoseconds since the epoch as ISO 8601 in UTC.
fn write_time(ns: i128, out: &mut String) -> std::fmt::Result {
    const DAY: i128 = 86_400_000_000_000;
    let (days, rest) = (ns.div_euclid(DAY), ns.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, nanos) = (rest / 1_000_000_000, rest % 1_000_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(days: i128) -> (i128, i128, i128) {
    // Years are counted from March on, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i128::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
