//! A rule of our own behind the built-in pack, and what it finds: files that a measurement opens, and the coverage
//! ledger's summaries.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::agent::scratch;

/// Folders with the rule and the files, removed when dropped.
pub struct Marks {
    folder: PathBuf,
    setting: String,
}

/// What an alert of the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The file of this number was opened.
    Opened(usize),
    /// Events of a minute of the host: seen, lost, folded, sampled.
    Minute([u64; 4]),
}

impl Marks {
    /// Makes the folders, and files of numbers up to `count`.
    pub fn new(count: usize) -> anyhow::Result<Self> {
        let folder = scratch()?;
        let marks = Self { setting: format!("rules.dropins={}", folder.join("rules").display()), folder };
        std::fs::create_dir(marks.folder.join("rules"))?;
        std::fs::create_dir(marks.files())?;
        let text = format!(
            "- rule: bench mark\n  desc: a file of the benchmark\n  condition: evt.type in (open, openat) and fd.name \
             startswith {}/\n  output: opened %fd.filename\n  priority: NOTICE\n\
             - rule: bench minute\n  desc: the ledger\n  condition: evt.type = coverage and coverage.class = all\n  \
             output: minute %coverage.seen %coverage.lost %coverage.folded %coverage.sampled\n  priority: NOTICE\n",
            marks.files().display()
        );
        std::fs::write(marks.folder.join("rules/bench.yaml"), text)?;
        for number in 0..count {
            std::fs::write(marks.file(number), "")?;
        }
        Ok(marks)
    }

    /// The arguments that make an agent load the rule.
    pub fn arguments(&self) -> [&str; 2] {
        ["--set", &self.setting]
    }

    fn files(&self) -> PathBuf {
        self.folder.join("marks")
    }

    /// The file of this number.
    pub fn file(&self, number: usize) -> PathBuf {
        self.files().join(number.to_string())
    }

    /// What a line of the agent's output says, if it is of the rule.
    pub fn read(line: &str) -> Option<Mark> {
        let alert: Value = serde_json::from_str(line).ok()?;
        let fields = &alert["output_fields"];
        let number = |name: &str| {
            let value = &fields[name];
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        };
        match alert["rule"].as_str()? {
            "bench mark" => {
                let name = Path::new(fields["fd.filename"].as_str()?);
                Some(Mark::Opened(name.file_name()?.to_str()?.parse().ok()?))
            }
            "bench minute" => {
                let [seen, lost] = [number("coverage.seen")?, number("coverage.lost")?];
                Some(Mark::Minute([seen, lost, number("coverage.folded")?, number("coverage.sampled")?]))
            }
            _ => None,
        }
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_read() {
        let line = r#"{"rule":"bench mark","output_fields":{"fd.filename":"41"}}"#;
        assert_eq!(Marks::read(line), Some(Mark::Opened(41)));
        let line = r#"{"rule":"bench minute","output_fields":{"coverage.seen":9,"coverage.lost":2,"coverage.folded":0,
            "coverage.sampled":1}}"#;
        assert_eq!(Marks::read(line), Some(Mark::Minute([9, 2, 0, 1])));
        assert_eq!(Marks::read(r#"{"rule":"other"}"#), None);
    }
}
