//! Published recipes of training from scratch, as layers of settings.

use super::{Layer, TrainConfig};

/// Names and texts.
const RECIPES: [(&str, &str); 5] = [
    ("quick", include_str!("recipes/quick.yaml")),
    ("darts-cifar", include_str!("recipes/darts-cifar.yaml")),
    ("gdas-cifar", include_str!("recipes/gdas-cifar.yaml")),
    ("nas-bench-201", include_str!("recipes/nas-bench-201.yaml")),
    ("darts-imagenet", include_str!("recipes/darts-imagenet.yaml")),
];

impl TrainConfig {
    /// The recipes' names, in the order in which they are listed.
    #[must_use]
    pub fn recipes() -> [&'static str; 5] {
        RECIPES.map(|(name, _)| name)
    }

    /// A published recipe as a layer, to be put over the defaults and under one's own settings.
    ///
    /// ```
    /// use strait_trainer::{Layer, TrainConfig};
    ///
    /// let darts = TrainConfig::recipe("darts-cifar").expect("it is one");
    /// let config = TrainConfig::resolve(&[darts, Layer::Set { key: "epochs", value: "50" }])?;
    /// assert_eq!((config.epochs, config.channels, config.drop_path), (50, Some(36), 0.2));
    /// # Ok::<(), strait_trainer::Error>(())
    /// ```
    #[must_use]
    pub fn recipe(name: &str) -> Option<Layer<'static>> {
        let (origin, text) = RECIPES.into_iter().find(|(known, _)| *known == name)?;
        Some(Layer::Text { origin, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn recipes_say_what_was_published() -> Result<(), Error> {
        let of = |name| TrainConfig::resolve(&[TrainConfig::recipe(name).expect("it is one")]);
        let darts = of("darts-cifar")?;
        assert_eq!((darts.epochs, darts.batch, darts.channels, darts.cells), (600, 96, Some(36), Some(20)));
        assert_eq!(
            (darts.augment.cutout, darts.weights.nesterov, darts.weights.weight_decay),
            (16, false, 3e-4)
        );
        let bench = of("nas-bench-201")?;
        assert_eq!((bench.epochs, bench.weights.lr, bench.weights.clip), (200, 0.1, None));
        let imagenet = of("darts-imagenet")?;
        // 3 % an epoch
        assert!((imagenet.lr(1) - 0.097).abs() < 1e-7 && (imagenet.lr(2) - 0.09409).abs() < 1e-7);
        assert_eq!(of("gdas-cifar")?.warmup_epochs, 5);
        Ok(())
    }

    #[test]
    fn every_recipe_is_sound() -> Result<(), Error> {
        for name in TrainConfig::recipes() {
            let layer = TrainConfig::recipe(name).expect("it is listed");
            assert!(TrainConfig::resolve(&[layer])?.epochs >= 30, "{name}");
        }
        assert!(TrainConfig::recipe("darts").is_none());
        Ok(())
    }
}
