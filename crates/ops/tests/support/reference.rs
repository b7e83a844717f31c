//! Reference tensors made with PyTorch: read, turned to channels last, and compared.

use std::{collections::BTreeMap, path::PathBuf};

use candle_core::{DType, Device, Result, Tensor};

/// The tensors of one file; those of a case are named `case/tensor`.
pub(crate) struct Reference(BTreeMap<String, Tensor>);

impl Reference {
    /// Reads `ops/nor_conv_3x3` from the folder `STRAIT_FIXTURES`, by default the project's own.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
        let folder = std::env::var_os("STRAIT_FIXTURES").map_or_else(|| PathBuf::from(own), PathBuf::from);
        let path = folder.join(format!("{name}.safetensors"));
        Ok(Self(candle_core::safetensors::load(path, &Device::Cpu)?.into_iter().collect()))
    }

    /// The cases of the file, in the order of their names.
    #[allow(dead_code, reason = "a file of networks is one case")]
    pub(crate) fn cases(&self) -> Vec<String> {
        let mut cases: Vec<String> =
            self.0.keys().filter_map(|name| Some(name.split_once('/')?.0.into())).collect();
        cases.dedup();
        cases
    }

    /// The names that begin with `prefix`, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.0.keys().filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect()
    }

    /// A tensor as stored.
    #[track_caller]
    pub(crate) fn raw(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the file has no tensor {name}"))
    }

    /// A map: `(N, C, H, W)` as stored, `(N, H, W, C)` here.
    #[track_caller]
    pub(crate) fn map(&self, name: &str) -> Result<Tensor> {
        match self.raw(name) {
            map if map.rank() == 4 => map.permute((0, 2, 3, 1))?.contiguous(),
            other => Ok(other.clone()),
        }
    }

    /// A weight or its gradient: `(out, in, kh, kw)` becomes `(kh, kw, in, out)`, depthwise `(c, 1, kh, kw)` becomes
    /// `(kh, kw, c)`, linear `(out, in)` becomes `(in, out)`.
    #[track_caller]
    pub(crate) fn weight(&self, name: &str) -> Result<Tensor> {
        let stored = self.raw(name);
        match stored.rank() {
            4 if name.ends_with("dw.weight") => stored.squeeze(1)?.permute((1, 2, 0))?.contiguous(),
            4 => stored.permute((2, 3, 1, 0))?.contiguous(),
            2 => stored.t()?.contiguous(),
            _ => Ok(stored.clone()),
        }
    }
}

/// The largest difference over the largest magnitude of the reference; where the reference is zero up to rounding, the
/// largest difference.
pub(crate) fn error(found: &Tensor, reference: &Tensor) -> Result<f64> {
    assert_eq!(found.dims(), reference.dims());
    let found = found.to_dtype(DType::F64)?;
    let reference = reference.to_dtype(DType::F64)?;
    let largest = |x: Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
    let (difference, magnitude) = (largest((found - &reference)?)?, largest(reference)?);
    Ok(if magnitude < 1e-9 { difference } else { difference / magnitude })
}

/// Panics with `what` where the error is above `tolerance`.
#[track_caller]
pub(crate) fn assert_agrees(what: &str, found: &Tensor, reference: &Tensor, tolerance: f64) -> Result<()> {
    let error = error(found, reference)?;
    assert!(error <= tolerance, "{what}: error {error:e}, tolerance {tolerance:e}");
    Ok(())
}
