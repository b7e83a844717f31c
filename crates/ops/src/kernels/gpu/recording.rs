//! Launches that are sent together.
//!
//! These networks are small: a cell is dozens of kernels of a few microseconds each. Within [`recorded`] a launch is kept,
//! with everything it reads and writes, until the scope ends or somebody asks for a value; then all go as one graph, in
//! which a kernel waits for those alone whose outputs it reads, so that edges that share nothing run side by side.

#[cfg(all(test, feature = "emulate"))]
mod tests;

use std::cell::{Cell, RefCell};

use candle_core::{Result, Tensor};

use super::{Gpu, slot::Launch};

/// Launches that wait, at most: what they read and write takes memory.
const MOST: usize = 256;

/// How a device is given its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launches {
    /// The launches of a [`recorded`] scope as one graph.
    Together,
    /// One by one, as they come.
    Singly,
}

/// Says how this thread gives devices their work from now on; together unless said otherwise. The bytes of a result are
/// the same.
pub fn set_launches(launches: Launches) {
    LAUNCHES.set(launches);
}

/// How this thread gives devices their work.
#[must_use]
pub fn launches() -> Launches {
    LAUNCHES.get()
}

/// What waits in this thread.
#[derive(Default)]
struct Recorder {
    gpu: Option<Gpu>,
    launches: Vec<Launch>,
}

thread_local! {
    static LAUNCHES: Cell<Launches> = const { Cell::new(Launches::Together) };
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
    static WAITS: Cell<u64> = const { Cell::new(0) };
}

/// Puts back what recorded before, also where a scope is left by an error or a panic: what waited then is never launched.
struct Before(Option<Recorder>);

impl Drop for Before {
    fn drop(&mut self) {
        let before = self.0.take();
        drop(RECORDER.replace(before));
    }
}

/// Runs `f` and sends the launches of its kernels together, at its end or when [`send`] is called; on the CPU it just
/// runs `f`. Scopes within a scope belong to it.
///
/// Until then the outputs of kernels hold nothing: `f` may hand them to other kernels, which is what operations that
/// [gather](crate::Op::gathers) do, and must [`send`] before candle reads them.
///
/// # Errors
/// Those of `f`; or a launch fails.
pub fn recorded<R, E: From<candle_core::Error>>(
    f: impl FnOnce() -> std::result::Result<R, E>,
) -> std::result::Result<R, E> {
    if launches() == Launches::Singly || is_open() {
        return f();
    }
    let _before = Before(RECORDER.replace(Some(Recorder::default())));
    let result = f()?;
    send()?;
    Ok(result)
}

/// Runs `f`, whose functions may be candle's: sends what waits, and every launch of `f` as it comes.
///
/// # Errors
/// Those of `f`; or a launch fails.
pub fn at_once<R, E: From<candle_core::Error>>(
    f: impl FnOnce() -> std::result::Result<R, E>,
) -> std::result::Result<R, E> {
    send()?;
    let _before = Before(RECORDER.take());
    f()
}

/// Sends what waits in this thread, for whoever reads a kernel's output by other means than a kernel; says whether
/// anything did.
///
/// # Errors
/// A launch fails.
pub fn send() -> Result<bool> {
    let waiting = RECORDER.with_borrow_mut(|recorder| recorder.as_mut().map(std::mem::take));
    match waiting {
        Some(Recorder { gpu: Some(gpu), launches }) => gpu.run(launches).map(|()| true),
        _ => Ok(false),
    }
}

/// [`send`], for whoever then waits until the numbers of a step are there.
///
/// # Errors
/// As there.
pub(in crate::kernels) fn wait() -> Result<()> {
    WAITS.set(WAITS.get() + 1);
    send().map(drop)
}

/// How often this thread has waited for numbers that a device computes: once a step of a search or of a training.
#[must_use]
pub fn waits() -> u64 {
    WAITS.get()
}

fn is_open() -> bool {
    RECORDER.with_borrow(Option::is_some)
}

/// Keeps a launch for later, or gives it back where nothing is recorded.
pub(super) fn keep(gpu: &Gpu, launch: Launch) -> Result<Option<Launch>> {
    let full = RECORDER.with_borrow(|recorder| {
        let Recorder { gpu: of, launches } = recorder.as_ref()?;
        Some(launches.len() == MOST || of.as_ref().is_some_and(|of| !of.is(gpu)))
    });
    match full {
        None => return Ok(Some(launch)),
        Some(true) => send().map(drop)?,
        Some(false) => {}
    }
    RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder else { return Ok(Some(launch)) };
        recorder.gpu.get_or_insert_with(|| gpu.clone());
        recorder.launches.push(launch);
        Ok(None)
    })
}

/// Which launches each must wait for: those before it that write what it reads. No two write the same memory, since
/// outputs are fresh and live as long as the launches.
pub(super) fn dependencies(launches: &[Launch]) -> Result<Dependencies> {
    let mut writers: Vec<(u64, u64, u32)> = Vec::new(); // first address, end and launch, by address
    let mut all = Dependencies { ends: Vec::with_capacity(launches.len()), before: Vec::new() };
    for (index, launch) in (0..).zip(launches) {
        let mut after: Vec<u32> = Vec::with_capacity(launch.reads.len());
        for read in &launch.reads {
            let (first, end) = extent(read.address, &read.tensor);
            let later = writers.partition_point(|(written, ..)| *written < end);
            let written = writers[..later].last();
            after.extend(written.filter(|(_, end, _)| *end > first).map(|(.., writer)| *writer));
        }
        after.sort_unstable();
        after.dedup();
        all.before.extend(after);
        all.ends.push(all.before.len());
        for fresh in &launch.writes {
            let (first, end) = extent(fresh.tensor_address()?, &fresh.tensor);
            if end > first {
                let at = writers.partition_point(|(written, ..)| *written < first);
                writers.insert(at, (first, end, index));
            }
        }
    }
    Ok(all)
}

/// The launches that each waits for, one behind the other: a step compares thousands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependencies {
    /// Where in `before` those of each launch end.
    ends: Vec<usize>,
    before: Vec<u32>,
}

impl Dependencies {
    /// Those of each launch, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.before[start..end])
    }
}

/// The addresses that a tensor's elements have: the first, and the one behind the last.
fn extent(first: u64, x: &Tensor) -> (u64, u64) {
    (first, first + (x.elem_count() * x.dtype().size_in_bytes()) as u64)
}
