//! `max_pool`: the maximum of a window.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, fit, fitted, pool_cost, pool_footprint, pool_norm};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    kernels::pool::norm::Pool,
    layers::{MaxPool as Layer, PoolNorm, same},
};

/// The maximum of a k×k window; among equal ones the first in row-major order gets the gradient. A batch norm follows
/// where the space says so (DARTS in search), a `ReLU → 1×1 convolution → batch norm` comes first where channels change.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// Side of the window, odd.
    pub kernel: usize,
}

/// The word `max_pool`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("max_pool", "maximum of a k×k window", |arguments| {
        Box::new(MaxPool { kernel: arguments.size("kernel") })
    })
    .parameter(Parameter::kernel(3, 15))
    .examples(&[&[3]])
}

impl Candidate for MaxPool {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        let winners = (site.output().elements() as u64).div_ceil(4); // one byte each
        Ok(pool_cost(site, winners))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let (fit, window) = (fit(params, site)?, same(site, self.kernel, 1));
        Ok(match pool_norm(params, site)? {
            Some(norm) => fitted(fit, PoolNorm { pool: Pool::Max, window, norm }),
            None => fitted(fit, Layer(window)),
        })
    }

    fn footprint(&self, site: &Site, cost: &Cost, side: Side) -> Footprint {
        pool_footprint(site, cost.output.div_ceil(4), side)
    }
}
