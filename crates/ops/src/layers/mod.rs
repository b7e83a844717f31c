//! The pieces operations are made of, and the three ways to put them together.
//!
//! A layer keeps what its own backward needs and no more: a convolution its input (which it shares with whoever made
//! it), a batch norm its input and its moments, an average pool only a shape. Layers compose as values:
//! `(A, B)` runs `A`, then `B`; `Option<A>` runs `A` or nothing; [`Sum`]`(A, B)` adds two paths. The saved state
//! composes likewise, so an operation's backward follows from its type.

mod activation;
mod batch_norm;
mod compose;
mod conv;
mod conv_norm;
mod factorized_reduce;
mod head;
mod linear;
mod pool;
mod pool_norm;
pub mod readers;
mod separable;

use search_space::{Norm, Rank, Site};

pub use activation::Activation;
pub use batch_norm::{BatchNorm, NormSaved};
pub use compose::{Identity, Sum};
pub use conv::{Conv, Depthwise};
pub use conv_norm::{ConvNorm, ConvNormSaved};
pub use factorized_reduce::{Concat, FactorizedReduce, ReduceSaved};
pub(crate) use head::AUXILIARY;
pub use head::{AuxiliaryHead, Classifier, Dropout, auxiliary_head, classifier};
pub use linear::Linear;
pub use pool::{AveragePool, CornerPool, GlobalPool, MaxPool};
pub use pool_norm::{PoolNorm, PoolNormSaved};
pub use separable::{Separable, SeparablePair, SeparableSaved};

use crate::{
    ParamBuilder,
    kernels::{Prelude, Window},
};

/// The "same" window of `kernel` taps along every spatial axis of `site`, moving by the site's stride.
#[must_use]
pub fn same(site: &Site, kernel: usize, dilation: usize) -> Window {
    let axes = |n| axes(site.extent.rank(), n);
    Window::same(axes(kernel), axes(site.stride), axes(dilation))
}

/// `n` along every spatial axis of `rank`, 1 along the axes it lacks: `(n, n)`, `(1, n)` or `(1, 1)`.
#[must_use]
pub fn axes(rank: Rank, n: usize) -> (usize, usize) {
    match rank {
        Rank::Flat => (1, 1),
        Rank::Series => (1, n),
        Rank::Image => (n, n),
    }
}

/// A convolution and a batch norm over its output, named `conv` and `bn`.
///
/// # Errors
/// A name is taken.
pub fn conv_norm(
    params: &mut ParamBuilder<'_>,
    channels: (usize, usize),
    window: Window,
    prelude: Prelude,
    norm: &Norm,
) -> candle_core::Result<ConvNorm> {
    let conv = Conv::before_norm(&mut params.scope("conv"), channels, window, prelude, norm)?;
    Ok(ConvNorm { conv, norm: BatchNorm::new(&mut params.scope("bn"), channels.1, norm)? })
}

/// The norm of blocks whose shape no space chooses: scale and shift, and no bias in front of them.
#[must_use]
pub fn always_affine(norm: &Norm) -> Norm {
    Norm { affine: true, conv_bias: false, ..*norm }
}
