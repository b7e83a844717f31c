//! Whole steps of small supernets against PyTorch.

use candle_core::DType;
use controller::estimators::{Darts, Gdas};
use ops::Catalog;
use rand::SeedableRng;
use search_space::{Extent, Layout, LayoutRequest, Phase, Shape, Space};

use super::{
    names::fixture_name,
    reference::{Reference, assert_agrees, error},
    *,
};
use crate::{ArchConfig, WeightsConfig, optimizer::Adam};

/// `nas-bench-201` with 4 channels and a cell a stage, or `darts` with 2 channels and 3 cells, in `f64`.
struct Net {
    reference: Reference,
    supernet: Supernet,
    params: ParamStore,
    arch: ArchParams,
}

fn layout(name: &str, channels: usize, cells: usize) -> Layout {
    let catalog = Catalog::standard();
    let space = Space::shipped(name, &catalog).expect("it is shipped").expect("it is valid");
    let request = LayoutRequest {
        input: Shape { extent: Extent::Image { height: 8, width: 8 }, channels: 3 },
        classes: 10,
        phase: Phase::Search,
        channels: Some(channels),
        cells: Some(cells),
    };
    let mut layout = space.layout(&request, &catalog).expect("the space fits");
    for block in &mut layout.blocks {
        if let search_space::Block::Cell(cell) = block {
            cell.edges.iter_mut().for_each(|edge| edge.site.norm.conv_bias = false); // as the fixtures have it
        }
    }
    layout
}

impl Net {
    fn new(file: &str, layout: Layout) -> Result<Self, Error> {
        let reference = Reference::read(file)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (catalog, device) = (Catalog::standard(), candle_core::Device::Cpu);
        let mut arch = ArchParams::new(&layout.groups, DType::F64, &device, &mut rng)?;
        for group in 0..arch.len() {
            arch.set_logits(group, reference.raw(&format!("alpha{group}")))?;
        }
        let (supernet, mut params) = Supernet::new(layout, &catalog, DType::F64, &device, &mut rng)?;
        let names: Vec<String> = params.weights().map(|(_, name, _)| name.to_owned()).collect();
        assert_eq!(names.len(), reference.names("w.").len(), "every weight of the fixture has a place");
        for name in names {
            let theirs = fixture_name(supernet.layout(), &name);
            params.load(&name, &reference.weight(&format!("w.{theirs}"))?)?;
        }
        Ok(Self { reference, supernet, params, arch })
    }

    fn batch(&self, part: &str) -> Result<Batch, Error> {
        let y = self.reference.raw(&format!("{part}_y")).to_vec1::<i64>()?;
        let y: Vec<u32> = y.into_iter().map(|label| label as u32).collect();
        Ok(Batch { x: self.reference.map(&format!("{part}_x"))?, indices: (0..y.len()).collect(), y })
    }

    fn task<'a>(&'a self, batch: &'a Batch, relaxed: &'a Relaxed) -> Task<'a> {
        let relaxed = std::slice::from_ref(relaxed);
        let (draw, at) = (Draw::default(), (0, 0));
        Task { supernet: &self.supernet, batch, relaxed, edges: None, draw, at, name: "weight", rank: None }
    }

    /// Straight-through gates with the fixture's noise, `w` or `a`.
    fn relaxed(&self, noise: char) -> Result<Relaxed, Error> {
        let tau = self.reference.raw("tau").clone();
        let gates = |group: usize| {
            let noise = self.reference.raw(&format!("gumbel_{noise}{group}"));
            let logits = controller::categorical::log_softmax(self.arch.logits(group))?;
            let soft = controller::categorical::softmax(&(logits + noise)?.broadcast_div(&tau)?)?;
            let chosen: Vec<u32> = soft.argmax(1)?.to_vec1()?;
            Ok(Gates::single(soft, chosen.into_iter().map(|k| k as usize).collect()))
        };
        let gates: Vec<Gates> = (0..self.arch.len()).map(gates).collect::<TensorResult<_>>()?;
        let paths = gates.iter().map(|gates| gates.paths().clone()).collect();
        Ok(Relaxed { taus: vec![tau; gates.len()], gates, paths })
    }

    /// The largest error of the unrolled gradient over all groups.
    fn unrolled(&self, reach: f64) -> Result<f64, Error> {
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        let relaxed = Relaxed::new(
            &self.arch,
            &Darts,
            &vec![Tensor::new(1.0, &candle_core::Device::Cpu)?; self.arch.len()],
            rng,
        )?;
        let (train, validation) = (self.batch("train")?, self.batch("val")?);
        let settings = WeightsConfig { weight_decay: 5e-4, ..WeightsConfig::default() };
        let (train, validation) = (self.task(&train, &relaxed), self.task(&validation, &relaxed));
        let losses = Losses { train, validation, arch: &self.arch, estimator: &Darts };
        let found = unrolled(&losses, &self.params, &Sgd::new(settings), 0.025, reach)?;
        let expected = |group| self.reference.raw(&format!("unrolled.g_alpha{group}"));
        let errors = found
            .iter()
            .take(self.arch.len())
            .enumerate()
            .map(|(group, found)| error(found, expected(group)));
        Ok(errors.collect::<TensorResult<Vec<f64>>>()?.into_iter().fold(0.0, f64::max))
    }

    /// One iteration of GDAS: the weights' step, then the logits' at the new weights.
    fn step(mut self) -> Result<(), Error> {
        let weights = WeightsConfig::default(); // 0.025, Nesterov 0.9, weight decay 5e-4, norm clipped at 5
        let (batch, relaxed) = (self.batch("train")?, self.relaxed('w')?);
        let task = self.task(&batch, &relaxed);
        let walked = task.weights(&self.params, Purpose::Weights)?;
        self.check_loss("step.train_loss", task.tally_of(&self.params, &walked)?)?;
        let mut params = self.params.clone();
        Sgd::new(weights).step(&mut params, &walked.gradients, weights.lr)?.expect("finite");
        for (_, name, value) in params.weights() {
            let theirs = format!("step.w.{}", fixture_name(self.supernet.layout(), name));
            assert_agrees(&theirs, value, &self.reference.weight(&theirs)?, 1e-9)?;
        }
        let (batch, relaxed) = (self.batch("val")?, self.relaxed('a')?);
        let (tally, gradients) = self.task(&batch, &relaxed).logits(&params, &self.arch, &Gdas)?;
        self.check_loss("step.val_loss", tally)?;
        let settings = ArchConfig { lr: 3e-4, ..ArchConfig::default() };
        Adam::new(settings, &self.arch)?.step(&mut self.arch, &gradients, 1e-3)?;
        for group in 0..self.arch.len() {
            let name = format!("step.alpha{group}");
            assert_agrees(&name, self.arch.logits(group), self.reference.raw(&name), 1e-9)?;
        }
        Ok(())
    }

    #[track_caller]
    fn check_loss(&self, name: &str, tally: Tally) -> Result<(), Error> {
        let (found, expected) =
            (tally.score().expect("a batch").loss, self.reference.raw(name).to_scalar::<f64>()?);
        assert!((found - expected).abs() < 1e-9 * expected, "{name}: {found} instead of {expected}");
        Ok(())
    }
}

fn nets() -> Result<[Net; 2], Error> {
    Ok([
        Net::new("ops/net_nb201", layout("nas-bench-201", 4, 1))?,
        Net::new("ops/net_darts", layout("darts", 2, 3))?,
    ])
}

/// Networks of 4 pictures and 2 to 4 channels have few, heavy ReLUs: at DARTS's reach of 0.01 one of them turns between the
/// two points, and its jump divided by ε is as large as the gradient. Within the kink the differences are good to 1e-9.
#[test]
fn the_unrolled_gradient_of_a_supernet_is_that_of_pytorch() -> Result<(), Error> {
    for net in nets()? {
        let (near, nearer) = (net.unrolled(1e-4)?, net.unrolled(1e-5)?);
        assert!(near <= 1e-2 && nearer <= 1e-7, "errors {near:e}, {nearer:e}");
        assert!(nearer < near / 10.0, "errors {near:e}, {nearer:e} do not fall");
    }
    Ok(())
}

#[test]
fn an_iteration_of_gdas_is_that_of_pytorch() -> Result<(), Error> {
    nets()?.into_iter().try_for_each(Net::step)
}
