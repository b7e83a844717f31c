//! Between tensors and slices.

use std::ops::{Deref, Range};

use candle_core::{Device, Result, Storage, StorageRef, Tensor, WithDType, bail};

use super::{simd::Vector, stored::Stored};

/// The element types of the kernels: `f32` to train, `f64` to check the mathematics.
pub(crate) trait Real: WithDType {
    const ZERO: Self;
    const ONE: Self;
    /// Vectors for each instruction set.
    type Portable: Vector<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Elem = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Elem = Self>;
    /// The shortest elements that are computed with as these numbers.
    type Narrow: Stored<Real = Self>;

    fn sqrt(self) -> Self;

    fn is_nan(self) -> bool;

    /// The same number, a whole one of 0 … 255.
    fn to_u8(self) -> u8;

    /// `max(self, 0)`, of NaN NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        if self < Self::ZERO { Self::ZERO } else { self }
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    type Portable = super::simd::Lanes<f32>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512;
    type Narrow = half::bf16;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn to_u8(self) -> u8 {
        (self + 8_388_608.0).to_bits() as u8 // 2²³: the last bits of the sum are the number
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    type Portable = super::simd::Lanes<f64>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256d;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512d;
    type Narrow = Self;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn to_u8(self) -> u8 {
        (self + 4_503_599_627_370_496.0).to_bits() as u8 // 2⁵²
    }
}

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
            type $T = <$M as $crate::kernels::stored::Stored>::Real;
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

/// The extent of a spatial tensor, whatever its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) rank: usize,
}

impl Map {
    pub(crate) fn of(dims: &[usize]) -> Result<Self> {
        let (n, h, w, c) = match *dims {
            [n, c] => (n, 1, 1, c),
            [n, l, c] => (n, 1, l, c),
            [n, h, w, c] => (n, h, w, c),
            _ => bail!("found shape {dims:?}, expected (N, C), (N, L, C) or (N, H, W, C)"),
        };
        if h * w * c == 0 {
            bail!("found shape {dims:?}, expected pixels and channels");
        }
        Ok(Self { n, h, w, c, rank: dims.len() })
    }

    /// Elements of one image.
    pub(crate) fn image(&self) -> usize {
        self.h * self.w * self.c
    }

    pub(crate) fn len(&self) -> usize {
        self.n * self.image()
    }

    pub(crate) fn dims(&self) -> Vec<usize> {
        let all = [self.n, self.h, self.w, self.c];
        match self.rank {
            2 => vec![self.n, self.c],
            3 => vec![self.n, self.w, self.c],
            _ => all.to_vec(),
        }
    }

    /// This map with other pixels.
    pub(crate) fn with_pixels(self, h: usize, w: usize) -> Self {
        Self { h, w, ..self }
    }

    /// The map that a window makes of this one, with `c` channels.
    pub(crate) fn through(&self, window: &super::Window, c: usize) -> Self {
        let (h, w) = window.out(self.h, self.w);
        Self { h, w, c, ..*self }
    }
}
