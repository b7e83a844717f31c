//! Gradients of a real supernet's logits.

use strait::Device;
use strait::controller::{Estimator, Tau, categorical, estimators};
use strait::data::SearchData;
use strait::lab::{Account, Draws, Point, Truth};
use strait::ops::Catalog;
use strait::space::Space;
use strait::trainer::{Search, SearchConfig};

use super::{Lab, Range};
use crate::failure::Failure;
use crate::options::{data_flag, dataset, space};

/// Three edges of five candidates on the digits.
const CHILDREN: &str = include_str!("../../../../examples/06_children.yaml");
/// As many architectures are enumerated.
const MOST: usize = 1_000;
/// Samples of a gradient of the reference where there are more, and how many such gradients there are at least.
const SAMPLES: (usize, u32) = (16, 1_000);
/// Where the noise of the reference begins: no estimator draws the same.
const REFERENCE: u32 = 1 << 31;

impl Lab {
    /// Trains the weights, freezes them, and measures every estimator at every temperature.
    pub(super) fn supernet(&self) -> Result<Account, Failure> {
        if !self.logits.is_empty() {
            return Err(Failure::misuse("--logits: a supernet has logits of its own; expected none"));
        }
        let draws = self.draws.unwrap_or(200);
        if !(2..1 << 30).contains(&draws) {
            return Err(Failure::misuse(format!("--draws {draws}: expected 2 to 1073741823")));
        }
        let catalog = Catalog::standard();
        let (space, file) = match &self.space {
            None => (Space::parse(CHILDREN, "children.yaml", &catalog)?, "children.yaml"),
            Some(name) => (space(name, &catalog)?, name.as_str()),
        };
        let given = [("data.source", data_flag(self.data.as_ref())), ("seed", Some(self.seed.to_string()))];
        let config = SearchConfig::resolve(&self.settings.read(&given)?.over_space(&space, file))?;
        // Paths are sampled uniformly, one an edge, whatever the settings say: the logits do not move.
        let (warmup_epochs, epochs) = (self.weight_epochs, self.weight_epochs.saturating_add(1));
        let config =
            SearchConfig { warmup_epochs, epochs, estimator: "gumbel-st".into(), unrolled: false, ..config };
        let data = SearchData::split(dataset(&config.data)?, &config.split())?;
        let mut search = Search::new(&space, &catalog, &data, config, &Device::Cpu)?;
        for _ in 0..self.weight_epochs {
            search.next_epoch(&data)?;
        }
        let (truth, reference) = truth(&search, &data, draws as u32)?;
        truth.steep()?;
        let mut points: Vec<Point> = Vec::new();
        for name in &self.estimators {
            let estimator = estimators::by_name(name)?;
            for &tau in &self.taus(Range { from: 0.1, to: 10.0, n: 7 })? {
                let mut sum = Draws::around(&truth);
                let gradients =
                    search.gradients(&data, estimator.as_ref(), Tau::new(tau)?, 0..draws as u32)?;
                gradients.iter().for_each(|gradient| sum.push(gradient));
                points.push(sum.point(name, tau));
            }
        }
        let logits = logits(&search)?;
        let (epochs, batch) = (self.weight_epochs, search.config().batch);
        let account = Account {
            problem: format!(
                "supernet {}, {} logits, {epochs} epochs, batch of {batch}",
                space.name(),
                logits.len()
            ),
            logits,
            reference,
            draws,
            seed: self.seed,
            ..Account::default()
        };
        Ok(account.read(points, &truth, None))
    }
}

/// The gradient that the others are compared with, and what it is.
fn truth(search: &Search<'_>, data: &SearchData, draws: u32) -> Result<(Truth, String), Failure> {
    let groups = &search.layout().groups;
    let edges = groups.iter().flat_map(|group| group.edges.iter().map(|_| group.candidates.len()));
    let architectures = edges.fold(1usize, usize::saturating_mul);
    let of = |name: &str, n: u32| -> Result<Vec<Vec<f64>>, Failure> {
        let estimator: Box<dyn Estimator> = estimators::by_name(name)?;
        Ok(search.gradients(data, estimator.as_ref(), Tau::new(1.0)?, REFERENCE..REFERENCE + n)?)
    };
    if architectures <= MOST {
        let gradient = of(&format!("exact:{MOST}"), 1)?.concat();
        return Ok((
            Truth { gradient, error: 0.0 },
            format!("exact, over all {architectures} architectures"),
        ));
    }
    let (samples, n) = (SAMPLES.0, SAMPLES.1.max(4 * draws));
    let name = format!("reinforce:{samples}");
    let truth = Truth::of(&of(&name, n)?)?;
    let norm = truth.gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
    let reference =
        format!("mean of {n} gradients of {name}, known to {:.2} of its norm", truth.error / norm);
    Ok((truth, reference))
}

/// The logarithms of all edges' probabilities.
fn logits(search: &Search<'_>) -> Result<Vec<f64>, Failure> {
    let mut all = Vec::new();
    for group in 0..search.arch().len() {
        let logits = categorical::log_softmax(search.arch().logits(group))?;
        all.extend(logits.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(all)
}
