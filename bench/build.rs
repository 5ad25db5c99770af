//! Compiles the empty programs that are the floor of every measurement.

use std::path::PathBuf;

#[path = "../crates/sensor/clang.rs"]
mod clang;

use clang::{compile_bpf, env};

fn main() {
    let here = PathBuf::from(env("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env("OUT_DIR")).join("floor.bpf.o");
    compile_bpf(&here.join("../bpf"), &here.join("bpf/floor.bpf.c"), &out);
}
