//! Guards that reading a capture costs no allocation for each event, and no more memory than is really there.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;

use tw_sensor::capture::{CaptureReader, Item};

mod capturing;
use capturing::{Form, P, Proc, Scap};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only counters of this thread are touched beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of a server, over and over, as old writers tell them: begin and end.
fn busy(rounds: usize) -> Scap {
    let mut scap = Scap::new(Form::Old);
    scap.processes(5, &[Proc::default()]);
    for _ in 0..rounds {
        scap.event(100, 2, &[P::Text("/srv/index.html"), P::U32(1), P::U32(0)]);
        scap.event(100, 3, &[P::I64(5), P::Text("/srv/index.html"), P::U32(1), P::U32(0)]);
        scap.event(100, 6, &[P::I64(5), P::U32(4096)]);
        scap.event(100, 7, &[P::I64(4096), P::Bytes(vec![b'x'; 80])]);
        scap.event(100, 4, &[P::I64(5)]);
        scap.event(100, 5, &[P::I64(0)]);
        scap.event(100, 108, &[P::Text("cache/entry")]);
        scap.event(100, 109, &[P::I64(-2)]);
        scap.event(100, 18, &[P::U32(2), P::U32(1), P::U32(0)]);
        scap.event(100, 19, &[P::I64(6)]);
        scap.event(100, 22, &[P::I64(6)]);
        scap.event(100, 23, &[P::I64(0), P::Tuple4([10, 0, 0, 1], 5_000, [10, 0, 0, 2], 80)]);
        scap.event(100, 8, &[P::I64(6), P::U32(100)]);
        scap.event(100, 9, &[P::I64(100), P::Bytes(b"GET /".to_vec())]);
        scap.event(100, 4, &[P::I64(6)]);
        scap.event(100, 5, &[P::I64(0)]);
    }
    scap
}

#[test]
fn a_steady_stream_allocates_nothing() {
    let scap = busy(4_000);
    let (mut begun, mut after, mut records) = (0, 0, 0);
    let reading = CaptureReader::from_bytes("x", scap.bytes).unwrap().read(&mut |item| {
        if let Item::Record { number, .. } = item {
            records += 1;
            if number <= 10_000 {
                begun = ALLOCATIONS.get();
            }
            after = ALLOCATIONS.get();
        }
        ControlFlow::Continue(())
    });
    assert_eq!((reading.conversion.events, records), (64_000, 20_000));
    assert!(begun > 0);
    assert_eq!(after - begun, 0);
}

#[test]
fn a_length_alone_takes_no_memory() {
    for kind in [0x215_u32, 0x202, 0x999, 0x221] {
        let mut scap = busy(1);
        scap.bytes.extend(kind.to_le_bytes());
        scap.bytes.extend((15_u32 << 20).to_le_bytes());
        scap.bytes.extend([0; 100]);
        LARGEST.set(0);
        let reading = CaptureReader::from_bytes("x", scap.bytes).unwrap().read(&mut |_| ControlFlow::Continue(()));
        assert!(reading.error.unwrap().is_truncation());
        assert!(LARGEST.get() < 1 << 20, "{}", LARGEST.get());
    }
}
