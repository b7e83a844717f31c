//! `strait derive`: another decision from the same logits.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strait::ops::Catalog;
use strait::space::Rule;
use strait::trainer::Decision;

use crate::options::{self, Finished, write};
use crate::{answer::Answer, failure::Failure};

/// `strait derive`
#[derive(Args, Debug)]
pub(crate) struct Derive {
    /// Directory of a search, ended or not: its last checkpoint is read
    run: PathBuf,
    /// argmax, top-2 (any number of inputs), or sampled:N: the best of N with shared weights [default: the run's]
    #[arg(long, value_name = "RULE")]
    rule: Option<Rule>,
    /// Where to write the genotype, as YAML [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: options::Machine,
}

impl Derive {
    /// Decides by the rule; changes nothing in the run.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let catalog = Catalog::standard();
        let Finished { search, split, .. } =
            Finished::open(&self.run, None, &catalog, &self.machine.open()?)?;
        let rule = self.rule.unwrap_or(search.rule());
        let another = "try another rule, for example --rule sampled:100, or search longer";
        let decision = search.derive(rule, &split)?;
        if self.json && !decision.disconnected.is_empty() {
            return disconnected(decision, &self.run);
        }
        let genotype = decision.connected().map_err(|error| Failure::from(error).hint(another))?;
        if let Some(path) = &self.output {
            write(path, genotype.to_yaml().as_bytes())?;
        }
        let answer = json!({
            "genotype": genotype, "rule": rule.to_string(), "run": self.run.display().to_string(), "epochs": search.epoch(),
        });
        Answer::either(self.json, &answer, || match &self.output {
            None => genotype.to_yaml(),
            Some(path) => format!("{genotype}\nwrote {0}; train it with: strait train {0}", path.display()),
        })
    }
}

/// A decision through which no data reaches the logits, for scripts: what it is, the cells without a path, and the
/// error that a person would read.
pub(crate) fn disconnected(decision: Decision, run: &Path) -> Result<Answer, Failure> {
    let mut answer = json!({
        "genotype": decision.genotype, "disconnected": decision.disconnected, "run": run.display().to_string(),
    });
    if let Err(error) = decision.connected() {
        answer["error"] = json!(error.to_string());
    }
    Ok(Answer::json(&answer)?.refusing(ExitCode::FAILURE))
}
