//! Weights and running statistics, with a header that says what network they belong to.

use std::{borrow::Cow, collections::BTreeSet, io::Write};

use ::safetensors::{Dtype, SafeTensors, View};
use candle_core::{DType, Device, Tensor};
use network::Network;
use ops::{Catalog, ParamStore};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{Extent, Genotype, LayoutRequest, Phase, Shape, Space};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Build, Error, ModelCard};

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
    /// SHA-256 over every tensor's name, shape and content, in the order of their names, in hexadecimal.
    pub weights: String,
}

/// A file of weights, read back.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it says of itself.
    pub header: Header,
    /// Named tensors, running statistics among them.
    pub tensors: Vec<(String, Tensor)>,
}

impl Model {
    /// Reads a file that [`write()`] wrote; tensors come in the order of their names.
    ///
    /// # Errors
    /// It is no file of tensors, or has no header of ours.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let header = metadata.metadata().as_ref().and_then(|entries| entries.get(KEY));
        let header = header.ok_or(Error::Header("nothing under the key `strait`".to_owned()))?;
        let header: Header =
            serde_json::from_str(header).map_err(|error| Error::Header(error.to_string()))?;
        if header.version != VERSION {
            return Err(Error::Header(format!("version {}", header.version)));
        }
        let views = SafeTensors::deserialize(bytes)?;
        let mut tensors = Vec::new();
        for (name, view) in views.tensors() {
            let shape = view.shape();
            let tensor = match view.dtype() {
                Dtype::F32 => Tensor::from_raw_buffer(view.data(), DType::F32, shape, &Device::Cpu)?,
                Dtype::F64 => Tensor::from_raw_buffer(view.data(), DType::F64, shape, &Device::Cpu)?,
                found => return Err(Error::Header(format!("tensor `{name}` of type {found:?}"))),
            };
            tensors.push((name, tensor));
        }
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self { header, tensors })
    }

    /// SHA-256 of the tensors as they are: equal to the header's, unless someone changed one of them.
    ///
    /// # Errors
    /// candle's.
    pub fn fingerprint(&self) -> Result<String, Error> {
        fingerprint(&self.tensors)
    }

    /// The network that these weights are of, with them.
    ///
    /// # Errors
    /// The space or the genotype is faulty, or a tensor is missing, surplus or of another shape.
    pub fn network(&self, catalog: &Catalog) -> Result<(Network, ParamStore), Error> {
        let Header { genotype, card, .. } = &self.header;
        let space = Space::parse(&card.space_yaml, &genotype.space, catalog)?;
        let Build { inherited, channels, cells } = card.build;
        let request = LayoutRequest {
            input: shape(&card.input).ok_or_else(|| Error::Header(format!("input {:?}", card.input)))?,
            classes: card.classes.len(),
            phase: if inherited { Phase::Search } else { Phase::Train },
            channels,
            cells,
        };
        let layout = space.layout(&request, catalog)?.child(genotype)?;
        let mut unused = ChaCha8Rng::seed_from_u64(0); // every value is replaced
        let (network, mut params) = Network::new(layout, catalog, DType::F32, &Device::Cpu, &mut unused)?;
        for (name, value) in &self.tensors {
            params.load(name, value)?;
        }
        let (found, expected) = (self.tensors.len(), params.tensors().count());
        if found != expected {
            return Err(Error::Header(format!("{found} tensors, where the network has {expected}")));
        }
        Ok((network, params))
    }
}

/// `[H, W, C]`, `[L, C]` or `[C]`.
fn shape(dims: &[usize]) -> Option<Shape> {
    match *dims {
        [channels] => Some(Shape { extent: Extent::Flat, channels }),
        [length, channels] => Some(Shape { extent: Extent::Series { length }, channels }),
        [height, width, channels] => Some(Shape { extent: Extent::Image { height, width }, channels }),
        _ => None,
    }
}

/// The fingerprint of tensors, whatever order they come in.
fn fingerprint(tensors: &[(String, Tensor)]) -> Result<String, Error> {
    let mut sorted: Vec<&(String, Tensor)> = tensors.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut hash = Sha256::new();
    for (name, tensor) in sorted {
        let Bytes { shape, data, .. } = Bytes::of(name, tensor)?;
        let numbers = [name.len(), shape.len()].into_iter().chain(shape);
        numbers.for_each(|n| hash.update((n as u64).to_le_bytes()));
        hash.update(name);
        hash.update(&data);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

const VERSION: u32 = 1;

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
    let weights_hash = fingerprint(weights)?;
    let header =
        Header { version: VERSION, genotype: genotype.clone(), card: card.clone(), weights: weights_hash };
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
