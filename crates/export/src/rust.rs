//! The network as a Rust module on candle alone.

use std::fmt::Write as _;
use std::io::Write;

use network::BlockSketch;
use ops::{
    Sketch,
    kernels::{Prelude, Window},
    layers::Activation,
};
use search_space::{Block, Cell, Extent, Genotype};

use crate::{
    Error, ModelCard, Trained,
    named::Named,
    trained::{Reach, moved},
};

/// What every network runs on.
const RUNTIME: &str = include_str!("rust/runtime.txt");

/// What the module needs in its package's manifest.
pub const CARGO: &str = "[dependencies]\ncandle-core = \"0.11\"\n";

/// Writes `model.rs`: `Model::load(path, device)` reads the weights of [`crate::pytorch::weights`], and
/// `Model::forward` takes a batch, channels first, to its logits. One function a block, one line a layer.
///
/// # Errors
/// A value is missing; the writer's.
pub fn write(
    genotype: &Genotype,
    card: &ModelCard,
    trained: &Trained,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let named = Named::of(trained)?;
    let mut functions = Functions { named: &named, text: String::new() };
    let (blueprint, mut forward) = (trained.blueprint()?, String::new());
    let layout = &blueprint.layout;
    let unsqueezed = match layout.input.extent {
        Extent::Series { .. } => "x.unsqueeze(2)?", // one row
        Extent::Flat | Extent::Image { .. } => "x.clone()",
    };
    match &blueprint.stem {
        Some(stem) => {
            functions.fixed("stem", stem, layout.input.extent);
            let _ = writeln!(forward, "        let y0 = self.stem(&{unsqueezed})?;");
        }
        None => {
            let _ = writeln!(forward, "        let y0 = {unsqueezed};");
        }
    }
    let mut extent = layout.stem.as_ref().map_or(layout.input, |(_, site)| site.output()).extent;
    for (index, (block, sketch)) in layout.blocks.iter().zip(&blueprint.blocks).enumerate() {
        let (name, next, before) = (format!("block_{index}"), index + 1, index.saturating_sub(1));
        match (block, sketch) {
            (Block::Cell(cell), BlockSketch::Cell { inputs, edges }) => {
                functions.cell(&name, cell, inputs, edges);
                let _ = writeln!(forward, "        let y{next} = self.{name}(&y{index}, &y{before})?;");
                extent = cell.shape.extent;
            }
            (Block::Fixed { site, .. }, BlockSketch::Fixed(sketch)) => {
                functions.fixed(&name, sketch, extent);
                let _ = writeln!(forward, "        let y{next} = self.{name}(&y{index})?;");
                extent = site.output().extent;
            }
            _ => unreachable!("a blueprint is drawn block by block"),
        }
    }
    functions.fixed("head", &blueprint.head, extent);
    let _ = writeln!(forward, "        self.head(&y{})", layout.blocks.len());
    out.write_all(header(genotype, trained).as_bytes())?;
    let module = RUNTIME.replace("// FACTS\n", &facts(card)).replace("// FORWARD\n", &forward);
    Ok(out.write_all(module.replace("// BLOCKS\n", &functions.text).as_bytes())?)
}

/// The comment at the top.
fn header(genotype: &Genotype, trained: &Trained) -> String {
    let clean = |text: &str| text.replace(char::is_control, " ");
    let space = clean(&trained.layout().space);
    let mut text =
        format!("// A network of the space `{space}`, written by strait {}.\n", env!("CARGO_PKG_VERSION"));
    for line in genotype.to_string().lines() {
        let _ = writeln!(text, "//     {}", clean(line));
    }
    text + "// Needs candle-core and nothing of strait. Input: a batch, channels first, normalized with MEAN and DEVIATION.\n\n"
}

/// What a caller has to know.
fn facts(card: &ModelCard) -> String {
    format!(
        "/// Subtracted from each channel of an example whose values lie in [0, 1].\npub const MEAN: &[f64] = &{:?};\n\
         /// What each channel is then divided by.\npub const DEVIATION: &[f64] = &{:?};\n\
         /// The classes in the order of the logits.\npub const CLASSES: &[&str] = &{:?};\n",
        card.mean, card.deviation, card.classes
    )
}

struct Functions<'a> {
    named: &'a Named,
    text: String,
}

/// The lines of one function.
struct Lines<'a> {
    named: &'a Named,
    text: String,
    next: usize,
}

impl Functions<'_> {
    fn fixed(&mut self, name: &str, sketch: &Sketch, extent: Extent) {
        let mut lines = Lines { named: self.named, text: String::new(), next: 0 };
        let (y, _) = lines.sketch(sketch, "x".to_owned(), extent);
        let _ = writeln!(
            self.text,
            "\n    fn {name}(&self, x: &Tensor) -> Result<Tensor> {{\n{}        Ok({y}.clone())\n    }}",
            lines.text
        );
    }

    fn cell(&mut self, name: &str, cell: &Cell, inputs: &[Sketch], edges: &[Sketch]) {
        let mut lines = Lines { named: self.named, text: String::new(), next: 0 };
        let mut nodes: Vec<String> = Vec::new();
        for (input, sketch) in cell.inputs.iter().zip(inputs) {
            let extent = input.preprocess.as_ref().map_or(input.shape.extent, |(_, site)| site.extent);
            let source = if input.back == 1 { "last" } else { "before" };
            nodes.push(lines.sketch(sketch, source.to_owned(), extent).0);
        }
        for node in nodes.len()..cell.inputs.len() + cell.nodes {
            let into = cell.edges.iter().zip(edges).filter(|(edge, _)| edge.to == node);
            let parts: Vec<String> = into
                .map(|(edge, sketch)| lines.sketch(sketch, nodes[edge.from].clone(), edge.site.extent).0)
                .collect();
            nodes.push(match &parts[..] {
                [] => {
                    let (height, width) = cell.shape.extent.plane();
                    let channels = cell.shape.channels / cell.output.len();
                    let dims = match cell.shape.extent {
                        Extent::Flat => format!("{}.dim(0)?, {channels}", nodes[0]),
                        _ => format!("{}.dim(0)?, {channels}, {height}, {width}", nodes[0]),
                    };
                    lines.put(&format!("Tensor::zeros(({dims}), {0}.dtype(), {0}.device())?", nodes[0]))
                }
                [only] => only.clone(),
                [first, rest @ ..] => rest.iter().fold(first.clone(), |sum, part| {
                    let sum = format!("(&{sum} + &{part})?");
                    lines.put(&sum)
                }),
            });
        }
        let outputs: Vec<&str> = cell.output.iter().map(|&node| nodes[node].as_str()).collect();
        let y = match outputs[..] {
            [only] => format!("{only}.clone()"),
            _ => format!("Tensor::cat(&[{}], 1)?", references(&outputs)),
        };
        let before = if lines.text.contains("before") || y.contains("before") { "before" } else { "_before" };
        let _ = writeln!(
            self.text,
            "\n    fn {name}(&self, last: &Tensor, {before}: &Tensor) -> Result<Tensor> {{\n{}        Ok({y})\n    }}",
            lines.text
        );
    }
}

impl Lines<'_> {
    /// Binds an expression to the next name.
    fn put(&mut self, expression: &str) -> String {
        let name = format!("v{}", self.next);
        self.next += 1;
        let _ = writeln!(self.text, "        let {name} = {expression};");
        name
    }

    /// Runs a sketch on `x`, a name; gives the name of its output.
    fn sketch(&mut self, sketch: &Sketch, x: String, extent: Extent) -> (String, Extent) {
        match sketch {
            Sketch::Chain(links) => {
                links.iter().fold((x, extent), |(x, extent), link| self.sketch(link, x, extent))
            }
            Sketch::Sum(branches) => {
                let (parts, after) = self.branches(branches, &x, extent);
                let sum = parts.into_iter().reduce(|sum, part| self.put(&format!("(&{sum} + &{part})?")));
                (sum.unwrap_or(x), after)
            }
            Sketch::Concat(branches) => {
                let (parts, after) = self.branches(branches, &x, extent);
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                (self.put(&format!("Tensor::cat(&[{}], 1)?", references(&parts))), after)
            }
            Sketch::Conv { name, window, prelude, .. } => self.conv(name, window, *prelude, "1", x, extent),
            Sketch::Depthwise { name, window, prelude } => {
                let groups = format!("{x}.dim(1)?");
                self.conv(name, window, *prelude, &groups, x, extent)
            }
            Sketch::BatchNorm { name, eps, .. } => {
                let place = self.named.place(name);
                (self.put(&format!("self.batch_norm({place:?}, {eps:e}, &{x})?")), extent)
            }
            Sketch::Linear { name } => {
                let place = self.named.place(name);
                (self.put(&format!("self.linear({place:?}, &{x})?")), Extent::Flat)
            }
            Sketch::Activation(Activation::Identity) => (x, extent),
            Sketch::Activation(Activation::Relu) => (self.put(&format!("{x}.relu()?")), extent),
            Sketch::Activation(Activation::Relu6) => (self.put(&format!("{x}.clamp(0f32, 6f32)?")), extent),
            Sketch::MaxPool(window) => self.pool("max_pool", window, x, extent),
            Sketch::AveragePool(window) => self.pool("average_pool", window, x, extent),
            Sketch::GlobalPool if extent == Extent::Flat => (x, extent),
            Sketch::GlobalPool => (self.put(&format!("{x}.flatten_from(2)?.mean(2)?")), Extent::Flat),
        }
    }

    fn branches(&mut self, branches: &[Sketch], x: &str, extent: Extent) -> (Vec<String>, Extent) {
        let ran: Vec<_> = branches.iter().map(|branch| self.sketch(branch, x.to_owned(), extent)).collect();
        let after = ran.first().map_or(extent, |(_, after)| *after);
        (ran.into_iter().map(|(name, _)| name).collect(), after)
    }

    fn conv(
        &mut self,
        name: &str,
        window: &Window,
        prelude: Prelude,
        groups: &str,
        x: String,
        extent: Extent,
    ) -> (String, Extent) {
        let x = if prelude == Prelude::Relu { self.put(&format!("{x}.relu()?")) } else { x };
        let place = self.named.place(name);
        if extent == Extent::Flat {
            return (self.put(&format!("self.linear({place:?}, &{x})?")), extent);
        }
        let window_text = written(window, extent);
        let y = self.put(&format!("self.conv({place:?}, &{x}, {groups}, &{window_text})?"));
        (y, moved(extent, window))
    }

    fn pool(&mut self, function: &str, window: &Window, x: String, extent: Extent) -> (String, Extent) {
        let y = self.put(&format!("{function}(&{x}, &{})?", written(window, extent)));
        (y, moved(extent, window))
    }
}

/// `Window { kernel: [3, 3], … }`.
fn written(window: &Window, extent: Extent) -> String {
    let Window { kernel, stride, dilation, .. } = *window;
    let reach = Reach::of(window, extent);
    let before = [0, 1].map(|i| reach.begin[i] as isize - reach.crop[i] as isize);
    let (height, width) = moved(extent, window).plane();
    format!(
        "Window {{ kernel: [{}, {}], stride: [{}, {}], dilation: [{}, {}], before: {before:?}, after: {:?}, out: [{height}, {width}] }}",
        kernel.0, kernel.1, stride.0, stride.1, dilation.0, dilation.1, reach.end
    )
}

fn references(names: &[&str]) -> String {
    names.iter().map(|name| format!("&{name}")).collect::<Vec<_>>().join(", ")
}
