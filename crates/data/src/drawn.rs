//! Batches as numbers: which examples, and what is done to each. For whoever holds the examples already.

use search_space::Shape;

use crate::chance::{Use, rng};
use crate::{Augment, BatchPlan, Disturbance, Error, Subset};

/// A batch that nobody has made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Where the examples stand in their part, `N`.
    pub indices: Vec<usize>,
    /// What is done to each, `N`.
    pub disturbances: Vec<Disturbance>,
}

/// The batches of one epoch; see [`drawn`].
#[derive(Clone, Debug)]
pub struct Draws {
    /// What is left of the epoch, in order.
    indices: std::vec::IntoIter<usize>,
    batch: usize,
    left: usize,
    augment: Augment,
    seed: u64,
    epoch: u64,
    shape: Shape,
}

/// The batches that [`batches`](crate::batches) would make of `subset`, without their values: a few numbers for each
/// example, drawn by the same generators. None where a disturbance takes more than that: RandAugment.
///
/// # Errors
/// As [`batches`](crate::batches).
pub fn drawn(subset: &Subset, plan: &BatchPlan) -> Result<Option<Draws>, Error> {
    let (shape, augment) = (subset.info().shape, plan.augment.unwrap_or_default());
    plan.check(shape)?;
    if augment.rand_ops > 0 {
        return Ok(None);
    }
    let mut indices = plan.ordered(subset).into_iter();
    let skipped = plan.first_step.min(plan.steps(subset.len()));
    if skipped > 0 {
        indices.nth((skipped * plan.batch).min(subset.len()) - 1);
    }
    let left = plan.steps(subset.len()) - skipped;
    Ok(Some(Draws { indices, batch: plan.batch, left, augment, seed: plan.seed, epoch: plan.epoch(), shape }))
}

impl Iterator for Draws {
    type Item = Drawn;

    fn next(&mut self) -> Option<Drawn> {
        self.left = self.left.checked_sub(1)?;
        let indices: Vec<usize> = self.indices.by_ref().take(self.batch).collect();
        let disturbance = |&index: &usize| {
            let mut rng = rng(self.seed, Use::Augment, self.epoch, index as u64);
            self.augment.draw(self.shape, &mut rng).expect("RandAugment was refused")
        };
        Some(Drawn { disturbances: indices.iter().map(disturbance).collect(), indices })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Draws {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device};
    use search_space::Extent;

    use super::*;
    use crate::{Examples, InMemory, Order, Tail, TrainData, Values, batches};

    /// Ten images of 4×3 pixels, whose values say which image, row and column they are of.
    fn data() -> TrainData {
        let shape = Shape { extent: Extent::Image { height: 4, width: 3 }, channels: 1 };
        let part =
            || Examples { values: Values::Floats((1..=120u8).map(f32::from).collect()), labels: vec![0; 10] };
        let data = InMemory::new("counted", shape, vec!["only".into()], part(), part());
        TrainData::of(Arc::new(data.expect("valid examples"))).expect("not empty")
    }

    /// The value of a disturbed example of `data` at a place.
    fn value(index: usize, Disturbance { shift, mirrored, hole }: &Disturbance, y: usize, x: usize) -> f32 {
        if hole.as_ref().is_some_and(|(rows, columns)| rows.contains(&y) && columns.contains(&x)) {
            return 0.0;
        }
        let x = if *mirrored { 2 - x } else { x };
        let (y, x) = (y as isize + shift.0, x as isize + shift.1);
        let inside = (0..4).contains(&y) && (0..3).contains(&x);
        if inside { (index as isize * 12 + y * 3 + x + 1) as f32 } else { 0.0 }
    }

    #[test]
    fn what_is_drawn_says_what_batches_hold() -> Result<(), Box<dyn std::error::Error>> {
        let data = data();
        let augment = Some(Augment { crop_padding: 2, flip: true, cutout: 2, ..Augment::default() });
        let shuffled = BatchPlan { augment, seed: 9, ..BatchPlan::shuffled(4, 7, 2) };
        let plans = [
            BatchPlan::sequential(4),
            BatchPlan { tail: Tail::Drop, ..shuffled.clone() },
            BatchPlan { first_step: 2, ..shuffled.clone() },
            BatchPlan { first_step: 7, order: Order::Sequential, ..shuffled.clone() },
            shuffled,
        ];
        for plan in plans {
            let draws = drawn(data.subset(), &plan)?.expect("no RandAugment");
            let made = batches(data.subset(), plan, DType::F32, &Device::Cpu)?;
            assert_eq!(draws.len(), made.len());
            let made = made.collect::<Result<Vec<_>, _>>()?;
            let draws: Vec<Drawn> = draws.collect();
            assert_eq!(draws.len(), made.len());
            for (Drawn { indices, disturbances }, made) in draws.iter().zip(made) {
                assert_eq!(*indices, made.indices);
                let places = indices.iter().zip(disturbances).flat_map(|(index, disturbance)| {
                    (0..12).map(move |at| value(*index, disturbance, at / 3, at % 3))
                });
                assert_eq!(places.collect::<Vec<_>>(), made.x.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn rand_augment_is_more_than_a_few_numbers() -> Result<(), Error> {
        let augment = Some(Augment { rand_ops: 2, ..Augment::default() });
        assert!(drawn(data().subset(), &BatchPlan { augment, ..BatchPlan::sequential(2) })?.is_none());
        assert!(drawn(data().subset(), &BatchPlan::sequential(0)).is_err());
        Ok(())
    }
}
