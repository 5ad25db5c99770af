//! Literals: lists are put in, texts become what the field's type needs.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use memchr::memmem::Finder;
use regex::bytes::RegexBuilder;
use tw_model::field::{Arg, is_field, nearest};

use super::{ALL_TOO_LARGE, Compiler, REGEX_WORK};
use crate::ast::{Op, Right, Transformer, Word};
use crate::diagnostic::{Problem, code};
use crate::extract::Extract;
use crate::loader::Compat;
use crate::path_set::PathSet;
use crate::predicate::{Pred, Set};
use crate::text::{Place, Span};
use tw_model::{FieldRef, FieldType, services};

/// How large a compiled regular expression may be, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// A literal with all names of lists resolved.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    /// What it means.
    pub bytes: Box<[u8]>,
    /// Where it stands; in a list, if it came from there.
    pub place: Place,
}

/// Where words stand.
fn check_span(words: &[Word]) -> Span {
    words.first().map(|word| word.span).unwrap_or_default()
}

/// A word that is nearly the name of a list.
pub(crate) fn misspelt_list(place: Place, word: &str, list: &str) -> Problem {
    let message = format!("`{word}` is taken as text, since there is no list of that name");
    let help = format!("did you mean the list `{list}`? If the text is meant, put it in quotes");
    Problem::warning(code::COMPILE_CONDITION, place, message).help(help)
}

impl Literal {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

impl Compiler<'_> {
    /// The literals of a right side. `None`: there is a problem more.
    pub(super) fn literals(&mut self, right: &Right) -> Option<Vec<Literal>> {
        let mut literals = Vec::new();
        match right {
            Right::Word(word) => {
                self.expand(word, &mut literals);
                if literals.len() != 1 {
                    let name = word.lossy();
                    let message = format!("the list `{name}` stands where one value is needed");
                    let problem = Problem::error(code::CONDITION, self.place(word.span), message);
                    self.problems.push(problem.help(format!("write `in ({name})`")));
                    return None;
                }
            }
            Right::Name(word) => {
                let name = word.lossy();
                if self.library.compat == Compat::Strict || !self.library.lists.contains_key(&*name) {
                    let near = self.library.near(&name, self.library.lists.keys());
                    let problem =
                        Problem::error(code::CONDITION, self.place(word.span), format!("there is no list `{name}`"));
                    let problem =
                        if near.is_empty() { problem.help(format!("write `({name})`")) } else { problem.near(&near) };
                    self.problems.push(problem);
                    return None;
                }
                self.expand(word, &mut literals);
            }
            Right::List(words, _) => {
                if !self.library.spend(words.len()) {
                    self.error_once(check_span(words), ALL_TOO_LARGE);
                    return None;
                }
                for word in words {
                    self.warn_of_misspelt_list(word);
                    self.expand(word, &mut literals);
                }
            }
            Right::None | Right::Value(_) | Right::Call(_) => {}
        }
        if let Some(bad) = literals.iter().find(|literal| literal.bytes.contains(&0)) {
            self.problems.push(Problem::error(code::CONDITION, bad.place.clone(), "a value cannot hold a NUL byte"));
            return None;
        }
        Some(literals)
    }

    /// Adds what `word` stands for.
    fn expand(&mut self, word: &Word, literals: &mut Vec<Literal>) {
        let list = match std::str::from_utf8(&word.bytes) {
            Ok(name) if !word.quoted && self.library.compat == Compat::Normal => self.library.lists.get(name),
            _ => None,
        };
        match list {
            Some(list) => {
                list.used.set(true);
                if list.broken {
                    self.error(code::VALIDATE, word.span, format!("the list `{}` has an error", word.lossy()));
                }
                if !self.library.spend(list.items.len()) {
                    self.error_once(word.span, ALL_TOO_LARGE);
                    return;
                }
                literals.extend(
                    list.items.iter().map(|(bytes, place)| Literal { bytes: bytes.clone(), place: place.clone() }),
                );
            }
            None => literals.push(Literal { bytes: word.bytes.as_slice().into(), place: self.place(word.span) }),
        }
    }

    fn warn_of_misspelt_list(&mut self, word: &Word) {
        let name = word.lossy();
        if !word.quoted
            && let Some(list) = self.library.misspelt_list(&name)
        {
            self.problems.push(misspelt_list(self.place(word.span), &name, list));
        }
    }

    /// Warns of a literal that was probably meant to be a field or transformer.
    pub(super) fn warn_of_lookalikes(&mut self, literals: &[Literal]) {
        for literal in literals {
            let text = literal.text();
            let call = text
                .split_once('(')
                .is_some_and(|(name, rest)| rest.ends_with(')') && Transformer::from_name(name).is_some());
            if call {
                let message = format!("`{text}` is compared as text, although it looks like a transformer");
                let problem = Problem::warning(code::COMPILE_CONDITION, literal.place.clone(), message);
                self.problems.push(problem.help("leave out the quotes"));
            } else if text.contains('.') && is_field(&text) {
                let message = format!("`{text}` is compared as text, although it is a field");
                let problem = Problem::warning(code::COMPILE_CONDITION, literal.place.clone(), message);
                self.problems.push(problem.help(format!("write `val({text})` for the field's value")));
            }
        }
    }

    /// Warns of numbers that are compared with a field that holds the names of numbers.
    pub(super) fn warn_of_numbers(&mut self, field: &FieldRef, literals: &[Literal]) {
        let better = match (field.field.name, &field.arg) {
            ("user.name", _) => "user.uid".to_owned(),
            ("user.loginname", _) => "user.loginuid".to_owned(),
            ("group.name", _) => "group.gid".to_owned(),
            ("evt.res", _) => "evt.rawres".to_owned(),
            ("evt.arg", Arg::Key(param)) if matches!(&**param, "cmd" | "domain" | "request" | "uid") => {
                format!("evt.rawarg.{param}")
            }
            _ => return,
        };
        let is_number = |literal: &&Literal| {
            let digits = literal.bytes.strip_prefix(b"-").unwrap_or(&literal.bytes);
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        };
        for literal in literals.iter().filter(is_number) {
            let message = format!("`{field}` is a name, but `{}` is a number", literal.text());
            let problem = Problem::warning(code::NUMBER_WITH_TEXT, literal.place.clone(), message);
            self.problems.push(problem.help(format!("the number is in `{better}`")));
        }
    }

    fn bad(&mut self, literal: &Literal, message: String, help: &str) {
        let problem = Problem::error(code::CONDITION, literal.place.clone(), message);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    /// The predicate `op` with literals; several only for operators on lists. `None`: there is a problem more.
    pub(super) fn predicate(&mut self, op: Op, ty: FieldType, literals: &[Literal], span: Span) -> Option<Pred> {
        match ty {
            FieldType::Bool => self.bool_predicate(literals),
            FieldType::Ip => {
                let addresses = self.all(literals, Self::address)?;
                Some(Pred::Addresses(addresses.into()))
            }
            FieldType::Net => {
                let networks = self.all(literals, Self::network)?;
                Some(Pred::Networks(networks.into()))
            }
            FieldType::Int | FieldType::Uint | FieldType::Port | FieldType::Time | FieldType::Duration => {
                let mut numbers = Vec::with_capacity(literals.len());
                for literal in literals {
                    numbers.push(self.number(literal, ty, op));
                }
                let numbers: Vec<i128> = numbers.into_iter().collect::<Option<_>>()?;
                Some(match (op, numbers.as_slice()) {
                    (Op::In | Op::Intersects, _) => Pred::Numbers(numbers.into_iter().collect()),
                    (_, [number]) => Pred::Number(op, *number),
                    _ => return self.wrong_count(op, span),
                })
            }
            FieldType::TextList => {
                let set: Set<Box<[u8]>> = literals.iter().map(|literal| literal.bytes.clone()).collect();
                Some(if op == Op::In { Pred::EachIn(set) } else { Pred::SomeIn(set) })
            }
            FieldType::Text | FieldType::Path | FieldType::Bytes => self.text_predicate(op, literals, span),
        }
    }

    fn wrong_count(&mut self, op: Op, span: Span) -> Option<Pred> {
        self.error(code::CONDITION, span, format!("`{}` takes one value", op.name()));
        None
    }

    fn all<T>(&mut self, literals: &[Literal], read: fn(&mut Self, &Literal) -> Option<T>) -> Option<Vec<T>> {
        let values: Vec<Option<T>> = literals.iter().map(|literal| read(self, literal)).collect();
        values.into_iter().collect()
    }

    fn bool_predicate(&mut self, literals: &[Literal]) -> Option<Pred> {
        let read = |this: &mut Self, literal: &Literal| match &*literal.bytes {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => {
                this.bad(literal, format!("`{}` is neither `true` nor `false`", literal.text()), "");
                None
            }
        };
        let values = self.all(literals, read)?;
        let preds: Vec<Pred> = values.iter().map(|value| Pred::Bool(*value)).collect();
        Some(match values.as_slice() {
            [value] => Pred::Bool(*value),
            _ => Pred::Many(crate::ast::Modifier::AnyOf, preds.into_iter().map(Arc::new).collect(), false),
        })
    }

    fn number(&mut self, literal: &Literal, ty: FieldType, op: Op) -> Option<i128> {
        let text = literal.text();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            // Falco reads hexadecimal numbers and then cannot use them.
            Some(_) if self.library.compat == Compat::Strict => None,
            Some(hex) if digits.len() == text.len() && !hex.starts_with(['+', '-']) => {
                i128::from_str_radix(hex, 16).ok()
            }
            _ => text.parse::<i128>().ok(),
        };
        let limits = match ty {
            FieldType::Uint => 0..=i128::from(u64::MAX),
            FieldType::Port => 0..=i128::from(u16::MAX),
            _ => i128::from(i64::MIN)..=i128::from(i64::MAX),
        };
        match value {
            Some(value) if limits.contains(&value) => Some(value),
            Some(_) => {
                self.bad(literal, format!("`{text}` is outside of what the type {} can hold", ty.name()), "");
                None
            }
            None if ty == FieldType::Port && matches!(op, Op::Eq | Op::In | Op::Intersects) => {
                let port = services::port(&text);
                if port.is_none() {
                    let near = nearest(&text, services::names());
                    let message = format!("`{text}` is neither a port number nor a known service");
                    let problem = Problem::error(code::CONDITION, literal.place.clone(), message).near(&near);
                    self.problems.push(problem);
                }
                port.map(i128::from)
            }
            None => {
                self.bad(literal, format!("`{text}` is not a whole number"), "");
                None
            }
        }
    }

    fn address(&mut self, literal: &Literal) -> Option<IpAddr> {
        let text = literal.text();
        let address = text.parse::<IpAddr>().ok();
        if address.is_none() {
            let help = if text.contains('/') { "compare networks with `fd.net`, `fd.snet` and their like" } else { "" };
            self.bad(literal, format!("`{text}` is not an IPv4 or IPv6 address"), help);
        }
        address.map(|address| address.to_canonical())
    }

    fn network(&mut self, literal: &Literal) -> Option<IpNet> {
        let text = literal.text();
        let network = text.parse::<IpNet>().ok();
        if network.is_none() {
            self.bad(literal, format!("`{text}` is not a network"), "write it as ADDRESS/BITS, such as `10.0.0.0/8`");
        }
        network
    }

    fn text_predicate(&mut self, op: Op, literals: &[Literal], span: Span) -> Option<Pred> {
        match op {
            Op::In | Op::Intersects => {
                return Some(Pred::OneOf(literals.iter().map(|literal| literal.bytes.clone()).collect()));
            }
            Op::PMatch => {
                return Some(Pred::Below(Box::new(PathSet::new(literals.iter().map(|literal| &*literal.bytes)))));
            }
            _ => {}
        }
        let [literal] = literals else { return self.wrong_count(op, span) };
        let bytes = literal.bytes.clone();
        Some(match op {
            Op::Contains => Pred::Contains(Box::new(Finder::new(&*bytes).into_owned())),
            Op::IContains => Pred::ContainsNoCase(bytes.to_ascii_lowercase().into()),
            Op::BContains => Pred::Contains(Box::new(Finder::new(&self.hex(literal)?).into_owned())),
            Op::StartsWith => Pred::StartsWith(bytes),
            Op::BStartsWith => Pred::StartsWith(self.hex(literal)?.into()),
            Op::EndsWith => Pred::EndsWith(bytes),
            Op::Glob => Pred::Glob(bytes, false),
            Op::IGlob => Pred::Glob(bytes, true),
            Op::Regex => return self.regex(literal),
            Op::Lt | Op::Le | Op::Gt | Op::Ge => {
                let message = format!("`{}` compares texts byte by byte here, not numbers", op.name());
                let problem = Problem::warning(code::NUMBER_WITH_TEXT, literal.place.clone(), message);
                self.problems
                    .push(problem.help("use a field that holds a number, such as `evt.rawarg.NAME`, or `len()`"));
                Pred::Other(op, Box::new(Extract::Text(bytes)))
            }
            _ => Pred::Equals(bytes),
        })
    }

    fn hex(&mut self, literal: &Literal) -> Option<Vec<u8>> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes: Option<Vec<u8>> = literal
            .bytes
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
                _ => None,
            })
            .collect();
        if bytes.is_none() {
            self.bad(literal, format!("`{}` is not a row of bytes in hexadecimal", literal.text()), "such as `cafe00`");
        }
        bytes
    }

    fn regex(&mut self, literal: &Literal) -> Option<Pred> {
        let pattern = literal.text();
        let inner = pattern.trim_start_matches(".*").trim_end_matches(".*");
        if !inner.is_empty() && !inner.contains(['.', '*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '^', '$', '\\'])
        {
            let message = "this regular expression holds only plain text";
            let problem = Problem::warning(code::COMPILE_CONDITION, literal.place.clone(), message);
            self.problems.push(problem.help("`=`, `startswith`, `endswith` and `contains` are faster"));
        }
        let build =
            |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build();
        // On its own first: `a)|(b` must not break out of the group that anchors it.
        let known = self.library.regexes.borrow().get(&*pattern).cloned();
        let regex = match known {
            Some(regex) => Ok(regex),
            None if !self.library.spend(REGEX_WORK + pattern.len()) => {
                self.bad(literal, ALL_TOO_LARGE.to_owned(), "");
                return None;
            }
            None => build(&pattern).and_then(|_| build(&format!(r"\A(?:{pattern})\z"))),
        };
        match regex {
            Ok(regex) => {
                self.library.regexes.borrow_mut().entry(pattern.into_owned()).or_insert_with(|| regex.clone());
                Some(Pred::Regex(Box::new(regex)))
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.bad(literal, format!("not a usable regular expression: {reason}"), "");
                None
            }
        }
    }
}
