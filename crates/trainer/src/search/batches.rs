//! Which examples a search sees, and when.

use data::{Batch, BatchPlan, SearchData, batches};
use ops::kernels::ranks::Rank;

use super::Search;
use crate::{Error, Stream, evaluate};

impl Search<'_> {
    pub(super) fn weight_batch(&mut self, data: &SearchData) -> Result<Batch, Error> {
        let plan = self.weight_plan(data);
        let stream = match &mut self.weight_batches {
            Some(stream) => stream,
            none => none.insert(self.shelf.feed(data.weights(), plan, &self.params)?),
        };
        let batch = stream.next().expect("an epoch has as many batches as its plan has steps")?;
        self.part(batch)
    }

    /// The next batch of the architecture's own stream: shuffled passes over its part, one after the other, whatever
    /// the weights' epochs are.
    pub(super) fn arch_batch(&mut self, data: &SearchData) -> Result<Batch, Error> {
        if let Some(batch) = self.arch_batches.as_mut().and_then(Iterator::next) {
            return self.part(batch?);
        }
        let examples = data.architecture().len();
        let steps = self.plan(Stream::ArchitectureBatches, 0, examples).steps(examples) as u64;
        let (epoch, first_step) = (self.at.arch_steps / steps, (self.at.arch_steps % steps) as usize);
        let plan =
            BatchPlan { first_step, ..self.plan(Stream::ArchitectureBatches, epoch as usize, examples) };
        let stream = self.shelf.feed(data.architecture(), plan, &self.params)?;
        let batch = self.arch_batches.insert(stream).next();
        self.part(batch.expect("a part is not empty")?)
    }

    /// A batch of the architecture's part, the same for all that one epoch measures.
    pub(super) fn held_batch(&self, data: &SearchData) -> Result<Batch, Error> {
        let plan = BatchPlan {
            normalize: Some(self.normalize.clone()),
            ..BatchPlan::shuffled(self.config.batch, self.seed.of(Stream::Watch), self.at.epoch as u64)
        };
        let batch = batches(data.architecture(), plan, self.params.dtype(), self.params.device())?.next();
        Ok(batch.expect("a part is not empty")?)
    }

    pub(super) fn weight_plan(&self, data: &SearchData) -> BatchPlan {
        let plan = self.plan(Stream::WeightBatches, self.at.epoch, data.weights().len());
        BatchPlan { first_step: self.at.step, ..plan }
    }

    fn plan(&self, stream: Stream, epoch: usize, examples: usize) -> BatchPlan {
        BatchPlan {
            tail: evaluate::tail(examples, self.config.batch, self.rank.as_ref().map_or(1, Rank::count)),
            normalize: Some(self.normalize.clone()),
            augment: Some(self.config.augment),
            ..BatchPlan::shuffled(self.config.batch, self.seed.of(stream), epoch as u64)
        }
    }
}
