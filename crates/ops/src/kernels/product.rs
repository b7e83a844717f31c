//! The loops behind dense convolutions: sums of products over gathered offsets, and over matrices.

use std::ops::Range;

use super::{
    element::{PAIRED, Real, Stored, Vector},
    panels::{Panels, Run},
    simd::vectorized,
};

/// Where a loop reads and writes: row `i` of the result lies at `outs[i]` and sums over `k` what lies at
/// `rows[i] + cols[k]` of `values`, the columns in the order of their runs.
#[derive(Clone, Copy)]
pub(crate) struct Sum<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: &'a [usize],
    pub(crate) cols: &'a [Run],
    pub(crate) outs: &'a [usize],
}

/// How many of `runs`' offsets there are.
fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.len).sum()
}

/// A matrix by its strides: element `(i, k)` lies at `i·row + k·col`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// What a result's sums begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start<'a, T> {
    Zero,
    /// The result's old values.
    Old,
    /// A value for every column, with zeros up to a multiple of the vector's length.
    Columns(&'a [T]),
}

vectorized! {
    /// `out[outs[i] + j] = Σ_k values[rows[i] + cols[k]] · b[k, j]` for `j < n`: an implicit matrix product.
    pub(crate) fn product<T, V, WIDE>(sum: Sum<'_, T>, b: Panels<'_, T>, out: &mut [T], n: usize, start: Start<'_, T>) -> () {
        let vectors = n.div_ceil(V::LANES);
        check(&sum, out.len(), n);
        let k = count(sum.cols);
        assert!(k == 0 || end(b.row, k) + end(b.vector, vectors) + V::LANES <= b.values.len());
        assert!(!matches!(start, Start::Columns(values) if values.len() < vectors * V::LANES));
        let few = few_rows(sum.rows.len());
        let mut vector = 0;
        while vector < vectors {
            let pair = vector + 1 < vectors;
            // SAFETY: just checked: every `rows[i] + cols[k]` lies in `values`, every vector of `b` up to `vectors` in
            // its values and of the columns' start in theirs, and `n` elements from every `outs[i]` on in `out`.
            unsafe {
                // LLVM loads the values of all rows first: they and the sums must fit the registers.
                match (WIDE, pair) {
                    (false, true) if V::PAIRS => tiles::<V, PAIRED, 2>(sum, b, out, n, start, vector),
                    (false, true) => tiles::<V, 4, 2>(sum, b, out, n, start, vector),
                    (false, false) => tiles::<V, 6, 1>(sum, b, out, n, start, vector),
                    (true, true) => tiles::<V, 8, 2>(sum, b, out, n, start, vector),
                    (true, false) if few => tiles::<V, 8, 1>(sum, b, out, n, start, vector),
                    (true, false) => tiles::<V, 14, 1>(sum, b, out, n, start, vector),
                }
            }
            vector += 1 + usize::from(pair);
        }
    }
}

vectorized! {
    /// `out[i·stride + j] = Σ_k a[i, k] · b[k, j]` for `j < n`, a multiple of the vector's length; added to what is there
    /// where `start` is [`Start::Old`].
    pub(crate) fn matrix_product<M: Stored, V, WIDE>(
        a: Matrix<'_, M::Real>,
        b: Panels<'_, M::Real>,
        out: &mut [M],
        stride: usize,
        n: usize,
        start: Start<'_, M::Real>,
    ) -> () {
        let vectors = n / V::LANES;
        assert!(n.is_multiple_of(V::LANES) && a.rows * a.cols * vectors > 0);
        assert!(end(a.row, a.rows) + end(a.col, a.cols) < a.values.len());
        assert!(end(b.row, a.cols) + end(b.vector, vectors) + V::LANES <= b.values.len());
        assert!(end(stride, a.rows) + n <= out.len());
        assert!(!matches!(start, Start::Columns(values) if values.len() < n));
        let (few, most) = (few_rows(a.rows), a.rows / 16 * 16);
        let mut vector = 0;
        while vector < vectors {
            let (pair, all) = (vector + 1 < vectors, 0..a.rows);
            // SAFETY: just checked: every element of `a` lies in its values, every vector of `b` in its values and of
            // the columns' start in theirs, and `n` elements of every row in `out`.
            unsafe {
                match (WIDE, pair) {
                    (false, true) if V::EVENS => {
                        let sixes = in_sixes(a.rows);
                        matrix_tiles::<M, V, PAIRED, 2>((a, 0..sixes), b, out, stride, n, start, vector);
                        matrix_tiles::<M, V, 4, 2>((a, sixes..a.rows), b, out, stride, n, start, vector);
                    }
                    (false, true) => matrix_tiles::<M, V, 4, 2>((a, all), b, out, stride, n, start, vector),
                    (false, false) => matrix_tiles::<M, V, 6, 1>((a, all), b, out, stride, n, start, vector),
                    (true, true) => matrix_tiles::<M, V, 8, 2>((a, all), b, out, stride, n, start, vector),
                    (true, false) if V::EVENS => {
                        matrix_tiles::<M, V, 16, 1>((a, 0..most), b, out, stride, n, start, vector);
                        matrix_tiles::<M, V, 8, 1>((a, most..a.rows), b, out, stride, n, start, vector);
                    }
                    (true, false) if few => matrix_tiles::<M, V, 8, 1>((a, all), b, out, stride, n, start, vector),
                    (true, false) => matrix_tiles::<M, V, 14, 1>((a, all), b, out, stride, n, start, vector),
                }
            }
            vector += 1 + usize::from(pair);
        }
    }
}

/// Panics unless every offset of `sum` is readable and `n` elements are writable at every output.
fn check<T>(sum: &Sum<'_, T>, out: usize, n: usize) {
    let last = |offsets: &[usize]| offsets.iter().copied().max().unwrap_or(0);
    assert_eq!(sum.rows.len(), sum.outs.len());
    assert!(sum.rows.is_empty() || last(sum.outs) + n <= out);
    let column = sum.cols.iter().map(Run::last).max();
    assert!(sum.rows.is_empty() || column.is_none_or(|column| last(sum.rows) + column < sum.values.len()));
}

/// Whether tiles of 8 rows compute fewer rows over again than tiles of 14.
fn few_rows(rows: usize) -> bool {
    rows.next_multiple_of(8) < rows.next_multiple_of(14)
}

/// How many rows go in tiles of 6, so that tiles of 4 take the others and none is computed over again; all where that cannot be.
fn in_sixes(rows: usize) -> usize {
    let others = match rows % 6 {
        4 => 4,
        2 => 8,
        _ => 0,
    };
    rows.checked_sub(others).unwrap_or(rows)
}

fn end(stride: usize, count: usize) -> usize {
    stride * count.saturating_sub(1)
}

/// `P` rows × `Q` vectors at a time; the last tile repeats the last row.
///
/// # Safety
/// As checked in [`product`].
#[inline(always)]
unsafe fn tiles<V: Vector, const P: usize, const Q: usize>(
    sum: Sum<'_, V::Elem>,
    b: Panels<'_, V::Elem>,
    out: &mut [V::Elem],
    n: usize,
    start: Start<'_, V::Elem>,
    vector: usize,
) {
    let mut first = 0;
    while first < sum.rows.len() {
        // SAFETY: there is a row, and as many outputs as rows; the rest is the caller's promise.
        unsafe {
            let (from, to) = places::<_, P>(&sum, first, out.as_mut_ptr());
            tile::<_, V, P, Q>((from, None), to, sum.cols, b, n, start, vector);
        }
        first += P;
    }
}

/// As [`tiles`], of a matrix whose rows lie at one distance.
///
/// # Safety
/// As checked in [`matrix_product`].
#[inline(always)]
unsafe fn matrix_tiles<M: Stored, V: Vector<Elem = M::Real>, const P: usize, const Q: usize>(
    (a, rows): (Matrix<'_, V::Elem>, Range<usize>),
    b: Panels<'_, V::Elem>,
    out: &mut [M],
    stride: usize,
    n: usize,
    start: Start<'_, V::Elem>,
    vector: usize,
) {
    let cols = [Run { first: 0, step: a.col, len: a.cols }];
    let mut first = rows.start;
    while first < rows.end {
        let (mut from, mut to) = ([a.values.as_ptr(); P], [out.as_mut_ptr(); P]);
        if first + P <= rows.end {
            // A branch of its own: where no row can be the last twice, LLVM counts on from one address instead of asking for each.
            let begin = (from[0].wrapping_add(first * a.row), to[0].wrapping_add(first * stride));
            for p in 0..P {
                (from[p], to[p]) = (begin.0.wrapping_add(p * a.row), begin.1.wrapping_add(p * stride));
            }
            // SAFETY: the caller's promise.
            unsafe { tile::<M, V, P, Q>((from, Some(a.row)), to, &cols, b, n, start, vector) };
        } else {
            for p in 0..P {
                let row = (first + p).min(rows.end - 1);
                (from[p], to[p]) = (from[p].wrapping_add(row * a.row), to[p].wrapping_add(row * stride));
            }
            // SAFETY: as above.
            unsafe { tile::<M, V, P, Q>((from, None), to, &cols, b, n, start, vector) };
        }
        first += P;
    }
}

/// One tile: sums over `cols` from every `from`, which may be rows `apart` elements apart, written to every `to`.
///
/// # Safety
/// Every offset of `cols` is readable from every `from`, and `n` elements are writable from every `to`; the vectors of
/// `b` and of the columns' start lie in their values.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "`p` and `q` name rows and vectors of several arrays")]
unsafe fn tile<M: Stored, V: Vector<Elem = M::Real>, const P: usize, const Q: usize>(
    (from, apart): ([*const V::Elem; P], Option<usize>),
    to: [*mut M; P],
    cols: &[Run],
    b: Panels<'_, V::Elem>,
    n: usize,
    start: Start<'_, V::Elem>,
    vector: usize,
) {
    let full = (vector + Q) * V::LANES <= n;
    let mut acc = [[V::splat(V::Elem::ZERO); Q]; P];
    if start != Start::Zero {
        for p in 0..P {
            for q in 0..Q {
                let first = (vector + q) * V::LANES;
                // SAFETY: `n` elements from every `to` on are writable, and every vector of the columns' start lies in
                // its values, by the caller's promise.
                acc[p][q] = unsafe {
                    match start {
                        Start::Columns(values) => V::load(values.as_ptr().add(first)),
                        _ if full => M::load(to[p].add(first)),
                        _ => M::load_first(to[p].add(first), n.saturating_sub(first)),
                    }
                };
            }
        }
    }
    let mut at = b.values.as_ptr().wrapping_add(vector * b.vector);
    for &run in cols {
        // SAFETY: every offset is readable from every `from` and this row of the vectors lies in `b`, by the caller's
        // promise.
        unsafe {
            let evenly = apart.is_some_and(|apart| V::evenly(&mut acc, from[0], apart, run, at, b));
            match evenly || V::paired(&mut acc, &from, run, at, b) {
                true => at = at.wrapping_add(run.len * b.row),
                false => at = products(&mut acc, &from, run, at, b),
            }
        }
    }
    for q in 0..Q {
        // One test for all rows, or LLVM keeps the sums in memory to loop over them.
        if full {
            for p in 0..P {
                // SAFETY: `n` elements from every `to` on are writable, by the caller's promise.
                unsafe { M::store(acc[p][q], to[p].add((vector + q) * V::LANES)) };
            }
        } else {
            for p in 0..P {
                // SAFETY: as above.
                unsafe {
                    M::store_first(
                        acc[p][q],
                        to[p].add((vector + q) * V::LANES),
                        n.saturating_sub((vector + q) * V::LANES),
                    )
                };
            }
        }
    }
}

/// Adds one run's products to a tile, and returns where the next run's rows of `b` begin.
///
/// # Safety
/// Every offset of `run` is readable from every `from`, and every row of `b` from `at` on, `Q` vectors wide.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "`p` and `q` name rows and vectors of several arrays")]
unsafe fn products<V: Vector, const P: usize, const Q: usize>(
    acc: &mut [[V; Q]; P],
    from: &[*const V::Elem; P],
    run: Run,
    mut at: *const V::Elem,
    b: Panels<'_, V::Elem>,
) -> *const V::Elem {
    for col in run.offsets() {
        let mut weights = [V::splat(V::Elem::ZERO); Q];
        for q in 0..Q {
            // SAFETY: by the caller's promise.
            weights[q] = unsafe { V::load(at.wrapping_add(q * b.vector)) };
        }
        for p in 0..P {
            // SAFETY: by the caller's promise.
            let x = V::splat(unsafe { *from[p].add(col) });
            for q in 0..Q {
                acc[p][q] = x.mul_add(weights[q], acc[p][q]);
            }
        }
        at = at.wrapping_add(b.row);
    }
    at
}

/// Where `P` rows from `first` on are read and written; the last row again beyond the last.
///
/// # Safety
/// There is a row `first`, and an output for every row.
#[inline(always)]
unsafe fn places<T, const P: usize>(
    sum: &Sum<'_, T>,
    first: usize,
    out: *mut T,
) -> ([*const T; P], [*mut T; P]) {
    let (mut from, mut to) = ([sum.values.as_ptr(); P], [out; P]);
    for p in 0..P {
        let row = (first + p).min(sum.rows.len() - 1);
        // SAFETY: `row` is below the number of rows, by the caller's promise.
        let (read, write) = unsafe { (*sum.rows.get_unchecked(row), *sum.outs.get_unchecked(row)) };
        (from[p], to[p]) = (from[p].wrapping_add(read), to[p].wrapping_add(write));
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{
        Isa,
        simd::lanes,
        testing::{assert_close, cast, noise, sets},
    };

    /// Whole tiles of every size and what is left behind them, read by rows and by columns, with every start; nothing is
    /// written beside the columns of the result.
    #[test]
    fn a_matrix_product_is_its_sums_on_every_instruction_set() {
        for isa in sets() {
            check_product::<f32>(isa, 1e-5);
            check_product::<f64>(isa, 1e-13);
        }
    }

    fn check_product<T: Real>(isa: Isa, tolerance: f64) {
        const GAP: usize = 3;
        let vector = lanes::<T>(isa);
        for (rows, cols, n) in [1, 2, 4, 5, 8, 10, 14, 16, 17, 24, 31, 45].into_iter().flat_map(|rows| {
            [1, 3, 7, 16].into_iter().flat_map(move |cols| [1, 2, 3].map(|n| (rows, cols, n * vector)))
        }) {
            let stride = n + GAP;
            let (x, w, before) = (noise(rows * cols, 1), noise(cols * n, 2), noise(rows * stride, 3));
            for (row, col) in [(cols, 1), (1, rows)] {
                for start in ["zero", "old", "columns"] {
                    let begin = |i: usize, j: usize| match start {
                        "zero" => 0.0,
                        "old" => before[i * stride + j],
                        _ => w[j],
                    };
                    let mut expected = before.clone();
                    for (i, j) in (0..rows).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        let terms = (0..cols).map(|k| x[i * row + k * col] * w[k * n + j]);
                        expected[i * stride + j] = begin(i, j) + terms.sum::<f64>();
                    }
                    let (x, w, mut found) = (cast::<T>(&x), cast::<T>(&w), cast::<T>(&before));
                    let a = Matrix { values: &x, rows, cols, row, col };
                    let b = Panels { values: &w, row: n, vector };
                    let start = match start {
                        "zero" => Start::Zero,
                        "old" => Start::Old,
                        _ => Start::Columns(&w[..n]),
                    };
                    matrix_product(isa, a, b, &mut found, stride, n, start);
                    assert_close(&found, &expected, tolerance);
                }
            }
        }
    }
}
