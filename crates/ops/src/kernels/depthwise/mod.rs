//! Depthwise convolution: `y[o, c] = Σ_tap prelude(x[o·stride + tap·dilation − pad, c]) · w[tap, c]`.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(in crate::kernels) mod cuda;
mod lattice;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor};

pub(in crate::kernels) use cpu::{BAND, ChannelSums, Inputs, outputs};

use super::{
    Isa, Prelude, Window,
    conv::Shape,
    gpu::on_gpu,
    map::Map,
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// The convolution of each channel of `x` `(N, H, W, C)` with its own kernel of `w` `(kh, kw, C)`:
/// `(N, ⌈H/s⌉, ⌈W/s⌉, C)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn forward(x: &Tensor, w: &Tensor, window: &Window, prelude: Prelude) -> Result<Tensor> {
    let (input, output) = maps(x, window)?;
    expect_dims("weights of a depthwise convolution", w, &[window.kernel.0, window.kernel.1, input.c])?;
    on_gpu!(x, gpu => cuda::forward(&gpu, Shape { input: &input, output: &output, window, prelude }, x, w));
    let (x, w) = (dense(x)?, dense(w)?);
    for_stored!(x, M => {
        let (x, w) = (Values::of(&x)?, Values::of(&w)?);
        let shape = Shape { input: &input, output: &output, window, prelude };
        tensor(cpu::forward::<M>(Isa::detect(), shape, &x, &w), &output.dims())
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
    let (input, output) = maps(x, window)?;
    expect_dims("weights of a depthwise convolution", w, &[window.kernel.0, window.kernel.1, input.c])?;
    expect_dims("gradient of a depthwise convolution", gy, &output.dims())?;
    on_gpu!(gy, gpu => cuda::input_gradient(&gpu, Shape { input: &input, output: &output, window, prelude }, gy, w, x));
    let (gy, w, x) = (dense(gy)?, dense(w)?, dense(x)?);
    for_stored!(x, M => {
        let (gy, w, x) = (Values::of(&gy)?, Values::of(&w)?, Values::of(&x)?);
        let shape = Shape { input: &input, output: &output, window, prelude };
        let gx = cpu::input_gradient::<M>(Isa::detect(), shape, &gy, &w, &x);
        tensor(gx, &input.dims())
    })
}

/// `∂L/∂w` `(kh, kw, C)` from `x` and `∂L/∂y`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn weight_gradient(x: &Tensor, gy: &Tensor, window: &Window, prelude: Prelude) -> Result<Tensor> {
    let (input, output) = maps(x, window)?;
    expect_dims("gradient of a depthwise convolution", gy, &output.dims())?;
    on_gpu!(x, gpu => cuda::weight_gradient(&gpu, Shape { input: &input, output: &output, window, prelude }, x, gy));
    let (x, gy) = (dense(x)?, dense(gy)?);
    for_stored!(x, M => {
        let (x, gy) = (Values::of(&x)?, Values::of(&gy)?);
        let shape = Shape { input: &input, output: &output, window, prelude };
        let gw = cpu::weight_gradient::<M>(Isa::detect(), shape, &x, &gy);
        tensor(gw, &[window.kernel.0, window.kernel.1, input.c])
    })
}

fn maps(x: &Tensor, window: &Window) -> Result<(Map, Map)> {
    window.check()?;
    let input = Map::of(x.dims())?;
    Ok((input, input.through(window, input.c)))
}
