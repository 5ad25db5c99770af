//! The ways to watch, and what each can tell: which rules can find something is worked out from this table.

use serde::{Deserialize, Serialize};

use crate::event::{EventKind, KindSet};

/// A way to watch, from the best to the one that needs no rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Programs in the kernel: everything, on the whole host.
    #[default]
    Ebpf,
    /// The same as the next, with fanotify beside it: executions and files, on the whole host.
    Fanotify,
    /// The kernel's process connector, beside `/proc`: executions and ends, on the whole host.
    Connector,
    /// One command and what descends from it, by ptrace: nearly everything, without any right.
    Wrap,
}

impl Mode {
    /// All of them, the best first.
    pub const ALL: [Self; 4] = [Self::Ebpf, Self::Fanotify, Self::Connector, Self::Wrap];

    /// Its name in settings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Fanotify => "fanotify",
            Self::Connector => "connector",
            Self::Wrap => "wrap",
        }
    }

    /// What it is, in a few words for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Ebpf => "eBPF",
            Self::Fanotify => "process connector, fanotify and /proc",
            Self::Connector => "process connector and /proc",
            Self::Wrap => "seccomp and ptrace around one command",
        }
    }

    /// The kinds of events that it delivers.
    pub fn kinds(self) -> KindSet {
        use EventKind::{
            Clone, Coverage, Dns, Execve, Flow, ListenEnd, Openat, Procexit, Ptrace, Resource, Setresgid, Setresuid,
            Write,
        };
        let of = |kinds: &[EventKind]| kinds.iter().fold(KindSet::NONE, |set, kind| set.or(KindSet::one(*kind)));
        match self {
            Self::Ebpf => KindSet::ALL,
            Self::Fanotify => Self::Connector.kinds().or(KindSet::one(Openat)),
            Self::Connector => of(&[Clone, Coverage, Execve, Procexit, Ptrace, Resource, Setresuid, Setresgid]),
            // First bytes of connections and what is received would take a stop at each write and read; a socket that
            // goes is no call of its own; nobody measures one command, and it has no ledger.
            Self::Wrap => KindSet::ALL.and(of(&[Coverage, Dns, Flow, ListenEnd, Resource, Write]).not()),
        }
    }

    /// The kinds that are told as another one, since it is not known which call it was.
    pub fn told_as(self, kind: EventKind) -> KindSet {
        use EventKind::{
            Creat, Execve, Execveat, Open, OpenByHandleAt, Openat, Openat2, Setgid, Setregid, Setresgid, Setresuid,
            Setreuid, Setuid,
        };
        let others: &[EventKind] = match (self, kind) {
            (Self::Fanotify, Openat) => &[Open, Openat2, Creat, OpenByHandleAt],
            (Self::Fanotify | Self::Connector, Execve) => &[Execveat],
            (Self::Fanotify | Self::Connector, Setresuid) => &[Setuid, Setreuid],
            (Self::Fanotify | Self::Connector, Setresgid) => &[Setgid, Setregid],
            _ => &[],
        };
        others.iter().fold(KindSet::NONE, |set, kind| set.or(KindSet::one(*kind)))
    }

    /// The fields that have no source in it, whatever the event: what they are in brackets is left out.
    pub fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::Ebpf => &[],
            Self::Fanotify => OPENS,
            Self::Connector | Self::Wrap => LAYERS,
        }
    }

    /// Whether a field has no source in it; `name` may have something in brackets.
    pub fn lacks_field(self, name: &str) -> bool {
        let stem = name.split('[').next().unwrap_or(name);
        self.lacks().contains(&stem)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Layers of an overlay are the kernel's own: nothing in `/proc` shows them.
const LAYERS: &[&str] =
    &["proc.is_exe_upper_layer", "proc.is_exe_lower_layer", "fd.is_upper_layer", "fd.is_lower_layer"];
/// Fanotify tells the file that was opened, and neither the call nor its arguments.
const OPENS: &[&str] = &[
    "proc.is_exe_upper_layer",
    "proc.is_exe_lower_layer",
    "fd.is_upper_layer",
    "fd.is_lower_layer",
    "evt.is_open_create",
    "evt.is_open_exec",
    "fd.nameraw",
    "fs.path.nameraw",
    "fs.path.differs",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldRef;

    #[test]
    fn every_mode_sees_executions_and_lacks_only_fields_that_there_are() {
        for mode in Mode::ALL {
            assert!(mode.kinds().contains(EventKind::Execve), "{mode}");
            for field in mode.lacks() {
                assert!(FieldRef::resolve(field, None).is_ok(), "{mode}: {field}");
            }
            assert_eq!(serde_json::json!(mode), mode.name());
        }
        // The minutes of the ledger are the agent's own, whatever its sensor.
        let tells_coverage = |mode: Mode| mode.kinds().contains(EventKind::Coverage);
        assert!(tells_coverage(Mode::Ebpf) && tells_coverage(Mode::Connector) && !tells_coverage(Mode::Wrap));
        assert!(Mode::Wrap.lacks_field("proc.is_exe_upper_layer") && !Mode::Ebpf.lacks_field("proc.name"));
    }
}
