//! The static binary's allocator: musl's, and between it and a capture worker a shelf for large blocks.
//!
//! musl asks the kernel for every large block and gives it back at once; the kernel then fills its pages with zeros
//! again, one fault for each 4 KiB. A decoder allocates the planes of every picture, and that was a third of what a
//! 720p picture costs. In a worker, large blocks that were given back wait here for the next picture. The service
//! keeps nothing: its large blocks are models, which come once.
//!
//! Only blocks that come and go are kept: what nobody asks for again while [`MAX_AGE`] others are given back goes to
//! the system, and so do the oldest beyond [`MAX_KEPT_BYTES`].
#![allow(unsafe_code)] // an allocator is one by an unsafe trait

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// From this size on musl maps and unmaps each block by itself (its MMAP_THRESHOLD is 131 052 bytes); smaller ones it
/// keeps.
const LARGE_BYTES: usize = 128 * 1024;

/// Sizes are rounded up to whole pages, as mappings are: blocks of about one size are of one size.
const PAGE_BYTES: usize = 4096;

/// Alignment of every block that is kept: what the C library gives without being asked. What must be aligned better
/// is not kept.
const ALIGNMENT: usize = 16;

/// Most bytes that are kept: two pictures of 4K in 8 bits, and as much again for what goes with them.
const MAX_KEPT_BYTES: usize = 48 * 1024 * 1024;

/// Most blocks that are kept: the planes of ten pictures.
const MAX_KEPT: usize = 32;

/// A block that waits while so many others are given back is not one that comes and goes: about twenty pictures.
const MAX_AGE: u64 = 64;

/// Whether this process keeps large blocks.
static IS_WORKER: AtomicBool = AtomicBool::new(false);

/// From now on large blocks are kept, if this is the static binary. For capture workers.
pub fn keep_large_blocks() {
    IS_WORKER.store(true, Ordering::Relaxed);
}

/// An allocator with a shelf for large blocks in front of `A`; the module says which and for how long.
#[derive(Debug)]
pub struct Allocator<A = System> {
    inner: A,
    is_on: &'static AtomicBool,
    shelf: Mutex<Shelf>,
}

/// Blocks that were given back, the one that waits longest first.
#[derive(Debug)]
struct Shelf {
    blocks: [Block; MAX_KEPT],
    count: usize,
    bytes: usize,
    /// Blocks that were put here so far.
    time: u64,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    at: *mut u8,
    bytes: usize,
    /// Time at which it was put here.
    since: u64,
}

// SAFETY: the pointers are to blocks that nobody else has: they were given back, and are given out once. Any thread
// may do so.
unsafe impl Send for Shelf {}

impl Allocator {
    /// The one of the process: the system's behind a shelf that only workers use.
    pub const fn new() -> Allocator {
        Allocator { inner: System, is_on: &IS_WORKER, shelf: Mutex::new(Shelf::new()) }
    }
}

impl Default for Allocator {
    fn default() -> Allocator {
        Allocator::new()
    }
}

/// What a large block is allocated by, whatever becomes of it: depends on the asked layout alone, so that the same
/// comes out when it is given back. `None`: not a large one.
fn large(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE_BYTES || layout.align() > ALIGNMENT {
        return None;
    }
    let bytes = layout.size().checked_next_multiple_of(PAGE_BYTES)?;
    Layout::from_size_align(bytes, ALIGNMENT).ok()
}

impl Shelf {
    const fn new() -> Shelf {
        let nothing = Block { at: std::ptr::null_mut(), bytes: 0, since: 0 };
        Shelf { blocks: [nothing; MAX_KEPT], count: 0, bytes: 0, time: 0 }
    }

    fn remove(&mut self, index: usize) -> Option<Block> {
        let block = *self.blocks.get(index).filter(|_| index < self.count)?;
        self.blocks.copy_within(index + 1..self.count, index);
        self.count -= 1;
        self.bytes -= block.bytes;
        Some(block)
    }

    /// The one that was put here last of exactly that size.
    fn take(&mut self, bytes: usize) -> Option<Block> {
        let kept = self.blocks.get(..self.count)?;
        let index = kept.iter().rposition(|block| block.bytes == bytes)?;
        self.remove(index)
    }

    /// The oldest, if it has to go before a block of that size can be put here.
    fn surplus(&mut self, bytes: usize) -> Option<Block> {
        let oldest = self.blocks.first().filter(|_| self.count > 0)?;
        let full = self.count == MAX_KEPT || self.bytes + bytes > MAX_KEPT_BYTES;
        if full || self.time - oldest.since >= MAX_AGE { self.remove(0) } else { None }
    }

    /// There is room: see [`Shelf::surplus`].
    fn put(&mut self, at: *mut u8, bytes: usize) {
        if let Some(place) = self.blocks.get_mut(self.count) {
            *place = Block { at, bytes, since: self.time };
            self.count += 1;
            self.bytes += bytes;
        }
    }
}

impl<A: GlobalAlloc> Allocator<A> {
    /// A block of that layout, which [`large`] gave. Its bytes are anything.
    fn take(&self, rounded: Layout) -> Option<*mut u8> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        // Who would have to wait is faster without.
        let block = self.shelf.try_lock().ok()?.take(rounded.size())?;
        Some(block.at)
    }

    /// Takes a block that is given back. False: not this one.
    ///
    /// # Safety
    /// `at` was allocated by `self.inner` with `rounded`, and nobody uses it any more.
    unsafe fn keep(&self, at: *mut u8, rounded: Layout) -> bool {
        if rounded.size() > MAX_KEPT_BYTES || !self.is_on.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(mut shelf) = self.shelf.try_lock() else { return false };
        shelf.time += 1;
        while let Some(block) = shelf.surplus(rounded.size()) {
            // SAFETY: as `clear`.
            unsafe { self.release(block) };
        }
        shelf.put(at, rounded.size());
        true
    }

    /// Gives everything that is kept back to the system. Whether there was anything.
    fn clear(&self) -> bool {
        let Ok(mut shelf) = self.shelf.try_lock() else { return false };
        let mut any = false;
        while let Some(block) = shelf.remove(0) {
            // SAFETY: it came off the shelf just now, onto which `keep` put it.
            unsafe { self.release(block) };
            any = true;
        }
        any
    }

    /// # Safety
    /// `block` was on the shelf, and is no more.
    unsafe fn release(&self, block: Block) {
        if let Ok(layout) = Layout::from_size_align(block.bytes, ALIGNMENT) {
            // SAFETY: that is the layout it was allocated with: `keep` noted the size of one that `large` gave, and
            // all of those have this alignment.
            unsafe { self.inner.dealloc(block.at, layout) };
        }
    }

    /// Asks the system for a large block; where it has no more, what is kept goes back first.
    fn ask(&self, ask: impl Fn() -> *mut u8) -> *mut u8 {
        let at = ask();
        if at.is_null() && self.clear() { ask() } else { at }
    }
}

// SAFETY: every block is allocated and given back with the same layout, the caller's or the one that `large` makes of
// it, which is at least as large and as well aligned and depends on nothing else. A block on the shelf has no user, and
// is removed from there before it gets one. Nothing here panics or allocates: the lock is one word, and indices are
// checked.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(rounded) = large(layout) else {
            // SAFETY: as the caller's.
            return unsafe { self.inner.alloc(layout) };
        };
        self.take(rounded).unwrap_or_else(|| {
            // SAFETY: its size is not 0.
            self.ask(|| unsafe { self.inner.alloc(rounded) })
        })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(rounded) = large(layout) else {
            // SAFETY: as the caller's.
            return unsafe { self.inner.alloc_zeroed(layout) };
        };
        match self.take(rounded) {
            Some(at) => {
                // SAFETY: the block has at least so many bytes, and no other user.
                unsafe { at.write_bytes(0, layout.size()) };
                at
            }
            // SAFETY: its size is not 0.
            None => self.ask(|| unsafe { self.inner.alloc_zeroed(rounded) }),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match large(layout) {
            // SAFETY: as the caller's.
            None => unsafe { self.inner.dealloc(at, layout) },
            Some(rounded) => {
                // SAFETY: it was allocated with what `large` makes of the caller's layout, and the caller is done
                // with it.
                unsafe {
                    if !self.keep(at, rounded) {
                        self.inner.dealloc(at, rounded);
                    }
                }
            }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let before = large(layout).unwrap_or(layout);
        let Ok(asked) = Layout::from_size_align(bytes, layout.align()) else { return std::ptr::null_mut() };
        let after = large(asked).unwrap_or(asked);
        if before == after {
            return at;
        }
        if before.align() != after.align() {
            // From one kind to the other: the system's own way keeps one alignment.
            // SAFETY: both layouts are as the caller's contract wants them; the smaller of both sizes is there to be
            // read and to be written, in blocks that do not overlap.
            unsafe {
                let new = self.alloc(asked);
                if !new.is_null() {
                    std::ptr::copy_nonoverlapping(at, new, layout.size().min(bytes));
                    self.dealloc(at, layout);
                }
                return new;
            }
        }
        // A mapping is moved, not copied.
        // SAFETY: it was allocated with `before`, and `after` has the same alignment and a size that is not 0.
        self.ask(|| unsafe { self.inner.realloc(at, before, after.size()) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Counts what the system is asked for, and can have no more.
    #[derive(Debug, Default)]
    struct Counting {
        asked: AtomicUsize,
        returned: AtomicUsize,
        held: AtomicUsize,
        most: AtomicUsize,
    }

    // SAFETY: everything is passed on to the system's allocator, or refused.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let most = self.most.load(Ordering::Relaxed);
            if most > 0 && self.held.load(Ordering::Relaxed) + layout.size() > most {
                return std::ptr::null_mut();
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.held.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            self.returned.fetch_add(1, Ordering::Relaxed);
            self.held.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller's.
            unsafe { System.dealloc(at, layout) };
        }
    }

    static ON: AtomicBool = AtomicBool::new(true);
    static OFF: AtomicBool = AtomicBool::new(false);

    fn allocator(is_on: &'static AtomicBool) -> Allocator<Counting> {
        Allocator { inner: Counting::default(), is_on, shelf: Mutex::new(Shelf::new()) }
    }

    fn bytes(count: usize) -> Layout {
        Layout::from_size_align(count, 1).unwrap()
    }

    fn counts(allocator: &Allocator<Counting>) -> (usize, usize) {
        let Counting { asked, returned, .. } = &allocator.inner;
        (asked.load(Ordering::Relaxed), returned.load(Ordering::Relaxed))
    }

    /// Allocates and gives back.
    fn once(allocator: &Allocator<Counting>, layout: Layout) {
        // SAFETY: of a size above 0, and given back with the same layout.
        unsafe {
            let at = allocator.alloc(layout);
            assert!(!at.is_null() && at.align_offset(layout.align()) == 0);
            at.write_bytes(7, layout.size());
            allocator.dealloc(at, layout);
        }
    }

    #[test]
    fn large_blocks_of_a_worker_are_used_again() {
        let ours = allocator(&ON);
        for _ in 0..100 {
            // Planes of 720p, luma and chroma.
            once(&ours, bytes(1280 * 720));
            once(&ours, bytes(1280 * 720 / 4));
        }
        assert_eq!(counts(&ours), (2, 0));
        // Of nearly the same size: the same pages.
        once(&ours, bytes(1280 * 720 - 3));
        assert_eq!(counts(&ours), (2, 0));
        assert!(ours.clear() && !ours.clear());
        assert_eq!(counts(&ours), (2, 2));
        assert_eq!(ours.inner.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_kept_in_the_service_nor_of_small_or_oddly_aligned_blocks() {
        let service = allocator(&OFF);
        once(&service, bytes(1 << 20));
        once(&service, bytes(1 << 20));
        assert_eq!(counts(&service), (2, 2));
        let ours = allocator(&ON);
        once(&ours, bytes(LARGE_BYTES - 1));
        once(&ours, Layout::from_size_align(1 << 20, 4096).unwrap());
        once(&ours, bytes(MAX_KEPT_BYTES + 1));
        assert_eq!(counts(&ours), (3, 3));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_in_number_and_in_time() {
        let held = |ours: &Allocator<Counting>| ours.inner.held.load(Ordering::Relaxed);
        let ours = allocator(&ON);
        (1..40).for_each(|number| once(&ours, bytes(LARGE_BYTES + number * PAGE_BYTES)));
        assert_eq!(ours.shelf.lock().unwrap().count, MAX_KEPT);
        (1..20).for_each(|number| once(&ours, bytes((8 << 20) + number * PAGE_BYTES)));
        assert!(held(&ours) <= MAX_KEPT_BYTES, "{}", held(&ours));
        (0..=MAX_AGE).for_each(|_| once(&ours, bytes(1 << 20)));
        assert_eq!(held(&ours), 1 << 20, "the only one that is used");
    }

    #[test]
    fn zeroed_blocks_are_zero_whoever_had_them() {
        let ours = allocator(&ON);
        once(&ours, bytes(200_000));
        // SAFETY: of a size above 0, and given back with the same layout; all of it was just written.
        unsafe {
            let at = ours.alloc_zeroed(bytes(199_000));
            assert_eq!(counts(&ours).0, 1);
            assert!(std::slice::from_raw_parts(at, 199_000).iter().all(|byte| *byte == 0));
            ours.dealloc(at, bytes(199_000));
        }
    }

    #[test]
    fn blocks_grow_and_shrink_across_the_bound_and_keep_their_bytes() {
        let ours = allocator(&ON);
        let mut state = 1_u32;
        // SAFETY: each block is used with the layout that it has by then; what is read was written.
        unsafe {
            let mut layout = bytes(1000);
            let mut at = ours.alloc(layout);
            at.write_bytes(9, 1000);
            for _ in 0..500 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let size = 1000 + (state >> 8) as usize % 400_000;
                let new = ours.realloc(at, layout, size);
                assert!(!new.is_null());
                assert!(std::slice::from_raw_parts(new, 1000).iter().all(|byte| *byte == 9));
                (at, layout) = (new, bytes(size));
                at.add(1000).write_bytes(3, size - 1000);
            }
            ours.dealloc(at, layout);
        }
        ours.clear();
        assert_eq!(ours.inner.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_kept_goes_back_before_there_is_no_memory() {
        let ours = allocator(&ON);
        ours.inner.most.store(10 << 20, Ordering::Relaxed);
        once(&ours, bytes(6 << 20));
        once(&ours, bytes(7 << 20));
        assert_eq!(counts(&ours), (2, 1));
        // SAFETY: of a size above 0, and not given out.
        assert!(unsafe { ours.alloc(bytes(11 << 20)) }.is_null());
    }

    #[test]
    fn threads_share_it() {
        let ours = allocator(&ON);
        std::thread::scope(|scope| {
            for thread in 0_usize..4 {
                let ours = &ours;
                scope.spawn(move || {
                    for number in 0..2_000 {
                        once(ours, bytes(LARGE_BYTES + (number * 7 + thread) % 5 * PAGE_BYTES));
                    }
                });
            }
        });
        ours.clear();
        assert_eq!(ours.inner.held.load(Ordering::Relaxed), 0);
    }
}
