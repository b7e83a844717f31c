//! A pool and the batch norm over its output, as [`conv_norm`](crate::kernels::conv_norm) does it with a convolution: the
//! moments are summed of each piece while it is in the cache, and what arrives at the pool exists only piece by piece.

use candle_core::{Result, Tensor};

use super::{
    average_gradient, expect_few_taps, maps, max, max_gradient,
    maximum::{Maxima, Shares},
    mean::Means,
    winners_of,
};
use crate::kernels::{
    Isa, Window,
    batch_norm::{
        self, Arrived, Gradients, Moments, PieceMoments, PieceProducts, Statistics, Through, Waiting,
    },
    element::Stored,
    gpu::on_gpu,
    later::Later,
    map::Map,
    pending::{self, Pending, Then},
    stored::{computed, wide},
    threads::{
        Scratch, collect, images_per_piece, overwrite, overwrite_and_collect, overwrite_pair_and_collect,
        piece,
    },
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// What a pool takes of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The largest value.
    Max,
    /// The mean.
    Average,
}

impl Pool {
    /// Refuses a window that it cannot take anything of.
    fn expect_fitting(self, window: &Window) -> Result<()> {
        if self == Self::Max { expect_few_taps(window) } else { Ok(()) }
    }
}

/// The pool of `x` `(N, H, W, C)` in front of its norm, `y` `(N, ⌈H/s⌉, ⌈W/s⌉, C)`, and which taps had the largest values, where
/// it takes those: as [`max`] or [`average`](super::average) followed by [`batch_norm::forward_waiting`]. Scale and shift are
/// `(C,)`, and `eps` is added to the variance.
///
/// # Errors
/// As of these.
pub fn forward_waiting(
    x: &Tensor,
    (pool, window): (Pool, &Window),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Waiting, Option<Tensor>)> {
    on_gpu!(x, _gpu => {
        let (y, winners) = pooled(x, (pool, window))?;
        let (moments, by) = batch_norm::forward_waiting(&y, scale_shift, eps)?;
        Ok((Waiting { y, moments, by }, winners))
    });
    let shape = Shape::of(x.dims(), window)?;
    pool.expect_fitting(window)?;
    let x = dense(x)?;
    for_stored!(x, M => {
        let (y, winners, statistics) = shape.forward::<M>(Isa::detect(), &Values::of(&x)?, pool);
        let dims = shape.output.dims();
        let winners = winners.map(|winners| tensor(winners, &dims)).transpose()?;
        Ok((Waiting::of::<M>(y, &dims, statistics, scale_shift, eps)?, winners))
    })
}

/// The pool alone, `(N, ⌈H/s⌉, ⌈W/s⌉, C)`, and its winners, of that shape in `u8`.
///
/// # Errors
/// As of [`max`] or [`average`](super::average).
pub fn pooled(x: &Tensor, (pool, window): (Pool, &Window)) -> Result<(Tensor, Option<Tensor>)> {
    match pool {
        Pool::Max => max(x, window).map(|(y, winners)| (y, Some(winners))),
        Pool::Average => Ok((super::average(x, window)?, None)),
    }
}

/// `∂L/∂x` of [`pooled`], of shape `x_dims`; winners tell a maximum from a mean.
///
/// # Errors
/// Shapes or types do not fit.
pub fn pooled_gradient(
    gy: &Tensor,
    winners: Option<&Tensor>,
    x_dims: &[usize],
    window: &Window,
) -> Result<Tensor> {
    match winners {
        Some(winners) => max_gradient(gy, winners, x_dims, window),
        None => average_gradient(gy, x_dims, window),
    }
}

/// `⟨∂L/∂z, z⟩` of a `z` that nobody keeps, from `gz` `(N, ⌈H/s⌉, ⌈W/s⌉, C)`: the pool's output never reaches memory.
///
/// # Errors
/// Shapes or types do not fit.
pub fn probe(
    gz: &Tensor,
    x: &Tensor,
    (pool, window): (Pool, &Window),
    scale_shift: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<Later> {
    let shape = Shape::of(x.dims(), window)?;
    pool.expect_fitting(window)?;
    expect_dims("gradient of a batch norm", gz, &shape.output.dims())?;
    on_gpu!(x, _gpu => {
        let (y, _) = pooled(x, (pool, window))?;
        let (_, by) = batch_norm::forward_waiting(&y, scale_shift, eps)?;
        batch_norm::dot(gz, &y, &by)
    });
    let (x, gz) = (dense(x)?, dense(gz)?);
    for_stored!(x, M, T => {
        let pieces = shape.probe::<M>(Isa::detect(), &Values::of(&gz)?, &Values::of(&x)?, pool);
        Ok(Later::Known(batch_norm::product_of::<T>(pieces, scale_shift, shape.output.c, eps)?))
    })
}

/// `∂L/∂x`, of shape `x_dims`, and what else a norm's backward finds; from the `winners` of a maximum, the pool's output
/// `y` and the moments of that. `gz`, winners and `y` are `(N, ⌈H/s⌉, ⌈W/s⌉, C)`.
///
/// # Errors
/// Shapes or types do not fit, or a winner is no tap of the window.
pub fn backward(
    gz: &Tensor,
    x_dims: &[usize],
    window: &Window,
    winners: Option<&Tensor>,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
) -> Result<Gradients> {
    let shape = Shape::of(x_dims, window)?;
    shape.expect(winners, (y, gz))?;
    on_gpu!(y, _gpu => {
        let found = batch_norm::backward(y, gz, scale_shift, moments)?;
        Ok(Gradients { x: pooled_gradient(&found.x, winners, x_dims, window)?, ..found })
    });
    let (y, gz, winners) = (dense(y)?, dense(gz)?, winners.map(dense).transpose()?);
    for_stored!(y, M => {
        let (y, gz) = (Values::<M>::of(&y)?, Values::<M>::of(&gz)?);
        let winners = winners.as_ref().map(|winners| winners_of(winners, window)).transpose()?;
        let Arrived { through, scale_shift, product } = batch_norm::arrive(&y, &gz, scale_shift, moments, None)?;
        let write = shape.backward::<M>(Isa::detect(), (&y, &gz), winners.as_deref(), &through);
        let gx = overwrite(shape.input.len(), shape.images * shape.input.image(), shape.work(), write);
        Ok(Gradients { x: tensor(gx, x_dims)?, scale_shift, product: Some(Later::Known(product)) })
    })
}

/// As [`backward`], whose gradient at the input is left to whoever adds it up: what it will be, scale's and shift's, and
/// `⟨gz, z⟩`. For the CPU.
///
/// # Errors
/// As there, or tensors lie on a device; a winner that is no tap is found where the gradient is made.
#[expect(clippy::type_complexity, reason = "what a backward finds")]
pub fn backward_pending(
    gz: &Tensor,
    x_dims: &[usize],
    window: &Window,
    winners: Option<&Tensor>,
    (y, moments): (&Tensor, &Moments),
    scale_shift: Option<(&Tensor, &Tensor)>,
) -> Result<(Pending, Option<(Tensor, Tensor)>, Later)> {
    Shape::of(x_dims, window)?.expect(winners, (y, gz))?;
    let (y, gz, winners) = (dense(y)?, dense(gz)?, winners.map(dense).transpose()?);
    for_stored!(y, M => {
        let Arrived { through, scale_shift, product } =
            batch_norm::arrive::<M>(&Values::of(&y)?, &Values::of(&gz)?, scale_shift, moments, None)?;
        let maker = Maker { dims: x_dims.to_vec(), window: *window, winners, y: y.clone(), gz, through };
        Ok((Pending::new::<M>(x_dims, maker), scale_shift, Later::Known(product)))
    })
}

/// What computes the numbers of some images from those of others.
type OnImages<'a, T> = dyn Fn(&[T], &mut [T]) + Sync + 'a;

/// A window between two maps.
struct Shape<'a> {
    input: Map,
    output: Map,
    window: &'a Window,
    /// Images of a piece.
    images: usize,
}

impl<'a> Shape<'a> {
    fn of(dims: &[usize], window: &'a Window) -> Result<Self> {
        let (input, output) = maps(dims, window)?;
        let images = images_per_piece(input.n, input.image().max(output.image()));
        Ok(Self { input, output, window, images })
    }

    /// Refuses winners, a pool's output and what arrives behind its norm of another shape than the output's.
    fn expect(&self, winners: Option<&Tensor>, (y, gz): (&Tensor, &Tensor)) -> Result<()> {
        let dims = self.output.dims();
        expect_dims("output of a pool", y, &dims)?;
        expect_dims("gradient of a batch norm", gz, &dims)?;
        winners.map_or(Ok(()), |winners| expect_dims("winners of a pool", winners, &dims))
    }

    fn work(&self) -> usize {
        self.output.len() * self.window.taps()
    }

    fn input<'s, T>(&self, x: &'s [T], i: usize) -> &'s [T] {
        piece(x, i, self.images * self.input.image())
    }

    fn output<'s, T>(&self, y: &'s [T], i: usize) -> &'s [T] {
        piece(y, i, self.images * self.output.image())
    }

    /// The pool's output, its winners, and its moments.
    fn forward<M: Stored>(&self, isa: Isa, x: &[M], pool: Pool) -> (Vec<M>, Option<Vec<u8>>, Statistics) {
        let (len, c) = (self.images * self.output.image(), self.output.c);
        let (y, winners, parts) = match pool {
            Pool::Max => {
                let maxima = Maxima::new(&self.input, &self.output, self.window);
                let write = |i, y: &mut [M], winners: &mut [u8]| {
                    wide(self.input(x, i), |x| computed(y, |y| maxima.write(isa, x, y, winners)));
                    PieceMoments::of(isa, y, c)
                };
                let (y, winners, parts) =
                    overwrite_pair_and_collect(self.output.len(), len, self.work(), write);
                (y, Some(winners), parts)
            }
            Pool::Average => {
                let means = Means::forward(&self.input, &self.output, self.window);
                let write = |i, y: &mut [M]| {
                    wide(self.input(x, i), |x| computed(y, |y| means.write(isa, x, y)));
                    PieceMoments::of(isa, y, c)
                };
                let (y, parts) = overwrite_and_collect(self.output.len(), len, self.work(), write);
                (y, None, parts)
            }
        };
        (y, winners, PieceMoments::merge(parts, c))
    }

    /// What the pieces of an output that nobody keeps say together with the gradient behind its norm.
    fn probe<M: Stored>(&self, isa: Isa, gz: &[M], x: &[M], pool: Pool) -> Vec<PieceProducts> {
        let (pieces, c) = (self.input.n.div_ceil(self.images), self.output.c);
        let outputs = Scratch::new();
        let products = |i, write: &OnImages<'_, M::Real>| {
            let gz = self.output(gz, i);
            outputs.lend(gz.len(), |y| {
                wide(self.input(x, i), |x| write(x, y));
                PieceProducts::of(isa, y, gz, c)
            })
        };
        match pool {
            Pool::Max => {
                let maxima = Maxima::new(&self.input, &self.output, self.window);
                collect(pieces, self.work(), |i| {
                    products(i, &|x, y| maxima.write(isa, x, y, &mut vec![0; y.len()]))
                })
            }
            Pool::Average => {
                let means = Means::forward(&self.input, &self.output, self.window);
                collect(pieces, self.work(), |i| products(i, &|x, y| means.write(isa, x, y)))
            }
        }
    }

    /// What writes a piece of the gradient at the input; `(y, gz)` are the norm's input and what arrives behind it.
    fn backward<'s, M: Stored>(
        &'s self,
        isa: Isa,
        (y, gz): (&'s [M], &'s [M]),
        winners: Option<&'s [u8]>,
        through: &'s Through<M::Real>,
    ) -> impl Fn(usize, &mut [M]) + Sync + Send + 's {
        let gradients = Scratch::new();
        let way = match winners {
            Some(winners) => Way::Shares(Shares::new(&self.input, &self.output, self.window), winners),
            None => Way::Means(Means::backward(&self.input, &self.output, self.window)),
        };
        move |i, gx| {
            let (y, gz) = (self.output(y, i), self.output(gz, i));
            gradients.lend(y.len(), |gy| {
                through.write(isa, y, gz, gy);
                computed(gx, |gx| match &way {
                    Way::Shares(shares, winners) => shares.write(isa, gy, self.output(winners, i), gx),
                    Way::Means(means) => means.write(isa, gy, gx),
                });
            });
        }
    }
}

/// How a gradient goes back through a pool.
enum Way<'a, T> {
    /// To the winners.
    Shares(Shares, &'a [u8]),
    /// To all of a window.
    Means(Means<T>),
}

/// What a pending gradient will be made of.
struct Maker<T> {
    dims: Vec<usize>,
    window: Window,
    winners: Option<Tensor>,
    y: Tensor,
    gz: Tensor,
    through: Through<T>,
}

impl<M: Stored> pending::Maker<M> for Maker<M::Real> {
    fn make(&self, images: usize, then: Then<'_, M>) -> Result<Vec<Tensor>> {
        let shape = Shape { images, ..Shape::of(&self.dims, &self.window)? };
        let winners = self.winners.as_ref().map(|winners| winners_of(winners, &self.window)).transpose()?;
        let (y, gz) = (Values::of(&self.y)?, Values::of(&self.gz)?);
        let write = shape.backward::<M>(Isa::detect(), (&y, &gz), winners.as_deref(), &self.through);
        pending::hand_over(shape.input.n.div_ceil(images), shape.work(), write, then)?;
        Ok(Vec::new())
    }
}
