//! Compiles eBPF programs; shared by the build scripts that do.

/// Compiles `source` to the BPF object `out`, with `root` (the folder `bpf/`) and libbpf's headers on the path.
pub fn compile_bpf(root: &std::path::Path, source: &std::path::Path, out: &std::path::Path) {
    // Set by libbpf-sys for crates that depend on it directly: the headers that belong to its libbpf.
    let include = env("DEP_BPF_INCLUDE");
    println!("cargo:rerun-if-changed={}", root.display());
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=CLANG");
    let arch = match env("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => panic!("the probes do not know the registers of {other}: add them to bpf/core.h"),
    };
    compile_for(arch, std::path::Path::new(&include), root, source, out);
}

/// The same for the kernel's name of an architecture, with libbpf's headers in `include`.
pub fn compile_for(
    arch: &str,
    include: &std::path::Path,
    root: &std::path::Path,
    source: &std::path::Path,
    out: &std::path::Path,
) {
    let clang = find_clang();
    let status = std::process::Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-Wall", "-Wno-unused-function", "-mcpu=v3"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(root)
        .arg("-I")
        .arg(include)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(out)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{} failed ({status}): see its messages above", clang.display()),
        Err(error) => panic!("cannot run {}: {error}", clang.display()),
    }
}

/// A variable that cargo sets for build scripts.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}

/// `$CLANG`, else the newest clang on the path.
fn find_clang() -> std::path::PathBuf {
    if let Ok(clang) = std::env::var("CLANG") {
        return clang.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = std::iter::once("clang".to_owned()).chain((14..=22).rev().map(|version| format!("clang-{version}")));
    for name in names {
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(&name));
        if let Some(found) = places.find(|file| file.is_file()) {
            return found;
        }
    }
    panic!("clang is missing, which compiles the eBPF programs: run `make setup`, or apt-get install clang-16");
}
