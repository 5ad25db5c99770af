//! Exceptions of rules: written as columns and rows, added to the condition as text.

use super::item::Item;
use crate::ast::{Modifier, Op, is_bare, write_quoted};
use crate::compile::Operands;
use crate::diagnostic::{Problem, Severity, code};
use crate::parser::parse_operand;
use crate::text::{Place, Text};
use crate::yaml::{Kind, Node};

/// One or several of something, as written.
#[derive(Clone)]
enum Columns {
    One(Text),
    Many(Vec<Text>),
}

/// An exception.
#[derive(Clone)]
pub(super) struct Exception {
    name: String,
    place: Place,
    fields: Columns,
    comps: Option<Columns>,
    values: Vec<Node>,
}

/// More exceptions a rule cannot have.
const MAX_EXCEPTIONS: usize = 1000;

impl Exception {
    /// Bytes that a copy takes, about.
    pub fn size(&self) -> usize {
        self.name.len() + self.values.iter().map(Node::size).sum::<usize>()
    }
}

fn error(place: &Place, message: impl Into<String>) -> Problem {
    Problem::error(code::VALIDATE, place.clone(), message)
}

fn columns(node: &Node, what: &str) -> Result<Columns, Problem> {
    let wrong = |node: &Node| error(&node.place, format!("`{what}` is a name or a list of names"));
    let text = |node: &Node| node.text().map(|text| text.trimmed()).ok_or_else(|| wrong(node));
    match &node.kind {
        Kind::List(items) => Ok(Columns::Many(items.iter().map(text).collect::<Result<_, _>>()?)),
        _ => Ok(Columns::One(text(node)?)),
    }
}

/// An exception as an item states it.
struct Stated {
    name: String,
    place: Place,
    fields: Option<Columns>,
    comps: Option<Columns>,
    values: Option<Vec<Node>>,
}

fn read(node: &Node) -> Result<Stated, Problem> {
    let Kind::Map(pairs) = &node.kind else {
        return Err(error(&node.place, format!("an exception is a map, but this is {}", node.kind_name())));
    };
    let get = |name: &str| {
        let entry = pairs.iter().find(|(key, _)| key.scalar() == Some(name));
        entry.map(|(_, value)| value).filter(|value| !matches!(value.kind, Kind::Null))
    };
    let name = get("name").and_then(|name| Some((name.scalar()?.to_owned(), name.place.clone())));
    let Some((name, place)) = name else { return Err(error(&node.place, "the exception has no `name`")) };
    let values = match get("values") {
        None => None,
        Some(Node { kind: Kind::List(rows), .. }) => Some(rows.clone()),
        Some(other) => return Err(error(&other.place, "`values` is a list")),
    };
    let fields = get("fields").map(|fields| columns(fields, "fields")).transpose()?;
    let comps = get("comps").map(|comps| columns(comps, "comps")).transpose()?;
    Ok(Stated { name, place, fields, comps, values })
}

/// The exceptions of an item that defines a rule.
pub(super) fn define(item: &Item<'_>, problems: &mut Vec<Problem>) -> Result<Vec<Exception>, Problem> {
    let mut exceptions: Vec<Exception> = Vec::new();
    let nodes = item.list("exceptions")?.unwrap_or_default();
    if let Some(node) = nodes.get(MAX_EXCEPTIONS) {
        return Err(error(&node.place, format!("a rule has at most {MAX_EXCEPTIONS} exceptions")));
    }
    let mut last = None;
    for node in nodes {
        let exception = read(node).and_then(|stated| {
            if exceptions.iter().any(|known| known.name == stated.name) {
                let message = format!("the rule has two exceptions `{}`", stated.name);
                problems.push(Problem::warning(code::EXCEPTION_NAME_NOT_UNIQUE, stated.place.clone(), message));
            }
            new(stated)
        });
        match exception {
            Ok(exception) => exceptions.push(exception),
            Err(problem) => problems.extend(last.replace(problem)),
        }
    }
    last.map_or(Ok(exceptions), Err)
}

fn new(stated: Stated) -> Result<Exception, Problem> {
    let Stated { name, place, fields, comps, values } = stated;
    let fields = fields.ok_or_else(|| error(&place, format!("the exception `{name}` has no `fields`")))?;
    match (&fields, &comps) {
        (Columns::Many(fields), Some(Columns::Many(comps))) if fields.len() == comps.len() => {}
        (Columns::One(_), Some(Columns::One(_))) | (_, None) => {}
        _ => return Err(error(&place, format!("the exception `{name}` needs one of `comps` for each of `fields`"))),
    }
    if let (Columns::One(_), Some(Columns::One(comp))) = (&fields, &comps)
        && !takes_list(comp.as_str())
    {
        let message = format!("`{}` does not take a list of values", comp.as_str());
        let problem = Problem::error(code::VALIDATE, comp.whole(), message);
        return Err(problem.help("with one field, use `in`, `pmatch`, `intersects`, or such as `startswith anyof`"));
    }
    Ok(Exception { name, place, fields, comps, values: values.unwrap_or_default() })
}

/// Adds the exceptions of an item to those of an earlier rule.
pub(super) fn append(
    exceptions: &mut Vec<Exception>,
    item: &Item<'_>,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    for node in item.list("exceptions")?.unwrap_or_default() {
        let stated = read(node)?;
        if exceptions.len() >= MAX_EXCEPTIONS {
            return Err(error(&stated.place, format!("a rule has at most {MAX_EXCEPTIONS} exceptions")));
        }
        let Some(values) = &stated.values else {
            let message = format!("the exception `{}` is appended without values", stated.name);
            problems.push(Problem::warning(code::APPEND_NO_VALUES, stated.place.clone(), message));
            if !exceptions.iter().any(|known| known.name == stated.name) {
                exceptions.push(new(stated)?);
            }
            continue;
        };
        match exceptions.iter_mut().find(|known| known.name == stated.name) {
            Some(_) if stated.fields.is_some() || stated.comps.is_some() => {
                return Err(error(&stated.place, "to an existing exception only `values` can be appended"));
            }
            Some(known) => known.values.extend(values.iter().cloned()),
            None => exceptions.push(new(stated)?),
        }
    }
    Ok(())
}

/// Whether an operator takes a list.
fn takes_list(comp: &str) -> bool {
    let mut words = comp.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("in" | "pmatch" | "intersects"), None, None) => true,
        (Some(op), Some(modifier), None) => {
            (op == "==" || Op::ALL.iter().any(|known| known.name() == op))
                && Modifier::ALL.iter().any(|known| known.name() == modifier)
        }
        _ => false,
    }
}

/// Checks that the fields of exceptions are fields, or transformers of fields; even of those without values.
pub(super) fn check_fields(exceptions: &[Exception]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for exception in exceptions {
        let fields = match &exception.fields {
            Columns::One(field) => std::slice::from_ref(field),
            Columns::Many(fields) => fields,
        };
        for field in fields {
            let mut operands = Operands { text: field, code: code::VALIDATE, problems: Vec::new() };
            match parse_operand(field.as_str(), 0) {
                Ok((operand, end)) if end == field.as_str().len() => drop(operands.side(&operand)),
                _ => problems.push(error(&field.whole(), "this is neither a field nor a transformer of fields")),
            }
            let errors = operands.problems.into_iter().filter(|problem| problem.severity == Severity::Error);
            problems.extend(errors);
        }
    }
    problems
}

/// A condition with exceptions: `(CONDITION) and not … and not …`.
pub(super) fn apply(condition: &Text, exceptions: &[Exception]) -> Result<Text, Problem> {
    if exceptions.is_empty() {
        return Ok(condition.clone());
    }
    let place = condition.whole();
    let mut text = Text::default();
    text.push_made("(", &place);
    text.push(condition);
    text.push_made(")", &place);
    for exception in exceptions.iter().filter(|exception| !exception.values.is_empty()) {
        exception.write(&mut text)?;
    }
    Ok(text)
}

/// Names of the exceptions that [`apply`] adds something for.
pub(super) fn applied(exceptions: &[Exception]) -> impl Iterator<Item = &str> {
    exceptions.iter().filter(|exception| !exception.values.is_empty()).map(|exception| exception.name.as_str())
}

impl Exception {
    fn write(&self, text: &mut Text) -> Result<(), Problem> {
        text.push_made(" and not (", &self.place);
        match &self.fields {
            Columns::One(field) => {
                text.push(field);
                text.push_made(" ", &self.place);
                match &self.comps {
                    Some(Columns::One(comp)) => text.push(comp),
                    _ => text.push_made("in", &self.place),
                }
                text.push_made(" ", &self.place);
                write_list(text, &self.values, &self.place)?;
            }
            Columns::Many(fields) => {
                for (i, row) in self.values.iter().enumerate() {
                    text.push_made(if i > 0 { " or (" } else { "(" }, &row.place);
                    self.write_row(text, fields, row)?;
                    text.push_made(")", &row.place);
                }
            }
        }
        text.push_made(")", &self.place);
        Ok(())
    }

    fn write_row(&self, text: &mut Text, fields: &[Text], row: &Node) -> Result<(), Problem> {
        let Kind::List(values) = &row.kind else {
            return Err(error(&row.place, "with several fields each of the values is a list"));
        };
        if values.len() != fields.len() {
            let message = format!("the exception has {} fields, but here are {} values", fields.len(), values.len());
            return Err(error(&row.place, message));
        }
        for (i, (field, value)) in fields.iter().zip(values).enumerate() {
            let comp = match &self.comps {
                Some(Columns::Many(comps)) => comps.get(i),
                _ => None,
            };
            if i > 0 {
                text.push_made(" and ", &row.place);
            }
            text.push(field);
            text.push_made(" ", &row.place);
            match comp {
                Some(comp) => text.push(comp),
                None => text.push_made("=", &row.place),
            }
            text.push_made(" ", &row.place);
            let list = comp.is_some_and(|comp| takes_list(comp.as_str()));
            match (&value.kind, value.scalar()) {
                (Kind::List(items), _) => write_list(text, items, &value.place)?,
                (_, Some(scalar)) if list && scalar.starts_with('(') => push_value(text, value, true)?,
                _ if list => write_list(text, std::slice::from_ref(value), &value.place)?,
                _ => push_value(text, value, false)?,
            }
        }
        Ok(())
    }
}

fn write_list(text: &mut Text, values: &[Node], place: &Place) -> Result<(), Problem> {
    text.push_made("(", place);
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            text.push_made(", ", place);
        }
        push_value(text, value, false)?;
    }
    text.push_made(")", place);
    Ok(())
}

/// Adds a value; in quotes, unless it is a word, is quoted already, or is to be taken as it is.
fn push_value(text: &mut Text, value: &Node, as_is: bool) -> Result<(), Problem> {
    let Some(written) = value.text() else {
        return Err(error(&value.place, format!("a value is a single value, but this is {}", value.kind_name())));
    };
    let scalar = written.as_str();
    let word = !scalar.is_empty() && scalar.bytes().all(is_bare);
    if as_is || word || scalar.starts_with(['"', '\'']) {
        text.push(&written);
    } else {
        let mut quoted = String::new();
        // A string's write cannot fail.
        let _ = write_quoted(&mut quoted, scalar.as_bytes());
        text.push_made(&quoted, &value.place);
    }
    Ok(())
}
