//! Compiles the kernel half with clang into one BPF object, which the library embeds.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = PathBuf::from(env("CARGO_MANIFEST_DIR")).join("../../bpf");
    let out = PathBuf::from(env("OUT_DIR")).join("tidewatch.bpf.o");
    // Set by libbpf-sys for crates that depend on it directly: the headers that belong to its libbpf.
    let include = env("DEP_BPF_INCLUDE");
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rerun-if-env-changed=CLANG");
    let arch = match env("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => panic!("the probes do not know the registers of {other}: add them to bpf/core.h"),
    };
    let clang = find_clang();
    let status = Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wno-unused-function", "-mcpu=v3"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(&root)
        .arg("-I")
        .arg(&include)
        .arg("-c")
        .arg(root.join("tidewatch.bpf.c"))
        .arg("-o")
        .arg(&out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} failed ({status}): see its messages above", clang.display()),
        Err(error) => panic!("cannot run {}: {error}", clang.display()),
    }
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}

/// `$CLANG`, else the newest clang on the path.
fn find_clang() -> PathBuf {
    if let Ok(clang) = std::env::var("CLANG") {
        return clang.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = std::iter::once("clang".to_owned()).chain((14..=22).rev().map(|version| format!("clang-{version}")));
    for name in names {
        if let Some(found) = std::env::split_paths(&path).map(|dir| dir.join(&name)).find(|file| Path::is_file(file)) {
            return found;
        }
    }
    panic!("clang is missing, which compiles the eBPF probes: run `make setup`, or apt-get install clang-16");
}
