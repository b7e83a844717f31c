use candle_core::{DType, Device, Result, Tensor};

use super::*;
use crate::kernels::{batch_norm, testing::*};

fn plain(factor: f64, x: &Tensor) -> Term<'_> {
    Term { factor, x, norm: None }
}

fn vector(x: &[f64]) -> Result<Tensor> {
    Tensor::new(x, &Device::Cpu)
}

#[test]
fn sums_and_multiples_are_those_of_arithmetic() -> Result<()> {
    let (a, b) = (vector(&[1.0, 2.0, 3.0])?, vector(&[10.0, 20.0, 30.0])?);
    assert_eq!(values(&add(&a, &b)?)?, [11.0, 22.0, 33.0]);
    assert_eq!(values(&add_scaled(a.clone(), 0.5, &b)?)?, [6.0, 12.0, 18.0]);
    assert_eq!(values(&scale(&a, -2.0)?)?, [-2.0, -4.0, -6.0]);
    assert_eq!(dot(&a, &b)?, 140.0);
    assert_eq!(values(&scale_samples(&a.reshape((3, 1))?, &[0.0, 1.0, 2.0])?)?, [0.0, 2.0, 6.0]);
    Ok(())
}

#[test]
fn a_weighted_sum_adds_in_order() -> Result<()> {
    let parts = [random(&[70_001], 1)?, random(&[70_001], 2)?, random(&[70_001], 3)?, random(&[70_001], 4)?];
    let factors = [1.0, -0.5, 2.0, 0.25];
    for n in 1..=4 {
        let sum =
            weighted(&factors.iter().zip(&parts).take(n).map(|(s, x)| plain(*s, x)).collect::<Vec<_>>())?;
        let mut one_by_one = scale(&parts[0], factors[0])?;
        for (s, x) in factors.iter().zip(&parts).take(n).skip(1) {
            one_by_one = add_scaled(one_by_one, *s, x)?;
        }
        assert_tensors_close(&sum, &one_by_one, 0.0)?;
    }
    assert!(weighted(&[]).is_err());
    assert!(weighted(&[plain(1.0, &parts[0]), plain(1.0, &vector(&[1.0])?)]).is_err());
    Ok(())
}

#[test]
fn a_norm_may_wait_for_the_sum() -> Result<()> {
    for c in [3, 16, 17, 300] {
        let dims = [5, 7, 9, c];
        let (x, other) = (random(&dims, 1)?, random(&dims, 2)?);
        let (scale, shift) = (random(&[c], 3)?, random(&[c], 4)?);
        let (_, norm) = batch_norm::forward_waiting(&x, Some((&scale, &shift)), 1e-5)?;
        let (z, _) = batch_norm::forward_train(&x, Some((&scale, &shift)), 1e-5)?;
        let waiting = Term { factor: -0.5, x: &x, norm: Some(&norm) };
        for terms in
            [vec![waiting], vec![plain(2.0, &other), waiting], vec![waiting, plain(2.0, &other), waiting]]
        {
            let at_once = |term: &Term<'_>| plain(term.factor, if term.norm.is_some() { &z } else { &other });
            let expected = weighted(&terms.iter().map(at_once).collect::<Vec<_>>())?;
            assert_tensors_close(&weighted(&terms)?, &expected, 1e-14)?;
        }
        assert_close(&[batch_norm::dot(&other, &x, &norm)?.get()?], &[dot(&other, &z)?], 1e-12);
    }
    Ok(())
}

#[test]
fn a_dot_product_of_many_small_numbers_keeps_its_digits() -> Result<()> {
    let tenths = vector(&[0.1; 100_001])?.to_dtype(DType::F32)?;
    let tenth = f64::from(0.1f32);
    assert_close(&[dot(&tenths, &tenths)?], &[100_001.0 * tenth * tenth], 1e-12);
    Ok(())
}

#[test]
fn split_channels_undoes_concat_channels() -> Result<()> {
    let parts = [random(&[2, 3, 2, 5], 1)?, random(&[2, 3, 2, 1], 2)?, random(&[2, 3, 2, 4], 3)?];
    let joined = concat_channels(&parts.each_ref())?;
    assert_tensors_close(&joined, &Tensor::cat(&parts.each_ref(), 3)?, 0.0)?;
    for (part, expected) in split_channels(&joined, &[5, 1, 4])?.iter().zip(&parts) {
        assert_tensors_close(part, expected, 0.0)?;
    }
    assert!(split_channels(&joined, &[5, 4]).is_err());
    Ok(())
}

#[test]
fn strided_tensors_are_read_in_order() -> Result<()> {
    let x = random(&[3, 4], 1)?;
    assert_tensors_close(&add(&x.t()?, &x.t()?)?, &(x.t()? * 2.0)?, 0.0)?;
    assert_tensors_close(&scale(&x.narrow(0, 1, 2)?, 1.0)?, &x.narrow(0, 1, 2)?, 0.0)
}

#[test]
fn infinities_and_nan_are_not_finite() -> Result<()> {
    let mut x = vec![0.0; 20_000];
    assert!(is_finite(&vector(&x)?)?);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        x[19_999] = bad;
        assert!(!is_finite(&vector(&x)?)?);
    }
    Ok(())
}

#[test]
fn misfits_are_errors() -> Result<()> {
    assert!(add(&vector(&[1.0])?, &vector(&[1.0, 2.0])?).is_err());
    assert!(add(&vector(&[1.0])?, &vector(&[1.0])?.to_dtype(DType::F32)?).is_err());
    assert!(scale(&Tensor::new(&[1u32], &Device::Cpu)?, 1.0).is_err());
    Ok(())
}

#[test]
fn bytes_do_not_depend_on_threads() -> Result<()> {
    let x = random(&[100_001], 1)?.to_dtype(DType::F32)?;
    assert_same_on_any_threads(|| dot(&x, &x).expect("the shapes fit").to_bits());
    Ok(())
}

/// Rows of less than a vector, of one, two and four, and of no whole number; fewer terms than are read side by side, as many, and more.
#[test]
fn every_instruction_set_adds_what_the_portable_path_does() {
    for (c, n) in [5, 8, 16, 17, 32, 64].into_iter().flat_map(|c| [1, 2, 3, 4, 6].map(|n| (c, n))) {
        let maps: Vec<_> = (0..n).map(|i| noise(77 * c, i)).collect();
        let channels = |i: u64| (i != 1).then(|| [7, 8, 9].map(|seed| noise(c, 10 * i + seed)));
        let terms: Vec<_> =
            (0..).zip(&maps).map(|(i, map)| cpu::Addend::new(0.3, map, channels(i))).collect();
        let expected = cpu::weighted(Isa::Portable, &terms, c);
        let maps: Vec<Vec<f32>> = maps.iter().map(|map| cast(map)).collect();
        let single = |i| channels(i).map(|all| all.map(|values| cast::<f32>(&values)));
        let terms: Vec<_> = (0..).zip(&maps).map(|(i, map)| cpu::Addend::new(0.3, map, single(i))).collect();
        for isa in sets() {
            assert_close(&cpu::weighted(isa, &terms, c), &expected, 1e-5);
        }
    }
}

/// As many terms as are read side by side, and more, which are not rounded on their way; with norms and without.
#[test]
fn narrow_maps_are_added_as_their_numbers_are_and_rounded_once() {
    let (c, len) = (17, 17 * 400);
    let maps: Vec<_> = (0..6).map(|i| narrow(&noise(len, i))).collect();
    let channels = [7, 8, 9].map(|seed| cast(&noise(c, seed)));
    for (isa, n, normed) in sets()
        .flat_map(|isa| [1, 3, 4, 6].into_iter().flat_map(move |n| [false, true].map(|norm| (isa, n, norm))))
    {
        let norm = |i: usize| (normed && i.is_multiple_of(2)).then(|| channels.clone());
        let terms: Vec<_> = maps.iter().enumerate().take(n).collect();
        let narrow: Vec<_> = terms.iter().map(|(i, map)| cpu::Addend::new(0.3, &map.0, norm(*i))).collect();
        let numbers: Vec<_> = terms.iter().map(|(i, map)| cpu::Addend::new(0.3, &map.1, norm(*i))).collect();
        assert_rounded(&cpu::weighted(isa, &narrow, c), &cpu::weighted(isa, &numbers, c));
    }
    let [(a, a32), (b, b32)] = [&maps[0], &maps[1]];
    for isa in sets() {
        assert_rounded(&cpu::add(isa, a, b), &cpu::add(isa, a32, b32));
        assert_rounded(&cpu::add_scaled(isa, a, 0.3, b), &cpu::add_scaled(isa, a32, 0.3, b32));
        assert_rounded(&cpu::scale(isa, a, 0.3), &cpu::scale(isa, a32, 0.3));
        assert_rounded(&cpu::scale_samples(isa, a, &[0.3, 0.7]), &cpu::scale_samples(isa, a32, &[0.3, 0.7]));
        assert_eq!(cpu::dot(isa, a, b), cpu::dot(isa, a32, b32));
        let infinite = half::bf16::INFINITY;
        assert!(cpu::is_finite(isa, a) && !cpu::is_finite(isa, &[a[0], infinite]));
    }
    assert_rounded(&cpu::concat(&[a, b], &[c, c]), &cpu::concat(&[&a32[..], b32], &[c, c]));
    assert_rounded(&cpu::columns(a, c, 2, 5), &cpu::columns(a32, c, 2, 5));
}
