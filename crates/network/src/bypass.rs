//! What passes by the candidates of an edge with partial channels.

use candle_core::Tensor;
use ops::{
    kernels::{Window, pool, shuffle, sum},
    layers::axes,
};
use search_space::Edge;

use crate::Error;

/// The channels that passed by, and what their way back needs.
pub(crate) struct Bypass {
    /// `(N, …, c·(parts − 1))` at the edge's end, where `∂L/∂strength` will be asked for.
    pub(crate) rest: Option<Tensor>,
    /// Winners of the pool and dimensions of its input, where the edge has a stride.
    pub(crate) pool: Option<(Tensor, Vec<usize>)>,
}

/// The channels of `x` that go through the candidates, and those that do not.
pub(crate) fn cut(edge: &Edge, x: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let [part, rest] = &sum::split_channels(x, &widths(edge))?[..] else {
        unreachable!("two widths make two parts")
    };
    Ok((part.clone(), rest.clone()))
}

/// `y` of the edge from what the candidates made of their part, nothing where none ran, and from what passes by.
pub(crate) fn join(edge: &Edge, mixed: Option<Tensor>, rest: Tensor) -> Result<(Tensor, Bypass), Error> {
    let (rest, pool) = match edge.site.stride {
        1 => (rest, None),
        _ => {
            let (y, winners) = pool::max(&rest, &window(edge))?;
            (y, Some((winners, rest.dims().to_vec())))
        }
    };
    let n = rest.dims().first().copied().unwrap_or(0);
    let zeros = || Tensor::zeros(edge.site.output().batch_dims(n), rest.dtype(), rest.device());
    let mixed = mixed.map_or_else(zeros, Ok)?;
    Ok((shuffle::join(&mixed, &rest, edge.partial)?, Bypass { rest: Some(rest), pool }))
}

/// `∂L/∂x` of the edge from that of its two parts: `mixed` is nothing where no candidate carried a gradient back, `rest`
/// that at the edge's end.
pub(crate) fn back(
    edge: &Edge,
    bypass: &Bypass,
    mixed: Option<Tensor>,
    rest: Tensor,
) -> Result<Tensor, Error> {
    let rest = match &bypass.pool {
        None => rest,
        Some((winners, dims)) => pool::max_gradient(&rest, winners, dims, &window(edge))?,
    };
    let n = rest.dims().first().copied().unwrap_or(0);
    let zeros = || Tensor::zeros(edge.site.input().batch_dims(n), rest.dtype(), rest.device());
    Ok(sum::concat_channels(&[&mixed.map_or_else(zeros, Ok)?, &rest])?)
}

fn widths(edge: &Edge) -> [usize; 2] {
    [edge.site.c_in, edge.site.c_in * (edge.partial - 1)]
}

/// `s × s` pixels without overlap.
fn window(edge: &Edge) -> Window {
    let pair = axes(edge.site.extent.rank(), edge.site.stride);
    Window { kernel: pair, stride: pair, dilation: (1, 1), pad: (0, 0) }
}
