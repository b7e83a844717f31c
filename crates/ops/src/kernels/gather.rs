//! Which elements a sliding window reads, as offsets.
//!
//! A [`Frame`] is an image with margins, so that no window leaves it. In a frame the element that output `p` reads
//! through tap `t` lies at `pixel(p) + tap(t)`: both a forward (a sum over taps at each pixel) and a weight's gradient
//! (a sum over pixels at each tap) are sums over such offsets.

use std::{borrow::Cow, ops::Range};

use super::{
    Isa, Prelude, Window,
    activation::relu_piece,
    batch_norm::normalize,
    element::{MAX_LANES, Real, Stored},
    map::Map,
    panels::{Run, runs},
    product::Sum,
    simd::{each_vector_of_channels, vectorized},
    stored::{computed, convert},
};

/// A rectangle of an image's plane, perhaps reaching out of it: its first pixel and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    top: isize,
    left: isize,
    h: usize,
    w: usize,
    c: usize,
}

/// Rows and columns of pixels at equal distances, as offsets of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lattice {
    pub(crate) first: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Outputs that read through the same taps.
#[derive(Debug)]
pub(crate) struct Phase {
    /// Rows and columns of outputs, at least one of each.
    pub(crate) size: (usize, usize),
    /// Where in the frame each output's window starts.
    pub(crate) reads: Lattice,
    /// Where each output lies in its image.
    pub(crate) writes: Lattice,
    /// The starts of all windows of consecutive images, in the order of the outputs.
    pub(crate) pixels: Vec<usize>,
    /// The places of all outputs of consecutive images.
    pub(crate) outs: Vec<usize>,
    /// Where in the window each tap lies.
    pub(crate) offsets: Vec<usize>,
    /// Which tap of the kernel that is, in row-major order.
    pub(crate) taps: Vec<usize>,
}

/// A frame and the phases that read it.
#[derive(Debug)]
pub(crate) struct Gather {
    pub(crate) frame: Frame,
    pub(crate) phases: Vec<Phase>,
    images: usize,
}

impl Frame {
    /// Elements of the frame.
    pub(crate) fn len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// Whether the frame is just the image.
    pub(crate) fn is_whole(&self, map: &Map) -> bool {
        (self.top, self.left, self.h, self.w) == (0, 0, map.h, map.w)
    }

    /// Copies what the frame's `rows` show of an image; the margins are left as they are.
    pub(crate) fn fill<M: Stored, N: Stored<Real = M::Real>>(
        &self,
        map: &Map,
        rows: Range<usize>,
        image: &[M],
        frame: &mut [N],
        lens: &Lens<'_, M::Real>,
    ) {
        let (before, columns) = self.shows(map);
        let row =
            |frame_row: usize| usize::try_from(frame_row as isize + self.top).ok().filter(|&y| y < map.h);
        for (seen, y) in rows.filter_map(|at| Some((at, row(at)?))) {
            let x = &image[y * map.w * self.c..][columns.clone()];
            lens.write(x, self.c, &mut frame[seen * self.row() + before..][..x.len()]);
        }
    }

    /// As [`Frame::fill`], of some rows of an image, which are all that `seen` holds; they stay as they are.
    pub(crate) fn put<T: Copy>(&self, map: &Map, rows: Range<usize>, seen: &[T], frame: &mut [T]) {
        let (before, columns) = self.shows(map);
        for (y, x) in rows.zip(seen.chunks_exact(map.w * self.c)) {
            if let Some(row) = usize::try_from(y as isize - self.top).ok().filter(|&row| row < self.h) {
                let x = &x[columns.clone()];
                frame[row * self.row() + before..][..x.len()].copy_from_slice(x);
            }
        }
    }

    /// How many rows of the frame are there once so many of an image are.
    pub(crate) fn filled(&self, map: &Map, rows: usize) -> usize {
        let end = usize::try_from(rows as isize - self.top).unwrap_or(0);
        if rows < map.h { end.min(self.h) } else { self.h }
    }

    /// Where in a row of the frame the image begins, and which part of the image's row it shows, in elements.
    fn shows(&self, map: &Map) -> (usize, Range<usize>) {
        let before = (-self.left).clamp(0, self.w as isize) as usize;
        let left = (self.left.max(0) as usize).min(map.w);
        let inside = (map.w - left).min(self.w - before);
        (before * self.c, left * self.c..(left + inside) * self.c)
    }

    /// Elements of a row.
    pub(crate) fn row(&self) -> usize {
        self.w * self.c
    }

    /// Its rows.
    pub(crate) fn rows(&self) -> usize {
        self.h
    }
}

/// What becomes of an image's values on their way into a frame.
#[derive(Clone, Debug)]
pub(crate) struct Lens<'a, T> {
    pub(crate) isa: Isa,
    /// A batch norm, in front of the prelude: channels' means, factors and shifts, repeated.
    pub(crate) norm: Option<&'a [Vec<T>; 3]>,
    pub(crate) prelude: Prelude,
}

impl<T: Real> Lens<'_, T> {
    /// Whether values stay as they are.
    pub(crate) fn is_clear(&self) -> bool {
        self.norm.is_none() && self.prelude == Prelude::Identity
    }

    /// Whole pixels of `c` channels.
    pub(crate) fn write<M: Stored<Real = T>, N: Stored<Real = T>>(&self, x: &[M], c: usize, seen: &mut [N]) {
        let channels = self.norm.map(|norm| norm.each_ref().map(|values| &values[..]));
        match (channels, self.prelude) {
            (None, Prelude::Identity) => convert(self.isa, x, seen),
            (None, Prelude::Relu) => relu_piece(self.isa, x, seen),
            (Some(channels), Prelude::Identity) => {
                computed(seen, |seen| normalize(self.isa, x, c, channels, seen));
            }
            (Some(channels), Prelude::Relu) => {
                computed(seen, |seen| normalize_relu(self.isa, x, c, channels, seen));
            }
        }
    }
}

vectorized! {
    /// [`normalize`] and a ReLU.
    fn normalize_relu<M: Stored, V, WIDE>(
        x: &[M], c: usize, channels: [&[M::Real]; 3], y: &mut [M::Real]
    ) -> () {
        assert!(x.len() == y.len());
        let [mean, factor, shift] = channels;
        each_vector_of_channels!(V, WIDE, x.len(), c, [mean, factor, shift], |at, left| {
            // SAFETY: so many elements are left of both.
            unsafe {
                let x: V = M::load_first(x.as_ptr().add(at), left);
                x.sub(mean).mul(factor).add(shift).relu().store_first(y.as_mut_ptr().add(at), left);
            }
        });
    }
}

impl Lattice {
    pub(crate) fn at(self, row: usize, column: usize) -> usize {
        self.first + row * self.row + column * self.column
    }
}

impl Gather {
    /// What the outputs of a window over `input` read; each output has `c_out` channels.
    pub(crate) fn forward(window: &Window, input: &Map, c_out: usize) -> Self {
        let (oh, ow) = window.out(input.h, input.w);
        let Trimmed { window, tap } = Trimmed::new(window, input);
        let size = |outs: usize, s: usize, k: usize, d: usize| (outs.max(1) - 1) * s + (k - 1) * d + 1;
        let frame = Frame {
            top: -window.pad.0,
            left: -window.pad.1,
            h: size(oh, window.stride.0, window.kernel.0, window.dilation.0),
            w: size(ow, window.stride.1, window.kernel.1, window.dilation.1),
            c: input.c,
        };
        let at = |y: usize, x: usize| (y * frame.w + x) * frame.c;
        let reads = Lattice { first: 0, row: at(window.stride.0, 0), column: at(0, window.stride.1) };
        let writes = Lattice { first: 0, row: ow * c_out, column: c_out };
        let offsets = grid(0..window.kernel.0, 0..window.kernel.1)
            .map(|(ky, kx)| at(ky * window.dilation.0, kx * window.dilation.1))
            .collect();
        let taps = grid(0..window.kernel.0, 0..window.kernel.1).map(tap).collect();
        Self { frame, phases: vec![Phase::new((oh, ow), reads, writes, offsets, taps)], images: 1 }
    }

    /// What the gradient at the inputs of a window over `input` reads of the gradient at its outputs, which has `c_out`
    /// channels. Input `i` was read by output `o` through tap `k` where `o·stride = i + pad − k·dilation`: inputs of the
    /// same remainder by the stride make a phase.
    pub(crate) fn backward(window: &Window, input: &Map, c_out: usize) -> Self {
        let Trimmed { window, tap } = Trimmed::new(window, input);
        let rows = Axis::new(input.h, window.kernel.0, window.stride.0, window.dilation.0, window.pad.0);
        let columns = Axis::new(input.w, window.kernel.1, window.stride.1, window.dilation.1, window.pad.1);
        let frame = Frame { top: rows.first, left: columns.first, h: rows.len, w: columns.len, c: c_out };
        let at = |y: usize, x: usize| (y * frame.w + x) * frame.c;
        let phases = grid(0..window.stride.0.min(input.h), 0..window.stride.1.min(input.w))
            .map(|(a, b)| {
                let (down, across) = (rows.taps(a), columns.taps(b));
                let taps = || down.iter().flat_map(|row| across.iter().map(move |column| (row, column)));
                let (h, w) =
                    ((input.h - a).div_ceil(window.stride.0), (input.w - b).div_ceil(window.stride.1));
                let place = |y: usize, x: usize| (y * input.w + x) * input.c;
                let reads = Lattice { first: 0, row: at(1, 0), column: at(0, 1) };
                let (row, column) = (place(window.stride.0, 0), place(0, window.stride.1));
                let writes = Lattice { first: place(a, b), row, column };
                let offsets = taps().map(|(row, column)| at(row.1, column.1)).collect();
                let taps = taps().map(|(row, column)| tap((row.0, column.0))).collect();
                Phase::new((h, w), reads, writes, offsets, taps)
            })
            .collect();
        Self { frame, phases, images: 1 }
    }
}

impl Gather {
    /// Lists the pixels of every phase, of `images` consecutive images, whose outputs have `out` elements each.
    pub(crate) fn over(mut self, images: usize, out: usize) -> Self {
        self.images = images;
        for phase in &mut self.phases {
            phase.pixels = phase.offsets_of(phase.reads, images, self.frame.len());
            phase.outs = phase.offsets_of(phase.writes, images, out);
        }
        self
    }

    /// The sum over `cols` at each output of the first `images` images.
    pub(crate) fn sum<'a, T>(
        &self,
        phase: &'a Phase,
        frames: &'a [T],
        cols: &'a [Run],
        images: usize,
    ) -> Sum<'a, T> {
        let rows = phase.pixels.len() / self.images * images;
        Sum { values: frames, rows: &phase.pixels[..rows], cols, outs: &phase.outs[..rows] }
    }

    /// How many of a phase's rows read nothing but the first `filled` rows of the frame; without taps, as if they read where their
    /// windows begin.
    pub(crate) fn seen(&self, phase: &Phase, filled: usize) -> usize {
        if filled == self.frame.h {
            return phase.size.0;
        }
        let last = phase.reads.at(0, phase.size.1 - 1) + phase.offsets.iter().max().copied().unwrap_or(0);
        let room = (filled * self.frame.row()).checked_sub(last + 1);
        room.map_or(0, |room| room / phase.reads.row + 1).min(phase.size.0)
    }

    /// The frames of consecutive images, followed by a vector's length of readable elements; the images themselves
    /// where the frame adds nothing.
    pub(crate) fn frames<'a, T: Real>(&self, map: &Map, images: &'a [T], lens: &Lens<'_, T>) -> Cow<'a, [T]> {
        if lens.is_clear() && self.frame.is_whole(map) {
            return Cow::Borrowed(images);
        }
        let mut frames = vec![T::ZERO; images.len() / map.image() * self.frame.len() + MAX_LANES];
        for (image, frame) in images.chunks_exact(map.image()).zip(frames.chunks_exact_mut(self.frame.len()))
        {
            self.frame.fill(map, 0..self.frame.h, image, frame, lens);
        }
        Cow::Owned(frames)
    }
}

impl Phase {
    fn new(
        size: (usize, usize),
        reads: Lattice,
        writes: Lattice,
        offsets: Vec<usize>,
        taps: Vec<usize>,
    ) -> Self {
        Self { size, reads, writes, pixels: Vec::new(), outs: Vec::new(), offsets, taps }
    }

    /// The phase's pixels on a lattice, of consecutive images `image` elements apart.
    fn offsets_of(&self, lattice: Lattice, images: usize, image: usize) -> Vec<usize> {
        let (rows, columns) = self.size;
        let mut offsets = Vec::with_capacity(images * rows * columns);
        for (i, y) in grid(0..images, 0..rows) {
            let row = i * image + lattice.at(y, 0);
            offsets.extend((0..columns).map(|x| row + x * lattice.column));
        }
        offsets
    }

    /// Offsets of the taps' channels: `c` elements at each tap.
    pub(crate) fn channels(&self, c: usize) -> impl Iterator<Item = usize> {
        self.offsets.iter().flat_map(move |&offset| offset..offset + c)
    }

    /// [`Phase::channels`] as runs.
    pub(crate) fn runs(&self, c: usize) -> Vec<Run> {
        if c <= 1 {
            return runs(self.channels(c)); // single channels may lie at one distance
        }
        let mut runs: Vec<Run> = Vec::new();
        for &first in &self.offsets {
            match runs.last_mut() {
                Some(run) if first == run.first + run.len => run.len += c,
                _ => runs.push(Run { first, step: 1, len: c }),
            }
        }
        runs
    }
}

/// A window without the rows and columns of taps that no output reads the map through.
struct Trimmed<F> {
    window: Window,
    /// Which tap of the whole window one of this is.
    tap: F,
}

impl Trimmed<()> {
    fn new(whole: &Window, input: &Map) -> Trimmed<impl Fn((usize, usize)) -> usize + Copy + use<>> {
        let (oh, ow) = whole.out(input.h, input.w);
        let rows = useful(input.h, oh, whole.kernel.0, whole.stride.0, whole.dilation.0, whole.pad.0);
        let columns = useful(input.w, ow, whole.kernel.1, whole.stride.1, whole.dilation.1, whole.pad.1);
        let (first_row, first_column, width) = (rows.start, columns.start, whole.kernel.1);
        let past = |taps: usize, dilation: usize| (taps * dilation) as isize;
        let window = Window {
            kernel: (rows.len(), columns.len()),
            pad: (
                whole.pad.0 - past(rows.start, whole.dilation.0),
                whole.pad.1 - past(columns.start, whole.dilation.1),
            ),
            ..*whole
        };
        Trimmed { window, tap: move |(ky, kx)| (first_row + ky) * width + first_column + kx }
    }
}

/// The taps of an axis that read the map for some output; if none do, one that reads zeros.
fn useful(
    len: usize,
    outs: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: isize,
) -> Range<usize> {
    let before = |end: isize| end.max(0).unsigned_abs().div_ceil(dilation).min(kernel); // taps that start before `end`
    let last = ((outs - 1) * stride) as isize;
    let (start, end) = (before(pad - last), before(len as isize + pad));
    let start = start.min(kernel - 1);
    start..end.max(start + 1)
}

/// One axis of a window, seen from its inputs.
struct Axis {
    /// The lowest output that some input could be read by, and how many follow; both beyond the map's ends.
    first: isize,
    len: usize,
    kernel: usize,
    stride: isize,
    dilation: usize,
    pad: isize,
}

impl Axis {
    fn new(len: usize, kernel: usize, stride: usize, dilation: usize, pad: isize) -> Self {
        let stride = stride as isize;
        let first = (pad - ((kernel - 1) * dilation) as isize).div_euclid(stride);
        let last = (len.max(1) as isize - 1 + pad).div_euclid(stride);
        Self { first, len: (last - first + 1) as usize, kernel, stride, dilation, pad }
    }

    /// The taps that inputs of the remainder `phase` are read through, and their outputs' distance from `first`; that
    /// distance ascends.
    fn taps(&self, phase: usize) -> Vec<(usize, usize)> {
        (0..self.kernel)
            .rev()
            .map(|k| (k, phase as isize + self.pad - (k * self.dilation) as isize))
            .filter(|(_, reach)| reach.rem_euclid(self.stride) == 0)
            .map(|(k, reach)| (k, (reach / self.stride - self.first) as usize))
            .collect()
    }
}

fn grid(
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> impl Iterator<Item = (usize, usize)> {
    rows.flat_map(move |y| columns.clone().map(move |x| (y, x)))
}

/// Rows of `c` elements, each with zeros up to a multiple of `lanes`.
pub(crate) fn padded<T: Real>(rows: &[T], c: usize, lanes: usize) -> Cow<'_, [T]> {
    let width = c.next_multiple_of(lanes);
    if width == c {
        return Cow::Borrowed(rows);
    }
    let mut wide = vec![T::ZERO; rows.len() / c * width];
    wide.chunks_exact_mut(width)
        .zip(rows.chunks_exact(c))
        .for_each(|(wide, row)| wide[..c].copy_from_slice(row));
    Cow::Owned(wide)
}
