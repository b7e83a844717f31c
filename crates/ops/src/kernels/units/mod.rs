//! Matrix units of a processor: Intel's AMX, which multiplies tiles of `bf16` and adds their products in `f32`.
//!
//! A tile of 16 rows of 32 factors, and one of as many pairs of factors, 16 side by side, add to 16×16 sums in as many
//! cycles as vectors take for a sixteenth of that. Only maps that are stored as `bf16` come here: their weights are rounded
//! likewise, as on a GPU's matrix units. A convolution without a stride needs no matrix built of it: in a frame, the pixels of
//! a row and of the next lie at one distance, margins included, and a tile is read from there, whichever tap it is for. What is
//! computed of margins is dropped. A weight's gradient is a sum over pixels: there, what lies side by side in a tile are the
//! pixels of one channel, so that maps are turned about first ([`weights`]).

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod absent;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
mod weights;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
use absent as tiles;

pub(super) use weights::UnitWeights;

use super::{
    Isa,
    element::{Real, Stored},
    gather::{Gather, Lens, Phase},
    map::Map,
    panels::runs,
    simd::vectorized,
    threads::Scratch,
};

/// Rows of a tile, and sums in a row of a tile.
const TILE: usize = 16;
/// Factors of a sum that a tile holds.
const DEPTH: usize = 32;
/// Pixels that are computed at once: as many as fill the registers, once or twice.
const PIXELS: usize = 4 * TILE;

/// A convolution, ready to run on images: outputs that all read through the same taps.
pub(super) struct Units<T: Real> {
    isa: Isa,
    /// Channels that are read and written.
    from: usize,
    to: usize,
    /// How outputs see inputs.
    sight: Gather,
    /// Where the factors of a tile begin, in bytes from a pixel.
    offsets: Vec<usize>,
    /// The weights of two tiles of outputs side by side, or one, block by block of [`DEPTH`]; then the next two.
    weights: Vec<T::Narrow>,
    frames: Scratch<T::Narrow>,
    sums: Scratch<T>,
}

/// The only phase of what is seen without a stride, where maps of `M` with these channels are multiplied here.
fn suits<M: Stored>(isa: Isa, (from, to): (usize, usize), gather: &Gather) -> Option<&Phase> {
    let [phase] = &gather.phases[..] else { return None };
    let narrow = isa == Isa::Amx && size_of::<M>() == 2 && size_of::<<M::Real as Real>::Narrow>() == 2;
    let full = from.is_multiple_of(TILE) && to.is_multiple_of(TILE) && from * to > 0;
    let near = phase.reads.column == from && phase.reads.row == gather.frame.row();
    (narrow && full && near).then_some(phase)
}

impl<T: Real> Units<T> {
    /// Of all taps of a gather's only phase: the weights of a tap and a channel that it reads are those of `w` from a place on, at
    /// a distance. Nothing where maps of `M` with these channels are not multiplied here, or outputs read with a stride.
    pub(super) fn of_taps<M: Stored<Real = T>>(
        isa: Isa,
        (from, to): (usize, usize),
        gather: Gather,
        w: &[T],
        place: impl Fn(usize, usize) -> (usize, usize),
    ) -> Option<Self> {
        let phase = suits::<M>(isa, (from, to), &gather)?;
        let place = &place;
        let of_tap = |&tap: &usize| (0..from).map(move |channel| place(tap, channel));
        let rows: Vec<_> = phase.taps.iter().flat_map(of_tap).collect();
        // Factors that lie side by side, of which a block may lack some: their weights are zeros.
        let (mut offsets, mut blocks, mut first) = (Vec::new(), Vec::new(), 0);
        for run in runs(phase.channels(from)) {
            for (k, at) in (first..first + run.len).zip(run.first..).step_by(DEPTH) {
                offsets.push(at * size_of::<T::Narrow>());
                blocks.push(k..(k + DEPTH).min(first + run.len));
            }
            first += run.len;
        }
        let mut weights = Vec::with_capacity(blocks.len() * DEPTH * to);
        for columns in (0..to).step_by(2 * TILE).map(|n| (n..(n + 2 * TILE).min(to)).step_by(TILE)) {
            for (block, column) in blocks.iter().flat_map(|block| columns.clone().map(move |n| (block, n))) {
                for k in (block.start..block.start + DEPTH).step_by(2) {
                    let [even, odd] = [k, k + 1].map(|k| block.contains(&k).then(|| rows[k]));
                    let weight = |row: Option<(usize, usize)>, n: usize| {
                        T::Narrow::nearest(row.map_or(T::ZERO, |(first, step)| w[first + n * step]))
                    };
                    weights.extend((column..column + TILE).flat_map(|n| [weight(even, n), weight(odd, n)]));
                }
            }
        }
        let (frames, sums) = (Scratch::new(), Scratch::new());
        Some(Self { isa, from, to, sight: gather, offsets, weights, frames, sums })
    }

    /// Computes the outputs of some consecutive images of maps `from` to `to`, of which `x` are as many pixels; where there is
    /// a `mask`, only where that is positive, else 0.
    pub(super) fn write<X: Stored<Real = T>, M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        x: &[X],
        (from, to): (&Map, &Map),
        lens: &Lens<'_, T>,
        y: &mut [M],
        bias: Option<&[T]>,
        mask: Option<&[N]>,
    ) {
        let frame = &self.sight.frame;
        let (len, image) = (frame.len() + self.slack(), to.image());
        let width = frame.row() / self.from;
        for (i, (x, y)) in x.chunks_exact(from.image()).zip(y.chunks_exact_mut(image)).enumerate() {
            let mask = mask.map(|mask| &mask[i * image..][..image]);
            self.frames.lend_with_margins(len, len, |memory| {
                frame.fill(from, 0..frame.rows(), x, memory, lens);
                self.multiply(memory, (width, to.w), y, bias, mask);
            });
        }
    }

    /// Elements behind a frame that tiles reach: into pixels that nobody asked for, and what their weights make zero.
    fn slack(&self) -> usize {
        PIXELS * self.from + DEPTH
    }

    /// Computes the first `shown` of every `width` pixels of a frame.
    fn multiply<M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        frame: &[T::Narrow],
        (width, shown): (usize, usize),
        y: &mut [M],
        bias: Option<&[T]>,
        mask: Option<&[N]>,
    ) {
        let outputs = y.len() / self.to;
        let places = (outputs / shown).saturating_sub(1) * width + shown; // that lie between the first and the last
        let last = places.next_multiple_of(PIXELS) * self.from + DEPTH;
        let reach = self.offsets.iter().max().map_or(0, |offset| offset / size_of::<T::Narrow>());
        assert!(shown <= width && outputs.is_multiple_of(shown) && last + reach <= frame.len() + self.from);
        tiles::with(|| {
            self.sums.lend(PIXELS * 2 * TILE, |sums| {
                for first in (0..places).step_by(PIXELS) {
                    let mut weights = self.weights.as_ptr();
                    for column in (0..self.to).step_by(2 * TILE) {
                        let tiles = (self.to - column).min(2 * TILE) / TILE;
                        // SAFETY: all that is read of the frame lies in it, as just checked; the weights of so many tiles of
                        // every block are next; there is room for the sums of `PIXELS`.
                        unsafe {
                            tiles::multiply(
                                tiles,
                                frame.as_ptr().add(first * self.from).cast(),
                                self.from * size_of::<T::Narrow>(),
                                &self.offsets,
                                weights.cast(),
                                sums.as_mut_ptr().cast(),
                            );
                            weights = weights.add(self.offsets.len() * tiles * TILE * DEPTH);
                        }
                        let places = Places { first, width, shown, outputs, channels: self.to, column };
                        let bias = bias.map(|bias| &bias[column..][..tiles * TILE]);
                        put(self.isa, sums, tiles * TILE, places, bias, mask, y);
                    }
                }
            })
        });
    }
}

/// Where some sums go.
#[derive(Clone, Copy)]
struct Places {
    /// The place of the first, among rows of `width`, of which the first `shown` are outputs.
    first: usize,
    width: usize,
    shown: usize,
    /// How many outputs there are, of how many channels, and the first channel.
    outputs: usize,
    channels: usize,
    column: usize,
}

vectorized! {
    /// Rows of `wide` sums to their outputs, perhaps with a bias added, perhaps only where a mask is positive.
    fn put<M: Stored, N: Stored, V, WIDE>(
        sums: &[M::Real],
        wide: usize,
        places: Places,
        bias: Option<&[M::Real]>,
        mask: Option<&[N]>,
        y: &mut [M],
    ) -> () {
        let Places { first, width, shown, outputs, channels, column } = places;
        assert!(wide.is_multiple_of(V::LANES) && bias.is_none_or(|bias| bias.len() >= wide));
        let (mut row, mut at) = (first / width, first % width);
        for sums in sums.chunks_exact(wide).take(PIXELS) {
            let output = row * shown + at;
            if at < shown && output < outputs {
                let to = output * channels + column;
                let y = &mut y[to..to + wide];
                let mask = mask.map(|mask| &mask[to..to + wide]);
                for lane in (0..wide).step_by(V::LANES) {
                    // SAFETY: a vector is left of all of them.
                    unsafe {
                        let mut sum = V::load(sums.as_ptr().add(lane));
                        if let Some(bias) = bias {
                            sum = sum.add(V::load(bias.as_ptr().add(lane)));
                        }
                        if let Some(mask) = mask {
                            sum = sum.where_positive(N::load(mask.as_ptr().add(lane)));
                        }
                        M::store(sum, y.as_mut_ptr().add(lane));
                    }
                }
            }
            at += 1;
            if at == width {
                (row, at) = (row + 1, 0);
            }
        }
    }
}
