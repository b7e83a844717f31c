//! A moment of a run, as a safetensors file.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor, safetensors::Load};
use ops::ParamStore;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{Error, error::FileError, optimizer::Sgd};

/// The one key of the file's metadata; its value is the header in JSON. More keys would be written in a random order.
const KEY: &str = "strait";

/// Tensors by name, and a header.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    header: String,
    tensors: BTreeMap<String, Tensor>,
}

/// What every checkpoint says of itself, and the state that only its kind knows.
#[derive(Serialize, Deserialize)]
struct Header<S> {
    version: u32,
    /// Of what the run was made from: see [`digest`].
    digest: String,
    #[serde(flatten)]
    state: S,
}

impl Checkpoint {
    /// `state` serializes as a map.
    pub(crate) fn new(version: u32, digest: &str, state: &impl Serialize) -> Self {
        let header = Header { version, digest: digest.to_owned(), state };
        let header = serde_json::to_string(&header).expect("a header is plain values");
        Self { header, tensors: BTreeMap::new() }
    }

    /// The state, where the checkpoint is of this version and this run; `otherwise` says what differs.
    pub(crate) fn state<S: DeserializeOwned>(
        &self,
        version: u32,
        digest: &str,
        otherwise: &str,
    ) -> Result<S, FileError> {
        let header: Header<S> = serde_json::from_str(&self.header)
            .map_err(|error| FileError::Malformed(format!("a checkpoint of this version: {error}")))?;
        if header.version != version {
            return Err(FileError::Malformed(format!(
                "a checkpoint of version {version}, but {}",
                header.version
            )));
        }
        if header.digest != digest {
            return Err(FileError::Mismatch(otherwise.into()));
        }
        Ok(header.state)
    }

    pub(crate) fn put(&mut self, name: String, tensor: &Tensor) {
        self.tensors.insert(name, tensor.detach());
    }

    /// The tensor `name` in the shape that is expected, so that no foreign value gets into a run.
    pub(crate) fn get(&self, name: &str, dims: &[usize]) -> Result<&Tensor, FileError> {
        let tensor =
            self.tensors.get(name).ok_or_else(|| FileError::Mismatch(format!("no tensor {name}")))?;
        if tensor.dims() != dims {
            let found = format!("{name} has the shape {:?}, expected {dims:?}", tensor.dims());
            return Err(FileError::Mismatch(found));
        }
        Ok(tensor)
    }

    /// Numbers as they are, to the bit.
    pub(crate) fn put_numbers(&mut self, name: &str, numbers: &[f64]) -> Result<(), Error> {
        self.put(name.into(), &Tensor::new(numbers, &Device::Cpu)?);
        Ok(())
    }

    pub(crate) fn numbers<const N: usize>(&self, name: &str) -> Result<[f64; N], FileError> {
        Ok(self.number_list(name, N)?.try_into().expect("there are as many as were asked for"))
    }

    /// As many numbers as `n`.
    pub(crate) fn number_list(&self, name: &str, n: usize) -> Result<Vec<f64>, FileError> {
        let numbers = self.get(name, &[n])?.to_vec1();
        numbers.map_err(|_| FileError::Mismatch(format!("{name} holds no f64")))
    }

    /// Weights, statistics and velocities.
    pub(crate) fn put_weights(&mut self, params: &ParamStore, sgd: &Sgd) {
        for (name, tensor) in params.tensors() {
            self.put(format!("params.{name}"), tensor);
        }
        for (id, name, _) in params.weights() {
            if let Some(velocity) = sgd.velocity(id) {
                self.put(format!("velocity.{name}"), velocity);
            }
        }
    }

    /// Puts weights, statistics and velocities back; every value of `params` must be there.
    pub(crate) fn restore_weights(&self, params: &mut ParamStore, sgd: &mut Sgd) -> Result<(), FileError> {
        let misfit = |error: candle_core::Error| FileError::Mismatch(error.to_string());
        let names: Vec<(String, Vec<usize>)> =
            params.tensors().map(|(name, tensor)| (name, tensor.dims().to_vec())).collect();
        for (name, dims) in names {
            let tensor = self.get(&format!("params.{name}"), &dims)?;
            params.load(&name, tensor).map_err(misfit)?;
        }
        let device = params.device();
        for (id, name, weight) in params.weights() {
            let name = format!("velocity.{name}");
            if self.tensors.contains_key(&name) {
                let velocity = self.get(&name, weight.dims())?.to_device(device).map_err(misfit)?;
                sgd.restore(id, velocity);
            }
        }
        Ok(())
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let metadata = HashMap::from([(KEY.to_owned(), self.header.clone())]);
        safetensors::serialize(&self.tensors, Some(metadata))
            .map_err(|error| candle_core::Error::wrap(error).into())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let malformed =
            |error: &dyn std::fmt::Display| FileError::Malformed(format!("a whole checkpoint: {error}"));
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| malformed(&error))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.cloned().ok_or_else(|| malformed(&"no header of strait"))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| malformed(&error))?;
        let tensors = file.tensors().into_iter().map(|(name, view)| Ok((name, view.load(&Device::Cpu)?)));
        let tensors = tensors.collect::<candle_core::Result<_>>().map_err(|error| malformed(&error))?;
        Ok(Self { header, tensors })
    }
}

/// What a checkpoint must agree in with the run that reads it, in hexadecimal.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Result<Vec<u8>, Error> {
        let mut checkpoint = Checkpoint::new(3, "origin", &serde_json::json!({"at": 7}));
        checkpoint.put_numbers("sums", &[0.1, f64::MIN_POSITIVE / 3.0])?;
        checkpoint.put("weight".into(), &Tensor::new(&[[1.5f32, -2.0]], &Device::Cpu)?);
        checkpoint.to_bytes()
    }

    #[test]
    fn a_checkpoint_comes_back_to_the_bit() -> Result<(), Box<dyn std::error::Error>> {
        let back = Checkpoint::from_bytes(&example()?)?;
        assert_eq!(back.header, r#"{"version":3,"digest":"origin","at":7}"#);
        assert_eq!(back.state::<serde_json::Value>(3, "origin", "")?, serde_json::json!({"at": 7}));
        assert_eq!(back.numbers("sums")?, [0.1, f64::MIN_POSITIVE / 3.0]);
        assert_eq!(back.get("weight", &[1, 2])?.to_vec2::<f32>()?, [[1.5, -2.0]]);
        assert_eq!(example()?, example()?, "the bytes depend on chance");
        Ok(())
    }

    #[test]
    fn torn_and_foreign_files_are_refused() -> Result<(), Box<dyn std::error::Error>> {
        let whole = example()?;
        for length in [0, 1, 8, whole.len() / 2, whole.len() - 1] {
            let error = Checkpoint::from_bytes(&whole[..length]).expect_err("a torn file was accepted");
            assert!(error.to_string().starts_with("not a whole checkpoint: "), "{error}");
        }
        let foreign = safetensors::serialize([("x", Tensor::new(1f32, &Device::Cpu)?)], None)?;
        let error = Checkpoint::from_bytes(&foreign).expect_err("a foreign file was accepted");
        assert_eq!(error.to_string(), "not a whole checkpoint: no header of strait");
        Ok(())
    }

    #[test]
    fn another_version_and_another_origin_are_refused() -> Result<(), Box<dyn std::error::Error>> {
        let checkpoint = Checkpoint::from_bytes(&example()?)?;
        for (version, origin, message) in [
            (2, "origin", "not a checkpoint of version 2, but 3"),
            (3, "elsewhere", "written by another run: the seed differs"),
        ] {
            let error = checkpoint.state::<serde_json::Value>(version, origin, "the seed differs");
            assert_eq!(error.expect_err("a foreign checkpoint was accepted").to_string(), message);
        }
        Ok(())
    }

    #[test]
    fn another_shape_is_another_run() -> Result<(), Box<dyn std::error::Error>> {
        let error =
            Checkpoint::from_bytes(&example()?)?.get("weight", &[2, 1]).err().map(|error| error.to_string());
        assert_eq!(
            error,
            Some("written by another run: weight has the shape [1, 2], expected [2, 1]".into())
        );
        Ok(())
    }
}
