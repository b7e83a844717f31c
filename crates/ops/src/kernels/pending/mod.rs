//! Gradients that are made where they are added up.
//!
//! Several edges read one map, and what each says of it is only ever added to what the others say. Written for itself, each of
//! these gradients goes to memory and comes back. A [`Pending`] keeps what its operation would write it from, and [`total`]
//! has all of them make the same few images, one after the other, and adds these up while they lie in the caches: the sum is
//! all that is written, and the map that all of them read comes from memory once.

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    fmt,
    sync::{Mutex, PoisonError},
};

use candle_core::{DType, Result, Tensor, bail};

use super::{
    Isa,
    element::Stored,
    gpu::on_gpu,
    map::Map,
    stored::computed,
    sum,
    threads::{Scratch, images_per_piece, overwrite, piece},
    values::{Values, dense, for_stored, tensor},
};

/// A gradient at a map, not made yet.
pub struct Pending {
    /// Of the map.
    dims: Vec<usize>,
    /// Of its elements.
    dtype: DType,
    /// A `Box<dyn Maker<M>>` for the element type of the map.
    maker: Box<dyn Any + Send>,
}

/// What is added up.
#[derive(Debug)]
pub enum Term<'a> {
    /// A map that is there.
    Map(&'a Tensor),
    /// One that is to be made.
    Pending(&'a Pending),
}

/// What can make a gradient.
pub(in crate::kernels) trait Maker<M: Stored>: Send {
    /// Gets ready for pieces of so many images, has `then` write each of them once, and returns the gradients of the weights.
    fn make(&self, images: usize, then: Then<'_, M>) -> Result<Vec<Tensor>>;
}

/// What is done with pieces that are ready to be written.
pub(in crate::kernels) type Then<'a, M> = &'a mut dyn FnMut(&dyn Pieces<M>) -> Result<()>;

/// A gradient that is ready to be written piece by piece.
pub(in crate::kernels) trait Pieces<M: Stored>: Sync {
    /// Element operations in all.
    fn work(&self) -> usize;

    /// Writes all of piece `i`.
    fn write(&self, i: usize, gx: &mut [M]);
}

/// Pieces, and what writing each of them returned.
struct Written<W, R> {
    work: usize,
    write: W,
    returned: Vec<Mutex<Option<R>>>,
}

impl<M: Stored, R: Send, W: Fn(usize, &mut [M]) -> R + Sync> Pieces<M> for Written<W, R> {
    fn work(&self) -> usize {
        self.work
    }

    fn write(&self, i: usize, gx: &mut [M]) {
        let returned = (self.write)(i, gx);
        *self.returned[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
    }
}

/// Hands `n` pieces over, and returns what writing each of them returned, in order; `work` counts element operations in all.
pub(in crate::kernels) fn hand_over<M: Stored, R: Send>(
    n: usize,
    work: usize,
    write: impl Fn(usize, &mut [M]) -> R + Sync,
    then: Then<'_, M>,
) -> Result<Vec<R>> {
    let pieces = Written { work, write, returned: (0..n).map(|_| Mutex::new(None)).collect() };
    then(&pieces)?;
    let returned = pieces.returned.into_iter();
    let returned = returned.map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(returned.map(|returned| returned.expect("every piece was written")).collect())
}

/// Elements from which on a map lies beyond second-level caches. One that fits them costs little to write and to read again,
/// while as many operations, piece after piece, take each other's weights from the caches.
const FAR: usize = 1 << 18;

/// Weights of the largest operation that pays: larger ones take each other's from the caches.
const WEIGHTS: usize = 1 << 14;

/// Whether it pays to leave the gradient at a map of these dimensions pending, of an operation with so many weights, whose `near`
/// lies where the map does: not on a GPU, where kernels of several edges run at once.
#[must_use]
pub fn pays(dims: &[usize], weights: usize, near: &Tensor) -> bool {
    on_gpu!(near, _gpu => false);
    near.device().is_cpu() && dims.iter().product::<usize>() >= FAR && weights <= WEIGHTS
}

impl Pending {
    pub(in crate::kernels) fn new<M: Stored>(dims: &[usize], maker: impl Maker<M> + 'static) -> Self {
        Self { dims: dims.to_vec(), dtype: M::DTYPE, maker: Box::new(Box::new(maker) as Box<dyn Maker<M>>) }
    }

    fn maker<M: Stored>(&self) -> Result<&dyn Maker<M>> {
        match self.maker.downcast_ref::<Box<dyn Maker<M>>>() {
            Some(maker) => Ok(&**maker),
            None => bail!("found a pending gradient of another type than {:?}", M::DTYPE),
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("dims", &self.dims).finish_non_exhaustive()
    }
}

impl Term<'_> {
    fn dims(&self) -> &[usize] {
        match self {
            Self::Map(map) => map.dims(),
            Self::Pending(pending) => &pending.dims,
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Map(map) => map.dtype(),
            Self::Pending(pending) => pending.dtype,
        }
    }
}

/// `Σ factor·term` of terms of one shape and type, those that are pending first; and the gradients of the weights of each of
/// these, without its factor, in order.
///
/// # Errors
/// There is no term, or shapes or types do not fit.
pub fn total(terms: &[(f64, Term<'_>)]) -> Result<(Tensor, Vec<Vec<Tensor>>)> {
    let Some((_, first)) = terms.first() else { bail!("found nothing to add, expected one term or more") };
    let dims = first.dims();
    if let Some((_, other)) = terms.iter().find(|(_, term)| term.dims() != dims) {
        bail!("found terms of shapes {dims:?} and {:?}, expected the same", other.dims());
    }
    let maps = terms.iter().map(|(factor, term)| match term {
        Term::Map(map) => Some(sum::Term::of(*factor, map)),
        Term::Pending(_) => None,
    });
    if let Some(maps) = maps.collect::<Option<Vec<_>>>() {
        return Ok((sum::weighted(&maps)?, Vec::new()));
    }
    for_stored!(first, M => made::<M>(dims, terms))
}

/// [`total`], where some are pending.
fn made<M: Stored>(dims: &[usize], terms: &[(f64, Term<'_>)]) -> Result<(Tensor, Vec<Vec<Tensor>>)> {
    let (mut makers, mut maps) = (Vec::new(), Vec::new());
    for (factor, term) in terms {
        match term {
            Term::Map(map) => maps.push((*factor, dense(map)?)),
            Term::Pending(pending) => makers.push((*factor, pending.maker::<M>()?)),
        }
    }
    let values = maps.iter().map(|(factor, map)| Ok((*factor, Values::of(map)?)));
    let values = values.collect::<Result<Vec<(f64, Values<'_, M>)>>>()?;
    let there: Vec<_> = values.iter().map(|(factor, x)| (*factor, &**x)).collect();
    let map = Map::of(dims)?;
    let images = images_per_piece(map.n, map.image());
    let mut sum = None;
    let weights = all_ready(&makers, images, &[], &mut |ready| {
        sum = Some(tensor(added(ready, &there, map, images), dims)?);
        Ok(())
    })?;
    match sum {
        Some(sum) => Ok((sum, weights)),
        None => bail!("a pending gradient was not made"),
    }
}

/// Pieces that are ready to be written, and how often they count.
type Ready<'a, M> = (f64, &'a dyn Pieces<M>);

/// Gets all makers ready, one inside the other's call; innermost, calls `then` once with the pieces of all, behind those that are
/// `ready` already. Returns the gradients of each maker's weights.
fn all_ready<M: Stored>(
    makers: &[(f64, &dyn Maker<M>)],
    images: usize,
    ready: &[Ready<'_, M>],
    then: &mut dyn FnMut(&[Ready<'_, M>]) -> Result<()>,
) -> Result<Vec<Vec<Tensor>>> {
    let Some(((factor, first), others)) = makers.split_first() else {
        return then(ready).map(|()| Vec::new());
    };
    let mut of_others = Vec::new();
    let of_first = first.make(images, &mut |pieces| {
        let ready: Vec<_> = ready.iter().copied().chain([(*factor, pieces)]).collect();
        of_others = all_ready(others, images, &ready, then)?;
        Ok(())
    })?;
    Ok(std::iter::once(of_first).chain(of_others).collect())
}

/// The sum, piece by piece of so many images: what is made in order, then what is there.
fn added<M: Stored>(made: &[Ready<'_, M>], there: &[(f64, &[M])], map: Map, images: usize) -> Vec<M> {
    let (isa, len, scratch) = (Isa::detect(), images * map.image(), Scratch::new());
    let work = there.len() * map.len() + made.iter().map(|(_, pieces)| pieces.work()).sum::<usize>();
    // The sum begins where it will stay, unless its first term does not count once, or it would be rounded at every term.
    let in_place =
        |factor: f64| factor == 1.0 && (M::as_real(&[]).is_some() || made.len() + there.len() == 1);
    let (begin, made) = match made {
        [(factor, first), made @ ..] if in_place(*factor) => (Some(first), made),
        _ => (None, made),
    };
    overwrite(map.len(), len, work, |i, gx: &mut [M]| {
        if let Some(first) = begin {
            first.write(i, gx);
        }
        if made.is_empty() && there.is_empty() {
            return;
        }
        let mut begun = begin.is_some();
        let there = there.iter().map(|&(factor, x)| (factor, piece(x, i, len)));
        let len = gx.len();
        computed(gx, |sum| {
            let mut add = |terms: &[(f64, &[M])]| {
                sum::add_terms(isa, terms, !begun, sum);
                begun = true;
            };
            let Some(((last_factor, last), made)) = made.split_last() else {
                return add(&there.collect::<Vec<_>>());
            };
            scratch.lend(len, |memory| {
                for (factor, pieces) in made {
                    pieces.write(i, memory);
                    add(&[(*factor, memory)]);
                }
                last.write(i, memory);
                let mut last: Vec<(f64, &[M])> = vec![(*last_factor, memory)];
                there.for_each(|(factor, x)| last.push((factor, x)));
                add(&last);
            });
        });
    })
}
