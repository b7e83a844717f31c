//! `strait bench ops`: every operation where the supernets of two spaces run it.

use std::time::Instant;

use clap::Args;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Serialize;
use serde_json::json;
use strait::data::{DataSpec, Dataset, Part};
use strait::ops::kernels::gpu::Arithmetic;
use strait::ops::{
    Backward, Catalog, Draw, Forward, Gradients, Mode, Op, ParamBuilder, ParamStore, Statistics,
};
use strait::space::{LayoutRequest, OpSpec, Phase, Shape, Site, Space, Vocabulary};
use strait::{DType, Tensor};

use super::noise::Noise;
use super::roofline::{Roofline, bandwidth};
use crate::options::{Computer, Machine, Settings, data_flag, dataset, laid_out_for, space};
use crate::{answer::Answer, console::Console, failure::Failure};

/// `strait bench ops`
#[derive(Args, Debug)]
pub(crate) struct Ops {
    /// Spaces whose operations are timed, at the sizes at which their supernets run them
    #[arg(long, value_name = "SPACE", default_values_t = ["nas-bench-201".to_owned(), "darts".to_owned()])]
    space: Vec<String>,
    /// Data whose shape the spaces are laid out for [default: what a space fixes, or an ordinary shape]
    #[arg(long, value_name = "DATA")]
    data: Option<DataSpec>,
    /// Examples in a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    batch: u32,
    /// Passes of which the fastest counts, after one that does not; the first ones still allocate
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    machine: Machine,
}

/// One operation at one site.
#[derive(Debug, Serialize)]
struct Row {
    op: String,
    input: String,
    output: String,
    forward: Pass,
    /// Both gradients: the input's and the weights'.
    backward: Pass,
}

#[derive(Debug, Serialize)]
struct Pass {
    /// The fastest.
    ms: f64,
    gflops: f64,
    /// Of what no pass can do without: forward reads the input and writes the output; backward reads the input and the
    /// gradient that arrives and writes the one that leaves.
    gbs: f64,
    /// The time that the machine's peak or its bandwidth at this size needs at least, over the time it took.
    roofline_share: f64,
}

/// What the machine can do at a size.
#[derive(Clone, Copy)]
struct Limits {
    gflops: f64,
    gbs: f64,
}

impl Ops {
    pub(crate) fn run(&self, console: &Console) -> Result<Answer, Failure> {
        let (on, catalog) = (self.machine.open()?, Catalog::standard());
        let sites = self.sites(&catalog)?;
        let Roofline { gflops, gbs } = Roofline::measure();
        console.note(&format!("timing operations at {} sites", sites.len()));
        let rows =
            sites.iter().filter_map(|(op, site)| self.time(op, site, gflops, &catalog, &on).transpose());
        let rows = rows.collect::<Result<Vec<Row>, Failure>>()?;
        let report = json!({
            "batch": self.batch, "threads": self.machine.threads(), "arithmetic": on.arithmetic.name(),
            "fma_peak_gflops": gflops, "bandwidth_gbs": gbs, "ops": rows,
        });
        Answer::either(self.json, &report, || table(&rows, on.arithmetic, gflops, gbs))
    }

    /// Every operation, once at each site.
    fn sites(&self, catalog: &Catalog) -> Result<Vec<(OpSpec, Site)>, Failure> {
        let mut sites: Vec<(OpSpec, Site)> = Vec::new();
        let given = self.settings.read(&[("data.source", data_flag(self.data.as_ref()))])?;
        let config = given.over_defaults()?;
        let data = self.data.as_ref().map(|_| dataset(&config.data)).transpose()?;
        for name in &self.space {
            let space: Space = space(name, catalog)?;
            let (input, classes) = laid_out_for(data.as_deref(), &space);
            let request = LayoutRequest { input, classes, phase: Phase::Search, channels: None, cells: None };
            let layout = space.layout(&request, catalog)?;
            for edge in layout.cells().flat_map(|cell| &cell.edges) {
                for op in edge.candidates.iter().filter(|op| !op.is_none()) {
                    let pair = (op.clone(), edge.site);
                    if !sites.contains(&pair) {
                        sites.push(pair);
                    }
                }
            }
        }
        Ok(sites)
    }

    /// Nothing for what returns its own input.
    fn time(
        &self,
        spec: &OpSpec,
        site: &Site,
        peak: f64,
        catalog: &Catalog,
        on: &Computer,
    ) -> Result<Option<Row>, Failure> {
        let (mut params, mut rng) = (ParamStore::new(DType::F32, &on.device), ChaCha8Rng::seed_from_u64(0));
        let op = catalog.build(spec, site, &mut ParamBuilder::new(&mut params, &mut rng))?;
        let (x, grad) = (self.batch_of(site.input(), on)?, self.batch_of(site.output(), on)?);
        let (mut forward, mut backward) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..=self.tries {
            let Some((there, back)) = once(op.as_ref(), &params, &x, &grad)? else { return Ok(None) };
            (forward, backward) = (forward.min(there), backward.min(back));
        }
        let (input, output) = (site.input().elements(), site.output().elements());
        let bytes = |elements: usize| (x.dtype().size_in_bytes() * elements * self.batch as usize) as f64;
        let limits = Limits { gflops: peak, gbs: bandwidth(bytes(input + output) as usize) };
        let flop = 2.0 * catalog.cost(spec, site)?.macs as f64 * f64::from(self.batch);
        Ok(Some(Row {
            op: spec.label.clone(),
            input: site.input().to_string(),
            output: site.output().to_string(),
            forward: Pass::new(forward, flop, bytes(input + output), limits),
            backward: Pass::new(backward, 2.0 * flop, bytes(2 * input + output), limits),
        }))
    }

    fn batch_of(&self, shape: Shape, on: &Computer) -> Result<Tensor, Failure> {
        let (noise, n) = (Noise::new(shape, 2, self.batch as usize), self.batch as usize);
        let mut values = vec![0.0; n * shape.elements()];
        for (index, example) in values.chunks_exact_mut(shape.elements()).enumerate() {
            noise.read(Part::Train, index, example);
        }
        let centered = values.into_iter().map(|x| x - 0.5).collect();
        let batch = Tensor::from_vec::<_, f32>(centered, shape.batch_dims(n), &on.device)?;
        Ok(batch.to_dtype(on.arithmetic.maps())?)
    }
}

/// Milliseconds forward and backward, as an edge runs it: a norm at the end is left to the sum that reads it. Nothing of what
/// returns its own input.
fn once(op: &dyn Op, params: &ParamStore, x: &Tensor, grad: &Tensor) -> Result<Option<(f64, f64)>, Failure> {
    let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(params));
    let draw = Draw { seed: 0, step: 0 };
    let mut pass = Forward { params, mode: Mode::Train, statistics: &mut statistics, draw };
    let clock = Instant::now();
    let (y, saved) = op.forward_summand(x, &mut pass)?;
    x.device().synchronize()?; // a device is asked, and answers later
    let there = clock.elapsed().as_secs_f64() * 1e3;
    if y.map.id() == x.id() && y.norm.is_none() {
        return Ok(None);
    }
    let mut pass = Backward { params, gradients: Some(&mut gradients) };
    let clock = Instant::now();
    let gx = op.backward(saved, grad, &mut pass)?;
    x.device().synchronize()?;
    let back = clock.elapsed().as_secs_f64() * 1e3;
    drop((y, gx));
    Ok(Some((there, back)))
}

impl Pass {
    fn new(ms: f64, flop: f64, bytes: f64, limits: Limits) -> Self {
        let (gflops, gbs) = (flop / ms / 1e6, bytes / ms / 1e6);
        Self { ms, gflops, gbs, roofline_share: (gflops / limits.gflops).max(gbs / limits.gbs) }
    }
}

fn table(rows: &[Row], arithmetic: Arithmetic, gflops: f64, gbs: f64) -> String {
    let mut text = format!(
        "computed in {arithmetic}; this CPU: {gflops:.0} GFLOP/s of fused multiply-adds, {gbs:.1} GB/s from memory\n\n"
    );
    text += &format!("{:<16} {:>10} {:>10}  {:^34}  {:^34}\n", "", "", "", "forward", "backward");
    let head = format!("{:>8} {:>8} {:>7} {:>8}", "ms", "GFLOP/s", "GB/s", "roof %");
    text += &format!("{:<16} {:>10} {:>10}  {head}  {head}\n", "operation", "input", "output");
    let pass = |pass: &Pass| {
        let Pass { ms, gflops, gbs, roofline_share } = pass;
        format!("{ms:>8.2} {gflops:>8.0} {gbs:>7.1} {:>8.0}", 1e2 * roofline_share)
    };
    for Row { op, input, output, forward, backward } in rows {
        text += &format!("{op:<16} {input:>10} {output:>10}  {}  {}\n", pass(forward), pass(backward));
    }
    text
}
