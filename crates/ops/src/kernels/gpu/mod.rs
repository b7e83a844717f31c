//! Kernels on a device: what a launch is, and where it goes.
//!
//! The kernels are the `.cu` files beside the CPU's, one text for both element types. A launch names one and hands it
//! tensors; it goes to an NVIDIA device (feature `cuda`), or to an emulation on the host (feature `emulate`, for tests),
//! which runs the same text block by block. So everything up to the device itself, the planning in the `cuda.rs` files
//! included, is tested without one.
//!
//! A kernel writes each of its outputs whole, and none of its inputs. So launches that wait for each other are those of
//! which one reads what the other writes, and [`recorded`] may send many of them at once.

// Without a kind of device there is no `Gpu`, and nothing here is reached.
#![cfg_attr(
    not(any(feature = "cuda", feature = "emulate")),
    allow(dead_code, unreachable_code, unused_variables, unused_imports, unused_macros)
)]

mod arithmetic;
#[cfg(feature = "emulate")]
#[doc(hidden)]
pub mod counted;
#[cfg(feature = "emulate")]
mod emulated;
#[cfg(feature = "cuda")]
mod functions;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod nvidia;
mod recording;
#[cfg(feature = "cuda")]
mod slabs;
mod slot;
#[cfg(feature = "cuda")]
mod stream;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path};

use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

use self::slot::Launch;
use super::{Prelude, Window, map::Map};
pub use arithmetic::Arithmetic;
use arithmetic::Text;
#[cfg(feature = "emulate")]
pub(crate) use emulated::is_on;
#[cfg(feature = "emulate")]
#[doc(hidden)]
pub use emulated::{emulate, emulate_in, unavailable};
pub(super) use recording::wait;
pub use recording::{Launches, at_once, launches, recorded, send, set_launches, waits};

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

/// How a device is emulated on this thread, where tensors of the host are treated as if they were on one.
pub(crate) fn emulates() -> Option<Arithmetic> {
    #[cfg(feature = "emulate")]
    return emulated::arithmetic();
    #[cfg(not(feature = "emulate"))]
    None
}

/// Runs `f` on a thread on which that is to be as it was on another.
pub(crate) fn emulate_where<R>(emulates: Option<Arithmetic>, f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "emulate")]
    return match emulates {
        Some(arithmetic) => emulate_in(arithmetic, f),
        None => f(),
    };
    #[cfg(not(feature = "emulate"))]
    {
        debug_assert!(emulates.is_none(), "nothing emulates a device here");
        f()
    }
}

/// Memory that is free on a GPU, in bytes; none of the CPU.
///
/// # Errors
/// The driver fails.
pub fn free_bytes(device: &Device) -> Result<Option<usize>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => nvidia::free_bytes(device).map(Some),
        #[cfg(feature = "emulate")]
        Device::Cpu if emulated::is_on() => Ok(Some(emulated::BYTES)),
        _ => Ok(None),
    }
}

/// The text of every kernel, behind lines that say what is computed with.
pub(crate) const SOURCES: [&str; 13] = [
    include_str!("prelude.cuh"),
    include_str!("matrix.cuh"),
    include_str!("../activation/activation.cu"),
    include_str!("../batch/batch.cu"),
    include_str!("../batch_norm/batch_norm.cu"),
    include_str!("../conv/conv.cu"),
    include_str!("../conv/matrix.cu"),
    include_str!("../depthwise/depthwise.cu"),
    include_str!("../loss/loss.cu"),
    include_str!("../pool/pool.cu"),
    include_str!("../shuffle/shuffle.cu"),
    include_str!("../sum/sum.cu"),
    include_str!("../update/update.cu"),
];

/// The kernels' names.
#[cfg(any(test, feature = "emulate"))]
pub(crate) const KERNELS: [&str; 49] = [
    "rectify",
    "rectify_gradient",
    "gather_batch",
    "moment_sums",
    "correlation_sums",
    "plain_sums",
    "add_plain_sums",
    "moments",
    "normalize_running",
    "norm_gradient_through",
    "norm_products",
    "norm_gradient",
    "conv_forward_64x16",
    "conv_forward_32x32",
    "conv_forward_64x32",
    "conv_forward_64x64",
    "conv_input_gradient_64x16",
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
    "shuffle_join",
    "shuffle_separate",
    "weighted",
    "scale_samples",
    "join_channels",
    "cut_channels",
    "dot_parts",
    "add_each",
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
#[derive(Clone)]
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
    /// Read, by an address in a table; no parameter of the kernel.
    ReadByTable(&'a Tensor),
    /// Written whole, by an address in a table; no parameter of the kernel.
    WrittenByTable(&'a Fresh),
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
#[derive(Clone)]
pub(crate) struct Fresh {
    tensor: Tensor,
    memory: Memory,
}

/// Where the launch finds it.
#[derive(Clone)]
enum Memory {
    /// Its address.
    #[cfg(feature = "cuda")]
    Nvidia(u64),
    #[cfg(feature = "emulate")]
    Emulated(std::rc::Rc<emulated::Memory>),
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

    /// Whether that is the same device.
    fn is(&self, other: &Self) -> bool {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => {
                matches!(other, Self::Nvidia(other) if device.id() == other.id())
            }
            #[cfg(feature = "emulate")]
            Self::Emulated => matches!(other, Self::Emulated),
        }
    }

    /// Room for a tensor.
    ///
    /// # Errors
    /// The device has no room, or a kernel could not index it.
    pub(crate) fn fresh(&self, dtype: DType, dims: &[usize]) -> Result<Fresh> {
        int(dims.iter().product())?;
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => {
                let room = || slabs::fresh(device, dtype, dims);
                // What waits to be launched keeps memory that nobody else needs.
                let (tensor, address) = room().or_else(|error| if send()? { room() } else { Err(error) })?;
                Ok(Fresh { tensor, memory: Memory::Nvidia(address) })
            }
            #[cfg(feature = "emulate")]
            Self::Emulated => {
                let (tensor, memory) = emulated::fresh(dtype, dims)?;
                Ok(Fresh { tensor, memory: Memory::Emulated(memory) })
            }
        }
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

    /// How many neighboring channels a thread may make at once, of maps of `c` channels that lie there: one, or four.
    ///
    /// # Errors
    /// A tensor is strided, or elsewhere.
    pub(crate) fn neighbors(&self, c: usize, read: &[&Tensor], written: &[&Fresh]) -> Result<usize> {
        let lies_in_fours =
            |address: u64, x: &Tensor| address.is_multiple_of(4 * x.dtype().size_in_bytes() as u64);
        let mut all = c.is_multiple_of(4) && written.iter().all(|y| lies_in_fours(y.address(), &y.tensor));
        for x in read {
            all &= lies_in_fours(self.address(x)?, x);
        }
        Ok(if all { 4 } else { 1 })
    }

    /// Runs a kernel for maps of elements `maps`; on a device, some time later, but behind all launches whose outputs it
    /// reads.
    ///
    /// # Errors
    /// A tensor is strided, elsewhere or too large, the kernel cannot be had, or the launch fails.
    pub(crate) fn launch(&self, kernel: &str, maps: DType, grid: Grid, args: &[Arg<'_>]) -> Result<()> {
        let launch = Launch::new(self, kernel, maps, grid, args)?;
        let (x, y, z) = grid.blocks;
        if x * y * z == 0 {
            return Ok(()); // of nothing
        }
        match recording::keep(self, launch)? {
            Some(launch) => self.run(vec![launch]),
            None => Ok(()),
        }
    }

    /// Runs launches that come in an order in which they could run one by one.
    fn run(&self, launches: Vec<Launch>) -> Result<()> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => stream::run(device, launches),
            #[cfg(feature = "emulate")]
            Self::Emulated => emulated::run(launches),
        }
    }
}

impl Fresh {
    /// The tensor, for whoever comes after the launch.
    ///
    /// # Errors
    /// No launch was given it.
    pub(crate) fn tensor(self) -> Result<Tensor> {
        match self.memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(_) => {}
            #[cfg(feature = "emulate")]
            Memory::Emulated(ref memory) => memory.expect_launched()?,
        }
        Ok(self.tensor)
    }

    /// Notes that a launch was given it.
    fn will_be_written(&self) {
        match self.memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(_) => {}
            #[cfg(feature = "emulate")]
            Memory::Emulated(ref memory) => memory.will_be_launched(),
        }
    }

    /// Where the tensor's elements lie: there, but for an emulated kernel, which writes to memory of its own.
    fn tensor_address(&self) -> Result<u64> {
        match self.memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(address) => Ok(address),
            #[cfg(feature = "emulate")]
            Memory::Emulated(_) => emulated::address(&self.tensor),
        }
    }

    /// Where its elements will lie.
    pub(crate) fn address(&self) -> u64 {
        match self.memory {
            #[cfg(feature = "cuda")]
            Memory::Nvidia(address) => address,
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
