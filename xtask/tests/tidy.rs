//! Guards the shape of the project: who may depend on whom, where unsafe code and input/output may be, how long a
//! file may get, and under which licences the dependencies come.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The star: everything may use model; beside that only these edges.
const EDGES: &[(&str, &[&str])] = &[
    ("tidewatch-model", &[]),
    ("tidewatch-sensor", &["tidewatch-model"]),
    ("tidewatch-enrich", &["tidewatch-model"]),
    ("tidewatch-rules", &["tidewatch-model"]),
    ("tidewatch-detect", &["tidewatch-model", "tidewatch-rules"]),
    ("tidewatch-report", &["tidewatch-model"]),
    ("tidewatch-manager", &["tidewatch-model"]),
];

/// Crates that do no input or output, read no clock and start no thread.
const PURE: &[&str] = &["model", "rules", "detect"];

const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "LGPL-2.1-only",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata(extra: &[&str]) -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(extra)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, ending, found);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    assert!(!found.is_empty(), "no {ending} file in {folder}");
    found
}

#[test]
fn dependencies_are_a_star() {
    let metadata = metadata(&["--no-deps"]);
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, edges)| (*name, edges.iter().copied().collect())).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let edges: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().unwrap())
            .filter(|dependency| ours.contains(dependency))
            .collect();
        if matches!(name, "tidewatch" | "tidewatch-bench" | "xtask") {
            continue; // these wire everything together
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of edges"));
        assert_eq!(&edges, allowed, "edges of {name}");
    }
    let crates = ours.iter().filter(|name| !matches!(**name, "xtask" | "tidewatch-bench")).count();
    assert!(crates <= 10, "{crates} crates: ten is the ceiling");
}

#[test]
fn unsafe_code_is_in_the_sensor_only() {
    for manifest in files("crates", "toml") {
        let folder = manifest.parent().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let entry = ["src/lib.rs", "src/main.rs"].iter().map(|file| folder.join(file)).find(|file| file.exists());
        let text = std::fs::read_to_string(entry.unwrap()).unwrap();
        assert_eq!(text.contains("#![forbid(unsafe_code)]"), name != "sensor", "crate {name}");
    }
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let forbidden = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::process",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "std::env",
        "std::io::std",
        "println!",
        "async fn",
    ];
    for name in PURE {
        for file in files(&format!("crates/{name}/src"), "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests may read the files they test with.
            let code = text.split("#[cfg(test)]").next().unwrap();
            if file.to_string_lossy().contains("test") {
                continue;
            }
            for word in forbidden {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn files_can_be_held_in_mind() {
    let sources = files("crates", "rs").into_iter().chain(files("bpf", "h")).chain(files("xtask", "rs"));
    for file in sources.chain(files("bench", "rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: split it along meaning", file.display());
    }
}

#[test]
fn every_module_says_what_it_is() {
    for file in files("crates", "rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} has no header", file.display());
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    for file in files("crates", "rs") {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        assert!(!matches!(stem, "utils" | "util" | "common" | "helpers" | "misc" | "manager"), "{}", file.display());
    }
}

#[test]
fn every_dependency_has_a_licence_that_goes_with_ours() {
    // Only what is built here: other platforms' packages need not be at hand.
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(permits(licence), "{name} is under {licence}");
    }
}

/// Whether the expression can be met with allowed licences: one of each `OR`, all of each `AND`.
fn permits(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn licence_expressions_are_read() {
    assert!(permits("MIT OR GPL-3.0-only"));
    assert!(permits("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!permits("GPL-3.0-or-later"));
    assert!(!permits("MIT AND GPL-3.0-only"));
}
