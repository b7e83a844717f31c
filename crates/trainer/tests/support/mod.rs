//! What several tests of whole searches do.

use data::SearchData;
use strait_trainer::{Error, Progress, RunDir, Search};

/// One life of a run: takes the search up where the run's last checkpoint left it, and goes on for at most so many calls
/// that each leave a checkpoint. Whether the search has ended.
pub(crate) fn live(
    mut search: Search<'_>,
    data: &SearchData,
    run: &RunDir,
    calls: usize,
) -> Result<bool, Error> {
    search.resume(run)?;
    for _ in 0..calls {
        match search.next_step(data)? {
            Progress::Finished => return Ok(true),
            Progress::Epoch(epoch) => run.record(&epoch)?,
            Progress::Step(_) => {}
            Progress::Measuring { .. } => continue, // is measured anew, and would never end
        }
        search.save(run)?;
    }
    Ok(false)
}
