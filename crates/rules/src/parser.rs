//! Recursive descent over conditions.
//!
//! **Never:** a panic or unbounded recursion, whatever the text.

use tw_model::field::nearest;

use crate::ast::{Argument, Check, Expr, Modifier, Op, Operand, Right, Transformer, Word, is_blank};
use crate::diagnostic::{code, did_you_mean};
use crate::lexer::{Lexer, is_name_byte};
use crate::loader::Compat;
use crate::text::Span;

/// How deep parentheses, negations and transformers may be nested.
pub const MAX_DEPTH: usize = 100;

/// Why a text is not a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Where in the text.
    pub span: Span,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl ParseError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, code: code::CONDITION, message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

type Parsed<T> = Result<T, ParseError>;

/// Parses a condition.
///
/// # Errors
/// [`ParseError`] says what is wrong and where.
pub fn parse(text: &str) -> Parsed<Expr> {
    parse_as(text, Compat::Normal)
}

/// Parses a condition with Falco's quirks, or without.
///
/// # Errors
/// [`ParseError`] says what is wrong and where.
pub fn parse_as(text: &str, compat: Compat) -> Parsed<Expr> {
    let mut parser = Parser { lexer: Lexer::new(text, 0).compat(compat), depth: 0 };
    parser.lexer.blanks();
    if parser.lexer.peek().is_none() {
        return Err(ParseError::new(Span::new(0, text.len()), "the condition is empty"));
    }
    let expr = parser.or()?;
    parser.lexer.blanks();
    match parser.lexer.peek() {
        None => Ok(expr),
        Some(b')') => Err(parser.unexpected("there is a `)` too many")),
        Some(_) => Err(parser.no_connective("expected `and` or `or`", &expr)),
    }
}

/// Parses a field or transformer at the start of `text`; also tells where it ends.
///
/// # Errors
/// [`ParseError`] says what is wrong and where.
pub(crate) fn parse_operand(text: &str, at: usize) -> Parsed<(Operand, usize)> {
    let mut parser = Parser { lexer: Lexer::new(text, at), depth: 0 };
    let operand = parser.operand()?;
    match operand {
        Some(operand) => Ok((operand, parser.lexer.at())),
        None => Err(parser.unexpected("expected a field or a transformer")),
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn or(&mut self) -> Parsed<Expr> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Parsed<Expr> {
        self.chain("and", Self::not, Expr::And)
    }

    fn chain(
        &mut self,
        word: &str,
        term: fn(&mut Self) -> Parsed<Expr>,
        build: fn(Vec<Expr>, Span) -> Expr,
    ) -> Parsed<Expr> {
        let first = term(self)?;
        let mut terms = vec![first];
        loop {
            let before = self.lexer;
            self.lexer.blanks();
            let found = self.lexer.keyword(word);
            if !found || !matches!(self.lexer.peek(), Some(byte) if is_blank(byte) || byte == b'(') {
                let at_end = found && self.lexer.peek().is_none();
                if at_end {
                    return Err(self.unexpected(&format!("expected something behind `{word}`")));
                }
                self.lexer = before;
                break;
            }
            self.lexer.blanks();
            terms.push(term(self)?);
        }
        let (Some(first), Some(last)) = (terms.first(), terms.last()) else { return Err(self.unexpected("")) };
        let span = Span::new(first.span().start, last.span().end);
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { build(terms, span) })
    }

    fn not(&mut self) -> Parsed<Expr> {
        let start = self.lexer.at();
        let mut negated = false;
        loop {
            let before = self.lexer;
            let found = self.lexer.keyword("not");
            if !found || !matches!(self.lexer.peek(), Some(byte) if is_blank(byte) || byte == b'(') {
                self.lexer = before;
                break;
            }
            self.lexer.blanks();
            negated = !negated;
        }
        let term = self.primary()?;
        let span = Span::new(start, term.span().end);
        Ok(if negated { Expr::Not(Box::new(term), span) } else { term })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        if self.lexer.peek() == Some(b'(') {
            return self.nested(Self::group);
        }
        if let Some(left) = self.operand()? {
            return self.check(left);
        }
        let before = self.lexer;
        match self.lexer.identifier() {
            Some(("and" | "or" | "not" | "in" | "exists", _)) | None => {
                self.lexer = before;
                Err(self.unexpected("expected a field, a macro or `(`"))
            }
            Some((name, span)) => {
                if self.lexer.peek() == Some(b'(') {
                    return Err(unknown_transformer(name, span));
                }
                Ok(Expr::Macro(name.to_owned(), span))
            }
        }
    }

    fn group(&mut self) -> Parsed<Expr> {
        let open = self.lexer.at();
        self.lexer.symbol("(");
        self.lexer.blanks();
        let expr = self.or()?;
        self.lexer.blanks();
        if self.lexer.symbol(")") {
            return Ok(expr);
        }
        match self.lexer.peek() {
            None => Err(ParseError::new(Span::new(open, open + 1), "this `(` is not closed")),
            Some(_) => Err(self.no_connective("expected `and`, `or` or `)`", &expr)),
        }
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.unexpected(&format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// A field or a transformer; nothing is read if there is neither.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        if let Some((name, span)) = self.lexer.field_name() {
            let arg = self.arg()?;
            let span = Span::new(span.start, self.lexer.at());
            return Ok(Some(Operand::Field { name: name.to_owned(), arg, span }));
        }
        let before = self.lexer;
        if let Some((name, _)) = self.lexer.identifier()
            && self.lexer.peek() == Some(b'(')
            && let Some(name) = Transformer::from_name(name)
        {
            self.lexer = before;
            return self.nested(|parser| parser.call(name)).map(Some);
        }
        self.lexer = before;
        Ok(None)
    }

    fn call(&mut self, name: Transformer) -> Parsed<Operand> {
        let start = self.lexer.at();
        self.lexer.symbol(name.name());
        let args = self.arguments()?;
        let arg = self.arg()?;
        Ok(Operand::Call { name, args, arg, span: Span::new(start, self.lexer.at()) })
    }

    /// `(`, arguments, `)`.
    fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        let open = self.lexer.at();
        self.lexer.symbol("(");
        let mut args = Vec::new();
        self.lexer.blanks();
        if self.lexer.symbol(")") {
            return Ok(args);
        }
        loop {
            self.lexer.blanks();
            args.push(self.argument()?);
            self.lexer.blanks();
            if self.lexer.symbol(")") {
                return Ok(args);
            }
            if !self.lexer.symbol(",") {
                return Err(match self.lexer.peek() {
                    None => ParseError::new(Span::new(open, open + 1), "this `(` is not closed"),
                    Some(_) => self.unexpected("expected `,` or `)`"),
                });
            }
        }
    }

    fn argument(&mut self) -> Parsed<Argument> {
        if let Some(word) = self.lexer.quoted()? {
            return Ok(Argument::Text(word));
        }
        if self.lexer.peek() == Some(b'(') {
            let start = self.lexer.at();
            let items = self.nested(Self::arguments)?;
            return Ok(Argument::List(items, Span::new(start, self.lexer.at())));
        }
        if let Some((number, span)) = self.lexer.number() {
            return Ok(Argument::Number(number.to_owned(), span));
        }
        match self.operand()? {
            Some(operand) => Ok(Argument::Operand(operand)),
            None => Err(self.unexpected("expected a field, a transformer, a number, a list or a quoted text")),
        }
    }

    /// The text in brackets behind a name.
    fn arg(&mut self) -> Parsed<Option<String>> {
        let open = self.lexer.at();
        if !self.lexer.symbol("[") {
            return Ok(None);
        }
        let arg = match self.lexer.quoted()? {
            Some(word) => String::from_utf8(word.bytes)
                .map_err(|_| ParseError::new(word.span, "the text in brackets is not valid UTF-8"))?,
            None => match self.lexer.bare_arg() {
                Some(arg) => arg.to_owned(),
                None => return Err(self.unexpected("expected a name or number in the brackets")),
            },
        };
        if self.lexer.symbol("]") {
            return Ok(Some(arg));
        }
        match self.lexer.peek() {
            None => Err(ParseError::new(Span::new(open, open + 1), "this `[` is not closed")),
            Some(_) => Err(self.unexpected("expected `]`").help("put a text with blanks in quotes")),
        }
    }

    fn check(&mut self, left: Operand) -> Parsed<Expr> {
        self.lexer.blanks();
        let start = self.lexer.at();
        let op = self.op()?;
        let op_span = Span::new(start, self.lexer.at());
        let blank = self.lexer.blanks();
        let (modifier, right) = match op {
            Op::Exists => (None, Right::None),
            Op::Lt | Op::Le | Op::Gt | Op::Ge => (None, self.ordered()?),
            Op::In | Op::Intersects | Op::PMatch => (None, self.list(op.name())?),
            _ => match if blank { self.modifier() } else { None } {
                Some(modifier) => (Some(modifier), self.list(modifier.name())?),
                None => (None, self.single(op)?),
            },
        };
        // Blanks behind `exists` were read in vain; nobody minds.
        let end = if right == Right::None { op_span.end } else { self.lexer.at() };
        let span = Span::new(left.span().start, end);
        Ok(Expr::Check(Box::new(Check { left, op, op_span, modifier, right, span })))
    }

    fn op(&mut self) -> Parsed<Op> {
        if self.lexer.symbol("==") {
            return Ok(Op::Eq);
        }
        for op in Op::ALL.iter().copied() {
            let word = op.name().as_bytes()[0].is_ascii_alphabetic();
            if if word { self.lexer.keyword(op.name()) } else { self.lexer.symbol(op.name()) } {
                return Ok(op);
            }
        }
        let error = self.unexpected("expected an operator");
        let before = self.lexer;
        let word = self.lexer.identifier();
        self.lexer = before;
        Err(match word {
            Some((word, span)) if word != "and" && word != "or" => {
                let near = nearest(word, Op::ALL.iter().map(|op| op.name()));
                let error = ParseError::new(span, format!("there is no operator `{word}`"));
                match did_you_mean(&near) {
                    Some(help) => error.help(help),
                    None => error.help("a macro's name has no dots; a field needs an operator behind it"),
                }
            }
            _ => error.help("a field needs an operator behind it, such as `= true` or `exists`"),
        })
    }

    /// A modifier, if one is next and a list is behind it: else it is a literal.
    fn modifier(&mut self) -> Option<Modifier> {
        let before = self.lexer;
        for modifier in Modifier::ALL.iter().copied() {
            if !self.lexer.keyword(modifier.name()) {
                continue;
            }
            let blank = self.lexer.blanks();
            let behind = self.lexer;
            let list = self.lexer.peek() == Some(b'(')
                || (blank && self.lexer.identifier().is_some_and(|(name, _)| !matches!(name, "and" | "or" | "not")));
            self.lexer = behind;
            if list {
                return Some(modifier);
            }
            self.lexer = before;
        }
        None
    }

    /// `val(field)` or a transformer.
    fn computed(&mut self) -> Parsed<Option<Right>> {
        let before = self.lexer;
        if self.lexer.keyword("val") && self.lexer.symbol("(") {
            self.lexer.blanks();
            let Some(operand @ Operand::Field { .. }) = self.operand()? else {
                return Err(self.unexpected("expected a field in `val()`"));
            };
            self.lexer.blanks();
            if !self.lexer.symbol(")") {
                return Err(self.unexpected("expected `)`"));
            }
            return Ok(Some(Right::Value(operand)));
        }
        self.lexer = before;
        match self.lexer.identifier() {
            Some((name, span)) if self.lexer.peek() == Some(b'(') => {
                if Transformer::from_name(name).is_none() {
                    return Err(unknown_transformer(name, span));
                }
                self.lexer = before;
                Ok(self.operand()?.map(Right::Call))
            }
            _ => {
                self.lexer = before;
                Ok(None)
            }
        }
    }

    fn ordered(&mut self) -> Parsed<Right> {
        if let Some(right) = self.computed()? {
            return Ok(right);
        }
        match self.lexer.number() {
            Some((text, span)) => {
                let bytes = text.as_bytes().to_vec();
                match self.lexer.peek() {
                    Some(byte) if is_name_byte(byte) => Err(self.unexpected("this is not part of a number")),
                    _ => Ok(Right::Word(Word { bytes, quoted: false, span })),
                }
            }
            None => Err(self.unexpected("expected a number").help("to compare with a field, write `val(field)`")),
        }
    }

    fn single(&mut self, op: Op) -> Parsed<Right> {
        if let Some(right) = self.computed()? {
            return Ok(right);
        }
        match self.word()? {
            Some(word) => Ok(Right::Word(word)),
            None if self.lexer.peek() == Some(b'(') => Err(self
                .unexpected(&format!("`{}` takes one value", op.name()))
                .help(format!("write `in (…)`, or `{} anyof (…)`", op.name()))),
            None => Err(self.unexpected("expected a value")),
        }
    }

    fn list(&mut self, what: &str) -> Parsed<Right> {
        let start = self.lexer.at();
        if self.lexer.symbol("(") {
            let words = self.words(start)?;
            return Ok(Right::List(words, Span::new(start, self.lexer.at())));
        }
        if let Some(right) = self.computed()? {
            return Ok(right);
        }
        match self.lexer.identifier() {
            Some((name, span)) => Ok(Right::Name(Word { bytes: name.as_bytes().to_vec(), quoted: false, span })),
            None => Err(self.unexpected(&format!("expected a list behind `{what}`")).help("write it as `(a, b, c)`")),
        }
    }

    fn words(&mut self, open: usize) -> Parsed<Vec<Word>> {
        let mut words = Vec::new();
        self.lexer.blanks();
        if self.lexer.symbol(")") {
            return Ok(words);
        }
        loop {
            self.lexer.blanks();
            match self.word()? {
                Some(word) => words.push(word),
                None => return Err(self.unexpected("expected a value in the list")),
            }
            self.lexer.blanks();
            if self.lexer.symbol(")") {
                return Ok(words);
            }
            if !self.lexer.symbol(",") {
                return Err(match self.lexer.peek() {
                    None => ParseError::new(Span::new(open, open + 1), "this `(` is not closed"),
                    Some(_) => self.unexpected("expected `,` or `)`").help("put a value with blanks in quotes"),
                });
            }
        }
    }

    fn word(&mut self) -> Parsed<Option<Word>> {
        Ok(match self.lexer.quoted()? {
            Some(word) => Some(word),
            None => self.lexer.bare(),
        })
    }

    /// An error at the next word, which stands behind `before` and does not join it to anything.
    fn no_connective(&self, message: &str, before: &Expr) -> ParseError {
        let rest = self.lexer.rest();
        let begins = |word: &str| {
            rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
                && !rest.get(word.len()).is_some_and(|byte| is_name_byte(*byte))
        };
        let error = self.unexpected(message);
        match rest.first() {
            _ if rest.starts_with(b"&&") || begins("and") => error.help("it is written `and`"),
            _ if rest.starts_with(b"||") || begins("or") => error.help("it is written `or`"),
            Some(b'=' | b'!' | b'<' | b'>') if last_macro(before).is_some() => {
                let name = last_macro(before).unwrap_or_default();
                error.help(format!("`{name}` is read as a macro, which is not compared: a field's name has a dot"))
            }
            Some(byte @ (b'=' | b',' | b'"' | b'\'')) => {
                error.help(format!("a value with {} in it needs quotes", char::from(*byte)))
            }
            _ => error,
        }
    }

    /// An error at the next word.
    fn unexpected(&self, message: &str) -> ParseError {
        let mut lexer = self.lexer;
        let start = lexer.at();
        let end = match lexer.bare() {
            Some(word) => word.span.end,
            None => start + usize::from(lexer.peek().is_some()),
        };
        let message = if end == start { format!("{message}, but the text ends here") } else { message.to_owned() };
        ParseError::new(Span::new(start, end), message)
    }
}

/// The macro that a condition ends with.
fn last_macro(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::And(terms, _) | Expr::Or(terms, _) => terms.last().and_then(last_macro),
        Expr::Not(term, _) => last_macro(term),
        Expr::Macro(name, _) => Some(name),
        Expr::Check(_) => None,
    }
}

fn unknown_transformer(name: &str, span: Span) -> ParseError {
    let near = nearest(name, Transformer::ALL.iter().map(|transformer| transformer.name()));
    let error = ParseError::new(span, format!("there is no transformer `{name}`"));
    match did_you_mean(&near) {
        Some(help) => error.help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests;
