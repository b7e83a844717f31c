//! What happens when a loss, a logit or a temperature is no number any more: the search says where and leaves what is saved.

use std::{error::Error, fs, ops::Range};

use candle_core::{Device, Result as TensorResult, Tensor};
use data::{Examples, InMemory, SearchData, Split, Values};
use ops::{Backward, Candidate, Catalog, Definition, Forward, Op, ParamBuilder, Saved};
use search_space::{Cost, Extent, Shape, Site, Space, WordError};
use strait_trainer::{Layer, Overwrite, Progress, RunDir, Search, SearchConfig};

type Outcome = Result<(), Box<dyn Error>>;

/// The identity, but for the steps of a pass at which its output is not a number.
#[derive(Clone)]
struct Poison(Range<u64>);

impl Candidate for Poison {
    fn cost(&self, site: &Site) -> Result<Cost, WordError> {
        Ok(Cost { params: 0, macs: 0, saved: 0, output: site.output().elements() as u64 })
    }

    fn build(&self, _: &Site, _: &mut ParamBuilder<'_>) -> TensorResult<Box<dyn Op>> {
        Ok(Box::new(self.clone()))
    }
}

impl Op for Poison {
    fn forward(&self, x: &Tensor, pass: &mut Forward<'_>) -> TensorResult<(Tensor, Saved)> {
        let factor = if self.0.contains(&pass.draw.step) { f64::NAN } else { 1.0 };
        Ok(((x * factor)?, Box::new(())))
    }

    fn backward(&self, _: Saved, grad: &Tensor, _: &mut Backward<'_>) -> TensorResult<Tensor> {
        Ok(grad.clone())
    }
}

/// A catalog in which `poison` acts at these steps: those of the two problems count up from 0, those in which the gap is
/// looked at, statistics known, from 2³¹.
fn catalog(steps: Range<u64>) -> Result<Catalog, WordError> {
    let mut catalog = Catalog::standard();
    let definition = Definition::new("poison", "x, for a while", move |_| Box::new(Poison(steps.clone())));
    catalog.register(definition)?;
    Ok(catalog)
}

const SPACE: &str = "
version: 1
name: small
rank: image
cells:
  - {name: cell, nodes: 2, candidates: [poison, nor_conv_3x3]}
network:
  channels: 4
  stem: {block: {op: conv_norm, kernel: 3}}
  stages: [{cell: cell}]
  head: {block: norm_relu}
";

/// 64 pictures, light on the left or on the right.
fn data() -> Result<SearchData, Box<dyn Error>> {
    let part = |n: usize| {
        let labels: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
        let pixel = |label: u32, i: usize| f32::from(u8::from((i % 4 < 2) == (label == 0)));
        let noise = |i: usize| ((i * 37) % 11) as f32 / 11.0;
        let picture = |(n, &label): (usize, &u32)| (0..16).map(move |i| pixel(label, i) + noise(16 * n + i));
        Examples { values: Values::Floats(labels.iter().enumerate().flat_map(picture).collect()), labels }
    };
    let shape = Shape { extent: Extent::Image { height: 4, width: 4 }, channels: 1 };
    let all = InMemory::new("pictures", shape, vec!["left".into(), "right".into()], part(64), part(8))?;
    Ok(SearchData::split(std::sync::Arc::new(all), &Split::default())?)
}

fn config(sets: &[(&str, &str)]) -> Result<SearchConfig, strait_trainer::Error> {
    let small = "{epochs: 4, warmup_epochs: 0, batch: 8, gap_batches: 1, watch: {draws: 0}, \
                 augment: {crop_padding: 0, flip: false}}";
    let mut layers = vec![Layer::Text { origin: "small", text: small }];
    layers.extend(sets.iter().map(|(key, value)| Layer::Set { key, value }));
    SearchConfig::resolve(&layers)
}

/// The message with all its causes.
fn told(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Searches, saving after every step, until something is no number; gives the message. What is saved then is what was saved
/// last, is read without complaint, and leads to the same message again: nothing is tried twice on the way.
fn diverges(
    catalog: &Catalog,
    sets: &[(&str, &str)],
    directory: &std::path::Path,
) -> Result<String, Box<dyn Error>> {
    let (data, config) = (data()?, config(sets)?);
    let space = Space::parse(SPACE, "small.yaml", catalog)?;
    let run = RunDir::create(directory, Overwrite::Refuse)?;
    run.write_search(&config, SPACE)?;
    let mut search = Search::new(&space, catalog, &data, config.clone(), &Device::Cpu)?;
    search.save(&run)?;
    let file = directory.join("search.safetensors");
    let mut saved = fs::read(&file)?;
    let error = loop {
        match search.next_step(&data) {
            Ok(Progress::Finished) => return Err("nothing diverged".into()),
            Ok(progress) => {
                if let Progress::Epoch(epoch) = &progress {
                    run.record(epoch)?;
                }
                search.save(&run)?;
                saved = fs::read(&file)?;
            }
            Err(error) => break told(&error),
        }
    };
    assert_eq!(fs::read(&file)?, saved, "the last good checkpoint was touched");
    let mut again = Search::new(&space, catalog, &data, config, &Device::Cpu)?;
    assert!(again.resume(&run)?, "the checkpoint is whole");
    again.arch().check_finite()?;
    // Half a measurement is not saved: it begins anew, pass by pass.
    let repeated = loop {
        match again.next_step(&data) {
            Ok(Progress::Measuring { .. }) => {}
            other => break other.err().map(|error| told(&error)),
        }
    };
    assert_eq!(repeated.as_deref(), Some(&*error), "the very next step fails, and alike");
    Ok(error)
}

#[test]
fn a_loss_is_traced_to_step_cell_edge_and_candidate_and_the_search_goes_on_once_it_is_well() -> Outcome {
    let directory = tempfile::tempdir()?;
    // Four steps an epoch: the seventh weight step is the third of the second epoch.
    let message = diverges(&catalog(6..1 << 20)?, &[("estimator", "darts")], directory.path())?;
    let place = "first at cell 0 (cell), edge 0→1, poison";
    assert!(message.starts_with("epoch 1, step 2: the loss of the weight step is not finite"), "{message}");
    assert!(message.contains(place), "{message}");

    let (catalog, data) = (catalog(0..0)?, data()?);
    let space = Space::parse(SPACE, "small.yaml", &catalog)?;
    let run = RunDir::open(directory.path())?;
    let mut search = Search::new(&space, &catalog, &data, run.search_config()?, &Device::Cpu)?;
    assert!(search.resume(&run)?);
    assert_eq!(search.epoch(), 1);
    while search.next_epoch(&data)?.is_some() {}
    assert_eq!(search.epoch(), 4);
    Ok(())
}

#[test]
fn a_measured_loss_is_traced_like_any_other() -> Outcome {
    let directory = tempfile::tempdir()?;
    let message = diverges(&catalog(1 << 31..1 << 32)?, &[], directory.path())?;
    let expected = "epoch 0, step 4: the loss of the discretization gap is not finite, first at cell 0 (cell), edge 0→1, poison";
    assert!(message.starts_with(expected), "{message}");
    Ok(())
}

#[test]
fn a_weight_that_runs_away_is_found_in_the_step_that_it_spoils() -> Outcome {
    let directory = tempfile::tempdir()?;
    let wild = [("weights.lr", "1e30"), ("weights.clip", "null")];
    let message = diverges(&catalog(0..0)?, &wild, directory.path())?;
    assert!(message.starts_with("epoch 0, step 0: ") && message.contains(" is not finite"), "{message}");
    Ok(())
}

#[test]
fn a_logit_is_named_by_step_cell_edge_and_candidate() -> Outcome {
    let directory = tempfile::tempdir()?;
    let message = diverges(&catalog(0..0)?, &[("arch.lr", "1e308")], directory.path())?;
    assert!(message.starts_with("epoch 0, step "), "{message}");
    assert!(
        message.contains("the architecture step failed: group `cell`, edge 0 → 1, candidate `poison`"),
        "{message}"
    );
    Ok(())
}

#[test]
fn a_strength_is_named_by_step_and_edge() -> Outcome {
    let directory = tempfile::tempdir()?;
    let sets = [("arch.lr", "1e308"), ("edge_normalization", "true"), ("estimator", "darts")];
    let message = diverges(&catalog(0..0)?, &sets, directory.path())?;
    assert!(message.contains("the architecture step failed: group `cell`, edge "), "{message}");
    Ok(())
}

#[test]
fn a_temperature_is_named_by_step_and_edge() -> Outcome {
    let directory = tempfile::tempdir()?;
    let sets = [("tau.policy", "learned"), ("tau.lr", "1e308"), ("arch.entropy_bonus", "10")];
    let message = diverges(&catalog(0..0)?, &sets, directory.path())?;
    assert!(message.starts_with("epoch 0, step "), "{message}");
    assert!(
        message.ends_with(": group `cell`, edge 0 → 1: temperature inf; expected a finite number above 0"),
        "{message}"
    );
    Ok(())
}
