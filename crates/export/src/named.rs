//! The weights as PyTorch's modules and candle's tensors want them: channels first, under the names of `model.py`.

use std::collections::BTreeMap;

use candle_core::Tensor;
use network::BlockSketch;
use ops::Sketch;
use search_space::{Block, Extent, Rank};

use crate::{
    Error, Trained,
    trained::{Array, moved},
};

/// Where each layer's values stand in the exported module, by the layer's name of ours.
#[derive(Debug, Default)]
pub(crate) struct Named {
    places: BTreeMap<String, String>,
    values: Vec<(String, Tensor)>,
}

impl Named {
    /// Walks the blueprint in its order and names every value.
    pub(crate) fn of(trained: &Trained) -> Result<Self, Error> {
        let (blueprint, mut named) = (trained.blueprint()?, Self::default());
        let mut extent = blueprint.layout.input.extent;
        if let Some(stem) = &blueprint.stem {
            extent = named.sketch(trained, stem, extent, "stem", "stem")?;
        }
        for (index, (block, sketch)) in blueprint.layout.blocks.iter().zip(&blueprint.blocks).enumerate() {
            match (block, sketch) {
                (Block::Cell(cell), BlockSketch::Cell { inputs, edges }) => {
                    let scope = format!("cells.{}", cell.index);
                    for (i, (input, sketch)) in cell.inputs.iter().zip(inputs).enumerate() {
                        let site =
                            input.preprocess.as_ref().map_or(input.shape.extent, |(_, site)| site.extent);
                        let (from, to) = (format!("{scope}.input_{i}"), format!("blocks.{index}.inputs.{i}"));
                        named.sketch(trained, sketch, site, &from, &to)?;
                    }
                    for (edge, sketch) in cell.edges.iter().zip(edges) {
                        let pair = format!("{}_{}", edge.from, edge.to);
                        let from = format!("{scope}.edge_{pair}.{}", edge.candidates[0].label);
                        let to = format!("blocks.{index}.edges.{pair}");
                        named.sketch(trained, sketch, edge.site.extent, &from, &to)?;
                    }
                    extent = cell.shape.extent;
                }
                (_, BlockSketch::Fixed(sketch)) => {
                    let place = format!("blocks.{index}");
                    extent = named.sketch(trained, sketch, extent, &place, &place)?;
                }
                (Block::Fixed { .. }, BlockSketch::Cell { .. }) => {
                    unreachable!("a blueprint is drawn block by block")
                }
            }
        }
        named.sketch(trained, &blueprint.head, extent, "head", "head")?;
        Ok(named)
    }

    /// Every value under its new name, running statistics among them.
    pub(crate) fn values(&self) -> &[(String, Tensor)] {
        &self.values
    }

    /// The module that holds a layer's values.
    pub(crate) fn place<'a>(&'a self, layer: &'a str) -> &'a str {
        self.places.get(layer).map_or(layer, String::as_str)
    }

    /// Names the values of one operation, whose scope of ours is `from` and whose module is `to`.
    fn sketch(
        &mut self,
        trained: &Trained,
        sketch: &Sketch,
        extent: Extent,
        from: &str,
        to: &str,
    ) -> Result<Extent, Error> {
        let (rank, mut after) = (extent.rank(), extent);
        match sketch {
            Sketch::Chain(links) => {
                let mut forks = (1..)
                    .map(|n| if n == 1 { format!("{to}.branches") } else { format!("{to}.branches_{n}") });
                for link in links {
                    let fork = match link {
                        Sketch::Sum(_) | Sketch::Concat(_) => forks.next(),
                        _ => None,
                    };
                    after = self.sketch(trained, link, after, from, fork.as_deref().unwrap_or(to))?;
                }
            }
            Sketch::Sum(branches) | Sketch::Concat(branches) => {
                for (i, branch) in branches.iter().enumerate() {
                    after = self.sketch(trained, branch, extent, from, &format!("{to}.{i}"))?;
                }
            }
            Sketch::Conv { name, bias, window, .. } => {
                let place = self.put(name, from, to);
                self.array(&place, "weight", trained.kernel(name, rank)?)?;
                if *bias {
                    self.array(&place, "bias", Array::vector(trained.vector(name, "bias")?))?;
                }
                after = moved(extent, window);
            }
            Sketch::Depthwise { name, window, .. } => {
                let place = self.put(name, from, to);
                self.array(&place, "weight", trained.filters(name, rank)?)?;
                after = moved(extent, window);
            }
            Sketch::BatchNorm { name, affine, .. } => {
                let place = self.put(name, from, to);
                let parts: &[_] = if *affine { &["weight", "bias"] } else { &[] };
                for part in parts.iter().chain(&["running_mean", "running_var"]) {
                    self.array(&place, part, Array::vector(trained.vector(name, part)?))?;
                }
            }
            Sketch::Linear { name } => {
                let place = self.put(name, from, to);
                self.array(&place, "weight", trained.matrix(name)?)?;
                self.array(&place, "bias", Array::vector(trained.vector(name, "bias")?))?;
            }
            Sketch::MaxPool(window) | Sketch::AveragePool(window) => after = moved(extent, window),
            Sketch::GlobalPool => after = Extent::Flat,
            Sketch::Activation(_) => {}
        }
        Ok(after)
    }

    fn put(&mut self, layer: &str, from: &str, to: &str) -> String {
        let place = format!("{to}.{}", leaf(layer, from));
        self.places.insert(layer.to_owned(), place.clone());
        place
    }

    fn array(&mut self, place: &str, part: &str, array: Array) -> Result<(), Error> {
        let tensor = Tensor::from_vec(array.values, array.dims, &candle_core::Device::Cpu)?;
        self.values.push((format!("{place}.{part}"), tensor));
        Ok(())
    }
}

/// A layer's name inside its operation, in one word: `a_dw` of `….sep_conv_3x3.a.dw`.
pub(crate) fn leaf(layer: &str, scope: &str) -> String {
    let inner = layer.strip_prefix(scope).map_or(layer, |rest| rest.trim_start_matches('.'));
    inner.replace('.', "_")
}

/// How many axes a map has besides the batch and the channels.
pub(crate) fn spatial_axes(rank: Rank) -> usize {
    match rank {
        Rank::Flat => 0,
        Rank::Series => 1,
        Rank::Image => 2,
    }
}
