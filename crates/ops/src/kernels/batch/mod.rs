//! Batches of examples that are all at hand already: gathered, shifted, mirrored, normalized and cut out in one pass.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

use super::{gpu::on_gpu, values::Values as Slice};

/// Examples of one shape, end to end, channels last: bytes as long as every value is a byte over 255 to the bit, which takes
/// a quarter of the memory.
#[derive(Clone, Debug)]
pub struct Packed(Values);

#[derive(Clone, Debug)]
enum Values {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// [`Packed`] examples on a device.
#[derive(Clone, Debug)]
pub struct Held {
    /// `u8` or `f32`.
    values: Tensor,
    /// Rows, columns and channels of an example.
    dims: (usize, usize, usize),
}

/// An example of a batch, and what is done to it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which example.
    pub index: usize,
    /// `out[y, x] = in[y + shift.0, x + shift.1]`, 0 where that is outside.
    pub shift: (isize, isize),
    /// Whether left becomes right.
    pub mirrored: bool,
    /// Rows and columns that are 0 after normalization.
    pub hole: (Range<usize>, Range<usize>),
}

/// `(x − mean) / deviation`, a number for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Scale<'a> {
    /// Means.
    pub mean: &'a [f32],
    /// Deviations.
    pub deviation: &'a [f32],
}

impl Packed {
    /// None yet, with room for `len` numbers where the host has it: as vectors grow they are copied, and twice there for a
    /// moment.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self(Values::Bytes(with_room(len)))
    }

    /// Adds one example.
    pub fn push(&mut self, example: &[f32]) {
        if let Values::Bytes(bytes) = &mut self.0 {
            let before = bytes.len();
            bytes.extend(example.iter().map_while(|&value| byte(value)));
            if bytes.len() == before + example.len() {
                return;
            }
            bytes.truncate(before);
            let mut values = with_room(bytes.capacity());
            values.extend(bytes.iter().copied().map(value));
            self.0 = Values::Floats(values);
        }
        if let Values::Floats(values) = &mut self.0 {
            values.extend_from_slice(example);
        }
    }

    /// Memory that the examples take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Values::Bytes(bytes) => bytes.len(),
            Values::Floats(values) => 4 * values.len(),
        }
    }

    /// Puts examples of `(rows, columns, channels)` on a device.
    ///
    /// # Errors
    /// The device has no room, or the last example is not whole.
    pub fn hold(self, dims: (usize, usize, usize), device: &Device) -> Result<Held> {
        let values = match self.0 {
            Values::Bytes(bytes) => from_vec(bytes, device)?,
            Values::Floats(values) => from_vec(values, device)?,
        };
        let (h, w, c) = dims;
        if h * w * c == 0 || !values.elem_count().is_multiple_of(h * w * c) {
            bail!("found {} values, expected whole examples of {h}×{w}×{c}", values.elem_count());
        }
        Ok(Held { values, dims })
    }
}

/// An empty vector with room for `len` values, or for none where that is too much to ask for at once.
fn with_room<T>(len: usize) -> Vec<T> {
    let mut values = Vec::new();
    let _ = values.try_reserve_exact(len); // then it grows as it is filled
    values
}

impl Held {
    /// How many examples there are.
    #[must_use]
    pub fn examples(&self) -> usize {
        let (h, w, c) = self.dims;
        self.values.elem_count() / (h * w * c)
    }

    /// The batch of these rows, `(N, H·W·C)` in `f32`.
    ///
    /// # Errors
    /// There is no row, no such example, a hole leaves it, or a number is not there for every channel.
    pub fn batch(&self, rows: &[Row], scale: Option<Scale<'_>>) -> Result<Tensor> {
        let (h, w, c) = self.dims;
        for Row { index, hole: (down, across), .. } in rows {
            if *index >= self.examples() {
                bail!("found example {index}, expected one below {}", self.examples());
            }
            if down.end > h || across.end > w {
                bail!("found a hole of rows {down:?}, columns {across:?}; expected one in {h}×{w}");
            }
        }
        if let Some(Scale { mean, deviation }) = scale
            && (mean.len() != c || deviation.len() != c)
        {
            bail!("found {} means and {} deviations, expected {c} of each", mean.len(), deviation.len());
        }
        if rows.is_empty() {
            bail!("found no rows, expected one or more");
        }
        on_gpu!(&self.values, gpu => cuda::gather(&gpu, &self.values, self.dims, rows, scale));
        let x = match self.values.dtype() {
            DType::U8 => {
                let bytes = Slice::<u8>::of(&self.values)?;
                cpu::gather(|place| value(bytes[place]), self.dims, rows, scale)
            }
            _ => {
                let floats = Slice::<f32>::of(&self.values)?;
                cpu::gather(|place| floats[place], self.dims, rows, scale)
            }
        };
        Tensor::from_vec(x, (rows.len(), h * w * c), &Device::Cpu)
    }
}

fn from_vec<T: WithDType>(values: Vec<T>, device: &Device) -> Result<Tensor> {
    let len = values.len();
    Tensor::from_vec(values, len, device)
}

/// The byte that stands for exactly this value.
fn byte(of: f32) -> Option<u8> {
    let byte = (of * 255.0).round() as u8; // saturates
    (value(byte).to_bits() == of.to_bits()).then_some(byte)
}

/// What a byte stands for.
fn value(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}
