//! Two convolutions and a batch norm on slices.

use std::ops::Range;

use crate::kernels::{
    Isa,
    batch_norm::{PieceMoments, PieceProducts, Statistics, Through, normalize},
    bias::repeat,
    conv::{Inputs, Outputs, Shape, Weights},
    conv_norm::Wanted,
    depthwise::{self, BAND, ChannelSums},
    threads::{Scratch, add_in_order, collect, fill_and_collect, images_per_piece},
    values::{Map, Real},
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
pub(super) struct Source<'a, T> {
    x: &'a [T],
    norm: Option<[Vec<T>; 3]>,
}

impl<'a, T: Real> Source<'a, T> {
    pub(super) fn new(x: &'a [T], channels: Option<[Vec<T>; 3]>) -> Self {
        Self { x, norm: channels.map(|channels| channels.map(|values| repeat(&values))) }
    }

    /// How much memory [`Source::piece`] needs for pieces of so many elements.
    fn memory(&self, len: usize) -> usize {
        if self.norm.is_some() { len } else { 0 }
    }

    /// Some consecutive images, perhaps by way of `memory`.
    fn piece<'m>(&self, isa: Isa, shape: Shape<'_>, i: usize, images: usize, memory: &'m mut [T]) -> &'m [T]
    where
        'a: 'm,
    {
        let x = shape.input(self.x, i, images);
        let Some([mean, factor, shift]) = &self.norm else { return x };
        let memory = &mut memory[..x.len()];
        normalize(isa, x, mean, factor, shift, memory);
        memory
    }
}

/// The two convolutions, ready to run on pieces.
struct Between<'a, T: Real> {
    shapes: Shapes<'a>,
    images: usize,
    x: &'a [T],
    first: ChannelSums<'a, T>,
    second: Outputs<'a, T>,
    scratch: Scratch<T>,
}

impl<'a, T: Real> Between<'a, T> {
    fn new(
        isa: Isa,
        shapes: Shapes<'a>,
        source: &'a Source<'a, T>,
        (d, w): (&[T], &[T]),
        bias: Option<&'a [T]>,
    ) -> Self {
        let images = shapes.images();
        let first = depthwise::outputs(isa, shapes.depthwise, d, source.norm.as_ref());
        let second = Outputs::new(isa, shapes.dense, w, bias, images);
        Self { shapes, images, x: source.x, first, second, scratch: Scratch::new() }
    }

    /// The output of a piece's images.
    fn write(&self, i: usize, y: &mut [T]) {
        let Shapes { depthwise, dense } = self.shapes;
        let x = depthwise.input(self.x, i, self.images);
        let (inner, outer) = (dense.input.image(), dense.output.image());
        let row = dense.input.w * dense.input.c;
        if !self.second.is_pixelwise() || inner < BAND {
            return self.scratch.lend(y.len() / outer * inner, |a| {
                self.first.write(x, None, a);
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
pub(super) fn forward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, T>,
    d: &[T],
    w: &[T],
    bias: Option<&[T]>,
) -> (Vec<T>, Statistics) {
    let output = shapes.dense.output;
    let between = Between::new(isa, shapes, source, (d, w), bias);
    let len = between.images * output.image();
    let (y, parts) = fill_and_collect(output.len(), len, shapes.work(), |i, y: &mut [T]| {
        between.write(i, y);
        PieceMoments::of(isa, y, output.c)
    });
    (y, PieceMoments::merge(parts, output.c))
}

/// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
pub(super) fn probe<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    gz: &[T],
    source: &Source<'_, T>,
    (d, w): (&[T], &[T]),
    bias: Option<&[T]>,
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

/// The gradients at the input and of both convolutions' weights, as wanted; `(y, gz)` are the norm's input and what
/// arrives behind it.
#[expect(clippy::type_complexity, reason = "one gradient, and a pair of them")]
pub(super) fn backward<T: Real>(
    isa: Isa,
    shapes: Shapes<'_>,
    source: &Source<'_, T>,
    (d, w): (&[T], &[T]),
    (y, gz): (&[T], &[T]),
    through: &Through<T>,
    wanted: Wanted,
) -> (Option<Vec<T>>, Option<(Vec<T>, Vec<T>)>) {
    let passes = Passes::new(isa, shapes, source, (d, w), (y, gz), through);
    let Shapes { depthwise: first, .. } = shapes;
    let sum = |parts: Vec<Option<(Vec<T>, Vec<T>)>>| {
        let (of_first, of_second): (Vec<_>, Vec<_>) = parts.into_iter().flatten().unzip();
        (add_in_order(of_first, d.len()), add_in_order(of_second, w.len()))
    };
    if wanted == Wanted::Weights {
        let parts =
            collect(first.input.n.div_ceil(passes.images), shapes.work(), |i| passes.run(i, wanted, None));
        return (None, Some(sum(parts)));
    }
    let len = passes.images * first.input.image();
    let (gx, parts) = fill_and_collect(first.input.len(), len, shapes.work(), |i, gx: &mut [T]| {
        passes.run(i, wanted, Some(gx))
    });
    (Some(gx), (wanted == Wanted::Both).then(|| sum(parts)))
}

/// A backward, ready to run on pieces.
struct Passes<'a, T: Real> {
    isa: Isa,
    shapes: Shapes<'a>,
    images: usize,
    source: &'a Source<'a, T>,
    y: &'a [T],
    gz: &'a [T],
    through: &'a Through<T>,
    /// What lies between the convolutions, again.
    between: ChannelSums<'a, T>,
    backwards: Inputs<'a, T>,
    of_dense: Weights<'a, T>,
    inputs: depthwise::Inputs<'a, T>,
    /// How many weights the convolutions have.
    sizes: (usize, usize),
    scratch: Scratch<T>,
}

impl<'a, T: Real> Passes<'a, T> {
    fn new(
        isa: Isa,
        shapes: Shapes<'a>,
        source: &'a Source<'a, T>,
        (d, w): (&[T], &[T]),
        (y, gz): (&'a [T], &'a [T]),
        through: &'a Through<T>,
    ) -> Self {
        let Shapes { depthwise: first, dense: second } = shapes;
        let images = shapes.images();
        Self {
            isa,
            shapes,
            images,
            source,
            y,
            gz,
            through,
            between: depthwise::outputs(isa, first, d, None),
            backwards: Inputs::new(isa, second, w, images),
            of_dense: Weights::new(isa, second, images),
            inputs: depthwise::Inputs::new(isa, first, d),
            sizes: (d.len(), w.len()),
            scratch: Scratch::new(),
        }
    }

    /// The gradients of a piece: at its input, where that is asked for, and what it adds to those of both weights.
    fn run(&self, i: usize, wanted: Wanted, gx: Option<&mut [T]>) -> Option<(Vec<T>, Vec<T>)> {
        let Shapes { depthwise: first, dense: second } = self.shapes;
        let (y, gz) = (second.output(self.y, i, self.images), second.output(self.gz, i, self.images));
        let (inner, outer) = (second.input.image(), second.output.image());
        let n = y.len() / outer;
        let seen = self.source.memory(n * first.input.image());
        let banded = self.backwards.is_pixelwise() && self.of_dense.is_pixelwise() && inner >= BAND;
        // Elements of the gradient at the output, of the one between the convolutions, and of what lies there, at once.
        let band = self.between.sight.band();
        let rows = |map: &Map| if banded { band * map.w * map.c } else { n * map.image() };
        let lengths = [rows(second.output), n * inner, rows(second.input)];
        let mut weights =
            (wanted != Wanted::Input).then(|| (vec![T::ZERO; self.sizes.0], vec![T::ZERO; self.sizes.1]));
        self.scratch.lend(lengths.iter().sum::<usize>() + seen, |memory| {
            let (gy, memory) = memory.split_at_mut(lengths[0]);
            let (ga, memory) = memory.split_at_mut(lengths[1]);
            let (a, memory) = memory.split_at_mut(lengths[2]);
            let x = self.source.piece(self.isa, first, i, self.images, memory);
            if banded {
                let images = y.chunks_exact(outer).zip(gz.chunks_exact(outer));
                let images = images.zip(x.chunks_exact(first.input.image())).zip(ga.chunks_exact_mut(inner));
                for (((y, gz), x), ga) in images {
                    self.bands(x, (y, gz), ga, (gy, a), weights.as_mut());
                }
            } else {
                self.through.write(self.isa, y, gz, gy);
                self.backwards.write(gy, &[], ga);
                if let Some((of_depthwise, of_dense)) = &mut weights {
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
            }
            if let Some(gx) = gx {
                self.inputs.write(ga, x, gx);
            }
        });
        weights
    }

    /// Writes one image's gradient between the convolutions, and adds to those of the weights, a few rows at a time.
    fn bands(
        &self,
        x: &[T],
        (y, gz): (&[T], &[T]),
        ga: &mut [T],
        (gy, a): (&mut [T], &mut [T]),
        weights: Option<&mut (Vec<T>, Vec<T>)>,
    ) {
        let Shape { input, output, .. } = self.shapes.dense;
        let arrive = |rows: &Range<usize>, ga: &mut [T], gy: &mut [T]| {
            let (y, gz) = (rows_of(y, rows, output), rows_of(gz, rows, output));
            self.through.write(self.isa, y, gz, gy);
            self.backwards.write(gy, &[], ga);
        };
        let len = |rows: &Range<usize>| rows.len() * output.w * output.c;
        let Some((of_depthwise, of_dense)) = weights else {
            return self.between.sight.rows().for_each(|rows| {
                arrive(&rows, rows_of_mut(ga, &rows, input), &mut gy[..len(&rows)]);
            });
        };
        self.between.sight.bands(x, |frame, rows| {
            let (ga, gy) = (rows_of_mut(ga, &rows, input), &mut gy[..len(&rows)]);
            arrive(&rows, ga, gy);
            let a = &mut a[..ga.len()];
            self.between.sight.add_weights(frame, rows.clone(), ga, of_depthwise);
            self.between.write_rows(frame, rows, a);
            self.of_dense.add(a, gy, of_dense);
        });
    }
}
