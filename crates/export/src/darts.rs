//! The tuples of DARTS, which its `genotypes.py` and those of its kin take as a line.

use std::io::Write;

use search_space::Genotype;

use crate::{Error, ModelCard};

/// Writes the tuples and a newline; the notation has no room for the card.
///
/// # Errors
/// The genotype is not of two kinds, normal and reduce, with equally many edges into every node; the writer's.
///
/// # References
/// - Liu, Simonyan & Yang, *DARTS: Differentiable Architecture Search*, 2019, <https://arxiv.org/abs/1806.09055>
pub fn write(genotype: &Genotype, _card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    Ok(writeln!(out, "{}", genotype.to_darts()?)?)
}
