//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::failure::{Failure, INTERRUPTED};

/// Somebody looks at [`ASKED`] between two steps.
static WATCHED: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends the process with code 130, at once unless somebody watches.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        if !WATCHED.load(SeqCst) || ASKED.swap(true, SeqCst) {
            process::exit(i32::from(INTERRUPTED));
        }
    })
    .map_err(|error| Failure::new("cannot listen for signals", error))
}

/// While it lives, the first signal waits to be seen by [`Watch::asked`].
#[derive(Debug)]
pub(crate) struct Watch(());

impl Watch {
    pub(crate) fn new() -> Self {
        WATCHED.store(true, SeqCst);
        Self(())
    }

    /// Whether a signal has come.
    pub(crate) fn asked(&self) -> bool {
        ASKED.load(SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.store(false, SeqCst);
    }
}
