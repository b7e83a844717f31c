//! What a device searches and trains is what the CPU does, and the host waits for it once a step.

use candle_core::{DType, Device, Result as TensorResult};
use data::TrainData;
use ops::{
    Autograd, Candidate, Catalog, Definition, Op, ParamBuilder,
    kernels::gpu::{self, Arithmetic, emulate, emulate_in, unavailable, waits},
};
use search_space::{Cost, Rule, Site, Space, WordError};
use strait_trainer::{Error, Retraining, Search, TrainConfig};

use crate::support::{SPACE, config, halves, pictures, space, training};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A whole search: its genotype, and the losses of weights and logits epoch by epoch.
fn searched(
    sets: &[(&str, &str)],
    device: &Device,
    arithmetic: Arithmetic,
) -> Result<(String, Vec<f64>), Error> {
    let catalog = Catalog::standard();
    searched_in(&space(&catalog), &catalog, sets, device, arithmetic)
}

fn searched_in(
    space: &Space,
    catalog: &Catalog,
    sets: &[(&str, &str)],
    device: &Device,
    arithmetic: Arithmetic,
) -> Result<(String, Vec<f64>), Error> {
    let data = halves();
    let search = Search::new(space, catalog, &data, config(sets), device)?;
    let mut search = search.with_maps(arithmetic.maps());
    let (mut genotype, mut losses) = (String::new(), Vec::new());
    while let Some(epoch) = search.next_epoch(&data)? {
        losses.push(epoch.weights.loss);
        losses.extend(epoch.architecture.map(|score| score.loss));
        genotype = epoch.genotype;
    }
    assert!(search.params().tensors().all(|(_, weight)| weight.dtype() == DType::F32));
    Ok((genotype, losses))
}

/// A real device, where there is one; else says why there is none.
fn real_device(arithmetic: Arithmetic) -> Option<Device> {
    match gpu::open(0, Some(arithmetic), None) {
        Ok(opened) => Some(opened.device),
        Err(reason) => {
            let reason = reason.to_string(); // behind its first line perhaps a backtrace
            eprintln!(
                "skipped: no NVIDIA device to search on ({})",
                reason.lines().next().unwrap_or_default()
            );
            None
        }
    }
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "found {found}, expected {expected}");
    }
}

/// The same noise, the same batches and, but for rounding, the same numbers: on a device that is emulated, and on a
/// real one where there is one; there the same bytes twice.
#[test]
fn a_device_searches_as_the_cpu_does() -> Outcome {
    let arithmetic = Arithmetic::F32;
    let device = real_device(arithmetic);
    for estimator in ["gumbel-st", "darts"] {
        let sets = [("estimator", estimator)];
        let (genotype, losses) = searched(&sets, &Device::Cpu, arithmetic)?;
        match unavailable() {
            Some(reason) => eprintln!("{reason}"),
            None if estimator == "darts" => {} // mixtures are emulated too slowly for every day
            None => {
                let found = emulate(|| searched(&sets, &Device::Cpu, arithmetic))?;
                assert_near(&found.1, &losses, 1e-3);
                assert_eq!(found.0, genotype, "{estimator}");
            }
        }
        if let Some(device) = &device {
            let found = searched(&sets, device, arithmetic)?;
            assert_near(&found.1, &losses, 1e-3);
            assert_eq!(found.0, genotype, "{estimator}");
            assert_eq!(searched(&sets, device, arithmetic)?, found, "{estimator}, again");
        }
    }
    Ok(())
}

/// Near, and not the same.
#[track_caller]
fn assert_rounded(found: &[f64], exact: &[f64]) {
    assert_near(found, exact, 0.02);
    assert!(
        found.iter().zip(exact).any(|(found, exact)| (found - exact).abs() > 1e-5),
        "nothing was rounded"
    );
}

/// Maps of the CPU in bf16, with every kind of demand on the walk; the bytes do not depend on threads.
#[test]
fn the_cpu_searches_and_trains_in_bf16() -> Outcome {
    for estimator in ["gdas", "gumbel-st", "darts"] {
        let sets = [("estimator", estimator)];
        let exact = searched(&sets, &Device::Cpu, Arithmetic::F32)?.1;
        let on = |threads: usize| -> Result<_, Box<dyn std::error::Error>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            Ok(pool.install(|| searched(&sets, &Device::Cpu, Arithmetic::Bf16))?)
        };
        let found = on(1)?;
        assert_rounded(&found.1, &exact);
        assert_eq!(on(2)?, found, "{estimator} on two threads");
    }
    let [exact, found] = [Arithmetic::F32, Arithmetic::Bf16].map(trained);
    assert_rounded(&[found?], &[exact?]);
    Ok(())
}

/// The loss of a child's first epoch.
fn trained(arithmetic: Arithmetic) -> Result<f64, Box<dyn std::error::Error>> {
    let (training, data) = child(training(1))?;
    let mut training = training.with_maps(arithmetic.maps());
    Ok(training.next_epoch(&data)?.expect("an epoch was asked for").score.loss)
}

/// Narrow maps leave a search where it was, within what their rounding costs; weights stay in `f32`.
#[test]
fn a_device_searches_in_bf16() -> Outcome {
    let exact = searched(&[], &Device::Cpu, Arithmetic::F32)?.1;
    match unavailable() {
        Some(reason) => eprintln!("{reason}"),
        None => {
            let found = emulate_in(Arithmetic::Bf16, || searched(&[], &Device::Cpu, Arithmetic::Bf16))?;
            assert_rounded(&found.1, &exact);
        }
    }
    if let Some(device) = real_device(Arithmetic::Bf16) {
        let found = searched(&[], &device, Arithmetic::Bf16)?;
        assert_rounded(&found.1, &exact);
        assert_eq!(searched(&[], &device, Arithmetic::Bf16)?, found, "again");
    }
    Ok(())
}

/// The same of a training from scratch, with its drop path.
#[test]
fn a_device_trains_in_bf16() -> Outcome {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let (exact, found) =
        (trained(Arithmetic::F32)?, emulate_in(Arithmetic::Bf16, || trained(Arithmetic::Bf16))?);
    assert_near(&[found], &[exact], 0.02);
    Ok(())
}

/// What the host must know of a step, of loss, norm and gates, comes all at once: once for the weights' step, once for the
/// logits', once for both where one pass serves both.
#[test]
fn a_step_waits_for_a_device_once() -> Outcome {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let (catalog, data) = (Catalog::standard(), halves());
    for (estimator, expected) in [("gumbel-st", 2), ("gdas", 2), ("snas", 1)] {
        let config = config(&[("estimator", estimator), ("warmup_epochs", "0")]);
        let mut search = Search::new(&space(&catalog), &catalog, &data, config, &Device::Cpu)?;
        let found = emulate(|| {
            let before = waits();
            search.next_step(&data)?;
            Ok::<_, Error>(waits() - before)
        })?;
        assert_eq!(found, expected, "{estimator}");
    }
    Ok(())
}

/// Also of a training whose step is several batches, each a mixture with two losses.
#[test]
fn a_step_of_a_training_waits_for_a_device_once() -> Outcome {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let mixing = TrainConfig { mixup: 0.2, accumulate: 2, ..training(1) };
    for config in [training(1), mixing] {
        let (mut training, data) = child(config)?;
        let found = emulate(|| {
            let before = waits();
            training.next_step(&data)?;
            Ok::<_, Error>(waits() - before)
        })?;
        assert_eq!(found, 1);
    }
    Ok(())
}

/// A child as a search has it before its first step, and what it is trained on.
fn child(config: TrainConfig) -> Result<(Retraining, TrainData), Box<dyn std::error::Error>> {
    let (catalog, halves) = (Catalog::standard(), halves());
    let search = Search::new(&space(&catalog), &catalog, &halves, crate::support::config(&[]), &Device::Cpu)?;
    let genotype = search.derive(Rule::Top { inputs: 2 }, &halves)?.connected()?;
    let data = TrainData::of(std::sync::Arc::new(pictures()))?;
    Ok((Retraining::new(&space(&catalog), &genotype, &catalog, &data, config, &Device::Cpu)?, data))
}

/// An operation of a program's own, in candle's functions.
struct Damped;

impl Candidate for Damped {
    fn cost(&self, site: &Site) -> Result<Cost, WordError> {
        Ok(Cost { params: 0, macs: 0, saved: 0, output: site.output().elements() as u64 })
    }

    fn build(&self, _: &Site, _: &mut ParamBuilder<'_>) -> TensorResult<Box<dyn Op>> {
        Ok(Box::new(Autograd::new(Vec::new(), |x, _| x.tanh())))
    }
}

/// What candle computes in a cell finds its inputs computed, though the kernels around it wait to be sent together; and
/// channels that pass by are shuffled there, too.
#[test]
fn operations_of_a_program_search_on_a_device() -> Outcome {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let mut catalog = Catalog::standard();
    catalog.register(Definition::new("damped", "tanh x", |_| Box::new(Damped)))?;
    let space =
        Space::parse(&SPACE.replace("skip_connect, nor_conv_1x1", "damped"), "damped.yaml", &catalog)?;
    let sets = [("estimator", "gumbel-st"), ("partial_channels", "2"), ("edge_normalization", "true")];
    let searched = || searched_in(&space, &catalog, &sets, &Device::Cpu, Arithmetic::F32);
    let ((genotype, losses), found) = (searched()?, emulate(searched)?);
    assert_eq!(found.0, genotype);
    assert_near(&found.1, &losses, 1e-3);
    Ok(())
}
