//! Buffers that are used again instead of being freed: a training step needs the same sizes as the one before.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Numbers of 4 bytes in a cache line.
pub(crate) const LANES: usize = 16;
/// Bytes that idle buffers may hold together; what exceeds it is freed.
const KEPT: usize = 1 << 30;

/// What buffers are made of.
pub(crate) trait Element: Copy + Default + Send + 'static {
    fn shelf() -> &'static Shelf<Self>;
}

/// Idle buffers.
pub(crate) struct Shelf<T>(Mutex<Vec<Vec<T>>>);

static FLOATS: Shelf<f32> = Shelf(Mutex::new(Vec::new()));
static WORDS: Shelf<u32> = Shelf(Mutex::new(Vec::new()));

impl Element for f32 {
    fn shelf() -> &'static Shelf<Self> {
        &FLOATS
    }
}

impl Element for u32 {
    fn shelf() -> &'static Shelf<Self> {
        &WORDS
    }
}

/// A slice that begins on a cache line. Its first contents are arbitrary (of an earlier use): write before reading.
pub(crate) struct Buffer<T: Element> {
    values: Vec<T>,
    start: usize,
    length: usize,
}

impl<T: Element> Buffer<T> {
    /// A buffer of `length` numbers.
    pub(crate) fn take(length: usize) -> Self {
        let needed = length + LANES;
        let mut idle = T::shelf().0.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that fits, unless it would waste more than it holds.
        let fits = |values: &Vec<T>| values.len() >= needed && values.len() / 2 <= needed;
        let best = (0..idle.len()).filter(|&at| fits(&idle[at])).min_by_key(|&at| idle[at].len());
        let found = best.map(|at| idle.swap_remove(at));
        drop(idle);
        let values = found.unwrap_or_else(|| vec![T::default(); needed]);
        let start = values.as_ptr().align_offset(4 * LANES).min(LANES);
        Self { values, start, length }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.start + self.length]
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.length]
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let mut idle = T::shelf().0.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = idle.iter().map(|values| values.len() * size_of::<T>()).sum();
        if held + self.values.len() * size_of::<T>() <= KEPT {
            idle.push(std::mem::take(&mut self.values));
        }
    }
}
