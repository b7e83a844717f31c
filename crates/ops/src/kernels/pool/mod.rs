//! Pools: the largest or the mean value of a window, of a part of the map, or of all of it.

mod adaptive;
mod axes;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
mod maximum;
mod mean;
pub mod norm;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    Isa, Window,
    element::Stored,
    gpu::on_gpu,
    map::Map,
    pending::{self, Pending, Then},
    stored::{computed, wide},
    threads::piece,
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// The largest value of each window of `x` `(N, H, W, C)`, and which tap had it: `(y, winners)`, both
/// `(N, ⌈H/s⌉, ⌈W/s⌉, C)`, the taps numbered row by row in `u8`.
///
/// Padding counts as −∞. Of equal values the first wins, as in PyTorch.
///
/// # Errors
/// Shapes or types do not fit, the window has over 255 taps, or one of its places lies wholly outside of the map.
pub fn max(x: &Tensor, window: &Window) -> Result<(Tensor, Tensor)> {
    let (input, output) = maps(x.dims(), window)?;
    expect_few_taps(window)?;
    on_gpu!(x, gpu => cuda::max(&gpu, x, (&input, &output), window));
    let x = dense(x)?;
    for_stored!(x, M => {
        let (y, winners) = maximum::max::<M>(Isa::detect(), &Values::of(&x)?, &input, &output, window);
        Ok((tensor(y, &output.dims())?, tensor(winners, &output.dims())?))
    })
}

/// `∂L/∂x` of [`max`], of shape `x_dims`: each `∂L/∂y` goes to the winner.
///
/// # Errors
/// Shapes or types do not fit.
pub fn max_gradient(gy: &Tensor, winners: &Tensor, x_dims: &[usize], window: &Window) -> Result<Tensor> {
    let (input, output) = maps(x_dims, window)?;
    expect_dims("gradient of a pool", gy, &output.dims())?;
    expect_dims("winners of a pool", winners, &output.dims())?;
    on_gpu!(gy, gpu => cuda::max_gradient(&gpu, gy, winners, (&input, &output), window));
    let (gy, winners) = (dense(gy)?, dense(winners)?);
    let winners = winners_of(&winners, window)?;
    for_stored!(gy, M => {
        tensor(maximum::max_gradient::<M>(Isa::detect(), &Values::of(&gy)?, &winners, &input, &output, window), &input.dims())
    })
}

/// The mean of each window of `x` `(N, H, W, C)` over the pixels inside of the map (`count_include_pad = false`):
/// `(N, ⌈H/s⌉, ⌈W/s⌉, C)`.
///
/// # Errors
/// Shapes or types do not fit, or one of the window's places lies wholly outside of the map.
pub fn average(x: &Tensor, window: &Window) -> Result<Tensor> {
    let (input, output) = maps(x.dims(), window)?;
    on_gpu!(x, gpu => cuda::average(&gpu, "average_pool", x, (&input, &output), window, &output));
    let x = dense(x)?;
    for_stored!(x, M => {
        tensor(mean::average::<M>(Isa::detect(), &Values::of(&x)?, &input, &output, window), &output.dims())
    })
}

/// `∂L/∂x` of [`average`], of shape `x_dims`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn average_gradient(gy: &Tensor, x_dims: &[usize], window: &Window) -> Result<Tensor> {
    let (input, output) = maps(x_dims, window)?;
    expect_dims("gradient of a pool", gy, &output.dims())?;
    on_gpu!(gy, gpu => cuda::average(&gpu, "average_pool_gradient", gy, (&input, &output), window, &input));
    let gy = dense(gy)?;
    for_stored!(gy, M => {
        tensor(mean::average_gradient::<M>(Isa::detect(), &Values::of(&gy)?, &input, &output, window), x_dims)
    })
}

/// As [`average_gradient`], left to whoever adds it up. For the CPU.
///
/// # Errors
/// As there.
pub fn average_gradient_pending(gy: &Tensor, x_dims: &[usize], window: &Window) -> Result<Pending> {
    let (_, output) = maps(x_dims, window)?;
    expect_dims("gradient of a pool", gy, &output.dims())?;
    let maker = MeanMaker { gy: dense(gy)?, dims: x_dims.to_vec(), window: *window };
    for_stored!(gy, M => Ok(Pending::new::<M>(x_dims, maker)))
}

/// What the pending gradient of a mean will be made of.
struct MeanMaker {
    gy: Tensor,
    dims: Vec<usize>,
    window: Window,
}

impl<M: Stored> pending::Maker<M> for MeanMaker {
    fn make(&self, images: usize, then: Then<'_, M>) -> Result<Vec<Tensor>> {
        let (input, output) = maps(&self.dims, &self.window)?;
        let (gy, means) = (Values::<M>::of(&self.gy)?, mean::Means::backward(&input, &output, &self.window));
        let write = |i, gx: &mut [M]| {
            let gy = piece(&gy, i, images * output.image());
            wide(gy, |gy| computed(gx, |gx| means.write(Isa::detect(), gy, gx)));
        };
        pending::hand_over(input.n.div_ceil(images), input.len() * self.window.taps(), write, then)?;
        Ok(Vec::new())
    }
}

/// The mean over space: `(N, C)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn global_average(x: &Tensor) -> Result<Tensor> {
    let input = Map::of(x.dims())?;
    adaptive_average(x, (1, 1))?.reshape((input.n, input.c))
}

/// `∂L/∂x` of [`global_average`], of shape `x_dims`, from `∂L/∂y` `(N, C)`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn global_average_gradient(gy: &Tensor, x_dims: &[usize]) -> Result<Tensor> {
    let input = Map::of(x_dims)?;
    expect_dims("gradient of a pool", gy, &[input.n, input.c])?;
    adaptive_average_gradient(&gy.reshape(input.with_pixels(1, 1).dims())?, x_dims)
}

/// The means of `out.0 × out.1` parts of the map, which may overlap by a pixel: part `i` of `n` covers pixels
/// `⌊i·H/n⌋ .. ⌈(i + 1)·H/n⌉`, as PyTorch's `AdaptiveAvgPool2d`.
///
/// # Errors
/// Shapes or types do not fit, or there are no parts.
pub fn adaptive_average(x: &Tensor, out: (usize, usize)) -> Result<Tensor> {
    let (input, output) = parts(x.dims(), out)?;
    on_gpu!(x, gpu => cuda::adaptive(&gpu, "adaptive_pool", x, (&input, &output), &output));
    let x = dense(x)?;
    for_stored!(x, M => tensor(adaptive::average::<M>(&Values::of(&x)?, &input, &output), &output.dims()))
}

/// `∂L/∂x` of [`adaptive_average`], of shape `x_dims`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn adaptive_average_gradient(gy: &Tensor, x_dims: &[usize]) -> Result<Tensor> {
    let given = Map::of(gy.dims())?;
    let (input, output) = parts(x_dims, (given.h, given.w))?;
    expect_dims("gradient of a pool", gy, &output.dims())?;
    on_gpu!(gy, gpu => cuda::adaptive(&gpu, "adaptive_pool_gradient", gy, (&input, &output), &input));
    let gy = dense(gy)?;
    for_stored!(gy, M => tensor(adaptive::average_gradient::<M>(&Values::of(&gy)?, &input, &output), x_dims))
}

/// Refuses a window whose taps' numbers are no bytes.
fn expect_few_taps(window: &Window) -> Result<()> {
    if window.taps() > 255 {
        bail!("found a maximum over {} taps, expected at most 255", window.taps());
    }
    Ok(())
}

/// The winners, each of them a tap of the window.
fn winners_of<'a>(winners: &'a Tensor, window: &Window) -> Result<Values<'a, u8>> {
    expect_few_taps(window)?;
    let winners = Values::<u8>::of(winners)?;
    let tap = winners.iter().copied().max().unwrap_or(0);
    if usize::from(tap) >= window.taps() {
        bail!("winners of a pool: found tap {tap}, expected one below {}", window.taps());
    }
    Ok(winners)
}

fn parts(dims: &[usize], out: (usize, usize)) -> Result<(Map, Map)> {
    let input = Map::of(dims)?;
    let output = input.with_pixels(out.0, out.1);
    Map::of(&output.dims())?;
    if output.len() != output.dims().iter().product::<usize>() {
        bail!("found {out:?} parts of shape {dims:?}, expected 1 along an axis that it lacks");
    }
    Ok((input, output))
}

fn maps(dims: &[usize], window: &Window) -> Result<(Map, Map)> {
    window.check()?;
    let input = Map::of(dims)?;
    let output = input.through(window, input.c);
    let empty =
        |outs, len, k, s, d, pad| (0..outs).any(|o| axes::taps_inside(o, len, k, s, d, pad).is_empty());
    let ((kh, kw), (sh, sw), (dh, dw)) = (window.kernel, window.stride, window.dilation);
    if empty(output.h, input.h, kh, sh, dh, window.pad.0)
        || empty(output.w, input.w, kw, sw, dw, window.pad.1)
    {
        bail!("found a pool's window wholly outside of the map {dims:?}: {window:?}");
    }
    Ok((input, output))
}
