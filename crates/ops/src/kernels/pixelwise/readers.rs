//! 1×1 convolutions that read the same maps, each with a batch norm of its own: one convolution, whose output is cut into as
//! many maps. What they read is gathered once, and the gradient at it is written once.

use candle_core::{Result, Tensor, bail};

use super::{Convolution, Dense, Layout, Pixelwise, Returning, first_of, only, values_of};
use crate::kernels::{
    Isa, Prelude, Window,
    batch_norm::{self, Arrived, Moments, Waiting},
    conv::Wanted,
    element::Real,
    gpu::on_gpu,
    simd::lanes,
    sum,
    values::{self, expect_dims, for_stored, tensor},
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

/// What a backward computes.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// At the maps, of what all convolutions say together, if that was asked for.
    pub xs: Option<Vec<Tensor>>,
    /// Each convolution's own.
    pub of: Vec<OfReader>,
}

/// What a backward computes of one of them.
#[derive(Clone, Debug)]
pub struct OfReader {
    /// The gradient of the convolution's weights, if that was asked for.
    pub w: Option<Tensor>,
    /// Those of scale and shift, where there are any.
    pub scale_shift: Option<(Tensor, Tensor)>,
}

/// The convolutions' outputs, each for whoever normalizes it while reading; `eps` is added to every variance. Nothing on a device,
/// or where the window is not one tap, or channels do not fill vectors: then they are to run one by one.
///
/// # Errors
/// There is no map or no convolution, or shapes or types do not fit.
pub fn forward_waiting(
    xs: &[Tensor],
    readers: &[Reader<'_>],
    window: &Window,
    prelude: Prelude,
    eps: f64,
) -> Result<Option<Vec<Waiting>>> {
    on_gpu!(first_of(xs)?, _gpu => Ok(None));
    let (isa, w) = (Isa::detect(), joined(readers)?);
    let dense = Dense::of(xs, &[Convolution { w: &w, window }])?;
    for_stored!(first_of(xs)?, M, T => {
        let Some(layout) = cut::<T>(xs, &w, readers, window, isa)? else { return Ok(None) };
        let (xs, ws) = dense.values::<M>()?;
        let outputs = Pixelwise::new(isa, &layout, prelude, &xs, &ws).forward(None);
        (outputs.into_iter().zip(layout.outputs()).zip(readers))
            .map(|(((y, statistics), (_, output)), reader)| {
                Waiting::of::<M>(y, &layout.dims_of(output), statistics, reader.scale_shift, eps)
            })
            .collect::<Result<_>>()
            .map(Some)
    })
}

/// The gradients of [`forward_waiting`], and nothing where it gives nothing.
///
/// # Errors
/// As there; or there is not one gradient for each.
pub fn backward(
    xs: &[Tensor],
    readers: &[Reader<'_>],
    reads: &[Read<'_>],
    window: &Window,
    prelude: Prelude,
    wanted: Wanted,
) -> Result<Option<Gradients>> {
    on_gpu!(first_of(xs)?, _gpu => Ok(None));
    if reads.len() != readers.len() {
        bail!("found gradients behind {} norms, expected {}", reads.len(), readers.len());
    }
    let (isa, w) = (Isa::detect(), joined(readers)?);
    let dense = Dense::of(xs, &[Convolution { w: &w, window }])?;
    let ys = reads.iter().map(|read| values::dense(read.y)).collect::<Result<Vec<_>>>()?;
    let gzs = reads.iter().map(|read| values::dense(read.gz)).collect::<Result<Vec<_>>>()?;
    for_stored!(first_of(xs)?, M, T => {
        let Some(layout) = cut::<T>(xs, &w, readers, window, isa)? else { return Ok(None) };
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
            Some(gws) => sum::split_channels(&tensor(only(gws), w.dims())?, &layout.outs)?,
        }
        .into_iter();
        let of = arrived.into_iter().map(|Arrived { scale_shift, .. }| {
            OfReader { w: gws.next(), scale_shift }
        });
        Ok(Some(Gradients { xs: gxs.transpose()?, of: of.collect() }))
    })
}

/// The weights of all as those of one convolution.
fn joined(readers: &[Reader<'_>]) -> Result<Tensor> {
    match readers {
        [only] => Ok(only.w.clone()),
        _ => sum::concat_channels(&readers.iter().map(|reader| reader.w).collect::<Vec<_>>()),
    }
}

/// How one convolution with the weights of all, `w`, runs, its output cut apart; if it does.
fn cut<T: Real>(
    xs: &[Tensor],
    w: &Tensor,
    readers: &[Reader<'_>],
    window: &Window,
    isa: Isa,
) -> Result<Option<Layout>> {
    let channels = |reader: &Reader<'_>| reader.w.dims().last().copied().unwrap_or(0);
    let (lanes, outs) = (lanes::<T>(isa), readers.iter().map(channels).collect());
    let layout = Layout::of(xs, &[Convolution { w, window }], lanes)?;
    Ok(layout.and_then(|layout| layout.cut(outs, lanes)))
}
