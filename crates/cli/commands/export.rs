//! `strait export`: a decision in the forms in which others take it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use strait::export::onnx::BatchNorms;
use strait::export::{Format, ModelCard, Trained, folder, write as write_format};
use strait::ops::Catalog;
use strait::space::Genotype;
use strait::trainer::{RunDir, TrainConfig};

use crate::model::{Loaded, card};
use crate::options::{Subject, dataset, write};
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait export runs/digits-seed0 --format onnx -o digits.onnx
  strait export runs/digits-seed0 --format onnx,pytorch,svg -o exported/
  strait export runs/digits-seed0 --format all -o exported/
  strait export '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|' --format dot

Several formats, and pytorch and rust (which are two files each), go to a directory, with a README.md that says how to
use each. Formats with weights take those of the trained child; where none was trained, those in the supernet.";

/// `strait export`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// Directory of a run, or a genotype (YAML, JSON, NAS-Bench-201's string or DARTS's tuple, as a file or as text)
    #[arg(value_name = "RUN|GENOTYPE")]
    subject: PathBuf,
    /// One or more of yaml, json, nb201, darts, dot, svg, png, and with weights safetensors, onnx, pytorch, rust; or all
    #[arg(long, value_name = "FORMAT", required = true, value_delimiter = ',', value_parser = wanted)]
    format: Vec<Wanted>,
    /// A genotype's space: a file, or a shipped name [default: the shipped one that the genotype names; nas-bench-201
    /// and darts for their notations]
    #[arg(long, value_name = "SPACE.yaml")]
    space: Option<String>,
    /// In ONNX, make batch norms part of the convolutions before them
    #[arg(long)]
    fold_batch_norm: bool,
    /// Where to write it: a file, or a directory [default: stdout, for one file]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    One(Format),
    All,
}

fn wanted(name: &str) -> Result<Wanted, String> {
    match name {
        "all" => Ok(Wanted::All),
        name => {
            name.parse().map(Wanted::One).map_err(|error: strait::export::UnknownFormat| error.to_string())
        }
    }
}

/// What there is to export.
struct Subjects {
    genotype: Genotype,
    card: ModelCard,
    trained: Option<Trained>,
}

impl Export {
    /// Writes one file to a path or to stdout, or several to a directory.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let all = self.format.iter().any(|wanted| matches!(wanted, Wanted::All));
        let named = self.format.iter().filter_map(|wanted| match wanted {
            Wanted::One(format) => Some(*format),
            Wanted::All => None,
        });
        let formats: Vec<Format> = if all { Format::ALL.to_vec() } else { named.collect() };
        if self.fold_batch_norm && !formats.contains(&Format::Onnx) {
            return Err(Failure::misuse(
                "--fold-batch-norm is for onnx; other formats keep batch norms apart",
            ));
        }
        let weights = formats.iter().any(|format| format.holds_weights());
        let subjects = if self.subject.is_dir() { self.of_run(weights) } else { self.of_genotype(weights) }?;
        match &formats[..] {
            [format] if !self.is_folder(*format) => self.file(*format, &subjects),
            _ => self.folder(&formats, all, &subjects),
        }
    }

    /// Whether a single format goes to a directory all the same.
    fn is_folder(&self, format: Format) -> bool {
        let named = self.output.as_deref().is_some_and(|path| {
            path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR)
        });
        named || (format.shares_weights() && self.output.is_some())
    }

    fn file(&self, format: Format, subjects: &Subjects) -> Result<Answer, Failure> {
        let Subjects { genotype, card, trained } = subjects;
        let bytes = match (format, trained) {
            (Format::Onnx, Some(trained)) => {
                let mut bytes = Vec::new();
                strait::export::onnx::write(genotype, card, trained, self.norms(), &mut bytes)?;
                bytes
            }
            _ => bytes(format, genotype, card, trained.as_ref())?,
        };
        match &self.output {
            None => Ok(Answer::bytes(bytes)),
            Some(path) => {
                write(path, &bytes)?;
                Ok(Answer::text(format!("wrote {}", path.display())))
            }
        }
    }

    fn folder(&self, formats: &[Format], all: bool, subjects: &Subjects) -> Result<Answer, Failure> {
        let Subjects { genotype, card, trained } = subjects;
        let Some(dir) = &self.output else {
            return Err(Failure::misuse("several files are to be written").hint("name a directory with -o"));
        };
        // Of all formats, those that cannot say this network are left out.
        let (mut said, mut told) = (Vec::new(), String::new());
        for &format in formats {
            match bytes(format, genotype, card, trained.as_ref()) {
                Err(failure) if all => {
                    told += &format!("left out {}: {}\n", format.name(), failure.lines().join("; "));
                }
                _ => said.push(format),
            }
        }
        let formats = said;
        let files = folder::files(&formats, genotype, card, trained.as_ref(), self.norms())?;
        fs::create_dir_all(dir)
            .map_err(|error| Failure::new(format!("cannot make {}", dir.display()), error))?;
        for (name, bytes) in files {
            let path = dir.join(name);
            write(&path, &bytes)?;
            told += &format!("wrote {}\n", path.display());
        }
        Ok(Answer::text(told))
    }

    fn norms(&self) -> BatchNorms {
        if self.fold_batch_norm { BatchNorms::Folded } else { BatchNorms::Kept }
    }

    fn of_genotype(&self, weights: bool) -> Result<Subjects, Failure> {
        let Subject { genotype, .. } =
            Subject::open(&self.subject, self.space.as_deref(), &Catalog::standard())?;
        if weights {
            return Err(Failure::misuse(format!(
                "{}: a genotype has no weights; a run is accepted",
                self.subject.display()
            ))
            .hint("train it: strait train, and export the directory that comes of it"));
        }
        Ok(Subjects { genotype, card: ModelCard::default(), trained: None })
    }

    fn of_run(&self, weights: bool) -> Result<Subjects, Failure> {
        let catalog = Catalog::standard();
        if weights {
            let loaded = Loaded::of_run(&self.subject, &catalog)?;
            let trained = Some(loaded.trained()?);
            return Ok(Subjects { trained, genotype: loaded.genotype, card: loaded.card });
        }
        let card = drawn(&self.subject, &catalog)?;
        Ok(Subjects { trained: None, genotype: RunDir::view(&self.subject)?.genotype()?, card })
    }
}

/// What a picture of a run's child says, for which no weights are read.
fn drawn(path: &Path, catalog: &Catalog) -> Result<ModelCard, Failure> {
    let run = RunDir::view(path)?;
    let Subject { space, genotype, .. } = Subject::of(&run, catalog)?;
    let is_trained = run.path().join("train.yaml").is_file();
    let config = if is_trained { run.train_config()? } else { TrainConfig::from(&run.search_config()?) };
    card(&space, &genotype, &config, dataset(&config.data)?.info(), catalog)
}

/// The genotype in `format`.
pub(crate) fn bytes(
    format: Format,
    genotype: &Genotype,
    card: &ModelCard,
    trained: Option<&Trained>,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    write_format(format, genotype, card, trained, &mut bytes)?;
    Ok(bytes)
}
