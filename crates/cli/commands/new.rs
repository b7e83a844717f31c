//! `strait new`: a commented space to start from.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use strait::space::{Space, Template};

use crate::{answer::Answer, failure::Failure};

/// `strait new`
#[derive(Args, Debug)]
pub(crate) struct New {
    /// What kind of space
    #[arg(value_enum, default_value_t = Kind::Cell)]
    kind: Kind,
    /// Where to write it; an existing file is left alone [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Cells of images, repeated
    Cell,
    /// A chain of layers that each choose for themselves
    Chain,
    /// Cells of series
    Series,
    /// Layers of vectors
    Mlp,
}

impl New {
    /// Writes the template.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let template = Space::template(match self.kind {
            Kind::Cell => Template::Cell,
            Kind::Chain => Template::Chain,
            Kind::Series => Template::Series,
            Kind::Mlp => Template::Mlp,
        });
        match &self.output {
            None => Ok(Answer::text(template)),
            Some(path) => write_new(path, template.as_bytes()).map(|()| {
                Answer::text(format!("wrote {0}; check it with: strait check {0}", path.display()))
            }),
        }
    }
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    File::create_new(path).and_then(|mut file| file.write_all(bytes)).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::misuse(format!("{} exists; a new file is accepted", path.display()))
                .hint("choose another name with -o")
        }
        _ => Failure::new(format!("cannot write {}", path.display()), error),
    })
}
