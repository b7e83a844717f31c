//! Two convolutions and a batch norm on slices.

use std::ops::Range;

use candle_core::Result;

use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, PieceSums, Statistics, Through, normalize},
    bias::repeat,
    conv::{Inputs, Outputs, Shape, Wanted, Weights},
    depthwise::{self, BAND, ChannelSums},
    element::{Real, Stored},
    map::Map,
    pending::{self, Then},
    threads::{Scratch, add_in_order, collect, images_per_piece, overwrite_and_collect},
};

/// Both convolutions' shapes; the first one's output is the second one's input.
#[derive(Clone, Copy)]
pub(super) struct Shapes<'a> {
    pub(super) depthwise: Shape<'a>,
    pub(super) dense: Shape<'a>,
}

impl Shapes<'_> {
    /// Images of a piece: what lies between belongs into the cache with what lies around it.
    fn images(&self) -> usize {
        let maps = [self.depthwise.input, self.dense.input, self.dense.output];
        let largest = maps.iter().map(|map| map.image()).max().unwrap_or(1);
        images_per_piece(self.dense.input.n, largest)
    }

    fn work(&self) -> usize {
        self.dense.work() + self.depthwise.output.len() * self.depthwise.window.taps()
    }
}

/// The input: a map, or one whose batch norm is applied on the way, channels' means, factors and shifts repeated.
pub(super) struct Source<'a, M: Stored> {
    x: &'a [M],
    norm: Option<[Vec<M::Real>; 3]>,
}

impl<'a, M: Stored> Source<'a, M> {
    pub(super) fn new(x: &'a [M], channels: Option<[Vec<M::Real>; 3]>) -> Self {
        Self { x, norm: channels.map(|channels| channels.map(|values| repeat(&values))) }
    }

    /// How much memory [`Source::normalized`] needs for pieces of so many elements.
    fn memory(&self, len: usize) -> usize {
        if self.norm.is_some() { len } else { 0 }
    }

    /// What the gradient behind the norm, if there is one, says to it at a piece of the map.
    fn sums(&self, isa: Isa, x: &[M], gx: &[M], c: usize) -> Option<PieceSums> {
        self.norm.as_ref().map(|[mean, ..]| PieceSums::of(isa, x, gx, mean, c))
    }

    /// A piece of the map behind its norm, if it has one, written to `memory`.
    fn normalized<'m>(
        &self,
        isa: Isa,
        x: &[M],
        c: usize,
        memory: &'m mut [M::Real],
    ) -> Option<&'m [M::Real]> {
        let channels = self.norm.as_ref()?.each_ref().map(|values| &values[..]);
        let memory = &mut memory[..x.len()];
        normalize(isa, x, c, channels, memory);
        Some(memory)
    }
}

/// The two convolutions, ready to run on pieces.
struct Between<'a, M: Stored> {
    shapes: Shapes<'a>,
    images: usize,
    x: &'a [M],
    first: ChannelSums<'a, M::Real>,
    second: Outputs<'a, M::Real>,
    scratch: Scratch<M::Real>,
}

impl<'a, M: Stored> Between<'a, M> {
    fn new(
        isa: Isa,
        shapes: Shapes<'a>,
        source: &'a Source<'a, M>,
        (d, w): (&[M::Real], &'a [M::Real]),
        bias: Option<&'a [M::Real]>,
    ) -> Self {
        let images = shapes.images();
        let first = depthwise::outputs(isa, shapes.depthwise, d, source.norm.as_ref());
        let second = Outputs::new::<M>(isa, shapes.dense, w, bias, images);
        Self { shapes, images, x: source.x, first, second, scratch: Scratch::new() }
    }

    /// The output of a piece's images.
    fn write<N: Stored<Real = M::Real>>(&self, i: usize, y: &mut [N]) {
        let Shapes { depthwise, dense } = self.shapes;
        let x = depthwise.input(self.x, i, self.images);
        let (inner, outer) = (dense.input.image(), dense.output.image());
        let row = dense.input.w * dense.input.c;
        if !self.second.is_pixelwise() || inner < BAND {
            return self.scratch.lend(y.len() / outer * inner, |a| {
                self.first.write(x, None::<&[M]>, a);
                self.second.write(a, y);
            });
        }
        self.scratch.lend(self.first.sight.band() * row, |a| {
            for (x, y) in x.chunks_exact(depthwise.input.image()).zip(y.chunks_exact_mut(outer)) {
                self.first.sight.bands(x, |frame, rows| {
                    let a = &mut a[..rows.len() * row];
                    self.first.write_rows(frame, rows.clone(), a);
                    self.second.write(a, rows_of_mut(y, &rows, dense.output));
                });
            }
        });
    }
}

/// Some rows of an image.
fn rows_of<'a, T>(image: &'a [T], rows: &Range<usize>, map: &Map) -> &'a [T] {
    &image[rows.start * map.w * map.c..rows.end * map.w * map.c]
}

/// Some rows of an image.
fn rows_of_mut<'a, T>(image: &'a mut [T], rows: &Range<usize>, map: &Map) -> &'a mut [T] {
    &mut image[rows.start * map.w * map.c..rows.end * map.w * map.c]
}

/// The second convolution's output and its moments.
pub(super) fn forward<M: Stored>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, M>,
    d: &[M::Real],
    w: &[M::Real],
    bias: Option<&[M::Real]>,
) -> (Vec<M>, Statistics) {
    let output = shapes.dense.output;
    let between = Between::new(isa, shapes, source, (d, w), bias);
    let len = between.images * output.image();
    let (y, parts) = overwrite_and_collect(output.len(), len, shapes.work(), |i, y: &mut [M]| {
        between.write(i, y);
        PieceMoments::of(isa, y, output.c)
    });
    (y, PieceMoments::merge(parts, output.c))
}

/// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
pub(super) fn probe<M: Stored>(
    isa: Isa,
    shapes: Shapes<'_>,
    gz: &[M],
    source: &Source<'_, M>,
    (d, w): (&[M::Real], &[M::Real]),
    bias: Option<&[M::Real]>,
) -> Vec<PieceProducts> {
    let (between, outputs) = (Between::new(isa, shapes, source, (d, w), bias), Scratch::new());
    collect(shapes.dense.output.n.div_ceil(between.images), shapes.work(), |i| {
        let gz = shapes.dense.output(gz, i, between.images);
        outputs.lend(gz.len(), |y| {
            between.write(i, y);
            PieceProducts::of(isa, y, gz, shapes.dense.output.c)
        })
    })
}

/// The gradients at the input, what it says to the input's norm, and of both convolutions' weights, as wanted; `(y, gz)` are
/// the norm's input and what arrives behind it.
#[expect(clippy::type_complexity, reason = "what a backward finds")]
pub(super) fn backward<M: Stored>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, M>,
    (d, w): (&[M::Real], &[M::Real]),
    (y, gz): (&[M], &[M]),
    through: &Through<M::Real>,
    wanted: Wanted,
) -> (Option<Vec<M>>, Option<Vec<PieceSums>>, Option<WeightSums<M::Real>>) {
    let passes = Passes::new(isa, shapes, shapes.images(), source, (d, w), (y, gz), through);
    let Shapes { depthwise: first, .. } = shapes;
    if wanted == Wanted::Weights {
        let parts =
            collect(first.input.n.div_ceil(passes.images), shapes.work(), |i| passes.run(i, wanted, None));
        return (None, None, Some(passes.sum(parts)));
    }
    let len = passes.images * first.input.image();
    let (gx, parts) = overwrite_and_collect(first.input.len(), len, shapes.work(), |i, gx: &mut [M]| {
        let weights = passes.run(i, wanted, Some(gx));
        (passes.source.sums(isa, first.input(source.x, i, passes.images), gx, first.input.c), weights)
    });
    let (sums, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    (Some(gx), sums.into_iter().collect(), (wanted == Wanted::Both).then(|| passes.sum(parts)))
}

/// As [`backward`], of an input without a norm, whose gradient `then` writes by pieces of so many images.
#[expect(clippy::too_many_arguments, reason = "as of the whole backward")]
pub(super) fn backward_in_pieces<M: Stored>(
    isa: Isa,
    shapes: Shapes<'_>,
    images: usize,
    x: &[M],
    (d, w): (&[M::Real], &[M::Real]),
    (y, gz): (&[M], &[M]),
    through: &Through<M::Real>,
    wanted: Wanted,
    then: Then<'_, M>,
) -> Result<Option<WeightSums<M::Real>>> {
    let source = Source::new(x, None);
    let passes = Passes::new(isa, shapes, images, &source, (d, w), (y, gz), through);
    let (n, work) = (shapes.depthwise.input.n.div_ceil(images), shapes.work());
    let parts = pending::hand_over(n, work, |i, gx: &mut [M]| passes.run(i, wanted, Some(gx)), then)?;
    Ok((wanted == Wanted::Both).then(|| passes.sum(parts)))
}

/// The gradients of both convolutions' weights.
pub(super) type WeightSums<T> = (Vec<T>, Vec<T>);

/// A backward, ready to run on pieces.
struct Passes<'a, M: Stored> {
    isa: Isa,
    shapes: Shapes<'a>,
    images: usize,
    source: &'a Source<'a, M>,
    y: &'a [M],
    gz: &'a [M],
    through: &'a Through<M::Real>,
    /// What lies between the convolutions, again.
    between: ChannelSums<'a, M::Real>,
    backwards: Inputs<'a, M::Real>,
    of_dense: Weights<'a, M::Real>,
    inputs: depthwise::Inputs<'a, M::Real>,
    /// How many weights the convolutions have.
    sizes: (usize, usize),
    scratch: Scratch<M::Real>,
}

impl<'a, M: Stored> Passes<'a, M> {
    fn new(
        isa: Isa,
        shapes: Shapes<'a>,
        images: usize,
        source: &'a Source<'a, M>,
        (d, w): (&[M::Real], &[M::Real]),
        (y, gz): (&'a [M], &'a [M]),
        through: &'a Through<M::Real>,
    ) -> Self {
        let Shapes { depthwise: first, dense: second } = shapes;
        Self {
            isa,
            shapes,
            images,
            source,
            y,
            gz,
            through,
            between: depthwise::outputs(isa, first, d, None),
            backwards: Inputs::new::<M>(isa, second, w, images),
            of_dense: Weights::new::<M>(isa, second, images),
            inputs: depthwise::Inputs::new(isa, first, d),
            sizes: (d.len(), w.len()),
            scratch: Scratch::new(),
        }
    }

    /// The weights' gradients of what all pieces say of them.
    fn sum(&self, parts: Vec<Option<WeightSums<M::Real>>>) -> WeightSums<M::Real> {
        let (of_first, of_second): (Vec<_>, Vec<_>) = parts.into_iter().flatten().unzip();
        (add_in_order(of_first, self.sizes.0), add_in_order(of_second, self.sizes.1))
    }

    /// The gradients of a piece: at its input, where that is asked for, and what it adds to those of both weights.
    fn run(&self, i: usize, wanted: Wanted, gx: Option<&mut [M]>) -> Option<WeightSums<M::Real>> {
        let Shapes { depthwise: first, dense: second } = self.shapes;
        let x = first.input(self.source.x, i, self.images);
        let arriving = (second.output(self.y, i, self.images), second.output(self.gz, i, self.images));
        let n = x.len() / first.input.image();
        // Elements of the gradient at the output, of the one between the convolutions, and of what lies there, at once.
        let band = self.between.sight.band();
        let rows = |map: &Map| if self.is_banded() { band * map.w * map.c } else { n * map.image() };
        let lengths = [rows(second.output), rows(second.input), rows(second.input)];
        let zeros = |len| vec![M::Real::ZERO; len];
        let mut weights = (wanted != Wanted::Input).then(|| (zeros(self.sizes.0), zeros(self.sizes.1)));
        let seen = self.source.memory(x.len());
        self.scratch.lend(lengths.iter().sum::<usize>() + seen, |memory| {
            let (gy, memory) = memory.split_at_mut(lengths[0]);
            let (ga, memory) = memory.split_at_mut(lengths[1]);
            let (a, memory) = memory.split_at_mut(lengths[2]);
            match self.source.normalized(self.isa, x, first.input.c, memory) {
                Some(x) => self.pass(x, arriving, [gy, ga, a], weights.as_mut(), gx),
                None => self.pass(x, arriving, [gy, ga, a], weights.as_mut(), gx),
            }
        });
        weights
    }

    /// Whether what lies between the convolutions exists band by band.
    fn is_banded(&self) -> bool {
        let pixelwise = self.backwards.is_pixelwise() && self.of_dense.is_pixelwise();
        pixelwise && self.shapes.dense.input.image() >= BAND
    }

    /// As [`Passes::run`], of what the first convolution reads and what arrives, by way of memory for the gradients at the
    /// output and between the convolutions, and for what lies there.
    fn pass<X: Stored<Real = M::Real>>(
        &self,
        x: &[X],
        (y, gz): (&[M], &[M]),
        [gy, ga, a]: [&mut [M::Real]; 3],
        mut weights: Option<&mut WeightSums<M::Real>>,
        gx: Option<&mut [M]>,
    ) {
        let Shapes { depthwise: first, dense: second } = self.shapes;
        let (inner, outer) = (second.input.image(), second.output.image());
        if self.is_banded() {
            let images = y.chunks_exact(outer).zip(gz.chunks_exact(outer));
            let mut gxs = gx.map(|gx| gx.chunks_exact_mut(first.input.image()));
            for (arriving, x) in images.zip(x.chunks_exact(first.input.image())) {
                let memory = [&mut *gy, &mut *ga, &mut *a];
                match gxs.as_mut().and_then(Iterator::next) {
                    None => self.bands(x, arriving, memory, weights.as_deref_mut(), |_, _| ()),
                    Some(gx) => self.inputs.write_arriving(
                        |each_band| self.bands(x, arriving, memory, weights.as_deref_mut(), each_band),
                        x,
                        gx,
                    ),
                }
            }
        } else {
            self.through.write(self.isa, y, gz, gy);
            self.backwards.write::<M, M::Real>(gy, &[], ga);
            if let Some((of_depthwise, of_dense)) = weights {
                let between = ga.chunks_exact(inner).zip(a.chunks_exact_mut(inner));
                for (x, (ga, a)) in x.chunks_exact(first.input.image()).zip(between) {
                    self.between.sight.bands(x, |frame, rows| {
                        let ga = rows_of(ga, &rows, second.input);
                        self.between.sight.add_weights(frame, rows.clone(), ga, of_depthwise);
                        self.between.write_rows(frame, rows.clone(), rows_of_mut(a, &rows, second.input));
                    });
                }
                self.of_dense.add(a, gy, of_dense);
            }
            if let Some(gx) = gx {
                self.inputs.write(ga, x, gx);
            }
        }
    }

    /// Hands one image's gradient between the convolutions over, and adds to those of the weights, a few rows at a time.
    fn bands<X: Stored<Real = M::Real>>(
        &self,
        x: &[X],
        (y, gz): (&[M], &[M]),
        [gy, ga, a]: [&mut [M::Real]; 3],
        weights: Option<&mut WeightSums<M::Real>>,
        mut each_band: impl FnMut(Range<usize>, &[M::Real]),
    ) {
        let Shape { input, output, .. } = self.shapes.dense;
        let produce = |rows: &Range<usize>, ga: &mut [M::Real], gy: &mut [M::Real]| {
            let (y, gz) = (rows_of(y, rows, output), rows_of(gz, rows, output));
            self.through.write(self.isa, y, gz, gy);
            self.backwards.write::<M, M::Real>(gy, &[], ga);
        };
        let len = |map: &Map, rows: &Range<usize>| rows.len() * map.w * map.c;
        let Some((of_depthwise, of_dense)) = weights else {
            return self.between.sight.rows().for_each(|rows| {
                let ga = &mut ga[..len(input, &rows)];
                produce(&rows, ga, &mut gy[..len(output, &rows)]);
                each_band(rows, ga);
            });
        };
        self.between.sight.bands(x, |frame, rows| {
            let (ga, gy) = (&mut ga[..len(input, &rows)], &mut gy[..len(output, &rows)]);
            produce(&rows, ga, gy);
            each_band(rows.clone(), ga);
            let a = &mut a[..ga.len()];
            self.between.sight.add_weights(frame, rows.clone(), ga, of_depthwise);
            self.between.write_rows(frame, rows, a);
            self.of_dense.add(a, gy, of_dense);
        });
    }
}
