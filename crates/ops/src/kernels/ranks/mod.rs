//! Several devices that learn alike: each has a replica of the weights and its part of every batch, and what they find
//! they bring together.
//!
//! A rank is one of them, seen from the one thread that drives it. Ranks meet on the host, where each lays down what it
//! has and takes up what all have; whoever fails leaves, so that nobody waits for the dead. Means over the ranks are taken
//! there, in the order of the ranks, or, of tensors on NVIDIA devices and with the feature `nccl`, by NCCL on the devices'
//! own streams; then the ranks meet only to be sure that all of them come. Either way every rank gets the same bytes.

mod meeting;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(test)]
mod tests;

use std::{panic::resume_unwind, sync::Arc, thread};

use candle_core::{Device, Result, Tensor, bail};
use meeting::Meeting;

use super::{gpu, sum, threads::lend_a_hand};

/// One of several devices that learn alike. It is of use on one thread at a time.
#[derive(Debug)]
pub struct Rank {
    index: usize,
    meeting: Arc<Meeting>,
    #[cfg(feature = "nccl")]
    comm: Option<nccl::Comm>,
}

/// All ranks together, for whoever starts their work.
#[derive(Clone, Debug)]
pub struct Team(Arc<Meeting>);

/// Whether means over NVIDIA devices are taken by NCCL: the feature `nccl`. Without it they go by way of the host.
#[must_use]
pub fn nccl_is_available() -> bool {
    cfg!(feature = "nccl")
}

/// A rank for each of `devices`, in their order, and the team that they are.
///
/// # Errors
/// There is no device, or NCCL cannot join them.
pub fn ranks(devices: &[Device]) -> Result<(Team, Vec<Rank>)> {
    if devices.is_empty() {
        bail!("found no device, expected at least one");
    }
    let meeting = Arc::new(Meeting::new(devices.len()));
    #[cfg(feature = "nccl")]
    let mut comms = nccl::join(devices)?.into_iter();
    let rank = |index| Rank {
        index,
        meeting: meeting.clone(),
        #[cfg(feature = "nccl")]
        comm: comms.next(),
    };
    Ok((Team(meeting.clone()), (0..devices.len()).map(rank).collect()))
}

impl Rank {
    /// From 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.meeting.count()
    }

    /// The means over all ranks of what each of them calls this with: as many tensors, of the same shapes and types, on
    /// its own device. Waits until all have come; of NVIDIA devices with NCCL, only until all have come, not for the means.
    ///
    /// # Errors
    /// Another rank has failed, or their tensors differ in number or shape.
    pub fn mean(&self, tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
        #[cfg(feature = "nccl")]
        if let Some(comm) = self.comm.as_ref().filter(|_| tensors.iter().any(|x| x.device().is_cuda())) {
            let room = comm.room(tensors)?;
            // A rank that waits on its device for one that never comes would wait forever: here it hears of it.
            self.meeting.exchange(self.index, Vec::new())?;
            return comm.mean(tensors, room);
        }
        let mine = tensors.iter().map(|tensor| tensor.to_device(&Device::Cpu)?.contiguous());
        let all = self.meeting.exchange(self.index, mine.collect::<Result<_>>()?)?;
        let mean = |(i, mine): (usize, &&Tensor)| {
            let mut sum = of(&all, 0, i, mine)?.clone();
            for rank in 1..all.len() {
                sum = sum::add(&sum, of(&all, rank, i, mine)?)?;
            }
            sum::scale(&sum, 1.0 / all.len() as f64)?.to_device(mine.device())
        };
        tensors.iter().enumerate().map(mean).collect()
    }

    /// The sums over all ranks of as many numbers from each, in the order of the ranks.
    ///
    /// # Errors
    /// Another rank has failed, or brings another number of numbers.
    pub fn sum_numbers(&self, numbers: &[f64]) -> Result<Vec<f64>> {
        let all = self.meeting.exchange(self.index, vec![Tensor::new(numbers, &Device::Cpu)?])?;
        let mut sums = vec![0.0; numbers.len()];
        for rank in 0..all.len() {
            let theirs: Vec<f64> = of(&all, rank, 0, &all[self.index][0])?.to_vec1()?;
            sums.iter_mut().zip(theirs).for_each(|(sum, number)| *sum += number);
        }
        Ok(sums)
    }
}

/// What a rank brought, if it is what `mine` is.
fn of<'a>(all: &'a [Vec<Tensor>], rank: usize, i: usize, mine: &Tensor) -> Result<&'a Tensor> {
    match all[rank].get(i) {
        Some(theirs) if theirs.dims() == mine.dims() && theirs.dtype() == mine.dtype() => Ok(theirs),
        Some(theirs) => bail!(
            "rank {rank} brings {:?} {:?} where another has {:?} {:?}; expected alike from all",
            theirs.dtype(),
            theirs.dims(),
            mine.dtype(),
            mine.dims()
        ),
        None => {
            bail!("rank {rank} brings {} tensors, another more; expected alike from all", all[rank].len())
        }
    }
}

impl Team {
    /// Has all ranks do their part at once, the first on this thread, each other on one of its own, and returns what each
    /// came to. `members` has what the part of each rank is done with, in their order. A rank that fails leaves the team,
    /// which is of no use from then on.
    pub fn run<T: Send, R: Send, E: Send>(
        &self,
        members: Vec<T>,
        part: impl Fn(T) -> std::result::Result<R, E> + Sync,
    ) -> Vec<std::result::Result<R, E>> {
        let (emulates, launches) = (gpu::emulates(), gpu::launches());
        let (meeting, part) = (&*self.0, &part);
        let as_rank = move |index, member| {
            gpu::set_launches(launches);
            let leaving = Leaving { meeting, index };
            let outcome = part(member);
            if outcome.is_ok() {
                std::mem::forget(leaving);
            }
            outcome
        };
        thread::scope(|scope| {
            let mut members = members.into_iter().enumerate();
            let first = members.next();
            let others: Vec<_> = members
                .map(|(index, member)| {
                    scope.spawn(move || gpu::emulate_where(emulates, || as_rank(index, member)))
                })
                .collect();
            let mut outcomes: Vec<_> =
                first.into_iter().map(|(index, member)| as_rank(index, member)).collect();
            for other in others {
                // Their work may need this thread, where it is of rayon's pool.
                while !other.is_finished() {
                    lend_a_hand();
                }
                outcomes.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            outcomes
        })
    }

    /// The rank that failed first, if one has.
    #[must_use]
    pub fn failed(&self) -> Option<usize> {
        self.0.left()
    }
}

/// Leaves when dropped: after an error, and in a panic.
struct Leaving<'m> {
    meeting: &'m Meeting,
    index: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.meeting.leave(self.index);
    }
}
