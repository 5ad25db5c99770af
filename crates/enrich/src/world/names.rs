//! Names: of the users that processes are, and of the addresses that they talk to.

use tw_model::process::{Credentials, UserNames};
use tw_model::raw::sock_attr;
use tw_model::{Place, Raw};

use super::{MAX_USER_LISTS, World};
use crate::journal::Context;
use crate::users::UserDb;

impl World {
    /// What a process is told of addresses holds for its container.
    pub(super) fn learn_names(&mut self, raw: &Raw<'_>) {
        if let Some(message) = raw.dns().filter(|_| raw.sock().is_some_and(|sock| sock.has(sock_attr::RECEIVED))) {
            let place = Place::of(self.membership.container(raw.header.cgroup));
            self.known_names.learn(place, &message, raw.header.time);
        }
    }

    /// Names for credentials, unless they are those that the process has already in the same container.
    pub(super) fn names_if_new(&mut self, raw: &Raw<'_>, cred: &Credentials) -> Option<UserNames> {
        let known = self.processes.get(raw.key())?;
        let same = known.cred.uid == cred.uid
            && known.cred.gid == cred.gid
            && known.cred.loginuid == cred.loginuid
            && known.cgroup_id == raw.header.cgroup
            && !known.names.user.is_empty();
        if same { None } else { Some(self.names(raw.header.cgroup, raw.header.pid, cred)) }
    }

    pub(super) fn names(&mut self, cgroup: u64, pid: u32, cred: &Credentials) -> UserNames {
        let (uid, gid, loginuid) = (cred.uid, cred.gid, cred.loginuid);
        let container: Box<str> = self.membership.container(cgroup).map_or("", |container| &*container.id).into();
        if self.reliving {
            return self.told_names.get(&(container, uid, gid, loginuid)).cloned().unwrap_or_default();
        }
        let names = self.look_up_names(&container, pid, cred);
        let told = || Context::Names { container: container.into(), uid, gid, loginuid, names: names.clone() };
        self.membership.journal.note(told);
        names
    }

    fn look_up_names(&mut self, container: &str, pid: u32, cred: &Credentials) -> UserNames {
        if container.is_empty() {
            return self.host_users.names(cred.uid, cred.gid, cred.loginuid);
        }
        if !self.container_users.contains_key(container) {
            let users = UserDb::for_process(&self.options.proc_root, pid, &self.host_users);
            if self.container_users.len() >= MAX_USER_LISTS {
                self.user_lists_evicted += self.container_users.len() as u64;
                self.container_users.clear();
            }
            self.container_users.insert(container.into(), users);
        }
        let users = self.container_users.get(container);
        users.map(|users| users.names(cred.uid, cred.gid, cred.loginuid)).unwrap_or_default()
    }
}
