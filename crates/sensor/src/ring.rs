//! Reader of a BPF ring buffer (`BPF_MAP_TYPE_RINGBUF`), straight from the shared pages: no call and no copy per
//! record, and records of several rings can be taken in the order of their time.
//!
//! Layout (kernel/bpf/ringbuf.c): one page with the consumer's position, one with the producer's, then the data,
//! mapped twice in a row so that no record wraps. A record starts with 8 bytes: its length, with bit 31 set while
//! it is being written and bit 30 if it is to be skipped.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEAD: usize = 8;

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
    consumer: NonNull<AtomicU64>,
    producer: NonNull<AtomicU64>,
    data: NonNull<u8>,
    size: usize,
    page: usize,
    /// Where the next record starts.
    position: u64,
    /// End of what was written when [`Ring::refresh`] looked.
    end: u64,
}

// SAFETY: the mappings belong to this value alone and are valid in any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring buffer map `fd` of `size` bytes.
    pub(crate) fn map(fd: BorrowedFd<'_>, size: usize) -> std::io::Result<Self> {
        let page = rustix::param::page_size();
        // SAFETY: a fresh mapping of one page at an address that the kernel chooses.
        let consumer = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), page, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)
        }?;
        // SAFETY: as above; the kernel refuses lengths that do not fit the map.
        let rest = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), page + 2 * size, ProtFlags::READ, MapFlags::SHARED, fd, page as u64)
        }
        .inspect_err(|_| {
            // SAFETY: the page was mapped above and is not used any more.
            let _ = unsafe { rustix::mm::munmap(consumer, page) };
        })?;
        let null = || std::io::Error::other("the kernel mapped the ring at address 0");
        let producer = NonNull::new(rest.cast::<AtomicU64>()).ok_or_else(null)?;
        let consumer = NonNull::new(consumer.cast::<AtomicU64>()).ok_or_else(null)?;
        // SAFETY: the data start one page into the mapping, which is longer than that.
        let data = unsafe { NonNull::new_unchecked(rest.cast::<u8>().add(page)) };
        // SAFETY: the page is mapped and holds the position.
        let position = unsafe { consumer.as_ref() }.load(Ordering::Acquire);
        Ok(Self { consumer, producer, data, size, page, position, end: position })
    }

    /// Looks how far the kernel has written. Records behind that are left for the next time.
    pub(crate) fn refresh(&mut self) {
        // SAFETY: mapped for the life of self; the kernel writes it atomically.
        self.end = unsafe { self.producer.as_ref() }.load(Ordering::Acquire);
    }

    /// The record at the position, skipping those that were discarded.
    pub(crate) fn peek(&mut self) -> Next<'_> {
        while self.position < self.end {
            let at = self.position as usize & (self.size - 1);
            // SAFETY: `at` is inside the data and 8-byte aligned, as every record is.
            let head = unsafe { self.data.add(at).cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return Next::Busy;
            }
            let len = (head & !DISCARD) as usize;
            if head & DISCARD != 0 {
                self.position += Self::span(len);
                continue;
            }
            if len > self.size {
                // Cannot be; do not read past the mapping if it is.
                return Next::Empty;
            }
            // SAFETY: the data are mapped twice in a row, so a record that starts inside the first copy lies in one
            // piece. The kernel does not write it again before the position is published.
            return Next::Record(unsafe { std::slice::from_raw_parts(self.data.add(at + HEAD).as_ptr(), len) });
        }
        Next::Empty
    }

    /// Steps over the record that [`Ring::peek`] gave.
    pub(crate) fn advance(&mut self, len: usize) {
        self.position += Self::span(len);
    }

    /// Gives the room of everything before the position back to the kernel.
    pub(crate) fn publish(&self) {
        // SAFETY: mapped for the life of self; we are the only consumer.
        unsafe { self.consumer.as_ref() }.store(self.position, Ordering::Release);
    }

    /// Bytes written and not yet taken, as of the last look.
    pub(crate) fn pending(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    fn span(len: usize) -> u64 {
        (len + HEAD).next_multiple_of(8) as u64
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: both mappings were made in `map` with these lengths and nothing borrows from them any more.
        unsafe {
            let _ = rustix::mm::munmap(self.consumer.as_ptr().cast(), self.page);
            let _ = rustix::mm::munmap(self.producer.as_ptr().cast(), self.page + 2 * self.size);
        }
    }
}
