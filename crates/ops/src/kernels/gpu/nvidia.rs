//! Launches on NVIDIA devices: on candle's stream, from candle's allocator.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor, bail,
    cuda_backend::{
        CudaDType, DeviceId,
        cudarc::{
            driver::{
                CudaContext, CudaFunction, DevicePtr, DeviceRepr, result,
                sys::{self, CUdevice_attribute, CUmemPool_attribute},
            },
            nvrtc,
        },
    },
    op::BackpropOp,
};
use half::bf16;
use sha2::{Digest, Sha256};

use super::{Arithmetic, Opened, Text, graph, slabs, slot::Launch, source};

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

fn module(maps: DType) -> String {
    format!("strait_{maps:?}")
}

/// Loads the kernels for maps of `maps`, from the cache where they are there. Which way they multiply is decided here: on
/// this device, launches find no others.
fn prepare(device: &CudaDevice, maps: DType, arithmetic: Arithmetic, cache: Option<&Path>) -> Result<()> {
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

/// Room for a tensor, and where it lies.
pub(super) fn fresh(device: &CudaDevice, dtype: DType, dims: &[usize]) -> Result<(Tensor, u64)> {
    match slabs::fresh(device, dtype, dims)? {
        Some(small) => Ok(small),
        None => fresh_of_any(device, dtype, dims),
    }
}

/// Room for a tensor of any size, from the driver.
pub(super) fn fresh_of_any(device: &CudaDevice, dtype: DType, dims: &[usize]) -> Result<(Tensor, u64)> {
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

/// Functions of a device, for maps of a type, by their names.
struct Known {
    device: DeviceId,
    maps: DType,
    functions: BTreeMap<String, CudaFunction>,
}

thread_local! {
    /// Functions that were asked for before: the driver would look for their names every time.
    static FUNCTIONS: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// The function of a launch; a device that was not opened here has no kernels yet.
pub(super) fn function(device: &CudaDevice, Launch { kernel, maps, .. }: &Launch) -> Result<CudaFunction> {
    FUNCTIONS.with_borrow_mut(|all| {
        let is_it = |known: &Known| known.device == device.id() && known.maps == *maps;
        let at = all.iter().position(is_it).unwrap_or_else(|| {
            all.push(Known { device: device.id(), maps: *maps, functions: BTreeMap::new() });
            all.len() - 1
        });
        let functions = &mut all[at].functions;
        if let Some(function) = functions.get(kernel) {
            return Ok(function.clone());
        }
        let function = find(device, kernel, *maps)?;
        functions.insert(kernel.clone(), function.clone());
        Ok(function)
    })
}

fn find(device: &CudaDevice, kernel: &str, maps: DType) -> Result<CudaFunction> {
    let module = module(maps);
    let function = device.get_or_load_custom_func(kernel, &module, "").or_else(|_| {
        prepare(device, maps, Arithmetic::F32, None)?;
        device.get_or_load_custom_func(kernel, &module, "")
    })?;
    Ok(CudaFunction::clone(&function))
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
