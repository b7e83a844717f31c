//! From sketches to operators: one walk over the blueprint.

use std::collections::BTreeSet;

use network::BlockSketch;
use ops::{
    Sketch,
    kernels::{Prelude, Window},
    layers::Activation,
};
use search_space::{Block, Cell, Extent, Rank};

use super::{
    BatchNorms,
    proto::{Attribute, Constant, Node},
};
use crate::{
    Error, Trained,
    trained::{Array, Reach, moved, spatial},
};

/// The graph's input.
pub(super) const INPUT: &str = "input";
/// The graph's output.
pub(super) const OUTPUT: &str = "logits";
/// ONNX's number of `f32`.
pub(super) const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// A graph being written.
pub(super) struct Emitter<'a> {
    trained: &'a Trained,
    norms: BatchNorms,
    pub(super) nodes: Vec<Node>,
    pub(super) constants: Vec<Constant>,
    names: BTreeSet<String>,
}

/// A value inside the graph.
#[derive(Clone, Debug)]
struct Value {
    name: String,
    extent: Extent,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(trained: &'a Trained, norms: BatchNorms) -> Self {
        Self { trained, norms, nodes: Vec::new(), constants: Vec::new(), names: BTreeSet::new() }
    }

    /// Every operator, from the input to the logits.
    pub(super) fn network(&mut self) -> Result<(), Error> {
        let blueprint = self.trained.blueprint()?;
        let mut last = Value { name: INPUT.to_owned(), extent: blueprint.layout.input.extent };
        if let Some(stem) = &blueprint.stem {
            last = self.sketch(stem, last, "stem")?;
        }
        let mut before = last.clone();
        for (index, (block, sketch)) in blueprint.layout.blocks.iter().zip(&blueprint.blocks).enumerate() {
            let next = match (block, sketch) {
                (Block::Cell(cell), BlockSketch::Cell { inputs, edges }) => {
                    self.cell(cell, inputs, edges, [&last, &before])?
                }
                (_, BlockSketch::Fixed(sketch)) => {
                    self.sketch(sketch, last.clone(), &format!("blocks.{index}"))?
                }
                (Block::Fixed { .. }, BlockSketch::Cell { .. }) => {
                    unreachable!("a blueprint is drawn block by block")
                }
            };
            (before, last) = (last, next);
        }
        let logits = self.sketch(&blueprint.head, last, "head")?;
        self.nodes.push(node("Identity", OUTPUT, vec![logits.name], vec![]));
        Ok(())
    }

    fn cell(
        &mut self,
        cell: &Cell,
        inputs: &[Sketch],
        edges: &[Sketch],
        sources: [&Value; 2],
    ) -> Result<Value, Error> {
        let scope = format!("cells.{}", cell.index);
        let mut nodes: Vec<Value> = Vec::new();
        for (index, (input, sketch)) in cell.inputs.iter().zip(inputs).enumerate() {
            let source = sources[input.back - 1].clone();
            nodes.push(self.sketch(sketch, source, &format!("{scope}.input_{index}"))?);
        }
        for index in nodes.len()..cell.inputs.len() + cell.nodes {
            let mut parts = Vec::new();
            for (edge, sketch) in cell.edges.iter().zip(edges).filter(|(edge, _)| edge.to == index) {
                let place = format!("{scope}.edge_{}_{}.{}", edge.from, edge.to, edge.candidates[0].label);
                parts.push(self.sketch(sketch, nodes[edge.from].clone(), &place)?);
            }
            let name = format!("{scope}.node_{index}");
            let sum = parts.into_iter().map(Ok).reduce(|sum, part| {
                let (sum, part): (Value, Value) = (sum?, part?);
                Ok(self.put("Add", &name, vec![sum.name, part.name], vec![], sum.extent))
            });
            nodes.push(sum.unwrap_or_else(|| self.nothing(cell, &name, &nodes[0]))?);
        }
        let outputs: Vec<Value> = cell.output.iter().map(|&node| nodes[node].clone()).collect();
        match &outputs[..] {
            [only] => Ok(only.clone()),
            _ => Ok(self.concat(&format!("{scope}.output"), outputs)),
        }
    }

    /// A node that nothing reaches: zeros, as many as there are examples.
    fn nothing(&mut self, cell: &Cell, name: &str, like: &Value) -> Result<Value, Error> {
        let mut dims = cell.shape.batch_dims(1);
        let channels = dims.pop().unwrap_or(1) / cell.output.len();
        dims.insert(1, channels);
        let zeros =
            self.float(&format!("{name}.zeros"), Array { values: vec![0.0; dims.iter().product()], dims });
        let rest = vec![1; cell.shape.batch_dims(1).len() - 1];
        let (from, to) = (self.int(&format!("{name}.from"), &[0]), self.int(&format!("{name}.to"), &[1]));
        let extent = cell.shape.extent;
        let sizes = self.put("Shape", &format!("{name}.sizes"), vec![like.name.clone()], vec![], extent);
        let batch = self.put("Slice", &format!("{name}.batch"), vec![sizes.name, from, to], vec![], extent);
        let rest = self.int(&format!("{name}.rest"), &rest);
        let axis = vec![int("axis", 0)];
        let target = self.put("Concat", &format!("{name}.target"), vec![batch.name, rest], axis, extent);
        Ok(self.put("Expand", name, vec![zeros, target.name], vec![], extent))
    }

    /// The operators of a sketch; `place` names those that have no name of their own.
    fn sketch(&mut self, sketch: &Sketch, x: Value, place: &str) -> Result<Value, Error> {
        match sketch {
            Sketch::Chain(links) => self.chain(links, x, place),
            Sketch::Conv { name, bias, window, prelude } => {
                let rank = x.extent.rank();
                let kernel = self.trained.kernel(name, rank)?;
                let bias = bias.then(|| self.trained.vector(name, "bias")).transpose()?;
                self.conv(name, kernel, bias, 1, (window, *prelude), x)
            }
            Sketch::Depthwise { name, window, prelude } => {
                let filters = self.trained.filters(name, x.extent.rank())?;
                let groups = filters.dims[0];
                self.conv(name, filters, None, groups, (window, *prelude), x)
            }
            Sketch::BatchNorm { name, affine, eps } => {
                let Affine { scale, shift } = self.affine(name, *affine)?;
                let parts = [
                    ("weight", scale),
                    ("bias", shift),
                    ("running_mean", self.trained.vector(name, "running_mean")?),
                    ("running_var", self.trained.vector(name, "running_var")?),
                ];
                let mut inputs = vec![x.name];
                for (part, values) in parts {
                    inputs.push(self.float(&format!("{name}.{part}"), Array::vector(values)));
                }
                Ok(self.put("BatchNormalization", name, inputs, vec![float("epsilon", *eps)], x.extent))
            }
            Sketch::Linear { name } => {
                let weight = self.trained.matrix(name)?;
                let bias = Some(self.trained.vector(name, "bias")?);
                Ok(self.gemm(name, weight, bias, x))
            }
            Sketch::Activation(Activation::Identity) => Ok(x),
            Sketch::Activation(Activation::Relu) => Ok(self.relu(place, x)),
            Sketch::Activation(Activation::Relu6) => {
                let low = self.float(&format!("{place}.low"), Array { dims: vec![], values: vec![0.0] });
                let high = self.float(&format!("{place}.high"), Array { dims: vec![], values: vec![6.0] });
                Ok(self.put("Clip", &format!("{place}.relu6"), vec![x.name, low, high], vec![], x.extent))
            }
            Sketch::MaxPool(window) => Ok(self.windowed("MaxPool", window, vec![], x, place)),
            Sketch::AveragePool(window) => {
                Ok(self.windowed("AveragePool", window, vec![int("count_include_pad", 0)], x, place))
            }
            Sketch::GlobalPool if x.extent == Extent::Flat => Ok(x),
            Sketch::GlobalPool => {
                let pool =
                    self.put("GlobalAveragePool", &format!("{place}.pool"), vec![x.name], vec![], x.extent);
                let axis = vec![int("axis", 1)];
                Ok(self.put("Flatten", &format!("{place}.flatten"), vec![pool.name], axis, Extent::Flat))
            }
            Sketch::Sum(branches) => {
                let parts = self.branches(branches, &x, place)?;
                let extent = parts.first().map_or(x.extent, |part| part.extent);
                let names = parts.into_iter().map(|part| part.name).collect();
                Ok(self.put("Sum", &format!("{place}.sum"), names, vec![], extent))
            }
            Sketch::Concat(branches) => {
                let parts = self.branches(branches, &x, place)?;
                Ok(self.concat(&format!("{place}.concat"), parts))
            }
        }
    }

    fn branches(&mut self, branches: &[Sketch], x: &Value, place: &str) -> Result<Vec<Value>, Error> {
        branches.iter().map(|branch| self.sketch(branch, x.clone(), place)).collect()
    }

    /// One after the other; a batch norm may vanish into the convolution before it.
    fn chain(&mut self, links: &[Sketch], mut x: Value, place: &str) -> Result<Value, Error> {
        let mut links = links.iter().peekable();
        while let Some(link) = links.next() {
            x = match (link, links.peek(), self.norms) {
                (
                    Sketch::Conv { name, bias, window, prelude },
                    Some(Sketch::BatchNorm { name: norm, affine, eps }),
                    BatchNorms::Folded,
                ) => {
                    links.next();
                    let mut kernel = self.trained.kernel(name, x.extent.rank())?;
                    let bias = bias.then(|| self.trained.vector(name, "bias")).transpose()?;
                    let bias = self.fold(norm, *affine, *eps, &mut kernel, bias)?;
                    self.conv(name, kernel, Some(bias), 1, (window, *prelude), x)?
                }
                (
                    Sketch::Depthwise { name, window, prelude },
                    Some(Sketch::BatchNorm { name: norm, affine, eps }),
                    BatchNorms::Folded,
                ) => {
                    links.next();
                    let mut filters = self.trained.filters(name, x.extent.rank())?;
                    let bias = self.fold(norm, *affine, *eps, &mut filters, None)?;
                    let groups = filters.dims[0];
                    self.conv(name, filters, Some(bias), groups, (window, *prelude), x)?
                }
                _ => self.sketch(link, x, place)?,
            };
        }
        Ok(x)
    }

    /// Scales each output channel of `kernel` by `scale/√(σ² + ε)` and gives the bias that remains.
    fn fold(
        &self,
        norm: &str,
        affine: bool,
        eps: f64,
        kernel: &mut Array,
        bias: Option<Vec<f32>>,
    ) -> Result<Vec<f32>, Error> {
        let Affine { scale, shift } = self.affine(norm, affine)?;
        let (mean, var) =
            (self.trained.vector(norm, "running_mean")?, self.trained.vector(norm, "running_var")?);
        let each = kernel.values.len() / kernel.dims[0].max(1);
        let mut biases = Vec::with_capacity(mean.len());
        for (channel, weights) in kernel.values.chunks_mut(each.max(1)).enumerate() {
            let factor = f64::from(scale[channel]) / (f64::from(var[channel]) + eps).sqrt();
            for weight in weights {
                *weight = (f64::from(*weight) * factor) as f32;
            }
            let before = bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
            let centered = before - f64::from(mean[channel]);
            biases.push((centered * factor + f64::from(shift[channel])) as f32);
        }
        Ok(biases)
    }

    fn affine(&self, norm: &str, affine: bool) -> Result<Affine, Error> {
        if affine {
            let (scale, shift) = (self.trained.vector(norm, "weight")?, self.trained.vector(norm, "bias")?);
            return Ok(Affine { scale, shift });
        }
        let channels = self.trained.vector(norm, "running_mean")?.len();
        Ok(Affine { scale: vec![1.0; channels], shift: vec![0.0; channels] })
    }

    /// A convolution; on flat maps a product of matrices.
    fn conv(
        &mut self,
        name: &str,
        kernel: Array,
        bias: Option<Vec<f32>>,
        groups: usize,
        (window, prelude): (&Window, Prelude),
        x: Value,
    ) -> Result<Value, Error> {
        let x = if prelude == Prelude::Relu { self.relu(name, x) } else { x };
        if x.extent == Extent::Flat {
            return Ok(self.gemm(name, kernel, bias, x));
        }
        let (reach, x) = self.cropped(name, window, x);
        let rank = x.extent.rank();
        let mut inputs = vec![x.name, self.float(&format!("{name}.weight"), kernel)];
        if let Some(bias) = bias {
            inputs.push(self.float(&format!("{name}.bias"), Array::vector(bias)));
        }
        let mut attributes = window_attributes(window, &reach, rank);
        attributes.push(ints("dilations", &spatial([window.dilation.0, window.dilation.1], rank)));
        attributes.push(int("group", groups as i64));
        Ok(self.put("Conv", name, inputs, attributes, moved(x.extent, window)))
    }

    fn gemm(&mut self, name: &str, weight: Array, bias: Option<Vec<f32>>, x: Value) -> Value {
        let mut inputs = vec![x.name, self.float(&format!("{name}.weight"), weight)];
        if let Some(bias) = bias {
            inputs.push(self.float(&format!("{name}.bias"), Array::vector(bias)));
        }
        self.put("Gemm", name, inputs, vec![int("transB", 1)], Extent::Flat)
    }

    fn windowed(
        &mut self,
        operator: &str,
        window: &Window,
        mut attributes: Vec<Attribute>,
        x: Value,
        place: &str,
    ) -> Value {
        let name = format!("{place}.pool");
        let (reach, x) = self.cropped(&name, window, x);
        attributes.extend(window_attributes(window, &reach, x.extent.rank()));
        self.put(operator, &name, vec![x.name], attributes, moved(x.extent, window))
    }

    /// Cuts away what a window that starts inside does not read. The extent stays that of the whole map, from which
    /// outputs are counted.
    fn cropped(&mut self, name: &str, window: &Window, x: Value) -> (Reach, Value) {
        let mut reach = Reach::of(window, x.extent);
        if !reach.cuts() {
            return (reach, x);
        }
        let rank = x.extent.rank();
        let starts = spatial(reach.crop, rank);
        let x = self.longer(name, &mut reach, x);
        let axes: Vec<usize> = (2..2 + starts.len()).collect();
        let ends = vec![i64::MAX as usize; starts.len()];
        let starts = self.int(&format!("{name}.starts"), &starts);
        let ends = self.int(&format!("{name}.ends"), &ends);
        let axes = self.int(&format!("{name}.axes"), &axes);
        let inputs = vec![x.name, starts, ends, axes];
        (reach, self.put("Slice", &format!("{name}.crop"), inputs, vec![], x.extent))
    }

    /// With the zeros behind the map that a window will read, where cutting would leave nothing of it (a map of one pixel
    /// whose every second is read): runtimes expect no empty tensors.
    fn longer(&mut self, name: &str, reach: &mut Reach, x: Value) -> Value {
        let (height, width) = x.extent.plane();
        let nothing = [height, width].iter().zip(reach.crop).any(|(size, crop)| crop >= *size);
        if !nothing {
            return x;
        }
        let rank = x.extent.rank();
        let zeros = vec![0; 2 + spatial([0, 0], rank).len()];
        let ends = [vec![0; 2], spatial(reach.end, rank)].concat();
        let pads = self.int(&format!("{name}.pads"), &[zeros, ends].concat());
        reach.end = [0, 0];
        self.put("Pad", &format!("{name}.pad"), vec![x.name, pads], vec![], x.extent)
    }

    fn relu(&mut self, place: &str, x: Value) -> Value {
        self.put("Relu", &format!("{place}.relu"), vec![x.name], vec![], x.extent)
    }

    fn concat(&mut self, name: &str, parts: Vec<Value>) -> Value {
        let extent = parts.first().map_or(Extent::Flat, |part| part.extent);
        let names = parts.into_iter().map(|part| part.name).collect();
        self.put("Concat", name, names, vec![int("axis", 1)], extent)
    }

    /// Adds an operator under `name`, or under the next free one, and gives its output.
    fn put(
        &mut self,
        operator: &str,
        name: &str,
        inputs: Vec<String>,
        attributes: Vec<Attribute>,
        extent: Extent,
    ) -> Value {
        let name = self.free(name);
        self.nodes.push(node(operator, &name, inputs, attributes));
        Value { name, extent }
    }

    fn free(&mut self, name: &str) -> String {
        let more = (2..).map(|n| format!("{name}.{n}"));
        let mut candidates = std::iter::once(name.to_owned()).chain(more);
        let free = candidates.find(|name| !self.names.contains(name)).expect("numbers do not end");
        self.names.insert(free.clone());
        free
    }

    fn float(&mut self, name: &str, array: Array) -> String {
        let dims = array.dims.iter().map(|&n| n as i64).collect();
        let raw_data = array.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, dims, FLOAT, raw_data)
    }

    fn int(&mut self, name: &str, values: &[usize]) -> String {
        let raw_data = values.iter().flat_map(|&value| (value as i64).to_le_bytes()).collect();
        self.constant(name, vec![values.len() as i64], INT64, raw_data)
    }

    fn constant(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        let name = self.free(name);
        self.constants.push(Constant { dims, data_type, name: name.clone(), raw_data });
        name
    }
}

/// A batch norm's scale and shift.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

fn window_attributes(window: &Window, reach: &Reach, rank: Rank) -> Vec<Attribute> {
    let Window { kernel, stride, .. } = *window;
    let pads = [spatial(reach.begin, rank), spatial(reach.end, rank)].concat();
    vec![
        ints("kernel_shape", &spatial([kernel.0, kernel.1], rank)),
        ints("strides", &spatial([stride.0, stride.1], rank)),
        ints("pads", &pads),
    ]
}

fn node(operator: &str, name: &str, input: Vec<String>, attribute: Vec<Attribute>) -> Node {
    let name = name.to_owned();
    Node { input, output: vec![name.clone()], name, op_type: operator.to_owned(), attribute }
}

fn float(name: &str, f: f64) -> Attribute {
    Attribute { name: name.to_owned(), f: f as f32, kind: 1, ..Attribute::default() }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.to_owned(), i, kind: 2, ..Attribute::default() }
}

fn ints(name: &str, values: &[usize]) -> Attribute {
    let ints = values.iter().map(|&value| value as i64).collect();
    Attribute { name: name.to_owned(), ints, kind: 7, ..Attribute::default() }
}
