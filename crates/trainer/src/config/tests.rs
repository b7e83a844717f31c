use super::{resolve::ESTIMATORS, *};
use crate::Error;

fn set(key: &str, value: &str) -> Result<SearchConfig, Error> {
    SearchConfig::resolve(&[Layer::Set { key, value }])
}

#[track_caller]
fn refuses(key: &str, value: &str, expected: &str) {
    let error = set(key, value).expect_err("a faulty setting was accepted");
    assert_eq!(error.to_string(), expected);
    assert!(error.is_misuse());
}

#[test]
fn later_layers_win_and_silent_ones_change_nothing() -> Result<(), Error> {
    let block =
        serde_yaml::from_str("{epochs: 16, weights: {lr: 0.05}, augment: {flip: true}}").expect("YAML");
    let config = SearchConfig::resolve(&[
        Layer::Value { origin: "toy.yaml: search", value: &block },
        Layer::Text { origin: "mine.yaml", text: "epochs: 8\nweights: {clip: null}\n" },
        Layer::Text { origin: "empty.yaml", text: "" },
        Layer::Set { key: "weights.lr", value: "0.1" },
    ])?;
    assert_eq!((config.epochs, config.weights.lr, config.weights.clip), (8, 0.1, None));
    assert_eq!((config.weights.momentum, config.augment.flip, config.augment.crop_padding), (0.9, true, 0));
    Ok(())
}

#[test]
fn a_configuration_survives_its_own_yaml() -> Result<(), Error> {
    let layers = [
        Layer::Set { key: "data.source", value: "idx:some/where" },
        Layer::Set { key: "data.as", value: "series" },
        Layer::Set { key: "split", value: "indices:some/file.json" },
        Layer::Set { key: "rule", value: "sampled:7" },
        Layer::Set { key: "train.augment.cutout", value: "16" },
        Layer::Set { key: "tau", value: "{schedule: cosine, from: 3, points: [[0.5, 1.0]], by: step}" },
        Layer::Set { key: "arch.beta_decay", value: "linear:0:50" },
        Layer::Set { key: "arch.entropy_bonus", value: "0.1" },
        Layer::Set { key: "watch.stop_on", value: "skips:4" },
        Layer::Set { key: "watch.reference", value: "reinforce:50" },
    ];
    let config = SearchConfig::resolve(&layers)?;
    assert_eq!(SearchConfig::from_yaml(&config.to_yaml(), "config.yaml")?, config);
    assert_eq!(config.train.augment.map(|augment| augment.cutout), Some(16));
    assert_eq!(config.rule, Some(Rule::Sampled { n: 7 }));
    let train = TrainConfig::from(&config);
    assert_eq!(TrainConfig::from_yaml(&train.to_yaml(), "train.yaml")?, train);
    assert_eq!((train.epochs, train.batch, train.augment.cutout), (100, 64, 16));
    Ok(())
}

#[test]
fn unknown_keys_are_named_with_what_was_meant() {
    let keys = "lr, lr_min, momentum, nesterov, weight_decay, clip";
    refuses(
        "weights.momentun",
        "0.5",
        &format!("--set: unknown key `weights.momentun`; did you mean `momentum`? accepted keys: {keys}"),
    );
    refuses("weights.zzz", "0.5", &format!("--set: unknown key `weights.zzz`; accepted keys: {keys}"));
    refuses("weights", "3", &format!("--set: `weights`: found 3; expected the keys {keys}"));
    let error = SearchConfig::resolve(&[Layer::Text { origin: "a.yaml", text: "epoch: 3" }]);
    let error = error.map_err(|error| error.to_string()).expect_err("an unknown key was accepted");
    assert!(
        error.starts_with(
            "a.yaml:1:1: unknown key `epoch`; did you mean `epochs`? accepted keys: version, seed"
        )
    );
}

#[test]
fn values_out_of_range_are_named_with_what_is_accepted() {
    refuses("epochs", "0", "--set: `epochs`: found 0; expected at least 1");
    refuses("batch", "1", "--set: `batch`: found 1; expected at least 2");
    refuses("fraction", "1.0", "--set: `fraction`: found 1; expected a number above 0 and below 1");
    refuses("tau.to", "0", "--set: `tau.to`: found 0; expected a number above 0");
    refuses("tau.from", ".nan", "--set: `tau.from`: found NaN; expected a number above 0");
    refuses("arch.beta1", "1", "--set: `arch.beta1`: found 1; expected a number of at least 0 and below 1");
    refuses("weights.clip", "0", "--set: `weights.clip`: found 0; expected a number above 0, or null");
    refuses("estimator", "gumbel_st", "--set: `estimator`: found gumbel_st; expected gumbel-st");
    refuses("version", "2", "--set: `version`: found 2; expected 1");
    refuses(
        "train.drop_path",
        "1",
        "--set: `train.drop_path`: found 1; expected a number of at least 0 and below 1",
    );
}

#[test]
fn what_a_file_says_is_found_by_line_and_column() -> Result<(), Box<dyn std::error::Error>> {
    let refusal = |layer| SearchConfig::resolve(&[layer]).expect_err("a fault was accepted").to_string();
    let text = "batch: 8\nweights:\n  lr: 0.1\n  momentum: 2\n";
    assert_eq!(
        refusal(Layer::Text { origin: "my.yaml", text }),
        "my.yaml:4:3: `weights.momentum`: found 2; expected a number of at least 0 and below 1"
    );
    let catalog = ops::Catalog::standard();
    let digits = search_space::Space::shipped("digits", &catalog).expect("it is shipped")?;
    let line = digits.yaml().lines().position(|line| line.trim() == "epochs: 40").expect("it has epochs") + 1;
    let faulty = digits.yaml().replace("  epochs: 40", "  epochs: 0");
    let space = search_space::Space::parse(&faulty, "mine.yaml", &catalog)?;
    assert_eq!(
        refusal(Layer::Space { origin: "mine.yaml", space: &space }),
        format!("mine.yaml:{line}:3: search: `epochs`: found 0; expected at least 1")
    );
    Ok(())
}

#[test]
fn values_of_the_wrong_type_name_their_key() {
    for (key, value) in [
        ("epochs", "many"),
        ("epochs", "-1"),
        ("tau.schedule", "steep"),
        ("order", "both"),
        ("split", "thirds"),
    ] {
        let error = set(key, value).expect_err("a value of the wrong type was accepted").to_string();
        assert!(error.starts_with(&format!("--set: `{key}`: found {value}; ")), "{error}");
    }
    let error = set("epochs", "[").expect_err("no YAML was accepted");
    assert_eq!(error.to_string(), "--set epochs: not YAML");
}

#[test]
fn what_is_watched_and_added_is_checked_too() {
    refuses(
        "arch.entropy_bonus",
        "-1",
        "--set: `arch.entropy_bonus`: found -1; expected a number of at least 0",
    );
    refuses("watch.draws", "1", "--set: `watch.draws`: found 1; expected 0, or at least 2");
    refuses(
        "watch.reference",
        "gdsa",
        &format!("--set: `watch.reference`: found gdsa; expected {}", ESTIMATORS),
    );
    refuses(
        "tau.points",
        "[[0.5, 1.0], [0.2, 0.5]]",
        "--set: `tau.points`: found [[0.5, 1.0], [0.2, 0.5]]; expected pairs of progress, rising between 0 and 1, and a \
         temperature above 0",
    );
    for (key, value) in
        [("arch.beta_decay", "steep:0:1"), ("watch.stop_on", "skips:0"), ("tau.policy", "warm")]
    {
        let error = set(key, value).expect_err("a faulty setting was accepted").to_string();
        assert!(error.starts_with(&format!("--set: `{key}`: found {value}; ")), "{error}");
    }
}

/// Each of a pair of settings alone would contradict what was there before.
#[test]
fn settings_that_belong_together_come_in_any_order() -> Result<(), Error> {
    let none = Layer::Set { key: "watch.draws", value: "0" };
    let (adaptive, draws) =
        (Layer::Set { key: "tau.policy", value: "adaptive" }, Layer::Set { key: "watch.draws", value: "8" });
    for layers in [[none, adaptive, draws], [none, draws, adaptive]] {
        let config = SearchConfig::resolve(&layers)?;
        assert_eq!((config.tau.policy, config.watch.draws), (TauPolicy::Adaptive, 8));
    }
    let said = |layers: &[Layer<'_>]| SearchConfig::resolve(layers).expect_err("a contradiction").to_string();
    assert_eq!(
        said(&[Layer::Text { origin: "my.yaml", text: "epochs: 9\nwatch: {draws: 0}\n" }, adaptive]),
        "my.yaml:2:9: `watch.draws`: found 0; expected at least 2, which an adaptive τ needs"
    );
    assert_eq!(
        said(&[Layer::Set { key: "tau", value: "{policy: learned, from: 0.1}" }]),
        "--set: `tau.policy`: found learned; expected tau.from above tau.to, which a learned τ stays above"
    );
    Ok(())
}

#[test]
fn a_temperature_passes_its_points_and_meets_both_ends() {
    for schedule in [Shape::Linear, Shape::Exponential, Shape::Cosine] {
        let tau = TauConfig {
            schedule,
            from: 4.0,
            to: 0.25,
            points: vec![[0.25, 2.0], [0.5, 1.0]],
            ..Default::default()
        };
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|t| tau.at(t)), [4.0, 2.0, 1.0, 0.25], "{schedule:?}");
        assert!(tau.at(0.4) < 2.0 && tau.at(0.4) > 1.0);
    }
}

#[test]
fn the_last_epoch_is_never_warm_up() {
    let warmup = |epochs| SearchConfig { epochs, warmup_epochs: 10, ..SearchConfig::default() }.warmup();
    assert_eq!([1, 2, 10, 11, 50].map(warmup), [0, 1, 9, 10, 10]);
}

#[test]
fn every_shipped_space_has_settings_that_resolve() {
    let catalog = ops::Catalog::standard();
    for name in search_space::Space::shipped_names() {
        let space =
            search_space::Space::shipped(name, &catalog).expect("it is shipped").expect("it is valid");
        let layer = Layer::Space { origin: name, space: &space };
        SearchConfig::resolve(&[layer]).unwrap_or_else(|error| panic!("{error}"));
    }
}
