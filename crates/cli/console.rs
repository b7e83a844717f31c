//! Stderr: lines and progress bars that do not tear each other.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar};

/// The person's side of stderr. Clones are the same console.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bars: MultiProgress,
    quiet: bool,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { bars: MultiProgress::new(), quiet }
    }

    /// Writes a line whatever happens: errors, and what to do next.
    pub(crate) fn say(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes a line unless silence was asked for.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.say(line);
        }
    }

    /// Writes above the bars. A stderr that nobody reads is no failure.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(bytes);
        });
    }

    /// A bar below the lines, or an invisible one where stderr is no terminal or silence was asked for.
    pub(crate) fn bar(&self, steps: u64) -> ProgressBar {
        let draws = io::stderr().is_terminal() && !self.quiet;
        if draws { self.bars.add(ProgressBar::new(steps)) } else { ProgressBar::hidden() }
    }
}
