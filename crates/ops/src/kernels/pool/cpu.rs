//! Pools on slices.

use std::ops::Range;

use candle_core::WithDType as _;

use crate::kernels::{
    Isa, Window,
    simd::{MAX_LANES, vectorized},
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

/// The taps of each output that lie inside of the map: their numbers, as vectors have them, and where they read, as offsets
/// in an image.
struct Reads<T> {
    taps: Vec<(T, usize)>,
    /// Where each output's taps end.
    ends: Vec<usize>,
    /// The last place that is read.
    last: usize,
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
        let (mut taps, mut ends) = (Vec::new(), Vec::with_capacity(output.h * output.w));
        for (oy, ox) in (0..output.h).flat_map(|oy| (0..output.w).map(move |ox| (oy, ox))) {
            for ky in taps_inside(oy, input.h, kh, sh, dh, window.pad.0) {
                let row = read(oy, sh, ky, dh, window.pad.0) * input.w;
                for kx in taps_inside(ox, input.w, kw, sw, dw, window.pad.1) {
                    let tap = T::from_f64((ky * kw + kx) as f64);
                    taps.push((tap, (row + read(ox, sw, kx, dw, window.pad.1)) * input.c));
                }
            }
            ends.push(taps.len());
        }
        let last = taps.iter().map(|&(_, at)| at).max().unwrap_or(0);
        Self { taps, ends, last }
    }
}

vectorized! {
    /// `sizes` are those of an image of `x` and of `y`, of `c` channels.
    fn max_piece<T, V, WIDE>(
        x: &[T], reads: &Reads<T>, c: usize, sizes: (usize, usize), y: &mut [T], winners: &mut [u8],
    ) -> () {
        assert!(sizes.1 == reads.ends.len() * c && (reads.taps.is_empty() || reads.last + c <= sizes.0));
        let images = x.chunks_exact(sizes.0).zip(y.chunks_exact_mut(sizes.1)).zip(winners.chunks_exact_mut(sizes.1));
        for ((x, y), winners) in images {
            let outputs = y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c));
            let mut start = 0;
            for ((y, winners), &end) in outputs.zip(&reads.ends) {
                let taps = &reads.taps[start..end];
                start = end;
                let [(first, at), rest @ ..] = taps else {
                    y.fill(T::ZERO); // sees nothing but margins
                    winners.fill(0);
                    continue;
                };
                for lane in (0..c).step_by(V::LANES) {
                    let left = c - lane;
                    // SAFETY: `c` elements at every tap lie in the image, as checked above, and this many are left.
                    let mut best = unsafe { V::load_first(x.as_ptr().add(at + lane), left) };
                    let mut who = V::splat(*first);
                    for (tap, at) in rest {
                        // SAFETY: as above.
                        let x = unsafe { V::load_first(x.as_ptr().add(at + lane), left) };
                        (best, who) = V::larger(x, V::splat(*tap), best, who);
                    }
                    let mut taps = [T::ZERO; MAX_LANES];
                    // SAFETY: as above, of the output; a vector fits into the longest.
                    unsafe {
                        best.store_first(y.as_mut_ptr().add(lane), left);
                        who.store(taps.as_mut_ptr());
                    }
                    let winners = &mut winners[lane..];
                    match winners.split_at_mut_checked(V::LANES) {
                        Some((whole, _)) => whole.iter_mut().zip(&taps[..V::LANES]).for_each(|(winner, tap)| *winner = tap.to_u8()),
                        None => winners.iter_mut().zip(&taps).for_each(|(winner, tap)| *winner = tap.to_u8()),
                    }
                }
            }
        }
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
