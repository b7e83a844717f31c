//! What a device multiplies.

use std::fmt;

use candle_core::{DType, Result, bail};

/// What maps are stored as on a device, and what the products of its convolutions are made of. Weights, their gradients,
/// optimizers' state, statistics and all sums are `f32` or wider in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `f32`, as on the CPU.
    F32,
    /// TF32: maps and weights are `f32`, of which matrix units see 10 bits of mantissa. PyTorch's default for
    /// convolutions (`torch.backends.cudnn.allow_tf32`); fully connected layers stay with `f32`, as they do there.
    Tf32,
    /// Mixed precision: maps and their gradients are stored in bf16 (7 bits of mantissa). So are the factors of a device's
    /// convolutions, of which the weights are rounded on their way; its fully connected layers, and all of the CPU's
    /// operations, read such maps and compute in `f32`.
    Bf16,
}

impl Arithmetic {
    /// What is best known to be good enough on a device of this compute capability: TF32 where there are matrix units
    /// for it, from 8.0 on.
    #[must_use]
    pub fn usual(capability: (usize, usize)) -> Self {
        if capability >= MATRIX_UNITS { Self::Tf32 } else { Self::F32 }
    }

    /// What maps are stored as.
    #[must_use]
    pub fn maps(self) -> DType {
        if self == Self::Bf16 { DType::BF16 } else { DType::F32 }
    }

    /// One word: `f32`, `tf32` or `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Refuses a device that lacks the units.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn check(self, (major, minor): (usize, usize)) -> Result<()> {
        if self != Self::F32 && (major, minor) < MATRIX_UNITS {
            bail!(
                "found compute capability {major}.{minor}, which multiplies no {}; expected 8.0 or above",
                self.name()
            );
        }
        Ok(())
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "f32 with convolutions in TF32",
            Self::Bf16 => "bf16 with weights in f32",
        })
    }
}

/// The first compute capability whose matrix units take TF32 and bf16.
const MATRIX_UNITS: (usize, usize) = (8, 0);

/// A text of the kernels: for maps of one type, multiplied in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    F32,
    Tf32,
    Bf16,
    F64,
}

impl Text {
    /// For maps of `maps` elements, on a device that multiplies in `arithmetic`: of `f32` there are two.
    pub(super) fn new(maps: DType, arithmetic: Arithmetic) -> Result<Self> {
        Ok(match maps {
            DType::F32 if arithmetic == Arithmetic::Tf32 => Self::Tf32,
            DType::F32 => Self::F32,
            DType::BF16 => Self::Bf16,
            DType::F64 => Self::F64,
            other => bail!("found elements of type {other:?}; kernels take bf16, f32 or f64"),
        })
    }

    /// The lines in front of the kernels.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::F32 => "typedef float real;\n",
            Self::Tf32 => "#define TF32\ntypedef float real;\n",
            Self::Bf16 => "#define BF16\ntypedef float real;\n",
            Self::F64 => "typedef double real;\n",
        }
    }

    /// Whether convolutions run on matrix units.
    #[cfg(feature = "emulate")]
    pub(super) fn has_matrix_units(self) -> bool {
        matches!(self, Self::Tf32 | Self::Bf16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_without_matrix_units_compute_in_f32_and_refuse_the_rest() {
        assert_eq!(Arithmetic::usual((7, 5)), Arithmetic::F32);
        assert_eq!([(8, 0), (9, 0)].map(Arithmetic::usual), [Arithmetic::Tf32; 2]);
        assert!(Arithmetic::F32.check((5, 0)).is_ok() && Arithmetic::Bf16.check((8, 0)).is_ok());
        for arithmetic in [Arithmetic::Tf32, Arithmetic::Bf16] {
            let refused = arithmetic.check((7, 5)).expect_err("an old device was accepted").to_string();
            assert!(refused.contains("found compute capability 7.5, which multiplies no"), "{refused}");
        }
    }
}
