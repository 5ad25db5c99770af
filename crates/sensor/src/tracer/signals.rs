//! Signals while a command is watched. Those that a terminal sends go to the command by themselves, since it is of the
//! same process group; those that are sent to us by name are handed on to it.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Handed on if a process sent them.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGCONT];

/// Who gets them; 0: nobody.
static COMMAND: AtomicI32 = AtomicI32::new(0);
/// One came that ends programs while the command had ended already.
static END: AtomicBool = AtomicBool::new(false);
/// The whole process group was asked to stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// The handling of signals, until it is dropped.
pub(super) struct Signals {
    before: Vec<(i32, libc::sigaction)>,
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid pointer to a handler with SA_SIGINFO; errno is put back as it was.
    unsafe {
        let errno = *libc::__errno_location();
        if signal == libc::SIGTSTP || signal == libc::SIGTTIN {
            STOP.store(true, Ordering::Relaxed);
        } else {
            let command = COMMAND.load(Ordering::Relaxed);
            // The kernel's own, of a terminal, went to the whole group.
            let by_process = (*info).si_code <= 0;
            if command != 0 && by_process {
                libc::kill(command, signal);
            } else if command == 0 && END.swap(true, Ordering::Relaxed) {
                // A second one does not wait; what is left is killed with us.
                libc::_exit(128 + signal);
            }
        }
        *libc::__errno_location() = errno;
    }
}

impl Signals {
    /// Hands signals on to this process from now on.
    pub(super) fn forward_to(command: i32) -> io::Result<Self> {
        COMMAND.store(command, Ordering::Relaxed);
        END.store(false, Ordering::Relaxed);
        let mut signals = Self { before: Vec::new() };
        for signal in FORWARDED.into_iter().chain([libc::SIGTSTP, libc::SIGTTIN]) {
            // Whoever started us to ignore hang-ups (nohup) does not want them handed on.
            signals.set(signal, on_signal as *const () as libc::sighandler_t, libc::SA_SIGINFO)?;
        }
        // Findings may be written from the background.
        signals.set(libc::SIGTTOU, libc::SIG_IGN, 0)?;
        Ok(signals)
    }

    fn set(&mut self, signal: i32, handler: libc::sighandler_t, flags: i32) -> io::Result<()> {
        // SAFETY: a zeroed sigaction is valid; the handler above calls nothing that a handler may not.
        unsafe {
            let mut before = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(signal, ptr::null(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            let before = before.assume_init();
            if before.sa_sigaction == libc::SIG_IGN {
                return Ok(());
            }
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            if libc::sigaction(signal, &raw const action, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            self.before.push((signal, before));
        }
        Ok(())
    }

    /// The command has ended.
    pub(super) fn nobody(&self) {
        COMMAND.store(0, Ordering::Relaxed);
    }

    /// Whether somebody wants the end although the command has ended already.
    pub(super) fn wants_end(&self) -> bool {
        END.load(Ordering::Relaxed)
    }

    /// The command, of process group `group`, was stopped by `signal`: stops this program too if the whole job was, so
    /// that the shell takes the terminal back. Returns when the job goes on.
    pub(super) fn stop_with(&self, signal: i32, group: i32) {
        let asked = STOP.swap(false, Ordering::Relaxed);
        // SAFETY: no memory is involved.
        let ours = unsafe { libc::getpgrp() };
        if asked || (signal == libc::SIGTTOU && group == ours) {
            // SAFETY: as above; a stopped program goes on where it was.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.nobody();
        for (signal, before) in &self.before {
            // SAFETY: puts back what was there.
            unsafe { libc::sigaction(*signal, before, ptr::null_mut()) };
        }
    }
}
