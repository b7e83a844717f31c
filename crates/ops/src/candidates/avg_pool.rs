//! `avg_pool`: the average of a window.

use candle_core::Result;
use search_space::{Cost, Site, WordError};

use super::{Candidate, fit, fitted, pool_cost, pool_footprint, pool_norm};
use crate::{
    Definition, Footprint, Op, ParamBuilder, Parameter, Side,
    kernels::pool::norm::Pool,
    layers::{AveragePool, PoolNorm, same},
};

/// The average of a k×k window, its padding not counted. A batch norm follows where the space says so (DARTS in
/// search), a `ReLU → 1×1 convolution → batch norm` comes first where channels change.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool {
    /// Side of the window, odd.
    pub kernel: usize,
}

/// The word `avg_pool`.
#[must_use]
pub fn definition() -> Definition {
    Definition::new("avg_pool", "average of a k×k window, padding not counted", |arguments| {
        Box::new(AvgPool { kernel: arguments.size("kernel") })
    })
    .parameter(Parameter::kernel(3, 15))
    .examples(&[&[3]])
}

impl Candidate for AvgPool {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        Ok(pool_cost(site, 0))
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let (fit, window) = (fit(params, site)?, same(site, self.kernel, 1));
        Ok(match pool_norm(params, site)? {
            Some(norm) => fitted(fit, PoolNorm { pool: Pool::Average, window, norm }),
            None => fitted(fit, AveragePool(window)),
        })
    }

    fn footprint(&self, site: &Site, _: &Cost, side: Side) -> Footprint {
        pool_footprint(site, 0, side)
    }
}
