//! Compiles the kernel half with clang into one BPF object, which the library embeds.

use std::path::PathBuf;

#[path = "clang.rs"]
mod clang;

use clang::{compile_bpf, env};

fn main() {
    let root = PathBuf::from(env("CARGO_MANIFEST_DIR")).join("../../bpf");
    let out = PathBuf::from(env("OUT_DIR")).join("tidewatch.bpf.o");
    compile_bpf(&root, &root.join("tidewatch.bpf.c"), &out);
    // For the test that compiles it for another architecture.
    println!("cargo:rustc-env=BPF_INCLUDE={}", env("DEP_BPF_INCLUDE"));
}
