//! A counting allocator, for the tests that guard that nothing is allocated. A test that takes this in is built with it
//! in place of the system's; that of `crates/tidewatch/tests/hot_path.rs` is the same.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; only a counter of this thread is touched beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
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

/// How often this thread asked for memory so far.
pub fn of_this_thread() -> u64 {
    ALLOCATIONS.get()
}

#[test]
fn the_counter_counts() {
    let before = of_this_thread();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert!(of_this_thread() > before);
}
