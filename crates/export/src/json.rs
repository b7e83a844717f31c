//! The genotype as JSON.

use std::io::Write;

use search_space::Genotype;

use crate::{Error, ModelCard};

/// Writes the genotype on one line; JSON has no comments for the card.
///
/// # Errors
/// The writer's.
pub fn write(genotype: &Genotype, _card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    Ok(writeln!(out, "{}", genotype.to_json())?)
}
