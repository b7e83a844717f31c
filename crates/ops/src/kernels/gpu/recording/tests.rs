//! What is sent together computes what is sent one by one, whatever order a device chooses.

use candle_core::{Result, Tensor};

use super::*;
use crate::kernels::{
    Prelude, Window, activation, batch_norm, conv,
    gpu::{Arg, Fresh, Grid, emulate, emulated::unavailable},
    sum,
    testing::{assert_tensors_close, random},
    update::{self, SgdStep},
};

/// Runs a test on an emulated device; where nothing can be emulated it says so.
fn emulated(test: impl FnOnce() -> Result<()>) -> Result<()> {
    match unavailable() {
        Some(reason) => {
            eprintln!("{reason}");
            Ok(())
        }
        None => emulate(test),
    }
}

/// Launches that wait in this thread.
fn waiting() -> usize {
    RECORDER.with_borrow(|recorder| recorder.as_ref().map_or(0, |recorder| recorder.launches.len()))
}

/// Two branches that meet, on inputs of which nothing is kept.
fn diamond(x: &Tensor) -> Result<Tensor> {
    let window = Window::same((3, 3), (1, 1), (1, 1));
    let w = random(&[3, 3, 4, 4], 2)?;
    let left = conv::forward(&activation::relu(x)?, &w, &window, Prelude::Identity)?;
    let right = batch_norm::forward_train(&sum::scale(x, -0.5)?, None, 1e-5)?.0;
    sum::add(&activation::relu6(&left)?, &right)
}

#[test]
fn together_and_singly_the_bytes_are_the_same() -> Result<()> {
    emulated(|| {
        let x = random(&[2, 5, 5, 4], 1)?;
        let expected = diamond(&x)?;
        for _ in 0..8 {
            assert_tensors_close(&recorded(|| diamond(&x))?, &expected, 0.0)?; // each time in another order
        }
        set_launches(Launches::Singly);
        let alone = recorded(|| {
            let y = diamond(&x)?;
            assert_eq!(waiting(), 0);
            Ok::<_, candle_core::Error>(y)
        });
        set_launches(Launches::Together);
        assert_tensors_close(&alone?, &expected, 0.0)
    })
}

#[test]
fn outputs_hold_nothing_until_they_are_sent() -> Result<()> {
    emulated(|| {
        let x = random(&[3, 4], 1)?;
        recorded(|| {
            let y = activation::relu(&x)?;
            assert!(y.flatten_all()?.to_vec1::<f64>()?.iter().all(|y| y.is_nan()));
            assert!(send()?);
            assert_tensors_close(&y, &x.relu()?, 0.0)?;
            assert!(!send()?);
            Ok(())
        })
    })
}

#[test]
fn whoever_asks_for_a_number_sends_what_it_follows_from() -> Result<()> {
    emulated(|| {
        let x = random(&[6, 7], 1)?;
        let expected = (x.relu()? * &x)?.sum_all()?.to_scalar::<f64>()?;
        recorded(|| {
            let y = activation::relu(&x)?;
            let product = sum::dot(&y, &x)?;
            assert!((product - expected).abs() < 1e-12, "{product}, {expected}");
            let turned = activation::relu(&activation::relu(&x)?.t()?)?; // strided: candle reads it
            send()?;
            assert_tensors_close(&turned, &x.relu()?.t()?.contiguous()?, 0.0)
        })
    })
}

#[test]
fn candle_may_read_what_waited_before_it() -> Result<()> {
    emulated(|| {
        let x = random(&[6, 7], 1)?;
        let found = recorded(|| {
            let y = activation::relu(&x)?;
            let squares = at_once(|| {
                let squares = y.sqr()?;
                let again = activation::relu(&squares)?;
                assert_eq!(waiting(), 0);
                &squares + again
            })?;
            let sum = sum::add(&squares, &y)?;
            assert_eq!(waiting(), 1);
            Ok::<_, candle_core::Error>(sum)
        })?;
        let y = x.relu()?;
        assert_tensors_close(&found, &((y.sqr()? * 2.0)? + y)?, 1e-15)
    })
}

#[test]
fn optimizers_wait_for_their_gradients() -> Result<()> {
    emulated(|| {
        let step = SgdStep { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01, grad_scale: 1.0 };
        let (w, x) = (random(&[50], 1)?, random(&[50], 2)?);
        let run = || {
            let gradient = activation::relu(&x)?;
            let moved = update::sgd_of_many(&[(&w, &gradient, None)], step, Some(0.5))?.moved;
            let (w, v) = &moved[0];
            Ok::<_, candle_core::Error>(update::blend(&[(w, v, 0.25)])?.remove(0))
        };
        assert_tensors_close(&recorded(run)?, &run()?, 0.0)
    })
}

#[test]
fn many_launches_do_not_wait_for_the_last() -> Result<()> {
    emulated(|| {
        let x = random(&[3], 1)?;
        let mut y = x.clone();
        let found = recorded(|| {
            for _ in 0..MOST + 3 {
                y = sum::scale(&y, -1.0)?;
            }
            assert_eq!(waiting(), 3);
            Ok::<_, candle_core::Error>(y)
        })?;
        assert_tensors_close(&found, &x.neg()?, 0.0)
    })
}

#[test]
fn what_waited_in_a_scope_that_failed_is_never_launched() -> Result<()> {
    emulated(|| {
        let x = random(&[3, 4], 1)?;
        let mut kept = None;
        let failed = recorded(|| {
            kept = Some(activation::relu(&x)?);
            sum::add(&x, &random(&[4, 3], 2)?)
        });
        assert!(failed.is_err());
        assert_eq!(waiting(), 0);
        assert!(!send()?);
        assert!(kept.expect("it ran").flatten_all()?.to_vec1::<f64>()?[0].is_nan());
        assert_tensors_close(&recorded(|| activation::relu(&x))?, &x.relu()?, 0.0)
    })
}

#[test]
fn a_scope_within_a_scope_belongs_to_it() -> Result<()> {
    emulated(|| {
        let x = random(&[3, 4], 1)?;
        recorded(|| {
            let y = recorded(|| activation::relu(&x))?;
            assert_eq!(waiting(), 1);
            let z = recorded(|| sum::add(&x, &y))?;
            assert_eq!(waiting(), 2);
            assert!(z.flatten_all()?.to_vec1::<f64>()?[0].is_nan());
            Ok(())
        })
    })
}

/// A launch waits for those whose outputs it reads, in part or whole, and for no others.
#[test]
fn launches_wait_for_what_they_read() -> Result<()> {
    emulated(|| {
        let gpu = Gpu::Emulated;
        let fresh = || gpu.fresh(candle_core::DType::F32, &[8]);
        let launch = |read: &[&Tensor], write: &Fresh| {
            let reads = read.iter().map(|x| Arg::In(x));
            let args: Vec<Arg<'_>> = reads.chain([Arg::Out(write)]).collect();
            Launch::new(&gpu, "any", candle_core::DType::F32, Grid::over(8), &args)
        };
        let (a, b, c, d) = (fresh()?, fresh()?, fresh()?, fresh()?);
        let x = Tensor::zeros(8, candle_core::DType::F32, &candle_core::Device::Cpu)?;
        let launches = [
            launch(&[&x], &a)?,
            launch(&[&a.tensor.narrow(0, 4, 4)?, &x], &b)?,
            launch(&[&x, &a.tensor], &c)?,
            launch(&[&c.tensor, &b.tensor, &b.tensor.narrow(0, 0, 1)?], &d)?,
        ];
        let dependencies = dependencies(&launches)?;
        let each: Vec<&[u32]> = dependencies.each().collect();
        assert_eq!(each, [&[] as &[u32], &[0], &[0], &[1, 2]]);
        Ok(())
    })
}
