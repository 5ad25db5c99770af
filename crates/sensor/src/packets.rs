//! Packets of a network namespace: a socket that gets a copy of each frame, both directions, and disturbs nobody.
//!
//! The namespace is entered by a thread that ends at once; the socket stays in it. **Never:** writes a frame, sets an
//! interface to promiscuous mode, or waits longer than it was told to.

use std::fs::File;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// Bytes of frames that the kernel holds for us.
const BUFFER: libc::c_int = 16 << 20;
/// `PACKET_STATISTICS`
const STATISTICS: libc::c_int = 6;

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it passed, nanoseconds since the epoch.
    pub wall_ns: u64,
    /// Number of the interface.
    pub interface: u32,
    /// Kind of hardware of the interface, `ARPHRD_*`: 1 Ethernet, 772 loopback.
    pub hardware: u16,
    /// Sent by this namespace.
    pub outgoing: bool,
    /// Length on the wire.
    pub length: u32,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

/// A socket that hears everything in a network namespace.
#[derive(Debug)]
pub struct PacketTap {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl PacketTap {
    /// Opens one in `namespace`, a file of `/proc/PID/ns/net`; keeps `snaplen` bytes of each frame.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN` to enter the namespace and `CAP_NET_RAW` in it.
    pub fn open(namespace: File, snaplen: usize) -> io::Result<Self> {
        let made = std::thread::Builder::new().name("namespace".into()).spawn(move || {
            // SAFETY: plain calls with a descriptor that is open. Only this thread, which ends, is moved.
            unsafe {
                if libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) != 0 {
                    return Err(io::Error::last_os_error());
                }
                let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
                let all = (libc::ETH_P_ALL as u16).to_be();
                let socket = libc::socket(libc::AF_PACKET, kind, all.into());
                if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(socket)) }
            }
        })?;
        let socket = made.join().map_err(|_| io::Error::other("the thread that enters the namespace ended"))??;
        let tap = Self { socket, buffer: vec![0; snaplen] };
        tap.set(libc::SO_TIMESTAMPNS, 1)?;
        // The larger size takes a right that we may not have; the kernel then bounds it.
        if tap.set(libc::SO_RCVBUFFORCE, BUFFER).is_err() {
            tap.set(libc::SO_RCVBUF, BUFFER)?;
        }
        Ok(tap)
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the value lives through the call, and its size is told.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame; `None` if there is none in `patience`.
    ///
    /// # Errors
    /// If the socket cannot be read.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Packet<'_>>> {
        let mut wait = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let patience = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one descriptor, which is open.
        match unsafe { libc::poll(&raw mut wait, 1, patience) } {
            0 => return Ok(None),
            1.. => {}
            _ => return interrupted(io::Error::last_os_error()),
        }
        // SAFETY: these are plain data, for which zeros are valid.
        let (mut from, mut message) = unsafe { (zeroed::<libc::sockaddr_ll>(), zeroed::<libc::msghdr>()) };
        let mut control = [0_u64; 16];
        let mut piece = libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all that the message points to lives through the call, with the sizes that are told.
        let got =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC | libc::MSG_DONTWAIT) };
        if got < 0 {
            return interrupted(io::Error::last_os_error());
        }
        let wall_ns = time_in(&message).unwrap_or_else(crate::clock::wall_ns);
        let kept = (got as usize).min(self.buffer.len());
        Ok(Some(Packet {
            wall_ns,
            interface: from.sll_ifindex as u32,
            hardware: from.sll_hatype,
            outgoing: from.sll_pkttype == libc::PACKET_OUTGOING,
            length: got as u32,
            bytes: self.buffer.get(..kept).unwrap_or_default(),
        }))
    }

    /// Frames that the kernel had no room for since the last call.
    pub fn lost(&self) -> u64 {
        let mut counts = [0_u32; 2];
        let mut size = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the array lives through the call, and its size is told.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut size,
            )
        };
        if got == 0 { counts[1].into() } else { 0 }
    }

    /// Name of an interface of the namespace; empty if it is gone.
    pub fn interface_name(&self, number: u32) -> String {
        // SAFETY: zeros are valid; the structure lives through the call, which fills the name.
        unsafe {
            let mut request = zeroed::<libc::ifreq>();
            request.ifr_ifru.ifru_ifindex = number as libc::c_int;
            if libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) != 0 {
                return String::new();
            }
            let name = request.ifr_name.map(|letter| letter as u8);
            let end = name.iter().position(|letter| *letter == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        }
    }
}

/// A signal, or a frame that somebody else took, is no error.
fn interrupted<'a>(error: io::Error) -> io::Result<Option<Packet<'a>>> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(None),
        _ => Err(error),
    }
}

/// The kernel's time of a message.
fn time_in(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel filled the control buffer and set its length; the macros stay within it. The time may lie at
    // any address.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while let Some(head) = at.as_ref() {
            if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = libc::CMSG_DATA(at).cast::<libc::timespec>().read_unaligned();
                let seconds = u64::try_from(time.tv_sec).ok()?;
                return seconds.checked_mul(1_000_000_000)?.checked_add(time.tv_nsec as u64);
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    None
}
