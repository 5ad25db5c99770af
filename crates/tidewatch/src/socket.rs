//! Local sockets: how they are taken, so that two services never share one, and how a child gets one that its parent
//! holds.
//!
//! The supervisor holds the listening sockets and gives each child its own as standard input: a child that is started
//! again finds the connections that waited meanwhile.

use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Root alone: mode 0600.
    Root,
    /// Root and this group: mode 0660.
    Group(u32),
}

/// The mark that a run directory is in use. Dropping it gives it free.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

/// Takes a run directory for this process, which does the work of `verb`. Makes it if it is missing.
///
/// # Errors
/// If another process holds it; the message names it.
pub fn hold(run_dir: &Path, verb: &str) -> anyhow::Result<Hold> {
    std::fs::create_dir_all(run_dir).with_context(|| format!("cannot make the folder {}", run_dir.display()))?;
    let path = run_dir.join("lock");
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        // By hand, the folder may be another user's: no link of theirs is followed.
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => anyhow::bail!(
            "another Tidewatch runs with {}{}: ask that one (tidewatch status), stop it (systemctl stop tidewatch, or \
             Ctrl-C where it runs), or give this one folders of its own (--set run_dir=… --set state_dir=…)",
            run_dir.display(),
            holder(&mut lock).unwrap_or_default()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    lock.set_len(0)?;
    lock.write_all(format!("{} {verb}\n", std::process::id()).as_bytes())?;
    Ok(Hold { _lock: lock })
}

/// Who wrote the lock file, as a part of a sentence.
fn holder(lock: &mut File) -> Option<String> {
    let mut text = String::new();
    lock.take(64).read_to_string(&mut text).ok()?;
    let (pid, verb) = text.trim().split_once(' ')?;
    let pid: u32 = pid.parse().ok()?;
    verb.bytes().all(|byte| byte.is_ascii_lowercase()).then(|| format!(" (`tidewatch {verb}`, process {pid})"))
}

/// Binds a socket at `path`. A file that a dead process left there is replaced; one that somebody answers at is not.
///
/// # Errors
/// If somebody else holds it, or the folder cannot be written.
pub fn bind(path: &Path, access: Access) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    match UnixStream::connect(path) {
        Ok(stream) => {
            let who = rustix::net::sockopt::socket_peercred(&stream)
                .map(|peer| format!(" (process {})", peer.pid.as_raw_nonzero()))
                .unwrap_or_default();
            anyhow::bail!("{shown} is held by somebody else{who}: stop it, or set another run_dir");
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("cannot remove the old socket {shown}"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    }
    // Bound under another name first, so that nobody can connect before the permissions are right.
    let fresh = path.with_extension(format!("new{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).with_context(|| format!("cannot make the socket {shown}"))?;
    let mode = match access {
        Access::Root => 0o600,
        Access::Group(group) => {
            chown(&fresh, None, Some(group)).with_context(|| format!("cannot give {shown} to group {group}"))?;
            0o660
        }
    };
    std::fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot put the socket to {shown}"))?;
    Ok(listener)
}

/// The listening socket that a parent gave as standard input, if it is one.
pub fn inherited() -> Option<UnixListener> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let listens = rustix::net::sockopt::socket_acceptconn(stdin).unwrap_or(false);
    let local =
        rustix::net::sockopt::socket_domain(stdin).is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX);
    if !(listens && local) {
        return None;
    }
    stdin.try_clone_to_owned().ok().map(UnixListener::from)
}

/// A socket file that goes with its owner.
#[derive(Debug)]
pub struct Removed(pub PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidewatch-socket-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_socket_that_somebody_answers_at_is_not_taken() {
        let folder = folder("held");
        let path = folder.join("s.sock");
        let held = bind(&path, Access::Root).unwrap();
        let error = bind(&path, Access::Root).unwrap_err().to_string();
        assert!(error.contains("held by somebody else") && error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        bind(&path, Access::Root).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_run_directory_has_one_holder() {
        let folder = folder("lock");
        let first = hold(&folder, "run").unwrap();
        let error = hold(&folder, "agent").unwrap_err().to_string();
        assert!(error.contains(&format!("(`tidewatch run`, process {})", std::process::id())), "{error}");
        drop(first);
        drop(hold(&folder, "agent").unwrap());
        assert_eq!(std::fs::read_to_string(folder.join("lock")).unwrap(), format!("{} agent\n", std::process::id()));
        // No file elsewhere is written through a link.
        let (lock, other) = (folder.join("lock"), folder.join("other"));
        std::fs::rename(&lock, &other).unwrap();
        std::os::unix::fs::symlink(&other, &lock).unwrap();
        assert!(hold(&folder, "run").is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
