//! The genotype as YAML, headed by what is known of it.

use std::io::Write;

use search_space::Genotype;

use crate::{Error, ModelCard};

/// Writes the genotype, with the card's metrics as comments above it.
///
/// # Errors
/// The writer's.
pub fn write(genotype: &Genotype, card: &ModelCard, out: &mut dyn Write) -> Result<(), Error> {
    for (name, value) in &card.metrics {
        writeln!(out, "# {}: {value}", name.replace(char::is_control, " "))?;
    }
    Ok(out.write_all(genotype.to_yaml().as_bytes())?)
}
