//! `rules fields`: what conditions and outputs may name.

use std::process::ExitCode;

use serde_json::json;
use tw_model::field::FIELDS;

use crate::screen::{self, print_stdout};

pub fn fields(search: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let wanted = |field: &&tw_model::field::Field| {
        search.is_none_or(|text| field.name.contains(text) || field.doc.to_lowercase().contains(&text.to_lowercase()))
    };
    let found: Vec<_> = FIELDS.iter().filter(wanted).collect();
    if json {
        let rows: Vec<_> = found
            .iter()
            .map(|field| json!({"name": field.name, "type": field.ty.name(), "has_source": field.get.is_some(), "doc": field.doc}))
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for field in &found {
            let missing = if field.get.is_some() { "" } else { " [no source yet: always empty]" };
            print_stdout(&format!("{:<42} {:<14} {}{missing}\n", field.name, field.ty.name(), field.doc))?;
        }
        print_stdout(&format!("{}\n", screen::count(found.len(), "field")))?;
    }
    Ok(if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
