//! `as: series`: the columns of an image as time, its rows as channels.

use std::sync::Arc;

use search_space::{Extent, Shape};

use crate::{DataInfo, Dataset, Error, Part};

/// An image data set read as series: `(H, W, C)` becomes `(L = W, H·C)`.
struct Series {
    images: Arc<dyn Dataset>,
    info: DataInfo,
    height: usize,
}

/// Series stay as they are; flat data is refused, for it has no columns.
pub(crate) fn view(images: Arc<dyn Dataset>) -> Result<Arc<dyn Dataset>, Error> {
    let info = images.info().clone();
    match info.shape.extent {
        Extent::Series { .. } => Ok(images),
        Extent::Flat => Err(Error::setting("as", "series of flat examples", "images or series")),
        Extent::Image { height, width } => {
            let shape =
                Shape { extent: Extent::Series { length: width }, channels: height * info.shape.channels };
            Ok(Arc::new(Series { images, info: DataInfo { shape, ..info }, height }))
        }
    }
}

impl Dataset for Series {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn len(&self, part: Part) -> usize {
        self.images.len(part)
    }

    fn read(&self, part: Part, index: usize, out: &mut [f32]) -> u32 {
        let mut image = vec![0.0; out.len()];
        let label = self.images.read(part, index, &mut image);
        let n_rows = self.height;
        let row = out.len() / n_rows; // W·C
        let channels = self.info.shape.channels / n_rows;
        for (time, step) in out.chunks_exact_mut(n_rows * channels).enumerate() {
            for (y, pixel) in step.chunks_exact_mut(channels).enumerate() {
                let from = y * row + time * channels;
                pixel.copy_from_slice(&image[from..from + channels]);
            }
        }
        label
    }
}
