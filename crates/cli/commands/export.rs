//! `strait export`: a decision in the forms in which others take it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use strait::ops::Catalog;
use strait::space::Genotype;
use strait::trainer::RunDir;

use crate::options::{Subject, genotype, write};
use crate::{answer::Answer, failure::Failure};

/// `strait export`
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Directory of a run, or a genotype (YAML or JSON)
    #[arg(value_name = "RUN|GENOTYPE")]
    subject: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The genotype, for strait and for people
    Yaml,
    /// The genotype, for programs
    Json,
    /// NAS-Bench-201's string
    Nb201,
    /// DARTS's tuples
    Darts,
}

impl Export {
    /// Writes the format to a file or to stdout.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let genotype = self.genotype()?;
        let text = match self.format {
            Format::Yaml => genotype.to_yaml(),
            Format::Json => genotype.to_json(),
            Format::Nb201 => genotype.to_nb201()?,
            Format::Darts => genotype.to_darts()?,
        };
        match &self.output {
            None => Ok(Answer::text(text)),
            Some(path) => {
                write(path, text.as_bytes())?;
                Ok(Answer::text(format!("wrote {}", path.display())))
            }
        }
    }

    fn genotype(&self) -> Result<Genotype, Failure> {
        if self.subject.is_dir() {
            return Ok(Subject::of(&RunDir::view(&self.subject)?, &Catalog::standard())?.genotype);
        }
        genotype(&self.subject)
    }
}
