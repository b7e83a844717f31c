//! The string of NAS-Bench-201, which its tables are asked with.

use std::io::Write;

use search_space::Genotype;

use crate::{Error, ModelCard};

/// Writes the string and a newline; the notation has no room for the card.
///
/// # Errors
/// The genotype is not one cell kind with a choice for every pair of nodes; the writer's.
///
/// # References
/// - Dong & Yang, *NAS-Bench-201*, 2020, §2, <https://arxiv.org/abs/2001.00326>
pub fn write(genotype: &Genotype, _card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    Ok(writeln!(out, "{}", genotype.to_nb201()?)?)
}
