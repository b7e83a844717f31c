//! What a window reads along one axis, and by what it is read.

use std::ops::Range;

use crate::kernels::{Window, map::Map};

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

/// A place of the other map, and the tap through which it is seen.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) at: usize,
    pub(super) tap: usize,
}

/// What each place of one axis sees of the other map's, in the order of the taps.
pub(super) struct Axis(Vec<Vec<Seen>>);

impl Axis {
    /// What the rows and the columns of an output see.
    pub(super) fn both(input: &Map, output: &Map, window: &Window) -> (Self, Self) {
        let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
        let axis = |outs: usize, len: usize, kernel: usize, stride: usize, dilation: usize, pad: isize| {
            let place = |o: usize, tap: usize| ((o * stride + tap * dilation) as isize - pad) as usize;
            let seen = |o: usize| {
                let taps = taps_inside(o, len, kernel, stride, dilation, pad);
                taps.map(|tap| Seen { at: place(o, tap), tap }).collect()
            };
            Self((0..outs).map(seen).collect())
        };
        (axis(output.h, input.h, kh, sh, dh, window.pad.0), axis(output.w, input.w, kw, sw, dw, window.pad.1))
    }

    /// How many it sees from a place.
    pub(super) fn count(&self, place: usize) -> usize {
        self.0[place].len()
    }

    /// By what each of the `len` places that are seen is seen.
    pub(super) fn turned(&self, len: usize) -> Self {
        let mut turned = vec![Vec::new(); len];
        for (place, seen) in self.0.iter().enumerate() {
            seen.iter().for_each(|seen| turned[seen.at].push(Seen { at: place, ..*seen }));
        }
        Self(turned)
    }

    /// Each with a weight of its own.
    pub(super) fn weighted<W>(&self, weight: impl Fn(Seen) -> W) -> Taps<W> {
        let tap = |&seen: &Seen| Tap { read: seen.at, weight: weight(seen) };
        Taps(self.0.iter().map(|seen| seen.iter().map(tap).collect()).collect())
    }
}

/// What one place reads.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Tap<W> {
    pub(super) read: usize,
    pub(super) weight: W,
}

/// Where each place of one axis reads, and with which weight.
pub(super) struct Taps<W>(pub(super) Vec<Vec<Tap<W>>>);

impl<W: Copy + PartialEq> Taps<W> {
    /// Whether all of them read before `len`.
    pub(super) fn are_below(&self, len: usize) -> bool {
        self.0.iter().flatten().all(|tap| tap.read < len)
    }

    /// Consecutive places that read at the same distances, with the same weights: as the first of them does.
    pub(super) fn spans(&self) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (place, taps) in self.0.iter().enumerate() {
            let goes_on = |span: &&mut Range<usize>| {
                let first = &self.0[span.start];
                let moved = |tap: &Tap<W>| Tap { read: tap.read + span.len(), ..*tap };
                first.len() == taps.len() && first.iter().zip(taps).all(|(first, tap)| moved(first) == *tap)
            };
            match spans.last_mut().filter(goes_on) {
                Some(span) => span.end += 1,
                None => spans.push(place..place + 1),
            }
        }
        spans
    }
}
