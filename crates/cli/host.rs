//! What the system and the build say of where this process runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use strait::ops::kernels::gpu::Arithmetic;
use strait::trainer::Host;

const LOCK: &str = include_str!("../../Cargo.lock");

/// This machine, for a run in `path` that computes with `threads`, in `arithmetic`.
pub(crate) fn host(threads: usize, arithmetic: Arithmetic, path: &Path) -> Host {
    let libraries = ["candle-core", "candle-nn"].into_iter();
    Host {
        threads,
        arithmetic: arithmetic.name().to_owned(),
        processor: processor(),
        libraries: libraries.filter_map(|name| Some((name.to_owned(), locked(name)?.to_owned()))).collect(),
        paths: BTreeMap::from([("run".to_owned(), path.display().to_string())]),
    }
}

/// The most memory this process has held in RAM, in bytes: the high-water mark of Linux's `/proc`.
pub(crate) fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The version of a library that this binary was built with.
fn locked(name: &str) -> Option<&'static str> {
    let entry = LOCK.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
    entry.split("version = \"").nth(1)?.split('"').next()
}
