//! Means over NVIDIA devices, by NCCL on the stream of each.

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor, bail,
    cuda_backend::{
        CudaDType,
        cudarc::{
            driver::DeviceRepr,
            nccl::{self, NcclType, ReduceOp, result::NcclError},
        },
    },
    op::BackpropOp,
};

/// A device's end of what joins it to the others.
#[derive(Debug)]
pub(super) struct Comm {
    inner: nccl::Comm,
    device: CudaDevice,
}

// SAFETY: NCCL allows a communicator to be used from any thread, one at a time, and a `Comm` is not `Sync`.
unsafe impl Send for Comm {}

/// Joins the devices; nothing where they are not all NVIDIA's.
pub(super) fn join(devices: &[Device]) -> Result<Vec<Comm>> {
    let cuda = devices.iter().map(|device| match device {
        Device::Cuda(device) => Some(device.clone()),
        _ => None,
    });
    let Some(cuda) = cuda.collect::<Option<Vec<_>>>() else { return Ok(Vec::new()) };
    // Waits until all are there, on this one thread.
    let comms = nccl::Comm::from_devices(cuda.iter().map(CudaDevice::cuda_stream).collect());
    let comms = comms.map_err(|error| failed("cannot join the devices", &error))?;
    Ok(comms.into_iter().zip(cuda).map(|(inner, device)| Comm { inner, device }).collect())
}

impl Comm {
    /// Room on the device for what [`Comm::mean`] makes of the tensors: what may fail does so before any rank waits on its
    /// device for the others.
    pub(super) fn room(&self, tensors: &[&Tensor]) -> Result<Vec<CudaStorage>> {
        let one = |tensor: &&Tensor| {
            if !tensor.is_contiguous() || !tensor.device().same_device(&Device::Cuda(self.device.clone())) {
                bail!(
                    "found values that are strided or elsewhere, expected contiguous ones on the rank's device"
                )
            }
            match tensor.dtype() {
                DType::F32 => self.fresh::<f32>(tensor.elem_count()),
                DType::F64 => self.fresh::<f64>(tensor.elem_count()),
                other => bail!("found elements of type {other:?}; means are taken of f32 or f64"),
            }
        };
        tensors.iter().map(one).collect()
    }

    fn fresh<T: CudaDType + DeviceRepr>(&self, len: usize) -> Result<CudaStorage> {
        // SAFETY: NCCL writes every element before anything on the same stream reads one.
        let slice = unsafe { self.device.alloc::<T>(len) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, self.device.clone()))
    }

    /// Begins on the device's stream, once all ranks have called it with tensors of the same shapes.
    pub(super) fn mean(&self, tensors: &[&Tensor], room: Vec<CudaStorage>) -> Result<Vec<Tensor>> {
        nccl::group_start().map_err(|error| failed("no group", &error))?;
        let means = tensors.iter().zip(room).map(|(tensor, room)| self.one(tensor, room)).collect();
        // The group is closed whatever became of its members; then it is launched as one.
        nccl::group_end().map_err(|error| failed("a mean over the devices", &error))?;
        means
    }

    fn one(&self, tensor: &Tensor, mut room: CudaStorage) -> Result<Tensor> {
        match tensor.dtype() {
            DType::F64 => self.reduce::<f64>(tensor, &mut room),
            _ => self.reduce::<f32>(tensor, &mut room),
        }?;
        Ok(Tensor::from_storage(Storage::Cuda(room), tensor.dims(), BackpropOp::none(), false))
    }

    fn reduce<T: CudaDType + DeviceRepr + NcclType>(
        &self,
        tensor: &Tensor,
        room: &mut CudaStorage,
    ) -> Result<()> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            bail!("found values that are strided or elsewhere, expected contiguous ones on the rank's device")
        };
        let mine = storage.as_cuda_slice::<T>()?.slice(start..end);
        let begun = self.inner.all_reduce(&mine, room.as_cuda_slice_mut::<T>()?, &ReduceOp::Avg);
        begun.map(drop).map_err(|error| failed("a mean over the devices", &error))
    }
}

fn failed(what: &str, error: &NcclError) -> candle_core::Error {
    candle_core::Error::msg(format!("NCCL: {what}: {:?}", error.0))
}
