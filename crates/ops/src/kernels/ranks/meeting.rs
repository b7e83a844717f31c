//! Where ranks meet on the host.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::{Result, Tensor, bail};

/// How long a thread sleeps that may be needed for other work.
const MOMENT: Duration = Duration::from_micros(50);

/// What every rank has brought, in the order of the ranks.
type Brought = Vec<Vec<Tensor>>;

/// A place where as many ranks as there are meet again and again.
#[derive(Debug)]
pub(super) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// How often all have met.
    round: u64,
    /// What those have brought who wait for the others.
    waiting: Vec<Option<Vec<Tensor>>>,
    /// Of the last round.
    all: Arc<Brought>,
    /// Who left first.
    left: Option<usize>,
}

impl Meeting {
    pub(super) fn new(count: usize) -> Self {
        let state = State { round: 0, waiting: vec![None; count], all: Arc::default(), left: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Brings `mine`, waits for the others, and returns what all have brought.
    ///
    /// # Errors
    /// A rank has left.
    pub(super) fn exchange(&self, index: usize, mine: Vec<Tensor>) -> Result<Arc<Brought>> {
        let mut state = self.lock();
        let round = state.round;
        state.waiting[index] = Some(mine);
        if state.waiting.iter().all(Option::is_some) {
            let all = state.waiting.iter_mut().map(|brought| brought.take().unwrap_or_default()).collect();
            state.all = Arc::new(all);
            state.round += 1;
            self.changed.notify_all();
        }
        // Nobody comes to the next round before all have taken up what this one came to.
        while state.round == round {
            if let Some(rank) = state.left {
                bail!("rank {rank} has failed, and the others cannot go on without it");
            }
            drop(state);
            // A rank that is still on its way may need this very thread, where it is of rayon's pool.
            let executed = rayon::yield_now() == Some(rayon::Yield::Executed);
            state = self.lock();
            if !executed {
                let waits = |state: &mut State| state.round == round && state.left.is_none();
                let waited = self.changed.wait_timeout_while(state, MOMENT, waits);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        Ok(state.all.clone())
    }

    /// Tells all who wait, now or later, that this rank will not come any more.
    pub(super) fn leave(&self, index: usize) {
        self.lock().left.get_or_insert(index);
        self.changed.notify_all();
    }

    /// Who left first.
    pub(super) fn left(&self) -> Option<usize> {
        self.lock().left
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
