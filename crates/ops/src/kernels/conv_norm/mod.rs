//! A convolution and the batch norm over its output, in as few passes over memory as their mathematics allows.
//!
//! Maps live in memory, not in caches: what counts is how often they are read and written. Forward, the moments are
//! summed of each piece while the convolution's output is still in the cache. Backward, the gradient at the
//! convolution's output exists only piece by piece: both of the convolution's gradients are taken while it is there.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Moments, Normalized, Through, Waiting},
    conv::{self, Wanted},
    element::{Real, Stored},
    gpu::on_gpu,
    later::Later,
    map::Map,
    pending::{self, Pending, Then},
    pixelwise::{Convolution, Layout, Pixelwise, Returning, only},
    simd::lanes,
    values::{Values, dense, expect_dims, for_real, for_stored, tensor},
};

/// What a backward computes: the gradients that were asked for.
#[derive(Clone, Debug)]
pub struct Gradients<X = Tensor> {
    /// At the convolution's input, or at the maps that make it.
    pub x: Option<X>,
    /// Of the convolution's weights. (A bias has none: the mean takes it out again.)
    pub w: Option<Tensor>,
    /// Of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂z, z⟩`, which the norm's sums give for nothing.
    pub product: Option<Later>,
}

/// `z = normalize(w ∗ prelude(x) + bias) · scale + shift` with the batch's own moments; as [`conv::forward`] followed by
/// [`batch_norm::forward_train`].
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_train(
    x: &Tensor,
    weights: (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Normalized> {
    forward_beside(std::slice::from_ref(x), weights, scale_shift, eps, window, prelude)?.now()
}

/// Whether [`forward_beside`] reads several maps `xs` where they are: a 1×1 convolution on the CPU does, if channels fill its
/// vectors. Else it takes one, joined.
///
/// # Errors
/// There is none, or shapes or types do not fit.
pub fn reads_beside(xs: &[Tensor], w: &Tensor, window: &Window) -> Result<bool> {
    on_gpu!(w, _gpu => Ok(xs.len() == 1));
    conv::channels(w, window, beside(xs)?.c)?;
    Ok(xs.len() == 1 || for_real!(w, T => pixelwise::<T>(xs, w, window)?.is_some()))
}

/// [`forward_train`] for whoever normalizes while reading, of maps of one shape whose channels lie side by side: each
/// `(N, H, W, c)`, of which all together make `c_in`.
///
/// # Errors
/// There is none, or more than one and they are not [read so](reads_beside), or shapes or types do not fit.
pub fn forward_beside(
    xs: &[Tensor],
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Waiting> {
    let input = beside(xs)?;
    let output = input.through(window, conv::channels(w, window, input.c)?);
    bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[output.c]))?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(w, gpu => cuda::forward_waiting(&gpu, shape, alone(xs)?, (w, bias), scale_shift, eps));
    let (w, bias, isa) = (dense(w)?, bias.map(dense).transpose()?, Isa::detect());
    let xs = xs.iter().map(dense).collect::<Result<Vec<_>>>()?;
    for_stored!(xs[0], M, T => {
        let ws = [Values::<T>::of(&w)?];
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let (y, statistics) = match pixelwise::<T>(&xs, &w, window)? {
            Some(layout) => {
                let xs = xs.iter().map(Values::of).collect::<Result<Vec<Values<'_, M>>>>()?;
                only(Pixelwise::new(isa, &layout, prelude, &xs, &ws).forward(bias.as_deref()))
            }
            None => cpu::forward::<M>(isa, shape, &Values::of(alone(&xs)?)?, &ws[0], bias.as_deref()),
        };
        Waiting::of::<M>(y, &output.dims(), statistics, scale_shift, eps)
    })
}

/// How a convolution of single pixels runs, whose channels fill whole vectors.
fn pixelwise<T: Real>(xs: &[Tensor], w: &Tensor, window: &Window) -> Result<Option<Layout>> {
    Layout::of(xs, &[Convolution { w, window }], lanes::<T>(Isa::detect()))
}

/// The map of a convolution that does not read several.
fn alone(xs: &[Tensor]) -> Result<&Tensor> {
    match xs {
        [x] => Ok(x),
        _ => bail!(
            "found {} maps side by side, expected one: this convolution does not read them apart",
            xs.len()
        ),
    }
}

/// The map that maps of one shape make side by side.
fn beside(xs: &[Tensor]) -> Result<Map> {
    let Some(first) = xs.first() else { bail!("found nothing to convolve, expected one map or more") };
    xs.iter().try_for_each(|x| expect_dims("maps side by side", x, first.dims()))?;
    let map = Map::of(first.dims())?;
    Ok(Map { c: map.c * xs.len(), ..map })
}

/// `⟨∂L/∂z, z⟩` of a `z` that nobody keeps: as [`forward_train`] and a dot product, but its output never reaches memory.
///
/// # Errors
/// Shapes or types do not fit.
pub fn probe(
    gz: &Tensor,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
    window: &Window,
    prelude: Prelude,
) -> Result<Later> {
    let input = Map::of(x.dims())?;
    let output = input.through(window, conv::channels(w, window, input.c)?);
    bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[output.c]))?;
    expect_dims("gradient of a batch norm", gz, &output.dims())?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(x, gpu => {
        let Waiting { y, by, .. } = cuda::forward_waiting(&gpu, shape, x, (w, bias), scale_shift, eps)?;
        batch_norm::dot(gz, &y, &by)
    });
    let (gz, x, w, bias) = (dense(gz)?, dense(x)?, dense(w)?, bias.map(dense).transpose()?);
    for_stored!(x, M, T => {
        let layout = pixelwise::<T>(std::slice::from_ref(&x), &w, window)?;
        let (gz, xs, ws) = (Values::of(&gz)?, [Values::of(&x)?], [Values::of(&w)?]);
        let (isa, bias) = (Isa::detect(), bias.as_ref().map(Values::of).transpose()?);
        let pieces = match layout {
            Some(layout) => Pixelwise::<M>::new(isa, &layout, prelude, &xs, &ws).probe(&gz, bias.as_deref()),
            None => cpu::probe::<M>(isa, shape, &gz, &xs[0], &ws[0], bias.as_deref()),
        };
        Ok(Later::Known(batch_norm::product_of::<T>(pieces, scale_shift, output.c, eps)?))
    })
}

/// The convolution's output, of whose shape `y` and what arrives behind its norm must be.
fn output_of(input: &Map, w: &Tensor, window: &Window, (y, gz): (&Tensor, &Tensor)) -> Result<Map> {
    let output = input.through(window, conv::channels(w, window, input.c)?);
    expect_dims("output of a convolution", y, &output.dims())?;
    expect_dims("gradient of a batch norm", gz, &output.dims())?;
    Ok(output)
}

/// The gradients of [`forward_train`] from `∂L/∂z`; `y` and `moments` are what it returned.
///
/// # Errors
/// Shapes or types do not fit.
#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub fn backward(
    gz: &Tensor,
    x: &Tensor,
    w: &Tensor,
    y: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<Gradients> {
    let xs = std::slice::from_ref(x);
    let Gradients { x, w, scale_shift, product } =
        backward_beside(gz, xs, w, y, scale_shift, moments, window, prelude, wanted)?;
    Ok(Gradients { x: x.and_then(|mut xs| xs.pop()), w, scale_shift, product })
}

/// [`backward`] of [`forward_beside`]: the gradient at every map.
///
/// # Errors
/// As there.
#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub fn backward_beside(
    gz: &Tensor,
    xs: &[Tensor],
    w: &Tensor,
    y: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<Gradients<Vec<Tensor>>> {
    let input = beside(xs)?;
    let output = output_of(&input, w, window, (y, gz))?;
    let shape = conv::Shape { input: &input, output: &output, window, prelude };
    on_gpu!(w, gpu => {
        let Gradients { x, w, scale_shift, product } =
            cuda::backward(&gpu, shape, gz, alone(xs)?, w, (y, moments), scale_shift, wanted)?;
        Ok(Gradients { x: x.map(|x| vec![x]), w, scale_shift, product })
    });
    let (gz, dense_w, y, isa) = (dense(gz)?, dense(w)?, dense(y)?, Isa::detect());
    let dense_xs = xs.iter().map(dense).collect::<Result<Vec<_>>>()?;
    for_stored!(xs[0], M, T => {
        let (y, gz) = (Values::<M>::of(&y)?, Values::<M>::of(&gz)?);
        let Arrived { through, scale_shift, product } = batch_norm::arrive(&y, &gz, scale_shift, moments, None)?;
        let ws = [Values::of(&dense_w)?];
        let (gxs, gw) = match pixelwise::<T>(xs, w, window)? {
            Some(layout) => {
                let xs = dense_xs.iter().map(Values::of).collect::<Result<Vec<Values<'_, M>>>>()?;
                let pixelwise = Pixelwise::new(isa, &layout, prelude, &xs, &ws);
                let returning = [Returning { y: &y, gz: &gz, through: &through }];
                let (gxs, gws) = pixelwise.backward(&returning, wanted);
                (gxs, gws.and_then(|mut gws| gws.pop()))
            }
            None => {
                let x = Values::of(alone(&dense_xs)?)?;
                let (gx, gw) = cpu::backward::<M>(isa, shape, &x, &ws[0], (&y, &gz), &through, wanted);
                (gx.map(|gx| vec![gx]), gw)
            }
        };
        let map = |gx: Vec<M>| tensor(gx, xs[0].dims());
        Ok(Gradients {
            x: gxs.map(|gxs| gxs.into_iter().map(map).collect::<Result<Vec<_>>>()).transpose()?,
            w: gw.map(|gw| tensor(gw, w.dims())).transpose()?,
            scale_shift,
            product: Some(Later::Known(product)),
        })
    })
}

/// As [`backward`], whose gradient at `x` is left to whoever adds it up: what it will be, and the rest but for the weights', which
/// comes with it. For the CPU.
///
/// # Errors
/// Shapes or types do not fit, the gradient at `x` is not wanted, or tensors lie on a device.
#[expect(clippy::too_many_arguments, reason = "what two layers kept, and what is asked for")]
pub fn backward_pending(
    gz: &Tensor,
    x: &Tensor,
    w: &Tensor,
    y: &Tensor,
    scale_shift: Option<(&Tensor, &Tensor)>,
    moments: &Moments,
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<(Pending, Gradients)> {
    output_of(&Map::of(x.dims())?, w, window, (y, gz))?;
    if wanted == Wanted::Weights {
        bail!("found nobody who asks for the gradient at the input, expected to leave that pending");
    }
    let (gz, x, w, y) = (dense(gz)?, dense(x)?, dense(w)?, dense(y)?);
    for_stored!(x, M => {
        let Arrived { through, scale_shift, product } =
            batch_norm::arrive::<M>(&Values::of(&y)?, &Values::of(&gz)?, scale_shift, moments, None)?;
        let maker = Maker { x: x.clone(), w, window: *window, prelude, y, gz, through, wanted };
        let pending = Pending::new::<M>(x.dims(), maker);
        Ok((pending, Gradients { x: None, w: None, scale_shift, product: Some(Later::Known(product)) }))
    })
}

/// What a pending gradient will be made of.
struct Maker<T> {
    x: Tensor,
    w: Tensor,
    window: Window,
    prelude: Prelude,
    y: Tensor,
    gz: Tensor,
    through: Through<T>,
    wanted: Wanted,
}

impl<M: Stored> pending::Maker<M> for Maker<M::Real> {
    fn make(&self, images: usize, then: Then<'_, M>) -> Result<Vec<Tensor>> {
        let Self { x, w, window, prelude, y, gz, through, wanted } = self;
        let input = Map::of(x.dims())?;
        let output = input.through(window, conv::channels(w, window, input.c)?);
        let (isa, xs, ws) = (Isa::detect(), [Values::of(x)?], [Values::of(w)?]);
        let (y, gz) = (Values::of(y)?, Values::of(gz)?);
        let gw = match pixelwise::<M::Real>(std::slice::from_ref(x), w, window)? {
            Some(layout) => {
                let pixelwise = Pixelwise::new(isa, &layout, *prelude, &xs, &ws);
                let returning = [Returning { y: &y, gz: &gz, through }];
                pixelwise.backward_in_pieces(images * input.image(), &returning, *wanted, then)?
            }
            None => {
                let shape = conv::Shape { input: &input, output: &output, window, prelude: *prelude };
                let arriving = (&*y, &*gz);
                cpu::backward_in_pieces(isa, shape, images, &xs[0], &ws[0], arriving, through, *wanted, then)?
            }
        };
        gw.map_or(Ok(Vec::new()), |gw| Ok(vec![tensor(gw, w.dims())?]))
    }
}
