//! Every setting of a search and of a training, with its default.
//!
//! Defaults follow GDAS's recipe on NAS-Bench-201 (Dong & Yang, 2019) for the weights. Where short searches of our own
//! spoke against the published settings we follow those: the weights train alone first, since early on candidates
//! without weights look better; τ starts at 2, not 10, because α hardly moves above; α does not decay.

mod course;
mod recipes;
mod resolve;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, str::FromStr};

use data::{Augment, DataOptions, DataSpec, Split};
use search_space::Rule;
use serde::{Deserialize, Serialize};

pub use course::Course;
pub use resolve::Layer;

use crate::schedule::{Schedule, Shape};

/// The version of the format of configurations.
pub const VERSION: u32 = 1;

/// The settings of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// Always 1.
    pub version: u32,
    /// All chance derives from it.
    pub seed: u64,
    /// What to learn from.
    pub data: DataConfig,
    /// How a gradient crosses a choice: a name of `controller::estimators`.
    pub estimator: String,
    /// Into how many parts an edge's channels are cut, of which one goes through the candidates (PC-DARTS; 4 there), at
    /// least 1; 1: all channels do.
    pub partial_channels: usize,
    /// Whether the edges into a node have strengths that are learned beside α and add up to 1 (PC-DARTS).
    pub edge_normalization: bool,
    /// Passes over the weights' part of the data, at least 1.
    pub epochs: usize,
    /// Epochs in which the weights train alone, before α moves. The last epoch is never one of them.
    pub warmup_epochs: usize,
    /// Epochs of training the derived child from scratch; 0 leaves that to `strait train`.
    pub retrain_epochs: usize,
    /// Examples in a batch, at least 2.
    pub batch: usize,
    /// How the training part is divided between weights and architecture.
    pub split: SplitBy,
    /// The weights' share where the split is `stratified`, in (0, 1).
    pub fraction: f64,
    /// The temperature, from the first epoch in which α moves to the last.
    pub tau: TauConfig,
    /// SGD of the weights.
    pub weights: WeightsConfig,
    /// Adam of the logits.
    pub arch: ArchConfig,
    /// Which step comes first.
    pub order: Order,
    /// Second order: differentiate the architecture's loss through one step of the weights (DARTS, §2.3).
    pub unrolled: bool,
    /// What is done to the examples of both parts.
    pub augment: Augment,
    /// How choices are made discrete; `null` takes the space's rule.
    pub rule: Option<Rule>,
    /// Batches on which every epoch measures the discretization gap, at least 1; warm-up epochs but the last leave it out.
    /// Measuring costs about as much as twice this many steps.
    pub gap_batches: usize,
    /// The same for the last epoch of all, whose figures the search ends with; a part that has fewer is measured whole.
    pub last_gap_batches: usize,
    /// What every epoch measures of the architecture's gradient.
    pub watch: WatchConfig,
    /// Training the child from scratch.
    pub train: TrainSettings,
}

/// What every epoch in which α moves measures of the architecture's gradient, on a held batch with frozen weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Gradients drawn to see their noise, 0 or at least 2; each costs an architecture step.
    pub draws: usize,
    /// An unbiased estimator to compare their mean with (`exact`, `reinforce:200`); `null` compares with none.
    pub reference: Option<String>,
    /// Epochs between two measurements of the sharpness (the largest eigenvalue of the loss's curvature in α); 0 leaves it
    /// out, unless `stop_on` needs it after every one. Each costs sixteen mixture gradients.
    pub sharpness_every: usize,
    /// When to end the search early: `skips:N`, `eigenvalue:R`, `entropy:H`; `null` never does.
    pub stop_on: Option<StopOn>,
}

/// A sign of collapse that ends a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StopOn {
    /// So many skip connections, or more, are the likeliest candidates of one kind of cell.
    Skips(usize),
    /// The sharpness is above this times what it was when it was first measured.
    Eigenvalue(f64),
    /// The mean entropy of the edges, in nats, is below this.
    Entropy(f64),
}

/// What to learn from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataConfig {
    /// `digits`, `idx:DIR`, `cifar10:DIR`, …
    pub source: DataSpec,
    /// How to read it; the keys stand beside `source`.
    #[serde(flatten)]
    pub options: DataOptions,
}

/// How the training part is divided: `stratified`, `halves`, or `indices:FILE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitBy {
    /// Of every class the same share.
    #[default]
    Stratified,
    /// First half, second half, as in DARTS.
    Halves,
    /// As a file says.
    Indices(PathBuf),
}

/// The temperature's course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TauConfig {
    /// Who decides it.
    pub policy: TauPolicy,
    /// The curve; with `points`, that of every piece.
    pub schedule: Shape,
    /// In the first epoch (and in all warm-up epochs), above 0.
    pub from: f64,
    /// In the last epoch, above 0; what a learned temperature stays above.
    pub to: f64,
    /// Where the curve passes between its ends: pairs of progress, rising inside (0, 1), and τ, above 0.
    pub points: Vec<[f64; 2]>,
    /// Whether a schedule moves with every epoch or with every step.
    pub by: Pace,
    /// Which edges share a learned temperature.
    pub per: TauPer,
    /// Learning rate of a learned temperature (Adam on ρ), at least 0.
    pub lr: f64,
    /// Up to which ratio of noise to signal an adaptive temperature goes on falling, above 0.
    pub bound: f64,
}

/// Who decides the temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TauPolicy {
    /// The curve from `from` to `to`.
    #[default]
    Schedule,
    /// The loss: `τ = to + softplus(ρ)`, with ρ a parameter beside α.
    Learned,
    /// The curve, gone down by an epoch whenever the measured noise of the gradient is under `bound`.
    Adaptive,
}

/// Which edges share a learned temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TauPer {
    /// All.
    #[default]
    All,
    /// Those of one kind of cell.
    Kind,
    /// None: every edge has its own.
    Edge,
}

/// How often a schedule moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// After every epoch.
    #[default]
    Epoch,
    /// After every step.
    Step,
}

/// SGD of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsConfig {
    /// Learning rate at the start, at least 0; a cosine leads from it to `lr_min`.
    pub lr: f64,
    /// Learning rate at the end, at least 0.
    pub lr_min: f64,
    /// In [0, 1).
    pub momentum: f64,
    /// Whether steps look ahead along the velocity.
    pub nesterov: bool,
    /// L2 in the gradient, at least 0.
    pub weight_decay: f64,
    /// The largest norm of all gradients together, above 0; `null` does not clip.
    pub clip: Option<f64>,
}

/// Adam of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchConfig {
    /// Learning rate, constant, at least 0.
    pub lr: f64,
    /// Decay of the gradient's mean, in [0, 1).
    pub beta1: f64,
    /// Decay of the squared gradient's mean, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the latter, above 0.
    pub eps: f64,
    /// L2 in the gradient, at least 0: `0.001`, or `linear:0.001:0`.
    pub weight_decay: Course,
    /// Reward β per nat of entropy of every edge at its temperature, at least 0: `0.1`, or `linear:0.1:0`.
    pub entropy_bonus: Course,
    /// λ of the mean of logsumexp(α) over edges, at least 0 (β-DARTS rises from 0: `linear:0:50`).
    pub beta_decay: Course,
    /// λ of the sum of KL(Dir(elu(α) + 1) ‖ Dir(1)), at least 0 (DrNAS: `0.001`).
    pub dirichlet_kl: Course,
}

/// Which step comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Weights, then architecture (GDAS).
    #[default]
    WeightsFirst,
    /// Architecture, then weights (DARTS).
    ArchFirst,
}

/// Training a child from scratch, as part of a search's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Examples in a batch; `null` takes the search's.
    pub batch: Option<usize>,
    /// SGD of the weights.
    pub weights: WeightsConfig,
    /// What is done to the examples; `null` takes the search's.
    pub augment: Option<Augment>,
    /// Probability of losing an edge's output after the last epoch, rising linearly from 0, in [0, 1) (0.2 in DARTS).
    pub drop_path: f64,
    /// Share of the label spread over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// Width of the first stage; `null` takes the space's.
    pub channels: Option<usize>,
    /// Depth, as the space counts it; `null` takes the space's.
    pub cells: Option<usize>,
}

/// The settings of a training from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Always 1.
    pub version: u32,
    /// All chance derives from it.
    pub seed: u64,
    /// What to learn from.
    pub data: DataConfig,
    /// Passes over the training part, at least 1.
    pub epochs: usize,
    /// Examples in a batch, at least 2.
    pub batch: usize,
    /// SGD of the weights.
    pub weights: WeightsConfig,
    /// What is done to the training examples.
    pub augment: Augment,
    /// Probability of losing an edge's output after the last epoch, rising linearly from 0, in [0, 1).
    pub drop_path: f64,
    /// Share of the label spread over all classes, in [0, 1).
    pub label_smoothing: f64,
    /// Epochs at the start over which the learning rate rises in a straight line; the schedule takes the rest.
    pub warmup_epochs: usize,
    /// The learning rate's course from `weights.lr` to `weights.lr_min`.
    pub schedule: Shape,
    /// Strength of mixup, the `α` of its Beta distribution (0.2 is usual); 0: none.
    pub mixup: f64,
    /// Strength of CutMix, likewise (1 is usual); with both, every batch draws one of the two.
    pub cutmix: f64,
    /// Decay of the moving average of all weights, in [0, 1): what is tested and exported; 0: the last weights are.
    pub ema: f64,
    /// Batches whose gradients are averaged into one step, at least 1.
    pub accumulate: usize,
    /// A search's run whose supernet's weights the child starts from.
    pub inherit: Option<PathBuf>,
    /// Width of the first stage; `null` takes the space's.
    pub channels: Option<usize>,
    /// Depth, as the space counts it; `null` takes the space's.
    pub cells: Option<usize>,
}

impl SearchConfig {
    /// Epochs in which the weights train alone: as set, but the last epoch always moves α.
    #[must_use]
    pub fn warmup(&self) -> usize {
        self.warmup_epochs.min(self.epochs - 1)
    }

    /// The split in `data`'s words.
    #[must_use]
    pub fn split(&self) -> Split {
        match &self.split {
            SplitBy::Stratified => {
                let seed = crate::Seed(self.seed).of(crate::Stream::Split);
                Split::Stratified { fraction: self.fraction, seed }
            }
            SplitBy::Halves => Split::Halves,
            SplitBy::Indices(path) => Split::Indices(path.clone()),
        }
    }
}

impl WatchConfig {
    /// Epochs between two measurements of the sharpness, if there are any.
    pub(crate) fn sharpness_every(&self) -> Option<usize> {
        let needed = matches!(self.stop_on, Some(StopOn::Eigenvalue(_)));
        if self.sharpness_every > 0 { Some(self.sharpness_every) } else { needed.then_some(1) }
    }
}

impl TauConfig {
    /// The scheduled temperature at `progress` in [0, 1]: exactly `from` at 0 and `to` at 1.
    #[must_use]
    pub fn at(&self, progress: f64) -> f64 {
        let (mut start, mut from) = (0.0, self.from);
        for &[end, to] in self.points.iter().chain([&[1.0, self.to]]) {
            if progress < end {
                let piece = Schedule { shape: self.schedule, from, to };
                return piece.at((progress - start) / (end - start));
            }
            (start, from) = (end, to);
        }
        Schedule { shape: self.schedule, from: self.from, to: self.to }.at(1.0)
    }
}

impl WeightsConfig {
    /// The learning rate's course.
    #[must_use]
    pub fn schedule(self) -> Schedule {
        Schedule { shape: Shape::Cosine, from: self.lr, to: self.lr_min }
    }
}

impl TrainConfig {
    /// Epochs of a training nobody has set them for.
    pub const EPOCHS: usize = 100;

    /// The learning rate in an epoch, counted from 0: `lr·(e + 1)/(w + 1)` in the `w` epochs of warm-up, then the
    /// schedule.
    #[must_use]
    pub fn lr(&self, epoch: usize) -> f64 {
        let WeightsConfig { lr, lr_min, .. } = self.weights;
        let warmup = self.warmup_epochs.min(self.epochs.saturating_sub(1));
        match epoch.checked_sub(warmup) {
            None => lr * (epoch + 1) as f64 / (warmup + 1) as f64,
            Some(after) => {
                Schedule { shape: self.schedule, from: lr, to: lr_min }.leaving(after, self.epochs - warmup)
            }
        }
    }
}

/// What a search's settings say of the training that follows it.
impl From<&SearchConfig> for TrainConfig {
    fn from(search: &SearchConfig) -> Self {
        let TrainSettings { batch, weights, augment, drop_path, label_smoothing, channels, cells } =
            search.train;
        Self {
            version: VERSION,
            seed: search.seed,
            data: search.data.clone(),
            epochs: if search.retrain_epochs > 0 { search.retrain_epochs } else { Self::EPOCHS },
            batch: batch.unwrap_or(search.batch),
            weights,
            augment: augment.unwrap_or(search.augment),
            drop_path,
            label_smoothing,
            warmup_epochs: 0,
            schedule: Shape::Cosine,
            mixup: 0.0,
            cutmix: 0.0,
            ema: 0.0,
            accumulate: 1,
            inherit: None,
            channels,
            cells,
        }
    }
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            version: VERSION,
            seed: 0,
            data: DataConfig::default(),
            estimator: "gumbel-st".into(),
            partial_channels: 1,
            edge_normalization: false,
            epochs: 50,
            warmup_epochs: 10,
            retrain_epochs: 0,
            batch: 64,
            split: SplitBy::Stratified,
            fraction: 0.5,
            tau: TauConfig::default(),
            weights: WeightsConfig::default(),
            arch: ArchConfig::default(),
            order: Order::WeightsFirst,
            unrolled: false,
            augment: Augment::default(),
            rule: None,
            gap_batches: 2,
            last_gap_batches: 32,
            watch: WatchConfig::default(),
            train: TrainSettings::default(),
        }
    }
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { draws: 4, reference: None, sharpness_every: 0, stop_on: None }
    }
}

impl Default for TauConfig {
    fn default() -> Self {
        Self {
            policy: TauPolicy::Schedule,
            schedule: Shape::Linear,
            from: 2.0,
            to: 0.3,
            points: Vec::new(),
            by: Pace::Epoch,
            per: TauPer::All,
            lr: 0.01,
            bound: 3.0,
        }
    }
}

impl Default for WeightsConfig {
    fn default() -> Self {
        Self { lr: 0.025, lr_min: 0.001, momentum: 0.9, nesterov: true, weight_decay: 5e-4, clip: Some(5.0) }
    }
}

impl Default for ArchConfig {
    fn default() -> Self {
        let none = Course::constant(0.0);
        Self {
            lr: 3e-3,
            beta1: 0.5,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: none,
            entropy_bonus: none,
            beta_decay: none,
            dirichlet_kl: none,
        }
    }
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            batch: None,
            weights: WeightsConfig { lr_min: 0.0, ..WeightsConfig::default() },
            augment: None,
            drop_path: 0.0,
            label_smoothing: 0.0,
            channels: None,
            cells: None,
        }
    }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self::from(&SearchConfig::default())
    }
}

impl FromStr for SplitBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("stratified", _) => Ok(Self::Stratified),
            ("halves", _) => Ok(Self::Halves),
            (_, Some(("indices", path))) if !path.is_empty() => Ok(Self::Indices(path.into())),
            _ => Err("expected stratified, halves or indices:FILE".into()),
        }
    }
}

impl fmt::Display for SplitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stratified => f.write_str("stratified"),
            Self::Halves => f.write_str("halves"),
            Self::Indices(path) => write!(f, "indices:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SplitBy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SplitBy> for String {
    fn from(split: SplitBy) -> Self {
        split.to_string()
    }
}

impl FromStr for StopOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let above = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        let found = match text.split_once(':') {
            Some(("skips", n)) => n.parse().ok().filter(|n| *n > 0).map(Self::Skips),
            Some(("eigenvalue", ratio)) => above(ratio).map(Self::Eigenvalue),
            Some(("entropy", nats)) => above(nats).map(Self::Entropy),
            _ => None,
        };
        found.ok_or_else(|| "expected skips:N, eigenvalue:RATIO or entropy:NATS, above 0".into())
    }
}

impl fmt::Display for StopOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skips(n) => write!(f, "skips:{n}"),
            Self::Eigenvalue(ratio) => write!(f, "eigenvalue:{ratio}"),
            Self::Entropy(nats) => write!(f, "entropy:{nats}"),
        }
    }
}

impl TryFrom<String> for StopOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StopOn> for String {
    fn from(stop: StopOn) -> Self {
        stop.to_string()
    }
}
