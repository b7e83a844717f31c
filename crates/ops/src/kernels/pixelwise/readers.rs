//! 1×1 convolutions that read the same maps, each with a batch norm of its own: one convolution, whose output is cut into as
//! many maps. What they read is gathered once, and the gradient at it is written once.

use candle_core::{Result, Tensor, bail};

use super::{Convolution, Dense, Layout, Pixelwise, Returning, first_of, values_of};
use crate::kernels::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Moments, Waiting},
    conv::Wanted,
    gpu::on_gpu,
    later::Later,
    simd::lanes,
    sum,
    values::{self, Real, expect_dims, for_real, for_stored, tensor},
};

/// One of the convolutions, and the norm behind it.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// The convolution's weights, `(1, 1, c_in, c_out)`; each has channels of its own at the output.
    pub w: &'a Tensor,
    /// The norm's scale and shift, `(c_out,)`, if it has them.
    pub scale_shift: Option<(&'a Tensor, &'a Tensor)>,
}

/// What came of one of them, and the gradient that came back.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// The convolution's output, `(N, …, c_out)`.
    pub y: &'a Tensor,
    /// Its moments.
    pub moments: &'a Moments,
    /// `∂L/∂z`, of the shape of `y`.
    pub gz: &'a Tensor,
}

/// What a backward computes of one of them.
#[derive(Clone, Debug)]
pub struct OfReader {
    /// The gradient of the convolution's weights, if that was asked for.
    pub w: Option<Tensor>,
    /// Those of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
    /// `⟨∂L/∂z, z⟩`, which the norm's sums give for nothing.
    pub product: Later,
}

/// Whether the other functions take these maps of one shape, whose channels lie side by side, and convolutions of these weights
/// and one window: on the CPU, where channels fill its vectors.
///
/// # Errors
/// There is no map, or shapes or types do not fit.
pub fn fits(xs: &[Tensor], ws: &[&Tensor], window: &Window) -> Result<bool> {
    let Some(w) = ws.first() else { return Ok(false) };
    on_gpu!(w, _gpu => Ok(false));
    Ok(for_real!(w, T => cut::<T>(xs, &side_by_side(ws)?, ws, window, Isa::detect())?.is_some()))
}

/// The convolutions' outputs, each for whoever normalizes it while reading; `eps` is added to every variance.
///
/// # Errors
/// It is not what [`fits`], or types do not.
pub fn forward_waiting(
    xs: &[Tensor],
    readers: &[Reader<'_>],
    window: &Window,
    prelude: Prelude,
    eps: f64,
) -> Result<Vec<Waiting>> {
    let (isa, w) = (Isa::detect(), joined(readers)?);
    let dense = Dense::of(xs, &[Convolution { w: &w, window }])?;
    for_stored!(first_of(xs)?, M, T => {
        let layout = fitting::<T>(xs, &w, &ws_of(readers), window, isa)?;
        let (xs, ws) = dense.values::<M>()?;
        let outputs = Pixelwise::new(isa, &layout, prelude, &xs, &ws).forward(None);
        (outputs.into_iter().zip(layout.outputs()).zip(readers))
            .map(|(((y, statistics), (_, output)), reader)| {
                Waiting::of::<M>(y, &layout.dims_of(output), statistics, reader.scale_shift, eps)
            })
            .collect()
    })
}

/// The gradients at the maps, of what all convolutions say together, if the input's are wanted; and each one's own.
///
/// # Errors
/// As of [`forward_waiting`]; or there is not one gradient for each.
pub fn backward(
    xs: &[Tensor],
    readers: &[Reader<'_>],
    reads: &[Read<'_>],
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<(Option<Vec<Tensor>>, Vec<OfReader>)> {
    if reads.len() != readers.len() {
        bail!("found gradients behind {} norms, expected {}", reads.len(), readers.len());
    }
    let (isa, w) = (Isa::detect(), joined(readers)?);
    let dense = Dense::of(xs, &[Convolution { w: &w, window }])?;
    let maps = |which: fn(&Read<'_>) -> Tensor| {
        reads.iter().map(|read| values::dense(&which(read))).collect::<Result<Vec<_>>>()
    };
    let (ys, gzs) = (maps(|read| read.y.clone())?, maps(|read| read.gz.clone())?);
    for_stored!(first_of(xs)?, M, T => {
        let layout = fitting::<T>(xs, &w, &ws_of(readers), window, isa)?;
        for ((y, gz), (_, output)) in ys.iter().zip(&gzs).zip(layout.outputs()) {
            expect_dims("output of a convolution", y, &layout.dims_of(output))?;
            expect_dims("gradient of a batch norm", gz, &layout.dims_of(output))?;
        }
        let (ys, gzs) = (values_of::<M>(&ys)?, values_of::<M>(&gzs)?);
        let arrived = (ys.iter().zip(&gzs).zip(readers).zip(reads))
            .map(|(((y, gz), reader), read)| batch_norm::arrive(y, gz, reader.scale_shift, read.moments, None))
            .collect::<Result<Vec<Arrived<T>>>>()?;
        let returning: Vec<_> = (ys.iter().zip(&gzs).zip(&arrived))
            .map(|((y, gz), arrived)| Returning::<M> { y, gz, through: &arrived.through })
            .collect();
        let (of_xs, ws) = dense.values::<M>()?;
        let (gxs, gws) = Pixelwise::new(isa, &layout, prelude, &of_xs, &ws).backward(&returning, wanted);
        let gxs = gxs.map(|gxs| gxs.into_iter().map(|gx| tensor(gx, xs[0].dims())).collect::<Result<Vec<_>>>());
        let mut gws = match gws {
            None => Vec::new(),
            Some(gws) => sum::split_channels(&tensor(gws.concat(), w.dims())?, &layout.outs)?,
        }
        .into_iter();
        let of = arrived.into_iter().map(|Arrived { scale_shift, product, .. }| {
            OfReader { w: gws.next(), scale_shift, product: Later::Known(product) }
        });
        Ok((gxs.transpose()?, of.collect()))
    })
}

/// The weights of all as those of one convolution.
fn joined(readers: &[Reader<'_>]) -> Result<Tensor> {
    side_by_side(&ws_of(readers))
}

fn ws_of<'a>(readers: &[Reader<'a>]) -> Vec<&'a Tensor> {
    readers.iter().map(|reader| reader.w).collect()
}

fn side_by_side(ws: &[&Tensor]) -> Result<Tensor> {
    match ws {
        [only] => Ok((*only).clone()),
        _ => sum::concat_channels(ws),
    }
}

/// How one convolution with the weights of all, `w`, runs, its output cut apart.
fn cut<T: Real>(
    xs: &[Tensor],
    w: &Tensor,
    ws: &[&Tensor],
    window: &Window,
    isa: Isa,
) -> Result<Option<Layout>> {
    let (lanes, channels) = (lanes::<T>(isa), ws.iter().map(|w| w.dims().last().copied().unwrap_or(0)));
    let layout = Layout::of(xs, &[Convolution { w, window }], lanes)?;
    Ok(layout.and_then(|layout| layout.cut(channels.collect(), lanes)))
}

fn fitting<T: Real>(xs: &[Tensor], w: &Tensor, ws: &[&Tensor], window: &Window, isa: Isa) -> Result<Layout> {
    match cut::<T>(xs, w, ws, window, isa)? {
        Some(layout) => Ok(layout),
        None => bail!("found convolutions of another window than one tap, or channels that fill no vectors"),
    }
}
