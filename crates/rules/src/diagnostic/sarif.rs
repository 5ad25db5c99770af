//! Diagnostics as SARIF 2.1.0, the format that code reviews and editors take.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::code::{ALL, Info};
use super::{Diagnostic, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// A log with one run: every code as a rule of the tool, every diagnostic as a result, in their order.
pub fn sarif(diagnostics: &[Diagnostic]) -> Value {
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "tidewatch",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": ALL.iter().map(descriptor).collect::<Vec<_>>(),
            }},
            // Columns of diagnostics count characters.
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn descriptor(info: &Info) -> Value {
    let help = format!("{} {}", info.meaning, info.remedy);
    json!({
        "id": info.code,
        "name": camel(info.code),
        "shortDescription": {"text": info.meaning},
        "fullDescription": {"text": help},
        "help": {
            "text": format!("{}\nSee {}.", info.remedy, Info::anchor(info.code)),
            "markdown": format!("{help}\n\nSee `{}`.", Info::anchor(info.code)),
        },
        "defaultConfiguration": {"level": level(info.severity)},
    })
}

/// `LOAD_ERR_FILE_READ` as `LoadErrFileRead`.
fn camel(code: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    code.split('_').map(word).collect()
}

fn result(diagnostic: &Diagnostic) -> Value {
    let text = match &diagnostic.help {
        Some(help) => format!("{}: {help}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let range = &diagnostic.range;
    let mut result = json!({
        "ruleId": diagnostic.code,
        "level": level(diagnostic.severity),
        "message": {"text": text},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&diagnostic.file)},
            "region": {
                "startLine": range.start.line,
                "startColumn": range.start.column,
                "endLine": range.end.line,
                "endColumn": range.end.column,
                "byteOffset": diagnostic.span.start,
                "byteLength": diagnostic.span.len(),
                "snippet": {"text": diagnostic.excerpt.0.get(diagnostic.excerpt.1.clone()).unwrap_or_default()},
            },
        }}],
    });
    if let Some(index) = ALL.iter().position(|info| info.code == diagnostic.code) {
        result["ruleIndex"] = json!(index);
    }
    result
}

/// A file's name as the reference that a URI is: relative names stay relative, others become `file:` URIs.
fn uri(file: &str) -> String {
    let mut uri = String::with_capacity(file.len() + 8);
    if file.starts_with('/') {
        uri.push_str("file://");
    }
    // A colon in the first part of a relative reference would be read as the end of a scheme.
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            // A string's write cannot fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::load;

    #[test]
    fn a_log_has_the_shape_that_the_standard_asks_for() {
        let text = "- list: é\n  items: []\n- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  \
                    condition: evt.type = open and proc.nmae = x\n- list: u\n  items: [a]\n";
        let log = sarif(&load(text).1);
        assert_eq!((log["version"].as_str(), log["$schema"].as_str()), (Some("2.1.0"), Some(SCHEMA)));
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert_eq!(run["tool"]["driver"]["name"], "tidewatch");
        for rule in rules {
            assert!(rule["id"].is_string() && rule["shortDescription"]["text"].is_string(), "{rule}");
            assert!(rule["help"]["text"].as_str().unwrap().contains("docs/rule-errors.md#"), "{rule}");
            assert!(matches!(rule["defaultConfiguration"]["level"].as_str(), Some("error" | "warning")), "{rule}");
        }
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            let region = &result["locations"][0]["physicalLocation"]["region"];
            for key in ["startLine", "startColumn", "endLine", "endColumn"] {
                assert!(region[key].as_u64().unwrap() > 0, "{result}");
            }
        }
        let wrong = results.iter().find(|result| result["level"] == "error").unwrap();
        assert_eq!(wrong["ruleId"], "LOAD_ERR_COMPILE_CONDITION");
        let text = wrong["message"]["text"].as_str().unwrap();
        assert!(text.starts_with("there is no field `proc.nmae`: did you mean `proc.name`"), "{text}");
        let place = &wrong["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "t.yaml");
        let (region, snippet) = (&place["region"], &place["region"]["snippet"]["text"]);
        assert_eq!(
            (&region["startLine"], &region["startColumn"], snippet),
            (&json!(7), &json!(34), &json!("proc.nmae"))
        );
        assert_eq!((&region["endLine"], &region["endColumn"]), (&json!(7), &json!(43)));
    }

    #[test]
    fn names_of_files_become_uris() {
        assert_eq!(uri("rules/a b.yaml"), "rules/a%20b.yaml");
        assert_eq!(uri("/etc/é.yaml"), "file:///etc/%C3%A9.yaml");
        assert_eq!(uri("c:x"), "c%3Ax");
        assert_eq!(camel("LOAD_ERR_FILE_READ"), "LoadErrFileRead");
    }
}
