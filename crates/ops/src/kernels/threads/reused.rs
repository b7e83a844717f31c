//! Memory that goes from one use to the next with what it holds.
//!
//! A convolution of small maps needs more memory on its way than its maps have; clearing took a quarter of a step's time
//! (`BENCHMARKS.md`, A team that stays awake).

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::kernels::values::Real;

/// Elements of the largest memory that is kept; clearing larger ones costs little beside what is done with them.
pub(super) const LARGEST: usize = 1 << 18;

/// Elements that are kept at most.
const MOST: usize = 1 << 21;

/// Memory that waits for its next user, the last used at the end.
#[derive(Debug)]
pub(super) struct Shelf<T>(Mutex<Vec<Vec<T>>>);

impl<T: Real> Shelf<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The smallest that holds so many elements, unless it is much too large.
    pub(super) fn take(&self, len: usize) -> Option<Vec<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = kept.iter().enumerate().rev().filter(|(_, memory)| (len..=4 * len).contains(&memory.len()));
        let fit = fit.min_by_key(|(_, memory)| memory.len())?.0; // of equals the first, the last used
        Some(kept.remove(fit))
    }

    /// Keeps memory, and lets go of what has waited longest where that makes too much.
    pub(super) fn put(&self, memory: Vec<T>) {
        if (1..=LARGEST).contains(&memory.len()) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(memory);
            while kept.iter().map(Vec::len).sum::<usize>() > MOST {
                kept.remove(0);
            }
        }
    }
}

/// Where memory of a type waits; nowhere, for types that kernels do not compute in.
fn shelf<T: Real>() -> Option<&'static Shelf<T>> {
    static SINGLE: Shelf<f32> = Shelf::new();
    static DOUBLE: Shelf<f64> = Shelf::new();
    let shelves: [&'static dyn Any; 2] = [&SINGLE, &DOUBLE];
    shelves.into_iter().find_map(|shelf| shelf.downcast_ref())
}

/// Elements for whoever writes them before reading any: their values are what the last user left.
#[derive(Debug)]
pub(crate) struct Reused<T: Real> {
    memory: Vec<T>,
    len: usize,
}

impl<T: Real> Reused<T> {
    pub(crate) fn new(len: usize) -> Self {
        let kept = shelf::<T>().and_then(|shelf| shelf.take(len));
        let memory = kept.unwrap_or_else(|| vec![T::ZERO; len]);
        let mut new = Self { memory, len };
        new.poison(0);
        new
    }

    /// In this crate's own tests, fills all but the first elements with NaN, which shows who reads what it has not written.
    pub(super) fn poison(&mut self, first: usize) {
        if cfg!(any(test, debug_assertions)) {
            self[first..].fill(T::from_f64(f64::NAN));
        }
    }

    /// Of zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut zeros = Self::new(len);
        zeros.fill(T::ZERO);
        zeros
    }
}

impl<T: Real> Deref for Reused<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[..self.len]
    }
}

impl<T: Real> DerefMut for Reused<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[..self.len]
    }
}

impl<T: Real> Drop for Reused<T> {
    fn drop(&mut self) {
        if let Some(shelf) = shelf() {
            shelf.put(std::mem::take(&mut self.memory));
        }
    }
}
