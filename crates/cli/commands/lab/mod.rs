//! `strait lab`: how far the estimators stray, measured where the truth is known.

mod supernet;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use strait::data::DataSpec;
use strait::lab::{Account, Curve, Experiment, Loss, Quantity};

use crate::options::{self, Settings, estimator_name};
use crate::{answer::Answer, failure::Failure};

const EXAMPLES: &str = "\
Examples:
  strait lab
  strait lab --loss cubic --estimators gumbel-st,gumbel-rao:100,reinmax --tau 0.003:300:21 --draws 100000 -o lab
  strait lab --loss table:losses.txt --logits 0,0,0
  strait lab --loss supernet --estimators gumbel-st,gdas,reinmax -o lab
  strait lab --space digits --weight-epochs 10 --draws 100

One choice among K candidates, whose loss is a function of the gates: the true gradient is known, and every estimator
is compared with it. With `--loss supernet` the gradient is that of a real supernet's logits: its weights are trained on
uniformly sampled paths and then frozen, and every gradient is of the same batch; the truth is enumerated where the space
has at most 1,000 architectures, and otherwise the mean of many gradients of `reinforce`. `-o` writes lab.csv, lab.json, variance.svg, bias.svg, error.svg, and
all of it on one page, lab.html.";

/// `strait lab`
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Lab {
    /// Logits of the candidates, separated by commas [default: 0.5,-0.3,-0.8,0.1, or zeros for a table]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', allow_hyphen_values = true)]
    logits: Vec<f64>,
    /// Linear, quadratic, exponential or cubic between two choices, table:FILE of one loss a candidate, or supernet
    /// [default: quadratic; supernet with --space]
    #[arg(long, value_name = "LOSS")]
    loss: Option<LossName>,
    /// Space of the supernet [default: one of 125 architectures]
    #[arg(long, value_name = "SPACE.yaml")]
    space: Option<String>,
    /// Data of the supernet [default: the space's setting, digits]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Epochs in which the supernet's weights train before they are frozen
    #[arg(long, value_name = "N", default_value_t = 4)]
    weight_epochs: usize,
    /// Estimators to measure (`strait list estimators`)
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = estimator_name,
          default_value = "gumbel-st,gumbel-soft,gdas,gumbel-rao,reinmax,reinforce")]
    estimators: Vec<String>,
    /// Temperatures, evenly spread in the logarithm [default: 0.01:100:13; 0.1:10:7 of a supernet]
    #[arg(long, value_name = "FROM:TO:N")]
    tau: Option<Range>,
    /// Gradients drawn for every estimator and temperature [default: 20000; 200 of a supernet]
    #[arg(long, value_name = "N")]
    draws: Option<usize>,
    /// All chance derives from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Directory for the table, the numbers and the pictures
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Debug)]
enum LossName {
    Curve(Curve),
    Table(PathBuf),
    Supernet,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    from: f64,
    to: f64,
    n: usize,
}

impl Lab {
    /// Measures, writes what was asked for, says what was seen.
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let account = match (&self.loss, &self.space) {
            (Some(LossName::Supernet), _) | (None, Some(_)) => self.supernet()?,
            (Some(_), Some(space)) => {
                let message =
                    format!("--space {space}: a space has a loss of its own; expected --loss supernet");
                return Err(Failure::misuse(message));
            }
            (loss, None) => self.formula(loss.as_ref())?,
        };
        if let Some(directory) = &self.out {
            write(directory, &account)?;
        }
        let written = |dir: &PathBuf| {
            format!(
                "\nwritten to {}: lab.csv, lab.json, a picture of each, and lab.html with all of it\n",
                dir.display()
            )
        };
        Answer::either(self.json, &account, || {
            account.to_text() + &self.out.as_ref().map(written).unwrap_or_default()
        })
    }

    /// One choice whose loss is a formula, or a table.
    fn formula(&self, loss: Option<&LossName>) -> Result<Account, Failure> {
        let (logits, loss) = match (loss, self.logits.is_empty()) {
            (Some(LossName::Table(path)), none) => {
                let loss = table(path)?;
                (if none { vec![0.0; loss.candidates()] } else { self.logits.clone() }, loss)
            }
            (other, none) => {
                let curve = if let Some(LossName::Curve(curve)) = other { *curve } else { Curve::Quadratic };
                let logits = if none { Experiment::LOGITS.to_vec() } else { self.logits.clone() };
                let loss = Loss::new(curve, logits.len());
                (logits, loss)
            }
        };
        Ok(Account::of(&Experiment {
            logits,
            loss,
            estimators: self.estimators.clone(),
            taus: self.taus(Range { from: 0.01, to: 100.0, n: 13 })?,
            draws: self.draws.unwrap_or(20_000),
            seed: self.seed,
        })?)
    }

    fn taus(&self, default: Range) -> Result<Vec<f64>, Failure> {
        let Range { from, to, n } = self.tau.unwrap_or(default);
        Ok(Experiment::temperatures(from, to, n)?)
    }
}

fn write(directory: &Path, account: &Account) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)
        .map_err(|error| Failure::new(format!("cannot create {}", directory.display()), error))?;
    options::write(&directory.join("lab.csv"), account.to_csv().as_bytes())?;
    let json = serde_json::to_string_pretty(account)? + "\n";
    options::write(&directory.join("lab.json"), json.as_bytes())?;
    for quantity in Quantity::ALL {
        let name = format!("{}.svg", quantity.name());
        options::write(&directory.join(name), account.to_svg(quantity)?.as_bytes())?;
    }
    options::write(&directory.join("lab.html"), account.to_html()?.as_bytes())
}

/// Numbers separated by commas, blanks or line ends.
fn table(path: &Path) -> Result<Loss, Failure> {
    let text = options::read(path)?;
    let mut losses = Vec::new();
    for (line, row) in (1..).zip(text.lines()) {
        let mut column = 1;
        for word in row.split([',', ' ', '\t']) {
            if !word.is_empty() {
                losses.push(word.parse().map_err(|_| {
                    let place = format!("{}:{line}:{column}", path.display());
                    Failure::misuse(format!(
                        "{place}: found {word}; expected numbers, a loss for every candidate"
                    ))
                })?);
            }
            column += word.chars().count() + 1;
        }
    }
    Ok(Loss::table(losses)?)
}

impl FromStr for LossName {
    type Err = strait::lab::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("table", path)) if !path.is_empty() => Ok(Self::Table(path.into())),
            None if text == "supernet" => Ok(Self::Supernet),
            _ => text.parse().map(Self::Curve),
        }
    }
}

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let range = match parts[..] {
            [from, to, n] => from.parse().ok().zip(to.parse().ok()).zip(n.parse().ok()),
            _ => None,
        };
        let legal =
            |((from, to), n): &((f64, f64), usize)| *from > 0.0 && from <= to && to.is_finite() && *n > 0;
        let range = range.filter(legal).ok_or("expected FROM:TO:N with 0 < FROM <= TO, as in 0.01:100:13")?;
        let ((from, to), n) = range;
        Ok(Self { from, to, n })
    }
}
