//! What command-line tests share: the binary, small data, a finished run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use strait::data::{DataOptions, DataSpec, Part, open};
use tempfile::TempDir;

/// A directory with data and a finished run, made once for all tests.
pub(crate) struct Bench {
    dir: TempDir,
}

/// A small space with every kind of choice: with weights, without, and `none`.
pub(crate) const TOY: &str = "\
version: 1
name: toy
rank: image
cells:
  - name: cell
    nodes: 2
    candidates: [skip_connect, nor_conv_3x3]
    edges: # whatever is chosen, a path leads through node 1
      - {from: 0, to: 1}
      - {from: 0, to: 2, candidates: [none, skip_connect, nor_conv_3x3]}
      - {from: 1, to: 2}
network:
  channels: 4
  stem: {block: {op: conv_norm, kernel: 3}}
  stages:
    - {cell: cell}
search: {epochs: 3, warmup_epochs: 1, retrain_epochs: 2, batch: 16, gap_batches: 1}
";

/// `strait` in `dir`, without the caller's `RUST_LOG`.
pub(crate) fn strait(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(dir).env_remove("RUST_LOG");
    command
}

/// The bench of all tests.
pub(crate) fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let bench = Bench { dir: tempfile::tempdir().expect("a temporary directory") };
        bench.write("toy.yaml", TOY.as_bytes());
        bench.write_digits("data", [120, 40]);
        strait(bench.path())
            .args(["search", "toy.yaml", "--data", "idx:data", "--out", "run"])
            .assert()
            .success();
        bench
    })
}

impl Bench {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("the directory is writable");
    }

    /// Some digits of both parts as IDX files.
    fn write_digits(&self, name: &str, sizes: [usize; 2]) {
        let digits = open(&DataSpec::Digits, &DataOptions::default()).expect("digits are embedded");
        fs::create_dir(self.path().join(name)).expect("the directory is writable");
        for (prefix, part, n) in [("train", Part::Train, sizes[0]), ("t10k", Part::Test, sizes[1])] {
            let (mut images, mut labels) = (idx(3, &[n, 8, 8]), idx(1, &[n]));
            for index in 0..n {
                let (mut pixels, spread) = ([0.0; 64], index * digits.len(part) / n);
                labels.push(digits.read(part, spread, &mut pixels) as u8);
                images.extend(pixels.map(|pixel| (pixel * 255.0).round() as u8));
            }
            self.write(&format!("{name}/{prefix}-images-idx3-ubyte"), &images);
            self.write(&format!("{name}/{prefix}-labels-idx1-ubyte"), &labels);
        }
    }
}

/// The header of an IDX file of bytes.
pub(crate) fn idx(axes: u8, sizes: &[usize]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
    [0, 0, 8, axes].into_iter().chain(sizes).collect()
}

/// Every file of a run by name, those that may differ left out.
pub(crate) fn contents(run: &Path, but: &[&str]) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(run).unwrap_or_else(|error| panic!("{}: {error}", run.display()));
    let paths = entries.map(|entry| entry.expect("readable").path());
    let named = |path: PathBuf| (path.file_name().expect("a name").display().to_string(), path);
    let mut files: Vec<_> = paths.map(named).filter(|(name, _)| !but.contains(&name.as_str())).collect();
    files.sort();
    files.into_iter().map(|(name, path)| (name, fs::read(path).expect("readable"))).collect()
}
