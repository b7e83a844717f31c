//! Whole searches and trainings, small: what they leave alone, how they stop and go on, what depends on what.

use std::{fs, path::Path};

use candle_core::Device;
use data::{TestData, TrainData};
use ops::Catalog;
use search_space::Rule;
use strait_trainer::{
    Cut, Error, Overwrite, Progress, Retraining, RunDir, Search, SearchConfig, config::Order,
};

use crate::support::{SPACE, config, halves, pictures, space, training};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

/// The files that comparisons of runs look at.
fn files(directory: &Path) -> Files {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                fs::read(&path).expect("a file"),
            )
        })
        .filter(|(name, _)| name != "machine.json")
        .collect();
    files.sort();
    files
}

/// One process: begins or resumes the run, and dies after `steps` calls; says whether it came to the end.
fn process(
    directory: &Path,
    config: &SearchConfig,
    steps: usize,
    cut: Cut,
    every: usize,
) -> Result<bool, Error> {
    let (catalog, data) = (Catalog::standard(), halves());
    let run = match RunDir::open(directory) {
        Ok(run) => run,
        Err(_) => {
            let run = RunDir::create(directory, Overwrite::Refuse)?;
            run.write_search(config, SPACE)?;
            run
        }
    };
    let mut search = Search::new(&space(&catalog), &catalog, &data, run.search_config()?, &Device::Cpu)?;
    search.resume(&run)?;
    for step in 1..=steps {
        match search.next_step(&data)? {
            Progress::Step(_) | Progress::Measuring { .. } if step % every == 0 => search.save(&run)?,
            Progress::Step(_) | Progress::Measuring { .. } => {}
            Progress::Epoch(epoch) => {
                run.record(&epoch)?;
                search.save(&run)?;
            }
            Progress::Finished => {
                run.write_genotype(&search.derive(Rule::Argmax, &data)?.genotype)?;
                return Ok(true);
            }
        }
    }
    // Killed: perhaps in the middle of a checkpoint, perhaps with a torn line.
    let run = run.cut(cut);
    if cut != Cut::Never {
        search.save(&run).expect_err("it was cut off");
    }
    Ok(false)
}

#[test]
fn a_search_killed_anywhere_ends_as_one_that_was_not() -> Outcome {
    let config = config(&[]);
    let whole = tempfile::tempdir()?;
    assert!(process(whole.path(), &config, usize::MAX, Cut::Never, usize::MAX)?);
    let cuts = [Cut::Never, Cut::Writing(100), Cut::BeforeSync, Cut::BeforeRename, Cut::BeforeDirectorySync];
    for (every, cut) in [1, 2, 3, usize::MAX].into_iter().flat_map(|every| cuts.map(|cut| (every, cut))) {
        let directory = tempfile::tempdir()?;
        let mut lives = 0;
        // Each life is longer than the last, so that even one that never saved within an epoch gets past it.
        while !process(directory.path(), &config, 1 + lives, cut, every)? {
            lives += 1;
            let lines = directory.path().join("epochs.jsonl");
            if let Ok(text) = fs::read(&lines) {
                fs::write(&lines, [&text[..], b"{\"epoch\": 9, \"tor"].concat())?;
            }
        }
        assert!(lives > 2, "it was killed");
        assert_eq!(files(directory.path()), files(whole.path()), "{cut:?}, saved every {every}");
    }
    Ok(())
}

/// The figures that a search ends with rest on more examples than those on the way.
#[test]
fn the_gap_is_measured_on_as_many_batches_as_asked() -> Outcome {
    let examples = |sets: &[(&str, &str)]| -> Result<Vec<Option<usize>>, Error> {
        let (catalog, data) = (Catalog::standard(), halves());
        let mut search = Search::new(&space(&catalog), &catalog, &data, config(sets), &Device::Cpu)?;
        let mut examples = Vec::new();
        while let Some(epoch) = search.next_epoch(&data)? {
            examples.push(epoch.gap.map(|gap| gap.examples));
        }
        Ok(examples)
    };
    assert_eq!(examples(&[])?, [Some(16), Some(16), Some(36)]);
    assert_eq!(examples(&[("warmup_epochs", "2"), ("last_gap_batches", "2")])?, [None, Some(16), Some(32)]);
    Ok(())
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    process(directory.path(), &config(&[]), 3, Cut::Never, 1)?;
    let (catalog, data) = (Catalog::standard(), halves());
    let run = RunDir::open(directory.path())?;
    let mut other = Search::new(&space(&catalog), &catalog, &data, config(&[("seed", "1")]), &Device::Cpu)?;
    let error = other.resume(&run).expect_err("a foreign checkpoint was accepted").to_string();
    assert!(
        error.ends_with("search.safetensors: written by another run: space, settings or data differ"),
        "{error}"
    );
    let path = directory.path().join("search.safetensors");
    fs::write(&path, &fs::read(&path)?[..1000])?;
    let error = other.resume(&run).expect_err("a torn checkpoint was accepted").to_string();
    assert!(error.contains("search.safetensors: not a whole checkpoint"), "{error}");
    Ok(())
}

/// The whole of a run is a function of its seed: not of the number of threads, not of the run before.
#[test]
fn the_same_seed_gives_the_same_bytes_on_one_thread_and_on_two() -> Outcome {
    let run = |seed: &str, threads: usize| -> Result<Files, Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let config = config(&[("seed", seed)]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        pool.install(|| process(directory.path(), &config, usize::MAX, Cut::Never, usize::MAX))?;
        Ok(files(directory.path()))
    };
    let one = run("0", 1)?;
    assert_eq!(one, run("0", 2)?);
    assert_ne!(one, run("1", 1)?);
    Ok(())
}

#[test]
fn every_estimator_resumes_to_the_bit_and_counts_no_threads() -> Outcome {
    for estimator in controller::estimators::NAMES {
        let config = config(&[("estimator", estimator), ("epochs", "2")]);
        let run = |threads: usize, steps: usize| -> Result<Files, Box<dyn std::error::Error>> {
            let directory = tempfile::tempdir()?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let mut steps = steps; // each life longer than the last: what is measured at an epoch's end is not saved
            while !pool.install(|| process(directory.path(), &config, steps, Cut::Never, 1))? {
                steps += 2;
            }
            Ok(files(directory.path()))
        };
        let whole = run(1, usize::MAX)?;
        assert_eq!(whole, run(2, usize::MAX)?, "{estimator} on two threads");
        assert_eq!(whole, run(1, 2)?, "{estimator}, killed");
    }
    Ok(())
}

/// Half of the channels, and strengths of the edges beside α: with every estimator as well.
#[test]
fn partial_channels_compose_with_every_estimator_resume_to_the_bit_and_count_no_threads() -> Outcome {
    for estimator in controller::estimators::NAMES {
        let config = config(&[
            ("estimator", estimator),
            ("epochs", "2"),
            ("partial_channels", "2"),
            ("edge_normalization", "true"),
        ]);
        let run = |threads: usize, mut steps: usize| -> Result<Files, Box<dyn std::error::Error>> {
            let directory = tempfile::tempdir()?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            while !pool.install(|| process(directory.path(), &config, steps, Cut::Never, 1))? {
                steps += 2;
            }
            Ok(files(directory.path()))
        };
        assert_eq!(run(1, usize::MAX)?, run(2, 3)?, "{estimator}, killed, on two threads");
    }
    Ok(())
}

#[test]
fn edges_are_ranked_by_their_probability_times_their_strength() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let sets = [
        ("partial_channels", "2"),
        ("edge_normalization", "true"),
        ("warmup_epochs", "0"),
        ("arch.lr", "0.5"),
    ];
    let mut search = Search::new(&space(&catalog), &catalog, &data, config(&sets), &Device::Cpu)?;
    let narrow = search.layout().cost(&catalog)?.params;
    assert_eq!(search.params().n_params(), narrow);
    let last = loop {
        match search.next_epoch(&data)? {
            Some(epoch) if epoch.epoch == 2 => break epoch,
            Some(_) => {}
            None => return Err("there are three epochs".into()),
        }
    };
    let strength = last.groups[0].strength.clone().expect("edges are normalized");
    assert_eq!(strength[0], 1.0, "edge 0→1 is the only one into its node");
    assert!(
        (strength[1] + strength[2] - 1.0).abs() < 1e-12 && (strength[1] - 0.5).abs() > 1e-3,
        "{strength:?}"
    );
    // Rows are the edges 0→1, 0→2 and 1→2; candidate 0 is `none`.
    let pi = search.arch().probabilities(0)?;
    let best = |row: usize| pi[row][1..].iter().fold(0.0f64, |best, p| best.max(*p)) * strength[row];
    let kept = search.derive(Rule::Top { inputs: 1 }, &data)?.genotype.cells[0].edges[1].from;
    assert_eq!(kept, usize::from(best(2) > best(1)));
    Ok(())
}

#[test]
fn every_temperature_policy_and_term_resumes_to_the_bit() -> Outcome {
    let all: [&[(&str, &str)]; 4] = [
        &[("tau.policy", "learned"), ("tau.per", "edge"), ("arch.entropy_bonus", "linear:0.1:0")],
        &[("tau.policy", "adaptive"), ("tau.bound", "100"), ("watch.draws", "3")],
        &[("tau.by", "step"), ("tau.points", "[[0.5, 1.0]]"), ("arch.beta_decay", "linear:0:5")],
        &[("watch.sharpness_every", "1"), ("watch.reference", "exact"), ("arch.dirichlet_kl", "0.001")],
    ];
    for sets in all {
        let config = config(sets);
        let run = |mut steps: usize, more: usize| -> Result<Files, Box<dyn std::error::Error>> {
            let directory = tempfile::tempdir()?;
            while !process(directory.path(), &config, steps, Cut::Never, 1)? {
                steps += more;
            }
            Ok(files(directory.path()))
        };
        assert_eq!(run(usize::MAX, 0)?, run(2, 2)?, "{sets:?}");
    }
    Ok(())
}

#[test]
fn a_temperature_by_step_moves_within_an_epoch_and_meets_both_ends() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let config = config(&[("tau.by", "step"), ("watch.draws", "0")]);
    let mut search = Search::new(&space(&catalog), &catalog, &data, config, &Device::Cpu)?;
    let mut taus = vec![search.tau()];
    loop {
        match search.next_step(&data)? {
            Progress::Step(step) => taus.push(step.tau.expect("a search has a temperature")),
            Progress::Finished => break,
            _ => {}
        }
    }
    assert_eq!((taus[0], taus[taus.len() - 1]), (2.0, 0.3));
    assert!(taus.iter().any(|tau| *tau < 1.9 && *tau > 0.4 && *tau != 1.15), "{taus:?}");
    Ok(())
}

#[test]
fn a_search_that_stops_on_a_sign_keeps_the_choices_from_before() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    // The entropy of five candidates is below 2 nats from the first: the first epoch in which α moves is the last.
    let sets = [("watch.stop_on", "entropy:2"), ("arch.lr", "1"), ("epochs", "9")];
    let mut search = Search::new(&space(&catalog), &catalog, &data, config(&sets), &Device::Cpu)?;
    let warm = search.next_epoch(&data)?.expect("an epoch");
    assert!(!warm.stopped);
    let last = search.next_epoch(&data)?.expect("an epoch");
    assert!(last.stopped && search.stopped() && search.next_epoch(&data)?.is_none());
    assert_ne!(last.genotype, warm.genotype);
    assert_eq!(search.derive(Rule::Argmax, &data)?.genotype.to_string(), warm.genotype);
    let directory = tempfile::tempdir()?;
    let run = RunDir::create(directory.path(), Overwrite::Refuse)?;
    run.write_search(search.config(), SPACE)?;
    run.record(&warm)?;
    run.record(&last)?;
    search.save(&run)?;
    let mut again = Search::new(&space(&catalog), &catalog, &data, config(&sets), &Device::Cpu)?;
    assert!(again.resume(&run)? && again.stopped());
    assert_eq!(again.derive(Rule::Argmax, &data)?.genotype.to_string(), warm.genotype);
    Ok(())
}

#[test]
fn every_epoch_in_which_choices_move_measures_their_gradient() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let sets = [("watch.reference", "exact"), ("watch.sharpness_every", "2"), ("estimator", "exact")];
    let mut search = Search::new(&space(&catalog), &catalog, &data, config(&sets), &Device::Cpu)?;
    assert!(search.next_epoch(&data)?.expect("an epoch").noise.is_none(), "warm-up");
    let epoch = search.next_epoch(&data)?.expect("an epoch");
    let noise = epoch.noise.expect("it is measured");
    // All 125 architectures: no noise, and the reference itself.
    assert!(noise.noise_to_signal < 1e-6 && noise.norm > 0.0, "{noise:?}");
    assert!((noise.cosine.expect("a reference") - 1.0).abs() < 1e-9);
    assert!(epoch.collapse.sharpness.is_some_and(|sharpness| sharpness > 0.0));
    assert_eq!(epoch.collapse.kinds[0].edges, 3);
    assert!(search.next_epoch(&data)?.expect("an epoch").collapse.sharpness.is_none(), "every second epoch");
    Ok(())
}

#[test]
fn a_warm_up_moves_no_logit_and_the_rest_moves_both() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    for order in [Order::WeightsFirst, Order::ArchFirst] {
        let config = SearchConfig { order, ..config(&[]) };
        let mut search = Search::new(&space(&catalog), &catalog, &data, config, &Device::Cpu)?;
        let initial = search.arch().probabilities(0)?;
        let warm = search.next_epoch(&data)?.expect("an epoch");
        assert!(warm.warmup && warm.architecture.is_none() && warm.gap.is_some());
        assert_eq!(search.arch().probabilities(0)?, initial);
        let next = search.next_epoch(&data)?.expect("an epoch");
        assert!(!next.warmup && next.architecture.is_some());
        assert_ne!(search.arch().probabilities(0)?, initial);
    }
    Ok(())
}

/// An architecture step moves no weight, no velocity and no running statistic: at a weight learning rate of 0, with
/// the same weight batches, only logits and their moments differ from a search that leaves the logits alone.
#[test]
fn architecture_steps_move_logits_alone() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let params = |lr: &str, unrolled: &str| -> Result<Vec<(String, Vec<f32>)>, Error> {
        let frozen = config(&[
            ("warmup_epochs", "0"),
            ("estimator", "darts"),
            ("weights.lr", "0"),
            ("weights.lr_min", "0"),
            ("arch.lr", lr),
            ("unrolled", unrolled),
        ]);
        let mut search = Search::new(&space(&catalog), &catalog, &data, frozen, &Device::Cpu)?;
        search.next_step(&data)?;
        search.params().tensors().map(|(name, value)| Ok((name, value.flatten_all()?.to_vec1()?))).collect()
    };
    let still = params("0", "false")?;
    assert_eq!(still, params("0.5", "false")?);
    assert_eq!(still, params("0.5", "true")?);
    Ok(())
}

#[test]
fn weights_of_candidates_that_did_not_run_do_not_move() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let config = config(&[("warmup_epochs", "2")]);
    let mut search = Search::new(&space(&catalog), &catalog, &data, config, &Device::Cpu)?;
    let values = |search: &Search<'_>| -> Result<Vec<(String, Vec<f32>)>, Error> {
        let weights = search.params().weights();
        weights.map(|(_, name, value)| Ok((name.to_owned(), value.flatten_all()?.to_vec1()?))).collect()
    };
    let mut still = 0;
    for _ in 0..2 {
        let before = values(&search)?;
        search.next_step(&data)?;
        let after = values(&search)?;
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            assert!(before != after || name.contains("edge_"), "{name} runs always");
            still += usize::from(before == after);
        }
    }
    assert!(still > 0, "two steps of six edges ran every candidate");
    Ok(())
}

#[test]
fn every_estimator_order_and_level_searches() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    for estimator in controller::estimators::NAMES {
        for (order, unrolled) in [("weights_first", "false"), ("arch_first", "true")] {
            if estimator == "snas" && unrolled == "true" {
                continue; // one loss, no second order
            }
            let sets = [
                ("estimator", estimator),
                ("order", order),
                ("unrolled", unrolled),
                ("warmup_epochs", "0"),
                ("epochs", "1"),
            ];
            let mut search = Search::new(&space(&catalog), &catalog, &data, config(&sets), &Device::Cpu)?;
            let initial = search.arch().probabilities(0)?;
            let summary = search.next_epoch(&data)?.expect("an epoch");
            assert!(search.next_epoch(&data)?.is_none());
            let moved: Vec<f64> = search.arch().probabilities(0)?.concat();
            let shift = moved.iter().zip(initial.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(shift > 1e-4, "{estimator}, {order}: no choice moved");
            assert_eq!(summary.gap.map(|gap| gap.examples), Some(36), "the last epoch looks at all");
        }
    }
    Ok(())
}

#[test]
fn the_first_epoch_without_warm_up_has_the_first_temperature_and_the_last_the_last() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let mut search = Search::new(&space(&catalog), &catalog, &data, config(&[]), &Device::Cpu)?;
    let mut taus = Vec::new();
    while let Some(epoch) = search.next_epoch(&data)? {
        taus.push(epoch.tau);
    }
    assert_eq!(taus, [2.0, 2.0, 0.3]);
    Ok(())
}

#[test]
fn all_rules_derive_and_sampling_is_repeatable() -> Outcome {
    let (catalog, data) = (Catalog::standard(), halves());
    let search = Search::new(&space(&catalog), &catalog, &data, config(&[]), &Device::Cpu)?;
    let edges =
        |rule| -> Result<usize, Error> { Ok(search.derive(rule, &data)?.genotype.cells[0].edges.len()) };
    assert_eq!((edges(Rule::Argmax)?, edges(Rule::Top { inputs: 1 })?), (3, 2));
    let sampled = search.derive(Rule::Sampled { n: 4 }, &data)?;
    assert_eq!(sampled, search.derive(Rule::Sampled { n: 4 }, &data)?);
    Ok(())
}

#[test]
fn a_training_killed_anywhere_ends_as_one_that_was_not() -> Outcome {
    let catalog = Catalog::standard();
    let pictures = std::sync::Arc::new(pictures());
    let (train, test) = (TrainData::of(pictures.clone())?, TestData::of(pictures)?);
    let genotype = {
        let data = halves();
        let search = Search::new(&space(&catalog), &catalog, &data, config(&[]), &Device::Cpu)?;
        search.derive(Rule::Top { inputs: 2 }, &data)?.connected()?
    };
    let new = || Retraining::new(&space(&catalog), &genotype, &catalog, &train, training(4), &Device::Cpu);
    let directory = tempfile::tempdir()?;
    let run = RunDir::create(directory.path(), Overwrite::Refuse)?;
    run.write_train(&training(4), SPACE)?;
    assert_eq!(run.train_config()?, training(4));

    let mut whole = new()?;
    let refused = whole.test(&test).expect_err("the test part was read before the end").to_string();
    assert_eq!(refused, "0 of 4 epochs are done; the test part is read after the last");
    while whole.next_epoch(&train)?.is_some() {}
    let expected = whole.test(&test)?;
    assert!(expected.accuracy > 0.8, "{expected}");

    let mut lives = 0;
    let score = 'run: loop {
        lives += 1;
        let mut training = new()?;
        training.resume(&run)?;
        for _ in 0..7 {
            match training.next_step(&train)? {
                Progress::Step(_) | Progress::Measuring { .. } => {}
                Progress::Epoch(epoch) => run.record_training(&epoch)?,
                Progress::Finished => break 'run training.test(&test)?,
            }
            training.save(&run)?;
        }
        training.next_step(&train)?; // made, but never saved
    };
    assert!(lives > 2);
    assert_eq!(score, expected);
    assert_eq!(fs::read_to_string(directory.path().join("train.jsonl"))?.lines().count(), 4);
    Ok(())
}
