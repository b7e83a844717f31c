//! Dense convolution: `y[o, co] = Σ_{tap, ci} prelude(x[o·stride + tap·dilation − pad, ci]) · w[tap, ci, co]`.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(in crate::kernels) mod cuda;
pub(in crate::kernels) mod pointwise;
mod shape;
mod small;
#[cfg(test)]
mod tests;
mod winograd;

use candle_core::{Result, Tensor, bail};

pub(in crate::kernels) use cpu::{Inputs, Outputs, Weights};
pub(in crate::kernels) use shape::Shape;

use super::{
    Isa, Prelude, Window,
    gpu::on_gpu,
    map::Map,
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// Which gradients of a convolution are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The input's.
    Input,
    /// The weights'.
    Weights,
    /// Both.
    Both,
}

/// The convolution of `x` `(N, H, W, c_in)` with `w` `(kh, kw, c_in, c_out)`: `(N, ⌈H/s⌉, ⌈W/s⌉, c_out)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward(x: &Tensor, w: &Tensor, window: &Window, prelude: Prelude) -> Result<Tensor> {
    convolve(x, w, None, window, prelude)
}

/// [`forward`] plus `bias` `(c_out,)` at every pixel, in one pass.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward_biased(
    x: &Tensor,
    w: &Tensor,
    bias: &Tensor,
    window: &Window,
    prelude: Prelude,
) -> Result<Tensor> {
    convolve(x, w, Some(bias), window, prelude)
}

fn convolve(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    prelude: Prelude,
) -> Result<Tensor> {
    let input = Map::of(x.dims())?;
    let c_out = channels(w, window, input.c)?;
    let output = input.through(window, c_out);
    bias.map_or(Ok(()), |bias| expect_dims("bias of a convolution", bias, &[c_out]))?;
    on_gpu!(x, gpu => cuda::forward(&gpu, Shape { input: &input, output: &output, window, prelude }, x, w, bias));
    let (x, w, bias) = (dense(x)?, dense(w)?, bias.map(dense).transpose()?);
    for_stored!(x, M => {
        let (x, w) = (Values::of(&x)?, Values::of(&w)?);
        let bias = bias.as_ref().map(Values::of).transpose()?;
        let shape = Shape { input: &input, output: &output, window, prelude };
        let y = cpu::forward::<M>(Isa::detect(), shape, &x, &w, bias.as_deref());
        tensor(y, &output.dims())
    })
}

/// `∂L/∂x` from `∂L/∂y`; `x` gives the shape and, through a ReLU, the signs.
///
/// # Errors
/// Shapes or types do not fit.
pub fn input_gradient(
    gy: &Tensor,
    w: &Tensor,
    x: &Tensor,
    window: &Window,
    prelude: Prelude,
) -> Result<Tensor> {
    let input = Map::of(x.dims())?;
    let output = input.through(window, channels(w, window, input.c)?);
    expect_dims("gradient of a convolution", gy, &output.dims())?;
    on_gpu!(gy, gpu => cuda::input_gradient(&gpu, Shape { input: &input, output: &output, window, prelude }, gy, w, x));
    let (gy, w, x) = (dense(gy)?, dense(w)?, dense(x)?);
    for_stored!(x, M => {
        let (x, isa) = (Values::of(&x)?, Isa::detect());
        let shape = Shape { input: &input, output: &output, window, prelude };
        let gx = cpu::input_gradient::<M>(isa, shape, &Values::of(&gy)?, &Values::of(&w)?, &x);
        tensor(gx, &input.dims())
    })
}

/// `∂L/∂w` `(kh, kw, c_in, c_out)` from `x` and `∂L/∂y`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn weight_gradient(x: &Tensor, gy: &Tensor, window: &Window, prelude: Prelude) -> Result<Tensor> {
    Ok(gradients(cpu::Added::Weights, x, gy, window, prelude)?.0)
}

/// `∂L/∂w` as [`weight_gradient`], and `∂L/∂bias = Σ ∂L/∂y` over batch and pixels, `(c_out,)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn weight_and_bias_gradients(
    x: &Tensor,
    gy: &Tensor,
    window: &Window,
    prelude: Prelude,
) -> Result<(Tensor, Tensor)> {
    gradients(cpu::Added::WeightsAndBias, x, gy, window, prelude)
}

fn gradients(
    added: cpu::Added,
    x: &Tensor,
    gy: &Tensor,
    window: &Window,
    prelude: Prelude,
) -> Result<(Tensor, Tensor)> {
    let input = Map::of(x.dims())?;
    window.check()?;
    let output = input.through(window, Map::of(gy.dims())?.c);
    expect_dims("gradient of a convolution", gy, &output.dims())?;
    on_gpu!(x, gpu => {
        let gw = cuda::weight_gradient(&gpu, Shape { input: &input, output: &output, window, prelude }, x, gy)?;
        // Where no bias is added up, the second is never looked at.
        let gb = if added == cpu::Added::Weights { gw.clone() } else { super::bias::gradient(gy)? };
        Ok((gw, gb))
    });
    let (x, gy) = (dense(x)?, dense(gy)?);
    let dims = [window.kernel.0, window.kernel.1, input.c, output.c];
    for_stored!(x, M => {
        let (x, gy) = (Values::of(&x)?, Values::of(&gy)?);
        let shape = Shape { input: &input, output: &output, window, prelude };
        let (gw, gb) = cpu::weight_gradient::<M>(Isa::detect(), shape, added, &x, &gy);
        Ok((tensor(gw, &dims)?, tensor(gb, &[output.c])?))
    })
}

/// The channels that `w` makes of `c_in`.
pub(in crate::kernels) fn channels(w: &Tensor, window: &Window, c_in: usize) -> Result<usize> {
    window.check()?;
    match *w.dims() {
        [kh, kw, c, c_out] if (kh, kw) == window.kernel && c == c_in => Ok(c_out),
        _ => {
            let (kh, kw) = window.kernel;
            bail!(
                "weights of a convolution: found shape {:?}, expected [{kh}, {kw}, {c_in}, c_out]",
                w.dims()
            )
        }
    }
}
