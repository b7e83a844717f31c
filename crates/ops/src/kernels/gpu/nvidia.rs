//! NVIDIA devices: found, opened, and given their kernels.

use std::path::Path;

use candle_core::{
    CudaDevice, DType, Device, Result, Storage, Tensor, bail,
    cuda_backend::cudarc::{
        driver::{
            CudaContext, DevicePtr,
            sys::{self, CUdevice_attribute, CUmemPool_attribute},
        },
        nvrtc,
    },
};
use half::bf16;
use sha2::{Digest, Sha256};

use super::{Arithmetic, Opened, Text, source};

pub(super) fn open(index: usize, arithmetic: Option<Arithmetic>, cache: Option<&Path>) -> Result<Opened> {
    let n = count()?;
    if index >= n {
        bail!("found no device cuda:{index}; there are {n}, from cuda:0 on");
    }
    let found = look(index)?;
    let arithmetic = arithmetic.unwrap_or(found.arithmetic);
    arithmetic.check(found.capability)?;
    let device = found.device.as_cuda_device()?;
    prepare(device, DType::F32, arithmetic, cache)?;
    if arithmetic == Arithmetic::Bf16 {
        prepare(device, DType::BF16, arithmetic, cache)?; // beside `f32`: weights and losses stay there
    }
    Ok(Opened { arithmetic, ..found })
}

pub(super) fn devices() -> Result<Vec<Opened>> {
    (0..count()?).map(look).collect()
}

/// How many devices there are, at least one.
fn count() -> Result<usize> {
    match CudaContext::device_count().map(usize::try_from) {
        Ok(Ok(n)) if n > 0 => Ok(n),
        Ok(_) => bail!("the NVIDIA driver finds no device"),
        Err(error) => bail!("the NVIDIA driver finds no device: {error}"),
    }
}

fn look(index: usize) -> Result<Opened> {
    let device = Device::new_cuda_with_stream(index)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: everything that runs on this device runs on its one stream, in the order of the calls; candle's frees are
    // ordered by the same stream.
    unsafe { cuda.disable_event_tracking() };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    keep_memory(context)?;
    let bytes = context.mem_get_info().map_err(candle_core::Error::wrap)?;
    let name = context.name().map_err(candle_core::Error::wrap)?;
    let capability = capability(cuda)?;
    Ok(Opened { device, name, capability, bytes, arithmetic: Arithmetic::usual(capability) })
}

pub(super) fn free_bytes(device: &CudaDevice) -> Result<usize> {
    let found = device.cuda_stream().context().mem_get_info();
    found.map(|(free, _)| free).map_err(candle_core::Error::wrap)
}

/// Keeps freed memory for the next step; the driver's pool would give it back whenever the host waits.
fn keep_memory(context: &CudaContext) -> Result<()> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let (mut pool, mut threshold) = (std::ptr::null_mut(), u64::MAX);
    // SAFETY: the pool is written before it is read, and this attribute is 64 bits wide.
    unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()).result();
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        found.and_then(|()| sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result())
    }
    .map_err(candle_core::Error::wrap)
}

/// The kernels as PTX for devices of the compute capability and above.
///
/// # Errors
/// NVRTC does not accept them; its messages are in the error.
pub(super) fn compile(text: Text, (major, minor): (usize, usize)) -> Result<String> {
    let options = vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()];
    let options = nvrtc::CompileOptions { options, ..Default::default() };
    match nvrtc::compile_ptx_with_opts(source(text), options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(nvrtc::CompileError::CompileError { log, .. }) => {
            bail!("NVRTC refuses the kernels:\n{}", log.to_string_lossy())
        }
        Err(error) => bail!("NVRTC: {error}"),
    }
}

fn capability(device: &CudaDevice) -> Result<(usize, usize)> {
    let of = |attribute| {
        let value = device.cuda_stream().context().attribute(attribute).map_err(candle_core::Error::wrap)?;
        usize::try_from(value).map_err(candle_core::Error::wrap)
    };
    Ok((
        of(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        of(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

pub(super) fn module(maps: DType) -> String {
    format!("strait_{maps:?}")
}

/// Loads the kernels for maps of `maps`, from the cache where they are there. Which way they multiply is decided here: on
/// this device, launches find no others.
pub(super) fn prepare(
    device: &CudaDevice,
    maps: DType,
    arithmetic: Arithmetic,
    cache: Option<&Path>,
) -> Result<()> {
    let (capability, text) = (capability(device)?, Text::new(maps, arithmetic)?);
    let load = |ptx: &str| device.get_or_load_custom_func("add_all", &module(maps), ptx).map(drop);
    let kept =
        cache.map(|folder| Ok::<_, candle_core::Error>(folder.join(key(text, capability)?))).transpose()?;
    if let Some(ptx) = kept.as_deref().and_then(|path| std::fs::read_to_string(path).ok())
        && load(&ptx).is_ok()
    {
        return Ok(());
    }
    let ptx = compile(text, capability)?;
    if let Some(path) = kept {
        // What cannot be kept is compiled anew the next time.
        let temporary = path.with_extension(format!("{}", std::process::id()));
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(&temporary, &ptx).and_then(|()| std::fs::rename(&temporary, &path));
    }
    load(&ptx)
}

/// A name that changes with the kernels' text, the compiler and the device.
fn key(text: Text, (major, minor): (usize, usize)) -> Result<String> {
    let (mut first, mut second) = (0, 0);
    // SAFETY: both places are written before the function returns.
    unsafe { nvrtc::sys::nvrtcVersion(&raw mut first, &raw mut second) }
        .result()
        .map_err(candle_core::Error::wrap)?;
    let digest = Sha256::digest(format!("{first}.{second} {major}.{minor}\n{}", source(text)));
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("kernels-{digest}.ptx"))
}

/// Where the elements of a contiguous tensor lie.
pub(super) fn address(device: &CudaDevice, x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("found strided values, expected contiguous ones")
    };
    let Storage::Cuda(storage) = &*storage else {
        bail!("found values on {:?}, expected all on one device", x.device().location())
    };
    let stream = device.cuda_stream();
    let first = match x.dtype() {
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        DType::F32 => storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        DType::F64 => storage.as_cuda_slice::<f64>()?.device_ptr(&stream).0,
        DType::U8 => storage.as_cuda_slice::<u8>()?.device_ptr(&stream).0,
        DType::U32 => storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0,
        DType::I64 => storage.as_cuda_slice::<i64>()?.device_ptr(&stream).0,
        other => bail!("kernels read no elements of type {other:?}"),
    };
    Ok(first + (start * x.dtype().size_in_bytes()) as u64)
}
