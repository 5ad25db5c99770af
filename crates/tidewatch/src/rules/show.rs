//! `rules show`: a rule, macro or list as a person wants to read it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::Style;
use serde_json::{Value, json};
use tw_model::Mode;
use tw_report::escape;
use tw_rules::ast::Expr;
use tw_rules::mention::{Mentions, Users};
use tw_rules::reach::{Reach, reach};
use tw_rules::{NamedList, NamedMacro};
use tw_rules::{Rule, RuleSet, layout};

use super::choice::{Configure, loaded};
use super::find::{Found, find};
use super::list::{events, modes};
use crate::cli::RulesShowArgs;
use crate::screen::print_stdout;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Where the second column begins, and where lines end.
const COLUMN: usize = 14;
const WIDTH: usize = 100;

/// Shows everything of the name.
///
/// # Errors
/// If the rules cannot be read, nothing has the name, or nobody reads standard output any more.
pub fn run(args: &RulesShowArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(&args.from.rules, configure)?;
    super::show(&loaded.diagnostics, false);
    let kinds: &[&str] = match (args.rule, args.macro_, args.list) {
        (true, ..) => &["rule"],
        (_, true, _) => &["macro"],
        (.., true) => &["list"],
        _ => &["rule", "macro", "list"],
    };
    let rules = &loaded.rules;
    let mut out = anstream::AutoStream::auto(io::stdout());
    for (i, found) in find(rules, &args.name, kinds)?.into_iter().enumerate() {
        if args.json {
            print_stdout(&format!("{}\n", as_json(found, rules)))?;
            continue;
        }
        if i > 0 {
            writeln!(out)?;
        }
        let mut page = Page { out: &mut out, rules };
        match found {
            Found::Rule(rule) => page.rule(rule)?,
            Found::Macro(known) => page.macro_named(known)?,
            Found::List(list) => page.list(list)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The condition without exceptions, and each exception with its name.
fn parts(rule: &Rule) -> (Vec<&Expr>, Vec<(&str, &Expr)>) {
    let number = rule.exceptions.len();
    if let (1.., Expr::And(terms, _)) = (number, &rule.ast)
        && let Some(own) = terms.len().checked_sub(number)
    {
        let exceptions = terms[own..].iter().map(|term| if let Expr::Not(inner, _) = term { inner } else { term });
        return (terms[..own].iter().collect(), rule.exceptions.iter().map(String::as_str).zip(exceptions).collect());
    }
    (vec![&rule.ast], Vec::new())
}

struct Page<'p> {
    out: &'p mut dyn Write,
    rules: &'p RuleSet,
}

impl Page<'_> {
    fn rule(&mut self, rule: &Rule) -> io::Result<()> {
        self.title(&rule.name, "rule", &rule.file, rule.line)?;
        self.row("priority", rule.priority.name())?;
        self.row("state", if rule.enabled { "enabled" } else { "disabled" })?;
        self.words("tags", rule.tags.iter().map(String::as_str), " ")?;
        let kinds = events(rule);
        let all = kinds.len() == tw_model::event::EVENTS.len();
        self.words("events", if all { vec!["all of them"] } else { kinds }, " ")?;
        for (i, mode) in Mode::ALL.into_iter().enumerate() {
            let says = match reach(rule, self.rules, mode) {
                Reach::Whole => "yes".to_owned(),
                Reach::Part(missing) => {
                    let names: Vec<&str> = missing.iter().map(|kind| kind.name()).collect();
                    let shown = names.iter().take(6).copied().collect::<Vec<_>>().join(" ");
                    let more = names.len().saturating_sub(6);
                    format!("but for {shown}{}", if more > 0 { format!(" and {more} more") } else { String::new() })
                }
                Reach::Nothing(lack) => format!("no: {lack}"),
            };
            self.row(if i == 0 { "modes" } else { "" }, &format!("{:<10} {says}", mode.name()))?;
        }
        self.paragraph("why", &rule.desc)?;
        self.paragraph("do", &rule.advice)?;
        let (own, exceptions) = parts(rule);
        for (i, expr) in own.into_iter().enumerate() {
            self.condition(if i == 0 { "condition" } else { "" }, expr)?;
        }
        for (name, expr) in exceptions {
            self.row("except", &format!("{}:", escape::line(name)))?;
            self.condition("", expr)?;
        }
        self.paragraph("output", rule.output.as_str())?;
        let (direct, all) = (Mentions::of(&rule.ast, self.rules), Mentions::of_all(&rule.ast, self.rules));
        self.mentions(&direct, &all)
    }

    fn macro_named(&mut self, known: &NamedMacro) -> io::Result<()> {
        self.title(&known.name, "macro", &known.file, known.line)?;
        self.condition("condition", &known.ast)?;
        let (direct, all) = (Mentions::of(&known.ast, self.rules), Mentions::of_all(&known.ast, self.rules));
        self.mentions(&direct, &all)?;
        self.users(&Users::of_macro(&known.name, self.rules))
    }

    fn list(&mut self, list: &NamedList) -> io::Result<()> {
        self.title(&list.name, "list", &list.file, list.line)?;
        let values: Vec<String> = list.items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect();
        self.row("number", &values.len().to_string())?;
        self.words("values", values.iter().map(String::as_str), ", ")?;
        self.words("lists in it", list.lists.iter().map(String::as_str), ", ")?;
        self.users(&Users::of_list(&list.name, self.rules))
    }

    fn title(&mut self, name: &str, kind: &str, file: &str, line: usize) -> io::Result<()> {
        let (name, file) = (escape::line(name), escape::line(file));
        writeln!(self.out, "{BOLD}{name}{BOLD:#}  {DIM}{kind}, {file}:{line}{DIM:#}")
    }

    fn row(&mut self, label: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "  {DIM}{label:<width$}{DIM:#}{text}", width = COLUMN - 2)
    }

    /// Words with something between them, over as many lines as it takes; nothing if there is none.
    fn words<'w>(&mut self, label: &str, words: impl IntoIterator<Item = &'w str>, between: &str) -> io::Result<()> {
        let words: Vec<_> = words.into_iter().map(escape::line).collect();
        let mut label = label;
        let mut line = String::new();
        for (i, word) in words.iter().enumerate() {
            let gap = if i + 1 < words.len() { between } else { "" };
            if !line.is_empty() && COLUMN + line.chars().count() + word.chars().count() + gap.trim_end().len() > WIDTH {
                self.row(std::mem::take(&mut label), line.trim_end())?;
                line.clear();
            }
            line.push_str(word);
            line.push_str(gap);
        }
        if line.is_empty() { Ok(()) } else { self.row(label, line.trim_end()) }
    }

    fn paragraph(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.words(label, text.split_whitespace(), " ")
    }

    fn condition(&mut self, label: &str, expr: &Expr) -> io::Result<()> {
        let text = layout::condition(expr, WIDTH - COLUMN);
        for (i, line) in text.lines().enumerate() {
            self.row(if i == 0 { label } else { "" }, &escape::line(line))?;
        }
        Ok(())
    }

    fn mentions(&mut self, direct: &Mentions, all: &Mentions) -> io::Result<()> {
        self.words("macros", direct.macros.iter().map(String::as_str), ", ")?;
        self.words("lists", direct.lists.iter().map(String::as_str), ", ")?;
        self.words("fields", all.fields.iter().map(String::as_str), ", ")
    }

    fn users(&mut self, users: &Users) -> io::Result<()> {
        if *users == Users::default() {
            return self.row("used by", "nothing");
        }
        self.words("in lists", users.lists.iter().map(String::as_str), ", ")?;
        self.words("in macros", users.macros.iter().map(String::as_str), ", ")?;
        for (i, name) in users.rules.iter().enumerate() {
            self.row(if i == 0 { "in rules" } else { "" }, &escape::line(name))?;
        }
        Ok(())
    }
}

fn as_json(found: Found<'_>, rules: &RuleSet) -> Value {
    let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let users = |users: &Users| json!({"rules": users.rules, "macros": users.macros, "lists": users.lists});
    match found {
        Found::Rule(rule) => {
            let (own, exceptions) = parts(rule);
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            let exceptions: Vec<_> =
                exceptions.iter().map(|(name, expr)| json!({"name": name, "condition": expr.to_string()})).collect();
            let (direct, all) = (Mentions::of(&rule.ast, rules), Mentions::of_all(&rule.ast, rules));
            json!({"kind": "rule", "name": rule.name, "file": rule.file, "line": rule.line,
                "priority": rule.priority.name(), "enabled": rule.enabled, "tags": rule.tags, "source": rule.source,
                "events": events(rule), "desc": rule.desc, "advice": rule.advice, "condition": own.join(" and "),
                "exceptions": exceptions, "output": rule.output.as_str(), "macros": names(&direct.macros),
                "lists": names(&direct.lists), "fields": names(&all.fields), "modes": modes(rule, rules)})
        }
        Found::Macro(known) => {
            let (direct, all) = (Mentions::of(&known.ast, rules), Mentions::of_all(&known.ast, rules));
            json!({"kind": "macro", "name": known.name, "file": known.file, "line": known.line,
                "condition": known.ast.to_string(), "macros": names(&direct.macros), "lists": names(&direct.lists),
                "fields": names(&all.fields), "used_by": users(&Users::of_macro(&known.name, rules))})
        }
        Found::List(list) => {
            let items: Vec<_> = list.items.iter().map(|item| String::from_utf8_lossy(item)).collect();
            json!({"kind": "list", "name": list.name, "file": list.file, "line": list.line, "items": items,
                "lists": list.lists, "used_by": users(&Users::of_list(&list.name, rules))})
        }
    }
}
