//! Kernels on the host, one thread at a time, with the mistakes that a device would keep silent about found: elements
//! outside of a tensor that are written or read, elements that are not written, threads that do not wait.
//!
//! The text is that of the device, compiled by the system's C++ compiler with `emulate.h` in front.

use std::{
    cell::{Cell, UnsafeCell},
    ffi::{CString, c_char, c_int, c_uint, c_void},
    fmt::Write,
    process::Command,
    rc::Rc,
    sync::{Mutex, OnceLock, PoisonError},
};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use libloading::Library;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Arithmetic, Grid, KERNELS, Text,
    counted::uncounted,
    recording,
    slot::{Launch, Slot},
    source,
};

thread_local! {
    static ON: Cell<Option<Arithmetic>> = const { Cell::new(None) };
    /// How many times launches were put in an order.
    static ORDERS: Cell<u64> = const { Cell::new(0) };
}

/// Runs `f` with tensors of the host treated as if they were on a device.
pub fn emulate<R>(f: impl FnOnce() -> R) -> R {
    emulate_in(Arithmetic::F32, f)
}

/// [`emulate`], on a device that was opened to multiply in `arithmetic`.
pub fn emulate_in<R>(arithmetic: Arithmetic, f: impl FnOnce() -> R) -> R {
    let before = ON.replace(Some(arithmetic));
    let result = f();
    ON.set(before);
    result
}

pub(crate) fn is_on() -> bool {
    arithmetic().is_some()
}

pub(super) fn arithmetic() -> Option<Arithmetic> {
    ON.get()
}

/// Why nothing can be emulated here: there is no C++ compiler.
pub fn unavailable() -> Option<String> {
    let runs = Command::new("c++").arg("--version").output();
    runs.err().map(|error| format!("skipped: no C++ compiler `c++` to emulate a device with ({error})"))
}

/// Memory of the device, of which all is always free.
pub(super) const BYTES: usize = 1 << 30;

/// Words before and behind a tensor that nobody may touch.
const GUARD: usize = 32;

/// What memory holds that nobody has written; as a float a NaN.
const UNWRITTEN: u64 = 0xffff_a5a5_ffff_a5a5;

/// Kernels of `trials.cu` with the mistakes that the emulation is there to find.
pub(super) const MISTAKES: [&str; 4] =
    ["forgets_to_wait", "waits_for_the_dead", "writes_outside", "leaves_one_out"];

/// Kernels of `trials.cu` that need matrix units.
const MATRIX_TRIALS: [&str; 3] = ["multiplies_apart", "multiply_registers", "multiply_matrices"];

/// Memory between two guards.
pub(super) struct Memory {
    dtype: DType,
    len: usize,
    words: Vec<UnsafeCell<u64>>,
    /// Bytes from the first guard's end to the first element.
    first: usize,
    /// Whether a launch was given it.
    launched: Cell<bool>,
}

/// Room for a tensor: itself, which holds what nobody has written and is what a device would lend; and the memory that a
/// kernel writes for it, which is the emulation's own.
pub(super) fn fresh(dtype: DType, dims: &[usize]) -> Result<(Tensor, Rc<Memory>)> {
    let memory = Memory::beginning(dtype, dims.iter().product(), 0);
    let unwritten = uncounted(|| memory.bytes());
    let tensor = Tensor::from_raw_buffer(&unwritten, dtype, dims, &Device::Cpu)?;
    uncounted(|| drop(unwritten));
    Ok((tensor, uncounted(|| Rc::new(memory))))
}

impl Memory {
    /// Room for `len` elements, the first of which lies `offset` bytes, less than 16, behind a multiple of 16: what kernels
    /// read in one piece must begin at such.
    fn beginning(dtype: DType, len: usize, offset: usize) -> Self {
        let words = (len * dtype.size_in_bytes()).div_ceil(8) + 2 * GUARD + 4;
        let words: Vec<_> = uncounted(|| (0..words).map(|_| UnsafeCell::new(UNWRITTEN)).collect());
        let first = (16 - words[GUARD].get() as usize % 16) % 16 + offset;
        Self { dtype, len, words, first, launched: Cell::new(false) }
    }

    /// What a contiguous tensor holds.
    fn copy_of(x: &Tensor) -> Result<Self> {
        let from = address(x)?;
        let memory = Self::beginning(x.dtype(), x.elem_count(), (from % 16) as usize);
        let (from, len) = (from as *const u8, memory.len * memory.dtype.size_in_bytes());
        // SAFETY: the tensor has as many bytes, the new memory is as large, and nobody else knows it.
        unsafe { (memory.address() as *mut u8).copy_from_nonoverlapping(from, len) };
        Ok(memory)
    }

    pub(super) fn address(&self) -> u64 {
        self.words[GUARD].get() as u64 + self.first as u64
    }

    fn bytes(&self) -> Vec<u8> {
        let len = self.len * self.dtype.size_in_bytes();
        // SAFETY: the memory has as many bytes, all of them set, and nobody writes it now.
        unsafe { std::slice::from_raw_parts(self.address() as *const u8, len) }.to_vec()
    }

    /// What a kernel wrote: all of it, and nothing else.
    fn checked(&self) -> Result<Vec<u8>> {
        let start = GUARD * 8 + self.first;
        let end = start + self.len * self.dtype.size_in_bytes();
        // SAFETY: all words are set, and nobody writes them now.
        let all =
            unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast::<u8>(), self.words.len() * 8) };
        let unwritten = UNWRITTEN.to_ne_bytes();
        let is_untouched = |at: usize| all[at] == unwritten[at % 8];
        if !(0..start).chain(end..all.len()).all(is_untouched) {
            bail!("a kernel wrote outside of a tensor of {} {:?}", self.len, self.dtype);
        }
        let size = self.dtype.size_in_bytes();
        if size > 1 && (start..end).step_by(size).any(|at| (at..at + size).all(is_untouched)) {
            bail!("a kernel left elements of a tensor of {} {:?} unwritten", self.len, self.dtype);
        }
        Ok(self.bytes())
    }

    pub(super) fn will_be_launched(&self) {
        self.launched.set(true);
    }

    pub(super) fn expect_launched(&self) -> Result<()> {
        if !self.launched.get() {
            bail!("a tensor of {} {:?} was taken that no launch writes", self.len, self.dtype);
        }
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        uncounted(|| drop(std::mem::take(&mut self.words)));
    }
}

/// Puts what a kernel wrote into the tensor it was written for, whose elements stay where they are.
struct Written(Vec<u8>);

impl InplaceOp1 for Written {
    fn name(&self) -> &'static str {
        "written"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        fn copy<T, const N: usize>(bytes: &[u8], values: &mut [T], read: impl Fn([u8; N]) -> T) {
            for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(N)) {
                *value = read(bytes.try_into().expect("chunks have this size"));
            }
        }
        match storage {
            CpuStorage::BF16(values) => copy(&self.0, values, half::bf16::from_ne_bytes),
            CpuStorage::F32(values) => copy(&self.0, values, f32::from_ne_bytes),
            CpuStorage::F64(values) => copy(&self.0, values, f64::from_ne_bytes),
            CpuStorage::U8(values) => values.copy_from_slice(&self.0),
            _ => bail!("kernels write bf16, f32, f64 or u8"),
        }
        Ok(())
    }
}

pub(super) fn address(x: &Tensor) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("found strided values, expected contiguous ones")
    };
    let Storage::Cpu(values) = &*storage else { bail!("found values elsewhere, expected all on the host") };
    let first = match values {
        CpuStorage::BF16(values) => values.as_ptr() as u64,
        CpuStorage::F32(values) => values.as_ptr() as u64,
        CpuStorage::F64(values) => values.as_ptr() as u64,
        CpuStorage::U8(values) => values.as_ptr() as u64,
        CpuStorage::U32(values) => values.as_ptr() as u64,
        CpuStorage::I64(values) => values.as_ptr() as u64,
        _ => bail!("kernels read no elements of type {:?}", x.dtype()),
    };
    Ok(first + (start * x.dtype().size_in_bytes()) as u64)
}

/// Runs launches in an order drawn at random from those that a device could choose: only what reads another's output
/// comes after it. Who forgets to say so, or reads before its time, reads what nobody has written.
pub(super) fn run(mut launches: Vec<Launch>) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(ORDERS.replace(ORDERS.get() + 1));
    let dependencies = recording::dependencies(&launches)?;
    let after: Vec<&[u32]> = dependencies.each().collect();
    let mut done = vec![false; launches.len()];
    for _ in 0..launches.len() {
        let ready = |&i: &usize| !done[i] && after[i].iter().all(|&before| done[before as usize]);
        let ready: Vec<usize> = (0..launches.len()).filter(ready).collect();
        let next = ready[rng.random_range(0..ready.len())];
        uncounted(|| launch(&mut launches[next]))?;
        done[next] = true;
    }
    Ok(())
}

/// Runs a kernel twice, the threads of each block in order and backwards, which must make no difference.
fn launch(launch: &mut Launch) -> Result<()> {
    let text = Text::new(launch.maps, ON.get().unwrap_or(Arithmetic::F32))?;
    let emulation = emulation(text).map_err(candle_core::Error::msg)?;
    let mut copies = Vec::new();
    for read in &launch.reads {
        let Some(slot) = read.slot else { continue };
        let copy = Memory::copy_of(&read.tensor)?;
        launch.slots[slot] = Slot::new(&copy.address().to_ne_bytes());
        copies.push(copy);
    }
    let mut pointers = launch.pointers();
    let mut run = |backwards: bool| -> Result<Vec<Vec<u8>>> {
        emulation.run(&launch.kernel, launch.grid, &mut pointers, backwards)?;
        let memory = |fresh: &super::Fresh| match &fresh.memory {
            super::Memory::Emulated(memory) => memory.checked(),
            #[cfg(feature = "cuda")]
            super::Memory::Nvidia(_) => bail!("found memory of a device, expected the host's"),
        };
        launch.writes.iter().map(memory).collect()
    };
    let written = run(false)?;
    if written != run(true)? {
        let kernel = &launch.kernel;
        bail!("kernel {kernel}: found other values where a block's threads run backwards: some do not wait");
    }
    for (fresh, bytes) in launch.writes.iter().zip(written) {
        fresh.tensor.inplace_op1(&Written(bytes))?;
    }
    Ok(())
}

type Entry =
    unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, *mut *mut c_void, c_int) -> c_int;

/// All kernels of one text, as a library of the host.
struct Emulation {
    library: Library,
    /// Blocks share their static memory with all others: one kernel runs at a time.
    turn: Mutex<()>,
    /// Where the library's file lies while it is used.
    _folder: tempfile::TempDir,
}

fn emulation(text: Text) -> std::result::Result<&'static Emulation, &'static String> {
    static F32: Built = OnceLock::new();
    static F64: Built = OnceLock::new();
    static TF32: Built = OnceLock::new();
    static BF16: Built = OnceLock::new();
    let cell = match text {
        Text::F32 => &F32,
        Text::Tf32 => &TF32,
        Text::Bf16 => &BF16,
        Text::F64 => &F64,
    };
    cell.get_or_init(|| Emulation::build(text)).as_ref()
}

type Built = OnceLock<std::result::Result<Emulation, String>>;

impl Emulation {
    fn build(text: Text) -> std::result::Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let (file, library) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
        let source = source(text);
        let trials = include_str!("trials.cu");
        let mut code = format!("{}\n{source}\n{trials}\n", include_str!("emulate.h"));
        code += "extern \"C\" __attribute__((visibility(\"default\"))) int strait_launch(const char *kernel, const unsigned *blocks, const unsigned *threads, \
                 void **args, int backwards) {\n";
        let of_matrices: &[_] = if text.has_matrix_units() { &MATRIX_TRIALS } else { &[] };
        for kernel in KERNELS.iter().chain(&MISTAKES).chain(of_matrices) {
            writeln!(
                code,
                "if (!std::strcmp(kernel, \"{kernel}\")) return emulate::launch({kernel}, blocks, threads, args, backwards) ? 0 : 2;"
            )
            .expect("a string takes text");
        }
        code += "return 1;\n}\n";
        std::fs::write(&file, code).map_err(|error| error.to_string())?;
        // Hidden: statics of templates would else be shared by the libraries of all texts.
        let output = Command::new("c++")
            .args([
                "-std=c++17",
                "-O1",
                "-fPIC",
                "-shared",
                "-ffp-contract=off",
                "-fvisibility=hidden",
                "-w",
                "-o",
            ])
            .args([&library, &file])
            .output()
            .map_err(|error| format!("no C++ compiler `c++` runs here: {error}"))?;
        if !output.status.success() {
            return Err(format!("the kernels do not compile:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        // SAFETY: the library was made from our own text, and loading it runs only C++'s own start.
        let library = unsafe { Library::new(&library) }.map_err(|error| error.to_string())?;
        Ok(Self { library, turn: Mutex::new(()), _folder: folder })
    }

    fn run(&self, kernel: &str, grid: Grid, args: &mut [*mut c_void], backwards: bool) -> Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(kernel).map_err(candle_core::Error::wrap)?;
        let (x, y, z) = grid.blocks;
        let blocks = [x, y, z].map(|n| n as c_uint);
        let threads = [grid.threads.0, grid.threads.1].map(|n| n as c_uint);
        // SAFETY: the function has this type, and a kernel is given what its parameters say, as on a device.
        let status = unsafe {
            let entry: libloading::Symbol<'_, Entry> =
                self.library.get(b"strait_launch\0").map_err(candle_core::Error::wrap)?;
            entry(name.as_ptr(), blocks.as_ptr(), threads.as_ptr(), args.as_mut_ptr(), c_int::from(backwards))
        };
        match status {
            0 => Ok(()),
            1 => bail!("no kernel is named {kernel}"),
            _ => bail!("kernel {kernel}: some threads wait for others that have ended"),
        }
    }
}
