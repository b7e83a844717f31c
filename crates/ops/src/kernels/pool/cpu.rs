//! Pools on slices.

use std::ops::Range;

use candle_core::WithDType as _;

use crate::kernels::{
    Isa, Window,
    simd::{MAX_LANES, Vector, vectorized},
    stored::{Stored, added_up, computed, wide},
    threads::{fill, images_per_piece, overwrite, overwrite_pair_and_collect, piece},
    values::{Map, Real},
};

/// The taps of output `o` that lie inside of an axis: those with `0 ≤ o·stride + tap·dilation − pad < len`.
pub(super) fn taps_inside(
    o: usize,
    len: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: isize,
) -> Range<usize> {
    let start = (o * stride) as isize - pad;
    let below = |end: isize| (end - start).max(0).unsigned_abs().div_ceil(dilation).min(kernel); // taps before `end`
    below(0)..below(len as isize)
}

/// A run of outputs of one row and what they read through one tap, as offsets in their images.
struct Run {
    tap: u8,
    x: usize,
    y: usize,
    len: usize,
}

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

pub(super) fn adaptive_average<M: Stored>(x: &[M], input: &Map, output: &Map) -> Vec<M> {
    let parts = parts(input, output);
    let write = |x: &[M], y: &mut [M::Real]| {
        for ((pixels, share), y) in parts.iter().zip(y.chunks_exact_mut(input.c)) {
            for &pixel in pixels {
                y.iter_mut().zip(&x[pixel..]).for_each(|(y, &x)| *y += x.real());
            }
            y.iter_mut().for_each(|y| *y *= M::Real::from_f64(*share));
        }
    };
    fill(output.len(), output.image(), input.len(), |n, y| {
        added_up(y, |y| write(piece(x, n, input.image()), y));
    })
}

pub(super) fn adaptive_average_gradient<M: Stored>(gy: &[M], input: &Map, output: &Map) -> Vec<M> {
    let parts = parts(input, output);
    let write = |gy: &[M], gx: &mut [M::Real]| {
        for ((pixels, share), gy) in parts.iter().zip(gy.chunks_exact(input.c)) {
            let share = M::Real::from_f64(*share);
            for &pixel in pixels {
                gx[pixel..].iter_mut().zip(gy).for_each(|(gx, &gy)| *gx += gy.real() * share);
            }
        }
    };
    fill(input.len(), input.image(), input.len(), |n, gx| {
        added_up(gx, |gx| write(piece(gy, n, output.image()), gx));
    })
}

/// The offsets of each part's pixels, and one by their number.
fn parts(input: &Map, output: &Map) -> Vec<(Vec<usize>, f64)> {
    let range = |i: usize, len: usize, parts: usize| i * len / parts..((i + 1) * len).div_ceil(parts);
    let part = |p: usize| {
        let (rows, columns) =
            (range(p / output.w, input.h, output.h), range(p % output.w, input.w, output.w));
        let pixel = |y: usize, x: usize| (y * input.w + x) * input.c;
        let pixels: Vec<_> = rows.flat_map(|y| columns.clone().map(move |x| pixel(y, x))).collect();
        let share = 1.0 / pixels.len() as f64;
        (pixels, share)
    };
    (0..output.h * output.w).map(part).collect()
}

/// What each row of outputs reads, tap by tap.
fn runs(input: &Map, output: &Map, window: &Window) -> Vec<Run> {
    let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
    let read = |o: usize, s: usize, k: usize, d: usize, pad: isize| ((o * s + k * d) as isize - pad) as usize;
    let columns: Vec<_> =
        (0..output.w).map(|ox| taps_inside(ox, input.w, kw, sw, dw, window.pad.1)).collect();
    let mut runs: Vec<Run> = Vec::new();
    for oy in 0..output.h {
        let rows = taps_inside(oy, input.h, kh, sh, dh, window.pad.0);
        for (ky, kx) in rows.clone().flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let (tap, y) = ((ky * kw + kx) as u8, read(oy, sh, ky, dh, window.pad.0));
            for (ox, _) in columns.iter().enumerate().filter(|(_, inside)| inside.contains(&kx)) {
                let x = (y * input.w + read(ox, sw, kx, dw, window.pad.1)) * input.c;
                let next = Run { tap, x, y: (oy * output.w + ox) * input.c, len: input.c };
                match runs.last_mut() {
                    Some(last) if last.continues(&next) => last.len += input.c,
                    _ => runs.push(next),
                }
            }
        }
    }
    runs
}

impl Run {
    /// Whether the next run lies right behind this one.
    fn continues(&self, next: &Self) -> bool {
        (self.tap, self.x + self.len, self.y + self.len) == (next.tap, next.x, next.y)
    }
}

/// Outputs of one row, beside each other, whose windows see the same taps.
struct Stretch {
    outputs: usize,
    /// Where these taps end.
    end: usize,
}

/// What the outputs of an image read, a stretch at a time.
struct Reads<T> {
    stretches: Vec<Stretch>,
    /// Numbers of taps, as vectors have them, and where a stretch's first output reads through them, as offsets in an image.
    taps: Vec<(T, usize)>,
    /// From what an output reads to what the next one does.
    step: usize,
    /// Outputs in all, and the end of what they read, in elements.
    outputs: usize,
    end: usize,
}

/// A maximum, ready to run on images.
pub(super) struct Maxima<T> {
    reads: Reads<T>,
    channels: usize,
    /// Elements of an image of the input and of one of the output.
    sizes: (usize, usize),
}

impl<T: Real> Maxima<T> {
    pub(super) fn new(input: &Map, output: &Map, window: &Window) -> Self {
        let reads = Reads::new(input, output, window);
        Self { reads, channels: input.c, sizes: (input.image(), output.image()) }
    }

    /// The largest values of some consecutive images, and which taps had them.
    pub(super) fn write(&self, isa: Isa, x: &[T], y: &mut [T], winners: &mut [u8]) {
        max_piece(isa, x, &self.reads, self.channels, self.sizes, y, winners);
    }
}

/// A maximum's gradient, ready to run on images.
pub(super) struct Shares {
    runs: Vec<Run>,
    /// As of [`Maxima`].
    sizes: (usize, usize),
}

impl Shares {
    pub(super) fn new(input: &Map, output: &Map, window: &Window) -> Self {
        Self { runs: runs(input, output, window), sizes: (input.image(), output.image()) }
    }

    /// Adds up what arrives at some consecutive images at the winners' places.
    pub(super) fn write<T: Real>(&self, isa: Isa, gy: &[T], winners: &[u8], gx: &mut [T]) {
        gx.fill(T::ZERO);
        max_gradient_piece(isa, gy, winners, &self.runs, self.sizes, gx);
    }
}

impl<T: Real> Reads<T> {
    fn new(input: &Map, output: &Map, window: &Window) -> Self {
        let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
        let read =
            |o: usize, s: usize, k: usize, d: usize, pad: isize| ((o * s + k * d) as isize - pad) as usize;
        // The first of outputs beside each other that see the same columns of the window, how many they are, and those columns.
        let mut alike: Vec<(usize, usize, Range<usize>)> = Vec::new();
        for ox in 0..output.w {
            let inside = taps_inside(ox, input.w, kw, sw, dw, window.pad.1);
            match alike.last_mut() {
                Some((_, outputs, columns)) if *columns == inside => *outputs += 1,
                _ => alike.push((ox, 1, inside)),
            }
        }
        let step = sw * input.c;
        let (mut stretches, mut taps, mut end) = (Vec::new(), Vec::new(), 0);
        for oy in 0..output.h {
            let rows = taps_inside(oy, input.h, kh, sh, dh, window.pad.0);
            for (ox, outputs, columns) in &alike {
                for (ky, kx) in rows.clone().flat_map(|ky| columns.clone().map(move |kx| (ky, kx))) {
                    let row = read(oy, sh, ky, dh, window.pad.0) * input.w;
                    let at = (row + read(*ox, sw, kx, dw, window.pad.1)) * input.c;
                    end = end.max(at + (outputs - 1) * step + input.c);
                    taps.push((T::from_f64((ky * kw + kx) as f64), at));
                }
                stretches.push(Stretch { outputs: *outputs, end: taps.len() });
            }
        }
        Self { stretches, taps, step, outputs: output.h * output.w, end }
    }
}

vectorized! {
    /// `sizes` are those of an image of `x` and of `y`, of `c` channels.
    fn max_piece<T, V, WIDE>(
        x: &[T], reads: &Reads<T>, c: usize, sizes: (usize, usize), y: &mut [T], winners: &mut [u8],
    ) -> () {
        assert!(sizes.1 == reads.outputs * c && reads.end <= sizes.0);
        assert!(y.len() == winners.len() && x.len() / sizes.0 == y.len() / sizes.1);
        let whole = c.is_multiple_of(V::LANES);
        let images = x.chunks_exact(sizes.0).zip(y.chunks_exact_mut(sizes.1)).zip(winners.chunks_exact_mut(sizes.1));
        for ((x, mut y), mut winners) in images {
            let mut start = 0;
            for &Stretch { outputs, end } in &reads.stretches {
                let taps = &reads.taps[start..end];
                start = end;
                let (of_y, of_winners) = (y.split_off_mut(..outputs * c), winners.split_off_mut(..outputs * c));
                let (Some(of_y), Some(of_winners)) = (of_y, of_winners) else { break };
                if taps.is_empty() {
                    of_y.fill(T::ZERO); // they see nothing but margins
                    of_winners.fill(0);
                } else if whole {
                    // SAFETY: as was checked, `c` elements, whole vectors, lie in the image at every tap of every output.
                    unsafe { largest::<V>(x, taps, (reads.step, c), of_y, of_winners) };
                } else {
                    for (output, (y, winners)) in of_y.chunks_exact_mut(c).zip(of_winners.chunks_exact_mut(c)).enumerate() {
                        let x = &x[output * reads.step..];
                        for lane in (0..c).step_by(V::LANES) {
                            let left = (c - lane).min(V::LANES);
                            let (mut best, mut who) = (V::splat(T::ZERO), V::splat(T::ZERO));
                            for (i, (tap, at)) in taps.iter().enumerate() {
                                // SAFETY: as above, `left` of them.
                                let x = unsafe { V::load_first(x.as_ptr().add(at + lane), left) };
                                let tap = V::splat(*tap);
                                (best, who) = if i == 0 { (x, tap) } else { V::larger(x, tap, best, who) };
                            }
                            let mut taps = [T::ZERO; MAX_LANES];
                            // SAFETY: as above, of the output; a vector fits into the longest.
                            unsafe {
                                best.store_first(y.as_mut_ptr().add(lane), left);
                                who.store(taps.as_mut_ptr());
                            }
                            winners[lane..].iter_mut().zip(&taps[..left]).for_each(|(winner, tap)| *winner = tap.to_u8());
                        }
                    }
                }
            }
        }
    }
}

/// Vectors of outputs that are compared at once: one waits for each of its comparisons.
const ABREAST: usize = 4;

/// The largest values that a stretch of outputs sees through its taps, of which there are some, and whose they are; `by` are the
/// elements from what an output reads to what the next one does, and its channels.
///
/// # Safety
/// `by.1` elements, whole vectors, lie in `x` at every tap of every output.
#[inline(always)]
unsafe fn largest<V: Vector>(
    x: &[V::Elem],
    taps: &[(V::Elem, usize)],
    by: (usize, usize),
    y: &mut [V::Elem],
    winners: &mut [u8],
) {
    let (step, blocks) = (by.0, by.1 / V::LANES);
    let vectors = y.len() / V::LANES;
    let (mut output, mut block) = (0, 0);
    let mut first = 0;
    while first < vectors {
        let n = if first + ABREAST <= vectors { ABREAST } else { 1 };
        let mut reads = [0; ABREAST];
        for read in &mut reads[..n] {
            *read = output * step + block * V::LANES;
            block += 1;
            if block == blocks {
                (output, block) = (output + 1, 0);
            }
        }
        let place = first * V::LANES..(first + n) * V::LANES;
        let (y, winners) = (&mut y[place.clone()], &mut winners[place]);
        // SAFETY: these vectors are of the stretch; of each, all taps lie in `x` by the caller's promise.
        unsafe {
            match n {
                ABREAST => abreast::<V, ABREAST>(x, taps, reads, y, winners),
                _ => abreast::<V, 1>(x, taps, [reads[0]], y, winners),
            }
        }
        first += n;
    }
}

/// [`largest`] of some vectors, which read at these distances from what the first one does.
///
/// # Safety
/// A vector lies in `x` at each of these distances from every tap, and there is a tap.
#[inline(always)]
unsafe fn abreast<V: Vector, const N: usize>(
    x: &[V::Elem],
    taps: &[(V::Elem, usize)],
    reads: [usize; N],
    y: &mut [V::Elem],
    winners: &mut [u8],
) {
    let (tap, at) = taps[0];
    let (mut best, mut who) = ([V::splat(tap); N], [V::splat(tap); N]);
    for (best, read) in best.iter_mut().zip(&reads) {
        // SAFETY: the caller's promise.
        *best = unsafe { V::load(x.as_ptr().add(at + read)) };
    }
    for (tap, at) in &taps[1..] {
        let tap = V::splat(*tap);
        for i in 0..N {
            // SAFETY: the caller's promise.
            let x = unsafe { V::load(x.as_ptr().add(at + reads[i])) };
            (best[i], who[i]) = V::larger(x, tap, best[i], who[i]);
        }
    }
    let places = y.chunks_exact_mut(V::LANES).zip(winners.chunks_exact_mut(V::LANES));
    for ((best, who), (y, winners)) in best.into_iter().zip(who).zip(places) {
        let mut taps = [V::Elem::ZERO; MAX_LANES];
        // SAFETY: the places are a vector long; a vector fits into the longest.
        unsafe {
            best.store(y.as_mut_ptr());
            who.store(taps.as_mut_ptr());
        }
        winners.iter_mut().zip(&taps[..V::LANES]).for_each(|(winner, tap)| *winner = tap.to_u8());
    }
}

vectorized! {
    fn max_gradient_piece<T, V, WIDE>(
        gy: &[T], winners: &[u8], runs: &[Run], sizes: (usize, usize), gx: &mut [T],
    ) -> () {
        let images = gx.chunks_exact_mut(sizes.0).zip(gy.chunks_exact(sizes.1)).zip(winners.chunks_exact(sizes.1));
        for ((gx, gy), winners) in images {
            for run in runs {
                let gx = &mut gx[run.x..run.x + run.len];
                let (gy, winners) = (&gy[run.y..run.y + run.len], &winners[run.y..run.y + run.len]);
                for ((gx, &gy), &winner) in gx.iter_mut().zip(gy).zip(winners) {
                    *gx += if winner == run.tap { gy } else { T::ZERO };
                }
            }
        }
    }
}
