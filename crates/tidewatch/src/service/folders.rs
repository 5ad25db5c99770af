//! The folders of the service, each with its owner, and the account that the manager runs under.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::Context as _;

use crate::config::Config;

/// User and group that the manager runs under where its user does not exist: of nobody, and below what service managers
/// hand out on the fly.
const UNNAMED: u32 = 65_530;

/// The user that an installation makes.
const DEFAULT_USER: &str = "tidewatch";

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

impl Account {
    /// The account of this name in `/etc/passwd`, or with this number. Where the default user was not made yet it is a
    /// number of nobody.
    ///
    /// # Errors
    /// If that is root, does not exist, or the number of nobody is somebody's.
    pub fn find(name: &str) -> anyhow::Result<Self> {
        Self::find_in(&std::fs::read_to_string("/etc/passwd").unwrap_or_default(), name)
    }

    fn find_in(passwd: &str, name: &str) -> anyhow::Result<Self> {
        let entries = passwd.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let uid: u32 = parts.nth(1)?.parse().ok()?;
            let gid: u32 = parts.next()?.parse().ok()?;
            Some((name, Self { uid, gid }))
        });
        let number: Option<u32> = name.parse().ok();
        let mut taken = false;
        for (known, account) in entries {
            if known == name || number == Some(account.uid) {
                anyhow::ensure!(
                    account.uid != 0 && account.gid != 0,
                    "manager.user is {name}, which is root or of its group: the manager must not be; name another user"
                );
                return Ok(account);
            }
            taken |= account.uid == UNNAMED;
        }
        match number {
            Some(uid) if uid != 0 => return Ok(Self { uid, gid: uid }),
            _ => {}
        }
        anyhow::ensure!(
            name == DEFAULT_USER,
            "there is no user {name}: make one (useradd --system {name}), or mend manager.user"
        );
        anyhow::ensure!(!taken, "there is no user {name}, and {UNNAMED} is somebody's: useradd --system {name}");
        tracing::debug!("there is no user {name}: the manager runs as number {UNNAMED}");
        Ok(Self { uid: UNNAMED, gid: UNNAMED })
    }
}

/// Makes the folders that are missing and gives each to its owner.
pub(super) fn prepare(config: &Config) -> anyhow::Result<Account> {
    let account = Account::find(&config.manager.user)?;
    let root = Account { uid: 0, gid: 0 };
    let for_manager = Account { uid: 0, gid: account.gid };
    make(&config.run_dir, for_manager, 0o750)?;
    make(&config.state_dir, for_manager, 0o750)?;
    make(&config.agent_dir(), root, 0o700)?;
    make(&config.manager_dir(), account, 0o700)?;
    if let Some(folder) = &config.log.file {
        make(folder, for_manager, 0o750)?;
        // A folder of its own: the manager must not be able to lay a link where root writes.
        make(&folder.join("manager"), account, 0o750)?;
    }
    Ok(account)
}

fn make(path: &Path, owner: Account, mode: u32) -> anyhow::Result<()> {
    let shown = path.display();
    // What lies above is for everybody to pass through.
    if let Some(above) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)
            .with_context(|| format!("cannot make the folder {}", above.display()))?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make the folder {shown}"));
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(path).with_context(|| format!("cannot look at {shown}"))?;
    anyhow::ensure!(found.is_dir(), "{shown} is no folder: move it away");
    anyhow::ensure!(
        found.mode() & 0o002 == 0,
        "{shown} is a folder that everybody may write: name one of its own (run_dir, state_dir, log.file)"
    );
    let to = |who: Account| {
        chown(path, Some(who.uid), Some(who.gid)).with_context(|| format!("cannot give {shown} to its owner"))
    };
    if found.mode() & 0o7777 != mode {
        // Only its owner may change the mode, and this process need not have the power to do so for others.
        to(Account { uid: 0, gid: found.gid() })?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the permissions of {shown}"))?;
    }
    to(owner)?;
    if (found.uid(), found.gid()) != (owner.uid, owner.gid) && owner.uid != 0 {
        // What is in it was its former owner's: the manager's user may have been made since.
        for entry in std::fs::read_dir(path)?.filter_map(Result::ok) {
            std::os::unix::fs::lchown(entry.path(), Some(owner.uid), Some(owner.gid))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ntidewatch:x:997:996::/nonexistent:/usr/sbin/nologin\nbroken\n";

    #[test]
    fn the_manager_runs_as_its_user_or_as_nobodys_number_and_never_as_root() {
        assert_eq!(Account::find_in(PASSWD, "tidewatch").unwrap(), Account { uid: 997, gid: 996 });
        assert_eq!(Account::find_in(PASSWD, "997").unwrap(), Account { uid: 997, gid: 996 });
        assert_eq!(Account::find_in(PASSWD, "4711").unwrap(), Account { uid: 4711, gid: 4711 });
        assert_eq!(Account::find_in("", "tidewatch").unwrap(), Account { uid: UNNAMED, gid: UNNAMED });
        assert!(Account::find_in(PASSWD, "root").unwrap_err().to_string().contains("must not be"));
        assert!(Account::find_in(PASSWD, "0").unwrap_err().to_string().contains("must not be"));
        assert!(Account::find_in(PASSWD, "absent").unwrap_err().to_string().contains("useradd"));
        let taken = format!("x:x:{UNNAMED}:1::/:/bin/sh\n");
        assert!(Account::find_in(&taken, "tidewatch").is_err());
    }
}
