//! Memory that goes from one use to the next with what it holds.
//!
//! A convolution of small maps needs more memory on its way than its maps have; clearing took a quarter of a step's time
//! (`BENCHMARKS.md`, A team that stays awake).

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use candle_core::WithDType;
use half::bf16;

/// Elements of the largest memory that is kept; clearing larger ones costs little beside what is done with them.
pub(super) const LARGEST: usize = 1 << 18;

/// Elements that are kept at most.
const MOST: usize = 1 << 21;

/// Memory that waits for its next user, the last used at the end.
#[derive(Debug)]
pub(super) struct Shelf<T>(Mutex<Vec<Vec<T>>>);

impl<T: WithDType> Shelf<T> {
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
fn shelf<T: WithDType>() -> Option<&'static Shelf<T>> {
    static SINGLE: Shelf<f32> = Shelf::new();
    static DOUBLE: Shelf<f64> = Shelf::new();
    static NARROW: Shelf<bf16> = Shelf::new();
    let shelves: [&'static dyn Any; 3] = [&SINGLE, &DOUBLE, &NARROW];
    shelves.into_iter().find_map(|shelf| shelf.downcast_ref())
}

thread_local! {
    /// Memory that this thread has had as its [`Own`].
    static SPARE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Elements for whoever writes them before reading any, from a thread to itself, so that they lie in its caches: for a piece of
/// a narrow map, which is computed with in `f32`.
#[derive(Debug)]
pub(crate) struct Own {
    memory: Vec<f32>,
    len: usize,
}

impl Own {
    pub(crate) fn new(len: usize) -> Self {
        let mut memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if memory.len() < len {
            memory = vec![0.0; len];
        }
        if cfg!(any(test, debug_assertions)) {
            memory[..len].fill(f32::NAN); // as `Reused::poison`
        }
        Self { memory, len }
    }
}

impl Deref for Own {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Own {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if (1..=LARGEST).contains(&self.memory.len()) {
            SPARE.with_borrow_mut(|spare| spare.push(std::mem::take(&mut self.memory)));
        }
    }
}

/// Elements for whoever writes them before reading any: their values are what the last user left.
#[derive(Debug)]
pub(crate) struct Reused<T: WithDType> {
    memory: Vec<T>,
    len: usize,
}

impl<T: WithDType> Reused<T> {
    pub(crate) fn new(len: usize) -> Self {
        let kept = shelf::<T>().and_then(|shelf| shelf.take(len));
        let memory = kept.unwrap_or_else(|| vec![T::zero(); len]);
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
        zeros.fill(T::zero());
        zeros
    }
}

impl<T: WithDType> Deref for Reused<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[..self.len]
    }
}

impl<T: WithDType> DerefMut for Reused<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[..self.len]
    }
}

impl<T: WithDType> Drop for Reused<T> {
    fn drop(&mut self) {
        if let Some(shelf) = shelf() {
            shelf.put(std::mem::take(&mut self.memory));
        }
    }
}

/// Memory for one piece at a time, which threads lend to their pieces, so that these find it in their caches. Each thread keeps its own: to
/// lock what all threads share would wait for all that the last piece has written.
#[derive(Debug)]
pub(crate) struct Scratch<T: WithDType> {
    /// What says to threads that this is not gone.
    here: Arc<()>,
    of: PhantomData<T>,
}

/// Elements that a thread keeps at most, but for what scratches that are still there lend again to every piece.
const HELD: usize = 1 << 19;

/// What a thread keeps for a scratch, and for those that come when that is gone.
#[derive(Debug)]
pub(super) struct Held<T: WithDType> {
    owner: Weak<()>,
    memory: Reused<T>,
}

impl<T: WithDType> Held<T> {
    /// Whether its scratch is gone.
    fn is_left(&self) -> bool {
        self.owner.strong_count() == 0
    }
}

pub(super) type HeldByThread<T> = Rc<RefCell<Vec<Held<T>>>>;

/// What this thread keeps of a type, the last used at the end; nothing, for types that kernels do not compute in, or at the thread's
/// end.
pub(super) fn held<T: WithDType>() -> Option<HeldByThread<T>> {
    fn new<T: WithDType>() -> Rc<dyn Any> {
        Rc::new(RefCell::new(Vec::<Held<T>>::new()))
    }
    thread_local! {
        static ALL: [Rc<dyn Any>; 3] = [new::<f32>(), new::<f64>(), new::<bf16>()];
    }
    let of_type = |all: &[Rc<dyn Any>; 3]| all.iter().find_map(|held| Rc::clone(held).downcast().ok());
    ALL.try_with(of_type).ok().flatten()
}

impl<T: WithDType> Scratch<T> {
    pub(crate) fn new() -> Self {
        Self { here: Arc::new(()), of: PhantomData }
    }

    /// Runs `work` on `len` elements that it writes before it reads them.
    pub(crate) fn lend<R>(&self, len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
        self.lend_with_margins(0, len, work)
    }

    /// As [`Scratch::lend`], the first `margins` elements being zeros at first, then what this thread's last user of exactly as many
    /// left. A piece of another size lays its memory out otherwise, and would leave numbers where this one counts on margins of
    /// zeros.
    pub(crate) fn lend_with_margins<R>(
        &self,
        margins: usize,
        len: usize,
        work: impl FnOnce(&mut [T]) -> R,
    ) -> R {
        let held = held::<T>();
        let kept = held.as_ref().and_then(|held| self.kept(&mut held.borrow_mut(), len));
        let mut lent = kept.unwrap_or_else(|| {
            let left = held.as_ref().and_then(|held| left(&mut held.borrow_mut(), len));
            let mut memory = left.unwrap_or_else(|| Reused::new(len));
            memory[..margins].fill(T::zero());
            Held { owner: Arc::downgrade(&self.here), memory }
        });
        lent.memory.poison(margins);
        let result = work(&mut lent.memory);
        if let Some(held) = held {
            let mut held = held.borrow_mut();
            held.push(lent);
            let all = |held: &[Held<T>]| held.iter().map(|held| held.memory.memory.len()).sum::<usize>();
            while all(&held) > HELD
                && let Some(at) = held.iter().position(Held::is_left)
            {
                held.remove(at);
            }
        }
        result
    }

    /// What is kept for this one's pieces of exactly so many elements.
    fn kept(&self, held: &mut Vec<Held<T>>, len: usize) -> Option<Held<T>> {
        let same = |held: &Held<T>| held.owner.as_ptr() == Arc::as_ptr(&self.here) && held.memory.len == len;
        held.iter().rposition(same).map(|at| held.remove(at))
    }
}

/// The memory of a scratch that is gone, with room for so many elements, unless it is much too large; the last used.
fn left<T: WithDType>(held: &mut Vec<Held<T>>, len: usize) -> Option<Reused<T>> {
    let fits = |held: &Held<T>| held.is_left() && (len..=4 * len).contains(&held.memory.memory.len());
    let mut memory = held.iter().rposition(fits).map(|at| held.remove(at))?.memory;
    memory.len = len;
    Some(memory)
}
