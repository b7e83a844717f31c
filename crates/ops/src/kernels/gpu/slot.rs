//! A launch, with its arguments as both drivers take them: an address for each.

use std::ffi::c_void;

use candle_core::{DType, Result, Tensor, bail};

use super::{Arg, Fresh, Gpu, Grid, computed_in, int};

/// A kernel and what it is given, which lives as long as this.
pub(super) struct Launch {
    pub(super) kernel: String,
    /// The elements of maps.
    pub(super) maps: DType,
    pub(super) grid: Grid,
    pub(super) slots: Vec<Slot>,
    pub(super) reads: Vec<Read>,
    pub(super) writes: Vec<Fresh>,
}

/// A tensor that a kernel reads, and which argument says where; none: a table does.
pub(super) struct Read {
    #[cfg(feature = "emulate")] // which hands the kernel a copy
    pub(super) slot: Option<usize>,
    pub(super) tensor: Tensor,
    /// Where its elements lie.
    pub(super) address: u64,
}

impl Launch {
    /// Puts a kernel and its arguments together.
    ///
    /// # Errors
    /// A tensor is strided, elsewhere, too large or of other elements than the kernel reads.
    pub(super) fn new(gpu: &Gpu, kernel: &str, maps: DType, grid: Grid, args: &[Arg<'_>]) -> Result<Self> {
        let real = computed_in(maps);
        let (mut slots, mut reads, mut writes) =
            (Vec::with_capacity(args.len()), Vec::with_capacity(args.len()), Vec::with_capacity(2));
        for arg in args {
            let slot = match *arg {
                Arg::In(x) | Arg::Maybe(Some(x)) | Arg::Reals(Some(x)) | Arg::Doubles(Some(x)) => {
                    expect(
                        x,
                        match arg {
                            Arg::Doubles(_) => DType::F64,
                            Arg::Reals(_) => real,
                            _ if x.dtype().is_float() => maps,
                            _ => x.dtype(),
                        },
                    )?;
                    let address = gpu.address(x)?;
                    reads.push(Read {
                        #[cfg(feature = "emulate")]
                        slot: Some(slots.len()),
                        tensor: x.clone(),
                        address,
                    });
                    Slot::new(&address.to_ne_bytes())
                }
                Arg::Maybe(None) | Arg::Reals(None) | Arg::Doubles(None) => Slot::new(&0u64.to_ne_bytes()),
                Arg::Out(fresh) => {
                    writes.push(fresh.clone());
                    Slot::new(&fresh.address().to_ne_bytes())
                }
                Arg::ReadByTable(x) => {
                    reads.push(Read {
                        #[cfg(feature = "emulate")]
                        slot: None,
                        tensor: x.clone(),
                        address: gpu.address(x)?,
                    });
                    continue;
                }
                Arg::WrittenByTable(fresh) => {
                    writes.push(fresh.clone());
                    continue;
                }
                Arg::Int(n) => Slot::new(&int(n)?.to_ne_bytes()),
                Arg::Real(x) if real == DType::F32 => Slot::new(&(x as f32).to_ne_bytes()),
                Arg::Real(x) | Arg::Double(x) => Slot::new(&x.to_ne_bytes()),
                Arg::Geometry(geometry) => Slot::new(&geometry.fields().map(i32::to_ne_bytes).concat()),
            };
            slots.push(slot);
        }
        writes.iter().for_each(Fresh::will_be_written);
        Ok(Self { kernel: kernel.to_owned(), maps, grid, slots, reads, writes })
    }

    /// An address for each argument.
    pub(super) fn pointers(&mut self) -> Vec<*mut c_void> {
        self.slots.iter_mut().map(Slot::pointer).collect()
    }
}

/// Room for one argument, as large as the largest.
#[repr(C, align(8))]
pub(super) struct Slot([u8; 64]);

impl Slot {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut slot = [0; 64];
        slot[..bytes.len()].copy_from_slice(bytes);
        Self(slot)
    }

    fn pointer(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// Refuses a tensor of other elements, which the kernel would misread.
pub(super) fn expect(x: &Tensor, dtype: DType) -> Result<()> {
    if x.dtype() != dtype {
        bail!("found elements of type {:?}, expected {dtype:?}", x.dtype());
    }
    Ok(())
}
