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

/// What one place reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap<W> {
    pub(super) read: usize,
    pub(super) weight: W,
}

/// Where each place of one axis reads of the other map's, in the order of the window's taps, and with which weight.
pub(super) struct Taps<W>(pub(super) Vec<Vec<Tap<W>>>);

/// Taps that weigh their numbers in the window.
pub(super) type Numbered = Taps<usize>;

impl Numbered {
    /// What the rows and the columns of an output read.
    pub(super) fn both(input: &Map, output: &Map, window: &Window) -> (Self, Self) {
        let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
        let axis = |outs: usize, len: usize, kernel: usize, stride: usize, dilation: usize, pad: isize| {
            let place = |o: usize, tap: usize| ((o * stride + tap * dilation) as isize - pad) as usize;
            let reads = |o: usize| {
                let taps = taps_inside(o, len, kernel, stride, dilation, pad);
                taps.map(|tap| Tap { read: place(o, tap), weight: tap }).collect()
            };
            Self((0..outs).map(reads).collect())
        };
        (axis(output.h, input.h, kh, sh, dh, window.pad.0), axis(output.w, input.w, kw, sw, dw, window.pad.1))
    }

    /// How many it reads from a place.
    pub(super) fn count(&self, place: usize) -> usize {
        self.0[place].len()
    }

    /// By what each of the `len` places that are read is read.
    pub(super) fn turned(&self, len: usize) -> Self {
        let mut turned = vec![Vec::new(); len];
        for (place, taps) in self.0.iter().enumerate() {
            taps.iter().for_each(|tap| turned[tap.read].push(Tap { read: place, ..*tap }));
        }
        Self(turned)
    }

    /// With other weights.
    pub(super) fn weighted<W>(&self, weight: impl Fn(Tap<usize>) -> W) -> Taps<W> {
        let weighted = |&tap: &Tap<usize>| Tap { read: tap.read, weight: weight(tap) };
        Taps(self.0.iter().map(|taps| taps.iter().map(weighted).collect()).collect())
    }
}

impl<W: Copy + PartialEq> Taps<W> {
    /// Whether all of them read before `len`.
    pub(super) fn are_below(&self, len: usize) -> bool {
        self.0.iter().flatten().all(|tap| tap.read < len)
    }

    /// Whether every place reads something.
    pub(super) fn are_everywhere(&self) -> bool {
        self.0.iter().all(|taps| !taps.is_empty())
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
