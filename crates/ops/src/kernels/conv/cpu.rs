//! Dense convolution on slices: an implicit matrix product over gathered offsets.

use std::borrow::Cow;

use candle_core::WithDType as _;

use crate::kernels::{
    Isa, Prelude,
    activation::relu_mask,
    bias::channel_sums,
    element::{Real, Stored},
    gather::{Gather, Lens, padded},
    map::Map,
    panels::{Panels, Run, runs},
    product::{Start, Sum, product},
    simd::lanes,
    stored::{computed, wide},
    threads::{Reused, add_in_order, collect, fill, images_per_piece, overwrite},
    transpose::transpose_to,
    units::{UnitWeights, Units},
};

use super::{
    pointwise::{self, PointWeights, Points},
    shape::Shape,
    small::{self, Small, SmallWeights},
    winograd::{self, Correlation, Direction, Filter},
};

/// What a pass over the gradient adds up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    Weights,
    WeightsAndBias,
}

/// Pixels summed at once in a weight's gradient: as many as the first-level cache holds.
const PIXELS: usize = 128;

pub(super) fn forward<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    x: &[M],
    w: &[M::Real],
    bias: Option<&[M::Real]>,
) -> Vec<M> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let outputs = Outputs::new::<M>(isa, shape, w, bias, images);
    fill(shape.output.len(), images * shape.output.image(), shape.work(), |i, y| {
        outputs.write(shape.input(x, i, images), y);
    })
}

pub(super) fn input_gradient<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    gy: &[M],
    w: &[M::Real],
    x: &[M],
) -> Vec<M> {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let inputs = Inputs::new::<M>(isa, shape, w, images);
    fill(shape.input.len(), images * shape.input.image(), shape.work(), |i, gx| {
        wide(shape.output(gy, i, images), |gy| inputs.write(gy, shape.input(x, i, images), gx));
    })
}

/// The gradients of the weights and, where added, of the bias.
pub(super) fn weight_gradient<M: Stored>(
    isa: Isa,
    shape: Shape<'_>,
    added: Added,
    x: &[M],
    gy: &[M],
) -> (Vec<M::Real>, Vec<M::Real>) {
    let images = images_per_piece(shape.input.n, shape.input.image());
    let weights = Weights::new::<M>(isa, shape, images);
    let part = |x: &[M], gy: &[M::Real]| {
        let bias = match added {
            Added::Weights => Vec::new(),
            Added::WeightsAndBias => channel_sums(isa, gy, shape.output.c),
        };
        (weights.part(x, gy), bias)
    };
    let parts = collect(shape.input.n.div_ceil(images), shape.work(), |i| {
        wide(shape.output(gy, i, images), |gy| part(shape.input(x, i, images), gy))
    });
    let (parts, bias): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let bias = match added {
        Added::Weights => vec![M::Real::ZERO; shape.output.c],
        Added::WeightsAndBias => {
            add_in_order(bias, shape.output.c).into_iter().map(M::Real::from_f64).collect()
        }
    };
    (add_in_order(parts, weights.len()), bias)
}

/// A forward, ready to run on pieces.
pub(in crate::kernels) struct Outputs<'a, T: Real> {
    isa: Isa,
    shape: Shape<'a>,
    way: Way<'a, T>,
    bias: Option<Cow<'a, [T]>>,
}

/// How a convolution is computed.
enum Way<'w, T: Real> {
    /// Tap by tap.
    Taps(Sums<'w, T>),
    /// Tile by tile, at Winograd's points.
    Tiles(Filter<T>),
    /// Pixel by pixel.
    Points(Points<'w, T>),
    /// To a small map, pixel by pixel of all images.
    Small(Small<'w, T>),
    /// By matrix units.
    Units(Units<T>),
}

/// Which way a convolution is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    FromOutputs,
    FromInputs,
}

/// Matrix units for maps of `M`, where they take this convolution.
fn units<M: Stored>(isa: Isa, shape: Shape<'_>, w: &[M::Real], seen: Seen) -> Option<Units<M::Real>> {
    let Shape { input, output, window, .. } = shape;
    let (from, to) = match seen {
        Seen::FromOutputs => (input.c, output.c),
        Seen::FromInputs => (output.c, input.c),
    };
    if !units_pay(isa, shape) {
        return None;
    }
    let gather = match seen {
        Seen::FromOutputs => Gather::forward(window, input, output.c),
        Seen::FromInputs => Gather::backward(window, input, output.c),
    };
    let place = |tap: usize, channel: usize| match seen {
        Seen::FromOutputs => ((tap * input.c + channel) * output.c, 1),
        Seen::FromInputs => (tap * input.c * output.c + channel, output.c),
    };
    Units::of_taps::<M>(isa, (from, to), gather, w, place)
}

/// The same of the weights' gradient.
fn unit_weights<M: Stored>(isa: Isa, shape: Shape<'_>) -> Option<UnitWeights<M::Real>> {
    let Shape { input, output, window, .. } = shape;
    if !units_pay(isa, shape) {
        return None;
    }
    let gather = Gather::forward(window, input, output.c);
    UnitWeights::of::<M>(isa, (input.c, output.c), window.taps(), gather)
}

/// Whether matrix units pay, if they fit. Of the smallest maps, most of a tile would be margins; single taps have so few products that
/// rounding factors and storing sums takes what units save.
fn units_pay(isa: Isa, Shape { input, window, .. }: Shape<'_>) -> bool {
    isa == Isa::Amx && window.stride == (1, 1) && window.taps() > 1 && input.h.min(input.w) > 2
}

impl<'a, T: Real> Outputs<'a, T> {
    pub(in crate::kernels) fn new<M: Stored<Real = T>>(
        isa: Isa,
        shape: Shape<'a>,
        w: &'a [T],
        bias: Option<&'a [T]>,
        images: usize,
    ) -> Self {
        let Shape { input, output, window, .. } = shape;
        let bias = bias.map(|bias| padded(bias, output.c, lanes::<T>(isa)));
        if let Some(units) = units::<M>(isa, shape, w, Seen::FromOutputs) {
            return Self { isa, shape, way: Way::Units(units), bias };
        }
        if winograd::fits::<T>(shape) {
            let filter = Filter::new(isa, shape, w, Direction::Forward);
            return Self { isa, shape, way: Way::Tiles(filter), bias };
        }
        if small::fits::<T>(isa, shape, output.c, images) {
            return Self { isa, shape, way: Way::Small(Small::forward(isa, shape, w)), bias };
        }
        if pointwise::fits::<T>(isa, window, output.c) {
            return Self { isa, shape, way: Way::Points(Points::forward(isa, shape, w)), bias };
        }
        let gather = Gather::forward(window, input, output.c).over(images, output.image());
        let panels =
            gather.phases.iter().map(|phase| straight(shape, w, &phase.taps, lanes::<T>(isa))).collect();
        Self { isa, shape, way: Way::Taps(Sums::new(isa, gather, input.c, panels)), bias }
    }

    /// Whether each pixel is computed from the same pixel alone, so that [`Outputs::write`] also takes some rows of an image.
    pub(in crate::kernels) fn is_pixelwise(&self) -> bool {
        matches!(self.way, Way::Points(_))
    }

    /// Computes the outputs of some consecutive images.
    pub(in crate::kernels) fn write<M: Stored<Real = T>, N: Stored<Real = T>>(&self, x: &[M], y: &mut [N]) {
        let Shape { input, output, prelude, .. } = self.shape;
        let bias = self.bias.as_deref();
        match &self.way {
            Way::Taps(sums) => wide(x, |x| {
                computed(y, |y| {
                    sums.write(x, input, prelude, y, output, bias.map_or(Start::Zero, Start::Columns));
                });
            }),
            Way::Tiles(filter) => wide(x, |x| computed(y, |y| filter.write(x, prelude, y, bias, None))),
            Way::Points(points) => wide(x, |x| points.write(x, prelude, y, bias)),
            Way::Small(small) => wide(x, |x| computed(y, |y| small.write(x, prelude, y, bias))),
            Way::Units(units) => {
                let lens = Lens { isa: self.isa, norm: None, prelude };
                units.write(x, (input, output), &lens, y, bias, None::<&[T]>);
            }
        }
    }
}

/// An input's gradient, ready to run on pieces.
pub(in crate::kernels) struct Inputs<'a, T: Real> {
    isa: Isa,
    shape: Shape<'a>,
    way: Way<'a, T>,
}

impl<'a, T: Real> Inputs<'a, T> {
    pub(in crate::kernels) fn new<M: Stored<Real = T>>(
        isa: Isa,
        shape: Shape<'a>,
        w: &[T],
        images: usize,
    ) -> Self {
        let Shape { input, output, window, .. } = shape;
        if let Some(units) = units::<M>(isa, shape, w, Seen::FromInputs) {
            return Self { isa, shape, way: Way::Units(units) };
        }
        if winograd::fits::<T>(shape) {
            return Self { isa, shape, way: Way::Tiles(Filter::new(isa, shape, w, Direction::Backward)) };
        }
        if small::fits::<T>(isa, shape, input.c, images) {
            return Self { isa, shape, way: Way::Small(Small::backward(isa, shape, w)) };
        }
        if pointwise::fits::<T>(isa, window, input.c) {
            return Self { isa, shape, way: Way::Points(Points::backward(isa, shape, w)) };
        }
        let gather = Gather::backward(window, input, output.c).over(images, input.image());
        let panels = gather
            .phases
            .iter()
            .map(|phase| Cow::Owned(turned(shape, w, &phase.taps, lanes::<T>(isa))))
            .collect();
        Self { isa, shape, way: Way::Taps(Sums::new(isa, gather, output.c, panels)) }
    }

    /// As [`Outputs::is_pixelwise`].
    pub(in crate::kernels) fn is_pixelwise(&self) -> bool {
        matches!(self.way, Way::Points(_))
    }

    /// Computes the gradient at some consecutive images, of which `x` are the values.
    pub(in crate::kernels) fn write<M: Stored<Real = T>, N: Stored<Real = T>>(
        &self,
        gy: &[T],
        x: &[M],
        gx: &mut [N],
    ) {
        let Shape { input, output, prelude, .. } = self.shape;
        match &self.way {
            Way::Taps(sums) => {
                computed(gx, |gx| sums.write(gy, output, Prelude::Identity, gx, input, Start::Zero));
            }
            Way::Tiles(filter) => {
                let mut write = |x: Option<&[T]>| {
                    computed(gx, |gx| filter.write(gy, Prelude::Identity, gx, None, x));
                };
                return match prelude {
                    Prelude::Identity => write(None),
                    Prelude::Relu => wide(x, |x| write(Some(x))),
                };
            }
            Way::Points(points) => points.write(gy, Prelude::Identity, gx, None),
            Way::Small(small) => computed(gx, |gx| small.write(gy, Prelude::Identity, gx, None)),
            Way::Units(units) => {
                let lens = Lens { isa: self.isa, norm: None, prelude: Prelude::Identity };
                let mask = (prelude == Prelude::Relu).then_some(x);
                return units.write(gy, (output, input), &lens, gx, None, mask);
            }
        }
        if prelude == Prelude::Relu {
            relu_mask(self.isa, x, gx);
        }
    }
}

/// The weights' gradient, ready to run on pieces.
pub(in crate::kernels) struct Weights<'a, T: Real> {
    isa: Isa,
    shape: Shape<'a>,
    way: WeightsWay<T>,
}

/// How a weights' gradient is computed.
enum WeightsWay<T: Real> {
    /// Tap by tap.
    Taps {
        gather: Gather,
        /// Where the products of each tap's channels are read and added up.
        rows: Vec<usize>,
        outs: Vec<usize>,
    },
    /// Tile by tile, at Winograd's points.
    Tiles(Correlation<T>),
    /// Pixel by pixel.
    Points(PointWeights<T>),
    /// Of a small map, pixel by pixel of all images.
    Small(SmallWeights<T>),
    /// By matrix units.
    Units(UnitWeights<T>),
}

impl<'a, T: Real> Weights<'a, T> {
    pub(in crate::kernels) fn new<M: Stored<Real = T>>(isa: Isa, shape: Shape<'a>, images: usize) -> Self {
        let Shape { input, output, window, .. } = shape;
        if let Some(units) = unit_weights::<M>(isa, shape) {
            return Self { isa, shape, way: WeightsWay::Units(units) };
        }
        if winograd::fits::<T>(shape) {
            return Self { isa, shape, way: WeightsWay::Tiles(Correlation::new(isa, shape)) };
        }
        if small::fits::<T>(isa, shape, output.c, images) {
            return Self { isa, shape, way: WeightsWay::Small(SmallWeights::new(isa, shape)) };
        }
        if pointwise::fits::<T>(isa, window, output.c) {
            return Self { isa, shape, way: WeightsWay::Points(PointWeights::new(isa)) };
        }
        let gather = Gather::forward(window, input, output.c).over(images, output.image());
        let [phase] = &gather.phases[..] else { unreachable!("a forward has one phase") };
        let rows = phase.channels(input.c).collect();
        let place = |&tap: &usize| (0..input.c).map(move |ci| (tap * input.c + ci) * output.c);
        let outs = phase.taps.iter().flat_map(place).collect();
        Self { isa, shape, way: WeightsWay::Taps { gather, rows, outs } }
    }

    /// How many weights there are.
    pub(in crate::kernels) fn len(&self) -> usize {
        self.shape.window.taps() * self.shape.input.c * self.shape.output.c
    }

    /// As [`Outputs::is_pixelwise`], for [`Weights::add`].
    pub(in crate::kernels) fn is_pixelwise(&self) -> bool {
        matches!(self.way, WeightsWay::Points(_))
    }

    /// Adds what some consecutive images say.
    pub(in crate::kernels) fn add(&self, x: &[T], gy: &[T], sum: &mut [T]) {
        let Shape { input, output, prelude, .. } = self.shape;
        match &self.way {
            WeightsWay::Points(points) => points.add((input.c, output.c), prelude, x, gy, sum),
            _ => sum.iter_mut().zip(&*self.part(x, gy)).for_each(|(sum, &x)| *sum += x),
        }
    }

    /// Whether [`Weights::part`] reads elements as they are stored, and not their numbers.
    pub(in crate::kernels) fn reads_stored(&self) -> bool {
        matches!(self.way, WeightsWay::Units(_))
    }

    /// What some consecutive images add.
    pub(in crate::kernels) fn part<M: Stored<Real = T>>(&self, x: &[M], gy: &[T]) -> Reused<T> {
        let Shape { input, output, prelude, .. } = self.shape;
        match &self.way {
            WeightsWay::Taps { gather, rows, outs } => {
                wide(x, |x| self.tap_by_tap(gather, (rows, outs), x, gy))
            }
            WeightsWay::Tiles(correlation) => wide(x, |x| correlation.part(self.shape, x, gy)),
            WeightsWay::Points(points) => wide(x, |x| points.part((input.c, output.c), prelude, x, gy)),
            WeightsWay::Small(small) => wide(x, |x| small.part(x, gy)),
            WeightsWay::Units(units) => {
                let lens = Lens { isa: self.isa, norm: None, prelude };
                units.part(x, (input, output), &lens, gy)
            }
        }
    }

    fn tap_by_tap(
        &self,
        gather: &Gather,
        (rows, outs): (&[usize], &[usize]),
        x: &[T],
        gy: &[T],
    ) -> Reused<T> {
        let Shape { input, output, prelude, .. } = self.shape;
        let [phase] = &gather.phases[..] else { unreachable!("a forward has one phase") };
        let lanes = lanes::<T>(self.isa);
        let frames = gather.frames(input, x, &Lens { isa: self.isa, norm: None, prelude });
        let gy = padded(gy, output.c, lanes);
        let width = output.c.next_multiple_of(lanes);
        let mut part = Reused::zeros(self.len());
        for (cols, gy) in phase.pixels.chunks(PIXELS).zip(gy.chunks(PIXELS * width)) {
            let cols = runs(cols[..gy.len() / width].iter().copied());
            let sum = Sum { values: &frames, rows, cols: &cols, outs };
            let gy = Panels { values: gy, row: width, vector: lanes };
            product(self.isa, sum, gy, &mut part, output.c, Start::Old);
        }
        part
    }
}

/// The weights of some taps, `(c_in, c_out)` each, in rows of whole vectors.
fn straight<'w, T: Real>(shape: Shape<'_>, w: &'w [T], taps: &[usize], lanes: usize) -> Cow<'w, [T]> {
    let consecutive = taps.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if let (Some(&first), true) = (taps.first(), consecutive) {
        let size = shape.input.c * shape.output.c;
        return padded(&w[first * size..][..taps.len() * size], shape.output.c, lanes);
    }
    let rows = taps.iter().map(|&tap| shape.tap(w, tap)).collect::<Vec<_>>().concat();
    Cow::Owned(padded(&rows, shape.output.c, lanes).into_owned())
}

/// As [`straight`], turned: `(c_out, c_in)` each.
fn turned<T: Real>(shape: Shape<'_>, w: &[T], taps: &[usize], lanes: usize) -> Vec<T> {
    let (outputs, width) = (shape.output.c, shape.input.c.next_multiple_of(lanes));
    let len = taps.len() * outputs * width;
    overwrite(len, outputs * width, len, |i, panel| {
        if width > shape.input.c {
            panel.fill(T::ZERO);
        }
        transpose_to(shape.tap(w, taps[i]), outputs, panel, width);
    })
}

/// A gather, with what each of its phases sums over and the weights of that.
struct Sums<'w, T: Real> {
    isa: Isa,
    gather: Gather,
    cols: Vec<Vec<Run>>,
    /// Rows of weights, each of whole vectors.
    panels: Vec<Cow<'w, [T]>>,
}

impl<'w, T: Real> Sums<'w, T> {
    fn new(isa: Isa, gather: Gather, channels: usize, panels: Vec<Cow<'w, [T]>>) -> Self {
        let cols = gather.phases.iter().map(|phase| phase.runs(channels)).collect();
        Self { isa, gather, cols, panels }
    }

    /// Computes some consecutive images.
    fn write(
        &self,
        source: &[T],
        from: &Map,
        prelude: Prelude,
        target: &mut [T],
        to: &Map,
        start: Start<'_, T>,
    ) {
        let frames = self.gather.frames(from, source, &Lens { isa: self.isa, norm: None, prelude });
        let lanes = lanes::<T>(self.isa);
        for ((phase, cols), panels) in self.gather.phases.iter().zip(&self.cols).zip(&self.panels) {
            let sum = self.gather.sum(phase, &frames, cols, target.len() / to.image());
            let b = Panels { values: panels, row: to.c.next_multiple_of(lanes), vector: lanes };
            product(self.isa, sum, b, target, to.c, start);
        }
    }
}
