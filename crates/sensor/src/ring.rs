//! Reader of a BPF ring buffer (`BPF_MAP_TYPE_RINGBUF`), straight from the shared pages: no call and no copy per
//! record, and records of several rings can be taken in the order of their time.
//!
//! Layout (kernel/bpf/ringbuf.c): one page with the consumer's position, one with the producer's, then the data,
//! twice in a row so that no record wraps. A record starts with 8 bytes: its length, with bit 31 set while it is being
//! written and bit 30 if it is to be skipped.
//!
//! Of the data only a window is mapped, and moved along with the reader: the kernel puts every page of a mapping into
//! it at once, so that a whole ring would be resident twice, whether or not anything ever was in it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEAD: usize = 8;

/// How much of the data is mapped at a time: many times the longest record (bpf/maps.h: 21 KiB), so that moving it is
/// rare.
const WINDOW: usize = 512 << 10;

/// What the reader finds at its position.
pub(crate) enum Next<'r> {
    /// A complete record.
    Record(&'r [u8]),
    /// A record that is still being written.
    Busy,
    /// Nothing.
    Empty,
}

/// One ring, mapped.
pub(crate) struct Ring {
    map: OwnedFd,
    consumer: Pages,
    producer: Pages,
    window: Pages,
    /// The position that the window starts at.
    window_at: u64,
    size: usize,
    page: usize,
    /// Where the next record starts.
    position: u64,
    /// End of what was written when [`Ring::refresh`] looked.
    end: u64,
}

impl Ring {
    /// Maps the ring buffer map `fd` of `size` bytes, a power of two.
    pub(crate) fn map(fd: BorrowedFd<'_>, size: usize) -> std::io::Result<Self> {
        Self::with_window(fd, size, WINDOW)
    }

    fn with_window(fd: BorrowedFd<'_>, size: usize, window: usize) -> std::io::Result<Self> {
        let page = rustix::param::page_size();
        let consumer = Pages::map(fd, 0, page, ProtFlags::READ | ProtFlags::WRITE)?;
        let producer = Pages::map(fd, page, page, ProtFlags::READ)?;
        let position = consumer.position().load(Ordering::Acquire);
        let window_at = position & !(page as u64 - 1);
        let window = Pages::map(fd, 2 * page + (window_at as usize & (size - 1)), window.min(size), ProtFlags::READ)?;
        let map = fd.try_clone_to_owned()?;
        Ok(Self { map, consumer, producer, window, window_at, size, page, position, end: position })
    }

    /// Looks how far the kernel has written. Records behind that are left for the next time.
    pub(crate) fn refresh(&mut self) {
        self.end = self.producer.position().load(Ordering::Acquire);
    }

    /// The record at the position, skipping those that were discarded.
    pub(crate) fn peek(&mut self) -> Next<'_> {
        while self.position < self.end {
            // Cannot fail but for want of memory; then the records wait, nothing overtakes them, and what finds no room is
            // counted.
            let Some(at) = self.within_window(HEAD) else { return Next::Busy };
            // SAFETY: `at` is 8-byte aligned, as every record is, and so many bytes behind it are mapped.
            let head = unsafe { self.window.start.add(at).cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return Next::Busy;
            }
            let len = (head & !DISCARD) as usize;
            if head & DISCARD != 0 {
                self.position += Self::span(len);
                continue;
            }
            if HEAD + len > self.window.len {
                // Cannot be; nothing is read past the mapping if it is.
                return Next::Empty;
            }
            let Some(at) = self.within_window(HEAD + len) else { return Next::Busy };
            // SAFETY: the record is mapped in one piece, even if the ring wraps in it. The kernel does not write it again
            // before the position is published, and the window does not move while the record is borrowed.
            return Next::Record(unsafe { std::slice::from_raw_parts(self.window.start.add(at + HEAD).as_ptr(), len) });
        }
        Next::Empty
    }

    /// Where in the window the position is; the window is moved if `len` bytes from there are not in it.
    fn within_window(&mut self, len: usize) -> Option<usize> {
        let at = (self.position - self.window_at) as usize;
        if at + len <= self.window.len {
            return Some(at);
        }
        let page = self.page as u64;
        let window_at = self.position & !(page - 1);
        let at = (self.position - window_at) as usize;
        if at + len > self.window.len {
            return None;
        }
        let offset = 2 * self.page + (window_at as usize & (self.size - 1));
        match Pages::map(self.map.as_fd(), offset, self.window.len, ProtFlags::READ) {
            Ok(window) => (self.window, self.window_at) = (window, window_at),
            Err(error) => {
                tracing::debug!("a ring cannot be read on: {error}");
                return None;
            }
        }
        Some(at)
    }

    /// Steps over the record that [`Ring::peek`] gave.
    pub(crate) fn advance(&mut self, len: usize) {
        self.position += Self::span(len);
    }

    /// Gives the room of everything before the position back to the kernel.
    pub(crate) fn publish(&self) {
        self.consumer.position().store(self.position, Ordering::Release);
    }

    /// Bytes written and not yet taken, as of the last look.
    pub(crate) fn pending(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    fn span(len: usize) -> u64 {
        (len + HEAD).next_multiple_of(8) as u64
    }
}

/// Whole pages of the map, unmapped when dropped.
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is valid in any thread.
unsafe impl Send for Pages {}

impl Pages {
    fn map(fd: BorrowedFd<'_>, offset: usize, len: usize, rights: ProtFlags) -> std::io::Result<Self> {
        // SAFETY: a fresh mapping at an address that the kernel chooses; it refuses what does not lie in the map.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, rights, MapFlags::SHARED, fd, offset as u64) }?;
        let null = || std::io::Error::other("the kernel mapped the ring at address 0");
        Ok(Self { start: NonNull::new(start.cast()).ok_or_else(null)?, len })
    }

    /// The position that a page of the map starts with.
    fn position(&self) -> &AtomicU64 {
        // SAFETY: mapped for the life of self, aligned to a page, and written atomically on both sides.
        unsafe { self.start.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing borrows from it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const SIZE: usize = 64 << 10;
    const WINDOW: usize = 16 << 10;

    /// What the kernel does, on a file that is laid out like a ring.
    struct Kernel {
        file: File,
        end: u64,
    }

    impl Kernel {
        fn new() -> Self {
            let file = File::from(rustix::fs::memfd_create(c"ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
            file.set_len((2 * rustix::param::page_size() + 2 * SIZE) as u64).unwrap();
            Self { file, end: 0 }
        }

        fn ring(&self) -> Ring {
            Ring::with_window(self.file.as_fd(), SIZE, WINDOW).unwrap()
        }

        /// Both copies of the data are the same pages in the kernel.
        fn put(&self, position: u64, bytes: &[u8]) {
            let data = 2 * rustix::param::page_size() as u64;
            let at = position as usize % SIZE;
            let (before, wrapped) = bytes.split_at(bytes.len().min(SIZE - at));
            for copy in [0, SIZE as u64] {
                self.file.write_all_at(before, data + copy + at as u64).unwrap();
                self.file.write_all_at(wrapped, data + copy).unwrap();
            }
        }

        fn write(&mut self, bytes: &[u8], flags: u32) {
            self.put(self.end, &(bytes.len() as u32 | flags).to_ne_bytes());
            self.put(self.end + HEAD as u64, bytes);
            self.end += Ring::span(bytes.len());
            self.file.write_all_at(&self.end.to_ne_bytes(), rustix::param::page_size() as u64).unwrap();
        }

        fn consumed(&self) -> u64 {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, 0).unwrap();
            u64::from_ne_bytes(bytes)
        }
    }

    fn take(ring: &mut Ring) -> Option<Vec<u8>> {
        let Next::Record(bytes) = ring.peek() else { return None };
        let bytes = bytes.to_vec();
        ring.advance(bytes.len());
        Some(bytes)
    }

    #[test]
    fn records_come_back_whole_wherever_the_ring_and_the_window_end() {
        let (mut kernel, mut wrapped) = (Kernel::new(), 0);
        let mut ring = kernel.ring();
        for number in 0..400_usize {
            // Lengths that fall on every place of a page, and none that divides the ring.
            let record = vec![number as u8; (number * 613) % 5000];
            let start = kernel.end % SIZE as u64;
            wrapped += usize::from(start + Ring::span(record.len()) > SIZE as u64);
            kernel.write(&[0; 40], DISCARD);
            kernel.write(&record, 0);
            ring.refresh();
            assert_eq!(take(&mut ring), Some(record), "record {number}");
            assert!(matches!(ring.peek(), Next::Empty));
            ring.publish();
            assert_eq!(kernel.consumed(), kernel.end);
        }
        assert!(wrapped > 5, "{wrapped} records wrapped");
        // Whoever comes later goes on from there, in the middle of a window.
        kernel.write(b"later", 0);
        let mut ring = kernel.ring();
        ring.refresh();
        assert_eq!(take(&mut ring).unwrap(), b"later");
    }

    #[test]
    fn nothing_is_read_past_the_window_and_nothing_unfinished_is_read() {
        let mut kernel = Kernel::new();
        let mut ring = kernel.ring();
        kernel.write(b"busy", BUSY);
        ring.refresh();
        assert!(matches!(ring.peek(), Next::Busy));
        kernel.put(0, &((SIZE as u32) << 1).to_ne_bytes());
        assert!(matches!(ring.peek(), Next::Empty), "longer than the ring");
        assert_eq!(ring.pending(), Ring::span(4));
    }
}
