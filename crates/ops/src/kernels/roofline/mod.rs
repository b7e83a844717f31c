//! What the machine can do at most: work of a known size, for a clock that stands elsewhere.

mod cpu;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::{Isa, threads::PIECE};

/// Runs `rounds` rounds of independent fused multiply-adds on every thread, all in registers, and returns how many
/// floating-point operations that were in all (a multiply-add is two).
#[must_use]
pub fn multiply_adds(isa: Isa, rounds: usize) -> f64 {
    let threads = rayon::current_num_threads();
    let chains = rayon::broadcast(|_| cpu::chains::<f32>(isa, rounds));
    assert!(chains.iter().all(|x| x.is_finite()), "a decaying sequence stays finite");
    threads as f64 * rounds as f64 * 2.0 * cpu::per_round(isa) as f64
}

/// Three arrays for `a = b + s·c`, as in McCalpin's STREAM.
#[derive(Debug)]
pub struct Triad {
    arrays: [Vec<f32>; 3],
}

impl Triad {
    /// Three arrays of `len` numbers each, which this touches.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self { arrays: [0.0, 1.0, 2.0].map(|x| vec![x; len]) }
    }

    /// Runs it once on all threads and returns the bytes read and written, 12 for each element.
    pub fn run(&mut self, isa: Isa) -> f64 {
        let [a, b, c] = &mut self.arrays;
        let pieces = a.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).zip(c.par_chunks(PIECE));
        pieces.for_each(|((a, b), c)| cpu::triad(isa, a, b, 0.5, c));
        12.0 * a.len() as f64
    }
}
