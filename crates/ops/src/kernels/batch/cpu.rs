//! Batches on slices: what the kernel of a device computes, to the bit.

use super::{Row, Scale};

/// `value` says what lies at a place of the examples, end to end.
pub(super) fn gather(
    value: impl Fn(usize) -> f32,
    (h, w, c): (usize, usize, usize),
    rows: &[Row],
    scale: Option<Scale<'_>>,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * h * w * c);
    for row in rows {
        for at in 0..h * w * c {
            let (y, x, channel) = (at / (w * c), at / c % w, at % c);
            if row.hole.0.contains(&y) && row.hole.1.contains(&x) {
                out.push(0.0);
                continue;
            }
            let x = if row.mirrored { w - 1 - x } else { x };
            let from = y.checked_add_signed(row.shift.0).zip(x.checked_add_signed(row.shift.1));
            let pixel = match from.filter(|&(y, x)| y < h && x < w) {
                Some((y, x)) => value(((row.index * h + y) * w + x) * c + channel),
                None => 0.0,
            };
            out.push(scale.map_or(pixel, |of| (pixel - of.mean[channel]) / of.deviation[channel]));
        }
    }
    out
}
