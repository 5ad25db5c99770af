//! Rules that use every field with every operator, and every event type, that Falco's own rules (stable, incubating and
//! sandbox, engine version 0.57.0) use.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;

use tw_model::sample::Sample;
use tw_model::{FieldRef, FieldType};
use tw_rules::Loader;

/// Field, operators that it is used with, and whether outputs show it.
static FIELDS: &[(&str, &str, bool)] = &[
    ("proc.name", "= in != startswith", true),
    ("fd.name", "startswith = in contains endswith glob pmatch", true),
    ("proc.cmdline", "contains startswith = in", true),
    ("proc.pname", "= in exists startswith", true),
    ("evt.type", "in =", true),
    ("user.name", "= in !=", true),
    ("proc.aname", "= in startswith", true),
    ("user.uid", "= !=", true),
    ("proc.tty", "!= =", true),
    ("user.loginuid", "!=", true),
    ("proc.exepath", "=", true),
    ("container.image.repository", "endswith startswith in = contains", false),
    ("proc.args", "contains icontains startswith endswith = intersects", true),
    ("evt.arg.flags", "contains", true),
    ("proc.pcmdline", "contains startswith =", true),
    ("fd.directory", "= in pmatch", false),
    ("fd.l4proto", "!= =", true),
    ("fd.typechar", "=", false),
    ("fd.type", "in", true),
    ("evt.arg.path", "startswith endswith contains", true),
    ("fd.lport", "", true),
    ("fd.rport", "", true),
    ("container.mount.dest", "in", false),
    ("evt.arg.name", "startswith endswith contains", true),
    ("evt.res", "= startswith !=", true),
    ("proc.pexe", "endswith", true),
    ("evt.arg.oldpath", "startswith endswith in contains", true),
    ("proc.exe", "endswith startswith =", true),
    ("thread.cap_permitted", "contains", true),
    ("evt.arg.uid", "=", true),
    ("evt.rawres", ">= in", false),
    ("evt.arg.newpath", "startswith pmatch contains", true),
    ("evt.arg.mode", "contains", true),
    ("fd.net", "!= =", false),
    ("fd.num", ">= =", false),
    ("fd.sport", "= in >= <=", true),
    ("k8s.ns.name", "= in", false),
    ("fd.ip", "!= =", false),
    ("evt.arg.request", "contains", false),
    ("proc.cwd", "startswith", true),
    ("container.id", "!= = exists", false),
    ("fd.sip.name", "in =", true),
    ("evt.arg.filename", "startswith", true),
    ("evt.is_open_read", "=", false),
    ("fd.connected", "=", false),
    ("fd.filename", "in", false),
    ("fd.name_changed", "=", false),
    ("fd.sip", "=", true),
    ("fd.snet", "in", false),
    ("proc.env", "icontains", true),
    ("thread.cap_effective", "contains icontains", true),
    ("container.privileged", "=", false),
    ("evt.arg.cmd", "=", true),
    ("evt.arg.target", "in", true),
    ("evt.is_open_write", "=", false),
    ("evt.num", "=", false),
    ("fd.nameraw", "contains glob", true),
    ("proc.vpid", "=", false),
    ("container.start_ts", "", true),
    ("evt.args", "", true),
    ("fd.cip.name", "in", true),
    ("group.gid", "", true),
    ("group.name", "", true),
    ("proc.pexepath", "", true),
    ("proc.sname", "", true),
    ("user.loginname", "", true),
    ("container.mounts", "", true),
    ("evt.arg.domain", "contains", false),
    ("evt.arg.fd", "", true),
    ("evt.arg.linkpath", "", true),
    ("evt.buffer", "bcontains", false),
    ("evt.is_open_exec", "=", false),
    ("fd.cip", "in", false),
    ("fd.cnet", "in", false),
    ("fd.lip.name", "", true),
    ("fd.port", "in", false),
    ("fd.rip", "", true),
    ("fd.rip.name", "", true),
    ("fd.rnet", "in", false),
    ("fd.sockfamily", "=", false),
    ("k8s.pod.name", "startswith", false),
    ("proc.aexe", "endswith", false),
    ("proc.aexepath", "", true),
    ("proc.duration", "<=", false),
    ("proc.exe_ino.ctime", "", true),
    ("proc.exe_ino.ctime_duration_proc_start", "", true),
    ("proc.exe_ino.mtime", "", true),
    ("proc.is_exe_from_memfd", "=", false),
    ("proc.is_exe_upper_layer", "=", false),
    ("proc.is_vpgid_leader", "=", false),
];

static TYPES: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "connect",
    "sendto",
    "sendmsg",
    "execve",
    "execveat",
    "accept",
    "accept4",
    "listen",
    "ptrace",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "unlink",
    "unlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "creat",
    "recvfrom",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "init_module",
    "finit_module",
    "dup",
    "dup2",
    "dup3",
    "socket",
    "setns",
    "unshare",
    "setuid",
    "bpf",
    "mkdir",
    "mkdirat",
    "recvmsg",
    "userfaultfd",
];

fn literal(field: &FieldRef, op: &str) -> String {
    let value = match field.ty() {
        FieldType::Bool => "true",
        FieldType::Ip => "\"10.0.0.5\"",
        FieldType::Net => "\"10.0.0.0/8\"",
        FieldType::Text if field.field.name == "evt.type" => "open",
        FieldType::Text | FieldType::Path => "/some/text",
        FieldType::Bytes => "cafe00",
        _ => "443",
    };
    match op {
        "exists" => String::new(),
        "in" | "intersects" | "pmatch" => format!("({value}, {value})"),
        _ => value.to_owned(),
    }
}

#[test]
fn what_the_rules_of_falco_use_can_be_used() {
    let mut text = String::from("- required_engine_version: 0.57.0\n");
    let mut count = 0;
    for (name, ops, shown) in FIELDS {
        // Mounts are asked for by number and by path.
        let arg = (*name == "container.mount.dest").then_some("/proc");
        let field = FieldRef::resolve(name, arg).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let written = field.to_string();
        let output = if *shown { format!("x=%{written}.") } else { "x".to_owned() };
        for op in ops.split(' ').filter(|op| !op.is_empty()).chain(ops.is_empty().then_some("exists")) {
            let value = literal(&field, op);
            write!(
                text,
                "- rule: {name} {op}\n  desc: d\n  priority: NOTICE\n  output: '{output}'\n  tags: [maturity_stable, T1059]\n  \
                 condition: (evt.type in (open, connect) and not {written} {op} {value})\n"
            )
            .unwrap();
            count += 1;
        }
    }
    for name in TYPES {
        write!(
            text,
            "- rule: type {name}\n  desc: d\n  priority: NOTICE\n  output: x\n  condition: evt.type in ({name}) and evt.type = {name}\n"
        )
        .unwrap();
        count += 1;
    }
    let (rules, diagnostics) = Loader::new().add_file("made-up.yaml", text).finish();
    let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(rules.len(), count);
    // Calls that fill memory from the network are known and not delivered; everything else has a source.
    let without: Vec<_> =
        diagnostics.iter().filter(|d| d.code == "LOAD_NO_SOURCE").map(|d| d.message.as_str()).collect();
    assert!(
        without.iter().all(|message| message.contains("`recvfrom`") || message.contains("`recvmsg`")),
        "{without:?}"
    );
    for kind in ["open", "connect"] {
        let sample = Sample { kind: kind.into(), ..Sample::default() };
        let hits = sample
            .inspect(1, |event| {
                let matching = rules.rules().iter().filter(|rule| rule.matches(event));
                matching.filter(|rule| !rule.message(event).is_empty() && rule.fields(event).len() < 9).count()
            })
            .unwrap();
        assert!(hits > count / 3, "{kind}: {hits} of {count}");
    }
}
