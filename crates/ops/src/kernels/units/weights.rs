//! Weights' gradients by matrix units: both factors are rounded to `bf16`, sums are `f32`.

use super::{DEPTH, TILE, suits, tiles};
use crate::kernels::{
    Isa,
    element::{Real, Stored},
    gather::{Gather, Lens},
    map::Map,
    stored::convert,
    threads::{Reused, Scratch},
};

/// Taps that share a tile of the outputs' gradient.
const TAPS: usize = 3;

/// The weights' gradient of a convolution, ready to run on images: `Σ x[p + t, i]·gy[p, o]` over pixels `p`.
///
/// Outputs are laid out like the frame that they read, with zeros where a row's margins are; then tap `t` is one distance, for
/// all pixels at once.
pub(in crate::kernels) struct UnitWeights<T: Real> {
    isa: Isa,
    /// Channels that are read and written, both multiples of [`TILE`].
    from: usize,
    to: usize,
    sight: Gather,
    /// The numbers of the taps that outputs read through, and how many pixels each lies on.
    taps: Vec<(usize, usize)>,
    /// Weights of all taps.
    len: usize,
    /// Tiles of pixels from the first output to the last.
    depth: usize,
    /// Pixels of a frame, and of each channel in a row: so many that every tap of the last tile lies in them.
    pixels: usize,
    memory: Scratch<T::Narrow>,
    /// Sums that nobody asked for, where the last taps are not [`TAPS`].
    dropped: Scratch<T>,
}

impl<T: Real> UnitWeights<T> {
    /// Of a window with so many taps, of which the gather's only phase reads through some. Nothing where maps of `M` with these
    /// channels are not multiplied here, or outputs read with a stride.
    pub(in crate::kernels) fn of<M: Stored<Real = T>>(
        isa: Isa,
        (from, to): (usize, usize),
        taps: usize,
        gather: Gather,
    ) -> Option<Self> {
        let phase = suits::<M>(isa, (from, to), &gather)?;
        let len = taps * from * to;
        let distances = phase.offsets.iter().map(|offset| offset / from);
        let taps: Vec<_> = phase.taps.iter().copied().zip(distances).collect();
        let width = gather.frame.row() / from;
        let depth = ((phase.size.0 - 1) * width + phase.size.1).div_ceil(DEPTH);
        // The last output reads the frame's last pixel through the farthest tap.
        let reach = depth * DEPTH + taps.iter().map(|&(_, distance)| distance).max()?;
        let pixels = reach.next_multiple_of(DEPTH);
        let (memory, dropped) = (Scratch::new(), Scratch::new());
        Some(Self { isa, from, to, sight: gather, taps, len, depth, pixels, memory, dropped })
    }

    /// What some consecutive images of maps `from` to `to` add, of which `x` are as many pixels.
    pub(in crate::kernels) fn part<X: Stored<Real = T>>(
        &self,
        x: &[X],
        (from, to): (&Map, &Map),
        lens: &Lens<'_, T>,
        gy: &[T],
    ) -> Reused<T> {
        assert!((from.c, to.c) == (self.from, self.to));
        let (seen, arriving) = (self.pixels * self.from, self.depth * DEPTH * self.to);
        let width = self.sight.frame.row() / self.from * self.to;
        let mut part = Reused::zeros(self.len);
        self.memory.lend_with_margins(seen + arriving, 2 * (seen + arriving), |memory| {
            let (frame, memory) = memory.split_at_mut(seen);
            let (spread, memory) = memory.split_at_mut(arriving);
            let (turned, pairs) = memory.split_at_mut(seen);
            self.dropped.lend(TILE * self.to, |dropped| {
                for (x, gy) in x.chunks_exact(from.image()).zip(gy.chunks_exact(to.image())) {
                    self.sight.frame.fill(from, 0..self.sight.frame.rows(), x, frame, lens);
                    for (gy, row) in gy.chunks_exact(to.w * to.c).zip(spread.chunks_mut(width)) {
                        convert(self.isa, gy, &mut row[..gy.len()]);
                    }
                    self.arrange(frame, spread, turned, pairs);
                    self.add(turned, pairs, &mut part, dropped);
                }
            });
        });
        part
    }

    /// Turns the frame's channels into rows, and pairs the pixels of the outputs' gradient.
    fn arrange(
        &self,
        frame: &[T::Narrow],
        spread: &[T::Narrow],
        turned: &mut [T::Narrow],
        pairs: &mut [T::Narrow],
    ) {
        assert!(Isa::Amx.available() && size_of::<T::Narrow>() == 2);
        assert!(self.from.is_multiple_of(TILE) && self.to.is_multiple_of(TILE));
        assert!(self.pixels.is_multiple_of(DEPTH) && frame.len() == self.pixels * self.from);
        assert!(turned.len() == frame.len() && pairs.len() == spread.len());
        assert!(spread.len() == self.depth * DEPTH * self.to);
        for channel in (0..self.from).step_by(TILE) {
            for pixel in (0..self.pixels).step_by(DEPTH) {
                // SAFETY: AVX-512 comes with AMX; elements are words; just checked: 32 pixels with 16 channels from this on lie in the
                // frame, and 16 rows of all pixels in what is turned.
                unsafe {
                    let seen = frame.as_ptr().add(pixel * self.from + channel);
                    let to = turned.as_mut_ptr().add(channel * self.pixels + pixel);
                    tiles::turn(seen.cast(), self.from, to.cast(), self.pixels);
                }
            }
        }
        let channels = (0..self.to).step_by(TILE);
        for (channel, pairs) in channels.zip(pairs.chunks_exact_mut(self.depth * TILE * DEPTH)) {
            for (tile, pairs) in pairs.chunks_exact_mut(TILE * DEPTH).enumerate() {
                // SAFETY: as above; 16 pairs of 16 channels are a tile.
                unsafe {
                    let seen = spread.as_ptr().add(tile * DEPTH * self.to + channel);
                    tiles::pair_up(seen.cast(), self.to, pairs.as_mut_ptr().cast());
                }
            }
        }
    }

    /// Adds the products of an image.
    fn add(&self, turned: &[T::Narrow], pairs: &[T::Narrow], part: &mut [T], dropped: &mut [T]) {
        let of_tap = self.from * self.to;
        assert!(size_of::<T>() == 4 && size_of::<T::Narrow>() == 2);
        assert!(self.from.is_multiple_of(TILE) && self.to.is_multiple_of(TILE));
        assert!(dropped.len() >= TILE * self.to && part.len() == self.len);
        assert!(turned.len() == self.pixels * self.from && pairs.len() == self.depth * DEPTH * self.to);
        assert!(self.taps.iter().all(|&(tap, distance)| {
            (tap + 1) * of_tap <= self.len && distance + self.depth * DEPTH <= self.pixels
        }));
        let (part, dropped) = (part.as_mut_ptr(), dropped.as_mut_ptr());
        tiles::with(|| {
            let columns = (0..self.to).step_by(TILE).zip(pairs.chunks_exact(self.depth * TILE * DEPTH));
            for (to, gradients) in columns {
                let rows = (0..self.from).step_by(TILE).zip(turned.chunks_exact(TILE * self.pixels));
                for ((from, rows), taps) in
                    rows.flat_map(|row| self.taps.chunks(TAPS).map(move |taps| (row, taps)))
                {
                    let (mut inputs, mut sums) = ([rows.as_ptr(); TAPS], [dropped; TAPS]);
                    for (t, &(tap, distance)) in taps.iter().enumerate() {
                        inputs[t] = rows.as_ptr().wrapping_add(distance);
                        sums[t] = part.wrapping_add(tap * of_tap + from * self.to + to);
                    }
                    // SAFETY: the tiles are configured. Just checked: from every distance on, rows hold so many tiles of pixels; so do
                    // pairs; 16 by 16 weights of every tap, in rows of all outputs, lie in `part`, and as many at the start of `dropped`.
                    unsafe {
                        tiles::correlate(
                            inputs.map(|input| input.cast()),
                            self.pixels * size_of::<T::Narrow>(),
                            gradients.as_ptr().cast(),
                            self.depth,
                            sums.map(|sum| sum.cast()),
                            self.to * size_of::<T>(),
                        );
                    }
                }
            }
        });
    }
}
