//! Secrets by the option before them: `--password X` of any program, and what single programs are known for.

use super::extent::{self, is_blank};
use super::names::{self, Promise, SHORTEST};
use super::pairs::{self, Reach};
use super::patterns::Kind;
use super::{Find, Form};

/// Which part of an option's value is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What is behind the first of this byte (`user:password`).
    After(u8),
    /// The values of cookies.
    Cookies,
}

/// An option of a program.
#[derive(Debug)]
pub(super) struct Flag {
    pub flag: &'static str,
    /// The value may follow in the same argument.
    pub joined: bool,
    /// The value may be the next argument.
    pub apart: bool,
    pub part: Part,
}

/// Programs with options of their own.
#[derive(Debug)]
pub(super) struct Program {
    /// Names without folder, in lower case.
    pub names: &'static [&'static str],
    pub flags: &'static [Flag],
    /// The options count only behind this word.
    pub command: Option<&'static str>,
}

const fn flag(flag: &'static str, joined: bool, apart: bool, part: Part) -> Flag {
    Flag { flag, joined, apart, part }
}

const USER: Part = Part::After(b':');

/// Programs and their options. `docs/secrets.md` lists them.
pub(super) static PROGRAMS: &[Program] = &[
    Program {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlshow",
            "mysqlcheck",
            "mysqlbinlog",
            "mysqlslap",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-import",
            "mariadb-backup",
            "xtrabackup",
            "mycli",
        ],
        flags: &[flag("-p", true, false, Part::Whole)],
        command: None,
    },
    Program { names: &["sshpass"], flags: &[flag("-p", true, true, Part::Whole)], command: None },
    Program {
        names: &["redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark"],
        flags: &[flag("-a", true, true, Part::Whole)],
        command: None,
    },
    Program {
        names: &["curl"],
        flags: &[
            flag("-u", true, true, USER),
            flag("--user", false, true, USER),
            flag("--user=", true, false, USER),
            flag("-U", true, true, USER),
            flag("--proxy-user", false, true, USER),
            flag("-b", true, true, Part::Cookies),
            flag("--cookie", false, true, Part::Cookies),
        ],
        command: None,
    },
    Program {
        names: &["openssl"],
        flags: &[flag("pass:", true, false, Part::Whole), flag("-k", false, true, Part::Whole)],
        command: None,
    },
    Program { names: &["htpasswd"], flags: &[], command: None },
    Program {
        names: &["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"],
        flags: &[flag("-p", true, true, Part::Whole)],
        command: None,
    },
    Program {
        names: &["docker", "podman", "nerdctl", "buildah", "skopeo", "crane", "helm", "oras", "oc", "az", "argocd"],
        flags: &[flag("-p", true, true, Part::Whole)],
        command: Some("login"),
    },
    Program {
        names: &[
            "ldapsearch",
            "ldapadd",
            "ldapmodify",
            "ldapdelete",
            "ldapwhoami",
            "ldappasswd",
            "ldapcompare",
            "ldapmodrdn",
        ],
        flags: &[flag("-w", true, true, Part::Whole), flag("-s", false, true, Part::Whole)],
        command: None,
    },
    Program {
        names: &["smbclient", "rpcclient", "smbmap"],
        flags: &[flag("-U", true, true, Part::After(b'%')), flag("--user", false, true, Part::After(b'%'))],
        command: None,
    },
    Program {
        names: &["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"],
        flags: &[flag("-P", true, true, Part::Whole)],
        command: None,
    },
    Program { names: &["ipmitool"], flags: &[flag("-P", true, true, Part::Whole)], command: None },
    Program { names: &["sqlcmd", "bcp"], flags: &[flag("-P", true, true, Part::Whole)], command: None },
    Program { names: &["lftp"], flags: &[flag("-u", false, true, Part::After(b','))], command: None },
    Program { names: &["zip"], flags: &[flag("-P", false, true, Part::Whole)], command: None },
    Program { names: &["unzip"], flags: &[flag("-P", false, true, Part::Whole)], command: None },
    Program { names: &["7z", "7za", "7zr"], flags: &[flag("-p", true, false, Part::Whole)], command: None },
    Program {
        names: &["snmpget", "snmpwalk", "snmpbulkwalk", "snmpset"],
        flags: &[
            flag("-c", false, true, Part::Whole),
            flag("-A", false, true, Part::Whole),
            flag("-X", false, true, Part::Whole),
        ],
        command: None,
    },
    Program {
        names: &["xfreerdp", "xfreerdp3", "wlfreerdp"],
        flags: &[flag("/p:", true, false, Part::Whole)],
        command: None,
    },
];

/// The rows of the table of programs in `docs/secrets.md`.
pub fn options_table() -> Vec<String> {
    let row = |program: &Program| {
        let names: Vec<String> = program.names.iter().map(|name| format!("`{name}`")).collect();
        let command = program.command.map_or(String::new(), |command| format!("{command} "));
        let mut forms: Vec<String> = Vec::new();
        for Flag { flag, joined, apart, part } in program.flags {
            let value = match part {
                Part::Whole => "…".to_owned(),
                Part::After(byte) => format!("user{}…", char::from(*byte)),
                Part::Cookies => "name=…".to_owned(),
            };
            forms.extend(apart.then(|| format!("`{command}{flag} {value}`")));
            forms.extend(joined.then(|| format!("`{command}{flag}{value}`")));
        }
        if program.flags.is_empty() {
            forms.push("`-b file user …`".to_owned());
            forms.push("`-nb user …`".to_owned());
        }
        format!("| {} | {} |", names.join(", "), forms.join(", "))
    };
    PROGRAMS.iter().map(row).collect()
}

/// curl's options of one letter without a value: `-sSu user:password`.
const CURL_SWITCHES: &[u8] = b"#0123456fgGiIjJklLnNOpqRsSvZa";

/// Reads a command word by word.
#[derive(Default)]
pub(super) struct Walk {
    program: Option<&'static Program>,
    /// The program's options count.
    armed: bool,
    /// The next word is the value of an option.
    next: Option<(Promise, Part)>,
    /// Positional words of htpasswd up to the password.
    left: Option<u8>,
}

const OPTION: Promise = Promise { kind: Kind::ProgramOption, weak: false, shortest: SHORTEST };

impl Walk {
    /// Takes the word at `start..end` of `text`; with `exact` its borders are known (an argument), else it is part of a
    /// line. Whether all of it was the value of an option.
    pub(super) fn word(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        exact: bool,
        finds: &mut Vec<Find>,
    ) -> Option<usize> {
        let word = &text[start..end];
        if let Some((promise, part)) = self.next.take()
            && !(word.starts_with(b"-") && word.len() > 1)
        {
            return self.value(text, start, end, exact, promise, part, finds);
        }
        if let Some(value) = self.flag(text, start, end, exact, finds) {
            return value;
        }
        if word.starts_with(b"-") {
            let name = &word[word.iter().take(2).take_while(|byte| **byte == b'-').count()..];
            let letters = !word.starts_with(b"--") && name.len() < 8 && name.iter().all(u8::is_ascii_alphanumeric);
            if self.is("htpasswd") && letters && name.contains(&b'b') {
                self.left = Some(if name.contains(&b'n') { 2 } else { 3 });
            } else if name.len() > 1 && !names::is_switch(name) && !name.contains(&b'=') {
                self.next = names::promise(name).map(|promise| (promise, Part::Whole));
            }
            return None;
        }
        if let Some(left) = self.left.filter(|_| exact || !is_separator(word)) {
            self.left = (left > 1).then(|| left - 1);
            if left == 1 {
                return self.value(text, start, end, exact, OPTION, Part::Whole, finds);
            }
            return None;
        }
        self.program(word, exact);
        None
    }

    fn is(&self, name: &str) -> bool {
        self.program.is_some_and(|program| program.names.contains(&name))
    }

    /// Options of the program. The outer value: the word was one of them.
    #[allow(clippy::option_option, reason = "not an option, an option, an option with its value")]
    fn flag(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        exact: bool,
        finds: &mut Vec<Find>,
    ) -> Option<Option<usize>> {
        let program = self.program.filter(|_| self.armed)?;
        let word = &text[start..end];
        for Flag { flag, joined, apart, part } in program.flags {
            let Some(rest) = word.strip_prefix(flag.as_bytes()) else { continue };
            if rest.is_empty() {
                if *apart {
                    self.next = Some((OPTION, *part));
                    return Some(None);
                }
            } else if *joined && !(flag.len() == 2 && rest.starts_with(b"-")) {
                return Some(self.value(text, start + flag.len(), end, exact, OPTION, *part, finds));
            }
        }
        if self.is("curl")
            && let Some(letters) = word.strip_prefix(b"-")
            && let [switches @ .., b'u' | b'U'] = letters
            && !switches.is_empty()
            && switches.iter().all(|byte| CURL_SWITCHES.contains(byte))
        {
            self.next = Some((OPTION, USER));
            return Some(None);
        }
        None
    }

    /// The value of an option; returns where the walk goes on if that is behind the word.
    #[allow(clippy::too_many_arguments, reason = "one call's worth of a walk")]
    fn value(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        exact: bool,
        promise: Promise,
        part: Part,
        finds: &mut Vec<Find>,
    ) -> Option<usize> {
        let (view, reach) = if exact { (&text[..end], Reach::Rest) } else { (text, Reach::Bare) };
        let word = &text[start..end];
        let skip = match part {
            Part::Whole => 0,
            Part::After(byte) => extent::position(word, byte)? + 1,
            Part::Cookies => {
                pairs::cookies(view, start, false, finds);
                return None;
            }
        };
        // A quote before `user:password` ends behind it.
        let quote = if skip > 0 { extent::opening(text, start).filter(|_| !exact) } else { None };
        let (find, resume) = match quote {
            Some((quote, slashes)) => {
                let close = extent::quoted(text, start + slashes + 1, quote, slashes);
                exact_value(&text[..close], start, (start + skip).min(close), promise)
            }
            None if exact => exact_value(view, start, start + skip, promise),
            None => pairs::read(view, start, start + skip, promise, reach),
        };
        let found = find.is_some();
        finds.extend(find);
        (found || resume > end).then_some(resume.max(end))
    }

    /// Whether the word names a program, or ends a command.
    fn program(&mut self, word: &[u8], exact: bool) {
        let mut name = word;
        if !exact {
            if is_separator(word) {
                *self = Self::default();
                return;
            }
            if let Some(at) = memchr::memchr(b'=', word) {
                // `command=mysql` of a message names a program, `container=mysql` does not.
                let key = &word[..at];
                if !["command", "cmd", "cmdline"].iter().any(|known| key.ends_with(known.as_bytes())) {
                    return;
                }
                *self = Self::default();
                name = &word[at + 1..];
            }
        }
        let folder = |byte: &u8| matches!(byte, b'/' | b'(' | b'"' | b'\'' | b'`' | b';' | b'|' | b'&');
        let trail = name.iter().rev().take_while(|byte| matches!(byte, b'"' | b'\'' | b';' | b')')).count();
        let name = &name[..name.len() - trail];
        let base = name.iter().rposition(folder).map_or(name, |at| &name[at + 1..]);
        if let Some(program) = self.program
            && program.command.is_some_and(|command| command.as_bytes() == base)
        {
            self.armed = true;
        }
        let known = |program: &&Program| program.names.iter().any(|known| known.as_bytes() == base);
        if let Some(program) = PROGRAMS.iter().find(known) {
            *self = Self { program: Some(program), armed: program.command.is_none(), ..Self::default() };
        }
        if !exact && word.ends_with(b";") {
            *self = Self::default();
        }
    }
}

/// Whether the word stands between commands.
fn is_separator(word: &[u8]) -> bool {
    matches!(word, b"|" | b"||" | b"&&" | b"&" | b";")
}

/// A whole argument, or its rest: only quotes around all of it are not part of the secret.
fn exact_value(text: &[u8], from: usize, start: usize, promise: Promise) -> (Option<Find>, usize) {
    let (mut first, mut end) = (start, text.len());
    if let [quote @ (b'"' | b'\''), .., last] = &text[start..]
        && quote == last
    {
        (first, end) = (start + 1, end - 1);
    }
    let value = text.get(first..end).unwrap_or_default();
    if extent::mark_len(value) > 0 || names::starts_plain(value) || value.is_empty() || names::is_plain(value, promise)
    {
        return (None, text.len());
    }
    (Some(Find { from, start: first, end, kind: promise.kind, form: Form::Raw }), text.len())
}

/// Walks over a line of words.
pub(super) fn scan(text: &[u8], finds: &mut Vec<Find>) {
    let mut walk = Walk::default();
    let mut at = 0;
    while at < text.len() {
        let start = at + text[at..].iter().take_while(|byte| is_blank(**byte)).count();
        let end = start + text[start..].iter().take_while(|byte| !is_blank(**byte)).count();
        if text[at..start].contains(&b'\n') {
            walk = Walk::default();
        }
        // A quote around an option or a command does not belong to it; one around a value says where that ends.
        let quote = usize::from(walk.next.is_none() && start < end && matches!(text[start], b'\'' | b'"'));
        let resume = if start < end { walk.word(text, start + quote, end, false, finds) } else { None };
        at = resume.unwrap_or(end).max(end);
    }
}
