//! The kernel half compiles for arm64 too, whatever this host is; the rest is `cargo xtask arm64`.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

#[path = "../clang.rs"]
#[allow(dead_code, clippy::print_stdout, reason = "a part of the build script, which uses all of it")]
mod clang;

#[test]
fn the_kernel_half_compiles_for_arm64() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("arm64.o");
    clang::compile_for("arm64", Path::new(env!("BPF_INCLUDE")), &root, &root.join("tidewatch.bpf.c"), &out);
    assert!(std::fs::metadata(out).unwrap().len() > 10_000);
}
