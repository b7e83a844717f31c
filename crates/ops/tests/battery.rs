//! The whole catalog at images, series and flat maps, strides 1 and 2, odd and even sizes, with and without changes of
//! channels, under the norms of search and of training.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use ops::{
    Catalog, Mode, ParamStore,
    kernels::gpu::{self, Arithmetic, emulate, emulate_in, unavailable},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{Cost, Extent, Norm, OpSpec, Rank, Site, Vocabulary, Written};

use crate::{
    reference::assert_agrees,
    running::{Pass, Running, resolve, uniform},
};

const BATCH: usize = 3;

/// Calls `check` with every label of the catalog at every site where it may stand.
fn everywhere(mut check: impl FnMut(&Catalog, &str, &Site) -> Result<()>) -> Result<()> {
    let catalog = Catalog::standard();
    for (label, rank) in labels(&catalog) {
        let spec = resolve(&catalog, &label, rank);
        let legal = sites(rank).into_iter().filter_map(|site| Some((site, catalog.cost(&spec, &site).ok()?)));
        // The auxiliary head's weights are a hundred times those of all others: one site says enough.
        let legal: Vec<(Site, Cost)> = legal.collect();
        let n = if legal.iter().any(|(_, cost)| cost.params > 100_000) { 1 } else { legal.len() };
        assert!(n > 0, "{label} stands nowhere");
        for (site, _) in &legal[..n] {
            check(&catalog, &label, site)?;
        }
    }
    Ok(())
}

/// The examples of every word, at each of its ranks.
fn labels(catalog: &Catalog) -> Vec<(String, Rank)> {
    let mut labels = Vec::new();
    for word in catalog.words() {
        for (example, &rank) in
            word.examples.iter().flat_map(|one| word.ranks.iter().map(move |rank| (one, rank)))
        {
            let OpSpec { word: op, params, .. } = resolve(catalog, example, word.ranks[0]);
            let spec = catalog.resolve(&Written::Spec { op, params }, rank).expect("the word has this rank");
            labels.push((spec.label, rank));
        }
    }
    labels
}

fn sites(rank: Rank) -> Vec<Site> {
    let extents = match rank {
        Rank::Image => vec![Extent::Image { height: 6, width: 4 }, Extent::Image { height: 5, width: 7 }],
        Rank::Series => vec![Extent::Series { length: 8 }, Extent::Series { length: 9 }],
        Rank::Flat => vec![Extent::Flat],
    };
    let search = Norm { affine: false, conv_bias: true, pool_norm: true, ..Norm::default() };
    let mut sites = Vec::new();
    for (extent, norm) in extents.into_iter().flat_map(|extent| [(extent, search), (extent, Norm::default())])
    {
        for (c_out, stride) in [(3, 1), (4, 1), (3, 2), (4, 2)] {
            sites.push(Site { extent, c_in: 3, c_out, stride, norm });
        }
    }
    if rank == Rank::Image {
        // Channels that fill vectors.
        let extent = Extent::Image { height: 5, width: 7 };
        sites.push(Site { extent, c_in: 16, c_out: 32, stride: 2, norm: Norm::default() });
    }
    sites
}

/// An operation with weights and running statistics away from their initial values, and a random input and gradient.
fn prepare(catalog: &Catalog, label: &str, site: &Site) -> Result<(Running, Tensor, Tensor)> {
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let mut running = Running::build(catalog, label, site, DType::F64);
    let values: Vec<(String, Tensor)> =
        running.params.tensors().map(|(name, value)| (name, value.clone())).collect();
    for (name, value) in values {
        let moved = (&value + (uniform(value.dims(), &mut rng)? * 0.3)?)?;
        running.params.load(&name, &moved)?;
    }
    let x = uniform(&site.input().batch_dims(BATCH), &mut rng)?;
    let y = running.forward(&x, Mode::Train)?;
    let gy = uniform(y.dims(), &mut rng)?;
    Ok((running, x, gy))
}

#[test]
fn parameters_are_what_the_cost_says() -> Result<()> {
    everywhere(|catalog, label, site| {
        let cost =
            catalog.cost(&resolve(catalog, label, site.extent.rank()), site).expect("the site is legal");
        let running = Running::build(catalog, label, site, DType::F32);
        assert_eq!(running.params.n_params(), cost.params, "{label} at {site:?}");
        Ok(())
    })
}

#[test]
fn outputs_have_the_shape_of_their_site() -> Result<()> {
    everywhere(|catalog, label, site| {
        let (running, x, _) = prepare(catalog, label, site)?;
        let y = running.forward(&x, Mode::Train)?;
        let expected = match label {
            "auxiliary_head" | "auxiliary_head_n1" => vec![BATCH, site.c_out], // it ends the map
            _ => site.output().batch_dims(BATCH),
        };
        assert_eq!(y.dims(), expected, "{label} at {site:?}");
        if label != "none" {
            let cost =
                catalog.cost(&resolve(catalog, label, site.extent.rank()), site).expect("the site is legal");
            assert_eq!(cost.output as usize * BATCH, y.elem_count(), "{label} at {site:?}");
        }
        Ok(())
    })
}

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    everywhere(|catalog, label, site| {
        let (mut running, x, gy) = prepare(catalog, label, site)?;
        differences_agree(&format!("{label} at {site:?}"), &mut running, &x, &gy)
    })
}

/// Compares `⟨gradient, direction⟩` with the central difference along a random direction, of the input and of every
/// weight, under either kind of statistics.
pub(crate) fn differences_agree(what: &str, running: &mut Running, x: &Tensor, gy: &Tensor) -> Result<()> {
    for mode in [Mode::Train, Mode::Eval] {
        let pass = running.pass(x, gy, mode)?;
        let direction = direction(x)?;
        let slope = slope(&direction, |moved| value(&running.forward(&(x + moved)?, mode)?, gy))?;
        near(&format!("x of {what} in {mode:?}"), slope, value(&pass.gx, &direction)?);
        let weights: Vec<_> =
            running.params.weights().map(|(id, name, w)| (id, name.to_owned(), w.clone())).collect();
        for (id, name, weight) in weights {
            let direction = self::direction(&weight)?;
            let slope = self::slope(&direction, |moved| {
                running.params.set_weight(id, (&weight + moved)?)?;
                value(&running.forward(x, mode)?, gy)
            })?;
            running.params.set_weight(id, weight)?;
            let gradient = pass.gradients.get(id).expect("every weight took part");
            near(&format!("{name} of {what} in {mode:?}"), slope, value(gradient, &direction)?);
        }
    }
    Ok(())
}

fn direction(of: &Tensor) -> Result<Tensor> {
    uniform(of.dims(), &mut ChaCha8Rng::seed_from_u64(41))
}

fn value(y: &Tensor, gy: &Tensor) -> Result<f64> {
    (y * gy)?.sum_all()?.to_scalar()
}

fn slope(direction: &Tensor, mut at: impl FnMut(Tensor) -> Result<f64>) -> Result<f64> {
    let step = 1e-7;
    Ok((at((direction * step)?)? - at((direction * -step)?)?) / (2.0 * step))
}

#[track_caller]
fn near(what: &str, slope: f64, gradient: f64) {
    assert!(
        (slope - gradient).abs() <= 1e-6 * gradient.abs().max(1.0),
        "{what}: slope {slope}, gradient {gradient}"
    );
}

#[test]
fn a_step_that_asks_for_less_gets_the_same() -> Result<()> {
    everywhere(|catalog, label, site| {
        let (running, x, gy) = prepare(catalog, label, site)?;
        let pass = running.pass(&x, &gy, Mode::Train)?;
        assert_agrees(label, &running.input_gradient(&x, &gy)?, &pass.gx, 0.0)?;
        let weights = running.weight_gradients(&x, &gy)?;
        assert_eq!(weights.iter().count(), running.params.n_weights());
        for (id, expected) in pass.gradients.iter() {
            assert_agrees(label, weights.get(id).expect("every weight took part"), expected, 0.0)?;
        }
        Ok(())
    })
}

/// The kernels of a device, emulated: operations in training and evaluation, forward and all gradients; sent together, in
/// some order, by those that say they gather.
#[test]
fn a_device_computes_what_the_cpu_computes() -> Result<()> {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    let mut sites = 0;
    everywhere(|catalog, label, site| {
        sites += 1;
        if sites % 7 != 1 {
            return Ok(()); // an emulated product takes its time; seven is prime to the kinds of sites
        }
        let (running, x, gy) = prepare(catalog, label, site)?;
        for mode in [Mode::Train, Mode::Eval] {
            let expected = running.pass(&x, &gy, mode)?;
            let pass = || running.pass(&x, &gy, mode);
            let found = emulate(|| if running.op.gathers() { gpu::recorded(pass) } else { pass() })?;
            same_pass(&format!("{label} at {site:?} in {mode:?}"), &found, &expected, 1e-9)?;
        }
        let weighed = || running.weighed(&x, &gy, Mode::Train);
        let (y, probed, gx, product) = weighed()?;
        let found = emulate(|| if running.op.gathers() { gpu::recorded(weighed) } else { weighed() })?;
        assert_agrees(label, &found.0, &y, 1e-9)?;
        assert_agrees(label, &found.2, &gx, 1e-9)?;
        for (found, expected) in
            [(found.1, probed), (found.3.unwrap_or_default(), product.unwrap_or_default())]
        {
            assert!(
                (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                "{label}: {found}, {expected}"
            );
        }
        Ok(())
    })
}

/// The corner pool of an auxiliary head is candle's.
#[test]
fn every_word_gathers_but_auxiliary_heads() -> Result<()> {
    everywhere(|catalog, label, site| {
        let (running, ..) = prepare(catalog, label, site)?;
        assert_eq!(running.op.gathers(), !label.starts_with("auxiliary_head"), "{label}");
        Ok(())
    })
}

/// Outputs, statistics and every gradient, on whatever devices they are.
fn same_pass(what: &str, found: &Pass, expected: &Pass, tolerance: f64) -> Result<()> {
    let agrees = |part: &str, found: &Tensor, expected: &Tensor| {
        assert_agrees(&format!("{part} of {what}"), &host(found)?, &host(expected)?, tolerance)
    };
    agrees("y", &found.y, &expected.y)?;
    agrees("gx", &found.gx, &expected.gx)?;
    for (id, expected) in expected.gradients.iter() {
        agrees("a gradient", found.gradients.get(id).expect("every weight took part"), expected)?;
    }
    assert_eq!(found.gradients.iter().count(), expected.gradients.iter().count());
    for ((_, found), (_, expected)) in found.statistics.iter().zip(expected.statistics.iter()) {
        agrees("a mean", &found.mean, &expected.mean)?;
        agrees("a variance", &found.var, &expected.var)?;
    }
    Ok(())
}

/// How far narrow arithmetic may be off. TF32 rounds a factor by 2⁻¹¹ and bf16 a map by 2⁻⁹, several times on the way, and
/// a batch norm over the few pixels of these sites divides what came of it by a spread that may be small.
fn allowed(arithmetic: Arithmetic) -> f64 {
    match arithmetic {
        Arithmetic::F32 => 1e-4,
        Arithmetic::Tf32 => 16.0 / 2048.0,
        Arithmetic::Bf16 => 32.0 / 512.0,
    }
}

/// `‖found − expected‖ / ‖expected‖`; where all that is expected is zero up to rounding, the norm of the difference.
fn distance(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let norm = |x: &Tensor| x.sqr()?.sum_all()?.to_scalar::<f64>().map(f64::sqrt);
    let (difference, magnitude) = (norm(&(host(found)? - host(expected)?)?)?, norm(&host(expected)?)?);
    Ok(if magnitude < 1e-9 { difference } else { difference / magnitude })
}

/// How near every gradient of an operation came to the CPU's at the best of its sites. Rounding may move a value to the
/// other side of a ReLU, here and there, and then a sum over few pixels is off by much, as it is on the CPU with weights
/// moved by as little; what is wired wrongly is off everywhere.
#[derive(Default)]
struct Nearest(BTreeMap<String, f64>);

impl Nearest {
    fn note(&mut self, label: &str, params: &ParamStore, found: &Pass, expected: &Pass) -> Result<()> {
        let mut note = |part: &str, found: &Tensor, expected: &Tensor| -> Result<()> {
            let off = self.0.entry(format!("{part} of {label}")).or_insert(f64::INFINITY);
            *off = off.min(distance(found, expected)?);
            Ok(())
        };
        note("gx", &found.gx, &expected.gx)?;
        for (id, expected) in expected.gradients.iter() {
            let found = found.gradients.get(id).expect("every weight took part");
            note(params.name(id), found, expected)?;
        }
        Ok(())
    }

    #[track_caller]
    fn judge(&self, tolerance: f64) {
        for (what, off) in &self.0 {
            assert!(*off <= tolerance, "{what}: {off:e} off, tolerance {tolerance:e}");
        }
    }
}

fn host(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}

/// As a device is given it, in the type that it stores; and what that is in `f64`.
fn stored(x: &Tensor, arithmetic: Arithmetic, device: &Device) -> Result<[Tensor; 2]> {
    let narrow = x.to_dtype(arithmetic.maps())?;
    Ok([narrow.to_device(device)?, narrow.to_dtype(DType::F64)?])
}

/// The same, as narrow as a device can: against the CPU's `f64`.
#[test]
fn a_device_computes_nearly_that_in_tf32_and_in_bf16() -> Result<()> {
    if let Some(reason) = unavailable() {
        eprintln!("{reason}");
        return Ok(());
    }
    for (arithmetic, phase) in [(Arithmetic::Tf32, 0), (Arithmetic::Bf16, 3)] {
        computes_nearly(arithmetic, (7, phase), &|pass| emulate_in(arithmetic, pass))?;
    }
    Ok(())
}

/// Of the CPU's arithmetic only maps are ever narrow.
#[test]
fn maps_in_bf16_change_no_more_than_their_rounding_does() -> Result<()> {
    computes_nearly(Arithmetic::Bf16, (1, 0), &|pass| pass())
}

/// A pass that is still to run.
type Passing<'a> = &'a dyn Fn() -> Result<Pass>;

/// Compares passes that `run` runs, at one of so many sites, with the CPU's in `f64`.
fn computes_nearly(
    arithmetic: Arithmetic,
    (every, phase): (usize, usize),
    run: &dyn Fn(Passing<'_>) -> Result<Pass>,
) -> Result<()> {
    let (mut sites, mut nearest) = (0, Nearest::default());
    everywhere(|catalog, label, site| {
        sites += 1;
        if sites % every != phase {
            return Ok(());
        }
        let (running, x, gy) = prepare(catalog, label, site)?;
        let there = running.on(&Device::Cpu, catalog, label, site)?;
        let [[x, wide_x], [gy, wide_gy]] =
            [stored(&x, arithmetic, &Device::Cpu)?, stored(&gy, arithmetic, &Device::Cpu)?];
        for mode in [Mode::Train, Mode::Eval] {
            let found = run(&|| there.pass(&x, &gy, mode))?;
            let expected = running.pass(&wide_x, &wide_gy, mode)?;
            let (what, off) = (format!("{label} at {site:?} in {mode:?}"), distance(&found.y, &expected.y)?);
            assert!(off <= allowed(arithmetic), "y of {what}, {arithmetic}: {off:e} off");
            assert_eq!((found.y.dtype(), found.gx.dtype()), (arithmetic.maps(), arithmetic.maps()), "{what}");
            nearest.note(label, &running.params, &found, &expected)?;
        }
        Ok(())
    })?;
    nearest.judge(allowed(arithmetic));
    Ok(())
}

/// On a real device: near the CPU's `f64`, the same bytes twice, and as a graph.
#[test]
fn every_operation_runs_on_a_gpu() -> Result<()> {
    runs_on_a_gpu(1)
}

/// For tools under which a device takes minutes for all of them (compute-sanitizer).
#[test]
fn every_seventh_site_runs_on_a_gpu() -> Result<()> {
    runs_on_a_gpu(7)
}

/// Every so many sites, others in each arithmetic.
fn runs_on_a_gpu(every: usize) -> Result<()> {
    for (phase, arithmetic) in [Arithmetic::F32, Arithmetic::Tf32, Arithmetic::Bf16].into_iter().enumerate() {
        let device = match gpu::open(0, Some(arithmetic), None) {
            Ok(opened) => opened.device,
            Err(reason) => {
                let reason = reason.to_string(); // behind its first line perhaps a backtrace
                eprintln!(
                    "skipped: no NVIDIA device to compute on ({})",
                    reason.lines().next().unwrap_or_default()
                );
                return Ok(());
            }
        };
        let (mut sites, mut nearest) = (0, Nearest::default());
        everywhere(|catalog, label, site| {
            sites += 1;
            if sites % every != phase % every {
                return Ok(());
            }
            let (running, x, gy) = prepare(catalog, label, site)?;
            let there = running.on(&device, catalog, label, site)?;
            let [[x, wide_x], [gy, wide_gy]] =
                [stored(&x, arithmetic, &device)?, stored(&gy, arithmetic, &device)?];
            for mode in [Mode::Train, Mode::Eval] {
                let what = format!("{label} at {site:?} in {mode:?}, {arithmetic}");
                let (found, expected) = (there.pass(&x, &gy, mode)?, running.pass(&wide_x, &wide_gy, mode)?);
                if arithmetic == Arithmetic::F32 {
                    same_pass(&what, &found, &expected, allowed(arithmetic))?;
                }
                nearest.note(label, &running.params, &found, &expected)?;
                same_pass(&format!("{what}, again"), &there.pass(&x, &gy, mode)?, &found, 0.0)?;
                if there.op.gathers() {
                    let together = gpu::recorded(|| there.pass(&x, &gy, mode))?;
                    same_pass(&format!("{what}, as a graph"), &together, &found, 0.0)?;
                }
            }
            Ok(())
        })?;
        nearest.judge(allowed(arithmetic));
    }
    Ok(())
}

#[test]
fn what_is_summed_and_weighed_on_the_way_is_the_output() -> Result<()> {
    everywhere(|catalog, label, site| {
        let (running, x, gy) = prepare(catalog, label, site)?;
        let narrow = running.on(&Device::Cpu, catalog, label, site)?;
        let maps = Arithmetic::Bf16.maps();
        let (x16, gy16) = (x.to_dtype(maps)?, gy.to_dtype(maps)?);
        for mode in [Mode::Train, Mode::Eval] {
            let what = format!("{label} at {site:?} in {mode:?}");
            weighs_what_it_sums(&what, &running, (&x, &gy), mode, (1e-12, 1e-10))?;
            // What is summed before it is rounded differs from what is rounded first.
            weighs_what_it_sums(&what, &narrow, (&x16, &gy16), mode, (1.0 / 64.0, 1.0 / 64.0))?;
        }
        Ok(())
    })
}

/// Maps that lie in memory, whose gradients are left to be made where they are added up, with weights that allow it and that do
/// not.
#[test]
fn what_is_made_where_it_is_added_up_is_what_is_made_by_itself() -> Result<()> {
    let catalog = Catalog::standard();
    for label in
        ["nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "max_pool_3x3", "sep_conv_5x5", "dil_conv_3x3"]
    {
        for (c, stride) in [(32, 1), (32, 2), (128, 1)] {
            let extent = Extent::Image { height: 4096 / c, width: 32 };
            let norm = Norm { pool_norm: label == "max_pool_3x3", ..Norm::default() };
            let site = Site { extent, c_in: c, c_out: c, stride, norm };
            let (running, x, gy) = prepare(&catalog, label, &site)?;
            let narrow = running.on(&Device::Cpu, &catalog, label, &site)?;
            let maps = Arithmetic::Bf16.maps();
            let (x16, gy16) = (x.to_dtype(maps)?, gy.to_dtype(maps)?);
            for (running, x, gy, within) in [(&running, &x, &gy, 1e-12), (&narrow, &x16, &gy16, 1e-5)] {
                let what = format!("{label} at {site:?} of {:?}", x.dtype());
                let expected = running.pass(x, gy, Mode::Train)?;
                let (pending, gx, gradients) = running.returned(x, gy)?;
                let few_weights = c == 32 || label.contains("pool") || label == "nor_conv_1x1";
                assert_eq!(pending, few_weights, "{what}");
                assert_agrees(&what, &host(&gx)?, &host(&expected.gx)?, 0.0)?;
                assert_eq!(gradients.iter().count(), expected.gradients.iter().count(), "{what}");
                for ((id, found), (expected_id, expected)) in gradients.iter().zip(expected.gradients.iter())
                {
                    assert_eq!(id, expected_id, "{what}");
                    assert_agrees(&what, &host(found)?, &host(expected)?, within)?;
                }
            }
        }
    }
    Ok(())
}

fn weighs_what_it_sums(
    what: &str,
    running: &Running,
    (x, gy): (&Tensor, &Tensor),
    mode: Mode,
    (of_maps, of_products): (f64, f64),
) -> Result<()> {
    let pass = running.pass(x, gy, mode)?;
    let (y, probed, gx, product) = running.weighed(x, gy, mode)?;
    assert_agrees(what, &host(&y)?, &host(&pass.y)?, of_maps)?;
    assert_agrees(what, &host(&gx)?, &host(&pass.gx)?, 0.0)?;
    let (y, gy) = (host(&pass.y)?, host(gy)?);
    let (expected, terms) = (value(&y, &gy)?, value(&y.abs()?, &gy.abs()?)?);
    for product in product.into_iter().chain([probed]) {
        assert!((product - expected).abs() <= of_products * terms.max(1.0), "{what}: {product}, {expected}");
    }
    Ok(())
}
