//! Batches to learn from: made by the host ahead of time, or gathered where a device holds the examples.
//!
//! Either way a batch is the same to the bit: the host draws, and a device does with the numbers what the host would.

use std::sync::Arc;

use candle_core::DType;
use data::{Batch, BatchPlan, Batches, Disturbance, Drawn, Draws, Normalize, Subset, batches, drawn};
use ops::{
    ParamStore,
    kernels::{
        batch::{Held, Packed, Row, Scale},
        gpu,
    },
};
use search_space::Shape;

use crate::Error;

/// Whether a device with so many free bytes holds examples that take `bytes`: those of under a quarter of them.
#[must_use]
pub fn resident(bytes: usize, free: usize) -> bool {
    bytes <= free / 4
}

/// What a device holds of the data that was last asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(Option<(Subset, Option<Arc<Examples>>)>);

/// All examples of a part.
#[derive(Debug)]
pub(crate) struct Examples {
    held: Held,
    labels: Vec<u32>,
    shape: Shape,
}

/// The batches of one epoch.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Made by the host.
    Made(Batches),
    /// Gathered by the device.
    Gathered { examples: Arc<Examples>, draws: Draws, normalize: Option<Normalize> },
}

impl Shelf {
    /// The batches of `subset` that `plan` lists, where `params` are.
    pub(crate) fn feed(
        &mut self,
        subset: &Subset,
        plan: BatchPlan,
        params: &ParamStore,
    ) -> Result<Feed, Error> {
        if params.dtype() == DType::F32
            && let Some(examples) = self.examples(subset, params)?
            && let Some(draws) = drawn(subset, &plan)?
        {
            return Ok(Feed::Gathered { examples, draws, normalize: plan.normalize });
        }
        Ok(Feed::Made(batches(subset, plan, params.dtype(), params.device())?))
    }

    /// What the device holds of the part that `subset` is of, put there when it is first asked for.
    fn examples(&mut self, subset: &Subset, params: &ParamStore) -> Result<Option<Arc<Examples>>, Error> {
        match &self.0 {
            Some((of, examples)) if of.shares_part(subset) => Ok(examples.clone()),
            _ => {
                let examples = Examples::hold(subset, params)?.map(Arc::new);
                self.0 = Some((subset.clone(), examples.clone()));
                Ok(examples)
            }
        }
    }
}

impl Examples {
    /// Reads every example and puts them on the device of `params`; nothing on the CPU, or where they take too much.
    fn hold(subset: &Subset, params: &ParamStore) -> Result<Option<Self>, Error> {
        let Some(free) = gpu::free_bytes(params.device())? else { return Ok(None) };
        let (n, shape) = (subset.part_len(), subset.info().shape);
        if !resident(n * shape.elements(), free) {
            return Ok(None);
        }
        let (mut packed, mut labels) = (Packed::with_capacity(n * shape.elements()), Vec::with_capacity(n));
        let mut example = vec![0.0; shape.elements()];
        for index in 0..n {
            labels.push(subset.read(index, &mut example)?);
            packed.push(&example);
            if !resident(packed.bytes(), free) {
                return Ok(None);
            }
        }
        tracing::info!(examples = n, bytes = packed.bytes(), "the device holds the examples");
        let (height, width) = shape.extent.plane();
        Ok(Some(Self { held: packed.hold((height, width, shape.channels), params.device())?, labels, shape }))
    }

    fn batch(&self, drawn: Drawn, normalize: Option<&Normalize>) -> Result<Batch, Error> {
        let Drawn { indices, disturbances } = drawn;
        let row = |(&index, disturbance): (&usize, Disturbance)| {
            let Disturbance { shift, mirrored, hole } = disturbance;
            Row { index, shift, mirrored, hole: hole.unwrap_or((0..0, 0..0)) }
        };
        let rows: Vec<Row> = indices.iter().zip(disturbances).map(row).collect();
        let scale = normalize.map(|Normalize { mean, deviation }| Scale { mean, deviation });
        let x = self.held.batch(&rows, scale)?.reshape(self.shape.batch_dims(rows.len()))?;
        Ok(Batch { x, y: indices.iter().map(|&index| self.labels[index]).collect(), indices })
    }
}

impl Iterator for Feed {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Made(batches) => batches.next().map(|batch| Ok(batch?)),
            Self::Gathered { examples, draws, normalize } => {
                draws.next().map(|drawn| examples.batch(drawn, normalize.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use data::{Augment, InMemory, TrainData, Values};
    use ops::kernels::gpu::{emulate, unavailable};
    use search_space::Extent;

    use super::*;

    type Outcome<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

    /// Eleven images of 6×5 pixels.
    fn images(values: Values) -> Outcome<TrainData> {
        let shape = Shape { extent: Extent::Image { height: 6, width: 5 }, channels: 3 };
        let part = data::Examples { values, labels: (0..11).map(|i| i % 2).collect() };
        let classes = vec!["even".to_owned(), "odd".to_owned()];
        Ok(TrainData::of(Arc::new(InMemory::new("images", shape, classes, part.clone(), part)?))?)
    }

    fn plan() -> BatchPlan {
        let augment = Some(Augment { crop_padding: 2, flip: true, cutout: 3, ..Augment::default() });
        let normalize = Normalize { mean: vec![0.4, 0.5, 0.6], deviation: vec![0.2, 0.3, 0.7] };
        BatchPlan { augment, normalize: Some(normalize), seed: 4, ..BatchPlan::shuffled(4, 3, 2) }
    }

    /// Values, labels and indices of a batch.
    type Seen = (Vec<f32>, Vec<u32>, Vec<usize>);

    fn all(feed: Feed) -> Outcome<Vec<Seen>> {
        feed.map(|batch| {
            let Batch { x, y, indices } = batch?;
            assert_eq!(x.dims(), [y.len(), 6, 5, 3]);
            Ok((x.flatten_all()?.to_vec1()?, y, indices))
        })
        .collect()
    }

    #[test]
    fn a_device_gathers_what_the_host_makes() -> Outcome {
        if let Some(reason) = unavailable() {
            eprintln!("{reason}");
            return Ok(());
        }
        let params = ParamStore::new(DType::F32, &Device::Cpu);
        let bytes = Values::Bytes { data: (0..990).map(|i| (i * 7 % 256) as u8).collect(), full: 255 };
        let floats = Values::Floats((0..990u16).map(|i| f32::from(i).sin()).collect());
        for data in [images(bytes)?, images(floats)?] {
            let plans = [plan(), BatchPlan { first_step: 2, ..plan() }, BatchPlan::sequential(3)];
            for plan in plans {
                let made = batches(data.subset(), plan.clone(), DType::F32, &Device::Cpu)?;
                let expected = all(Feed::Made(made))?;
                let found = emulate(|| -> Outcome<_> {
                    let feed = Shelf::default().feed(data.subset(), plan, &params)?;
                    assert!(matches!(feed, Feed::Gathered { .. }));
                    all(feed)
                })?;
                assert_eq!(found, expected);
            }
        }
        Ok(())
    }

    #[test]
    fn a_part_is_put_on_a_device_once() -> Outcome {
        let data = images(Values::Bytes { data: vec![3; 990], full: 255 })?;
        let params = ParamStore::new(DType::F32, &Device::Cpu);
        let held = |shelf: &mut Shelf, data: &TrainData| {
            emulate(|| match shelf.feed(data.subset(), plan(), &params) {
                Ok(Feed::Gathered { examples, .. }) => Some(Arc::as_ptr(&examples)),
                _ => None,
            })
        };
        let mut shelf = Shelf::default();
        let first = held(&mut shelf, &data);
        assert!(first.is_some());
        assert_eq!(held(&mut shelf, &data), first);
        let other = images(Values::Bytes { data: vec![3; 990], full: 255 })?;
        let kept = shelf.0.clone(); // so that the memory is not used anew
        assert_ne!(held(&mut shelf, &other), first);
        drop(kept);
        Ok(())
    }

    #[test]
    fn the_host_makes_what_a_device_cannot() -> Outcome {
        let data = images(Values::Bytes { data: vec![3; 990], full: 255 })?;
        let feed =
            |dtype, plan| Shelf::default().feed(data.subset(), plan, &ParamStore::new(dtype, &Device::Cpu));
        let augment = Some(Augment { rand_ops: 1, ..Augment::default() });
        assert!(matches!(feed(DType::F32, plan())?, Feed::Made(_)));
        let drawn = BatchPlan { augment, ..plan() };
        assert!(matches!(emulate(|| feed(DType::F32, drawn))?, Feed::Made(_)));
        assert!(matches!(emulate(|| feed(DType::F64, plan()))?, Feed::Made(_)));
        Ok(())
    }
}
