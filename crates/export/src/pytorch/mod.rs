//! The network as a readable module of PyTorch, and its weights under that module's names.

mod modules;

use std::io::Write;

use candle_core::Tensor;
use network::BlockSketch;
use search_space::{Block, Cell, Extent, Genotype, OpSpec, Site};

use crate::{Error, ModelCard, Trained, named::Named};
use modules::{Functions, module};

/// What every module needs, whatever the network.
const PRELUDE: &str = include_str!("prelude.py");

/// Writes `model.py`: classes for what PyTorch lacks, one function per distinct operation, and `Model`, which wires
/// them. It needs `torch` and nothing of strait.
///
/// # Errors
/// A value is missing; the writer's.
pub fn write(
    genotype: &Genotype,
    card: &ModelCard,
    trained: &Trained,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut functions = Functions::new(trained);
    let blueprint = trained.blueprint()?;
    let layout = &blueprint.layout;
    let stem = match (&layout.stem, &blueprint.stem) {
        (Some((op, site)), Some(sketch)) => functions.call(op, site, sketch, "stem")?,
        _ => "nn.Identity()".to_owned(),
    };
    let mut blocks = Vec::new();
    for (index, (block, sketch)) in layout.blocks.iter().zip(&blueprint.blocks).enumerate() {
        blocks.push(match (block, sketch) {
            (Block::Cell(cell), BlockSketch::Cell { inputs, edges }) => {
                cell_call(&mut functions, cell, inputs, edges)?
            }
            (Block::Fixed { op, site }, BlockSketch::Fixed(sketch)) => {
                functions.call(op, site, sketch, &format!("blocks.{index}"))?
            }
            _ => unreachable!("a blueprint is drawn block by block"),
        });
    }
    let head = module(trained, &blueprint.head, layout.head.input.extent, "head", 2)?;
    write_header(genotype, card, trained, out)?;
    out.write_all(PRELUDE.as_bytes())?;
    out.write_all(functions.text().as_bytes())?;
    write!(out, "\n\nclass Model(nn.Module):\n    \"\"\"The network: a batch in, logits out.\"\"\"\n\n")?;
    write!(out, "    def __init__(self):\n        super().__init__()\n        self.stem = {stem}\n")?;
    writeln!(out, "        self.blocks = nn.ModuleList([")?;
    for block in blocks {
        writeln!(out, "            {block},")?;
    }
    writeln!(out, "        ])\n        self.head = {head}\n")?;
    writeln!(out, "    def forward(self, x):\n        before = last = self.stem(x)")?;
    writeln!(out, "        for block in self.blocks:")?;
    writeln!(out, "            y = block(last, before) if isinstance(block, Cell) else block(last)")?;
    writeln!(out, "            before, last = last, y\n        return self.head(last)")?;
    Ok(())
}

/// The weights, channels first and under the names of the module that [`write()`] writes.
///
/// # Errors
/// A value is missing.
pub fn weights(trained: &Trained) -> Result<Vec<(String, Tensor)>, Error> {
    Ok(Named::of(trained)?.values().to_vec())
}

fn write_header(
    genotype: &Genotype,
    card: &ModelCard,
    trained: &Trained,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let layout = trained.layout();
    let input = shape(layout.input.channels, layout.input.extent);
    writeln!(
        out,
        "\"\"\"A network of the space `{}`, written by strait {}.\n",
        comment(&layout.space),
        env!("CARGO_PKG_VERSION")
    )?;
    for line in genotype.to_string().lines() {
        writeln!(out, "    {}", comment(line))?;
    }
    writeln!(
        out,
        "\nInput: a batch of shape (N, {input}), of which each channel was divided by what makes its values"
    )?;
    writeln!(
        out,
        "lie in [0, 1] and then normalized: (x - MEAN) / DEVIATION. Output: logits of shape (N, {}).\n",
        layout.classes
    )?;
    writeln!(
        out,
        "    model = Model()\n    model.load_state_dict(safetensors.torch.load_file(\"weights.safetensors\"))"
    )?;
    writeln!(out, "    model.eval()\n\"\"\"\n")?;
    writeln!(
        out,
        "from collections import OrderedDict\n\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
    )?;
    writeln!(out, "MEAN = {:?}\nDEVIATION = {:?}", card.mean, card.deviation)?;
    let classes = serde_json::to_string(&card.classes).expect("strings have a JSON form"); // a Python list, too
    writeln!(out, "CLASSES = {classes}\n")?;
    Ok(())
}

/// Text that ends no docstring and escapes nothing.
fn comment(text: &str) -> String {
    text.replace('\\', "/").replace('"', "'").replace(char::is_control, " ")
}

/// `Cell([(1, f()), (2, g())], {(0, 2): h()}, [2, 3])`, one part a line.
fn cell_call(
    functions: &mut Functions<'_>,
    cell: &Cell,
    inputs: &[ops::Sketch],
    edges: &[ops::Sketch],
) -> Result<String, Error> {
    let scope = format!("cells.{}", cell.index);
    let mut text = "Cell(\n".to_owned();
    let mut sources = Vec::new();
    for (index, (input, sketch)) in cell.inputs.iter().zip(inputs).enumerate() {
        let op = match &input.preprocess {
            Some((op, site)) => functions.call(op, site, sketch, &format!("{scope}.input_{index}"))?,
            None => "nn.Identity()".to_owned(),
        };
        sources.push(format!("({}, {op})", input.back));
    }
    text += &format!("                [{}],\n                {{\n", sources.join(", "));
    for node in cell.inputs.len()..cell.inputs.len() + cell.nodes {
        let mut into = cell.edges.iter().zip(edges).filter(|(edge, _)| edge.to == node).peekable();
        if into.peek().is_none() {
            let channels = cell.shape.channels / cell.output.len();
            text +=
                &format!("                    (0, {node}): Zeros({}),\n", shape(channels, cell.shape.extent));
        }
        for (edge, sketch) in into {
            let op: &OpSpec = &edge.candidates[0];
            let site: &Site = &edge.site;
            let place = format!("{scope}.edge_{}_{}.{}", edge.from, edge.to, op.label);
            let call = functions.call(op, site, sketch, &place)?;
            text += &format!("                    ({}, {node}): {call},\n", edge.from);
        }
    }
    Ok(text + &format!("                }},\n                {:?},\n            )", cell.output))
}

/// `C, H, W`.
fn shape(channels: usize, extent: Extent) -> String {
    match extent {
        Extent::Flat => channels.to_string(),
        Extent::Series { length } => format!("{channels}, {length}"),
        Extent::Image { height, width } => format!("{channels}, {height}, {width}"),
    }
}
