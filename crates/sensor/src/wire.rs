//! Test that the wire contract of bpf/tidewatch.h and `tw_model::raw` are the same, by the type information in the
//! compiled object.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::mem::offset_of;

use libbpf_rs::btf::{Btf, types};
use tw_model::raw::{CallBody, ExecBody, ExitBody, FileBody, FlowFigures, ForkBody, Header, SockBody, SocketId};

use crate::calls::{Args, Config};
use crate::ebpf::Count;
use crate::missed::Sampling;

/// Members of a struct in the object: name and offset in bytes.
fn members(name: &str) -> (Vec<(String, usize)>, usize) {
    let object = std::env::temp_dir().join(format!("tidewatch-wire-{}-{name}.o", std::process::id()));
    std::fs::write(&object, crate::ebpf::OBJECT).unwrap();
    let btf = Btf::from_path(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    let found: types::Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name} in the object"));
    let members = found
        .iter()
        .map(|member| {
            let types::MemberAttr::Normal { offset } = member.attr else { panic!("bit fields cross no border") };
            (member.name.unwrap().to_string_lossy().into_owned(), offset as usize / 8)
        })
        .collect();
    (members, libbpf_rs::btf::HasSize::size(&found))
}

/// Compares all members of a body, which follows the header in C and is a struct of its own in Rust.
macro_rules! same_body {
    ($c:literal, $rust:ty, [$($member:ident),*]) => {{
        let (members, size) = members($c);
        let header = size_of::<Header>();
        let ours = vec![("hdr".to_owned(), 0), $((stringify!($member).trim_end_matches('_').to_owned(), header + offset_of!($rust, $member))),*];
        assert_eq!(members, ours, $c);
        assert_eq!(size, header + size_of::<$rust>(), $c);
    }};
}

macro_rules! same_struct {
    ($c:literal, $rust:ty, [$($c_member:literal $member:ident),*]) => {{
        let (members, size) = members($c);
        let ours: Vec<(String, usize)> = vec![$(($c_member.to_owned(), offset_of!($rust, $member))),*];
        assert_eq!(members, ours, $c);
        assert_eq!(size, size_of::<$rust>(), $c);
    }};
}

#[test]
fn records_have_the_same_layout_on_both_sides() {
    same_struct!("tw_hdr", Header, ["size" size, "kind" kind, "flags" flags, "cpu" cpu, "time" time, "start" start,
        "cgroup" cgroup, "pid" pid, "tid" tid, "uid" uid, "gid" gid, "ret" ret, "caps" caps, "comm" comm]);
    same_body!(
        "tw_fork",
        ForkBody,
        [child_start, parent_start, child_pid, parent_pid, child_vpid, child_uid, child_caps, flags]
    );
    same_body!(
        "tw_exec",
        ExecBody,
        [
            parent_start,
            cap_effective,
            cap_permitted,
            cap_inheritable,
            ino,
            ctime,
            mtime,
            dev,
            mode,
            attrs,
            ppid,
            vpid,
            pgid,
            sid,
            vpgid,
            tty,
            loginuid,
            ns_mnt,
            ns_pid,
            ns_net,
            ns_user,
            ns_uts,
            ns_ipc,
            ns_cgroup,
            pad,
            exepath,
            filename,
            interp,
            cwd,
            args,
            env,
            cgroup_name,
            pad_str
        ]
    );
    same_body!("tw_exit", ExitBody, [code, pad]);
    same_body!(
        "tw_file",
        FileBody,
        [ino, fd, dirfd, dirfd2, flags, mode, dev, attrs, uid, gid, root, path, raw, base, raw2, base2, extra]
    );
    same_body!(
        "tw_sock",
        SockBody,
        [size, fd, oldfd, family, type_, proto, lport, rport, attrs, backlog, laddr, raddr, path, raw, data, pad_str]
    );
    same_struct!("tw_flow", FlowFigures, ["started" started, "bytes_out" bytes_out, "bytes_in" bytes_in,
        "packets_out" packets_out, "packets_in" packets_in, "state" state, "pad" pad]);
    same_struct!("tw_listener", SocketId, ["ino" ino, "netns" netns, "chosen" chosen]);
    same_body!(
        "tw_call",
        CallBody,
        [args, cap_effective, cap_permitted, cap_inheritable, target, targets, text, text2, text3, pad_str]
    );
}

#[test]
fn tables_and_counters_have_the_same_layout_on_both_sides() {
    let (members, size) = members("tw_config");
    assert_eq!(size, size_of::<Config>());
    assert_eq!(members.first().map(|(name, _)| name.as_str()), Some("self"));
    let (args, size) = self::members("tw_args");
    assert_eq!((args.len(), size), (size, size_of::<Args>()), "each member is one byte");
    same_struct!("tw_count", Count, ["sent" sent, "missed" missed]);
    same_struct!("tw_sampling", Sampling, ["failed_opens" failed_opens, "read_opens" read_opens]);
    let (_, size) = self::members("tw_missed");
    assert_eq!(size, size_of::<crate::missed::Counts>());
    let (_, size) = self::members("tw_table_use");
    assert_eq!(size, size_of::<crate::missed::TableUse>());
}

/// `enum tw_table`, and maps by the names of the tables.
#[test]
fn the_tables_of_the_kernel_half_have_the_same_rows_on_both_sides() {
    use crate::missed::{CGROUPS, Row, TABLES};

    // No type information names it: it only numbers rows.
    let header = include_str!("../../../bpf/tidewatch.h");
    let rows = header.split_once("enum tw_table {").and_then(|(_, rest)| rest.split_once('}')).unwrap().0;
    let rows: Vec<String> = rows.split(',').map(|row| row.trim().to_lowercase()).collect();
    for (name, row) in TABLES.into_iter().chain([("missed", Row::Missed), ("folds", Row::Folds)]) {
        assert_eq!(rows[row as usize], format!("tw_t_{name}"));
    }
    assert_eq!(rows.len(), TABLES.len() + 3, "the last is the number of them");
    let open = libbpf_rs::ObjectBuilder::default().open_memory(crate::ebpf::OBJECT).unwrap();
    let size = |wanted: &str| {
        let map = open.maps().find(|map| map.name() == wanted);
        map.unwrap_or_else(|| panic!("no map {wanted}")).max_entries() as usize
    };
    assert!(TABLES.iter().all(|(name, _)| size(name) > 0));
    assert_eq!(size("missed"), CGROUPS);
}
