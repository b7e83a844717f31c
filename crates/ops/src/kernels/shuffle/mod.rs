//! Partial channels put back together: one part that was computed, the rest that passed by, and the channels shuffled.

mod cpu;
#[cfg(any(feature = "cuda", feature = "emulate"))]
mod cuda;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use super::{
    gpu::on_gpu,
    map::Map,
    values::{Values, dense, expect_dims, for_stored, tensor},
};

/// Joins `part` `(N, …, c)` and `rest` `(N, …, (parts − 1)·c)` along the channels and takes one channel of each part in turn:
/// `(N, …, parts·c)`, of which channel `i·parts + j` is channel `j·c + i` of the joined (ShuffleNet's shuffle with `parts`
/// groups; Zhang et al., 2018, <https://arxiv.org/abs/1707.01083>).
///
/// # Errors
/// Shapes or types do not fit.
pub fn join(part: &Tensor, rest: &Tensor, parts: usize) -> Result<Tensor> {
    let map = Map::of(part.dims())?;
    let (c, all) = (map.c, Map { c: map.c * parts, ..map });
    expect_dims("channels that pass by", rest, &Map { c: c * parts.saturating_sub(1), ..map }.dims())?;
    on_gpu!(part, gpu => cuda::join(&gpu, part, rest, parts, &all));
    let (part, rest) = (dense(part)?, dense(rest)?);
    for_stored!(part, M => tensor(cpu::join::<M>(&Values::of(&part)?, &Values::of(&rest)?, c, parts), &all.dims()))
}

/// Undoes [`join`]: `(part, rest)` of `y` `(N, …, parts·c)`. It is its gradient, too.
///
/// # Errors
/// `parts` does not divide the channels, or the type does not fit.
pub fn separate(y: &Tensor, parts: usize) -> Result<(Tensor, Tensor)> {
    let all = Map::of(y.dims())?;
    if parts < 2 || !all.c.is_multiple_of(parts) {
        bail!("found {} channels in {parts} parts, expected two parts or more, and equal ones", all.c);
    }
    let c = all.c / parts;
    let [one, others] = [c, all.c - c].map(|c| Map { c, ..all }.dims());
    on_gpu!(y, gpu => cuda::separate(&gpu, y, parts, [&one, &others]));
    let y = dense(y)?;
    for_stored!(y, M => {
        let y = Values::<M>::of(&y)?;
        Ok((tensor(cpu::part(&y, c, parts), &one)?, tensor(cpu::rest(&y, c, parts), &others)?))
    })
}
