//! Conditions as written: macros and list names are still names, every node knows its span.
//!
//! [`std::fmt::Display`] prints a condition that parses to the same tree.

use std::fmt;

use crate::text::Span;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// All terms hold.
    And(Vec<Expr>, Span),
    /// A term holds.
    Or(Vec<Expr>, Span),
    /// The term does not hold.
    Not(Box<Expr>, Span),
    /// The macro of this name holds.
    Macro(String, Span),
    /// A comparison holds.
    Check(Box<Check>),
}

impl Expr {
    /// Where it stands in its text.
    pub fn span(&self) -> Span {
        match self {
            Self::And(_, span) | Self::Or(_, span) | Self::Not(_, span) | Self::Macro(_, span) => *span,
            Self::Check(check) => check.span,
        }
    }
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Left side.
    pub left: Operand,
    /// Operator.
    pub op: Op,
    /// Where the operator stands.
    pub op_span: Span,
    /// How a list on the right is to be understood.
    pub modifier: Option<Modifier>,
    /// Right side.
    pub right: Right,
    /// All of it.
    pub span: Span,
}

/// A field, or a transformer of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A field.
    Field {
        /// Name, with dots.
        name: String,
        /// Text in brackets.
        arg: Option<String>,
        /// All of it.
        span: Span,
    },
    /// A transformer.
    Call {
        /// Which.
        name: Transformer,
        /// What it is called on.
        args: Vec<Argument>,
        /// Text in brackets behind it.
        arg: Option<String>,
        /// All of it.
        span: Span,
    },
}

impl Operand {
    /// Where it stands in its text.
    pub fn span(&self) -> Span {
        match self {
            Self::Field { span, .. } | Self::Call { span, .. } => *span,
        }
    }
}

/// An argument of a transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A number as written.
    Number(String, Span),
    /// A text.
    Text(Word),
    /// A list.
    List(Vec<Argument>, Span),
    /// A field or another transformer.
    Operand(Operand),
}

impl Argument {
    /// Where it stands in its text.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(_, span) | Self::List(_, span) => *span,
            Self::Text(word) => word.span,
            Self::Operand(operand) => operand.span(),
        }
    }
}

/// Right side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing (`exists`).
    None,
    /// One literal.
    Word(Word),
    /// Literals, and names of lists.
    List(Vec<Word>, Span),
    /// The name of a list without parentheses.
    Name(Word),
    /// `val(field)`.
    Value(Operand),
    /// A transformer.
    Call(Operand),
}

/// A literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it means.
    pub bytes: Vec<u8>,
    /// It was quoted: never the name of a list.
    pub quoted: bool,
    /// Where it stands in its text.
    pub span: Span,
}

impl Word {
    /// For messages.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* #[doc = concat!("`", $text, "`")] $variant,)* }

        impl $name {
            /// All of them, those first that others begin with.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As written in conditions.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

names! {
    /// An operator.
    Op {
        Exists "exists",
        Le "<=",
        Lt "<",
        Ge ">=",
        Gt ">",
        /// `==` is read, too.
        Eq "=",
        Ne "!=",
        Glob "glob",
        IGlob "iglob",
        Contains "contains",
        IContains "icontains",
        BContains "bcontains",
        StartsWith "startswith",
        BStartsWith "bstartswith",
        EndsWith "endswith",
        Regex "regex",
        Intersects "intersects",
        In "in",
        PMatch "pmatch",
    }
}

names! {
    /// How a comparison with a list is to be understood.
    Modifier {
        OneOf "oneof",
        AnyOf "anyof",
        AllOf "allof",
    }
}

names! {
    /// A function of values.
    Transformer {
        ToLower "tolower",
        ToUpper "toupper",
        /// Decodes base64.
        B64 "b64",
        Basename "basename",
        Len "len",
        Join "join",
        Concat "concat",
        Getopt "getopt",
    }
}

impl Transformer {
    /// The transformer of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|transformer| transformer.name() == name)
    }
}

/// Whether a byte may stand in a literal without quotes.
pub(crate) fn is_bare(byte: u8) -> bool {
    !matches!(byte, b'(' | b')' | b'"' | b'\'' | b'=' | b',') && !is_blank(byte)
}

/// Whether a byte is a blank of the condition language.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x08)
}

/// Writes a text in quotes so that it reads the same.
pub(crate) fn write_quoted(f: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    f.write_char('"')
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !self.quoted && !text.is_empty() && text.bytes().all(is_bare) => f.write_str(text),
            _ => write_quoted(f, &self.bytes),
        }
    }
}

fn write_arg(f: &mut fmt::Formatter<'_>, arg: Option<&str>) -> fmt::Result {
    let Some(arg) = arg else { return Ok(()) };
    let plain = |byte: u8| !is_blank(byte) && !matches!(byte, b'[' | b']' | b'"' | b'\'');
    if !arg.is_empty() && arg.bytes().all(plain) {
        write!(f, "[{arg}]")
    } else {
        f.write_str("[")?;
        write_quoted(f, arg.as_bytes())?;
        f.write_str("]")
    }
}

fn write_joined<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { name, arg, .. } => {
                f.write_str(name)?;
                write_arg(f, arg.as_deref())
            }
            Self::Call { name, args, arg, .. } => {
                write!(f, "{}(", name.name())?;
                write_joined(f, args)?;
                f.write_str(")")?;
                write_arg(f, arg.as_deref())
            }
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text, _) => f.write_str(text),
            Self::Text(word) => write_quoted(f, &word.bytes),
            Self::List(items, _) => {
                f.write_str("(")?;
                write_joined(f, items)?;
                f.write_str(")")
            }
            Self::Operand(operand) => operand.fmt(f),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.left, self.op.name())?;
        if let Some(modifier) = self.modifier {
            write!(f, " {}", modifier.name())?;
        }
        match &self.right {
            Right::None => Ok(()),
            Right::Word(word) | Right::Name(word) => write!(f, " {word}"),
            Right::List(words, _) => {
                f.write_str(" (")?;
                write_joined(f, words)?;
                f.write_str(")")
            }
            Right::Value(operand) => write!(f, " val({operand})"),
            Right::Call(operand) => write!(f, " {operand}"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (terms, word) = match self {
            Self::Macro(name, _) => return f.write_str(name),
            Self::Check(check) => return check.fmt(f),
            Self::Not(term, _) => match **term {
                Self::Macro(..) | Self::Check(_) => return write!(f, "not {term}"),
                _ => return write!(f, "not ({term})"),
            },
            Self::And(terms, _) => (terms, " and "),
            Self::Or(terms, _) => (terms, " or "),
        };
        for (i, term) in terms.iter().enumerate() {
            if i > 0 {
                f.write_str(word)?;
            }
            let nested = match term {
                Self::Or(..) => true,
                Self::And(..) => matches!(self, Self::And(..)),
                _ => false,
            };
            if nested { write!(f, "({term})")? } else { term.fmt(f)? }
        }
        Ok(())
    }
}
