//! Elements as they lie in memory, and as kernels compute with them.
//!
//! A map may be stored as `bf16`: half of the bytes, which is what most of a step waits for. Nothing is computed in it. A
//! number is widened on its way into a register, or a piece of a map into memory that stays in the caches, and what a kernel
//! writes is rounded once, to the nearest, of two equally near to the even one. Sums, statistics and weights have no such type.

use half::bf16;

use super::{
    Isa,
    element::{Real, Stored, Vector, nearest},
    simd::{each_vector, vectorized},
    threads::Own,
};

impl<T: Real> Stored for T {
    type Real = Self;
    type Numbers = Vec<Self>;

    fn numbers(_: usize) -> Option<Vec<Self>> {
        None
    }

    #[inline(always)]
    fn real(self) -> Self {
        self
    }

    #[inline(always)]
    fn nearest(x: Self) -> Self {
        x
    }

    fn as_real(elements: &[Self]) -> Option<&[Self]> {
        Some(elements)
    }

    fn as_real_mut(elements: &mut [Self]) -> Option<&mut [Self]> {
        Some(elements)
    }

    #[inline(always)]
    unsafe fn load<V: Vector<Elem = Self>>(from: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector<Elem = Self>>(x: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { x.store(to) }
    }
}

impl Stored for bf16 {
    type Real = f32;
    type Numbers = Own;

    fn numbers(len: usize) -> Option<Own> {
        Some(Own::new(len))
    }

    #[inline(always)]
    fn real(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn nearest(x: f32) -> Self {
        nearest(x)
    }

    fn as_real(_: &[Self]) -> Option<&[f32]> {
        None
    }

    fn as_real_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    #[inline(always)]
    unsafe fn load<V: Vector<Elem = f32>>(from: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::widen(from) }
    }

    #[inline(always)]
    unsafe fn store<V: Vector<Elem = f32>>(x: V, to: *mut Self) {
        // SAFETY: the caller's promise.
        unsafe { x.narrow(to) }
    }
}

/// Calls `read` with the numbers of a piece, which lie in the caches then if they are not the elements themselves.
pub(crate) fn wide<M: Stored, R>(piece: &[M], read: impl FnOnce(&[M::Real]) -> R) -> R {
    match (M::as_real(piece), M::numbers(piece.len())) {
        (Some(piece), _) => read(piece),
        (None, Some(mut numbers)) => {
            convert(Isa::detect(), piece, &mut numbers[..]);
            read(&numbers)
        }
        (None, None) => unreachable!("elements that are no numbers have memory for these"),
    }
}

/// Has `write` compute all of a piece of a map as numbers, and stores them.
pub(crate) fn computed<M: Stored, R>(piece: &mut [M], write: impl FnOnce(&mut [M::Real]) -> R) -> R {
    if let Some(piece) = M::as_real_mut(piece) {
        return write(piece);
    }
    let Some(mut numbers) = M::numbers(piece.len()) else {
        unreachable!("elements that are no numbers have memory for these")
    };
    let result = write(&mut numbers);
    convert(Isa::detect(), &numbers[..], piece);
    result
}

/// As [`computed`] where `write` adds to zeros, which the piece holds.
pub(crate) fn added_up<M: Stored, R>(zeros: &mut [M], write: impl FnOnce(&mut [M::Real]) -> R) -> R {
    computed(zeros, |numbers| {
        if M::as_real(&[]).is_none() {
            numbers.fill(M::Real::ZERO);
        }
        write(numbers)
    })
}

vectorized! {
    /// The elements as others.
    pub(crate) fn convert<M: Stored, N: Stored, V, WIDE>(from: &[M], to: &mut [N]) -> () {
        assert!(from.len() == to.len());
        each_vector!(V, from.len(), |at, left| {
            // SAFETY: that many elements are left of both.
            unsafe {
                N::store_first(M::load_first::<V>(from.as_ptr().add(at), left), to.as_mut_ptr().add(at), left);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{noise, sets};

    /// All upper halves of a number, and lower ones around the middle: infinities, NaN and denormal numbers among them.
    #[test]
    fn numbers_are_rounded_as_half_does_it_on_every_instruction_set() {
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let all: Vec<f32> = (0..=u16::MAX)
            .flat_map(|upper| lower.map(|lower| f32::from_bits(u32::from(upper) << 16 | lower)))
            .collect();
        let expected: Vec<_> = all.iter().map(|&x| bf16::from_f32(x)).collect();
        for isa in sets() {
            let mut found = vec![bf16::ZERO; all.len()];
            convert(isa, &all, &mut found);
            for ((found, expected), x) in found.iter().zip(&expected).zip(&all) {
                // What is below the normal numbers, processors that round by themselves take for 0.
                let tiny = *found == bf16::ZERO && x.abs() <= f32::MIN_POSITIVE;
                assert!(found.to_bits() == expected.to_bits() || tiny, "{x:e} to {found:e} by {isa:?}");
            }
        }
    }

    #[test]
    fn widening_loses_nothing_on_every_instruction_set() {
        let all: Vec<_> = (0..=u16::MAX).map(bf16::from_bits).collect();
        for isa in sets() {
            let mut found = vec![0.0; all.len()];
            convert(isa, &all, &mut found);
            let same = |(x, narrow): (&f32, &bf16)| {
                x.to_bits() == u32::from(narrow.to_bits()) << 16 || x.is_nan() && narrow.is_nan()
            };
            assert!(found.iter().zip(&all).all(same), "{isa:?}");
        }
    }

    /// Whole vectors and what is left of one, whose neighbors stay as they are.
    #[test]
    fn pieces_of_any_length_are_read_and_written() {
        for len in [0, 1, 15, 16, 17, 100] {
            let (map, numbers) = crate::kernels::testing::narrow(&noise(len, 1));
            assert_eq!(wide(&map, <[f32]>::to_vec), numbers);
            assert_eq!(
                wide(&numbers, |same| same.as_ptr()),
                numbers.as_ptr(),
                "numbers are read where they are"
            );
            let mut target = vec![bf16::ONE; len + 2];
            let answer = computed(&mut target[1..=len], |to| {
                to.copy_from_slice(&numbers);
                len
            });
            assert_eq!((answer, &target[1..=len]), (len, &map[..]));
            assert_eq!([target[0], target[len + 1]], [bf16::ONE; 2]);
            let mut target = vec![bf16::ZERO; len];
            added_up(&mut target, |to| to.iter_mut().zip(&numbers).for_each(|(to, x)| *to += x));
            assert_eq!(target, map);
        }
    }
}
