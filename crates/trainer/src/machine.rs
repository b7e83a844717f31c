//! What may differ between runs that are otherwise equal.

use std::{
    env::consts::{ARCH, OS},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// Threads, paths, versions, machine and times of a run: the one file that comparisons of runs leave out.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Version of this file's format.
    pub version: u32,
    /// Of this library.
    pub strait: &'static str,
    /// Operating system and processor family.
    pub platform: String,
    /// Threads that computed.
    pub threads: usize,
    /// Paths as the person gave them, by their meaning.
    pub paths: Vec<(String, String)>,
    /// Seconds from 1970 to the start.
    pub started: u64,
    /// Seconds of this process, once it is done.
    pub seconds: Option<f64>,
    #[serde(skip)]
    clock: Instant,
}

impl Machine {
    /// This machine, from now on.
    #[must_use]
    pub fn new(threads: usize, paths: &[(&str, String)]) -> Self {
        Self {
            version: 1,
            strait: env!("CARGO_PKG_VERSION"),
            platform: format!("{OS}-{ARCH}"),
            threads,
            paths: paths.iter().map(|(what, path)| ((*what).to_owned(), path.clone())).collect(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            seconds: None,
            clock: Instant::now(),
        }
    }

    /// Notes the time that has gone by.
    #[must_use]
    pub fn finish(self) -> Self {
        Self { seconds: Some(self.clock.elapsed().as_secs_f64()), ..self }
    }
}
