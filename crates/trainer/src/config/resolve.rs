//! From layers of YAML to one configuration, with errors that name the key.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use controller::Demand;
use data::Augment;
use search_space::{At, Space, locate};
use serde::{Serialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};

use super::{
    ArchConfig, SearchConfig, TauConfig, TauPolicy, TrainConfig, TrainSettings, VERSION, WatchConfig,
    WeightsConfig,
};
use crate::{Error, Shape};

/// One layer of settings; what it does not mention stays as it was.
#[derive(Clone, Copy, Debug)]
pub enum Layer<'a> {
    /// The `search:` block of a space.
    Space {
        /// The file's name, for messages.
        origin: &'a str,
        /// The space.
        space: &'a Space,
    },
    /// A parsed mapping.
    Value {
        /// Where it comes from, for messages.
        origin: &'a str,
        /// The mapping; null says nothing.
        value: &'a Value,
    },
    /// A file of YAML.
    Text {
        /// Its name, for messages.
        origin: &'a str,
        /// Its content.
        text: &'a str,
    },
    /// One key: `weights.lr`, and its value in YAML.
    Set {
        /// The path to the key, separated by dots.
        key: &'a str,
        /// The value as written.
        value: &'a str,
    },
}

impl SearchConfig {
    /// Puts layers on top of the defaults, the first at the bottom: the space's block, a file, single keys.
    ///
    /// ```
    /// use strait_trainer::{Layer, SearchConfig};
    ///
    /// let file = Layer::Text { origin: "quick.yaml", text: "{epochs: 5, tau: {to: 0.5}}" };
    /// let config = SearchConfig::resolve(&[file, Layer::Set { key: "weights.lr", value: "0.1" }])?;
    /// assert_eq!((config.epochs, config.tau.from, config.weights.lr), (5, 2.0, 0.1));
    ///
    /// let error = SearchConfig::resolve(&[Layer::Set { key: "epoch", value: "5" }]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `epochs`?"));
    /// # Ok::<(), strait_trainer::Error>(())
    /// ```
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of range: names the layer, the key, what was found and what is
    /// accepted.
    pub fn resolve(layers: &[Layer<'_>]) -> Result<Self, Error> {
        resolve(layers)
    }

    /// The configuration as YAML, every key written out.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        to_yaml(self)
    }

    /// Reads what [`Self::to_yaml`] wrote; `origin` names it in messages.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn from_yaml(text: &str, origin: &str) -> Result<Self, Error> {
        resolve(&[Layer::Text { origin, text }])
    }
}

impl TrainConfig {
    /// As [`SearchConfig::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(layers: &[Layer<'_>]) -> Result<Self, Error> {
        resolve(layers)
    }

    /// The configuration as YAML, every key written out.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        to_yaml(self)
    }

    /// Reads what [`Self::to_yaml`] wrote; `origin` names it in messages.
    ///
    /// # Errors
    /// As [`SearchConfig::resolve`].
    pub fn from_yaml(text: &str, origin: &str) -> Result<Self, Error> {
        resolve(&[Layer::Text { origin, text }])
    }
}

/// A key out of range: the key, what was found, what is accepted.
type OutOfRange = (&'static str, String, &'static str);

trait Settings: Default + Serialize + DeserializeOwned {
    /// The defaults with every optional section present: all keys there are.
    fn full() -> Self;
    /// Each value by itself.
    fn check(&self) -> Result<(), OutOfRange>;
    /// Values together: asked of the last layer's result alone, since any layer may bring one of a pair.
    fn agree(&self) -> Result<(), OutOfRange>;
}

fn resolve<S: Settings>(layers: &[Layer<'_>]) -> Result<S, Error> {
    let mut tree = value(&S::default());
    let keys = value(&S::full());
    let mut last = BTreeMap::new();
    for layer in layers {
        let origin = |key: &str| layer.place(key);
        let mut merge =
            Merge::<S> { tree: &mut tree, origin: &origin, settings: PhantomData, set: Vec::new() };
        match layer {
            Layer::Space { space, .. } => merge.mapping("", &keys, space.search_settings())?,
            Layer::Value { value, .. } => merge.mapping("", &keys, value)?,
            Layer::Text { origin, text } => merge.mapping("", &keys, &parse(origin, text)?)?,
            Layer::Set { key, value } => {
                let value = parse(&format!("--set {key}"), value)?;
                let nested = key.rsplit('.').fold(value, |value, key| {
                    Value::Mapping(Mapping::from_iter([(Value::from(key), value)]))
                });
                merge.mapping("", &keys, &nested)?;
            }
        }
        last.extend(merge.set.into_iter().map(|key| (key, layer)));
    }
    let settings: S = serde_yaml::from_value(tree).expect("every value that was put in was tried");
    settings.agree().map_err(|(key, found, accepted)| Error::Setting {
        origin: last.get(key).map_or_else(|| "settings".to_owned(), |layer| layer.place(key)),
        key: key.into(),
        found,
        accepted: format!("expected {accepted}"),
    })?;
    Ok(settings)
}

impl Layer<'_> {
    /// What a message about a key of this layer begins with.
    fn place(&self, key: &str) -> String {
        match self {
            Self::Space { origin, space } => {
                place(origin, space.yaml(), &format!("search.{key}")) + ": search"
            }
            Self::Value { origin, .. } => (*origin).to_owned(),
            Self::Text { origin, text } => place(origin, text, key),
            Self::Set { .. } => "--set".to_owned(),
        }
    }
}

/// One layer on its way into the tree of values.
struct Merge<'a, S> {
    tree: &'a mut Value,
    /// What a message about a key begins with.
    origin: &'a dyn Fn(&str) -> String,
    settings: PhantomData<S>,
    /// The keys that it sets.
    set: Vec<String>,
}

impl<S: Settings> Merge<'_, S> {
    /// Puts every key of `found` in its place below `path`; `keys` are those there are.
    fn mapping(&mut self, path: &str, keys: &Value, found: &Value) -> Result<(), Error> {
        let known = keys.as_mapping().expect("only sections are descended into");
        let found = match found {
            Value::Mapping(found) => found,
            Value::Null if path.is_empty() => return Ok(()), // an empty file
            other => return Err(self.refuse(path, other, format!("expected the keys {}", list(known)))),
        };
        for (key, value) in found {
            let name = key.as_str().map_or_else(|| show(key), str::to_owned);
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match known.get(&name) {
                None => return Err(self.unknown(&path, &name, known)),
                Some(keys @ Value::Mapping(_)) if !value.is_null() => self.mapping(&path, keys, value)?,
                Some(_) => self.leaf(&path, value)?,
            }
        }
        Ok(())
    }

    fn leaf(&mut self, path: &str, value: &Value) -> Result<(), Error> {
        let mut tried = self.tree.clone();
        put(&mut tried, path, value.clone());
        let settings: S = serde_yaml::from_value(tried.clone())
            .map_err(|error| self.refuse(path, value, error.to_string()))?;
        match settings.check() {
            Ok(()) => {
                *self.tree = tried;
                self.set.push(path.to_owned());
            }
            Err((key, found, accepted)) => {
                return Err(self.refuse(key, found, format!("expected {accepted}")));
            }
        }
        Ok(())
    }

    fn unknown(&self, path: &str, name: &str, known: &Mapping) -> Error {
        let near = known
            .keys()
            .filter_map(Value::as_str)
            .map(|key| (strsim::damerau_levenshtein(key, name), key))
            .min()
            .filter(|(distance, key)| 2 * distance <= key.len().max(2));
        let accepted = format!("accepted keys: {}", list(known));
        let advice = near.map_or(accepted.clone(), |(_, key)| format!("did you mean `{key}`? {accepted}"));
        Error::UnknownKey { origin: (self.origin)(path), key: path.into(), advice }
    }

    fn refuse(&self, key: &str, found: impl Shown, accepted: String) -> Error {
        Error::Setting { origin: (self.origin)(key), key: key.into(), found: found.shown(), accepted }
    }
}

trait Shown {
    fn shown(&self) -> String;
}

impl Shown for &Value {
    fn shown(&self) -> String {
        show(self)
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.clone()
    }
}

/// `file:line:column` of the key at `path`, as far as it can be found.
fn place(origin: &str, text: &str, path: &str) -> String {
    locate(text, path).map_or(origin.into(), |At { line, column }| format!("{origin}:{line}:{column}"))
}

fn put(tree: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(tree, |place, key| {
        if !place.is_mapping() {
            *place = Value::Mapping(Mapping::new()); // a section that was null
        }
        &mut place[key]
    });
    *place = value;
}

fn parse(origin: &str, text: &str) -> Result<Value, Error> {
    serde_yaml::from_str(text).map_err(|source| Error::Syntax { origin: origin.into(), source })
}

fn value(settings: &impl Serialize) -> Value {
    serde_yaml::to_value(settings).expect("settings are plain values")
}

fn to_yaml(settings: &impl Serialize) -> String {
    serde_yaml::to_string(settings).expect("settings are plain values")
}

fn show(value: &Value) -> String {
    let text = serde_yaml::to_string(value).unwrap_or_default();
    let line = text.trim_end().replace('\n', ", ");
    if line.chars().count() > 60 { format!("{}…", line.chars().take(60).collect::<String>()) } else { line }
}

fn list(known: &Mapping) -> String {
    known.keys().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

impl Settings for SearchConfig {
    fn full() -> Self {
        let train = TrainSettings { augment: Some(Augment::default()), ..TrainSettings::default() };
        Self { train, ..Self::default() }
    }

    fn check(&self) -> Result<(), OutOfRange> {
        let TauConfig { from, to, lr, bound, ref points, .. } = self.tau;
        version(self.version)?;
        if let Err(error) = controller::estimators::by_name(&self.estimator) {
            let accepted = error.suggestion.unwrap_or(ESTIMATORS);
            return Err(("estimator", self.estimator.clone(), accepted));
        }
        at_least("partial_channels", self.partial_channels, 1, "at least 1")?;
        at_least("epochs", self.epochs, 1, "at least 1")?;
        at_least("batch", self.batch, 2, "at least 2")?;
        at_least("gap_batches", self.gap_batches, 1, "at least 1")?;
        at_least("last_gap_batches", self.last_gap_batches, 1, "at least 1")?;
        check("fraction", self.fraction, |x| x > 0.0 && x < 1.0, "a number above 0 and below 1")?;
        check("tau.from", from, |x| x > 0.0, ABOVE)?;
        check("tau.to", to, |x| x > 0.0, ABOVE)?;
        check("tau.lr", lr, |x| x >= 0.0, LEAST)?;
        check("tau.bound", bound, |x| x > 0.0, ABOVE)?;
        let rising = points.iter().map(|point| point[0]).is_sorted_by(|a, b| a < b);
        let legal = |[at, tau]: &[f64; 2]| *at > 0.0 && *at < 1.0 && tau.is_finite() && *tau > 0.0;
        if !rising || !points.iter().all(legal) {
            let accepted = "pairs of progress, rising between 0 and 1, and a temperature above 0";
            return Err(("tau.points", format!("{points:?}"), accepted));
        }
        let WatchConfig { draws, ref reference, .. } = self.watch;
        if draws == 1 {
            return Err(("watch.draws", draws.to_string(), "0, or at least 2"));
        }
        if reference.as_deref().is_some_and(|name| controller::estimators::by_name(name).is_err()) {
            return Err(("watch.reference", reference.clone().unwrap_or_default(), ESTIMATORS));
        }
        weights(
            &self.weights,
            ["weights.lr", "weights.lr_min", "weights.momentum", "weights.weight_decay", "weights.clip"],
        )?;
        arch(&self.arch)?;
        let train = &self.train;
        let keys = [
            "train.weights.lr",
            "train.weights.lr_min",
            "train.weights.momentum",
            "train.weights.weight_decay",
            "train.weights.clip",
        ];
        weights(&train.weights, keys)?;
        at_least("train.batch", train.batch.unwrap_or(2), 2, "at least 2")?;
        at_least("train.channels", train.channels.unwrap_or(1), 1, "at least 1")?;
        at_least("train.cells", train.cells.unwrap_or(1), 1, "at least 1")?;
        check("train.drop_path", train.drop_path, share, SHARE)?;
        check("train.label_smoothing", train.label_smoothing, share, SHARE)
    }

    fn agree(&self) -> Result<(), OutOfRange> {
        let TauConfig { from, to, policy, .. } = self.tau;
        let estimator = controller::estimators::by_name(&self.estimator);
        if self.unrolled && estimator.is_ok_and(|estimator| estimator.demand() == Demand::Joint) {
            return Err(("unrolled", "true".into(), "false with snas, which has one loss"));
        }
        if policy == TauPolicy::Learned && from <= to {
            let accepted = "tau.from above tau.to, which a learned τ stays above";
            return Err(("tau.policy", "learned".into(), accepted));
        }
        if policy == TauPolicy::Adaptive && self.watch.draws == 0 {
            return Err(("watch.draws", "0".into(), "at least 2, which an adaptive τ needs"));
        }
        Ok(())
    }
}

impl Settings for TrainConfig {
    fn full() -> Self {
        Self::default()
    }

    fn check(&self) -> Result<(), OutOfRange> {
        version(self.version)?;
        at_least("epochs", self.epochs, 1, "at least 1")?;
        at_least("batch", self.batch, 2, "at least 2")?;
        at_least("channels", self.channels.unwrap_or(1), 1, "at least 1")?;
        at_least("cells", self.cells.unwrap_or(1), 1, "at least 1")?;
        weights(
            &self.weights,
            ["weights.lr", "weights.lr_min", "weights.momentum", "weights.weight_decay", "weights.clip"],
        )?;
        at_least("accumulate", self.accumulate, 1, "at least 1")?;
        check("mixup", self.mixup, |x| (0.0..=100.0).contains(&x), STRENGTH)?;
        check("cutmix", self.cutmix, |x| (0.0..=100.0).contains(&x), STRENGTH)?;
        check("ema", self.ema, share, SHARE)?;
        check("drop_path", self.drop_path, share, SHARE)?;
        check("label_smoothing", self.label_smoothing, share, SHARE)
    }

    fn agree(&self) -> Result<(), OutOfRange> {
        if self.schedule == Shape::Exponential && !(self.weights.lr > 0.0 && self.weights.lr_min > 0.0) {
            let found = format!("exponential to {}", self.weights.lr_min);
            return Err(("schedule", found, "weights.lr and weights.lr_min above 0"));
        }
        Ok(())
    }
}

const STRENGTH: &str = "a number from 0 to 100";
pub(super) const ESTIMATORS: &str = "gumbel-st, gdas, gumbel-soft, darts, st, gumbel-rao, reinmax, drnas, snas, proxyless, \
                          reinforce or exact";
const LEAST: &str = "a number of at least 0";
const ABOVE: &str = "a number above 0";
const SHARE: &str = "a number of at least 0 and below 1";

fn share(x: f64) -> bool {
    (0.0..1.0).contains(&x)
}

fn version(found: u32) -> Result<(), OutOfRange> {
    if found == VERSION { Ok(()) } else { Err(("version", found.to_string(), "1")) }
}

fn at_least(key: &'static str, found: usize, least: usize, accepted: &'static str) -> Result<(), OutOfRange> {
    if found >= least { Ok(()) } else { Err((key, found.to_string(), accepted)) }
}

fn check(
    key: &'static str,
    found: f64,
    legal: impl Fn(f64) -> bool,
    accepted: &'static str,
) -> Result<(), OutOfRange> {
    if found.is_finite() && legal(found) { Ok(()) } else { Err((key, found.to_string(), accepted)) }
}

fn weights(settings: &WeightsConfig, keys: [&'static str; 5]) -> Result<(), OutOfRange> {
    let WeightsConfig { lr, lr_min, momentum, weight_decay, clip, .. } = *settings;
    let [lr_key, lr_min_key, momentum_key, weight_decay_key, clip_key] = keys;
    check(lr_key, lr, |x| x >= 0.0, "a number of at least 0")?;
    check(lr_min_key, lr_min, |x| x >= 0.0, "a number of at least 0")?;
    check(momentum_key, momentum, share, SHARE)?;
    check(weight_decay_key, weight_decay, |x| x >= 0.0, "a number of at least 0")?;
    check(clip_key, clip.unwrap_or(1.0), |x| x > 0.0, "a number above 0, or null")
}

fn arch(settings: &ArchConfig) -> Result<(), OutOfRange> {
    let ArchConfig { lr, beta1, beta2, eps, weight_decay, entropy_bonus, beta_decay, dirichlet_kl } =
        *settings;
    let courses = [
        ("arch.weight_decay", weight_decay),
        ("arch.entropy_bonus", entropy_bonus),
        ("arch.beta_decay", beta_decay),
        ("arch.dirichlet_kl", dirichlet_kl),
    ];
    for (key, course) in courses {
        course.ends().into_iter().try_for_each(|end| check(key, end, |x| x >= 0.0, LEAST))?;
    }
    check("arch.lr", lr, |x| x >= 0.0, "a number of at least 0")?;
    check("arch.beta1", beta1, share, SHARE)?;
    check("arch.beta2", beta2, share, SHARE)?;
    check("arch.eps", eps, |x| x > 0.0, ABOVE)
}
