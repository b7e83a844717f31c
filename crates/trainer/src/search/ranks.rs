//! A search on several devices: each moves its replica of the weights and of the logits by the same steps.
//!
//! Every rank is a whole search with the same seed, so that all begin alike, draw the same noise and go through the same
//! batches, of which each takes its part. What their passes find is brought together inside [`Task`](crate::bilevel::Task):
//! gradients, slopes of gates, losses, and the moments that batch norms report. A batch norm computes with the moments of
//! its rank's part, as PyTorch's `DistributedDataParallel` does; its running statistics move by the mean of all ranks'.
//! What an epoch measures at its end, the first rank measures alone, and the others conclude the epoch with its summary.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use controller::Estimator;
use data::{Batch, SearchData};
use ops::{
    Catalog,
    kernels::ranks::{Rank, Team, ranks},
};
use search_space::{Layout, Rule, Space};
use sha2::{Digest, Sha256};

use super::Search;
use crate::{Error, SearchConfig};

/// All ranks but the first, and the team that they are with it.
pub(super) struct Others<'c> {
    team: Team,
    searches: Vec<Search<'c>>,
}

impl<'c> Search<'c> {
    /// A search as [`Search::new`] makes it, on all of `devices` at once: each keeps a replica of everything and takes an
    /// equal part of every batch. A smaller last batch is left out where it has no such parts.
    ///
    /// Noise and order of the batches are those of one device. One device is one rank, and computes what
    /// [`Search::new`]'s does, to the byte.
    ///
    /// # Errors
    /// As [`Search::new`]; a batch that has no equal parts; or NCCL cannot join the devices.
    pub fn across(
        space: &Space,
        catalog: &'c Catalog,
        data: &SearchData,
        config: SearchConfig,
        devices: &[Device],
    ) -> Result<Self, Error> {
        let search = |device| Self::new(space, catalog, data, config.clone(), device);
        Self::joined(devices.iter().map(search).collect::<Result<_, _>>()?, data, devices)
    }

    /// [`Search::across`] of a layout made by other means, as [`Search::from_layout`].
    ///
    /// # Errors
    /// As [`Search::across`].
    pub fn from_layout_across(
        layout: &Layout,
        rule: Rule,
        catalog: &'c Catalog,
        data: &SearchData,
        config: SearchConfig,
        devices: &[Device],
    ) -> Result<Self, Error> {
        let search = |device| Self::from_layout(layout.clone(), rule, catalog, data, config.clone(), device);
        Self::joined(devices.iter().map(search).collect::<Result<_, _>>()?, data, devices)
    }

    fn joined(mut searches: Vec<Self>, data: &SearchData, devices: &[Device]) -> Result<Self, Error> {
        let (team, ranks) = ranks(devices)?;
        for (search, rank) in searches.iter_mut().zip(ranks) {
            search.become_rank(rank, data)?;
        }
        let mut first = searches.remove(0); // no team is of nobody
        first.others = Some(Others { team, searches });
        Ok(first)
    }

    fn become_rank(&mut self, rank: Rank, data: &SearchData) -> Result<(), Error> {
        let (ranks, batch) = (rank.count(), self.config.batch);
        for examples in [data.weights().len(), data.architecture().len()] {
            let batch = batch.min(examples);
            if !batch.is_multiple_of(ranks) {
                return Err(Error::Uneven { batch, ranks });
            }
        }
        self.rank = Some(rank);
        self.steps = self.weight_plan(data).steps(data.weights().len());
        Ok(())
    }

    pub(super) fn take_estimator(&mut self, estimator: &Arc<dyn Estimator>) {
        self.estimator = estimator.clone();
        let others = self.others.iter_mut().flat_map(|others| &mut others.searches);
        others.for_each(|other| other.take_estimator(estimator));
    }

    pub(super) fn take_maps(&mut self, maps: DType) {
        self.params = self.params.clone().with_maps(maps);
        let others = self.others.iter_mut().flat_map(|others| &mut others.searches);
        others.for_each(|other| other.take_maps(maps));
    }

    /// Does to every other rank what was done to the first.
    pub(super) fn each_other<E>(&mut self, f: impl Fn(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.others.iter_mut().flat_map(|others| &mut others.searches).try_for_each(f)
    }

    /// One bilevel step of all ranks at once; returns the norm of the weights' gradient.
    pub(super) fn step_on_all(&mut self, data: &SearchData) -> Result<f64, Error> {
        let Some(Others { team, mut searches }) = self.others.take() else { return self.step_here(data) };
        let members = std::iter::once(&mut *self).chain(searches.iter_mut()).collect();
        let mut outcomes = team.run(members, |search: &mut Self| search.step_here(data));
        let (failed, of) = (team.failed(), outcomes.len());
        self.others = Some(Others { team, searches });
        match failed {
            None => outcomes.swap_remove(0),
            // The others only say that it has failed.
            Some(rank) => {
                outcomes.swap_remove(rank).map_err(|error| Error::Rank { rank, of, source: Box::new(error) })
            }
        }
    }

    /// The rank's part of a batch; all of it where there are no ranks.
    pub(super) fn part(&self, batch: Batch) -> Result<Batch, Error> {
        let Some(rank) = &self.rank else { return Ok(batch) };
        let len = batch.y.len() / rank.count();
        let from = rank.index() * len;
        Ok(Batch {
            x: batch.x.narrow(0, from, len)?,
            y: batch.y[from..from + len].to_vec(),
            indices: batch.indices[from..from + len].to_vec(),
        })
    }

    /// Makes sure that all ranks have the same logits, weights, statistics and velocities, to the byte.
    pub(super) fn compare_ranks(&self) -> Result<(), Error> {
        let Some(others) = &self.others else { return Ok(()) };
        let mine = self.replica()?;
        for (i, other) in others.searches.iter().enumerate() {
            for ((what, expected), (_, found)) in mine.iter().zip(other.replica()?) {
                if found != *expected {
                    return Err(Error::Apart { epoch: self.at.epoch, rank: i + 1, what: what.clone() });
                }
            }
        }
        Ok(())
    }

    /// Digests of all that must be the same on every rank, each with its name.
    fn replica(&self) -> Result<Vec<(String, [u8; 32])>, Error> {
        let logits = (0..self.arch.len()).map(|group| {
            let name = format!("logits of `{}`", self.arch.name(group));
            Ok((name, digest([self.arch.logits(group)])?))
        });
        let mut digests = logits.collect::<Result<Vec<_>, Error>>()?;
        let edges = self.edge_params().into_iter().flat_map(|edges| edges.logits());
        digests.push(("logits of edges".to_owned(), digest(edges)?));
        let weights = self.params.tensors();
        digests.push(("weights or statistics".to_owned(), digest(weights.map(|(_, tensor)| tensor))?));
        let velocities = self.params.weights().filter_map(|(id, ..)| self.sgd.velocity(id));
        digests.push(("velocities".to_owned(), digest(velocities)?));
        Ok(digests)
    }
}

/// Of the values of all tensors, to the bit. Waits for the device.
fn digest<'t>(tensors: impl IntoIterator<Item = &'t Tensor>) -> Result<[u8; 32], Error> {
    let mut digest = Sha256::new();
    for tensor in tensors {
        // Every `f32` is an `f64`, and no two are the same one.
        let values: Vec<f64> = tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?; // host sync
        values.iter().for_each(|value| digest.update(value.to_le_bytes()));
    }
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests;
