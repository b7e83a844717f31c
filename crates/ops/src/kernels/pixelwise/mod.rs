//! 1×1 convolutions beside each other, perhaps with a stride, and the batch norm over all their outputs: each reads every so
//! many pixels of rows and columns, another one other pixels. Only these are read, and only there a gradient is written.
//!
//! Maps side by side are never joined: what a block of pixels reads of all of them is gathered in the cache, where one product
//! over all channels is faster than one a map. `conv_norm` computes its 1×1 convolutions here.
//!
//! Convolutions that read the same pixels, each with a norm of its own, are one convolution whose output is cut into as many
//! maps ([`readers`]): what they read is gathered once, and their gradients are written once.

mod cpu;
pub mod readers;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Moments, Waiting},
    conv::Wanted,
    element::{Real, Stored},
    gpu::on_gpu,
    later::Later,
    map::Map,
    simd::lanes,
    values::{self, Values, expect_dims, for_real, for_stored, tensor},
};
use cpu::Path;
pub(in crate::kernels) use cpu::{Pixelwise, Returning};

/// One of the convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    /// Its weights, `(1, 1, c_in, c_out)`.
    pub w: &'a Tensor,
    /// Its window: one tap; all windows have one stride.
    pub window: &'a Window,
}

/// What a backward computes: the gradients that were asked for.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// At the maps that make the input, each of its shape.
    pub xs: Option<Vec<Tensor>>,
    /// Of each convolution's weights, `(1, 1, c_in, c_out)`.
    pub ws: Option<Vec<Tensor>>,
    /// Of scale and shift, where there are any, `(C,)`.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂z, z⟩`, which the norm's sums give for nothing.
    pub product: Option<Later>,
}

/// The maps at the input and at the output, and what lies between. Where there is no stride, each pixel is an image: no loop
/// needs to know where rows and images end.
pub(in crate::kernels) struct Layout {
    /// One of the maps that make the input.
    input: Map,
    maps: usize,
    output: Map,
    /// Channels of the maps that the output is cut into; several only of one convolution.
    outs: Vec<usize>,
    stride: (usize, usize),
    paths: Vec<Path>,
    /// The output's dimensions.
    dims: Vec<usize>,
}

impl Layout {
    /// Nothing where the convolutions are not of this kind, or channels do not fill whole vectors of `lanes`.
    pub(in crate::kernels) fn of(
        xs: &[Tensor],
        convolutions: &[Convolution<'_>],
        lanes: usize,
    ) -> Result<Option<Self>> {
        let first = first_of(xs)?;
        xs.iter().try_for_each(|x| expect_dims("maps side by side", x, first.dims()))?;
        let input = Map::of(first.dims())?;
        let Some(Convolution { window, .. }) = convolutions.first() else { return Ok(None) };
        window.check()?;
        // Strides far beyond the map go elsewhere: times channels they might overflow.
        if window.stride.0 > input.h.max(2) || window.stride.1 > input.w.max(2) {
            return Ok(None);
        }
        let (stride, mut channels, mut paths) = (window.stride, 0, Vec::with_capacity(convolutions.len()));
        for Convolution { w, window } in convolutions {
            let Ok((1, 1, c_in, c_out)) = w.dims4() else { return Ok(None) };
            if c_in != xs.len() * input.c {
                bail!("found weights for {c_in} channels, expected {}", xs.len() * input.c);
            }
            let shift = |pad: isize| pad.checked_neg().and_then(|shift| usize::try_from(shift).ok());
            let (Some(down), Some(right)) = (shift(window.pad.0), shift(window.pad.1)) else {
                return Ok(None);
            };
            let path = Path { shift: (down, right), first: channels, channels: c_out };
            let alike = window.kernel == (1, 1) && window.stride == stride;
            let apart =
                down < stride.0 && right < stride.1 && paths.iter().all(|p: &Path| p.shift != path.shift);
            let fills = c_out > 0 && c_out.is_multiple_of(lanes);
            if !alike || !apart || !fills {
                return Ok(None);
            }
            channels += c_out;
            paths.push(path);
        }
        let output = input.through(window, channels);
        let (fits, dims) = (input.c.is_multiple_of(lanes) && output.image() > 0, output.dims());
        let [input, output] = match stride {
            (1, 1) => [input, output].map(|map| Map { n: map.n * map.h * map.w, h: 1, w: 1, ..map }),
            _ => [input, output],
        };
        Ok(fits.then(|| Self { input, maps: xs.len(), output, outs: vec![channels], stride, paths, dims }))
    }

    /// The output of one convolution, cut into maps of so many channels, each whole vectors.
    fn cut(self, outs: Vec<usize>, lanes: usize) -> Option<Self> {
        let whole = outs.iter().all(|c| *c > 0 && c.is_multiple_of(lanes));
        let all = self.paths.len() == 1 && outs.iter().sum::<usize>() == self.output.c;
        (whole && all).then_some(Self { outs, ..self })
    }

    /// The maps that the output is cut into, each with its first channel.
    fn outputs(&self) -> impl Iterator<Item = (usize, Map)> {
        let next = |next: &mut usize, c: &usize| Some((std::mem::replace(next, *next + c), *c));
        self.outs.iter().scan(0, next).map(|(first, c)| (first, Map { c, ..self.output }))
    }

    /// The dimensions of one of them.
    fn dims_of(&self, output: Map) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims.pop();
        dims.push(output.c);
        dims
    }

    /// Channels at the input, all maps'.
    fn channels(&self) -> usize {
        self.maps * self.input.c
    }

    /// [`Layout::of`] what [`fits`].
    fn fitting<T: Real>(xs: &[Tensor], convolutions: &[Convolution<'_>], isa: Isa) -> Result<Self> {
        match Self::of(xs, convolutions, lanes::<T>(isa))? {
            Some(layout) => Ok(layout),
            None => {
                bail!("found convolutions of other windows than one tap, or channels that fill no vectors")
            }
        }
    }
}

/// What there is one of.
pub(in crate::kernels) fn only<T>(all: Vec<T>) -> T {
    <[T; 1]>::try_from(all).map_or_else(|all| unreachable!("{} outputs of one", all.len()), |[only]| only)
}

fn first_of(xs: &[Tensor]) -> Result<&Tensor> {
    match xs {
        [first, ..] => Ok(first),
        [] => bail!("found nothing to convolve, expected one map or more"),
    }
}

/// Whether the other functions take these maps of one shape, `(N, H, W, c)` or `(N, L, c)`, whose channels lie side by side,
/// and these convolutions: on the CPU, where channels fill its vectors and no two convolutions read the same pixels.
///
/// # Errors
/// There is no map, or shapes or types do not fit.
pub fn fits(xs: &[Tensor], convolutions: &[Convolution<'_>]) -> Result<bool> {
    let Some(Convolution { w, .. }) = convolutions.first() else { return Ok(false) };
    on_gpu!(w, _gpu => Ok(false));
    for_real!(w, T => Ok(Layout::of(xs, convolutions, lanes::<T>(Isa::detect()))?.is_some()))
}

/// The convolutions' outputs, channels side by side, `(N, ⌈H/s⌉, ⌈W/s⌉, C)`, for whoever normalizes while reading: by the
/// batch's own moments, scale and shift `(C,)`, and `eps` added to the variance.
///
/// # Errors
/// It is not what [`fits`], or types do not.
pub fn forward_waiting(
    xs: &[Tensor],
    convolutions: &[Convolution<'_>],
    prelude: Prelude,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Waiting> {
    let (isa, dense) = (Isa::detect(), Dense::of(xs, convolutions)?);
    for_stored!(first_of(xs)?, M, T => {
        let layout = Layout::fitting::<T>(xs, convolutions, isa)?;
        let (xs, ws) = dense.values::<M>()?;
        let (y, statistics) = only(Pixelwise::new(isa, &layout, prelude, &xs, &ws).forward(None));
        Waiting::of::<M>(y, &layout.dims, statistics, scale_shift, eps)
    })
}

/// `⟨∂L/∂z, z⟩` of a `z` that nobody keeps, from `x` `(N, …, c_in)` and `gz` of the shape of `z`: as [`forward_waiting`], a norm
/// and a dot product, but the output never reaches memory.
///
/// # Errors
/// As of [`forward_waiting`].
pub fn probe(
    gz: &Tensor,
    x: &Tensor,
    convolutions: &[Convolution<'_>],
    prelude: Prelude,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Later> {
    let (isa, xs) = (Isa::detect(), std::slice::from_ref(x));
    let dense = Dense::of(xs, convolutions)?;
    let gz = values::dense(gz)?;
    for_stored!(first_of(xs)?, M, T => {
        let layout = Layout::fitting::<T>(xs, convolutions, isa)?;
        expect_dims("gradient of a batch norm", &gz, &layout.dims)?;
        let (xs, ws) = dense.values::<M>()?;
        let pieces = Pixelwise::new(isa, &layout, prelude, &xs, &ws).probe(&Values::of(&gz)?, None);
        Ok(Later::Known(batch_norm::product_of::<T>(pieces, scale_shift, layout.output.c, eps)?))
    })
}

/// The gradients of [`forward_waiting`] from `∂L/∂z`, as its output; `y` and `moments` are what it returned.
///
/// # Errors
/// As of [`forward_waiting`].
pub fn backward(
    gz: &Tensor,
    xs: &[Tensor],
    convolutions: &[Convolution<'_>],
    prelude: Prelude,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
    wanted: Wanted,
) -> Result<Gradients> {
    let (isa, dense) = (Isa::detect(), Dense::of(xs, convolutions)?);
    let (y, gz) = (values::dense(y)?, values::dense(gz)?);
    for_stored!(first_of(xs)?, M, T => {
        let layout = Layout::fitting::<T>(xs, convolutions, isa)?;
        expect_dims("output of convolutions", &y, &layout.dims)?;
        expect_dims("gradient of a batch norm", &gz, &layout.dims)?;
        let (y, gz) = (Values::<M>::of(&y)?, Values::<M>::of(&gz)?);
        let Arrived { through, scale_shift, product } = batch_norm::arrive(&y, &gz, scale_shift, moments, None)?;
        let (of_xs, ws) = dense.values::<M>()?;
        let returning = [Returning { y: &y, gz: &gz, through: &through }];
        let (gxs, gws) = Pixelwise::new(isa, &layout, prelude, &of_xs, &ws).backward(&returning, wanted);
        let x = |gx: Vec<M>| tensor(gx, xs[0].dims());
        let w = |(gw, of): (Vec<T>, &Convolution<'_>)| tensor(gw, of.w.dims());
        Ok(Gradients {
            xs: gxs.map(|gxs| gxs.into_iter().map(x).collect::<Result<Vec<_>>>()).transpose()?,
            ws: gws.map(|gws| gws.into_iter().zip(convolutions).map(w).collect::<Result<Vec<_>>>()).transpose()?,
            scale_shift,
            product: Some(Later::Known(product)),
        })
    })
}

/// Maps and weights in row-major order.
struct Dense {
    xs: Vec<Tensor>,
    ws: Vec<Tensor>,
}

impl Dense {
    fn of(xs: &[Tensor], convolutions: &[Convolution<'_>]) -> Result<Self> {
        if convolutions.is_empty() {
            bail!("found no convolution, expected one or more");
        }
        let ws =
            convolutions.iter().map(|convolution| values::dense(convolution.w)).collect::<Result<_>>()?;
        Ok(Self { xs: xs.iter().map(values::dense).collect::<Result<_>>()?, ws })
    }

    #[expect(clippy::type_complexity, reason = "maps and weights")]
    fn values<M: Stored>(&self) -> Result<(Vec<Values<'_, M>>, Vec<Values<'_, M::Real>>)> {
        Ok((values_of(&self.xs)?, values_of(&self.ws)?))
    }
}

fn values_of<M: Stored>(maps: &[Tensor]) -> Result<Vec<Values<'_, M>>> {
    maps.iter().map(Values::of).collect()
}
