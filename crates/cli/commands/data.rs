//! `strait data`: data looked at before anything learns from them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strait::data::{DataSpec, Dataset, Inspection, Part, contact_sheet, fingerprint, inspect, png};

use super::check::grouped;
use crate::options::{Settings, data_flag, dataset, size, write};
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait data digits --sheet digits.png --examples digits/
  strait data folder:pictures --resize 32x32
  strait data csv:table.csv --set data.label=species
  strait data npz:pathmnist.npz
  strait data idx:fashion-mnist --json";

/// `strait data`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Data {
    /// The data: digits, idx:DIR, cifar10:DIR, … (`strait list data`)
    #[arg(value_name = "DATA")]
    data: DataSpec,
    /// Write ten examples of every class as one picture
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Write one test example of every class as a PNG of its own
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
    /// Bring every picture of a folder to this size
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = size)]
    resize: Option<[usize; 2]>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Data {
    /// Counts, balance, problems; pictures where they are asked for.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let resize = self.resize.map(|[height, width]| format!("[{height}, {width}]"));
        let given =
            self.settings.read(&[("data.source", data_flag(Some(&self.data))), ("data.resize", resize)])?;
        let data = dataset(&given.over_defaults()?.data)?;
        let found = inspect(&*data);
        if let Some(path) = &self.sheet {
            let sheet = contact_sheet(&*data).ok_or_else(|| {
                Failure::misuse(format!("{}: examples of {} are no pictures", self.data, found.shape))
            })?;
            write(path, &sheet)?;
        }
        let mut written = Vec::new();
        if let Some(dir) = &self.examples {
            written = examples(&*data, &found, dir)?;
        }
        let classes: Vec<_> = found
            .classes
            .iter()
            .map(|class| json!({ "name": class.name, "train": class.train, "test": class.test }))
            .collect();
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        let told = json!({
            "name": found.name, "shape": found.shape.to_string(), "classes": classes, "range": found.range,
            "train": data.len(Part::Train), "test": data.len(Part::Test), "problems": problems,
            "fingerprint": fingerprint(&*data), "examples": written,
        });
        Answer::either(self.json, &told, || self.words(&found, &*data, &problems))
    }

    fn words(&self, found: &Inspection, data: &dyn Dataset, problems: &[String]) -> String {
        let count = |part| grouped(&data.len(part).to_string());
        let mut text = format!(
            "{}: {} for training, {} for testing, examples of {} in {} classes\n\n",
            found.name,
            count(Part::Train),
            count(Part::Test),
            found.shape,
            found.classes.len()
        );
        let most = found.classes.iter().map(|class| class.train).max().unwrap_or(1).max(1);
        let width = found.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5);
        text += &format!("{:<width$}    train     test\n", "class");
        for class in &found.classes {
            let bar = "#".repeat(class.train * 40 / most);
            text += &format!("{:<width$} {:>8} {:>8}  {bar}\n", class.name, class.train, class.test);
        }
        let (low, high) = found
            .range
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (a, b)| (low.min(*a), high.max(*b)));
        text += &format!("\nvalues         {low} to {high}\n");
        for path in self.sheet.iter().chain(&self.examples) {
            text += &format!("wrote          {}\n", path.display());
        }
        match problems {
            [] => text += "problems       none found\n",
            problems => problems.iter().for_each(|problem| text += &format!("problem        {problem}\n")),
        }
        text
    }
}

/// One test example of every class; the files' names begin with the class.
fn examples(data: &dyn Dataset, found: &Inspection, dir: &Path) -> Result<Vec<String>, Failure> {
    fs::create_dir_all(dir).map_err(|error| Failure::new(format!("cannot make {}", dir.display()), error))?;
    let (mut values, mut written) = (vec![0.0; found.shape.elements()], Vec::new());
    let mut seen = vec![false; found.classes.len()];
    for index in 0..data.len(Part::Test) {
        let label = data.read(Part::Test, index, &mut values) as usize;
        if !std::mem::replace(&mut seen[label], true) {
            let class = found.classes[label].name.replace(['/', '\\'], "_");
            let path = dir.join(format!("{class}.png"));
            write(&path, &png(&values, found.shape)?)?;
            written.push(path.display().to_string());
        }
    }
    Ok(written)
}
