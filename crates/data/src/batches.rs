//! Batches in a given order, made ahead of time on one background thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::{panic::resume_unwind, sync::Arc, thread, time::Duration};

use candle_core::{DType, Device, Tensor};
use rand::seq::SliceRandom;
use search_space::Shape;

use crate::chance::{Use, rng};
use crate::{Augment, Error, ErrorKind, Normalize, Subset};

/// Batches made before they are asked for.
const AHEAD: usize = 2;

/// Examples that are learned from together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `(N, H, W, C)`, `(N, L, C)` or `(N, C)`.
    pub x: Tensor,
    /// The labels, `N`.
    pub y: Vec<u32>,
    /// Where the examples stand in their part, `N`.
    pub indices: Vec<usize>,
}

/// Which batches one epoch has, and what is in them.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchPlan {
    /// Examples in a batch; at least 1.
    pub batch: usize,
    /// Their order.
    pub order: Order,
    /// What becomes of examples that do not fill a batch.
    pub tail: Tail,
    /// Subtracted and divided by, where given.
    pub normalize: Option<Normalize>,
    /// Disturbances, where given: functions of `seed`, the epoch of `order` (0 if sequential) and the example.
    pub augment: Option<Augment>,
    /// Of the disturbances; the order has its own.
    pub seed: u64,
    /// Batches of the epoch to leave out, because an interrupted run has seen them.
    pub first_step: usize,
}

/// In which order an epoch goes through its subset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the subset has it.
    Sequential,
    /// Every example once, in an order drawn for `(seed, epoch)`.
    Shuffled {
        /// Of the run.
        seed: u64,
        /// Of the run, from 0.
        epoch: u64,
    },
}

/// What becomes of the examples that do not fill a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// They make a smaller one, the last.
    #[default]
    Keep,
    /// They are left out.
    Drop,
}

/// The batches of one epoch; see [`batches`].
#[derive(Debug)]
pub struct Batches {
    ready: Option<Receiver<Result<Made, Error>>>,
    worker: Option<thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    left: usize,
    shape: Shape,
    dtype: DType,
    device: Device,
}

/// The batches of `subset` that `plan` lists, on `device`, in `dtype` (`F32` or `F64`).
///
/// One thread prepares two batches ahead; what a batch holds depends on `subset`, `plan` and its number alone.
/// Values are prepared in `f32` and widened. Dropping the iterator ends the thread before it returns.
///
/// # Errors
/// If the batch size is 0, the augmentation or the normalization does not fit the shape, or no thread can be had;
/// the iterator, if a label is no class or the device has no room.
pub fn batches(subset: &Subset, plan: BatchPlan, dtype: DType, device: &Device) -> Result<Batches, Error> {
    let shape = subset.info().shape;
    plan.check(shape)?;
    let left = plan.steps(subset.len()).saturating_sub(plan.first_step);
    let (sender, ready) = sync_channel(AHEAD);
    let stop = Arc::new(AtomicBool::new(false));
    let (subset, stopped) = (subset.clone(), stop.clone());
    let worker = thread::Builder::new()
        .name("batches".into())
        .spawn(move || prepare(&subset, &plan, &sender, &stopped))
        .map_err(|error| Error::named("prefetch thread", error))?;
    Ok(Batches { ready: Some(ready), worker: Some(worker), stop, left, shape, dtype, device: device.clone() })
}

impl BatchPlan {
    /// Batches of `batch` in the order of the subset, undisturbed, the smaller last one kept: for evaluation.
    #[must_use]
    pub fn sequential(batch: usize) -> Self {
        Self {
            batch,
            order: Order::Sequential,
            tail: Tail::Keep,
            normalize: None,
            augment: None,
            seed: 0,
            first_step: 0,
        }
    }

    /// Batches of `batch` in the order of `(seed, epoch)`, undisturbed, the smaller last one kept: for training.
    #[must_use]
    pub fn shuffled(batch: usize, seed: u64, epoch: u64) -> Self {
        Self { order: Order::Shuffled { seed, epoch }, seed, ..Self::sequential(batch) }
    }

    /// Batches in a whole epoch over `examples`, the skipped ones included.
    #[must_use]
    pub fn steps(&self, examples: usize) -> usize {
        match self.tail {
            Tail::Keep => examples.div_ceil(self.batch.max(1)),
            Tail::Drop => examples / self.batch.max(1),
        }
    }

    pub(crate) fn check(&self, shape: Shape) -> Result<(), Error> {
        if self.batch == 0 {
            return Err(Error::setting("batch", 0, "at least 1"));
        }
        if shape.elements() == 0 {
            return Err(Error::setting("shape", shape, "at least one element"));
        }
        if let Some(Normalize { mean, deviation }) = &self.normalize
            && (mean.len() != shape.channels || deviation.len() != shape.channels)
        {
            let found = format!("{} means, {} deviations", mean.len(), deviation.len());
            return Err(Error::setting("normalize", found, format!("{} of each", shape.channels)));
        }
        self.augment.unwrap_or_default().check(shape)
    }

    /// The indices of the epoch, in order.
    pub(crate) fn ordered(&self, subset: &Subset) -> Vec<usize> {
        let mut indices = subset.indices().to_vec();
        if let Order::Shuffled { seed, epoch } = self.order {
            indices.shuffle(&mut rng(seed, Use::Order, epoch, 0));
        }
        indices
    }

    pub(crate) fn epoch(&self) -> u64 {
        match self.order {
            Order::Sequential => 0,
            Order::Shuffled { epoch, .. } => epoch,
        }
    }
}

/// A batch before it is a tensor: values end to end.
struct Made {
    x: Vec<f32>,
    y: Vec<u32>,
    indices: Vec<usize>,
}

/// Sends every batch of the plan; returns as soon as nobody listens.
fn prepare(subset: &Subset, plan: &BatchPlan, sender: &SyncSender<Result<Made, Error>>, stop: &AtomicBool) {
    let steps = plan.steps(subset.len());
    for indices in plan.ordered(subset).chunks(plan.batch).take(steps).skip(plan.first_step) {
        let Some(made) = make(subset, plan, indices, stop).transpose() else { return };
        if sender.send(made).is_err() {
            return;
        }
    }
}

/// One batch, or none if told to stop.
fn make(
    subset: &Subset,
    plan: &BatchPlan,
    indices: &[usize],
    stop: &AtomicBool,
) -> Result<Option<Made>, Error> {
    let info = subset.info();
    let augment = plan.augment.unwrap_or_default();
    let mut x = vec![0.0; indices.len() * info.shape.elements()];
    let mut y = Vec::with_capacity(indices.len());
    for (example, &index) in x.chunks_exact_mut(info.shape.elements()).zip(indices) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let label = subset.read(index, example)?;
        let mut rng = rng(plan.seed, Use::Augment, plan.epoch(), index as u64);
        augment.apply(example, info.shape, plan.normalize.as_ref(), &mut rng);
        y.push(label);
    }
    Ok(Some(Made { x, y, indices: indices.to_vec() }))
}

impl Batches {
    fn place(&self, made: Made) -> Result<Batch, Error> {
        let Made { x, y, indices } = made;
        let x = Tensor::from_vec(x, self.shape.batch_dims(y.len()), &self.device)
            .and_then(|x| x.to_dtype(self.dtype))
            .map_err(|error| Error::named("batch", ErrorKind::Tensor(error)))?;
        Ok(Batch { x, y, indices })
    }

    /// Tells the thread to stop and waits for it; gives back what it panicked with.
    fn join(&mut self) -> thread::Result<()> {
        self.left = 0;
        self.stop.store(true, Ordering::Relaxed);
        self.ready = None; // a thread that waits to send wakes up
        let Some(worker) = self.worker.take() else { return Ok(()) };
        while !worker.is_finished() {
            lend_a_hand();
        }
        worker.join()
    }

    /// The next batch of the thread, once it is made; an error if the thread is gone.
    fn wait(&self) -> Result<Result<Made, Error>, RecvError> {
        let ready = self.ready.as_ref().ok_or(RecvError)?;
        loop {
            match ready.try_recv() {
                Ok(made) => return Ok(made),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => lend_a_hand(),
            }
        }
    }
}

/// Works for rayon's pool if this thread is of it, else sleeps a moment: a `Dataset::read` that computes in parallel may
/// wait for the very thread that waits for its batch.
fn lend_a_hand() {
    if rayon::yield_now() != Some(rayon::Yield::Executed) {
        thread::sleep(Duration::from_micros(50));
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ready.as_ref()?;
        match self.wait() {
            Ok(made) => {
                self.left = self.left.saturating_sub(1);
                let batch = made.and_then(|made| self.place(made));
                if batch.is_err() {
                    let _ = self.join(); // the error is the answer
                }
                Some(batch)
            }
            // The thread is gone: at its end, or because `Dataset::read` panicked there, which is the caller's to see.
            Err(_) => match self.join() {
                Ok(()) => None,
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests;
