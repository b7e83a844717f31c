use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::{testing::*, threads::PIECE};

fn number(x: f64) -> Result<Tensor> {
    Tensor::new(&[x], &Device::Cpu)
}

const SGD: SgdStep = SgdStep { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.5, grad_scale: 1.0 };
const ADAM: AdamStep = AdamStep { lr: 0.1, beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, step: 1 };

#[test]
fn the_first_velocity_is_the_decayed_gradient() -> Result<()> {
    let (w, v) = sgd(&number(2.0)?, &number(3.0)?, None, SGD)?; // g = 3 + 0.5·2 = 4
    assert_close(&values(&v)?, &[4.0], 1e-15);
    assert_close(&values(&w)?, &[1.6], 1e-15);
    let (w, _) = sgd(&number(2.0)?, &number(6.0)?, None, SgdStep { grad_scale: 0.5, ..SGD })?;
    assert_close(&values(&w)?, &[1.6], 1e-15);
    Ok(())
}

#[test]
fn nesterov_looks_ahead_along_the_velocity() -> Result<()> {
    let (w, v) = sgd(&number(2.0)?, &number(3.0)?, Some(&number(10.0)?), SGD)?; // v' = 9 + 4
    assert_close(&values(&v)?, &[13.0], 1e-15);
    assert_close(&values(&w)?, &[0.7], 1e-14);
    let nesterov = SgdStep { nesterov: true, ..SGD };
    let (w, _) = sgd(&number(2.0)?, &number(3.0)?, Some(&number(10.0)?), nesterov)?; // 4 + 0.9·13 = 15.7
    assert_close(&values(&w)?, &[0.43], 1e-14);
    Ok(())
}

#[test]
fn adams_first_step_has_the_length_of_its_rate() -> Result<()> {
    for g in [1e-3, 7.0] {
        let zero = number(0.0)?;
        let (w, m, v) = adam(&number(1.0)?, &number(g)?, &zero, &zero, ADAM)?;
        assert_close(&values(&w)?, &[0.9], 1e-5);
        assert_close(&values(&m)?, &[0.5 * g], 1e-15);
        assert_close(&values(&v)?, &[0.001 * g * g], 1e-15);
    }
    Ok(())
}

#[test]
fn adam_corrects_its_means_by_the_number_of_steps() -> Result<()> {
    // m' = 1 + 1 = 2, v' = 0.999·4 + 0.001·4 = 4; m'/(1 − 0.25) = 8/3, v'/(1 − 0.999²) = 4/0.001999.
    let step = AdamStep { weight_decay: 2.0, step: 2, ..ADAM };
    let (w, ..) = adam(&number(1.0)?, &number(0.0)?, &number(2.0)?, &number(4.0)?, step)?;
    assert_close(&values(&w)?, &[1.0 - 0.1 * (8.0 / 3.0) / (4.0f64 / 0.001999).sqrt()], 1e-9);
    assert!(
        adam(&number(1.0)?, &number(0.0)?, &number(2.0)?, &number(4.0)?, AdamStep { step: 0, ..ADAM })
            .is_err()
    );
    Ok(())
}

#[test]
fn the_norm_is_that_of_all_elements() -> Result<()> {
    assert_eq!(norm_squared(&Tensor::new(&[[3.0f32], [4.0]], &Device::Cpu)?)?, 25.0);
    Ok(())
}

/// Large ones run first, each on all threads, and stand where they stood.
#[test]
fn many_move_as_each_does() -> Result<()> {
    let sizes = [3, LARGE + 9_000, 1, LARGE + 70_000, 2];
    let tensors = (1..).zip(sizes).map(|(seed, n)| Ok((random(&[n], seed)?, random(&[n], seed + 10)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let triples: Vec<_> = tensors.iter().map(|(w, g)| (w, g, None)).collect();
    let moved = sgd_of_many(&triples, SGD, None)?.moved;
    assert_eq!(moved.len(), sizes.len());
    for ((w, g), (found, _)) in tensors.iter().zip(moved) {
        assert_eq!(values(&found)?, values(&sgd(w, g, None, SGD)?.0)?);
    }
    Ok(())
}

/// More elements than a piece has, each by its own numbers.
#[test]
fn every_element_of_a_large_tensor_moves_by_its_own_gradient() -> Result<()> {
    const LEN: usize = 2 * PIECE + 7;
    let [w, g, v] = [1, 2, 3].map(|seed| random(&[LEN], seed));
    let (w, g, v) = (w?, g?, v?);
    let (new_w, new_v) = sgd(&w, &g, Some(&v), SgdStep { nesterov: true, ..SGD })?;
    let (w, g, v) = (values(&w)?, values(&g)?, values(&v)?);
    let decayed: Vec<f64> = g.iter().zip(&w).map(|(g, w)| g + 0.5 * w).collect();
    let expected_v: Vec<f64> = decayed.iter().zip(&v).map(|(g, v)| 0.9 * v + g).collect();
    let ahead = decayed.iter().zip(&expected_v).map(|(g, v)| g + 0.9 * v);
    let expected_w: Vec<f64> = w.iter().zip(ahead).map(|(w, ahead)| w - 0.1 * ahead).collect();
    assert_close(&values(&new_v)?, &expected_v, 1e-14);
    assert_close(&values(&new_w)?, &expected_w, 1e-14);
    Ok(())
}

#[test]
fn a_blend_keeps_what_it_does_not_take() -> Result<()> {
    let old = Tensor::new(&[[1.0, 2.0], [3.0, 4.0]], &Device::Cpu)?.t()?;
    let new = Tensor::new(&[[5.0, 6.0], [7.0, 8.0]], &Device::Cpu)?;
    let blended = blend(&[(&old, &new, 0.25), (&new, &new, 1.0)])?;
    assert_close(&values(&blended[0])?, &[2.0, 3.75, 3.25, 5.0], 1e-15);
    assert_eq!(values(&blended[1])?, values(&new)?);
    let narrow = new.to_dtype(candle_core::DType::F32)?;
    assert!(blend(&[(&old, &narrow, 0.5)]).is_err());
    Ok(())
}
