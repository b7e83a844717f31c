//! Launches on NVIDIA devices: on candle's stream, as one graph or one by one.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CudaDevice, Result, cuda_backend::cudarc::driver::result};

use super::{functions::function, graph, slot::Launch};

/// Launches that are fewer go one by one.
const FEW: usize = 4;

/// Whether graphs were refused once: then they are not tried again.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Sends launches as one graph; where they are few, or the driver makes no graph of them, one by one.
pub(super) fn run(device: &CudaDevice, mut launches: Vec<Launch>) -> Result<()> {
    device.cuda_stream().context().bind_to_thread().map_err(candle_core::Error::wrap)?;
    if launches.len() >= FEW && !REFUSED.load(Ordering::Relaxed) {
        match graph::launch(device, &mut launches) {
            Ok(()) => return Ok(()),
            Err(error) => {
                REFUSED.store(true, Ordering::Relaxed);
                tracing::warn!("no CUDA graphs from here on, kernels are launched one by one: {error}");
            }
        }
    }
    launches.iter_mut().try_for_each(|launch| run_one(device, launch))
}

fn run_one(device: &CudaDevice, launch: &mut Launch) -> Result<()> {
    let function = function(device, launch)?;
    let ((x, y, z), (tx, ty)) = (launch.grid.blocks, launch.grid.threads);
    let mut pointers = launch.pointers();
    // SAFETY: `cuda.rs` beside each kernel hands it what its parameters say, in number, type and size; tests run every
    // such call. What it reads and writes is allocated until the launch is dropped, and stays so until the kernel has
    // run, since frees are ordered by the same stream.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            (x as u32, y as u32, z as u32),
            (tx as u32, ty as u32, 1),
            0,
            device.cuda_stream().cu_stream(),
            &mut pointers,
        )
    }
    .map_err(|error| candle_core::Error::msg(format!("kernel {}: {error}", launch.kernel)))
}
