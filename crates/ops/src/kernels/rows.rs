//! Sums over rows, channel by channel.
//!
//! A map's channels are summed in double precision, but not element by element: conversions would take longer than the
//! map's way from memory. A few rows are added in the elements' own precision, in registers, and their sums in `f64`.

use candle_core::WithDType;

use super::{
    element::{MAX_LANES, Real, Vector},
    simd::vectorized,
};

/// Rows that are added before their sums are converted: rounding grows with them, and costs less than the conversion.
const ROWS: usize = 16;

vectorized! {
    /// `Σ (x − about)` and `Σ (x − about)²`, column by column of rows as long as `about`; the last may be shorter.
    pub(crate) fn moments<M: Stored, V, WIDE>(
        x: &[M], about: &[M::Real], sums: &mut [f64], squares: &mut [f64]
    ) -> () {
        assert!(sums.len() == about.len() && squares.len() == about.len());
        let vector = |at: usize, column: usize, [sum, square]: [V; 2]| {
            // SAFETY: `add_rows` asks for whole vectors of the rows and of what is as long as they are.
            let x = unsafe { M::load::<V>(x.as_ptr().add(at)).sub(V::load(about.as_ptr().add(column))) };
            [sum.add(x), x.mul_add(x, square)]
        };
        let single = |at: usize, column: usize| {
            let x = (x[at].real() - about[column]).to_f64();
            [x, x * x]
        };
        add_rows::<V, WIDE, 2>(x.len(), about.len(), vector, single, [sums, squares]);
    }
}

vectorized! {
    /// `Σ (x − mean)·gy` and `Σ gy`, column by column of rows as long as `mean`; the last may be shorter.
    pub(crate) fn correlate<M: Stored, V, WIDE>(
        x: &[M], gy: &[M], mean: &[M::Real], products: &mut [f64], sums: &mut [f64]
    ) -> () {
        assert!(x.len() == gy.len() && sums.len() == mean.len() && products.len() == mean.len());
        let vector = |at: usize, column: usize, [product, sum]: [V; 2]| {
            // SAFETY: `add_rows` asks for whole vectors of the rows and of what is as long as they are.
            let (x, gy) = unsafe {
                let x: V = M::load(x.as_ptr().add(at));
                (x.sub(V::load(mean.as_ptr().add(column))), M::load(gy.as_ptr().add(at)))
            };
            [x.mul_add(gy, product), sum.add(gy)]
        };
        let single = |at: usize, column: usize| {
            let gy = gy[at].to_f64();
            [(x[at].real() - mean[column]).to_f64() * gy, gy]
        };
        add_rows::<V, WIDE, 2>(x.len(), mean.len(), vector, single, [products, sums]);
    }
}

vectorized! {
    /// `Σ x`, column by column of rows as long as `sums`; the last may be shorter.
    pub(crate) fn add_up<T, V, WIDE>(x: &[T], sums: &mut [f64]) -> () {
        // SAFETY: `add_rows` asks for whole vectors of the rows.
        let vector = |at: usize, _: usize, [sum]: [V; 1]| [sum.add(unsafe { V::load(x.as_ptr().add(at)) })];
        add_rows::<V, WIDE, 1>(x.len(), sums.len(), vector, |at, _| [x[at].to_f64()], [sums]);
    }
}

/// Adds what `vector` and `single` add at an element and its column to the `N` sums of that column. There are `len`
/// elements in rows of `width`; `vector` is asked for whole vectors inside of a row.
#[inline(always)]
fn add_rows<V: Vector, const WIDE: bool, const N: usize>(
    len: usize,
    width: usize,
    vector: impl Fn(usize, usize, [V; N]) -> [V; N],
    single: impl Fn(usize, usize) -> [f64; N],
    mut sums: [&mut [f64]; N],
) {
    let rows = len / width;
    let mut first = 0;
    // As many vectors side by side as registers hold the sums of, so that no sum waits for its last addition.
    while first + if WIDE { 8 } else { 4 } * V::LANES <= width {
        match WIDE {
            true => columns::<V, 8, N>(first, rows, width, &vector, &mut sums),
            false => columns::<V, 4, N>(first, rows, width, &vector, &mut sums),
        }
        first += if WIDE { 8 } else { 4 } * V::LANES;
    }
    while first + V::LANES <= width {
        columns::<V, 1, N>(first, rows, width, &vector, &mut sums);
        first += V::LANES;
    }
    let mut add = |at: usize, column: usize| {
        for (sums, x) in sums.iter_mut().zip(single(at, column)) {
            sums[column] += x;
        }
    };
    for row in 0..rows {
        (first..width).for_each(|column| add(row * width + column, column));
    }
    (rows * width..len).for_each(|at| add(at, at - rows * width));
}

/// As [`add_rows`], of `G` vectors of columns from `first` on.
#[inline(always)]
fn columns<V: Vector, const G: usize, const N: usize>(
    first: usize,
    rows: usize,
    width: usize,
    vector: &impl Fn(usize, usize, [V; N]) -> [V; N],
    sums: &mut [&mut [f64]; N],
) {
    for block in (0..rows).step_by(ROWS) {
        let mut found = [[V::splat(V::Elem::ZERO); N]; G];
        for row in block..rows.min(block + ROWS) {
            for (g, found) in found.iter_mut().enumerate() {
                let column = first + g * V::LANES;
                *found = vector(row * width + column, column, *found);
            }
        }
        for (g, found) in found.into_iter().enumerate() {
            for (sums, found) in sums.iter_mut().zip(found) {
                let mut lanes = [V::Elem::ZERO; MAX_LANES];
                // SAFETY: no vector is longer than the longest.
                unsafe { found.store(lanes.as_mut_ptr()) };
                let sums = &mut sums[first + g * V::LANES..][..V::LANES];
                sums.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x.to_f64());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_close, cast, noise, sets};

    /// Rows narrower than a vector, as wide as several groups of them, and with a rest; whole rows and a broken one.
    #[test]
    fn every_column_is_summed_on_every_instruction_set() {
        for (isa, width, rows) in
            sets().flat_map(|isa| [(isa, 3, 50), (isa, 128, 40), (isa, 131, 17), (isa, 200, 1)])
        {
            let len = rows * width + width / 2;
            let (x, gy, about) = (noise(len, 1), noise(len, 2), noise(width, 3));
            let (mut sums, mut squares) = (vec![1.0; width], vec![2.0; width]); // added to, not overwritten
            let (mut products, mut shares) = (vec![3.0; width], vec![4.0; width]);
            let mut plain = vec![5.0; width];
            for (i, (&x, &gy)) in x.iter().zip(&gy).enumerate() {
                let column = i % width;
                let d = x - about[column];
                sums[column] += d;
                squares[column] += d * d;
                products[column] += d * gy;
                shares[column] += gy;
                plain[column] += x;
            }
            let (x, gy, about) = (cast::<f32>(&x), cast::<f32>(&gy), cast::<f32>(&about));
            let mut found = [1.0, 2.0, 3.0, 4.0, 5.0].map(|start| vec![start; width]);
            let [a, b, c, d, e] = &mut found;
            moments(isa, &x, &about, a, b);
            correlate(isa, &x, &gy, &about, c, d);
            add_up(isa, &x, e);
            for (found, expected) in found.iter().zip([sums, squares, products, shares, plain]) {
                assert_close(found, &expected, 2e-5);
            }
        }
    }
}
