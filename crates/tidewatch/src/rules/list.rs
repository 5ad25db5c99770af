//! `rules list`: what rules there are.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{load, show};
use crate::screen::{self, print_stdout};

pub fn list(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let loaded = load(files)?;
    show(&loaded.diagnostics, false);
    let rules = loaded.rules.rules();
    if json {
        let rows: Vec<_> = rules
            .iter()
            .map(|rule| {
                let events: Vec<&str> = rule.kinds.iter().map(|kind| kind.name()).collect();
                json!({"name": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "tags": rule.tags,
                    "desc": rule.desc, "advice": rule.advice, "events": events, "file": rule.file, "line": rule.line})
            })
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for rule in rules {
            let off = if rule.enabled { "" } else { "  (disabled)" };
            let attack: Vec<&str> = rule.tags.iter().filter(|tag| tag.starts_with('T')).map(String::as_str).collect();
            print_stdout(&format!("{:<14}{:<58} {}{off}\n", rule.priority.name(), rule.name, attack.join(" ")))?;
        }
        print_stdout(&format!("{} ({})\n", screen::count(rules.len(), "rule"), loaded.source))?;
    }
    Ok(if loaded.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
