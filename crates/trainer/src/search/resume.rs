//! A search put down, and taken up again.

use serde::{Deserialize, Serialize};

use super::{Position, Search};
use crate::{
    Error, RunDir, checkpoint::Checkpoint, error::FileError, optimizer::Moments, run_dir::Part, score::Tally,
};

const VERSION: u32 = 3;

/// What the header says beside version and digest.
#[derive(Serialize, Deserialize)]
struct State {
    at: Position,
    adam_steps: u64,
    stopped: bool,
}

impl Search<'_> {
    /// Writes a checkpoint; at any step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, run: &RunDir) -> Result<(), Error> {
        let state = State { at: self.at, adam_steps: self.adam.steps(), stopped: self.stopped };
        let mut checkpoint = Checkpoint::new(VERSION, &self.digest, &state);
        checkpoint.put_weights(&self.params, &self.sgd);
        for (group, Moments { first, second }) in self.adam.moments().iter().enumerate() {
            let name = self.arch.name(group);
            checkpoint.put(format!("logits.{name}"), self.arch.logits(group));
            checkpoint.put(format!("adam.first.{name}"), first);
            checkpoint.put(format!("adam.second.{name}"), second);
            checkpoint.put(format!("before.{name}"), &self.before[group]);
        }
        if let Some((edges, adam)) = &self.edges {
            let before = edges.logits().iter().zip(&self.edges_before);
            for (group, ((logits, before), moments)) in before.zip(adam.moments()).enumerate() {
                let name = self.arch.name(group);
                checkpoint.put(format!("edges.logits.{name}"), logits);
                checkpoint.put(format!("edges.first.{name}"), &moments.first);
                checkpoint.put(format!("edges.second.{name}"), &moments.second);
                checkpoint.put(format!("edges.before.{name}"), before);
            }
        }
        checkpoint.put_numbers("tau", &self.temperature.numbers())?;
        checkpoint.put_numbers("sharpness", &[self.first_sharpness.unwrap_or(-1.0)])?;
        checkpoint.put_numbers("sums", &[self.weights.sums(), self.architecture.sums()].concat())?;
        run.save(Part::Search, &checkpoint)
    }

    /// Goes back to the run's checkpoint, if it has one, and cuts its lines to the epochs that the checkpoint knows.
    /// From there the search goes on as if it had never stopped, to the bit.
    ///
    /// # Errors
    /// The checkpoint is torn, or of another space, other settings or other data.
    pub fn resume(&mut self, run: &RunDir) -> Result<bool, Error> {
        run.resume(Part::Search, |checkpoint| {
            self.restore(checkpoint)?;
            self.each_other(|other| other.restore(checkpoint))?;
            Ok(self.at.epoch)
        })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), FileError> {
        let misfit = |error: controller::Error| FileError::Mismatch(error.to_string());
        let State { at, adam_steps, stopped } =
            checkpoint.state(VERSION, &self.digest, "space, settings or data differ")?;
        let [loss, correct, examples, arch_loss, arch_correct, arch_examples] = checkpoint.numbers("sums")?;
        checkpoint.restore_weights(&mut self.params, &mut self.sgd)?;
        let mut moments = Vec::new();
        for group in 0..self.arch.len() {
            let (name, dims) = (self.arch.name(group).to_owned(), self.arch.logits(group).dims().to_vec());
            let get = |kind: &str| checkpoint.get(&format!("{kind}.{name}"), &dims);
            moments.push(Moments { first: get("adam.first")?.clone(), second: get("adam.second")?.clone() });
            self.arch.set_logits(group, get("logits")?).map_err(misfit)?;
            self.before[group] = get("before")?.clone();
        }
        if let Some((edges, adam)) = &mut self.edges {
            let (mut logits, mut of_edges, mut before) = (Vec::new(), Vec::new(), Vec::new());
            for (group, own) in edges.logits().iter().enumerate() {
                let name = self.arch.name(group);
                let get = |kind: &str| checkpoint.get(&format!("edges.{kind}.{name}"), own.dims()).cloned();
                logits.push(get("logits")?);
                of_edges.push(Moments { first: get("first")?, second: get("second")? });
                before.push(get("before")?);
            }
            edges.set_logits(logits).map_err(misfit)?;
            adam.restore(adam_steps, of_edges);
            self.edges_before = before;
        }
        let n = self.temperature.numbers().len();
        self.temperature.restore(&checkpoint.number_list("tau", n)?);
        let [sharpness] = checkpoint.numbers::<1>("sharpness")?;
        self.first_sharpness = Some(sharpness).filter(|sharpness| *sharpness >= 0.0);
        self.stopped = stopped;
        self.adam.restore(adam_steps, moments);
        self.weights = Tally { loss, correct, examples };
        self.architecture = Tally { loss: arch_loss, correct: arch_correct, examples: arch_examples };
        self.at = at;
        (self.weight_batches, self.arch_batches) = (None, None);
        (self.measurement, self.watching) = (None, None);
        Ok(())
    }
}
