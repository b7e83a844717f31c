use candle_core::Device;

use super::*;
use crate::kernels::{
    Prelude, Window,
    batch_norm::{self, Moments},
    conv::Wanted,
    conv_norm,
    pool::{
        self,
        norm::{self as pool_norm, Pool},
    },
    separable::{self, Convolutions},
    testing::{assert_same_on_any_threads, assert_tensors_close, random, values},
};

const EPS: f64 = 1e-3;

/// What one operation says of a map: by itself, and pending; and the gradients of its weights, by itself.
struct Said {
    whole: Tensor,
    pending: Pending,
    weights: Vec<Tensor>,
}

/// Weights of some shape, as narrow as those of `x` are.
fn weight(dims: &[usize], seed: u64, x: &Tensor) -> Result<Tensor> {
    let dtype = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    random(dims, seed)?.to_dtype(dtype)
}

fn arriving(y: &Tensor) -> Result<Tensor> {
    random(y.dims(), 9)?.to_dtype(y.dtype())
}

fn of_conv(x: &Tensor, k: usize, stride: usize, wanted: Wanted) -> Result<Said> {
    let (window, prelude) = (Window::same((k, k), (stride, stride), (1, 1)), Prelude::Relu);
    let c = Map::of(x.dims())?.c;
    let w = weight(&[k, k, c, c], 2, x)?;
    let batch_norm::Normalized { y, moments, .. } =
        conv_norm::forward_train(x, (&w, None), None, EPS, &window, prelude)?;
    let gz = arriving(&y)?;
    let found = conv_norm::backward(&gz, x, &w, &y, None, &moments, &window, prelude, wanted)?;
    let (pending, _) = conv_norm::backward_pending(&gz, x, &w, &y, None, &moments, &window, prelude, wanted)?;
    Ok(Said { whole: found.x.expect("was wanted"), pending, weights: found.w.into_iter().collect() })
}

fn of_separable(x: &Tensor, k: usize, stride: usize, wanted: Wanted) -> Result<Said> {
    let across = Window::same((k, k), (stride, stride), (2, 2));
    let point = Window::same((1, 1), (1, 1), (1, 1));
    let c = Map::of(x.dims())?.c;
    let (d, w) = (weight(&[k, k, c], 3, x)?, weight(&[1, 1, c, c], 4, x)?);
    let convolutions = Convolutions {
        norm: None,
        d: &d,
        across: &across,
        prelude: Prelude::Relu,
        w: &w,
        bias: None,
        window: &point,
    };
    let batch_norm::Normalized { y, moments, .. } = separable::forward_train(x, convolutions, None, EPS)?;
    let (gz, kept) = (arriving(&y)?, (&y, &moments));
    let found = separable::backward(&gz, x, convolutions, kept, None, wanted, None)?;
    let (pending, _) = separable::backward_pending(&gz, x, convolutions, kept, None, wanted, None)?;
    let weights = found.weights.map_or(Vec::new(), |(of_d, of_w)| vec![of_d, of_w]);
    Ok(Said { whole: found.x.expect("was wanted"), pending, weights })
}

fn of_pool(x: &Tensor, pool: Pool, stride: usize) -> Result<Said> {
    let window = Window::same((3, 3), (stride, stride), (1, 1));
    let (waiting, winners) = pool_norm::forward_waiting(x, (pool, &window), None, EPS)?;
    let (gz, kept): (_, (&Tensor, &Moments)) = (arriving(&waiting.y)?, (&waiting.y, &waiting.moments));
    let found = pool_norm::backward(&gz, x.dims(), &window, winners.as_ref(), kept, None)?;
    let (pending, ..) = pool_norm::backward_pending(&gz, x.dims(), &window, winners.as_ref(), kept, None)?;
    Ok(Said { whole: found.x, pending, weights: Vec::new() })
}

fn of_mean(x: &Tensor, stride: usize) -> Result<Said> {
    let window = Window::same((3, 3), (stride, stride), (1, 1));
    let gy = arriving(&pool::average(x, &window)?)?;
    let whole = pool::average_gradient(&gy, x.dims(), &window)?;
    let pending = pool::average_gradient_pending(&gy, x.dims(), &window)?;
    Ok(Said { whole, pending, weights: Vec::new() })
}

/// All that may be pending, of a map of these dimensions.
fn all(x: &Tensor, wanted: Wanted) -> Result<Vec<Said>> {
    Ok(vec![
        of_separable(x, 3, 1, wanted)?,
        of_conv(x, 3, 1, wanted)?,
        of_pool(x, Pool::Max, 1)?,
        of_conv(x, 1, 1, wanted)?,
        of_separable(x, 5, 2, wanted)?,
        of_pool(x, Pool::Average, 2)?,
        of_conv(x, 3, 2, wanted)?,
        of_pool(x, Pool::Average, 1)?,
        of_pool(x, Pool::Max, 2)?,
        of_mean(x, 1)?,
        of_mean(x, 2)?,
    ])
}

/// Several images a piece and one, the last piece short, channels that fill vectors and that do not.
const MAPS: [[usize; 4]; 4] = [[9, 5, 4, 16], [3, 37, 29, 16], [1, 1, 1, 3], [18, 7, 6, 5]];

/// To the digit; weights' gradients but for where their sums are cut.
#[test]
fn a_sum_of_pending_gradients_is_the_sum_of_what_each_makes_by_itself() -> Result<()> {
    for dims in MAPS {
        for dtype in [DType::F64, DType::F32, DType::BF16] {
            let x = random(&dims, 1)?.to_dtype(dtype)?;
            for wanted in [Wanted::Input, Wanted::Both] {
                let said = all(&x, wanted)?;
                let between = random(&dims, 7)?.to_dtype(dtype)?;
                let mut terms: Vec<_> = said.iter().map(|said| (0.5, Term::Pending(&said.pending))).collect();
                let mut maps: Vec<_> = said.iter().map(|said| sum::Term::of(0.5, &said.whole)).collect();
                terms.insert(3, (-2.0, Term::Map(&between)));
                maps.push(sum::Term::of(-2.0, &between));
                let (found, weights) = total(&terms)?;
                assert_eq!(values(&found)?, values(&sum::weighted(&maps)?)?, "{dims:?} of {dtype:?}");
                assert_eq!(weights.len(), said.len());
                for (found, said) in weights.iter().zip(&said) {
                    assert_eq!(found.len(), said.weights.len());
                    for (found, expected) in found.iter().zip(&said.weights) {
                        assert_tensors_close(
                            found,
                            expected,
                            if dtype == DType::F64 { 1e-12 } else { 1e-5 },
                        )?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_gradient_alone_is_written_where_it_belongs() -> Result<()> {
    let x = random(&MAPS[0], 1)?;
    for said in all(&x, Wanted::Both)? {
        for factor in [1.0, 3.0] {
            let (found, _) = total(&[(factor, Term::Pending(&said.pending))])?;
            let expected = sum::weighted(&[sum::Term::of(factor, &said.whole)])?;
            assert_eq!(values(&found)?, values(&expected)?);
        }
    }
    Ok(())
}

#[test]
fn any_number_of_threads_makes_the_same_bytes() -> Result<()> {
    let x = random(&MAPS[1], 1)?.to_dtype(DType::F32)?;
    assert_same_on_any_threads(|| {
        let bytes = || {
            let said = all(&x, Wanted::Both)?;
            let terms: Vec<_> = said.iter().map(|said| (1.0, Term::Pending(&said.pending))).collect();
            let (sum, weights) = total(&terms)?;
            weights.iter().flatten().chain([&sum]).map(values).collect::<Result<Vec<_>>>()
        };
        bytes().expect("shapes fit")
    });
    Ok(())
}

#[test]
fn terms_that_do_not_fit_are_refused() -> Result<()> {
    let refuses = |terms: &[(f64, Term<'_>)], message: &str| {
        let error = total(terms).expect_err("a faulty sum was taken");
        assert!(error.to_string().starts_with(message), "{error}");
    };
    refuses(&[], "found nothing to add");
    let said = of_pool(&random(&MAPS[0], 1)?, Pool::Max, 1)?;
    let pending = || (1.0, Term::Pending(&said.pending));
    refuses(&[pending(), (1.0, Term::Map(&random(&MAPS[1], 1)?))], "found terms of shapes");
    let single = Tensor::zeros(&MAPS[0], DType::F32, &Device::Cpu)?;
    refuses(&[(1.0, Term::Map(&single)), pending()], "found a pending gradient of another type");
    assert!(total(&[pending(), (1.0, Term::Map(&single))]).is_err());
    Ok(())
}
