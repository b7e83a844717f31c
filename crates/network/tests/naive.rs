//! What it saves to know which gates are 0: `gumbel-st` by the walk, beside an autograd that is not told.
//!
//! The same choice three ways: by the walk (one candidate kept and walked back an edge, the others weighed and dropped), by
//! our kernels with every candidate kept and walked back, and by candle's autograd on the sum of all candidates times their
//! gates. Loss and every gradient agree to 1e-5. Each way is timed in a process of its own, so that its memory can be told:
//! `STRAIT_NAIVE_STEPS=20 cargo test --release -p strait-network --test naive -- --nocapture` prints the ratios.

use std::{collections::BTreeMap, env, error::Error, fs, process::Command, time::Instant};

use candle_core::{DType, Device, Result as TensorResult, Tensor, Var};
use controller::{Demand, Estimator, Gates, Paths, Tau, estimators::GumbelSt};
use ops::{Backward, Catalog, Draw, Forward, Gradients, Mode, ParamStore, Statistics, kernels::loss};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search_space::{LayoutRequest, Phase, Space};
use strait_network::{Purpose, Supernet};

const YAML: &str = "
version: 1
name: cell
rank: image
input: [16, 16, 16]
classes: 10
norm: {search: {affine: false, conv_bias: false}}
cells:
  - {name: cell, nodes: 3, candidates: [none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3]}
network: {channels: 16, stages: [{cell: cell, repeats: 3}]}
";
const EDGES: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
const WAYS: [&str; 3] = ["walk", "all-backward", "autograd"];

/// A supernet, its weights, a batch of 64, and relaxed gates on the graph of their logits.
struct Problem {
    net: Supernet,
    params: ParamStore,
    x: Tensor,
    labels: Vec<u32>,
    alpha: Var,
    gates: Gates,
}

/// Loss, and gradients by name: of the logits (`alpha`) and of the weights.
type Answer = (f64, BTreeMap<String, Tensor>);

impl Problem {
    fn new(dtype: DType) -> Result<Self, Box<dyn Error>> {
        let (catalog, mut rng) = (Catalog::standard(), ChaCha8Rng::seed_from_u64(0));
        let space = Space::parse(YAML, "cell.yaml", &catalog)?;
        let input = space.sample_input();
        let request = LayoutRequest { input, classes: 10, phase: Phase::Search, channels: None, cells: None };
        let layout = space.layout(&request, &catalog)?;
        let (net, params) = Supernet::new(layout, &catalog, dtype, &Device::Cpu, &mut rng)?;
        let x: Vec<f32> =
            (0..64 * input.elements()).map(|i| (i as f32 * 0.7).sin() + (i as f32 * 0.13).cos()).collect();
        let alpha = Var::from_tensor(&Tensor::new(&[[0.1, 0.4, -0.2, 0.3, 0.0]; 6], &Device::Cpu)?)?;
        let gates = GumbelSt.relax(&alpha, &Tau::new(1.0)?.to_tensor(DType::F64, &Device::Cpu)?, &mut rng)?;
        let x = Tensor::from_vec(x, input.batch_dims(64), &Device::Cpu)?.to_dtype(dtype)?;
        Ok(Self { net, params, x, labels: (0..64).map(|i| i % 10).collect(), alpha, gates })
    }

    /// One pass of the walk: the logits' gradient where gates are answered, the weights' where they are asked for.
    fn walked(&self, paths: &[Paths], purpose: Purpose) -> Result<Answer, Box<dyn Error>> {
        let (params, statistics) = (&self.params, &mut Statistics::default());
        let mut pass = Forward { params, mode: Mode::Train, statistics, draw: Draw::default() };
        let (logits, trace) = self.net.forward(&self.x, paths, purpose, &mut pass)?;
        let head = loss::cross_entropy(&logits, &self.labels, 0.0)?;
        let mut weights = Gradients::new(params);
        let gradients = matches!(purpose, Purpose::Weights | Purpose::Joint).then_some(&mut weights);
        let slopes = self.net.backward(trace, &head.grad, &mut Backward { params, gradients })?;
        let mut found = BTreeMap::new();
        if purpose != Purpose::Weights {
            let answer = slopes.answers(self.net.layout())?.gates.remove(0);
            let slope =
                self.gates.pullback(&answer)?.remove(&self.alpha).ok_or("gates are made of the logits")?;
            found.insert("alpha".to_owned(), slope);
        }
        let named =
            params.weights().filter_map(|(id, name, _)| Some((name.to_owned(), weights.get(id)?.clone())));
        found.extend(named);
        Ok((head.loss, found))
    }

    /// Forward and back as `way` says: an architecture step and, by the walk, a weight step beside it.
    fn answer(&self, way: &str) -> Result<Answer, Box<dyn Error>> {
        let single = std::slice::from_ref(self.gates.paths());
        match way {
            "walk" => self.walked(single, Purpose::Architecture(Demand::Outputs)),
            // Nearly 0: nothing is left out. The chosen gate is 1 as before.
            "all-backward" => {
                let rows = self.gates.weights().to_vec2::<f64>()?;
                let rows = rows.into_iter().map(|row| row.into_iter().map(|gate| gate.max(1e-30)).collect());
                self.walked(&[Paths::Weighted(rows.collect())], Purpose::Joint)
            }
            _ => self.differentiated(),
        }
    }

    /// candle's autograd on `Σ gate_k · o_k(x)`, channels first.
    fn differentiated(&self) -> Result<Answer, Box<dyn Error>> {
        let named = self
            .params
            .weights()
            .map(|(_, name, value)| Ok((name.to_owned(), Var::from_tensor(&value.copy()?)?)));
        let weights: BTreeMap<String, Var> = named.collect::<TensorResult<_>>()?;
        let gates = self.gates.weights().to_dtype(self.x.dtype())?;
        let mut x = self.x.permute((0, 3, 1, 2))?.contiguous()?;
        for cell in 0..3 {
            let mut nodes = vec![x.clone()];
            for (edge, (from, to)) in EDGES.into_iter().enumerate() {
                let mut sum = nodes[from].zeros_like()?;
                for k in 0..5 {
                    let of =
                        |label: &str| &weights[&format!("cells.{cell}.edge_{from}_{to}.{label}.conv.weight")];
                    let y = match k {
                        0 => (&nodes[from] * 0.0)?,
                        1 => nodes[from].clone(),
                        2 => normalized(&nodes[from].relu()?.conv2d(
                            &of("nor_conv_1x1").permute((3, 2, 0, 1))?.contiguous()?,
                            0,
                            1,
                            1,
                            1,
                        )?)?,
                        3 => normalized(&nodes[from].relu()?.conv2d(
                            &of("nor_conv_3x3").permute((3, 2, 0, 1))?.contiguous()?,
                            1,
                            1,
                            1,
                            1,
                        )?)?,
                        _ => (windows(&nodes[from])? / windows(&nodes[from].ones_like()?)?.detach())?,
                    };
                    sum = (sum + y.broadcast_mul(&gates.get(edge)?.get(k)?)?)?;
                }
                match nodes.get(to) {
                    Some(before) => nodes[to] = (before + sum)?,
                    None => nodes.push(sum),
                }
            }
            x = nodes.swap_remove(3);
        }
        let logits =
            x.mean((2, 3))?.matmul(&weights["head.fc.weight"])?.broadcast_add(&weights["head.fc.bias"])?;
        let labels = Tensor::new(self.labels.clone(), &Device::Cpu)?.unsqueeze(1)?;
        let loss = (logits.log_sum_exp(1)?.mean_all()? - logits.gather(&labels, 1)?.mean_all()?)?;
        let mut store = loss.backward()?;
        let mut found = BTreeMap::from([("alpha".to_owned(), store.remove(&self.alpha).ok_or("no slope")?)]);
        found.extend(weights.iter().filter_map(|(name, weight)| Some((name.clone(), store.remove(weight)?))));
        Ok((loss.to_dtype(DType::F64)?.to_scalar()?, found))
    }
}

/// Batch norm without scale and shift.
fn normalized(x: &Tensor) -> TensorResult<Tensor> {
    let off = x.broadcast_sub(&x.mean_keepdim((0, 2, 3))?)?;
    off.broadcast_div(&(off.sqr()?.mean_keepdim((0, 2, 3))? + 1e-5)?.sqrt()?)
}

/// Sums of 3×3 windows.
fn windows(x: &Tensor) -> TensorResult<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
    let shifts = (0..9).map(|i| padded.narrow(2, i / 3, h)?.narrow(3, i % 3, w));
    shifts.reduce(|a, b| a? + b?).expect("nine windows")
}

/// The largest difference over the largest magnitude.
fn difference(a: &Tensor, b: &Tensor) -> TensorResult<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let largest = |x: Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
    Ok(largest((&a - &b)?)? / largest(b)?.max(1e-3))
}

#[test]
fn gumbel_st_is_the_naive_autograd_in_value_and_every_gradient() -> Result<(), Box<dyn Error>> {
    let problem = Problem::new(DType::F64)?;
    let single = std::slice::from_ref(problem.gates.paths());
    let (loss, expected) = problem.answer("autograd")?;
    let walked =
        [problem.answer("walk")?, problem.walked(single, Purpose::Weights)?, problem.answer("all-backward")?];
    let mut worst = 0.0f64;
    for (value, found) in walked {
        worst = worst.max((value - loss).abs() / loss);
        for (name, gradient) in found {
            worst = worst.max(difference(&gradient, &expected[&name])?);
        }
    }
    println!("largest difference of losses and gradients: {worst:.1e}");
    assert!(worst < 1e-5, "{worst:e}");
    // What did not run has no gradient by the walk, and one of zeros by the autograd.
    let (_, chosen) = problem.walked(single, Purpose::Weights)?;
    for (name, gradient) in expected.iter().filter(|(name, _)| *name != "alpha") {
        let zero = gradient.abs()?.sum_all()?.to_scalar::<f64>()? == 0.0;
        assert_eq!(zero, !chosen.contains_key(name), "{name}");
    }
    Ok(())
}

/// The test's name, by which it calls itself.
const MEASURED: &str = "the_walk_holds_less_memory_than_either";

#[test]
fn the_walk_holds_less_memory_than_either() -> Result<(), Box<dyn Error>> {
    let steps: u32 = env::var("STRAIT_NAIVE_STEPS").map_or(Ok(1), |steps| steps.parse())?;
    if let Ok(way) = env::var("STRAIT_NAIVE_WAY") {
        let (problem, begun) = (Problem::new(DType::F32)?, Instant::now());
        (0..steps).try_for_each(|_| problem.answer(&way).map(drop))?;
        let millis = begun.elapsed().as_secs_f64() / f64::from(steps) * 1e3;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        println!("\nmeasured {millis} {}", held.trim().trim_end_matches(" kB"));
        return Ok(());
    }
    let mut held = Vec::new();
    for way in WAYS {
        let args = [MEASURED, "--exact", "--nocapture"];
        let output = Command::new(env::current_exe()?).args(args).env("STRAIT_NAIVE_WAY", way).output()?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().find_map(|line| line.strip_prefix("measured ")).ok_or(text.clone())?;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        held.push([numbers[0], numbers[1]]);
        let [time, memory] = [0, 1].map(|i| held[held.len() - 1][i] / held[0][i]);
        println!(
            "{way:<13} {:8.1} ms ({time:.2}×) {:8.1} MiB at most ({memory:.2}×)",
            numbers[0],
            numbers[1] / 1024.0
        );
    }
    // Where the system tells no memory, all are 0.
    assert!(held[0][1] == 0.0 || (held[1][1] > held[0][1] && held[2][1] > held[0][1]), "{held:?}");
    Ok(())
}
