//! `strait convert`: the same genotype in another notation.

use std::path::PathBuf;

use clap::Args;
use strait::export::{Format, ModelCard};
use strait::ops::Catalog;
use strait::space::{Genotype, LayoutRequest, Phase, Space};

use super::export::bytes;
use crate::options::{Subject, write};
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait convert runs/nas-bench-201-seed0 --to nb201
  strait convert '|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|' --to yaml -o genotype.yaml
  strait convert genotype.txt --space my-darts.yaml --to json

The genotype is checked against its space: every edge and every operation must be there.";

/// `strait convert`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Convert {
    /// A genotype (YAML, JSON, NAS-Bench-201's string or DARTS's tuple, as a file or as text), or the directory of a run
    #[arg(value_name = "GENOTYPE|RUN")]
    subject: PathBuf,
    /// yaml, json, nb201 or darts
    #[arg(long, value_name = "NOTATION", value_parser = notation)]
    to: Format,
    /// The genotype's space: a file, or a shipped name [default: the run's, or the shipped one that the genotype names;
    /// nas-bench-201 and darts for their notations]
    #[arg(long, value_name = "SPACE.yaml")]
    space: Option<String>,
    /// Where to write it [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Convert {
    /// Reads, checks and writes.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let catalog = Catalog::standard();
        let Subject { space, genotype, .. } = Subject::open(&self.subject, self.space.as_deref(), &catalog)?;
        fits(&space, &genotype, &catalog)?;
        let text = bytes(self.to, &genotype, &ModelCard::default(), None)?;
        match &self.output {
            None => Ok(Answer::bytes(text)),
            Some(path) => {
                write(path, &text)?;
                Ok(Answer::text(format!("wrote {}", path.display())))
            }
        }
    }
}

/// Lays the genotype's network out, on data of an ordinary shape.
fn fits(space: &Space, genotype: &Genotype, catalog: &Catalog) -> Result<(), Failure> {
    let (input, classes) = (space.sample_input(), space.classes().unwrap_or(10));
    let request = LayoutRequest { input, classes, phase: Phase::Train, channels: None, cells: None };
    space.layout(&request, catalog)?.child(genotype)?;
    Ok(())
}

fn notation(name: &str) -> Result<Format, String> {
    let format = name.parse().ok();
    let text =
        |format: &Format| matches!(format, Format::Yaml | Format::Json | Format::Nb201 | Format::Darts);
    format.filter(text).ok_or_else(|| "expected yaml, json, nb201 or darts".to_owned())
}
