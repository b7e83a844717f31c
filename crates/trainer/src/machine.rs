//! What may differ between runs that are otherwise equal.

use std::{
    collections::BTreeMap,
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
    /// What the program told.
    #[serde(flatten)]
    pub host: Host,
    /// Seconds from 1970 to the start.
    pub started: u64,
    /// Seconds of this process, once it is done.
    pub seconds: Option<f64>,
    /// The most memory that this process held, in bytes, once it is done and where the system says.
    pub peak_bytes: Option<u64>,
    #[serde(skip)]
    clock: Instant,
}

/// What only a program knows of where it runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Host {
    /// Threads that compute.
    pub threads: usize,
    /// `f32`, a GPU's `tf32`, or `bf16`, which maps are stored in.
    pub arithmetic: String,
    /// The processor's name, where the system says.
    pub processor: Option<String>,
    /// Versions of the libraries that compute.
    pub libraries: BTreeMap<String, String>,
    /// Paths as the person gave them, by their meaning.
    pub paths: BTreeMap<String, String>,
}

impl Machine {
    /// This machine, from now on.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            version: 1,
            strait: env!("CARGO_PKG_VERSION"),
            platform: format!("{OS}-{ARCH}"),
            host,
            started: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            seconds: None,
            peak_bytes: None,
            clock: Instant::now(),
        }
    }

    /// Notes the time that has gone by and the most memory that was held.
    #[must_use]
    pub fn finish(self, peak_bytes: Option<u64>) -> Self {
        Self { seconds: Some(self.clock.elapsed().as_secs_f64()), peak_bytes, ..self }
    }
}
