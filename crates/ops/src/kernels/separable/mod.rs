//! A depthwise convolution, a convolution and the batch norm over its output, in as few passes as `conv_norm`'s.
//!
//! What lies between the two convolutions never reaches memory: forward and backward make it anew, piece by piece,
//! since a depthwise convolution costs less than writing its output and reading it again.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Channelwise, Moments, Normalized, Sums, Through, Waiting},
    conv::{self, Wanted},
    element::Stored,
    gpu::on_gpu,
    later::Later,
    map::Map,
    pending::{self, Pending, Then},
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// The two convolutions: `y = w ∗ (d ∗ prelude(norm(x))) + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Convolutions<'a> {
    /// A batch norm that is still to be applied to `x`, in front of the prelude.
    pub norm: Option<&'a Channelwise>,
    /// Weights of the depthwise one, `(kh, kw, c_in)`.
    pub d: &'a Tensor,
    /// Its window.
    pub across: &'a Window,
    /// What is applied to its input.
    pub prelude: Prelude,
    /// Weights of the other, `(kh, kw, c_in, c_out)`.
    pub w: &'a Tensor,
    /// What is added, `(c_out,)`.
    pub bias: Option<&'a Tensor>,
    /// Its window.
    pub window: &'a Window,
}

/// What a backward computes: the gradients that were asked for.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// At the input, or behind its norm where there is one.
    pub x: Option<Tensor>,
    /// Of the depthwise weights and of the other's.
    pub weights: Option<(Tensor, Tensor)>,
    /// Of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂z, z⟩`, which the norm's sums give for nothing.
    pub product: Option<Later>,
    /// What the gradient at the input says to its norm, where there is one and the gradient was asked for; for that norm's own
    /// backward. (Not on a GPU.)
    pub sums: Option<Sums>,
}

/// The maps at the input, between the convolutions, and at the output.
struct Maps {
    input: Map,
    between: Map,
    output: Map,
}

impl Convolutions<'_> {
    fn maps(&self, x: &Tensor) -> Result<Maps> {
        self.across.check()?;
        let input = Map::of(x.dims())?;
        let (kh, kw) = self.across.kernel;
        expect_dims("weights of a depthwise convolution", self.d, &[kh, kw, input.c])?;
        let between = input.through(self.across, input.c);
        let output = between.through(self.window, conv::channels(self.w, self.window, input.c)?);
        self.bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[output.c]))?;
        Ok(Maps { input, between, output })
    }

    /// As [`Convolutions::maps`], of whose output's shape `y` and what arrives behind its norm must be.
    fn maps_back(&self, x: &Tensor, (y, gz): (&Tensor, &Tensor)) -> Result<Maps> {
        let maps = self.maps(x)?;
        expect_dims("output of a convolution", y, &maps.output.dims())?;
        expect_dims("gradient of a batch norm", gz, &maps.output.dims())?;
        Ok(maps)
    }

    fn shapes<'m>(&'m self, maps: &'m Maps) -> cpu::Shapes<'m> {
        let Maps { input, between, output } = maps;
        cpu::Shapes {
            depthwise: conv::Shape { input, output: between, window: self.across, prelude: self.prelude },
            dense: conv::Shape { input: between, output, window: self.window, prelude: Prelude::Identity },
        }
    }
}

/// `z = normalize(y) · scale + shift` with the batch's own moments.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_train(
    x: &Tensor,
    convolutions: Convolutions<'_>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Normalized> {
    forward_waiting(x, convolutions, scale_shift, eps)?.now()
}

/// [`forward_train`] for whoever normalizes while reading.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_waiting(
    x: &Tensor,
    convolutions: Convolutions<'_>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Waiting> {
    let maps = convolutions.maps(x)?;
    let shapes = convolutions.shapes(&maps);
    on_gpu!(x, gpu => cuda::forward_waiting(&gpu, shapes, x, convolutions, scale_shift, eps));
    let Convolutions { norm, d, w, bias, .. } = convolutions;
    let (x, d, w, bias) = (dense(x)?, dense(d)?, dense(w)?, bias.map(dense).transpose()?);
    for_stored!(x, M, T => {
        let (x, d, w) = (Values::of(&x)?, Values::of(&d)?, Values::of(&w)?);
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let source = cpu::Source::new(&x, norm.map(|norm| norm.channels::<T>(maps.input.c)).transpose()?);
        let (y, statistics) = cpu::forward::<M>(Isa::detect(), shapes, &source, &d, &w, bias.as_deref());
        Waiting::of::<M>(y, &maps.output.dims(), statistics, scale_shift, eps)
    })
}

/// `⟨∂L/∂z, z⟩` of a `z` that nobody keeps: as [`forward_train`] and a dot product, but its output never reaches memory.
///
/// # Errors
/// Shapes or types do not fit.
pub fn probe(
    gz: &Tensor,
    x: &Tensor,
    convolutions: Convolutions<'_>,
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Later> {
    let maps = convolutions.maps(x)?;
    let shapes = convolutions.shapes(&maps);
    expect_dims("gradient of a batch norm", gz, &maps.output.dims())?;
    on_gpu!(x, gpu => {
        let Waiting { y, by, .. } = cuda::forward_waiting(&gpu, shapes, x, convolutions, scale_shift, eps)?;
        batch_norm::dot(gz, &y, &by)
    });
    let Convolutions { norm, d, w, bias, .. } = convolutions;
    let (gz, x, d, w, bias) = (dense(gz)?, dense(x)?, dense(d)?, dense(w)?, bias.map(dense).transpose()?);
    for_stored!(x, M, T => {
        let (gz, x, d, w) = (Values::of(&gz)?, Values::of(&x)?, Values::of(&d)?, Values::of(&w)?);
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let source = cpu::Source::new(&x, norm.map(|norm| norm.channels::<T>(maps.input.c)).transpose()?);
        let pieces = cpu::probe::<M>(Isa::detect(), shapes, &gz, &source, (&d, &w), bias.as_deref());
        Ok(Later::Known(batch_norm::product_of::<T>(pieces, scale_shift, maps.output.c, eps)?))
    })
}

/// The gradients of [`forward_train`] from `∂L/∂z`; `y` and `moments` are what it returned, and `sums` what `∂L/∂z` says to
/// the norm, where its maker knows ([`Gradients::sums`] of what read `z`). (The bias has none: the mean takes it out again.)
///
/// # Errors
/// Shapes or types do not fit.
pub fn backward(
    gz: &Tensor,
    x: &Tensor,
    convolutions: Convolutions<'_>,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
    wanted: Wanted,
    sums: Option<Sums>,
) -> Result<Gradients> {
    let maps = convolutions.maps_back(x, (y, gz))?;
    let shapes = convolutions.shapes(&maps);
    on_gpu!(x, gpu => cuda::backward(&gpu, shapes, gz, x, convolutions, (y, moments), scale_shift, wanted));
    let Convolutions { norm, d, w, .. } = convolutions;
    let (gz, x, dense_d, dense_w, y) = (dense(gz)?, dense(x)?, dense(d)?, dense(w)?, dense(y)?);
    for_stored!(x, M, T => {
        let (y, gz) = (Values::<M>::of(&y)?, Values::<M>::of(&gz)?);
        let Arrived { through, scale_shift, product } = batch_norm::arrive(&y, &gz, scale_shift, moments, sums)?;
        let (x, d_values, w_values) = (Values::of(&x)?, Values::of(&dense_d)?, Values::of(&dense_w)?);
        let weights = (&*d_values, &*w_values);
        let source = cpu::Source::new(&x, norm.map(|norm| norm.channels::<T>(maps.input.c)).transpose()?);
        let (gx, sums, found) = cpu::backward::<M>(Isa::detect(), shapes, &source, weights, (&y, &gz), &through, wanted);
        Ok(Gradients {
            x: gx.map(|gx| tensor(gx, &maps.input.dims())).transpose()?,
            weights: found.map(|(gd, gw)| Ok::<_, candle_core::Error>((tensor(gd, d.dims())?, tensor(gw, w.dims())?))).transpose()?,
            scale_shift,
            product: Some(Later::Known(product)),
            sums: sums.map(Sums),
        })
    })
}

/// As [`backward`], of an `x` without a norm, whose gradient is left to whoever adds it up: what it will be, and the rest but for
/// the weights', which come with it, depthwise ones first. For the CPU.
///
/// # Errors
/// Shapes or types do not fit, the gradient at `x` is not wanted, `x` has a norm, or tensors lie on a device.
pub fn backward_pending(
    gz: &Tensor,
    x: &Tensor,
    convolutions: Convolutions<'_>,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
    wanted: Wanted,
    sums: Option<Sums>,
) -> Result<(Pending, Gradients)> {
    convolutions.maps_back(x, (y, gz))?;
    let Convolutions { norm, d, across, prelude, w, window, .. } = convolutions;
    if norm.is_some() || wanted == Wanted::Weights {
        bail!(
            "found a norm at the input, or nobody who asks for its gradient, expected to leave that pending"
        );
    }
    let (gz, x, d, w, y) = (dense(gz)?, dense(x)?, dense(d)?, dense(w)?, dense(y)?);
    for_stored!(x, M => {
        let Arrived { through, scale_shift, product } =
            batch_norm::arrive::<M>(&Values::of(&y)?, &Values::of(&gz)?, scale_shift, moments, sums)?;
        let maker = Maker { x: x.clone(), d, across: *across, prelude, w, window: *window, y, gz, through, wanted };
        let pending = Pending::new::<M>(x.dims(), maker);
        let product = Some(Later::Known(product));
        Ok((pending, Gradients { x: None, weights: None, scale_shift, product, sums: None }))
    })
}

/// What a pending gradient will be made of.
struct Maker<T> {
    x: Tensor,
    d: Tensor,
    across: Window,
    prelude: Prelude,
    w: Tensor,
    window: Window,
    y: Tensor,
    gz: Tensor,
    through: Through<T>,
    wanted: Wanted,
}

impl<M: Stored> pending::Maker<M> for Maker<M::Real> {
    fn make(&self, images: usize, then: Then<'_, M>) -> Result<Vec<Tensor>> {
        let Self { x, d, across, prelude, w, window, y, gz, through, wanted } = self;
        let convolutions = Convolutions { norm: None, d, across, prelude: *prelude, w, bias: None, window };
        let maps = convolutions.maps(x)?;
        let (x, d, w) = (Values::of(x)?, Values::of(d)?, Values::of(w)?);
        let arriving = (&*Values::of(y)?, &*Values::of(gz)?);
        let shapes = convolutions.shapes(&maps);
        let found = cpu::backward_in_pieces::<M>(
            Isa::detect(),
            shapes,
            images,
            &x,
            (&d, &w),
            arriving,
            through,
            *wanted,
            then,
        )?;
        found.map_or(Ok(Vec::new()), |(gd, gw)| {
            Ok(vec![tensor(gd, self.d.dims())?, tensor(gw, self.w.dims())?])
        })
    }
}
