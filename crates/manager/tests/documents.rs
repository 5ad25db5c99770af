//! Documents that are made from the code, kept as it is. `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

fn golden(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == made, "docs/{name} is not what the code says; UPDATE_GOLDEN=1 cargo test -p tidewatch-manager");
}

#[test]
fn the_description_of_the_api_is_up_to_date() {
    golden("openapi.json", &tw_manager::api::openapi());
}

#[test]
fn the_page_about_metrics_is_up_to_date() {
    golden("metrics.md", &tw_manager::metrics::document());
}

#[test]
fn every_path_has_a_description_and_every_reference_leads_somewhere() {
    let text = tw_manager::api::openapi();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{method} {path}");
            assert!(names.insert(operation["operationId"].to_string()), "{method} {path} is named like another");
        }
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    for noun in ["Finding", "Container", "AgentStatus", "SupervisorStatus", "Problem"] {
        assert!(schemas[noun]["properties"].as_object().unwrap().len() >= 3, "{noun}");
    }
}
