//! Every tensor of `tests/fixtures/ops`, in both precisions. Edges and networks belong to the crate `network`.

use candle_core::{DType, Device, Result, Tensor};
use ops::{
    Backward, Catalog, Forward, Gradients, Layer, Mode, ParamBuilder, ParamStore, Statistics,
    kernels::loss,
    layers::{Activation, BatchNorm, classifier},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search_space::{Extent, Norm, Site};

use crate::{
    reference::{Reference, assert_agrees},
    running::{DRAW, Running},
};

const PRECISIONS: [(DType, f64); 2] = [(DType::F64, 1e-9), (DType::F32, 1e-4)];

#[track_caller]
fn agrees(file: &str, label: &str) -> Result<()> {
    let reference = Reference::read(&format!("ops/{file}"))?;
    for case in reference.cases() {
        for (dtype, tolerance) in PRECISIONS {
            check(&reference, &case, label, dtype, tolerance)?;
        }
    }
    Ok(())
}

fn check(reference: &Reference, case: &str, label: &str, dtype: DType, tolerance: f64) -> Result<()> {
    let (x, y) = (reference.map(&format!("{case}/x"))?, reference.map(&format!("{case}/y"))?);
    let mut running = Running::build(&Catalog::standard(), label, &site(&x, &y, case)?, dtype);
    for name in reference.names(&format!("{case}/w.")) {
        running.params.load(&name, &reference.weight(&format!("{case}/w.{name}"))?)?;
    }
    let mut compared = 2 + reference.names(&format!("{case}/w.")).len(); // x, gy and the weights are given
    let mut compare = |name: &str, found: &Tensor, expected: &Tensor| {
        compared += 1;
        assert_agrees(&format!("{label} {case}/{name} in {dtype:?}"), found, expected, tolerance)
    };
    let (x, gy) = (x.to_dtype(dtype)?, reference.map(&format!("{case}/gy"))?.to_dtype(dtype)?);
    let pass = running.pass(&x, &gy, Mode::Train)?;
    compare("y", &pass.y, &y)?;
    compare("gx", &pass.gx, &reference.map(&format!("{case}/gx"))?)?;
    for (id, name, _) in running.params.weights() {
        let found = pass.gradients.get(id).expect("every weight took part");
        compare(name, found, &reference.weight(&format!("{case}/g.{name}"))?)?;
    }
    running.params.absorb(&pass.statistics)?;
    for (name, found) in running.params.tensors().filter(|(name, _)| name.contains(".running_")) {
        compare(&name, found, reference.raw(&format!("{case}/stat.{name}")))?;
    }
    if reference.names(&format!("{case}/y_eval")).len() == 1 {
        compare("y_eval", &running.forward(&x, Mode::Eval)?, &reference.map(&format!("{case}/y_eval"))?)?;
    }
    assert_eq!(compared, reference.names(&format!("{case}/")).len(), "{label} {case}: tensors left out");
    Ok(())
}

fn site(x: &Tensor, y: &Tensor, case: &str) -> Result<Site> {
    let ((_, height, width, c_in), (_, out_height, _, c_out)) = (x.dims4()?, y.dims4()?);
    let norm = Norm {
        affine: case.contains("affine"),
        conv_bias: case.contains("bias"),
        pool_norm: case.contains("bn"),
        ..Norm::default()
    };
    let extent = Extent::Image { height, width };
    Ok(Site { extent, c_in, c_out, stride: height.div_ceil(out_height), norm })
}

#[test]
fn the_absent_operation_agrees() -> Result<()> {
    agrees("none", "none")
}

#[test]
fn skips_agree() -> Result<()> {
    agrees("skip_connect", "skip_connect")
}

#[test]
fn pools_agree() -> Result<()> {
    agrees("avg_pool_3x3", "avg_pool_3x3")?;
    agrees("max_pool_3x3", "max_pool_3x3")
}

#[test]
fn plain_convolutions_agree() -> Result<()> {
    ["nor_conv_1x1", "nor_conv_3x3", "nor_conv_7x7"].into_iter().try_for_each(|label| agrees(label, label))
}

#[test]
fn separable_convolutions_agree() -> Result<()> {
    ["sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7"].into_iter().try_for_each(|label| agrees(label, label))
}

#[test]
fn dilated_convolutions_agree() -> Result<()> {
    ["dil_conv_3x3", "dil_conv_5x5"].into_iter().try_for_each(|label| agrees(label, label))
}

#[test]
fn the_factorized_convolution_agrees() -> Result<()> {
    agrees("conv_7x1_1x7", "conv_7x1_1x7")
}

#[test]
fn the_skeleton_agrees() -> Result<()> {
    agrees("stem", "conv_norm_3x3")?;
    agrees("residual_block", "residual_block")
}

#[test]
fn classifier_heads_agree() -> Result<()> {
    let reference = Reference::read("ops/classifier_head")?;
    for case in reference.cases() {
        for (dtype, tolerance) in PRECISIONS {
            head_agrees(&reference, &case, dtype, tolerance)?;
        }
    }
    Ok(())
}

fn head_agrees(reference: &Reference, case: &str, dtype: DType, tolerance: f64) -> Result<()> {
    let at = |name: &str| format!("{case}/{name}");
    let (mut params, mut rng) = (ParamStore::new(dtype, &Device::Cpu), ChaCha8Rng::seed_from_u64(0));
    let mut builder = ParamBuilder::new(&mut params, &mut rng);
    let norm = match case {
        "bn" => Some((BatchNorm::new(&mut builder.scope("bn"), 8, &Norm::default())?, Activation::Relu)),
        _ => None,
    };
    let head = (norm, classifier(&mut builder, 8, 10, 0.0)?);
    for name in reference.names(&at("w.")) {
        params.load(&name, &reference.weight(&at(&format!("w.{name}")))?)?;
    }
    let compare = |name: &str, found: &Tensor, expected: &Tensor| {
        assert_agrees(&format!("head {case}/{name} in {dtype:?}"), found, expected, tolerance)
    };
    let (mut statistics, mut gradients) = (Statistics::default(), Gradients::new(&params));
    let mut pass = Forward { params: &params, mode: Mode::Train, statistics: &mut statistics, draw: DRAW };
    let (logits, saved) = Layer::forward(&head, &reference.map(&at("x"))?.to_dtype(dtype)?, &mut pass)?;
    compare("logits", &logits, reference.raw(&at("logits")))?;
    let labels: Vec<u32> = reference.raw(&at("labels")).to_dtype(DType::U32)?.to_vec1()?;
    let loss = loss::cross_entropy(&logits, &labels, 0.0)?;
    compare("loss", &Tensor::new(loss.loss, &Device::Cpu)?, reference.raw(&at("loss")))?;
    compare("g_logits", &loss.grad, reference.raw(&at("g_logits")))?;
    let mut back = Backward { params: &params, gradients: Some(&mut gradients) };
    let gx = Layer::backward(&head, saved, &loss.grad, &mut back)?;
    compare("gx", &gx, &reference.map(&at("gx"))?)?;
    for (id, name, _) in params.weights() {
        let found = gradients.get(id).expect("every weight took part");
        compare(name, found, &reference.weight(&at(&format!("g.{name}")))?)?;
    }
    params.absorb(&statistics)?;
    for (name, found) in params.tensors().filter(|(name, _)| name.contains(".running_")) {
        compare(&name, found, reference.raw(&at(&format!("stat.{name}"))))?;
    }
    Ok(())
}
