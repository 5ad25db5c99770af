//! The start of a command that is traced from its first instruction on.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use libc::sock_filter;

use super::{TraceError, stop};

/// A command that was started and is traced, and waits for [`Started::release`].
pub(super) struct Started {
    pub(super) pid: i32,
    /// A byte here lets it go on.
    go: OwnedFd,
    /// The number of an error comes out here if the command cannot be run.
    pub(super) error: OwnedFd,
}

/// Where a shell would find this program.
pub(super) fn find(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

fn text(text: &OsStr) -> Result<CString, TraceError> {
    CString::new(text.as_bytes()).map_err(|_| TraceError::Nul)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Starts `program` with these arguments, traced by the calling thread. `keep_privileges` lets programs of set-user-id
/// gain them as ever; only who may load filters for others can allow that.
pub(super) fn start(
    program: &OsStr,
    args: &[OsString],
    filter: &[sock_filter],
    keep_privileges: bool,
) -> Result<Started, TraceError> {
    let file = find(program).ok_or_else(|| TraceError::NotFound(program.to_owned()))?;
    let file = text(file.as_os_str())?;
    let mut argv = vec![text(program)?];
    for arg in args {
        argv.push(text(arg)?);
    }
    // What a shell does with a script that names no interpreter.
    let mut script = vec![c"sh".to_owned(), file.clone()];
    script.extend(argv.iter().skip(1).cloned());
    let (argv_pointers, script_pointers) = (pointers(&argv), pointers(&script));
    let (wait, go) = pipe()?;
    let (error, tell) = pipe()?;
    let fork = Fork {
        file: &file,
        argv: &argv_pointers,
        script: &script_pointers,
        filter,
        keep_privileges,
        wait: wait.as_raw_fd(),
        go: go.as_raw_fd(),
        tell: tell.as_raw_fd(),
    };
    // SAFETY: the child makes nothing but system calls on what was prepared above: other threads may have held locks.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(io::Error::last_os_error().into()),
        0 => fork.child(),
        _ => {}
    }
    if let Err(error) = stop::seize(pid) {
        stop::kill(pid, libc::SIGKILL);
        // SAFETY: it is our child and not waited for yet.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        return Err(TraceError::Refused(error));
    }
    Ok(Started { pid, go, error })
}

impl Started {
    /// Lets the command run.
    pub(super) fn release(&self) -> io::Result<()> {
        rustix::io::write(&self.go, b"g")?;
        Ok(())
    }

    /// Why the command could not be run; to be asked once it has run another program or ended.
    pub(super) fn why_not(&self) -> Option<io::Error> {
        let mut number = [0; 4];
        let mut pipe = std::fs::File::from(self.error.try_clone().ok()?);
        pipe.read_exact(&mut number).ok()?;
        Some(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
    }
}

/// Texts as the kernel wants them; they must live as long as the pointers are used.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the child needs, made before it is there.
struct Fork<'f> {
    file: &'f CStr,
    argv: &'f [*const libc::c_char],
    script: &'f [*const libc::c_char],
    filter: &'f [sock_filter],
    keep_privileges: bool,
    wait: RawFd,
    go: RawFd,
    tell: RawFd,
}

impl Fork<'_> {
    /// The life of the child up to the command. Nothing here may allocate or lock.
    fn child(&self) -> ! {
        let program = libc::sock_fprog {
            len: u16::try_from(self.filter.len()).unwrap_or(u16::MAX),
            filter: self.filter.as_ptr().cast_mut(),
        };
        let mut byte = 0_u8;
        // SAFETY: system calls on memory that was prepared before the fork and is only read, but for `byte`.
        unsafe {
            libc::close(self.go);
            // Only goes on when it is traced; if the tracer is gone it ends.
            if libc::read(self.wait, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(1);
            }
            // Ignored by Rust's runtime, which a command does not expect.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let refused = (!self.keep_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
                || libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) != 0;
            if !refused {
                libc::execv(self.file.as_ptr(), self.argv.as_ptr());
                if *libc::__errno_location() == libc::ENOEXEC {
                    libc::execv(c"/bin/sh".as_ptr(), self.script.as_ptr());
                }
            }
            let error = (*libc::__errno_location()).to_ne_bytes();
            libc::write(self.tell, error.as_ptr().cast(), error.len());
            libc::_exit(if refused { 125 } else { 127 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find(OsStr::new("sh")).is_some_and(|file| file.is_absolute()));
        assert_eq!(find(OsStr::new("./none")), Some("./none".into()));
        assert_eq!(find(OsStr::new("no-such-program-of-ours")), None);
    }
}
