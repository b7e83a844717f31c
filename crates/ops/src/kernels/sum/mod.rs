//! Sums and multiples of whole tensors, and their channels side by side.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(in crate::kernels) mod cuda;
mod term;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

pub(in crate::kernels) use cpu::add_terms;
pub use term::Term;

use super::{
    Isa,
    gpu::on_gpu,
    later::Later,
    map::Map,
    values::{Values, dense, expect_dims, for_stored, same_shape, tensor},
};

/// `a + b`, of one shape.
///
/// # Errors
/// Shapes or types do not fit.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    same_shape(a, b)?;
    on_gpu!(a, gpu => cuda::weighted(&gpu, &[Term::of(1.0, a), Term::of(1.0, b)]));
    let dims = a.dims();
    let (a, b) = (dense(a)?, dense(b)?);
    for_stored!(a, M => tensor(cpu::add::<M>(Isa::detect(), &Values::of(&a)?, &Values::of(&b)?), dims))
}

/// The terms of one shape, added in order, in one pass.
///
/// # Errors
/// There is none, or shapes or types do not fit.
pub fn weighted(terms: &[Term<'_>]) -> Result<Tensor> {
    let Some(first) = terms.first() else { bail!("found nothing to add, expected one term or more") };
    let (dims, c) = (first.x.dims(), first.x.dims().last().copied().unwrap_or(1));
    for term in terms {
        same_shape(first.x, term.x)?;
    }
    on_gpu!(first.x, gpu => cuda::weighted(&gpu, terms));
    let xs = terms.iter().map(|term| dense(term.x)).collect::<Result<Vec<_>>>()?;
    for_stored!(first.x, M, T => {
        let values = xs.iter().map(Values::of).collect::<Result<Vec<Values<'_, M>>>>()?;
        let addends = terms.iter().zip(&values).map(|(term, x)| {
            let channels = term.norm.map(|norm| norm.channels::<T>(c)).transpose()?;
            Ok(cpu::Addend::new(term.factor, x, channels))
        });
        tensor(cpu::weighted(Isa::detect(), &addends.collect::<Result<Vec<_>>>()?, c), dims)
    })
}

/// `acc + s·x`, of one shape.
///
/// # Errors
/// Shapes or types do not fit.
pub fn add_scaled(acc: Tensor, s: f64, x: &Tensor) -> Result<Tensor> {
    same_shape(&acc, x)?;
    on_gpu!(x, gpu => cuda::weighted(&gpu, &[Term::of(1.0, &acc), Term::of(s, x)]));
    let (a, x) = (dense(&acc)?, dense(x)?);
    for_stored!(a, M => tensor(cpu::add_scaled::<M>(Isa::detect(), &Values::of(&a)?, s, &Values::of(&x)?), acc.dims()))
}

/// `s·x`.
///
/// # Errors
/// The elements are not `f32`, `f64` or `bf16`.
pub fn scale(x: &Tensor, s: f64) -> Result<Tensor> {
    on_gpu!(x, gpu => cuda::weighted(&gpu, &[Term::of(s, x)]));
    let dims = x.dims();
    let x = dense(x)?;
    for_stored!(x, M => tensor(cpu::scale::<M>(Isa::detect(), &Values::of(&x)?, s), dims))
}

/// [`dot`] without waiting for the device.
///
/// # Errors
/// Shapes or types do not fit.
pub fn dot_later(a: &Tensor, b: &Tensor) -> Result<Later> {
    same_shape(a, b)?;
    on_gpu!(a, gpu => Ok(Later::OnDevice(cuda::dot(&gpu, a, b)?)));
    Ok(Later::Known(dot(a, b)?))
}

/// `Σ aᵢ·bᵢ`, accumulated in `f64`.
///
/// # Errors
/// Shapes or types do not fit.
pub fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    same_shape(a, b)?;
    on_gpu!(a, gpu => Later::OnDevice(cuda::dot(&gpu, a, b)?).get()); // waits for the device
    let (a, b) = (dense(a)?, dense(b)?);
    for_stored!(a, M => Ok(cpu::dot::<M>(Isa::detect(), &Values::of(&a)?, &Values::of(&b)?)))
}

/// Sample `n` of `x` `(N, …)` times `factors[n]`.
///
/// # Errors
/// There is not one factor per sample, or types do not fit.
pub fn scale_samples(x: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let dims = x.dims();
    if dims.first() != Some(&factors.len()) {
        bail!("found {} factors for shape {dims:?}, expected one per sample", factors.len());
    }
    on_gpu!(x, gpu => cuda::scale_samples(&gpu, x, factors));
    let x = dense(x)?;
    for_stored!(x, M => tensor(cpu::scale_samples::<M>(Isa::detect(), &Values::of(&x)?, factors), dims))
}

/// Joins tensors along the last axis.
///
/// # Errors
/// There is none, or they differ in another axis or in type.
pub fn concat_channels(parts: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!("found nothing to join, expected one tensor or more") };
    let mut map = Map::of(first.dims())?;
    let widths = parts.iter().map(|part| Ok(Map::of(part.dims())?.c)).collect::<Result<Vec<_>>>()?;
    for (part, &c) in parts.iter().zip(&widths) {
        expect_dims("channels to join", part, &Map { c, ..map }.dims())?;
    }
    map.c = widths.iter().sum();
    on_gpu!(first, gpu => cuda::concat(&gpu, parts, &widths, &map));
    let parts = parts.iter().map(|part| dense(part)).collect::<Result<Vec<_>>>()?;
    for_stored!(first, M => {
        let parts = parts.iter().map(Values::of).collect::<Result<Vec<Values<'_, M>>>>()?;
        let parts: Vec<&[M]> = parts.iter().map(|part| &**part).collect();
        tensor(cpu::concat(&parts, &widths), &map.dims())
    })
}

/// [`concat_channels`]; a tensor that is alone is itself.
///
/// # Errors
/// As there.
pub fn join(parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [only] => Ok(only.clone()),
        _ => concat_channels(&parts.iter().collect::<Vec<_>>()),
    }
}

/// Undoes [`join`] of `n` tensors as wide as each other.
///
/// # Errors
/// The channels are no multiple of `n`, or the type does not fit.
pub fn separate(x: &Tensor, n: usize) -> Result<Vec<Tensor>> {
    if n == 1 {
        return Ok(vec![x.clone()]);
    }
    split_channels(x, &vec![Map::of(x.dims())?.c / n; n])
}

/// `maps` where they are several, the only one [separated](separate) into `n`: what walks back to maps side by side, whether it
/// found them so or joined.
///
/// # Errors
/// As of [`separate`].
pub fn apart(maps: Vec<Tensor>, n: usize) -> Result<Vec<Tensor>> {
    match &maps[..] {
        [joined] => separate(joined, n),
        _ => Ok(maps),
    }
}

/// Cuts the last axis of `x` into parts of `widths` channels, which add up to all.
///
/// # Errors
/// They do not, or the type does not fit.
pub fn split_channels(x: &Tensor, widths: &[usize]) -> Result<Vec<Tensor>> {
    let map = Map::of(x.dims())?;
    if widths.iter().sum::<usize>() != map.c {
        bail!("found parts of {widths:?} channels, expected {} in all", map.c);
    }
    on_gpu!(x, gpu => cuda::split(&gpu, x, widths, &map));
    let x = dense(x)?;
    for_stored!(x, M => {
        let x = Values::<M>::of(&x)?;
        let firsts = widths.iter().scan(0, |next, c| Some(std::mem::replace(next, *next + c)));
        firsts
            .zip(widths)
            .map(|(first, &c)| tensor(cpu::columns(&x, map.c, first, c), &Map { c, ..map }.dims()))
            .collect()
    })
}

/// Whether no element is infinite or NaN.
///
/// # Errors
/// The elements are not `f32`, `f64` or `bf16`.
pub fn is_finite(x: &Tensor) -> Result<bool> {
    // Zero times each element: the sum is 0 or NaN. (It waits for the device; only diagnoses ask.)
    on_gpu!(x, gpu => Ok(!Later::OnDevice(cuda::dot(&gpu, x, &x.zeros_like()?)?).get()?.is_nan()));
    let x = dense(x)?;
    for_stored!(x, M => Ok(cpu::is_finite::<M>(Isa::detect(), &Values::of(&x)?)))
}
