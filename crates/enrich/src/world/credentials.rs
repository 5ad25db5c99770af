//! Whose rights a process has: taken from the calls that change them, and compared at every event with what was known.
//!
//! Rights that come from nowhere are what an exploit of the kernel leaves behind: it writes them over those of the process,
//! without any call. They show at the next event.

use tw_model::Raw;
use tw_model::event::{EventKind, Prior};
use tw_model::process::Credentials;
use tw_model::raw::{CAPS_UNKNOWN, CallBody, F_RING};

use super::{SETUID, World};

impl World {
    /// Credentials before the event, and whether those that the record has could have come from them. What nothing that
    /// was seen explains is taken over, so that it is told once.
    pub(super) fn prior(&mut self, raw: &Raw<'_>) -> Prior {
        let Some(process) = self.processes.get(raw.key()) else { return Prior::default() };
        let (header, cred) = (raw.header, &process.cred);
        let mut prior = Prior { uid: cred.uid, gid: cred.gid, cap_effective: cred.cap_effective, jumped: false };
        let open = is_open(raw.kind());
        if let Some((uid, cap_effective)) = process.jumped_from.filter(|_| !open) {
            if let Some(process) = self.processes.get_mut(raw.key()) {
                process.jumped_from = None;
            }
            return Prior { uid, cap_effective, jumped: true, ..prior };
        }
        let same = header.uid == cred.uid && header.gid == cred.gid && header.caps == cred.cap_effective;
        if same
            || header.caps == CAPS_UNKNOWN
            || header.flags & F_RING != 0
            || process.threads_differ
            // From another ring, and older than what is known.
            || header.time < process.cred_ns.max(process.exec_ns)
            || header.ret >= 0 && changes_credentials(raw.kind())
        {
            return prior;
        }
        let root = header.uid == 0 && cred.uid != 0;
        if let Some(exec) = raw.exec().filter(|_| header.ret >= 0) {
            // What else an exec gives depends on the file; it is taken over with the rest of the exec.
            prior.jumped = root && exec.mode & SETUID == 0;
            return prior;
        }
        let main = header.tid == header.pid;
        let gained = root || header.caps & !cred.cap_effective != 0;
        // Calls change one thread: others keep what they had. So may threads that were there before us.
        prior.jumped = gained && (main || (!process.inferred && process.cred_ns == 0));
        if !main && !prior.jumped {
            if let Some(process) = self.processes.get_mut(raw.key()) {
                process.threads_differ = true;
            }
            return prior;
        }
        let cred = Credentials {
            uid: header.uid,
            gid: header.gid,
            cap_effective: header.caps,
            cap_permitted: cred.cap_permitted | header.caps,
            ..cred.clone()
        };
        let names = self.names_if_new(raw, &cred);
        // Opens are so many that no rule should have to look at each: told at the next event of another kind.
        let from = (prior.jumped && open).then_some((prior.uid, prior.cap_effective));
        prior.jumped &= !open;
        if let Some(process) = self.processes.get_mut(raw.key()) {
            process.cred = cred;
            process.jumped_from = from.or(process.jumped_from);
            if let Some(names) = names {
                process.names = names;
            }
        }
        prior
    }

    /// Calls that change credentials: the header and the body have them as they are after the call.
    pub(super) fn credentials(&mut self, raw: &Raw<'_>, body: &CallBody) {
        if !changes_credentials(raw.kind()) {
            return;
        }
        let Some(process) = self.processes.get_mut(raw.key()) else { return };
        process.cred_ns = raw.header.time;
        if raw.header.tid != raw.header.pid {
            process.threads_differ |=
                process.cred.uid != raw.header.uid || process.cred.cap_effective != body.cap_effective;
            return;
        }
        let cred = Credentials {
            uid: raw.header.uid,
            gid: raw.header.gid,
            loginuid: process.cred.loginuid,
            cap_effective: body.cap_effective,
            cap_permitted: body.cap_permitted,
            cap_inheritable: body.cap_inheritable,
        };
        let names = self.names_if_new(raw, &cred);
        if let Some(process) = self.processes.get_mut(raw.key()) {
            process.cred = cred;
            process.threads_differ = false;
            if let Some(names) = names {
                process.names = names;
            }
        }
    }
}

fn is_open(kind: EventKind) -> bool {
    use EventKind::{Creat, Open, OpenByHandleAt, Openat, Openat2};
    matches!(kind, Open | Openat | Openat2 | Creat | OpenByHandleAt)
}

/// Calls after which credentials may be others.
fn changes_credentials(kind: EventKind) -> bool {
    use EventKind::{Capset, Setfsuid, Setgid, Setns, Setregid, Setresgid, Setresuid, Setreuid, Setuid, Unshare};
    matches!(kind, Capset | Setfsuid | Setgid | Setns | Setregid | Setresgid | Setresuid | Setreuid | Setuid | Unshare)
}
