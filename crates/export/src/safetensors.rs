//! Weights and running statistics, with a header that says what network they belong to.

use std::{borrow::Cow, collections::BTreeSet, io::Write};

use ::safetensors::{Dtype, View};
use candle_core::{DType, Tensor};
use search_space::Genotype;
use serde::{Deserialize, Serialize};

use crate::{Error, ModelCard};

/// The metadata key under which the header stands, as JSON.
pub const KEY: &str = "strait";

/// What stands in the file's metadata: with it and the tensors the network can be rebuilt and fed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this header, 1.
    pub version: u32,
    /// The architecture.
    pub genotype: Genotype,
    /// The space, the classes, the preprocessing and the metrics.
    pub card: ModelCard,
}

/// Writes named tensors, running statistics among them, in the format of Hugging Face's `safetensors`.
///
/// Kernels keep our order, channels last. The header is one key, so that its bytes do not depend on a map's order.
///
/// # Errors
/// No tensor, two of one name, one of a type other than `F32` and `F64`; the writer's.
pub fn write(
    genotype: &Genotype,
    card: &ModelCard,
    weights: &[(String, Tensor)],
    out: &mut dyn Write,
) -> Result<(), Error> {
    if weights.is_empty() {
        return Err(Error::NoWeights);
    }
    let mut names = BTreeSet::new();
    if let Some((name, _)) = weights.iter().find(|(name, _)| !names.insert(name)) {
        return Err(Error::Twice(name.clone()));
    }
    let header = Header { version: 1, genotype: genotype.clone(), card: card.clone() };
    let header = serde_json::to_string(&header).expect("numbers and strings have a JSON form");
    let views = weights.iter().map(|(name, tensor)| Ok((name.as_str(), Bytes::of(name, tensor)?)));
    let views = views.collect::<Result<Vec<_>, Error>>()?;
    Ok(out.write_all(&::safetensors::serialize(views, Some([(KEY.to_owned(), header)].into()))?)?)
}

/// A tensor's content, little-endian.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn of(name: &str, tensor: &Tensor) -> Result<Self, Error> {
        let flat = tensor.flatten_all()?;
        let (dtype, data) = match tensor.dtype() {
            DType::F32 => {
                (Dtype::F32, flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect())
            }
            DType::F64 => {
                (Dtype::F64, flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect())
            }
            found => return Err(Error::Type { name: name.to_owned(), found }),
        };
        Ok(Self { dtype, shape: tensor.dims().to_vec(), data })
    }
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
