//! Dense convolution on a device: which tiles, and how many blocks.

use candle_core::{DType, Result, Tensor};

use super::shape::Shape;
use crate::kernels::{
    batch_norm::cuda::Slices,
    gpu::{Arg, Fresh, Geometry, Gpu, Grid, computed_in},
    map::Map,
    sum,
    values::dense,
};

/// Threads of a block, as `conv.cu` has them.
const THREADS: usize = 128;

/// Blocks that are worth having before tiles may be large: some for each processor of a large device, since every one of
/// them waits for memory most of its time.
const BLOCKS: usize = 512;

/// The tile of a fully connected layer.
const LINEAR: (usize, usize) = (32, 32);

/// Pixels that a block adds up for the weights' gradient, at least.
const PIXELS: usize = 144;

/// What a block reads of them at once, as `matrix.cu` has it.
const STAGE: usize = 48;

/// Rows and columns of a block's tile; a function of the product's size alone, so that sums have one order.
fn tile(rows: usize, columns: usize) -> (usize, usize) {
    let blocks = |(bm, bn): (usize, usize)| rows.div_ceil(bm) * columns.div_ceil(bn);
    match columns {
        0..=16 => (64, 16),
        33.. if blocks((64, 64)) >= BLOCKS => (64, 64),
        _ if blocks((64, 32)) >= BLOCKS => (64, 32),
        _ => (32, 32),
    }
}

/// Whether a convolution is a fully connected layer, which has kernels of its own.
fn is_linear(input: &Map) -> bool {
    input.rank == 2
}

fn product(
    gpu: &Gpu,
    what: &str,
    (input, maps): (&Map, DType),
    (rows, columns): (usize, usize),
    args: &[Arg<'_>],
) -> Result<()> {
    let (bm, bn) = if is_linear(input) { LINEAR } else { tile(rows, columns) };
    let kernel = if is_linear(input) { format!("linear_{what}") } else { format!("conv_{what}_{bm}x{bn}") };
    let grid = Grid { blocks: (rows.div_ceil(bm), columns.div_ceil(bn), 1), threads: (THREADS, 1) };
    gpu.launch(&kernel, maps, grid, args)
}

pub(in crate::kernels) fn forward(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    convolve(gpu, shape, x, (w, bias), None)
}

/// [`forward`], and the moments of what each tile of pixels holds.
pub(in crate::kernels) fn forward_with_moments(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
) -> Result<(Tensor, Slices)> {
    let (rows, c) = (shape.output.len() / shape.output.c, shape.output.c);
    let slice = if is_linear(shape.input) { LINEAR.0 } else { tile(rows, c).0 };
    let parts = gpu.fresh(DType::F64, &[rows.div_ceil(slice), 2, c])?;
    let y = convolve(gpu, shape, x, (w, bias), Some(&parts))?;
    Ok((y, Slices { parts: parts.tensor()?, slice, rows }))
}

fn convolve(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    (w, bias): (&Tensor, Option<&Tensor>),
    moments: Option<&Fresh>,
) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (x, w, bias) = (dense(x)?, dense(w)?, bias.map(dense).transpose()?);
    let geometry = Geometry::new(input, output, window, prelude)?;
    let y = gpu.fresh(x.dtype(), &output.dims())?;
    let args = [
        Arg::Geometry(geometry),
        Arg::In(&x),
        Arg::Reals(Some(&w)),
        Arg::Reals(bias.as_ref()),
        Arg::Out(&y),
        moments.map_or(Arg::Doubles(None), Arg::Out),
    ];
    product(gpu, "forward", (input, x.dtype()), (output.len() / output.c, output.c), &args)?;
    y.tensor()
}

pub(in crate::kernels) fn input_gradient(
    gpu: &Gpu,
    shape: Shape<'_>,
    gy: &Tensor,
    w: &Tensor,
    x: &Tensor,
) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (gy, w, x) = (dense(gy)?, dense(w)?, dense(x)?);
    let geometry = Geometry::new(input, output, window, prelude)?;
    let gx = gpu.fresh(gy.dtype(), &input.dims())?;
    let args = [Arg::Geometry(geometry), Arg::In(&gy), Arg::Reals(Some(&w)), Arg::In(&x), Arg::Out(&gx)];
    product(gpu, "input_gradient", (input, gy.dtype()), (input.len() / input.c, input.c), &args)?;
    gx.tensor()
}

/// `(kh, kw, c_in, c_out)`
pub(in crate::kernels) fn weight_gradient(
    gpu: &Gpu,
    shape: Shape<'_>,
    x: &Tensor,
    gy: &Tensor,
) -> Result<Tensor> {
    let Shape { input, output, window, prelude } = shape;
    let (x, gy) = (dense(x)?, dense(gy)?);
    let geometry = Geometry::new(input, output, window, prelude)?;
    let (rows, pixels) = (window.taps() * input.c, output.len() / output.c);
    let linear = is_linear(input);
    let (bm, bn) = (64, if output.c <= 16 && !linear { 16 } else { 32 });
    let tiles = (rows.div_ceil(bm), output.c.div_ceil(bn));
    // As many slices of the pixels as make enough blocks, whole stages each.
    let slices = BLOCKS.div_ceil(tiles.0 * tiles.1);
    let slice = pixels.div_ceil(slices).max(PIXELS).next_multiple_of(STAGE);
    let slices = pixels.div_ceil(slice);
    let parts = gpu.fresh(computed_in(x.dtype()), &[slices, rows * output.c])?;
    let args = [Arg::Geometry(geometry), Arg::In(&x), Arg::In(&gy), Arg::Int(slice), Arg::Out(&parts)];
    let grid = Grid { blocks: (tiles.0, tiles.1, slices), threads: (THREADS, 1) };
    let kernel =
        if linear { "linear_weight_gradient".into() } else { format!("conv_weight_gradient_{bm}x{bn}") };
    gpu.launch(&kernel, x.dtype(), grid, &args)?;
    let (kh, kw) = window.kernel;
    sum::cuda::add_parts(gpu, &parts.tensor()?, &[kh, kw, input.c, output.c])
}
