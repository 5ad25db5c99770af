//! Puts the configuration together: reads every source, checks every node against the keys there are, keeps the last
//! value of each key with its place, and collects everything there is to say.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tw_model::field::nearest;

use super::Loaded;
use super::diagnostic::{ConfigErrors, Diagnostic, Origin, code, line_column};
use super::items;
use super::key::{self, Key, Kind, PREFIX, find, is_section, join, keys, names_below};
use super::limits::{self, Wrong};
use super::rule_options;
use super::settings::Config;
use super::source::{self, DEFAULT_FILE, FILE_VARIABLE, Override, Sources};
use super::yaml::{self, Node};

/// Variables with our prefix that set no key.
const OTHER_VARIABLES: &[&str] = &[
    FILE_VARIABLE,
    "TIDEWATCH_LOG",
    "TIDEWATCH_FALCO_RULES",
    "TIDEWATCH_REQUIRE_E2E",
    "TIDEWATCH_QUIET_SECONDS",
    "TIDEWATCH_BINARY",
    "TIDEWATCH_DOCKER_PIDFILE",
    "TIDEWATCH_DOCKER_LOG",
    "TIDEWATCH_RESTARTS",
    "TIDEWATCH_SUPERVISED",
];
/// Prefix of variables of the tests.
const TEST_PREFIX: &str = "TIDEWATCH_TEST_";
/// Most diagnostics that are kept.
const MAX_DIAGNOSTICS: usize = 100;
/// Most characters of a name or value from a source that a message quotes.
const MAX_QUOTED: usize = 60;

/// A configuration being put together.
#[derive(Default)]
pub struct Draft {
    texts: Vec<Text>,
    settings: BTreeMap<&'static str, Setting>,
    diagnostics: Vec<Diagnostic>,
    files: Vec<PathBuf>,
}

/// A text that values come from.
struct Text {
    from: From,
    text: String,
}

enum From {
    File(PathBuf),
    Variable(String),
    Option(String),
}

/// A key with a value.
struct Setting {
    value: Value,
    text: usize,
    name: Range<usize>,
    span: Range<usize>,
}

/// Reads all sources.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    read(sources).finish()
}

/// What can be read of all sources: a value that is wrong is passed over for the one before it.
pub fn readable(sources: &Sources) -> Config {
    read(sources).config().unwrap_or_default()
}

fn read(sources: &Sources) -> Draft {
    let mut draft = Draft::default();
    match &sources.file {
        Some(file) => draft.file(file),
        // May be missing; if it only cannot be read, that is told.
        None => {
            let found = Path::new(DEFAULT_FILE).symlink_metadata();
            if !found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
                draft.file(Path::new(DEFAULT_FILE));
            }
        }
    }
    if !sources.dropins.as_os_str().is_empty() {
        match source::dropins(&sources.dropins) {
            Ok((files, doubts)) => {
                doubts.into_iter().for_each(|doubt| draft.tell(doubt));
                files.iter().for_each(|file| draft.file(file));
            }
            Err(error) => draft.tell(*error),
        }
    }
    draft.variables(&sources.env);
    sources.overrides.iter().for_each(|set| draft.option(set));
    draft
}

/// Reads files alone, each winning over those before it.
///
/// # Errors
/// Everything that is wrong in any of them.
pub fn load_files(files: &[PathBuf]) -> Result<Loaded, ConfigErrors> {
    let mut draft = Draft::default();
    files.iter().for_each(|file| draft.file(file));
    draft.finish()
}

impl Draft {
    fn tell(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else if self.diagnostics.len() == MAX_DIAGNOSTICS {
            let message = format!("more than {MAX_DIAGNOSTICS} problems; the rest is left out");
            self.diagnostics.push(Diagnostic::error(code::MORE, diagnostic.origin, message));
        }
    }

    fn origin(&self, text: usize, at: usize) -> Origin {
        let Some(text) = self.texts.get(text) else { return Origin::Default };
        match &text.from {
            From::File(path) => {
                let (line, column) = line_column(&text.text, at);
                Origin::File { path: path.clone(), line, column }
            }
            From::Variable(name) => Origin::Variable(name.clone()),
            From::Option(name) => Origin::Option(name.clone()),
        }
    }

    /// An error about a stretch of a text.
    fn error(&self, code: &'static str, text: usize, span: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        let source = self.texts.get(text).map_or("", |text| text.text.as_str());
        Diagnostic::error(code, self.origin(text, span.start), message).excerpt(source, span)
    }

    fn wrong(&self, key: &str, text: usize, span: &Range<usize>, wrong: Wrong) -> Diagnostic {
        let error = self.error(code::VALUE, text, span, format!("`{key}` {}", wrong.message)).key(key).help(wrong.help);
        // The store's address may hold a password where none is looked for.
        if key == "store.url" { self.without_value(error, text, span) } else { error }
    }

    fn without_value(&self, error: Diagnostic, text: usize, span: &Range<usize>) -> Diagnostic {
        let Some(source) = self.texts.get(text).map(|text| text.text.as_str()) else { return error };
        let from = source[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line = format!("{}***", &source[from..span.start]);
        let span = line.len() - 3..line.len();
        error.excerpt(&line, &span)
    }

    fn file(&mut self, path: &Path) {
        let (source, doubts) = match source::read(path) {
            Ok(read) => read,
            Err(error) => return self.tell(*error),
        };
        doubts.into_iter().for_each(|doubt| self.tell(doubt));
        self.files.push(path.to_owned());
        let text = self.texts.len();
        let parsed = yaml::parse(&source);
        self.texts.push(Text { from: From::File(path.to_owned()), text: source });
        match parsed {
            Ok(Some(node)) => self.section("", text, &node),
            Ok(None) => {}
            Err(error) => {
                let help = "blanks at the start of a line say what belongs to what; quote values that hold `: `, ` #`, or begin with `[`, `{`, `*`, `&`, `!` or `%`";
                self.tell(self.error(code::YAML, text, &(error.at..error.at + 1), error.message).help(help));
            }
        }
    }

    /// Checks the map of a section and keeps what is right in it.
    fn section(&mut self, section: &str, text: usize, node: &Node) {
        let pairs = match &node.kind {
            yaml::Kind::Map(pairs) => pairs,
            // A section in which everything is commented out.
            yaml::Kind::Null => return,
            _ => {
                let what = if section.is_empty() { "the file".into() } else { format!("`{section}`") };
                let message = format!("{what} must be a map of keys, but is {}", describe(node));
                let help = format!("it has the keys {}", list(&names_below(section)));
                let error = self.error(code::TYPE, text, &node.span, message).key(section).help(help);
                return self.tell(error);
            }
        };
        let mut seen: BTreeMap<String, &Range<usize>> = BTreeMap::new();
        for (name, value) in pairs {
            let written = yaml::name(name, &self.texts[text].text);
            let path = join(section, &written);
            if let Some(first) = seen.get(&written) {
                let line = line_column(&self.texts[text].text, first.start).0;
                let message = format!("`{}` stands twice", quote(&path));
                let help = format!("it is on line {line} too: keep one of them");
                let error = self.error(code::DUPLICATE_KEY, text, &name.span, message).key(path).help(help);
                self.tell(error);
                continue;
            }
            if written.contains('.') || (find(&path).is_none() && !is_section(&path)) {
                let error = self.error(code::UNKNOWN_KEY, text, &name.span, unknown(section, &written));
                let error = error.key(quote(&path)).help(suggestion(section, &written));
                self.tell(error);
            } else if let Some(key) = find(&path) {
                self.value(key, text, &name.span, value);
            } else {
                self.section(&path, text, value);
            }
            seen.insert(written, &name.span);
        }
    }

    /// Checks a value and keeps it.
    fn value(&mut self, key: &'static Key, text: usize, name: &Range<usize>, node: &Node) {
        // A value that is not there stands at its key.
        let span = if node.span.is_empty() { name.clone() } else { node.span.clone() };
        if let (Kind::Items(schema), yaml::Kind::List(_)) = (&key.kind, &node.kind) {
            return match items::read(&key.path, schema, node) {
                Ok(value) => self.keep(key, text, name.clone(), span, value),
                Err(faults) => faults.into_iter().for_each(|fault| {
                    // What is within a variable or option has no place of its own.
                    let in_file = matches!(self.texts.get(text), Some(Text { from: From::File(_), .. }));
                    let span = if in_file && !fault.span.is_empty() { &fault.span } else { &span };
                    let error = self.error(fault.code, text, span, fault.message).key(fault.path).help(fault.help);
                    self.tell(error);
                }),
            };
        }
        match typed(key, node) {
            Ok(value) => self.keep(key, text, name.clone(), span, value),
            Err(wrong) => {
                let error = self.wrong(&key.path, text, &span, wrong);
                let of_value = matches!(key.kind, Kind::Choice(_)) && node.text().is_some();
                self.tell(error.code(if of_value { code::VALUE } else { code::TYPE }));
            }
        }
    }

    fn keep(&mut self, key: &'static Key, text: usize, name: Range<usize>, span: Range<usize>, mut value: Value) {
        if key.is_path && !matches!(self.texts[text].from, From::File(_)) {
            // Relative to the folder in which the command was given.
            absolute(&mut value);
        }
        match limits::check(key, &value) {
            Ok(()) => {
                self.settings.insert(&key.path, Setting { value, text, name, span });
            }
            Err(wrong) => {
                let error = self.wrong(&key.path, text, &span, wrong);
                self.tell(error);
            }
        }
    }

    fn variables(&mut self, env: &[(OsString, OsString)]) {
        let mut ours: Vec<&(OsString, OsString)> =
            env.iter().filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())).collect();
        ours.sort();
        for (name, value) in ours {
            let shown = name.to_string_lossy().into_owned();
            let Some(key) = keys().iter().find(|key| OsStr::new(&key.variable()) == name) else {
                if !is_other_variable(&shown, &value.to_string_lossy()) {
                    self.tell(unknown_variable(&shown));
                }
                continue;
            };
            let Some(value) = value.to_str() else {
                let message = format!("the variable for `{}` is not UTF-8 text", key.path);
                let error = Diagnostic::error(code::TYPE, Origin::Variable(shown), message);
                self.tell(error.key(&key.path).help("set it to UTF-8 text, or unset it"));
                continue;
            };
            self.one(key, From::Variable(shown.clone()), format!("{shown}="), value);
        }
    }

    fn option(&mut self, set: &Override) {
        let from = From::Option(set.option.clone());
        match find(&set.key) {
            Some(key) => self.one(key, from, format!("{} ", set.option), &set.value),
            None => {
                let (section, name) = set.key.rsplit_once('.').unwrap_or(("", &set.key));
                let error =
                    Diagnostic::error(code::UNKNOWN_KEY, Origin::Option(set.option.clone()), unknown(section, name));
                self.tell(error.key(quote(&set.key)).help(suggestion(section, name)));
            }
        }
    }

    /// One value of a variable or option.
    fn one(&mut self, key: &'static Key, from: From, before: String, value: &str) {
        let text = self.texts.len();
        let start = before.len();
        let span = if value.is_empty() { 0..start } else { start..start + value.len() };
        self.texts.push(Text { from, text: format!("{before}{value}") });
        let verbatim = matches!(key.kind, Kind::Text | Kind::Choice(_))
            && !value.starts_with(['"', '\''])
            && !matches!(value, "" | "~" | "null");
        let node = if verbatim {
            Ok(Some(Node::new(span.clone(), yaml::Kind::Text(value.to_owned()))))
        } else {
            yaml::parse(value)
        };
        match node {
            Ok(node) => {
                let kind = node.map_or(yaml::Kind::Null, |node| node.kind);
                self.value(key, text, &span, &Node::new(span.clone(), kind));
            }
            Err(error) => {
                let message = format!("the value of `{}` is {}", key.path, error.message);
                let error = self.error(code::YAML, text, &span, message).key(&key.path).help(expectation(key));
                let error = if key.path == "store.url" { self.without_value(error, text, &span) } else { error };
                self.tell(error);
            }
        }
    }

    /// The values so far over the defaults.
    fn config(&self) -> serde_json::Result<Config> {
        let defaults = keys().iter().map(|key| (key.path.as_str(), key.default.clone()));
        let set = self.settings.iter().map(|(path, setting)| (*path, setting.value.clone()));
        serde_json::from_value(key::nest(defaults.chain(set)))
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let config = match self.config() {
            Ok(config) => config,
            // Every value was checked, so that this tells of a gap in the checks.
            Err(error) => {
                self.tell(Diagnostic::error(code::TYPE, Origin::Default, format!("cannot take the values: {error}")));
                return Err(ConfigErrors(self.diagnostics));
            }
        };
        for (key, wrong) in limits::check_together(&config) {
            let error = self.about(key, wrong);
            self.tell(error);
        }
        for (key, wrong) in limits::doubts(&config) {
            let doubt = self.about(key, wrong);
            self.tell(doubt.code(code::DOUBT).warning());
        }
        if let Some(setting) = self.settings.get("store.url")
            && let Some(Text { from: From::File(path), .. }) = self.texts.get(setting.text)
            && config.store.url.as_ref().is_some_and(super::secret::StoreUrl::has_password)
            && let Some(doubt) = source::doubt_of_readers(path)
        {
            self.tell(doubt);
        }
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(ConfigErrors(self.diagnostics));
        }
        let origins = keys().iter().map(|key| {
            let set = self.settings.get(key.path.as_str());
            (key.path.clone(), set.map_or(Origin::Default, |set| self.origin(set.text, set.name.start)))
        });
        let origins = origins.collect();
        Ok(Loaded { config, origins, files: self.files, warnings: self.diagnostics })
    }

    /// About the value of a key, wherever it comes from.
    fn about(&self, key: &str, wrong: Wrong) -> Diagnostic {
        match self.settings.get(key) {
            Some(setting) => self.wrong(key, setting.text, &setting.span, wrong),
            None => Diagnostic::error(code::VALUE, Origin::Default, format!("`{key}` {}", wrong.message))
                .key(key)
                .help(wrong.help),
        }
    }
}

/// The value of a node, if it is of the key's kind.
fn typed(key: &Key, node: &Node) -> Result<Value, Wrong> {
    let mistyped = |help: String| {
        let kind = match &key.kind {
            Kind::Flag => "true or false",
            Kind::Number(..) => "a whole number",
            Kind::Text => "text",
            Kind::Choice(_) => "a word",
            Kind::List => "a list",
            Kind::Items(_) => "a list of maps",
        };
        Wrong { message: format!("must be {kind}, but is {}", describe(node)), help }
    };
    match (&key.kind, &node.kind) {
        (_, yaml::Kind::Null) if key.nullable => Ok(Value::Null),
        (_, yaml::Kind::Null) => Err(Wrong { message: "has no value".into(), help: expectation(key) }),
        (Kind::Flag, yaml::Kind::Flag(flag, _)) => Ok((*flag).into()),
        (Kind::Number(..), yaml::Kind::Number(number, _)) => Ok((*number).into()),
        (Kind::Text, _) if node.text().is_some() => Ok(node.text().into()),
        (Kind::Choice(choices), _) if node.text().is_some() => {
            let text = node.text().unwrap_or_default();
            let names = || choices.iter().map(|(name, _)| name.as_str());
            match names().find(|name| name.eq_ignore_ascii_case(text)) {
                Some(name) => Ok(name.into()),
                None => Err(Wrong {
                    message: format!("is `{}`, but must be one of {}", quote(text), list(&names().collect::<Vec<_>>())),
                    help: near(&text.to_lowercase(), names()).unwrap_or_else(|| expectation(key)),
                }),
            }
        }
        (Kind::List, yaml::Kind::List(items)) => {
            let texts: Option<Vec<Value>> = items.iter().map(|item| item.text().map(Value::from)).collect();
            texts.map(Value::from).ok_or_else(|| Wrong {
                message: "must be a list of texts, but an item is none".into(),
                help: expectation(key),
            })
        }
        (Kind::Text, yaml::Kind::List(_) | yaml::Kind::Map(_)) => {
            Err(mistyped("put the value into quotes if it begins with `[` or `{`".into()))
        }
        _ => Err(mistyped(expectation(key))),
    }
}

/// How a value of the key is written.
fn expectation(key: &Key) -> String {
    let null = if key.nullable { ", or null" } else { "" };
    match &key.kind {
        Kind::Flag => "write true or false".into(),
        Kind::Number(min, max) => {
            let unit = ["mib", "hours", "days"].into_iter().find(|unit| key.path.ends_with(unit));
            let unit = unit.map_or(String::new(), |unit| format!("; the unit is in the name: {unit}"));
            format!("write a number from {min} to {max} without quotes{unit}")
        }
        Kind::Text => format!("write text{null}, or leave the key out for the default"),
        Kind::Choice(choices) => {
            format!("write one of {}", list(&choices.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()))
        }
        Kind::List => "write a list: [/first, /second]".into(),
        Kind::Items(_) => format!("write a list: {}", rule_options::example(&key.path)),
    }
}

fn unknown(section: &str, name: &str) -> String {
    match section {
        "" => format!("there is no key `{}`", quote(name)),
        _ => format!("the section `{}` has no key `{}`", quote(section), quote(name)),
    }
}

/// What an unknown name may have meant: a near one of the section, the same one of another, else all there are.
fn suggestion(section: &str, name: &str) -> String {
    if name == "<<" {
        return "maps cannot be merged with `<<` here: write the keys out".into();
    }
    if let Some(dotted) = Some(join(section, name)).filter(|path| name.contains('.') && find(path).is_some()) {
        let nested = name.replace('.', ": {") + ": …" + &"}".repeat(name.matches('.').count());
        return format!("did you mean `{dotted}`? keys are nested: write {nested}");
    }
    let lower = name.to_lowercase().replace('-', "_");
    let names = names_below(section);
    if let Some(near) = near(&lower, names.iter().copied()) {
        return near;
    }
    let elsewhere: Vec<&str> =
        keys().iter().map(|key| key.path.as_str()).filter(|path| path.rsplit('.').next() == Some(&lower)).collect();
    if !elsewhere.is_empty() {
        let shown = &elsewhere[..elsewhere.len().min(4)];
        return format!(
            "did you mean {}?",
            shown.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ")
        );
    }
    match names.is_empty() {
        true => "`tidewatch config default` shows all keys".into(),
        false => format!("the keys here are {}", list(&names)),
    }
}

/// A name that is near, or begins with `name`.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let longer = || names.clone().find(|full| name.len() >= 3 && full.starts_with(name));
    let near = nearest(name, names.clone()).first().copied().or_else(longer)?;
    Some(format!("did you mean `{near}`?"))
}

fn unknown_variable(name: &str) -> Diagnostic {
    let names: Vec<String> = keys().iter().map(Key::variable).collect();
    let below: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|full| full.strip_prefix(name).is_some_and(|rest| rest.starts_with("__")))
        .collect();
    // Without what all have in common, which would make all of them near.
    let bare = |full: &'static str| full.strip_prefix(PREFIX).unwrap_or(full);
    let others = OTHER_VARIABLES.iter().map(|other| bare(other));
    let all = names.iter().filter_map(|full| full.strip_prefix(PREFIX)).chain(others);
    let near = nearest(name.strip_prefix(PREFIX).unwrap_or(name), all);
    let help = match (below.first(), near.first()) {
        (Some(first), _) => format!("it is a section; set its keys one by one, such as {first}"),
        (None, Some(near)) => format!("did you mean `{PREFIX}{near}`?"),
        (None, None) => "unset it; `tidewatch config show --effective` shows all keys".into(),
    };
    let origin = Origin::Variable(name.to_owned());
    Diagnostic::error(code::UNKNOWN_VARIABLE, origin, "there is no such setting").help(help)
}

/// Whether a variable with our prefix is for something else.
fn is_other_variable(name: &str, value: &str) -> bool {
    // Kubernetes tells every pod of a service called `tidewatch` or `tidewatch-…` in this way.
    let kubernetes = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP")))
        || (name.ends_with("_PORT") && value.contains("://"));
    OTHER_VARIABLES.contains(&name) || name.starts_with(TEST_PREFIX) || (kubernetes && !name.contains("__"))
}

fn absolute(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(absolute),
        Value::String(text) if !text.is_empty() && !text.starts_with('/') => {
            let folder = std::env::current_dir().unwrap_or_default();
            // Without `.` and `..`, as far as that can be told from the text.
            let mut path = folder;
            for part in Path::new(&*text).components() {
                match part {
                    std::path::Component::CurDir => {}
                    std::path::Component::ParentDir => {
                        path.pop();
                    }
                    part => path.push(part),
                }
            }
            *text = path.to_string_lossy().into_owned();
        }
        _ => {}
    }
}

/// What a node is, for messages.
pub(super) fn describe(node: &Node) -> String {
    match &node.kind {
        yaml::Kind::Null => "nothing".into(),
        yaml::Kind::Flag(_, text) => format!("`{}`", quote(text)),
        yaml::Kind::Number(_, text) | yaml::Kind::OddNumber(text) => format!("the number {}", quote(text)),
        yaml::Kind::Text(text) => format!("the text `{}`", quote(text)),
        yaml::Kind::List(_) => "a list".into(),
        yaml::Kind::Map(_) => "a map".into(),
    }
}

pub(super) fn quote(text: &str) -> String {
    tw_report::escape::short(text, MAX_QUOTED)
}

pub(super) fn list(names: &[&str]) -> String {
    names.join(", ")
}
