use candle_core::{Device, Result, Tensor};

use super::*;
use crate::kernels::testing::*;

/// Three parts of two channels, numbered.
#[test]
fn channels_are_taken_from_the_parts_in_turn() -> Result<()> {
    let part = Tensor::new(&[[0.0, 1.0]], &Device::Cpu)?;
    let rest = Tensor::new(&[[2.0, 3.0, 4.0, 5.0]], &Device::Cpu)?;
    assert_eq!(values(&join(&part, &rest, 3)?)?, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    Ok(())
}

/// On more elements than a piece holds.
#[test]
fn separating_undoes_joining() -> Result<()> {
    for (dims, parts) in [(vec![3, 70, 50, 3], 2), (vec![5, 9, 2], 4), (vec![2, 1], 8)] {
        let mut others = dims.clone();
        *others.last_mut().expect("channels") *= parts - 1;
        let (part, rest) = (random(&dims, 1)?, random(&others, 2)?);
        let (same_part, same_rest) = separate(&join(&part, &rest, parts)?, parts)?;
        assert_tensors_close(&same_part, &part, 0.0)?;
        assert_tensors_close(&same_rest, &rest, 0.0)?;
    }
    Ok(())
}

/// A permutation and its inverse: `⟨join(x), y⟩ = ⟨x, separate(y)⟩`, so that one is the other's gradient.
#[test]
fn separating_is_the_gradient_of_joining() -> Result<()> {
    let (part, rest, y) = (random(&[4, 5, 2], 1)?, random(&[4, 5, 6], 2)?, random(&[4, 5, 8], 3)?);
    let dot = |a: &Tensor, b: &Tensor| crate::kernels::sum::dot(a, b);
    let (part_y, rest_y) = separate(&y, 4)?;
    let apart = dot(&part, &part_y)? + dot(&rest, &rest_y)?;
    assert_close(&[dot(&join(&part, &rest, 4)?, &y)?], &[apart], 1e-13);
    Ok(())
}

#[test]
fn unequal_parts_are_refused() -> Result<()> {
    assert!(separate(&random(&[2, 6], 1)?, 4).is_err());
    assert!(separate(&random(&[2, 6], 1)?, 1).is_err());
    assert!(join(&random(&[2, 2], 1)?, &random(&[2, 5], 2)?, 3).is_err());
    Ok(())
}
