//! A launch's arguments as both drivers take them: an address for each.

use std::ffi::c_void;

use candle_core::{DType, Result, Tensor, bail};

use super::{Arg, computed_in, int};

/// Room for one argument, as large as the largest.
#[repr(C, align(8))]
pub(super) struct Slot([u8; 64]);

impl Slot {
    fn new(bytes: &[u8]) -> Self {
        let mut slot = [0; 64];
        slot[..bytes.len()].copy_from_slice(bytes);
        Self(slot)
    }

    pub(super) fn pointer(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// The arguments' bytes; `address` says where a tensor's elements lie.
pub(super) fn marshal(
    maps: DType,
    args: &[Arg<'_>],
    mut address: impl FnMut(&Tensor) -> Result<u64>,
) -> Result<Vec<Slot>> {
    let real = computed_in(maps);
    let slot = |arg: &Arg<'_>| {
        Ok(match *arg {
            Arg::In(x) | Arg::Maybe(Some(x)) => {
                expect(x, if x.dtype().is_float() { maps } else { x.dtype() })?;
                Slot::new(&address(x)?.to_ne_bytes())
            }
            Arg::Reals(Some(x)) => {
                expect(x, real)?;
                Slot::new(&address(x)?.to_ne_bytes())
            }
            Arg::Doubles(Some(x)) => {
                expect(x, DType::F64)?;
                Slot::new(&address(x)?.to_ne_bytes())
            }
            Arg::Maybe(None) | Arg::Reals(None) | Arg::Doubles(None) => Slot::new(&0u64.to_ne_bytes()),
            Arg::Out(fresh) => Slot::new(&fresh.address().to_ne_bytes()),
            Arg::Int(n) => Slot::new(&int(n)?.to_ne_bytes()),
            Arg::Real(x) if real == DType::F32 => Slot::new(&(x as f32).to_ne_bytes()),
            Arg::Real(x) | Arg::Double(x) => Slot::new(&x.to_ne_bytes()),
            Arg::Geometry(geometry) => Slot::new(&geometry.fields().map(i32::to_ne_bytes).concat()),
        })
    };
    args.iter().map(slot).collect()
}

/// Refuses a tensor of other elements, which the kernel would misread.
pub(super) fn expect(x: &Tensor, dtype: DType) -> Result<()> {
    if x.dtype() != dtype {
        bail!("found elements of type {:?}, expected {dtype:?}", x.dtype());
    }
    Ok(())
}
