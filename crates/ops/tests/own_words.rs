//! A program's own operation, with candle's autograd for a backward.

use candle_core::{DType, Result, Tensor};
use ops::{Autograd, Candidate, Catalog, Definition, Op, ParamBuilder};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{Cost, Extent, Norm, Site, Vocabulary, WordError};

use crate::{
    battery::differences_agree,
    running::{Running, resolve, uniform},
};

/// `y = x·σ(βx)`, one β per channel.
struct Swish;

impl Candidate for Swish {
    fn cost(&self, site: &Site) -> std::result::Result<Cost, WordError> {
        if site.input() != site.output() {
            return Err(WordError {
                found: "`swish` on a changing shape".into(),
                accepted: "it keeps it".into(),
            });
        }
        let elements = site.input().elements() as u64;
        Ok(Cost { params: site.c_in as u64, macs: 0, saved: 4 * elements, output: elements })
    }

    fn build(&self, site: &Site, params: &mut ParamBuilder<'_>) -> Result<Box<dyn Op>> {
        let beta = params.constant("beta", site.c_in, 1.0)?;
        Ok(Box::new(Autograd::new(vec![beta], swish)))
    }
}

fn swish(x: &Tensor, weights: &[Tensor]) -> Result<Tensor> {
    let gate = (x.broadcast_mul(&weights[0])?.neg()?.exp()? + 1.0)?.recip()?;
    x * gate
}

#[test]
fn a_registered_word_is_resolved_counted_and_run() -> Result<()> {
    let mut catalog = Catalog::standard();
    catalog.register(Definition::new("swish", "x·σ(βx)", |_| Box::new(Swish))).expect("the word is free");
    let extent = Extent::Series { length: 5 };
    let site = Site { extent, c_in: 3, c_out: 3, stride: 1, norm: Norm::default() };
    assert!(catalog.words().iter().any(|word| word.name == "swish"));
    assert_eq!(
        catalog.cost(&resolve(&catalog, "swish", extent.rank()), &site).map(|cost| cost.params),
        Ok(3)
    );
    let mut running = Running::build(&catalog, "swish", &site, DType::F64);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (x, gy) = (uniform(&[2, 5, 3], &mut rng)?, uniform(&[2, 5, 3], &mut rng)?);
    differences_agree("swish", &mut running, &x, &gy)
}
