//! Embeds the rule pack of `rules/` with its tests, so that one file is all there is to install.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").map(PathBuf::from).expect("cargo sets CARGO_MANIFEST_DIR");
    let rules = root.join("../../rules");
    println!("cargo:rerun-if-changed={}", rules.display());
    let mut source = String::new();
    embed(&mut source, "PACK", "Files of the default rule pack, in loading order: name and text.", &rules, "rules");
    embed(
        &mut source,
        "PACK_TESTS",
        "Tests of the default rule pack: name and text.",
        &rules.join("tests"),
        "rules/tests",
    );
    let out = std::env::var("OUT_DIR").map(PathBuf::from).expect("cargo sets OUT_DIR");
    std::fs::write(out.join("pack.rs"), source).expect("cargo's output folder is writable");
}

/// Adds a table of the YAML files in `folder`, in the order of their names.
fn embed(source: &mut String, table: &str, about: &str, folder: &Path, shown: &str) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is part of the source")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    writeln!(source, "/// {about}\npub static {table}: &[(&str, &str)] = &[").expect("a string takes all");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = file.canonicalize().expect("a file that was just listed");
        writeln!(source, "    ({:?}, include_str!({:?})),", format!("{shown}/{name}"), path)
            .expect("a string takes all");
    }
    source.push_str("];\n");
}
