//! Pools on slices.

use std::ops::Range;

use crate::kernels::{
    Isa, Prelude, Window,
    activation::BLOCK,
    depthwise::ChannelSums,
    gather::Gather,
    simd::vectorized,
    threads::{fill, fill_pair, images_per_piece, piece},
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
    /// Whether no earlier tap of these outputs lies inside of the map.
    first: bool,
    x: usize,
    y: usize,
    len: usize,
}

pub(super) fn max<T: Real>(
    isa: Isa,
    x: &[T],
    input: &Map,
    output: &Map,
    window: &Window,
) -> (Vec<T>, Vec<u8>) {
    let (runs, images) = (runs(input, output, window), images_per_piece(input.n, input.image()));
    let sizes = (input.image(), output.image());
    fill_pair(output.len(), images * output.image(), output.len() * window.taps(), |i, y, winners| {
        max_piece(isa, piece(x, i, images * sizes.0), &runs, sizes, y, winners);
    })
}

pub(super) fn max_gradient<T: Real>(
    isa: Isa,
    gy: &[T],
    winners: &[u8],
    input: &Map,
    output: &Map,
    window: &Window,
) -> Vec<T> {
    let (runs, images) = (runs(input, output, window), images_per_piece(input.n, input.image()));
    let sizes = (input.image(), output.image());
    fill(input.len(), images * input.image(), output.len() * window.taps(), |i, gx| {
        let len = images * output.image();
        max_gradient_piece(isa, piece(gy, i, len), piece(winners, i, len), &runs, sizes, gx);
    })
}

pub(super) fn average<T: Real>(isa: Isa, x: &[T], input: &Map, output: &Map, window: &Window) -> Vec<T> {
    let (ones, shares) = (vec![T::ONE; input.c], shares(input, output, window));
    let images = images_per_piece(input.n, input.image());
    let gather = Gather::forward(window, input, output.c);
    let sums = ChannelSums::new(isa, gather, input, output, images, |_| &ones);
    fill(output.len(), images * output.image(), output.len() * window.taps(), |i, y| {
        sums.write(piece(x, i, images * input.image()), input, Prelude::Identity, y, output);
        scale_pixels(isa, &shares, output.c, y);
    })
}

pub(super) fn average_gradient<T: Real>(
    isa: Isa,
    gy: &[T],
    input: &Map,
    output: &Map,
    window: &Window,
) -> Vec<T> {
    let (ones, shares) = (vec![T::ONE; input.c], shares(input, output, window));
    let images = images_per_piece(input.n, input.image());
    let gather = Gather::backward(window, input, output.c);
    let sums = ChannelSums::new(isa, gather, output, input, images, |_| &ones);
    fill(input.len(), images * input.image(), output.len() * window.taps(), |i, gx| {
        let mut shared = piece(gy, i, images * output.image()).to_vec();
        scale_pixels(isa, &shares, output.c, &mut shared);
        sums.write(&shared, output, Prelude::Identity, gx, input);
    })
}

pub(super) fn adaptive_average<T: Real>(x: &[T], input: &Map, output: &Map) -> Vec<T> {
    let parts = parts(input, output);
    fill(output.len(), output.image(), input.len(), |n, y| {
        let x = piece(x, n, input.image());
        for ((pixels, share), y) in parts.iter().zip(y.chunks_exact_mut(input.c)) {
            for &pixel in pixels {
                y.iter_mut().zip(&x[pixel..]).for_each(|(y, &x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= T::from_f64(*share));
        }
    })
}

pub(super) fn adaptive_average_gradient<T: Real>(gy: &[T], input: &Map, output: &Map) -> Vec<T> {
    let parts = parts(input, output);
    fill(input.len(), input.image(), input.len(), |n, gx| {
        let gy = piece(gy, n, output.image());
        for ((pixels, share), gy) in parts.iter().zip(gy.chunks_exact(input.c)) {
            for &pixel in pixels {
                gx[pixel..].iter_mut().zip(gy).for_each(|(gx, &gy)| *gx += gy * T::from_f64(*share));
            }
        }
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

/// One by the number of pixels inside of each window.
fn shares<T: Real>(input: &Map, output: &Map, window: &Window) -> Vec<T> {
    let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
    let share = |o: usize| {
        let rows = taps_inside(o / output.w, input.h, kh, sh, dh, window.pad.0);
        let columns = taps_inside(o % output.w, input.w, kw, sw, dw, window.pad.1);
        T::from_f64(1.0 / (rows.len() * columns.len()) as f64)
    };
    (0..output.h * output.w).map(share).collect()
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
            for (ox, inside) in columns.iter().enumerate().filter(|(_, inside)| inside.contains(&kx)) {
                let first = ky == rows.start && kx == inside.start;
                let x = (y * input.w + read(ox, sw, kx, dw, window.pad.1)) * input.c;
                let next = Run { tap, first, x, y: (oy * output.w + ox) * input.c, len: input.c };
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
        (self.tap, self.first, self.x + self.len, self.y + self.len) == (next.tap, next.first, next.x, next.y)
    }
}

vectorized! {
    /// `sizes` are those of an image of `x` and of `y`.
    fn max_piece<T, V, WIDE>(x: &[T], runs: &[Run], sizes: (usize, usize), y: &mut [T], winners: &mut [u8]) -> () {
        let mut taps = vec![T::ZERO; sizes.1]; // of the elements' width, so that vectors compare and choose alike
        let images = x.chunks_exact(sizes.0).zip(y.chunks_exact_mut(sizes.1)).zip(winners.chunks_exact_mut(sizes.1));
        for ((x, y), winners) in images {
            for run in runs {
                let y = &mut y[run.y..run.y + run.len];
                let (x, taps) = (&x[run.x..run.x + run.len], &mut taps[run.y..run.y + run.len]);
                let tap = T::from_f64(f64::from(run.tap));
                if run.first {
                    y.copy_from_slice(x);
                    taps.fill(tap);
                    continue;
                }
                // By way of a block, as in `relu_mask`.
                for ((y, taps), x) in y.chunks_mut(BLOCK).zip(taps.chunks_mut(BLOCK)).zip(x.chunks(BLOCK)) {
                    let (mut best, mut who) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
                    let values = x.iter().zip(&*y).zip(&*taps);
                    for ((best, who), ((&x, &y), &old)) in best.iter_mut().zip(&mut who).zip(values) {
                        let wins = (x > y) | x.is_nan(); // of equal values the earlier tap stays
                        *best = if wins { x } else { y };
                        *who = if wins { tap } else { old };
                    }
                    y.copy_from_slice(&best[..x.len()]);
                    taps.copy_from_slice(&who[..x.len()]);
                }
            }
            winners.iter_mut().zip(&taps).for_each(|(winner, tap)| *winner = tap.to_u8());
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

vectorized! {
    /// Multiplies the pixels of each image by their factors.
    fn scale_pixels<T, V, WIDE>(factors: &[T], c: usize, images: &mut [T]) -> () {
        for image in images.chunks_exact_mut(factors.len() * c) {
            for (pixel, &factor) in image.chunks_exact_mut(c).zip(factors) {
                pixel.iter_mut().for_each(|x| *x *= factor);
            }
        }
    }
}
