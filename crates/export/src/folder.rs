//! Several formats side by side, with a page that says how to use each.

use std::fmt::Write;

use search_space::{Extent, Genotype};

use crate::{Error, Format, ModelCard, Trained, onnx::BatchNorms, pytorch, rust, safetensors, write};

/// A file of the folder: its name and its content.
pub type File = (String, Vec<u8>);

/// Writes `formats` as the files of one folder, and `README.md`, from which a reader who never saw strait can use each.
///
/// `pytorch` and `rust` share their weights. A notation that cannot say this genotype is an error.
///
/// # Errors
/// As [`write()`].
pub fn files(
    formats: &[Format],
    genotype: &Genotype,
    card: &ModelCard,
    trained: Option<&Trained>,
    norms: BatchNorms,
) -> Result<Vec<File>, Error> {
    let mut files: Vec<File> = Vec::new();
    for &format in formats {
        let mut bytes = Vec::new();
        match (format, trained) {
            (Format::Onnx, Some(trained)) => crate::onnx::write(genotype, card, trained, norms, &mut bytes)?,
            _ => write(format, genotype, card, trained, &mut bytes)?,
        }
        files.push((format.file_name().to_owned(), bytes));
    }
    if let Some(trained) = trained.filter(|_| formats.iter().any(|format| format.shares_weights())) {
        let mut bytes = Vec::new();
        safetensors::write(genotype, card, &pytorch::weights(trained)?, &mut bytes)?;
        files.push((WEIGHTS.to_owned(), bytes));
    }
    files.push(("README.md".to_owned(), readme(formats, genotype, card, trained).into_bytes()));
    Ok(files)
}

/// The weights under the names of `model.py` and `model.rs`.
const WEIGHTS: &str = "weights.safetensors";

fn readme(formats: &[Format], genotype: &Genotype, card: &ModelCard, trained: Option<&Trained>) -> String {
    let mut text = format!("# A network of the space `{}`\n\n```text\n{genotype}\n```\n\n", genotype.space);
    if let Some(trained) = trained {
        text += &facts(card, trained);
    }
    for format in formats {
        text += &section(*format, trained);
    }
    text
}

fn facts(card: &ModelCard, trained: &Trained) -> String {
    let layout = trained.layout();
    let (axes, shape) = match layout.input.extent {
        Extent::Flat => ("(N, C)", format!("(N, {})", layout.input.channels)),
        Extent::Series { length } => ("(N, C, L)", format!("(N, {}, {length})", layout.input.channels)),
        Extent::Image { height, width } => {
            ("(N, C, H, W)", format!("(N, {}, {height}, {width})", layout.input.channels))
        }
    };
    let mut text = format!("Input: `{axes}` = `{shape}`, 32-bit floats, any N. ");
    let _ = write!(
        text,
        "Bring pixels into [0, 1] (divide bytes by 255), then normalize each channel:\n`(x - mean) / deviation` with mean {:?} and deviation {:?}.\nOutput: logits `(N, {})`; the largest is the answer.\n\n",
        card.mean, card.deviation, layout.classes
    );
    let _ = writeln!(text, "Classes, in the order of the logits: {}.\n", card.classes.join(", "));
    if !card.metrics.is_empty() {
        text += "| measured | |\n|---|---|\n";
        for (name, value) in &card.metrics {
            let _ = writeln!(text, "| {} | {value} |", name.replace('_', " "));
        }
        text.push('\n');
    }
    text
}

fn section(format: Format, trained: Option<&Trained>) -> String {
    let dims = trained.map_or_else(String::new, |trained| {
        let mut dims = trained.layout().input.batch_dims(1);
        let channels = dims.pop().unwrap_or(1);
        dims.insert(1, channels);
        dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    });
    let file = format.file_name();
    match format {
        Format::Yaml | Format::Json => {
            format!(
                "## {file}\n\nThe genotype, for strait: `strait train {file}`, with `--space FILE` where its space does not come with strait.\n\n"
            )
        }
        Format::Nb201 => format!("## {file}\n\nThe genotype as the string of NAS-Bench-201.\n\n"),
        Format::Darts => format!("## {file}\n\nThe genotype as the tuple of DARTS's `genotypes.py`.\n\n"),
        Format::Dot => format!("## {file}\n\nThe cells, for Graphviz: `dot -Tpdf {file} -o cells.pdf`.\n\n"),
        Format::Svg | Format::Png => format!("## {file}\n\nThe cells, drawn.\n\n"),
        Format::Safetensors => format!(
            "## {file}\n\nThe weights as strait names them, channels last. The key `strait` of the file's metadata holds the\ngenotype, the space and what is said above, in JSON. `strait verify {file}` checks it, `strait predict {file} IMAGE`\nclassifies.\n\n"
        ),
        Format::Onnx => format!(
            "## {file}\n\nFor any ONNX runtime (opset 17). Metadata hold `classes`, `mean`, `deviation`, `genotype`.\n\n```python\nimport numpy, onnxruntime\nsession = onnxruntime.InferenceSession(\"{file}\")\nx = numpy.zeros(({dims}), numpy.float32)  # your batch, normalized\nlogits = session.run([\"logits\"], {{\"input\": x}})[0]\n```\n\n"
        ),
        Format::Pytorch => format!(
            "## {file} and {WEIGHTS}\n\nA module of plain `torch.nn`; needs torch and safetensors.\n\n```python\nimport torch\nfrom safetensors.torch import load_file\nfrom model import CLASSES, Model\n\nmodel = Model()\nmodel.load_state_dict(load_file(\"{WEIGHTS}\"))\nmodel.eval()\nwith torch.no_grad():\n    logits = model(torch.zeros({dims}))  # your batch, normalized\nprint(CLASSES[int(logits.argmax(1))])\n```\n\n"
        ),
        Format::Rust => format!(
            "## {file} and {WEIGHTS}\n\nA module on candle alone. In `Cargo.toml`:\n\n```toml\n{}```\n\n```rust\nmod model;\n\nlet device = candle_core::Device::Cpu;\nlet model = model::Model::load(\"{WEIGHTS}\", &device)?;\nlet x = candle_core::Tensor::zeros(({dims}), candle_core::DType::F32, &device)?; // your batch, normalized\nlet best = model.forward(&x)?.argmax(1)?.to_vec1::<u32>()?[0];\nprintln!(\"{{}}\", model::CLASSES[best as usize]);\n```\n\n",
            rust::CARGO
        ),
    }
}
