//! Kernels on a device: what a launch is, and where it goes.
//!
//! The kernels are the `.cu` files beside the CPU's, one text for both element types. A launch names one and hands it
//! tensors; it goes to an NVIDIA device (feature `cuda`), or to an emulation on the host (feature `emulate`, for tests),
//! which runs the same text block by block. So everything up to the device itself, the planning in the `cuda.rs` files
//! included, is tested without one.
//!
//! A kernel writes each of its outputs whole, and none of its inputs.

// Without a kind of device there is no `Gpu`, and nothing here is reached.
#![cfg_attr(
    not(any(feature = "cuda", feature = "emulate")),
    allow(dead_code, unreachable_code, unused_variables, unused_imports, unused_macros)
)]

mod arithmetic;
#[cfg(feature = "emulate")]
mod emulated;
#[cfg(feature = "cuda")]
mod nvidia;
mod slot;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path};

use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

use super::{Prelude, Window, values::Map};
pub use arithmetic::Arithmetic;
use arithmetic::Text;
#[cfg(feature = "emulate")]
pub(crate) use emulated::is_on;
#[cfg(feature = "emulate")]
#[doc(hidden)]
pub use emulated::{emulate, emulate_in, unavailable};

/// A device, and what there is to say of it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// For tensors.
    pub device: Device,
    /// As its maker calls it.
    pub name: String,
    /// Compute capability, as (9, 0).
    pub capability: (usize, usize),
    /// Memory in bytes: free, and in all.
    pub bytes: (usize, usize),
    /// What it multiplies.
    pub arithmetic: Arithmetic,
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, capability: (major, minor), bytes: (free, all), .. } = self;
        let gib = |bytes: &usize| *bytes as f64 / f64::from(1 << 30);
        write!(f, "{name}, compute capability {major}.{minor}, {:.1} of {:.1} GiB free", gib(free), gib(all))
    }
}

/// Opens NVIDIA device `index` with a stream of its own, and compiles the kernels for it, which multiply in `arithmetic`,
/// by default in its [`Arithmetic::usual`] one; `cache` is a folder in which compiled kernels are kept for the next time.
///
/// # Errors
/// There is no such device, it cannot multiply so, the driver, NVRTC or the device's memory fail, or this was built
/// without the feature `cuda`.
pub fn open(index: usize, arithmetic: Option<Arithmetic>, cache: Option<&Path>) -> Result<Opened> {
    #[cfg(feature = "cuda")]
    return nvidia::open(index, arithmetic, cache);
    #[cfg(not(feature = "cuda"))]
    bail!(
        "built without the feature `cuda`: no device {index} for {arithmetic:?}, and nothing to keep in {cache:?}"
    )
}

/// The NVIDIA devices that the driver finds.
///
/// # Errors
/// There is no driver, no device, or this was built without the feature `cuda`.
pub fn devices() -> Result<Vec<Opened>> {
    #[cfg(feature = "cuda")]
    return nvidia::devices();
    #[cfg(not(feature = "cuda"))]
    bail!("built without the feature `cuda`")
}

/// The text of every kernel, behind lines that say what is computed with.
pub(crate) const SOURCES: [&str; 11] = [
    include_str!("prelude.cuh"),
    include_str!("matrix.cuh"),
    include_str!("../activation/activation.cu"),
    include_str!("../batch_norm/batch_norm.cu"),
    include_str!("../conv/conv.cu"),
    include_str!("../conv/matrix.cu"),
    include_str!("../depthwise/depthwise.cu"),
    include_str!("../loss/loss.cu"),
    include_str!("../pool/pool.cu"),
    include_str!("../sum/sum.cu"),
    include_str!("../update/update.cu"),
];

/// The kernels' names.
#[cfg(any(test, feature = "emulate"))]
pub(crate) const KERNELS: [&str; 45] = [
    "rectify",
    "rectify_gradient",
    "moment_sums",
    "correlation_sums",
    "plain_sums",
    "add_plain_sums",
    "moments",
    "normalize",
    "normalize_running",
    "norm_gradient_through",
    "norm_gradient",
    "conv_forward_128x16",
    "conv_forward_32x32",
    "conv_forward_64x32",
    "conv_forward_64x64",
    "conv_input_gradient_128x16",
    "conv_input_gradient_32x32",
    "conv_input_gradient_64x32",
    "conv_input_gradient_64x64",
    "conv_weight_gradient_64x16",
    "conv_weight_gradient_64x32",
    "linear_forward",
    "linear_input_gradient",
    "linear_weight_gradient",
    "depthwise_forward",
    "depthwise_input_gradient",
    "depthwise_weight_gradient",
    "cross_entropy",
    "max_pool",
    "max_pool_gradient",
    "average_pool",
    "average_pool_gradient",
    "adaptive_pool",
    "adaptive_pool_gradient",
    "weighted",
    "scale_samples",
    "join_channels",
    "cut_channels",
    "dot_parts",
    "add_parts",
    "squares_of_many",
    "add_all",
    "sgd_of_many",
    "blend_many",
    "adam",
];

/// Threads of a block that works on single elements.
const ELEMENTS: usize = 256;

/// The text of all kernels.
fn source(text: Text) -> String {
    format!("{}{}", text.head(), SOURCES.concat())
}

/// What is computed in where maps are stored as `maps`; weights and statistics are of this type.
pub(crate) fn computed_in(maps: DType) -> DType {
    if maps == DType::BF16 { DType::F32 } else { maps }
}

/// Leaves a function with what a device computes, where its tensor is on one.
macro_rules! on_gpu {
    ($tensor:expr, $gpu:ident => $body:expr) => {
        #[cfg(any(feature = "cuda", feature = "emulate"))]
        if let Some($gpu) = $crate::kernels::gpu::Gpu::of($tensor) {
            return $body;
        }
    };
}
pub(crate) use on_gpu;

/// Where kernels run.
pub(crate) enum Gpu {
    #[cfg(feature = "cuda")]
    Nvidia(candle_core::CudaDevice),
    #[cfg(feature = "emulate")]
    Emulated,
}

/// What a kernel is given.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// Read only.
    In(&'a Tensor),
    /// Read only, and perhaps absent: null.
    Maybe(Option<&'a Tensor>),
    /// As `Maybe`, of what is computed in, as weights and statistics are, whatever maps are stored as.
    Reals(Option<&'a Tensor>),
    /// As `Maybe`, in double precision whatever the elements.
    Doubles(Option<&'a Tensor>),
    /// Written whole.
    Out(&'a Fresh),
    Int(usize),
    /// A number of what is computed in.
    Real(f64),
    Double(f64),
    Geometry(Geometry),
}

/// Blocks and their threads: `(x, y, z)` and `(x, y)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: (usize, usize, usize),
    pub(crate) threads: (usize, usize),
}

/// The maps around a window, as `prelude.cuh` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    n: i32,
    h: i32,
    w: i32,
    c: i32,
    oh: i32,
    ow: i32,
    oc: i32,
    kh: i32,
    kw: i32,
    sh: i32,
    sw: i32,
    dh: i32,
    dw: i32,
    ph: i32,
    pw: i32,
    relu: i32,
}

/// A tensor that a launch will write.
pub(crate) struct Fresh {
    dims: Vec<usize>,
    memory: Memory,
}

enum Memory {
    #[cfg(feature = "cuda")]
    Nvidia(nvidia::Memory),
    #[cfg(feature = "emulate")]
    Emulated(emulated::Memory),
}

impl Gpu {
    /// The device of a tensor; `None`: the host.
    pub(crate) fn of(x: &Tensor) -> Option<Self> {
        match x.device() {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Some(Self::Nvidia(device.clone())),
            #[cfg(feature = "emulate")]
            Device::Cpu if emulated::is_on() => Some(Self::Emulated),
            _ => None,
        }
    }

    /// Room for a tensor.
    ///
    /// # Errors
    /// The device has no room, or a kernel could not index it.
    pub(crate) fn fresh(&self, dtype: DType, dims: &[usize]) -> Result<Fresh> {
        let len = dims.iter().product::<usize>();
        int(len)?;
        let memory = match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => Memory::Nvidia(nvidia::Memory::new(device, dtype, len)?),
            #[cfg(feature = "emulate")]
            Self::Emulated => Memory::Emulated(emulated::Memory::new(dtype, len)),
        };
        Ok(Fresh { dims: dims.to_vec(), memory })
    }

    /// Values of the host's, on the device.
    ///
    /// # Errors
    /// The device has no room.
    pub(crate) fn upload<T: WithDType>(&self, values: Vec<T>) -> Result<Tensor> {
        let len = values.len();
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => Tensor::from_vec(values, len, &Device::Cuda(device.clone())),
            #[cfg(feature = "emulate")]
            Self::Emulated => Tensor::from_vec(values, len, &Device::Cpu),
        }
    }

    /// Where the elements of a contiguous tensor lie.
    ///
    /// # Errors
    /// It is strided, or elsewhere.
    pub(crate) fn address(&self, x: &Tensor) -> Result<u64> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => nvidia::address(device, x),
            #[cfg(feature = "emulate")]
            Self::Emulated => emulated::address(x),
        }
    }

    /// Runs a kernel for maps of elements `maps`; on a device, some time later, but in the order of the launches.
    ///
    /// # Errors
    /// A tensor is strided, elsewhere or too large, the kernel cannot be had, or the launch fails.
    pub(crate) fn launch(&self, kernel: &str, maps: DType, grid: Grid, args: &[Arg<'_>]) -> Result<()> {
        let (x, y, z) = grid.blocks;
        if x * y * z == 0 {
            return Ok(()); // of nothing
        }
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => nvidia::launch(device, kernel, maps, grid, args),
            #[cfg(feature = "emulate")]
            Self::Emulated => emulated::launch(kernel, maps, grid, args),
        }
    }
}

impl Fresh {
    /// The tensor, once it is written.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        let Self { dims, memory } = self;
        match memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(memory) => Ok(memory.tensor(&dims)),
            #[cfg(feature = "emulate")]
            Memory::Emulated(memory) => memory.tensor(&dims),
        }
    }

    /// Where its elements will lie.
    pub(crate) fn address(&self) -> u64 {
        match self.memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(ref memory) => memory.address(),
            #[cfg(feature = "emulate")]
            Memory::Emulated(ref memory) => memory.address(),
        }
    }
}

impl Grid {
    /// A thread for each of `len` elements.
    pub(crate) fn over(len: usize) -> Self {
        Self { blocks: (len.div_ceil(ELEMENTS), 1, 1), threads: (ELEMENTS, 1) }
    }

    /// So many blocks of 256 threads each, 16 × 16.
    pub(crate) fn squares(blocks: usize) -> Self {
        Self { blocks: (blocks, 1, 1), threads: (16, 16) }
    }
}

impl Geometry {
    fn fields(&self) -> [i32; 16] {
        let Self { n, h, w, c, oh, ow, oc, kh, kw, sh, sw, dh, dw, ph, pw, relu } = *self;
        [n, h, w, c, oh, ow, oc, kh, kw, sh, sw, dh, dw, ph, pw, relu]
    }

    /// Of a window between two maps.
    ///
    /// # Errors
    /// A map is too large for the kernels' indices.
    pub(crate) fn new(input: &Map, output: &Map, window: &Window, prelude: Prelude) -> Result<Self> {
        let pad = |pad: isize| i32::try_from(pad).map_err(candle_core::Error::wrap);
        int(input.len())?;
        int(output.len())?;
        Ok(Self {
            n: int(input.n)?,
            h: int(input.h)?,
            w: int(input.w)?,
            c: int(input.c)?,
            oh: int(output.h)?,
            ow: int(output.w)?,
            oc: int(output.c)?,
            kh: int(window.kernel.0)?,
            kw: int(window.kernel.1)?,
            sh: int(window.stride.0)?,
            sw: int(window.stride.1)?,
            dh: int(window.dilation.0)?,
            dw: int(window.dilation.1)?,
            ph: pad(window.pad.0)?,
            pw: pad(window.pad.1)?,
            relu: i32::from(prelude == Prelude::Relu),
        })
    }
}

/// A number as kernels index with; a third of it is left for what indices add up to on their way.
fn int(n: usize) -> Result<i32> {
    match i32::try_from(n) {
        Ok(small) if n <= 1_431_655_765 => Ok(small),
        _ => bail!("found {n} elements, expected at most 1431655765: a smaller batch or map"),
    }
}
