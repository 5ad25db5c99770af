//! Conditions laid out over several lines, for people.
//!
//! What comes out parses to the same condition.

use crate::ast::{Check, Expr, Right, Word};

/// Blanks for each step inwards.
const STEP: usize = 2;

/// Lays a condition out in lines of at most `width` characters, as far as its words allow. Without a newline at the end.
pub fn condition(expr: &Expr, width: usize) -> String {
    let mut page = Page { width, lines: Vec::new() };
    page.write(expr, Frame { indent: 0, hang: 0, before: "", behind: "" });
    page.lines.join("\n")
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Frame<'f> {
    /// Blanks in front of its first line.
    indent: usize,
    /// More blanks in front of the lines that go on with its terms.
    hang: usize,
    /// What stands in front of its first word.
    before: &'f str,
    /// What follows its last.
    behind: &'f str,
}

struct Page {
    width: usize,
    lines: Vec<String>,
}

impl Page {
    /// Whether a line fits; then it is there.
    fn try_line(&mut self, line: String) -> bool {
        let fits = line.chars().count() <= self.width;
        if fits {
            self.lines.push(line);
        }
        fits
    }

    fn write(&mut self, expr: &Expr, frame: Frame<'_>) {
        let Frame { indent, before, behind, .. } = frame;
        let line = format!("{:indent$}{before}{expr}{behind}", "");
        if self.try_line(line.clone()) {
            return;
        }
        match expr {
            Expr::And(terms, _) => self.chain(terms, "and ", frame),
            Expr::Or(terms, _) => self.chain(terms, "or ", frame),
            Expr::Not(term, _) => {
                let before = format!("{before}not ");
                let frame = Frame { before: &before, ..frame };
                match **term {
                    Expr::Macro(..) | Expr::Check(_) => self.write(term, frame),
                    _ => self.in_parentheses(term, frame),
                }
            }
            Expr::Check(check) => match &check.right {
                Right::List(words, _) => self.list(check, words, frame),
                _ => self.lines.push(line),
            },
            Expr::Macro(..) => self.lines.push(line),
        }
    }

    fn chain(&mut self, terms: &[Expr], word: &str, frame: Frame<'_>) {
        for (i, term) in terms.iter().enumerate() {
            let (before, indent) =
                if i == 0 { (frame.before, frame.indent) } else { (word, frame.indent + frame.hang) };
            let behind = if i + 1 == terms.len() { frame.behind } else { "" };
            // As the printer of conditions has it: what is nested is in parentheses, also where it need not be.
            let nested = match term {
                Expr::Or(..) => true,
                Expr::And(..) => word == "and ",
                _ => false,
            };
            // Terms of `and` within `or` stand further in, so that one sees what belongs together.
            let frame = Frame { indent, hang: STEP, before, behind };
            if nested { self.in_parentheses(term, frame) } else { self.write(term, frame) }
        }
    }

    fn in_parentheses(&mut self, expr: &Expr, frame: Frame<'_>) {
        let Frame { indent, before, behind, .. } = frame;
        if self.try_line(format!("{:indent$}{before}({expr}){behind}", "")) {
            return;
        }
        self.lines.push(format!("{:indent$}{before}(", ""));
        self.write(expr, Frame { indent: indent + STEP, hang: 0, before: "", behind: "" });
        self.lines.push(format!("{:indent$}){behind}", ""));
    }

    fn list(&mut self, check: &Check, words: &[Word], frame: Frame<'_>) {
        let Frame { indent, before, behind, .. } = frame;
        let modifier = check.modifier.map(|modifier| format!(" {}", modifier.name())).unwrap_or_default();
        self.lines.push(format!("{:indent$}{before}{} {}{modifier} (", "", check.left, check.op.name()));
        let inner = indent + STEP;
        let mut line = String::new();
        for (i, word) in words.iter().enumerate() {
            let word = format!("{word}{}", if i + 1 < words.len() { "," } else { "" });
            if !line.is_empty() && inner + line.chars().count() + 1 + word.chars().count() > self.width {
                self.lines.push(format!("{:inner$}{line}", ""));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        self.lines.push(format!("{:inner$}{line}", ""));
        self.lines.push(format!("{:indent$}){behind}", ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse;

    #[test]
    fn what_fits_stays_on_one_line() {
        let expr = parse("a and not (b or c)").unwrap();
        assert_eq!(condition(&expr, 80), "a and not (b or c)");
    }

    #[test]
    fn what_does_not_fit_is_indented() {
        let expr = parse(
            "spawned and (proc.name in (sh, bash, dash, zsh, ksh) or proc.pname startswith x and fd.num > 3) \
             and not proc.cmdline contains \"a b\"",
        );
        let expected = "\
spawned
and (
  proc.name in (
    sh, bash, dash, zsh, ksh
  )
  or proc.pname startswith x
    and fd.num > 3
)
and not proc.cmdline contains \"a b\"";
        let shown = condition(&expr.unwrap(), 28);
        assert_eq!(shown, expected);
    }

    #[test]
    fn it_parses_to_the_same_condition_at_any_width() {
        for text in [
            "a and (b or c and d) and not (e and f)",
            "(a and b) and (c or (d and e)) or not not g",
            "proc.args intersects (a, 'b c', \"d\\\"e\") and fd.name pmatch (/etc, /usr) or x",
            "not (a or b or proc.name = val(proc.pname) and fd.name startswith anyof (/a, /b))",
            "((a or b) and c) or (d and (e or f) and proc.aname[2] exists)",
        ] {
            let expr = parse(text).unwrap();
            for width in [0, 10, 20, 40, 200] {
                let again = parse(&condition(&expr, width)).unwrap();
                assert_eq!(again.to_string(), expr.to_string(), "{width}");
            }
        }
    }
}
