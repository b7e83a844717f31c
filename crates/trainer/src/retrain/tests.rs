//! Steps of recipes: accumulated, averaged, resumed.

use candle_core::Tensor;
use data::{Augment, DataOptions, DataSpec, open};
use ops::Catalog;
use search_space::Genotype;

use super::*;

fn digits() -> Result<TrainData, data::Error> {
    TrainData::of(open(&DataSpec::Digits, &DataOptions::default())?)
}

/// A child of one 1×1 convolution after another, two channels wide.
fn training(data: &TrainData, config: TrainConfig) -> Result<Retraining, Error> {
    let catalog = Catalog::standard();
    let space = Space::shipped("digits", &catalog).expect("it is shipped").expect("it is valid");
    let text = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|skip_connect~1|none~2|";
    let genotype = Genotype::from_nb201(text, &space).expect("a genotype of the space");
    let config = TrainConfig { channels: Some(2), epochs: 1, batch: 500, ..config };
    Retraining::new(&space, &genotype, &catalog, data, config, &Device::Cpu)
}

fn bytes(training: &Retraining) -> Vec<f32> {
    let flat = |(_, tensor): (String, &Tensor)| tensor.flatten_all().and_then(|x| x.to_vec1::<f32>());
    training.params().tensors().flat_map(|one| flat(one).expect("numbers")).collect()
}

#[test]
fn several_batches_make_one_step() -> Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let mut training = training(&data, TrainConfig { accumulate: 3, ..TrainConfig::default() })?;
    let mut steps = 0;
    while let Progress::Step(report) = training.next_step(&data)? {
        steps = report.steps;
        assert_eq!(report.step as u64, training.at.steps);
    }
    assert_eq!((steps, training.at.steps), (3, 3)); // 3,823 examples: eight batches, of which the last step has two
    Ok(())
}

#[test]
fn the_average_is_what_counts_and_lags_behind() -> Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let (mut plain, mut averaged) = (
        training(&data, TrainConfig::default())?,
        training(&data, TrainConfig { ema: 0.5, ..TrainConfig::default() })?,
    );
    let start = bytes(&plain);
    plain.next_step(&data)?;
    averaged.next_step(&data)?;
    // After the first step d = min(0.5, 1/10).
    for ((a, w), s) in bytes(&averaged).iter().zip(bytes(&plain)).zip(start) {
        assert!((f64::from(*a) - (0.1 * f64::from(s) + 0.9 * f64::from(w))).abs() < 1e-6);
    }
    Ok(())
}

#[test]
fn a_recipe_of_everything_resumes_to_the_bit() -> Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let config = TrainConfig {
        mixup: 0.2,
        cutmix: 1.0,
        ema: 0.9,
        accumulate: 2,
        label_smoothing: 0.1,
        drop_path: 0.2,
        augment: Augment { crop_padding: 1, cutout: 2, ..Augment::default() },
        ..TrainConfig::default()
    };
    let dir = tempfile::tempdir()?;
    let run = RunDir::create(&dir.path().join("run"), crate::Overwrite::Refuse)?;
    run.write_train(&config, "")?;
    let mut whole = training(&data, config.clone())?;
    whole.next_step(&data)?;
    whole.save(&run)?;
    let mut resumed = training(&data, config)?;
    assert!(resumed.resume(&run)?);
    while whole.next_epoch(&data)?.is_some() {}
    while resumed.next_epoch(&data)?.is_some() {}
    assert_eq!(bytes(&whole), bytes(&resumed));
    Ok(())
}

#[test]
fn the_learning_rate_warms_up_and_then_follows_its_schedule() {
    let config = TrainConfig { epochs: 12, warmup_epochs: 2, ..TrainConfig::default() };
    let lr = config.weights.lr;
    let found = [config.lr(0), config.lr(1), config.lr(2), config.lr(7)];
    // A third, two thirds, all of it; then half a wave over ten epochs.
    for (found, expected) in found.into_iter().zip([lr / 3.0, lr * 2.0 / 3.0, lr, lr / 2.0]) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
}
