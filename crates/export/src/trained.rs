//! A network with its values, as those formats need it that run.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use network::Blueprint;
use ops::kernels::Window;
use search_space::{Extent, Layout, Rank};

use crate::Error;

/// What a network computes and with which values: a [`Blueprint`], and the tensors it names.
#[derive(Clone, Debug)]
pub struct Trained {
    layout: Layout,
    /// What it computes, or why that cannot be told.
    blueprint: Result<Blueprint, String>,
    values: Vec<(String, Tensor)>,
    index: BTreeMap<String, usize>,
}

/// An array of numbers, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// How a window meets a map of one size: first rows and columns are cut away, then zeros are put around, and only
/// then it moves. Elsewhere padding is never negative, and windows that would leave the map are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Rows and columns cut from the beginning.
    pub(crate) crop: [usize; 2],
    /// Padding at the beginning of each axis.
    pub(crate) begin: [usize; 2],
    /// Padding at the end of each axis.
    pub(crate) end: [usize; 2],
}

impl Trained {
    /// The network of `blueprint` with `values`, running statistics among them.
    ///
    /// # Errors
    /// Two tensors have one name.
    pub fn new(blueprint: Blueprint, values: Vec<(String, Tensor)>) -> Result<Self, Error> {
        Self::of(blueprint.layout.clone(), Ok(blueprint), values)
    }

    /// A network of which only its values can leave: `why` says which operation cannot be told to others.
    ///
    /// # Errors
    /// As [`Trained::new`].
    pub fn untold(layout: Layout, why: String, values: Vec<(String, Tensor)>) -> Result<Self, Error> {
        Self::of(layout, Err(why), values)
    }

    fn of(
        layout: Layout,
        blueprint: Result<Blueprint, String>,
        values: Vec<(String, Tensor)>,
    ) -> Result<Self, Error> {
        let mut index = BTreeMap::new();
        for (at, (name, _)) in values.iter().enumerate() {
            if index.insert(name.clone(), at).is_some() {
                return Err(Error::Twice(name.clone()));
            }
        }
        Ok(Self { layout, blueprint, values, index })
    }

    /// What it computes.
    ///
    /// # Errors
    /// [`Error::Untold`].
    pub fn blueprint(&self) -> Result<&Blueprint, Error> {
        self.blueprint.as_ref().map_err(|why| Error::Untold(why.clone()))
    }

    /// The plan it was built from.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Every tensor by its name, in the order in which they were given.
    #[must_use]
    pub fn values(&self) -> &[(String, Tensor)] {
        &self.values
    }

    fn tensor(&self, layer: &str, part: &str) -> Result<&Tensor, Error> {
        let name = format!("{layer}.{part}");
        match self.index.get(&name) {
            Some(&at) => Ok(&self.values[at].1),
            None => Err(Error::Missing(name)),
        }
    }

    /// One vector of a layer: `bias`, `running_mean`, ….
    pub(crate) fn vector(&self, layer: &str, part: &str) -> Result<Vec<f32>, Error> {
        Ok(self.tensor(layer, part)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// The kernel of a convolution with the channels first: `(c_out, c_in, kh, kw)`, on series without `kh`, on flat
    /// maps `(c_out, c_in)`.
    pub(crate) fn kernel(&self, layer: &str, rank: Rank) -> Result<Array, Error> {
        let weight = self.tensor(layer, "weight")?.to_dtype(DType::F32)?;
        Array::with_axes(&weight.permute((3, 2, 0, 1))?, rank)
    }

    /// The filters of a depthwise convolution with the channels first: `(c, 1, kh, kw)`.
    pub(crate) fn filters(&self, layer: &str, rank: Rank) -> Result<Array, Error> {
        let weight = self.tensor(layer, "weight")?.to_dtype(DType::F32)?;
        Array::with_axes(&weight.permute((2, 0, 1))?.unsqueeze(1)?, rank)
    }

    /// The matrix of a linear layer, `(c_out, c_in)`.
    pub(crate) fn matrix(&self, layer: &str) -> Result<Array, Error> {
        let weight = self.tensor(layer, "weight")?.to_dtype(DType::F32)?.t()?;
        Ok(Array { dims: weight.dims().to_vec(), values: weight.flatten_all()?.to_vec1()? })
    }
}

impl Array {
    pub(crate) fn vector(values: Vec<f32>) -> Self {
        Self { dims: vec![values.len()], values }
    }

    /// Of `(c_out, c_in, kh, kw)`, the spatial axes that `rank` has.
    fn with_axes(kernel: &Tensor, rank: Rank) -> Result<Self, Error> {
        let (out, inner, _, kw) = kernel.dims4()?;
        let dims = match rank {
            Rank::Image => kernel.dims().to_vec(),
            Rank::Series => vec![out, inner, kw],
            Rank::Flat => vec![out, inner],
        };
        Ok(Self { dims, values: kernel.flatten_all()?.to_vec1()? })
    }
}

impl Reach {
    /// Of `window` on a map of `extent`: exactly the `⌈in / stride⌉` outputs of ours.
    pub(crate) fn of(window: &Window, extent: Extent) -> Self {
        let (height, width) = extent.plane();
        let axis = |size: usize, kernel: usize, stride: usize, dilation: usize, pad: isize| {
            let last = (size.div_ceil(stride) - 1) * stride + (kernel - 1) * dilation; // past the padded beginning
            let (crop, begin) = (pad.min(0).unsigned_abs(), pad.max(0).unsigned_abs());
            (crop, begin, (last + 1 + crop).saturating_sub(size + begin))
        };
        let Window { kernel, stride, dilation, pad } = *window;
        let rows = axis(height, kernel.0, stride.0, dilation.0, pad.0);
        let columns = axis(width, kernel.1, stride.1, dilation.1, pad.1);
        Self { crop: [rows.0, columns.0], begin: [rows.1, columns.1], end: [rows.2, columns.2] }
    }

    pub(crate) fn cuts(&self) -> bool {
        self.crop != [0, 0]
    }
}

/// The extent after a window has moved over it.
pub(crate) fn moved(extent: Extent, window: &Window) -> Extent {
    match extent {
        Extent::Flat => Extent::Flat,
        Extent::Series { length } => Extent::Series { length: length.div_ceil(window.stride.1) },
        Extent::Image { height, width } => {
            let (height, width) = window.out(height, width);
            Extent::Image { height, width }
        }
    }
}

/// Of a pair (rows, columns), those axes that `rank` has.
pub(crate) fn spatial<T: Copy>(pair: [T; 2], rank: Rank) -> Vec<T> {
    match rank {
        Rank::Image => pair.to_vec(),
        Rank::Series => vec![pair[1]],
        Rank::Flat => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVEN: Extent = Extent::Image { height: 7, width: 8 };

    fn reach(kernel: usize, stride: usize, dilation: usize) -> Reach {
        let pair = |n| (n, n);
        Reach::of(&Window::same(pair(kernel), pair(stride), pair(dilation)), SEVEN)
    }

    #[test]
    fn a_centered_window_reaches_out_on_both_sides() {
        assert_eq!(reach(3, 1, 1), Reach { crop: [0, 0], begin: [1, 1], end: [1, 1] });
        // Of 8 columns a stride of 2 reads 0–2, 2–4, 4–6 and, one padded, 6–8: the last zero is never reached.
        assert_eq!(reach(3, 2, 1), Reach { crop: [0, 0], begin: [1, 1], end: [1, 0] });
        assert_eq!(reach(5, 1, 2), Reach { crop: [0, 0], begin: [4, 4], end: [4, 4] });
    }

    #[test]
    fn a_window_that_starts_inside_cuts() {
        let shifted = Window::same((1, 1), (2, 2), (1, 1)).shifted(1);
        // Of 7 rows 1, 3, 5 and a zero below; of 8 columns 1, 3, 5, 7.
        assert_eq!(Reach::of(&shifted, SEVEN), Reach { crop: [1, 1], begin: [0, 0], end: [1, 0] });
    }

    #[test]
    fn partial_windows_end_in_padding() {
        let pool = Window { kernel: (2, 2), stride: (2, 2), dilation: (1, 1), pad: (0, 0) };
        assert_eq!(Reach::of(&pool, SEVEN), Reach { crop: [0, 0], begin: [0, 0], end: [1, 0] });
    }
}
