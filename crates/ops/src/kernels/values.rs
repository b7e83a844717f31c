//! Between tensors and slices.

use std::ops::{Deref, Range};

use candle_core::{Device, Result, Storage, StorageRef, Tensor, WithDType, bail};

/// Evaluates an expression with `$T` standing for the element type of a tensor.
macro_rules! for_real {
    ($tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("found elements of type {other:?}; kernels take f32 or f64"),
        }
    };
}
pub(crate) use for_real;

/// Evaluates an expression with `$M` standing for the element type of a map, and `$T` for what that is computed with as.
macro_rules! for_stored {
    ($tensor:expr, $M:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $M = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $M = f64;
                $body
            }
            candle_core::DType::BF16 => {
                type $M = half::bf16;
                $body
            }
            other => candle_core::bail!("found elements of type {other:?}; kernels take f32, f64 or bf16"),
        }
    };
    ($tensor:expr, $M:ident, $T:ident => $body:expr) => {
        $crate::kernels::values::for_stored!($tensor, $M => {
            type $T = <$M as $crate::kernels::element::Stored>::Real;
            $body
        })
    };
}
pub(crate) use for_stored;

/// The elements of a contiguous tensor on the host, in row-major order, without a copy.
pub(crate) struct Values<'a, T> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    element: std::marker::PhantomData<T>,
}

impl<'a, T: WithDType> Values<'a, T> {
    /// Borrows a tensor that [`dense`] returned.
    pub(crate) fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        #[cfg(feature = "emulate")]
        if super::gpu::is_on() {
            bail!("a kernel of the CPU was asked for values of a device");
        }
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("found strided values, expected contiguous ones")
        };
        match &*storage {
            Storage::Cpu(values) => values.as_slice::<T>()?,
            _ => bail!("found values on {:?}; this kernel runs on the CPU", x.device().location()),
        };
        Ok(Self { storage, range: start..end, element: std::marker::PhantomData })
    }
}

impl<T: WithDType> Deref for Values<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(values) => &values.as_slice::<T>().expect("checked in `of`")[self.range.clone()],
            _ => unreachable!("checked in `of`"),
        }
    }
}

/// The tensor with its elements in row-major order; itself where they are already.
pub(crate) fn dense(x: &Tensor) -> Result<Tensor> {
    if !x.is_contiguous() {
        super::gpu::send()?; // candle reads it
    }
    x.contiguous()
}

/// Makes a tensor of fresh values.
pub(crate) fn tensor<T: WithDType>(values: Vec<T>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// Refuses tensors of different shapes.
pub(crate) fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() != b.dims() {
        bail!("found shapes {:?} and {:?}, expected the same", a.dims(), b.dims());
    }
    Ok(())
}

/// Refuses a tensor of another shape.
pub(crate) fn expect_dims(what: &str, x: &Tensor, dims: &[usize]) -> Result<()> {
    if x.dims() != dims {
        bail!("{what}: found shape {:?}, expected {dims:?}", x.dims());
    }
    Ok(())
}
