//! Left sides, and right sides that are not literals: fields and transformers.

use tw_model::field::{FieldError, FieldFlag, Multi};
use tw_model::{EventKind, FieldRef, FieldType, KindSet};

use super::Compiler;
use crate::ast::{Argument, Operand, Transformer};
use crate::diagnostic::{Problem, code};
use crate::extract::Extract;
use crate::text::{Place, Span, Text};

/// A compiled side of a comparison.
pub(crate) struct Side {
    /// Where the value comes from.
    pub extract: Extract,
    /// Its type.
    pub ty: FieldType,
    /// Whether it can have several values, and what that means.
    pub multi: Multi,
    /// False if it is always null, because nothing supplies a field in it.
    pub has_source: bool,
}

impl Side {
    /// The field, if it is one and not a transformer.
    pub fn field_name(&self) -> Option<&'static str> {
        match &self.extract {
            Extract::Field(field) => Some(field.field.name),
            _ => None,
        }
    }

    /// Whether it is a field with this flag.
    pub fn is(&self, flag: FieldFlag) -> bool {
        matches!(&self.extract, Extract::Field(field) if field.field.is(flag))
    }

    /// Whether it is the type of the event.
    pub fn is_event_type(&self) -> bool {
        matches!(self.field_name(), Some("evt.type" | "syscall.type"))
    }
}

/// Compiles fields and transformers of one text.
pub(crate) struct Operands<'t> {
    /// The text that spans are in.
    pub text: &'t Text,
    /// Code of errors.
    pub code: &'static str,
    /// What was wrong.
    pub problems: Vec<Problem>,
}

impl Compiler<'_> {
    /// Compiles a side of a comparison.
    pub(super) fn side(&mut self, operand: &Operand) -> Option<Side> {
        let mut operands = Operands { text: self.text, code: code::CONDITION, problems: Vec::new() };
        let side = operands.side(operand);
        self.problems.append(&mut operands.problems);
        if let Some(Side { extract: Extract::Field(field), .. }) = &side {
            self.named = self.named.or(measured_by(field.field.name));
        }
        side
    }
}

/// The measurement that a field belongs to: `resource.cpu` to `resource`. Who asks for one has named the other.
pub(super) fn measured_by(field: &str) -> KindSet {
    let family = field.split_once('.').map_or("", |(family, _)| family);
    match EventKind::from_name(family) {
        Some(kind) if kind.is_measurement() => KindSet::one(kind),
        _ => KindSet::NONE,
    }
}

impl Operands<'_> {
    /// Compiles a field or transformer. `None`: there is a problem more.
    pub fn side(&mut self, operand: &Operand) -> Option<Side> {
        match operand {
            Operand::Field { name, arg, span } => self.field(name, arg.as_deref(), *span),
            Operand::Call { name, args, arg, span } => self.call(*name, args, arg.as_deref(), *span),
        }
    }

    fn error(&mut self, span: Span, message: String, help: &str) -> Option<Side> {
        let problem = Problem::error(self.code, self.text.place(span), message);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
        None
    }

    fn field(&mut self, name: &str, arg: Option<&str>, span: Span) -> Option<Side> {
        let field = match FieldRef::resolve(name, arg) {
            Ok(field) => field,
            Err(error) => {
                self.problems.push(field_problem(self.code, self.text.place(span), name, &error));
                return None;
            }
        };
        let row = field.field;
        let in_output = self.code == code::OUTPUT;
        if in_output && row.is(FieldFlag::FilterOnly) {
            let help = "show the fields of both ends, such as `fd.cip` and `fd.sip`";
            return self.error(span, format!("the field `{name}` can only be compared, not shown"), help);
        }
        if !in_output && row.is(FieldFlag::PrintOnly) {
            return self.error(span, format!("the field `{name}` can only be shown, not compared"), "");
        }
        let has_source = field.has_source();
        if !has_source {
            let message = format!("nothing supplies the field `{name}` yet: it is always null");
            let problem = Problem::warning(code::NO_SOURCE, self.text.place(span), message);
            let help = if in_output { "it shows as `<NA>`" } else { "a comparison with it is never true" };
            self.problems.push(problem.help(help));
        }
        if row.is(FieldFlag::Deprecated) {
            let message = format!("the field `{name}` is deprecated");
            let problem = Problem::warning(code::DEPRECATED_ITEM, self.text.place(span), message);
            self.problems.push(problem.help(match row.name {
                "evt.dir" => "leave it out: only exits of calls are seen, so that it is always `<`",
                name if name.starts_with("evt.") => {
                    "leave it out: only exits of calls are seen, so that it is always 0"
                }
                name if name.starts_with("k8s.") => "use `k8s.pod.name`, `k8s.ns.name` or `container.label[NAME]`",
                _ => "leave it out",
            }));
        }
        let multi = field.field.multi;
        Some(Side { ty: field.ty(), multi, has_source, extract: Extract::Field(field) })
    }

    fn call(&mut self, name: Transformer, args: &[Argument], arg: Option<&str>, span: Span) -> Option<Side> {
        if arg.is_some() && name != Transformer::Getopt {
            return self.error(span, format!("`{}()` takes nothing in brackets", name.name()), "");
        }
        let mut sides = Vec::with_capacity(args.len());
        for argument in args {
            sides.push(self.argument(argument));
        }
        let sides: Vec<Side> = sides.into_iter().collect::<Option<_>>()?;
        let refused = |side: &Side| side.multi != Multi::Single || side.is(FieldFlag::NoTransformer);
        if let Some((side, argument)) = sides.iter().zip(args).find(|(side, _)| refused(side)) {
            if side.multi == Multi::Single {
                let field = side.field_name().unwrap_or("this field");
                return self.error(argument.span(), format!("`{field}` cannot be transformed"), "");
            }
            let field = side.field_name().unwrap_or("this field");
            let message = format!("`{field}` can have several values and cannot be transformed");
            return self.error(argument.span(), message, "");
        }
        if let Some(argument) = sides.iter().zip(args).find(|(side, _)| side.is_event_type()).map(|pair| pair.1) {
            let help = "compare it directly, so that the rule is tried on the right events only";
            return self.error(argument.span(), "the event type cannot be transformed".into(), help);
        }
        match name {
            Transformer::Join | Transformer::Concat | Transformer::Getopt => self.many(name, sides, arg, span),
            _ => self.one(name, sides, span),
        }
    }

    fn one(&mut self, name: Transformer, mut sides: Vec<Side>, span: Span) -> Option<Side> {
        let (Some(side), true) = (sides.pop(), sides.is_empty()) else {
            return self.error(span, format!("`{}()` takes one argument", name.name()), "");
        };
        let ok = match name {
            Transformer::B64 => side.ty.is_text() || side.ty == FieldType::Bytes,
            Transformer::Len => side.ty.is_text() || matches!(side.ty, FieldType::Bytes | FieldType::TextList),
            _ => side.ty.is_text() || side.ty == FieldType::TextList && name != Transformer::Basename,
        };
        if !ok {
            return self.error(
                span,
                format!("`{}()` cannot be used on a value of type {}", name.name(), side.ty.name()),
                "",
            );
        }
        let inner = Box::new(side.extract);
        let (extract, ty) = match name {
            Transformer::ToLower => (Extract::ToLower(inner), side.ty),
            Transformer::ToUpper => (Extract::ToUpper(inner), side.ty),
            Transformer::B64 => (Extract::B64(inner), side.ty),
            Transformer::Basename => (Extract::Basename(inner), side.ty),
            _ => (Extract::Len(inner), FieldType::Uint),
        };
        Some(Side { extract, ty, multi: Multi::Single, has_source: side.has_source })
    }

    fn many(&mut self, name: Transformer, sides: Vec<Side>, arg: Option<&str>, span: Span) -> Option<Side> {
        let has_source = sides.iter().all(|side| side.has_source);
        let is_text = |side: &Side| side.ty.is_text();
        let side = |extract, ty| Some(Side { extract, ty, multi: Multi::Single, has_source });
        match name {
            Transformer::Concat => {
                if sides.len() < 2 || !sides.iter().all(is_text) {
                    return self.error(span, "`concat()` takes two or more texts".into(), "");
                }
                let parts: Vec<Extract> = sides.into_iter().map(|side| side.extract).collect();
                side(Extract::Concat(parts.into()), FieldType::Text)
            }
            Transformer::Join => match <[Side; 2]>::try_from(sides) {
                Ok([separator, list]) if is_text(&separator) && list.ty == FieldType::TextList => {
                    let (separator, list) = (Box::new(separator.extract), Box::new(list.extract));
                    side(Extract::Join(separator, list), FieldType::Text)
                }
                _ => self.error(span, "`join()` takes a separator and a list".into(), "write `join(\",\", (a, b))`"),
            },
            _ => {
                let option = match arg.map(str::as_bytes) {
                    None => None,
                    Some([option]) => Some(*option),
                    Some(_) => return self.error(span, "`getopt()[x]` takes one letter in brackets".into(), ""),
                };
                let ty = if option.is_some() { FieldType::Text } else { FieldType::TextList };
                match <[Side; 2]>::try_from(sides) {
                    Ok([list, known]) if list.ty == FieldType::TextList && is_text(&known) => {
                        side(Extract::Getopt(Box::new(list.extract), Box::new(known.extract), option), ty)
                    }
                    _ => self.error(span, "`getopt()` takes a list and the letters of the options".into(), ""),
                }
            }
        }
    }

    fn argument(&mut self, argument: &Argument) -> Option<Side> {
        let constant = |extract, ty| Some(Side { extract, ty, multi: Multi::Single, has_source: true });
        match argument {
            Argument::Operand(operand) => self.side(operand),
            Argument::Text(word) => constant(Extract::Text(word.bytes.as_slice().into()), FieldType::Text),
            Argument::Number(text, span) => match text.parse() {
                Ok(number) => constant(Extract::Number(number), FieldType::Int),
                Err(_) => self.error(*span, format!("`{text}` is not a whole number"), ""),
            },
            Argument::List(items, span) => {
                let mut extracts = Vec::with_capacity(items.len());
                let mut has_source = true;
                for item in items {
                    let side = self.argument(item)?;
                    if !side.ty.is_text() || side.multi != Multi::Single {
                        return self.error(*span, "a list here may hold texts only".into(), "");
                    }
                    has_source &= side.has_source;
                    extracts.push(side.extract);
                }
                let extract = Extract::List(extracts.into());
                Some(Side { extract, ty: FieldType::TextList, multi: Multi::Single, has_source })
            }
        }
    }
}

/// First parts of the names of fields that Falco's plugins for other sources bring, and what they are about.
static ELSEWHERE: &[(&str, &str)] = &[
    ("al", "AWS CloudTrail"),
    ("ct", "AWS CloudTrail"),
    ("gcp", "Google Cloud audit"),
    ("gitlab", "GitLab"),
    ("github", "GitHub"),
    ("jevt", "JSON"),
    ("json", "JSON"),
    ("ka", "Kubernetes audit"),
    ("kafka", "Kafka"),
    ("keycloak", "Keycloak"),
    ("krsi", "KRSI"),
    ("okta", "Okta"),
];

/// What the names of parameters of events begin with.
static PARAM_FIELDS: &[&str] = &["evt.arg.", "evt.rawarg."];

/// What is wrong with a field's name.
pub(crate) fn field_problem(code: &'static str, place: Place, name: &str, error: &FieldError) -> Problem {
    let mut near: Vec<String> = Vec::new();
    let (message, help) = match error {
        FieldError::Unknown { near: names } => {
            near.extend(names.iter().map(|near| (*near).to_owned()));
            (format!("there is no field `{name}`"), "")
        }
        FieldError::UnknownParam { near: names } => {
            let prefix = PARAM_FIELDS.iter().find(|prefix| name.starts_with(**prefix));
            near.extend(names.iter().map(|near| format!("{}{near}", prefix.unwrap_or(&""))));
            let help = if prefix.is_some() { "docs/events.md lists what each event has" } else { "" };
            (format!("no event has the parameter that `{name}` names"), help)
        }
        FieldError::ArgMissing => {
            (format!("the field `{name}` needs something in brackets"), "such as `[0]` or `[name]`")
        }
        FieldError::ArgNotAllowed => (format!("the field `{name}` does not take this in brackets"), ""),
    };
    let near: Vec<&str> = near.iter().map(String::as_str).collect();
    let plugin = ELSEWHERE.iter().find(|(prefix, _)| name.split('.').next() == Some(prefix));
    let elsewhere = match (error, plugin) {
        (FieldError::Unknown { .. }, Some((_, what))) => {
            format!("it belongs to {what} events: give the rule the `source` of these events")
        }
        _ => String::new(),
    };
    let help = if elsewhere.is_empty() { help } else { &elsewhere };
    let unknown = matches!(error, FieldError::Unknown { .. } | FieldError::UnknownParam { .. });
    let problem = Problem { unknown, ..Problem::error(code, place, message) };
    // A name that is near says more than where to look, but not more than whose field it is.
    let near_first = elsewhere.is_empty() && !near.is_empty();
    if help.is_empty() || near_first { problem.near(&near) } else { problem.help(help) }
}
