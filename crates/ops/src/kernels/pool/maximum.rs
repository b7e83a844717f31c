//! Maxima of windows on slices: the largest of a window's columns, row by row, then the largest of these. So a window of 3×3
//! costs four comparisons instead of eight, and reads no margins.

use std::ops::Range;

use super::axes::{Numbered, Tap, Taps};
use crate::kernels::{
    Isa, Window,
    element::{Real, Stored, Vector},
    map::Map,
    simd::{each_vector, vectorized},
    stored::{computed, wide},
    threads::{Reused, images_per_piece, overwrite, overwrite_pair_and_collect, piece},
};

pub(super) fn max<M: Stored>(
    isa: Isa,
    x: &[M],
    input: &Map,
    output: &Map,
    window: &Window,
) -> (Vec<M>, Vec<u8>) {
    let (maxima, images) = (Maxima::new(input, output, window), images_per_piece(input.n, input.image()));
    let (len, work) = (images * output.image(), output.len() * window.taps());
    let (y, winners, _) = overwrite_pair_and_collect(output.len(), len, work, |i, y: &mut [M], winners| {
        wide(piece(x, i, images * input.image()), |x| computed(y, |y| maxima.write(isa, x, y, winners)));
    });
    (y, winners)
}

pub(super) fn max_gradient<M: Stored>(
    isa: Isa,
    gy: &[M],
    winners: &[u8],
    input: &Map,
    output: &Map,
    window: &Window,
) -> Vec<M> {
    let (shares, images) = (Shares::new(input, output, window), images_per_piece(input.n, input.image()));
    overwrite(input.len(), images * input.image(), output.len() * window.taps(), |i, gx| {
        let len = images * output.image();
        wide(piece(gy, i, len), |gy| computed(gx, |gx| shares.write(isa, gy, piece(winners, i, len), gx)));
    })
}

/// A maximum, ready to run on images.
pub(super) struct Maxima<T> {
    /// Taps are numbered row by row: a row adds the number of its first one, a column its place in the row.
    rows: Taps<T>,
    columns: Taps<T>,
    /// Of the columns.
    spans: Vec<Range<usize>>,
    /// The first row that each row of outputs reads, or a later one does: where taps lie apart, it may go back.
    begins: Vec<usize>,
    /// How many rows' maxima are kept at once.
    kept: usize,
    from: Map,
    to: Map,
}

impl<T: Real> Maxima<T> {
    pub(super) fn new(input: &Map, output: &Map, window: &Window) -> Self {
        let (rows, columns) = Numbered::both(input, output, window);
        let (width, number) = (window.kernel.1, |n: usize| T::from_f64(n as f64));
        let (rows, columns) =
            (rows.weighted(|tap| number(tap.weight * width)), columns.weighted(|tap| number(tap.weight)));
        let mut begins: Vec<_> = rows.0.iter().map(|taps| taps.first().map_or(0, |tap| tap.read)).collect();
        (1..begins.len()).rev().for_each(|row| begins[row - 1] = begins[row - 1].min(begins[row]));
        let kept = ((window.kernel.0 - 1) * window.dilation.0 + 1).min(input.h);
        Self { spans: columns.spans(), rows, columns, begins, kept, from: *input, to: *output }
    }

    /// The largest values of some consecutive images, and which taps had them: of equal ones the first, but of several NaNs
    /// the last.
    pub(super) fn write(&self, isa: Isa, x: &[T], y: &mut [T], winners: &mut [u8]) {
        maxima_of_images(isa, self, x, y, winners);
    }
}

/// A maximum's gradient, ready to run on images.
pub(super) struct Shares {
    /// Row by row of an input, its spans.
    spans: Vec<Span>,
    /// Taps, and where in an image of the output a span's first place is seen through each.
    seen: Vec<(u8, usize)>,
    /// Elements of an image of the output and of one of the input, and of all that is read of the former.
    sizes: (usize, usize),
    end: usize,
}

/// Consecutive inputs of one row that are seen through the same taps, by outputs that lie beside each other.
struct Span {
    /// Elements, channels included.
    len: usize,
    /// Where these taps end.
    end: usize,
}

impl Shares {
    pub(super) fn new(input: &Map, output: &Map, window: &Window) -> Self {
        let (rows, columns) = Numbered::both(input, output, window);
        let (rows, columns) = (rows.turned(input.h), columns.turned(input.w));
        let columns_alike = columns.spans();
        let (mut spans, mut seen, mut end) = (Vec::new(), Vec::new(), 0);
        for row in &rows.0 {
            for span in &columns_alike {
                let len = span.len() * input.c;
                let pairs =
                    row.iter().flat_map(|row| columns.0[span.start].iter().map(move |column| (row, column)));
                for (row, column) in pairs {
                    let at = (row.read * output.w + column.read) * output.c;
                    seen.push(((row.weight * window.kernel.1 + column.weight) as u8, at));
                    end = end.max(at + len);
                }
                spans.push(Span { len, end: seen.len() });
            }
        }
        Self { spans, seen, sizes: (output.image(), input.image()), end }
    }

    /// Adds up what arrives at some consecutive images at the winners' places.
    pub(super) fn write<T: Real>(&self, isa: Isa, gy: &[T], winners: &[u8], gx: &mut [T]) {
        shares_of_images(isa, self, gy, winners, gx);
    }
}

vectorized! {
    fn maxima_of_images<T, V, WIDE>(maxima: &Maxima<T>, x: &[T], y: &mut [T], winners: &mut [u8]) -> () {
        let Maxima { rows, columns, spans, begins, kept, from, to } = maxima;
        let (c, read, wide) = (from.c, from.w * from.c, to.w * to.c);
        assert!(to.c == c && rows.are_below(from.h) && columns.are_below(from.w));
        assert!(rows.are_everywhere() && columns.are_everywhere(), "every window lies partly in the map");
        assert!(y.len() == winners.len() && y.len() / to.image() == x.len() / from.image());
        // The largest values of the last few rows, and through which tap of its row each was seen; and those of an output's row.
        let (mut best, mut taps_of_best) = (Reused::new(kept * wide), Reused::new(kept * wide));
        let mut numbers = Reused::new(wide);
        let images = x.chunks_exact(from.image()).zip(y.chunks_exact_mut(to.image()));
        for ((x, y), winners) in images.zip(winners.chunks_exact_mut(to.image())) {
            let mut next = 0; // rows before this one have been compared, or nobody sees them any more
            let outputs = y.chunks_exact_mut(wide).zip(winners.chunks_exact_mut(wide));
            for ((y, winners), (taps, begin)) in outputs.zip(rows.0.iter().zip(begins)) {
                let end = taps[taps.len() - 1].read + 1;
                for row in next.max(*begin)..end {
                    let (x, place) = (&x[row * read..][..read], row % kept * wide);
                    for span in spans {
                        let places = place + span.start * c..place + span.end * c;
                        let (best, numbers) = (&mut best[places.clone()], &mut taps_of_best[places]);
                        across::<V>(x, c, &columns.0[span.start], best, numbers);
                    }
                }
                next = next.max(end);
                down::<V>((&best, &taps_of_best), *kept, taps, y, &mut numbers);
                winners.iter_mut().zip(&*numbers).for_each(|(winner, number)| *winner = number.to_u8());
            }
        }
    }
}

/// The largest values that places of a row see through its columns, and through which.
#[inline(always)]
fn across<V: Vector>(
    x: &[V::Elem],
    c: usize,
    columns: &[Tap<V::Elem>],
    best: &mut [V::Elem],
    numbers: &mut [V::Elem],
) {
    let column = |tap: &Tap<V::Elem>| Row { values: &x[tap.read * c..], numbers: &[], more: tap.weight };
    largest::<V, false>(columns, column, best, numbers);
}

/// The largest values of rows, of which the last `kept` are there, and through which tap of the window they are seen.
#[inline(always)]
fn down<V: Vector>(
    (best, of_row): (&[V::Elem], &[V::Elem]),
    kept: usize,
    rows: &[Tap<V::Elem>],
    y: &mut [V::Elem],
    numbers: &mut [V::Elem],
) {
    let wide = y.len();
    let row = |tap: &Tap<V::Elem>| {
        let place = tap.read % kept * wide;
        Row { values: &best[place..], numbers: &of_row[place..], more: tap.weight }
    };
    largest::<V, true>(rows, row, y, numbers);
}

/// Taps that are compared in one pass.
const AT_ONCE: usize = 3;

/// Place by place the largest value of what taps read, and its number.
#[inline(always)]
fn largest<'a, V: Vector<Elem: 'a>, const NUMBERED: bool>(
    taps: &[Tap<V::Elem>],
    row: impl Fn(&Tap<V::Elem>) -> Row<'a, V::Elem>,
    best: &mut [V::Elem],
    numbers: &mut [V::Elem],
) {
    for (i, taps) in taps.chunks(AT_ONCE).enumerate() {
        match taps {
            [a, b, c] => compare::<V, 3, NUMBERED>([row(a), row(b), row(c)], i == 0, best, numbers),
            [a, b] => compare::<V, 2, NUMBERED>([row(a), row(b)], i == 0, best, numbers),
            [a] => compare::<V, 1, NUMBERED>([row(a)], i == 0, best, numbers),
            _ => unreachable!("one tap to three"),
        }
    }
}

/// What is compared with others place by place: values, and the numbers of their taps: these `numbers`, if they are `NUMBERED`,
/// and so many `more`.
struct Row<'a, T> {
    values: &'a [T],
    numbers: &'a [T],
    more: T,
}

/// Place by place the largest value of the rows and, unless these are the `first`, of `best`; and its number. Of equal ones the
/// first, but the last NaN.
#[inline(always)]
fn compare<V: Vector, const N: usize, const NUMBERED: bool>(
    rows: [Row<'_, V::Elem>; N],
    first: bool,
    best: &mut [V::Elem],
    numbers: &mut [V::Elem],
) {
    let (len, zero) = (best.len(), V::splat(V::Elem::ZERO));
    assert!(numbers.len() == len);
    let (mut values, mut of_values, mut more) = ([std::ptr::null(); N], [std::ptr::null(); N], [zero; N]);
    for (n, row) in rows.iter().enumerate() {
        (values[n], more[n]) = (row.values[..len].as_ptr(), V::splat(row.more));
        if NUMBERED {
            of_values[n] = row.numbers[..len].as_ptr();
        }
    }
    each_vector!(V, len, |at, left| {
        // SAFETY: so many elements are left of `best` and `numbers`; every row is as long.
        unsafe {
            let (mut largest, mut number) = (zero, zero);
            if !first {
                largest = V::load_first(best.as_ptr().add(at), left);
                number = V::load_first(numbers.as_ptr().add(at), left);
            }
            for n in 0..N {
                let x = V::load_first(values[n].add(at), left);
                let tap = match NUMBERED {
                    true => V::load_first(of_values[n].add(at), left).add(more[n]),
                    false => more[n],
                };
                let begins = first && n == 0;
                (largest, number) = if begins { (x, tap) } else { V::larger(x, tap, largest, number) };
            }
            largest.store_first(best.as_mut_ptr().add(at), left);
            number.store_first(numbers.as_mut_ptr().add(at), left);
        }
    });
}

vectorized! {
    fn shares_of_images<T, V, WIDE>(shares: &Shares, gy: &[T], winners: &[u8], gx: &mut [T]) -> () {
        let Shares { spans, seen, sizes, end } = shares;
        assert!(*end <= sizes.0 && gy.len() == winners.len() && gx.len() / sizes.1 == gy.len() / sizes.0);
        assert!(spans.iter().map(|span| span.len).sum::<usize>() == sizes.1);
        let images = gy.chunks_exact(sizes.0).zip(winners.chunks_exact(sizes.0));
        for (mut gx, (gy, winners)) in gx.chunks_exact_mut(sizes.1).zip(images) {
            let mut start = 0;
            for &Span { len, end } in spans {
                let (gx, seen) = (gx.split_off_mut(..len).expect("spans make up an image"), &seen[start..end]);
                start = end;
                // SAFETY: as was checked, all that a span is seen by lies in an image of the output.
                unsafe { add_won::<V>(gy, winners, seen, gx) };
            }
        }
    }
}

/// Vectors that are summed at once: one waits for each of its additions.
const ABREAST: usize = 4;

/// `gx[i] = Σ gy[at + i]` over what is `seen`, where the tap won.
///
/// # Safety
/// As many elements of `gy` and of `winners` as `gx` has lie behind each `at`.
#[inline(always)]
unsafe fn add_won<V: Vector>(gy: &[V::Elem], winners: &[u8], seen: &[(u8, usize)], gx: &mut [V::Elem]) {
    let (len, mut at) = (gx.len(), 0);
    // SAFETY: the caller's promise, as long as all of a block's elements are left.
    unsafe {
        while at + ABREAST * V::LANES <= len {
            add_vectors::<V, ABREAST>(gy, winners, seen, at, gx);
            at += ABREAST * V::LANES;
        }
        while at + V::LANES <= len {
            add_vectors::<V, 1>(gy, winners, seen, at, gx);
            at += V::LANES;
        }
    }
    for (i, gx) in gx.iter_mut().enumerate().skip(at) {
        let won = seen.iter().filter(|(tap, from)| winners[from + i] == *tap);
        *gx = won.fold(V::Elem::ZERO, |sum, (_, from)| sum + gy[from + i]);
    }
}

/// [`add_won`] of a few vectors, from element `at` on.
///
/// # Safety
/// As there; they end within `gx`.
#[inline(always)]
unsafe fn add_vectors<V: Vector, const N: usize>(
    gy: &[V::Elem],
    winners: &[u8],
    seen: &[(u8, usize)],
    at: usize,
    gx: &mut [V::Elem],
) {
    let mut sums = [V::splat(V::Elem::ZERO); N];
    // SAFETY: the caller's promise.
    unsafe {
        for &(tap, from) in seen {
            for (n, sum) in sums.iter_mut().enumerate() {
                let from = from + at + n * V::LANES;
                *sum = sum.add_where(gy.as_ptr().add(from), winners.as_ptr().add(from), tap);
            }
        }
        for (n, sum) in sums.into_iter().enumerate() {
            sum.store(gx.as_mut_ptr().add(at + n * V::LANES));
        }
    }
}
