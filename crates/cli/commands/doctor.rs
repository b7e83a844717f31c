//! `strait doctor`: whether a GPU can be computed on here, and if not, what is missing.
//!
//! A binary that was built with CUDA does not start where its libraries are missing; so this one asks files alone, and
//! the binary without CUDA answers as well.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strait::{
    cuda_is_available,
    ops::kernels::{gpu, ranks::nccl_is_available},
};

use crate::options::kernel_cache;
use crate::{answer::Answer, failure::Failure};

/// `strait doctor`
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a build with CUDA loads when it starts, and who brings it.
const LIBRARIES: [(&str, &str); 7] = [
    ("libcuda.so", "the NVIDIA driver"),
    ("libcudart.so", "CUDA's runtime (nvidia-cuda-runtime)"),
    ("libcublas.so", "cuBLAS (nvidia-cublas)"),
    ("libcublasLt.so", "cuBLAS (nvidia-cublas)"),
    ("libcurand.so", "cuRAND (nvidia-curand)"),
    ("libnvrtc.so", "NVRTC (nvidia-cuda-nvrtc)"),
    (NCCL, "NCCL (nvidia-nccl-cu13); only for several GPUs, in a build with `--features nccl`"),
];

const NCCL: &str = "libnccl.so";

#[derive(Debug, Serialize)]
struct Findings {
    /// Whether this binary has CUDA.
    built_with_cuda: bool,
    /// Whether this binary joins several GPUs by NCCL; else their gradients meet on the host.
    built_with_nccl: bool,
    /// As `/proc/driver/nvidia/version` says.
    driver: Option<String>,
    /// As the driver's files say.
    devices: Vec<String>,
    /// As CUDA says, where this binary has it.
    usable: Vec<String>,
    /// Why CUDA has none.
    cuda_error: Option<String>,
    libraries: Vec<Library>,
    /// Where compiled kernels are kept.
    kernel_cache: Option<PathBuf>,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Library {
    name: &'static str,
    from: &'static str,
    found: Option<PathBuf>,
}

impl Doctor {
    /// What is there, what is not, and what to do about it.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let findings = Findings::look();
        Answer::either(self.json, &findings, || findings.text())
    }
}

impl Findings {
    fn look() -> Self {
        let driver = fs::read_to_string("/proc/driver/nvidia/version").ok();
        let driver = driver.and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
        let (usable, cuda_error) = match cuda_is_available().then(gpu::devices) {
            None => (Vec::new(), None),
            Some(Ok(devices)) => (devices.iter().map(ToString::to_string).collect(), None),
            Some(Err(error)) => (Vec::new(), error.to_string().lines().next().map(str::to_owned)), // no backtrace
        };
        let folders = folders();
        let library = |&(name, from)| Library { name, from, found: find(name, &folders) };
        let mut findings = Self {
            built_with_cuda: cuda_is_available(),
            built_with_nccl: nccl_is_available(),
            driver,
            devices: models(Path::new("/proc/driver/nvidia/gpus")),
            usable,
            cuda_error,
            libraries: LIBRARIES.iter().map(library).collect(),
            kernel_cache: kernel_cache(),
            advice: Vec::new(),
        };
        findings.advice = findings.advise();
        findings
    }

    fn advise(&self) -> Vec<String> {
        let mut advice = Vec::new();
        // A build without NCCL does without it.
        let needed = |library: &&Library| library.name != NCCL || self.built_with_nccl;
        let missing: Vec<&Library> =
            self.libraries.iter().filter(needed).filter(|library| library.found.is_none()).collect();
        if self.driver.is_none() {
            advice.push(
                "no NVIDIA driver is loaded: install one for your card (`nvidia-smi` then lists it); in a \
                 container, start it with the GPU passed on (`--gpus all`)"
                    .to_owned(),
            );
        }
        if missing.iter().any(|library| library.name != "libcuda.so") {
            advice.push(
                "CUDA's libraries are missing: install NVIDIA's CUDA toolkit, or `pip install nvidia-cuda-runtime \
                 nvidia-cublas nvidia-curand nvidia-cuda-nvrtc`, and put their folders on LD_LIBRARY_PATH"
                    .to_owned(),
            );
        }
        if !self.built_with_cuda {
            advice.push(
                "this binary computes on the CPU: `cargo build --release --features cuda` makes one for the GPU (it \
                 needs nvcc; README.md says how)"
                    .to_owned(),
            );
        }
        if advice.is_empty() && self.usable.is_empty() {
            advice.push("all parts are there, but CUDA finds no device: `nvidia-smi` may say why".to_owned());
        }
        if advice.is_empty() {
            advice.push("nothing is missing: `strait search --device cuda`".to_owned());
        }
        advice
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:12} {value}");
        };
        line(
            "build",
            match (self.built_with_cuda, self.built_with_nccl) {
                (true, true) => "with CUDA and NCCL",
                (true, false) => "with CUDA, without NCCL: gradients of several GPUs meet on the host",
                (false, _) => "without CUDA",
            },
        );
        line("driver", self.driver.as_deref().unwrap_or("none loaded"));
        for device in &self.devices {
            line("device", device);
        }
        for device in &self.usable {
            line("usable", device);
        }
        if let Some(error) = &self.cuda_error {
            line("cuda", error);
        }
        for Library { name, from, found } in &self.libraries {
            let missing = || format!("missing; it comes with {from}");
            line(name, &found.as_ref().map_or_else(missing, |path| path.display().to_string()));
        }
        if let Some(cache) = &self.kernel_cache {
            line("kernels", &format!("compiled once, kept in {}", cache.display()));
        }
        for advice in &self.advice {
            line("to do", advice);
        }
        text
    }
}

/// The models of the driver's devices, in the order of their addresses.
fn models(gpus: &Path) -> Vec<String> {
    let mut devices: Vec<PathBuf> =
        fs::read_dir(gpus).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    devices.sort();
    let model = |device: &PathBuf| {
        let information = fs::read_to_string(device.join("information")).ok()?;
        let model = information.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(model.trim().to_owned())
    };
    devices.iter().filter_map(model).collect()
}

/// Where the loader looks: LD_LIBRARY_PATH, what `/etc/ld.so.conf.d` lists, and the usual folders.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let configurations = fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    let mut configurations: Vec<PathBuf> = configurations.map(|entry| entry.path()).collect();
    configurations.sort();
    for configuration in configurations {
        let text = fs::read_to_string(configuration).unwrap_or_default();
        folders.extend(text.lines().filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    let usual = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/cuda/lib64",
        "/usr/lib/wsl/lib",
    ];
    folders.extend(usual.map(PathBuf::from));
    folders
}

/// The first file of the library, of whatever version, that is there.
fn find(library: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let versioned = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            && path.exists()
    };
    folders.iter().find_map(|folder| {
        let files = fs::read_dir(folder).ok()?;
        let mut files: Vec<PathBuf> = files.flatten().map(|entry| entry.path()).filter(versioned).collect();
        files.sort();
        files.pop()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_under_any_version_and_no_other_name() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        for name in ["libcublas.so.13", "libcublasLt.so.13", "libnvrtc.alt.so.13"] {
            fs::write(folder.path().join(name), "")?;
        }
        let folders = [folder.path().join("absent"), folder.path().to_owned()];
        assert_eq!(find("libcublas.so", &folders), Some(folder.path().join("libcublas.so.13")));
        assert_eq!(find("libnvrtc.so", &folders), None);
        Ok(())
    }

    #[test]
    fn devices_are_listed_by_their_model() -> std::io::Result<()> {
        let gpus = tempfile::tempdir()?;
        let device = gpus.path().join("0000:01:00.0");
        fs::create_dir(&device)?;
        fs::write(device.join("information"), "Model: \t\t NVIDIA H200\nIRQ: 1\n")?;
        assert_eq!(models(gpus.path()), ["NVIDIA H200"]);
        Ok(())
    }
}
