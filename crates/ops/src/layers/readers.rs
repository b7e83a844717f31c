//! Operations that read the same maps, in one pass over them: in the space of DARTS every cell begins with 1×1 convolutions of
//! the outputs of the two cells before it, so that two cells read each.

use std::any::Any;

use candle_core::{Result, Tensor};

use super::{ConvNorm, ConvNormSaved};
use crate::{
    Backward, Forward, Mode, Op, ParamStore, Saved, Summand,
    kernels::{
        conv::Wanted,
        pixelwise::readers::{self, Read, Reader},
        sum,
    },
    op,
};

/// One of the operations on its way back.
pub struct Returning<'a> {
    /// The operation.
    pub op: &'a dyn Op,
    /// What its forward kept.
    pub saved: Saved,
    /// `∂L/∂y`.
    pub grad: Tensor,
}

/// Whether two operations that are given the same maps may run together: 1×1 convolutions of one kind with a batch norm.
#[must_use]
pub fn alike(a: &dyn Op, b: &dyn Op) -> bool {
    let (Some(a), Some(b)) = (conv_norm(a), conv_norm(b)) else { return false };
    let plain = a.conv.bias.is_none() && b.conv.bias.is_none() && a.conv.window.kernel == (1, 1);
    plain && (&a.conv.window, a.conv.prelude, a.norm.eps) == (&b.conv.window, b.conv.prelude, b.norm.eps)
}

fn conv_norm(op: &dyn Op) -> Option<&ConvNorm> {
    (op as &dyn Any).downcast_ref()
}

/// As [`Op::forward_beside`] of every operation, where they are [`alike`] and the kernels take them, in order. Else nothing:
/// they are to run one by one.
///
/// # Errors
/// As there.
pub fn forward(
    ops: &[&dyn Op],
    xs: &[Tensor],
    pass: &mut Forward<'_>,
) -> Result<Option<Vec<(Tensor, Saved)>>> {
    let Some(layers) = layers(ops) else { return Ok(None) };
    if pass.mode == Mode::Eval {
        return Ok(None);
    }
    let (ConvNorm { conv, norm }, kernels) = (layers[0], kernels(&layers, pass.params));
    let waiting = readers::forward_waiting(xs, &kernels, &conv.window, conv.prelude, norm.eps)?;
    let Some(waiting) = waiting else { return Ok(None) };
    let mut found = Vec::with_capacity(layers.len());
    for (layer, waiting) in layers.iter().zip(waiting) {
        layer.norm.report(&waiting.moments, pass);
        let summand = Summand { map: waiting.y.clone(), norm: Some(waiting.by) };
        let saved = ConvNormSaved::Train { xs: xs.to_vec(), y: waiting.y, moments: waiting.moments };
        found.push((Summand::total(&[(1.0, summand)])?, Box::new(saved) as Saved));
    }
    Ok(Some(found))
}

/// As [`Op::backward_beside`] of operations that were given the same `n` maps: gradients at these maps, of each operation or of
/// several together, to be added up.
///
/// # Errors
/// As there.
pub fn backward(
    mut returning: Vec<Returning<'_>>,
    n: usize,
    pass: &mut Backward<'_>,
) -> Result<Vec<Vec<Tensor>>> {
    let mut gradients = Vec::with_capacity(returning.len());
    while !returning.is_empty() {
        let first = returning.remove(0);
        let (mut together, others): (Vec<_>, _) =
            returning.into_iter().partition(|other| alike(first.op, other.op));
        together.insert(0, first);
        returning = others;
        match backward_together(&together, pass)? {
            Some(at_maps) => gradients.push(sum::apart(at_maps, n)?), // they may have been given them joined
            None => {
                for Returning { op, saved, grad } in together {
                    gradients.push(op::run(op, || match n {
                        1 => op.backward(saved, &grad, pass).map(|g| vec![g]),
                        _ => op.backward_beside(saved, &grad, n, pass),
                    })?);
                }
            }
        }
    }
    Ok(gradients)
}

/// The gradients at the maps of what operations that are [`alike`] say together, if there are several and the kernels take them.
fn backward_together(returning: &[Returning<'_>], pass: &mut Backward<'_>) -> Result<Option<Vec<Tensor>>> {
    let ops: Vec<_> = returning.iter().map(|returning| returning.op).collect();
    let Some(layers) = layers(&ops) else { return Ok(None) };
    let mut reads = Vec::with_capacity(layers.len());
    let mut read = None;
    for Returning { saved, grad, .. } in returning {
        let Some(ConvNormSaved::Train { xs, y, moments }) = saved.downcast_ref() else { return Ok(None) };
        let same = |other: &[Tensor]| other.iter().map(Tensor::id).eq(xs.iter().map(Tensor::id));
        if !same(read.get_or_insert(xs)) {
            return Ok(None);
        }
        reads.push(Read { y, moments, gz: grad });
    }
    let Some(xs) = read else { return Ok(None) };
    let (ConvNorm { conv, .. }, kernels) = (layers[0], kernels(&layers, pass.params));
    let wanted = if pass.gradients.is_some() { Wanted::Both } else { Wanted::Input };
    let found = readers::backward(xs, &kernels, &reads, &conv.window, conv.prelude, wanted)?;
    let Some(found) = found else { return Ok(None) };
    if let Some(gradients) = pass.gradients.as_deref_mut() {
        for (layer, of) in layers.iter().zip(found.of) {
            of.w.map_or(Ok(()), |w| gradients.add(layer.conv.weight, w))?;
            if let Some((of_scale, of_shift)) = of.scale_shift {
                layer.norm.add(gradients, of_scale, of_shift)?;
            }
        }
    }
    Ok(found.xs)
}

/// The layers behind operations that are all [`alike`], if there are several.
fn layers<'a>(ops: &[&'a dyn Op]) -> Option<Vec<&'a ConvNorm>> {
    let several = ops.len() > 1 && ops.iter().all(|op| alike(ops[0], *op));
    several.then(|| ops.iter().filter_map(|op| conv_norm(*op)).collect())
}

fn kernels<'a>(layers: &[&'a ConvNorm], params: &'a ParamStore) -> Vec<Reader<'a>> {
    let reader = |layer: &&'a ConvNorm| Reader {
        w: params.weight(layer.conv.weight),
        scale_shift: layer.norm.scale_shift(params),
    };
    layers.iter().map(reader).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use search_space::Norm;

    use super::*;
    use crate::{
        Draw, Gradients, ParamBuilder, Statistics,
        kernels::{
            Prelude, Window, gpu,
            testing::{assert_tensors_close, random},
        },
        layers::conv_norm,
    };

    /// Convolutions to 16 and to 32 channels, two of nine taps, one with a bias, one with another prelude, one with another `ε`.
    fn built() -> Result<(Vec<ConvNorm>, ParamStore)> {
        let (mut store, mut rng) = (ParamStore::new(DType::F64, &Device::Cpu), ChaCha8Rng::seed_from_u64(1));
        let mut params = ParamBuilder::new(&mut store, &mut rng);
        let norm = Norm { affine: true, conv_bias: false, ..Norm::default() };
        let biased = Norm { conv_bias: true, ..norm };
        let kinds = [
            (16, 1, Prelude::Relu, norm),
            (32, 1, Prelude::Relu, norm),
            (16, 3, Prelude::Relu, norm),
            (16, 3, Prelude::Relu, norm),
            (16, 1, Prelude::Relu, biased),
            (16, 1, Prelude::Identity, norm),
            (16, 1, Prelude::Relu, Norm { eps: 1e-3, ..norm }),
        ];
        let layers = kinds.into_iter().enumerate().map(|(i, (to, side, prelude, norm))| {
            let window = Window::same((side, side), (1, 1), (1, 1));
            conv_norm(&mut params.scope(i.to_string()), (32, to), window, prelude, &norm)
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok((layers, store))
    }

    #[test]
    fn only_plain_convolutions_of_one_window_and_prelude_are_alike() -> Result<()> {
        let (layers, _) = built()?;
        assert!(alike(&layers[0], &layers[1]));
        assert!(layers[2..].iter().all(|other| !alike(&layers[0], other)));
        assert!(!alike(&layers[2], &layers[3]));
        assert!(!alike(&layers[0], &crate::layers::Identity));
        Ok(())
    }

    /// What a device gets of them are launches of its own for each, which its graph runs side by side.
    #[test]
    fn on_a_device_they_run_one_by_one() -> Result<()> {
        let (layers, params) = built()?;
        let xs = (0..2).map(|i| random(&[3, 5, 6, 16], i)).collect::<Result<Vec<_>>>()?;
        let ops: Vec<&dyn Op> = layers[..2].iter().map(|layer| layer as &dyn Op).collect();
        let mut statistics = Statistics::default();
        let (mode, draw) = (Mode::Train, Draw::default());
        let mut pass = Forward { params: &params, mode, statistics: &mut statistics, draw };
        assert!(forward(&ops, &xs, &mut pass)?.is_some());
        assert!(gpu::emulate(|| forward(&ops, &xs, &mut pass))?.is_none());
        Ok(())
    }

    /// Two that are alike, and others that are not: gradients at all maps, and of all weights, are those one by one. Sixteen maps
    /// of two channels fill no vector by themselves, and joined they do.
    #[test]
    fn what_goes_back_together_is_what_goes_back_one_by_one() -> Result<()> {
        let (layers, params) = built()?;
        for (mode, n) in [(Mode::Train, 2), (Mode::Train, 16), (Mode::Eval, 2)] {
            let xs = (0..n).map(|i| random(&[3, 5, 6, 32 / n], i as u64)).collect::<Result<Vec<_>>>()?;
            let mut statistics = Statistics::default();
            let mut pass =
                Forward { params: &params, mode, statistics: &mut statistics, draw: Draw::default() };
            let ops: Vec<&dyn Op> = layers.iter().map(|layer| layer as &dyn Op).collect();
            let together = forward(&ops[..2], &xs, &mut pass)?;
            assert_eq!(together.is_some(), mode == Mode::Train && n == 2);
            assert!(forward(&ops[..3], &xs, &mut pass)?.is_none());
            let joined = sum::join(&xs)?;
            let mut one_by_one = || {
                let run = |op: &&dyn Op| match op.forward_beside(&xs, &mut pass)? {
                    Some(found) => Ok(found),
                    None => op.forward(&joined, &mut pass),
                };
                ops.iter().map(run).collect::<Result<Vec<_>>>()
            };
            let (alone, mut found) = (one_by_one()?, one_by_one()?);
            found.splice(..together.as_ref().map_or(0, Vec::len), together.into_iter().flatten());
            let (mut of_alone, mut of_found) = (Gradients::new(&params), Gradients::new(&params));
            let mut back = Backward { params: &params, gradients: Some(&mut of_alone) };
            let (mut expected, mut returning) = (joined.zeros_like()?, Vec::new());
            for (i, ((op, (y, saved)), (z, saved_of_found))) in ops.iter().zip(alone).zip(found).enumerate() {
                assert_tensors_close(&z, &y, 1e-12)?;
                let grad = random(y.dims(), 10 + i as u64)?;
                expected = sum::add(&expected, &op.backward(saved, &grad, &mut back)?)?;
                returning.push(Returning { op: *op, saved: saved_of_found, grad });
            }
            let mut back = Backward { params: &params, gradients: Some(&mut of_found) };
            let gradients = backward(returning, n, &mut back)?;
            assert!(gradients.iter().all(|at_maps| at_maps.len() == n));
            assert_eq!(gradients.len(), if mode == Mode::Train { 6 } else { 7 });
            let mut gx = joined.zeros_like()?;
            for gradient in gradients {
                gx = sum::add(&gx, &sum::join(&gradient)?)?;
            }
            assert_tensors_close(&gx, &expected, 1e-10)?;
            for ((id, found), (other, expected)) in of_found.iter().zip(of_alone.iter()) {
                assert_eq!(id, other);
                assert_tensors_close(found, expected, 1e-10)?;
            }
            assert_eq!(of_found.iter().count(), of_alone.iter().count());
        }
        Ok(())
    }
}
