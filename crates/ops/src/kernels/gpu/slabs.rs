//! Room for tensors on NVIDIA devices, from candle's allocator: small ones are cut from larger pieces of memory.
//!
//! A step makes some 1,200 tensors of a few kilobytes, statistics and partial sums; to ask the driver for each and to give
//! each back took longer than their kernels. A slab is handed out from its start to its end and never twice; it goes back
//! when the last of its tensors does. Whoever reads one tensor on the host is sent its whole slab, which is why the
//! smallest have slabs of their own.

use std::cell::RefCell;

use candle_core::{
    CudaDevice, CudaStorage, DType, Result, Storage, Tensor, bail,
    cuda_backend::{
        CudaDType, DeviceId,
        cudarc::driver::{DevicePtr, DeviceRepr},
    },
    op::BackpropOp,
};
use half::bf16;

/// What slabs are cut into, at most, and how large they are, in bytes.
const CLASSES: [(usize, usize); 2] = [(16 << 10, 128 << 10), (256 << 10, 4 << 20)];

/// Where tensors begin, in bytes: as the driver's own do.
const ALIGNMENT: usize = 256;

struct Slab {
    device: DeviceId,
    class: usize,
    /// All of it, in one row.
    tensor: Tensor,
    address: u64,
    /// Elements handed out.
    used: usize,
}

thread_local! {
    /// The one of each device, class and type that still has room.
    static SLABS: RefCell<Vec<Slab>> = const { RefCell::new(Vec::new()) };
}

/// Room for a tensor, and where it lies.
pub(super) fn fresh(device: &CudaDevice, dtype: DType, dims: &[usize]) -> Result<(Tensor, u64)> {
    match small(device, dtype, dims)? {
        Some(small) => Ok(small),
        None => fresh_of_any(device, dtype, dims),
    }
}

/// Room for a small tensor; none for a larger one.
fn small(device: &CudaDevice, dtype: DType, dims: &[usize]) -> Result<Option<(Tensor, u64)>> {
    let (len, size) = (dims.iter().product::<usize>(), dtype.size_in_bytes());
    let Some(class) = CLASSES.iter().position(|(most, _)| len * size <= *most) else { return Ok(None) };
    if len == 0 {
        return Ok(None);
    }
    SLABS.with_borrow_mut(|slabs| {
        let is_ours =
            |slab: &Slab| slab.device == device.id() && slab.class == class && slab.tensor.dtype() == dtype;
        let known = slabs.iter().position(is_ours);
        let at = match known.filter(|&at| slabs[at].used + len <= slabs[at].tensor.elem_count()) {
            Some(at) => at,
            None => {
                let (tensor, address) = fresh_of_any(device, dtype, &[CLASSES[class].1 / size])?;
                let slab = Slab { device: device.id(), class, tensor, address, used: 0 };
                match known {
                    Some(at) => slabs[at] = slab,
                    None => slabs.push(slab),
                }
                known.unwrap_or(slabs.len() - 1)
            }
        };
        let slab = &mut slabs[at];
        let (first, address) = (slab.used, slab.address + (slab.used * size) as u64);
        slab.used = (first + len).next_multiple_of(ALIGNMENT / size);
        let row = slab.tensor.narrow(0, first, len)?;
        Ok(Some((if dims.len() == 1 { row } else { row.reshape(dims)? }, address)))
    })
}

/// Room for a tensor of any size, from the driver.
fn fresh_of_any(device: &CudaDevice, dtype: DType, dims: &[usize]) -> Result<(Tensor, u64)> {
    match dtype {
        DType::BF16 => fresh_of::<bf16>(device, dims),
        DType::F32 => fresh_of::<f32>(device, dims),
        DType::F64 => fresh_of::<f64>(device, dims),
        DType::U8 => fresh_of::<u8>(device, dims),
        other => bail!("kernels write no elements of type {other:?}"),
    }
}

fn fresh_of<T: CudaDType + DeviceRepr>(device: &CudaDevice, dims: &[usize]) -> Result<(Tensor, u64)> {
    // SAFETY: a kernel writes every element before anybody reads one.
    let slice = unsafe { device.alloc::<T>(dims.iter().product()) }?;
    let address = slice.device_ptr(&device.cuda_stream()).0;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Ok((Tensor::from_storage(storage, dims, BackpropOp::none(), false), address))
}
