//! Means of parts of a map on slices.

use candle_core::WithDType as _;

use crate::kernels::{
    element::Stored,
    map::Map,
    stored::added_up,
    threads::{fill, piece},
};

pub(super) fn average<M: Stored>(x: &[M], input: &Map, output: &Map) -> Vec<M> {
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

pub(super) fn average_gradient<M: Stored>(gy: &[M], input: &Map, output: &Map) -> Vec<M> {
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
