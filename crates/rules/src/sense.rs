//! Conditions as formulas over atoms, to find those that make no sense: never true, always true, or covered by an
//! earlier rule. Macros are unfolded, lists put in, negations pushed down to the atoms.
//!
//! **Never:** a wrong claim. What is not understood is an atom of its own; what is too large is not looked at.

use std::collections::{BTreeSet, HashMap};

use tw_model::event::{EVENTS, EventInfo, Shape, is_known_type};
use tw_model::field::{Arg, Multi};
use tw_model::{EventKind, FieldRef, FieldType, services};

use crate::ast::{Argument, Check, Expr, Modifier, Op, Operand, Right, Transformer, Word};
use crate::compile::Library;
use crate::loader::Compat;
use crate::text::{Place, Span, Text};

mod solver;

pub(crate) use solver::{Solver, Verdict};

/// Formulas with more atoms are not looked at.
const MAX_ATOMS: usize = 5000;
/// Values and comparisons of all formulas together.
const MAX_WORK: usize = 1_000_000;
/// How deep macros are followed.
const MAX_DEPTH: usize = 100;

/// A condition in which only atoms are negated.
#[derive(Debug)]
pub(crate) enum Form {
    Const(bool),
    Atom(Literal),
    And(Vec<Form>),
    Or(Vec<Form>),
}

/// An atom or its negation.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    /// Which atom.
    atom: u32,
    /// False: it does not hold. A value that is null makes that true.
    positive: bool,
    /// Where it stands.
    place: Place,
}

/// What an atom says of its operand. For all but `Missing` operands that are null it is false.
#[derive(Debug, PartialEq, Eq, Hash, Clone)]
enum Test {
    Exists,
    /// It is one of these values.
    Values(BTreeSet<Vec<u8>>),
    /// It is there and none of these values.
    Differs(BTreeSet<Vec<u8>>),
    /// It stands in this order to a number.
    Order(Op, i128),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Contains(Vec<u8>),
    /// Something else.
    Other(String),
}

#[derive(Debug)]
struct Atom {
    operand: u32,
    test: Test,
    /// As written.
    shown: String,
}

#[derive(Debug)]
struct OperandInfo {
    /// It has one value, or none.
    single: bool,
    /// It is never null.
    total: bool,
    has_source: bool,
    ty: FieldType,
    /// The field, if it is one without an argument.
    field: Option<&'static str>,
    /// The atom that the event is of a type which has it at all.
    types: Option<u32>,
}

/// Why a part of a condition is constant.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    /// What is never true.
    pub message: String,
    /// Where it stands.
    pub place: Place,
}

/// A condition as a formula.
#[derive(Debug)]
pub(crate) struct Formula {
    pub form: Form,
    /// The first part that is never true on its own.
    pub never: Option<Reason>,
    /// How many atoms there are.
    pub size: usize,
}

/// Turns conditions into formulas over common atoms.
pub(crate) struct Sense<'l> {
    library: &'l Library,
    operands: Vec<OperandInfo>,
    operand_names: HashMap<String, u32>,
    atoms: Vec<Atom>,
    atom_numbers: HashMap<(u32, Test), u32>,
    /// Values looked at so far.
    work: usize,
}

/// The walk over one condition.
struct Walk {
    never: Option<Reason>,
    size: usize,
    depth: usize,
}

/// Fields that every event has.
fn is_total(name: &str, arg: &Arg) -> bool {
    let always = [
        "evt.num",
        "evt.type",
        "syscall.type",
        "evt.category",
        "evt.cpu",
        "evt.dir",
        "evt.source",
        "evt.args",
        "evt.info",
        "evt.failed",
        "evt.count",
        "container.id",
        "container.full_id",
        "proc.args",
        "proc.cmdline",
        "proc.exe",
        "proc.exeline",
        "proc.exepath",
        "proc.name",
        "proc.pgid",
        "proc.pid",
        "proc.sid",
        "proc.tty",
        "thread.ismain",
        "thread.tid",
    ];
    let families =
        ["evt.is_async", "evt.is_io", "evt.time", "evt.rawtime", "proc.is_exe_", "thread.cap_", "user.", "group."];
    *arg == Arg::None && (always.contains(&name) || families.iter().any(|family| name.starts_with(family)))
}

impl<'l> Sense<'l> {
    /// A sense for conditions that name what is in `library`.
    pub fn new(library: &'l Library) -> Self {
        Self {
            library,
            operands: Vec::new(),
            operand_names: HashMap::new(),
            atoms: Vec::new(),
            atom_numbers: HashMap::new(),
            work: 0,
        }
    }

    /// The formula of a condition written in `text`; `None` if it is too large or not in order.
    pub fn formula(&mut self, ast: &Expr, text: &Text) -> Option<Formula> {
        let mut walk = Walk { never: None, size: 0, depth: 0 };
        let form = self.form(ast, text, true, &mut walk)?;
        Some(Formula { form, never: walk.never, size: walk.size })
    }

    /// The negation of a condition.
    pub fn negation(&mut self, ast: &Expr, text: &Text) -> Option<Form> {
        self.form(ast, text, false, &mut Walk { never: None, size: 0, depth: 0 })
    }

    fn form(&mut self, expr: &Expr, text: &Text, positive: bool, walk: &mut Walk) -> Option<Form> {
        if walk.depth > MAX_DEPTH {
            return None;
        }
        walk.depth += 1;
        let form = match expr {
            Expr::Not(term, _) => self.form(term, text, !positive, walk)?,
            Expr::Macro(name, _) => {
                let definition = self.library.macros.get(name)?;
                self.form(definition.expr.as_ref()?, &definition.text, positive, walk)?
            }
            Expr::And(terms, _) | Expr::Or(terms, _) => {
                let terms: Vec<Form> =
                    terms.iter().map(|term| self.form(term, text, positive, walk)).collect::<Option<_>>()?;
                join(terms, matches!(expr, Expr::And(..)) == positive)
            }
            Expr::Check(check) => {
                walk.size += 1;
                if walk.size > MAX_ATOMS {
                    return None;
                }
                let place = text.place(check.span);
                match self.atom(check)? {
                    Ok((atom, holds)) => {
                        let literal = Literal { atom, positive: positive == holds, place };
                        let info =
                            self.atoms.get(atom as usize).and_then(|atom| self.operands.get(atom.operand as usize));
                        match info.and_then(|info| info.types).filter(|_| literal.positive) {
                            // What is not null tells the type of the event.
                            Some(types) => {
                                let of_type = Literal { atom: types, positive: true, place: literal.place.clone() };
                                Form::And(vec![Form::Atom(literal), Form::Atom(of_type)])
                            }
                            None => Form::Atom(literal),
                        }
                    }
                    Err((value, why)) => {
                        if value != positive && walk.never.is_none() {
                            let message =
                                format!("`{check}` is {}: {why}", if positive { "never true" } else { "always true" });
                            walk.never = Some(Reason { message, place });
                        }
                        Form::Const(value == positive)
                    }
                }
            }
        };
        walk.depth -= 1;
        Some(form)
    }

    fn operand(&mut self, operand: &Operand) -> Option<u32> {
        // Both are the same field.
        let name = Some(operand.to_string()).filter(|name| name != "syscall.type").unwrap_or("evt.type".to_owned());
        if let Some(known) = self.operand_names.get(&name) {
            return Some(*known);
        }
        let info = match operand {
            Operand::Field { name, arg, .. } => {
                let field = FieldRef::resolve(name, arg.as_deref()).ok()?;
                let types = types_with(&field).and_then(|types| self.type_atom(types, &field));
                OperandInfo {
                    types,
                    single: field.field.multi == Multi::Single && field.ty() != FieldType::TextList,
                    total: is_total(field.field.name, &field.arg),
                    has_source: field.has_source(),
                    ty: field.ty(),
                    field: (field.arg == Arg::None).then_some(field.field.name),
                }
            }
            Operand::Call { name, .. } => {
                let ty = match name {
                    Transformer::Len => FieldType::Uint,
                    _ if is_list(operand) => FieldType::TextList,
                    _ => FieldType::Text,
                };
                OperandInfo {
                    single: ty != FieldType::TextList,
                    total: false,
                    has_source: true,
                    ty,
                    field: None,
                    types: None,
                }
            }
        };
        let number = u32::try_from(self.operands.len()).ok()?;
        self.operands.push(info);
        self.operand_names.insert(name, number);
        Some(number)
    }

    /// The atom that the event is of one of these types, which alone have the field.
    fn type_atom(&mut self, types: BTreeSet<Vec<u8>>, field: &FieldRef) -> Option<u32> {
        let operand = self.operand(&Operand::Field { name: "evt.type".into(), arg: None, span: Span::default() })?;
        let key = (operand, Test::Values(types));
        if let Some(known) = self.atom_numbers.get(&key) {
            return Some(*known);
        }
        let number = u32::try_from(self.atoms.len()).ok()?;
        let shown = format!("an event that has {field}");
        self.atoms.push(Atom { operand, test: key.1.clone(), shown });
        self.atom_numbers.insert(key, number);
        Some(number)
    }

    /// The atom of a comparison and whether it must hold; or the constant that the comparison is, and why.
    fn atom(&mut self, check: &Check) -> Option<Result<(u32, bool), (bool, String)>> {
        let operand = self.operand(&check.left)?;
        let info = self.operands.get(operand as usize)?;
        if !info.has_source {
            return Some(Err((false, format!("nothing supplies `{}` yet", check.left))));
        }
        if info.total && check.op == Op::Exists {
            return Some(Err((true, format!("every event has `{}`", check.left))));
        }
        let words = self.words(&check.right);
        self.work += 1 + words.as_ref().map_or(0, Vec::len);
        if self.work > MAX_WORK {
            return None;
        }
        let info = self.operands.get(operand as usize)?;
        let empty = words.as_ref().is_some_and(Vec::is_empty);
        if empty && matches!(check.op, Op::In | Op::Intersects | Op::PMatch) && info.ty != FieldType::TextList
            || empty && check.modifier.is_some()
        {
            return Some(Err((false, "the list is empty".to_owned())));
        }
        let is_type = matches!(info.field, Some("evt.type" | "syscall.type"));
        let (test, positive) = match words.and_then(|words| test(check, info, &words)) {
            Some(Test::Values(values)) if is_type => {
                let (known, all) =
                    (values.iter().filter_map(|name| kind_name(name)).collect::<BTreeSet<_>>(), values.len());
                if known.is_empty() && all > 0 {
                    return Some(Err((false, "nothing supplies such events yet".to_owned())));
                }
                (Test::Values(known), true)
            }
            Some(Test::Differs(values)) if info.total => {
                let values = if is_type { values.iter().filter_map(|name| kind_name(name)).collect() } else { values };
                (Test::Values(values), false)
            }
            Some(test) => (test, true),
            None => (Test::Other(check.to_string()), true),
        };
        if info.field == Some("evt.num")
            && let Some(value) = solver::always(&test)
        {
            return Some(Err((value == positive, "events are counted from 1".to_owned())));
        }
        if info.field == Some("evt.dir")
            && let Test::Values(values) = &test
            && values.contains(b"<".as_slice()) != positive
        {
            return Some(Err((false, "only exits of calls are seen, whose direction is `<`".to_owned())));
        }
        let key = (operand, test);
        if let Some(known) = self.atom_numbers.get(&key) {
            return Some(Ok((*known, positive)));
        }
        let number = u32::try_from(self.atoms.len()).ok()?;
        self.atoms.push(Atom { operand, test: key.1.clone(), shown: check.to_string() });
        self.atom_numbers.insert(key, number);
        Some(Ok((number, positive)))
    }

    /// The literals of a right side with lists put in; `None` if it has none.
    fn words(&self, right: &Right) -> Option<Vec<Vec<u8>>> {
        let words = match right {
            Right::List(words, _) => words.as_slice(),
            Right::Word(word) | Right::Name(word) => std::slice::from_ref(word),
            Right::None => &[],
            Right::Value(_) | Right::Call(_) => return None,
        };
        let mut values = Vec::with_capacity(words.len());
        for word in words {
            match self.list(word) {
                // More than that is known already to be too much.
                Some(_) if self.work > MAX_WORK => {}
                Some(list) => values.extend(list.items.iter().map(|(bytes, _)| bytes.to_vec())),
                None => values.push(word.bytes.clone()),
            }
        }
        Some(values)
    }

    fn list(&self, word: &Word) -> Option<&'l crate::compile::List> {
        if word.quoted || self.library.compat == Compat::Strict {
            return None;
        }
        self.library.lists.get(std::str::from_utf8(&word.bytes).ok()?)
    }
}

/// The names of the types of events that can have a field; `None` if any can, or if that is not known.
fn types_with(field: &FieldRef) -> Option<BTreeSet<Vec<u8>>> {
    let name = field.field.name;
    let has: &dyn Fn(&EventInfo) -> bool = match &field.arg {
        Arg::Key(param) if matches!(name, "evt.arg" | "evt.rawarg") => &|info| info.params.contains(&&**param),
        _ if name.starts_with("fd.") => &|info| matches!(info.shape, Shape::File | Shape::Sock),
        _ if name.starts_with("fs.path.") => &|info| info.shape == Shape::File,
        _ if name.starts_with("dns.") => &|info| info.kind == EventKind::Dns,
        _ if name.starts_with("flow.") => &|info| info.kind == EventKind::Flow,
        _ if name.starts_with("net.") && field.has_source() => &|info| info.kind == EventKind::Write,
        _ if name.starts_with("resource.") => &|info| info.shape == Shape::Resource,
        _ if name.starts_with("evt.is_open_") => &|info| info.name == "creat" || info.name.starts_with("open"),
        _ => return None,
    };
    Some(EVENTS.iter().filter(|info| has(info)).map(|info| info.name.as_bytes().to_vec()).collect())
}

/// Whether a field or transformer gives a list.
fn is_list(operand: &Operand) -> bool {
    match operand {
        Operand::Field { name, arg, .. } => {
            FieldRef::resolve(name, arg.as_deref()).is_ok_and(|field| field.ty() == FieldType::TextList)
        }
        Operand::Call { name: Transformer::Getopt, arg, .. } => arg.is_none(),
        Operand::Call { name: Transformer::ToLower | Transformer::ToUpper, args, .. } => match args.first() {
            Some(Argument::List(..)) => true,
            Some(Argument::Operand(inner)) => is_list(inner),
            _ => false,
        },
        Operand::Call { .. } => false,
    }
}

/// The name under which events of a type are delivered.
fn kind_name(name: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(name).ok()?;
    is_known_type(name).then(|| EventKind::from_name(name)).flatten().map(|kind| kind.name().as_bytes().to_vec())
}

/// A literal in the one form that equal values have.
fn normal(value: &[u8], ty: FieldType) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok();
    match ty {
        FieldType::Text | FieldType::Path | FieldType::Bytes | FieldType::Bool => Some(value.to_vec()),
        FieldType::Ip => {
            let address: std::net::IpAddr = text?.parse().ok()?;
            Some(address.to_canonical().to_string().into_bytes())
        }
        FieldType::Int | FieldType::Uint | FieldType::Port | FieldType::Time | FieldType::Duration => {
            let port = || (ty == FieldType::Port).then(|| services::port(text?)).flatten().map(i128::from);
            number(value).or_else(port).map(|number| number.to_string().into_bytes())
        }
        FieldType::Net | FieldType::TextList => None,
    }
}

fn number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What a comparison with these literals says; `None` if it is none of those that are understood.
fn test(check: &Check, info: &OperandInfo, words: &[Vec<u8>]) -> Option<Test> {
    let values = || words.iter().map(|word| normal(word, info.ty)).collect::<Option<BTreeSet<_>>>();
    let text = || if info.ty.is_text() { words.first().cloned() } else { None };
    match (check.op, check.modifier) {
        (Op::Exists, _) => Some(Test::Exists),
        _ if !info.single => None,
        (Op::Eq, None | Some(Modifier::AnyOf)) | (Op::In | Op::Intersects, _) => values().map(Test::Values),
        (Op::Ne, None | Some(Modifier::AllOf)) => values().map(Test::Differs),
        (_, Some(_)) => None,
        (op @ (Op::Lt | Op::Le | Op::Gt | Op::Ge), None) if info.ty.is_numeric() => {
            words.first().and_then(|word| number(word)).map(|number| Test::Order(op, number))
        }
        (Op::StartsWith, None) => text().map(Test::Prefix),
        (Op::EndsWith, None) => text().map(Test::Suffix),
        (Op::Contains, None) => text().map(Test::Contains),
        _ => None,
    }
}

/// Terms joined by `and` or `or`, with constants taken out.
fn join(terms: Vec<Form>, and: bool) -> Form {
    let mut kept = Vec::with_capacity(terms.len());
    for term in terms {
        match term {
            Form::Const(value) if value == and => {}
            Form::Const(value) => return Form::Const(value),
            Form::And(inner) if and => kept.extend(inner),
            Form::Or(inner) if !and => kept.extend(inner),
            other => kept.push(other),
        }
    }
    match kept.len() {
        0 => Form::Const(and),
        1 => kept.swap_remove(0),
        _ if and => Form::And(kept),
        _ => Form::Or(kept),
    }
}

impl Form {
    /// A text that equal conditions share, whatever the order of their terms.
    pub fn canon(&self) -> String {
        let joined = |terms: &[Self], sign: char| {
            let terms: BTreeSet<String> = terms.iter().map(Self::canon).collect();
            format!("({}{sign})", terms.into_iter().collect::<Vec<_>>().join(","))
        };
        match self {
            Self::Const(value) => value.to_string(),
            Self::Atom(literal) => format!("{}{}", if literal.positive { "" } else { "-" }, literal.atom),
            Self::And(terms) => joined(terms, '&'),
            Self::Or(terms) => joined(terms, '|'),
        }
    }
}
