//! From a supernet's layout to a child's: one candidate an edge, the rest gone.

use crate::{Block, Cell, CellGenotype, Edge, Genotype, Layout};

/// Why a genotype does not fit: `place: found; accepted`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {found}; {accepted}")]
pub struct GenotypeError {
    /// Where in the genotype: `normal, edge 0→2`.
    pub place: String,
    /// What was found.
    pub found: String,
    /// What would be accepted.
    pub accepted: String,
}

impl GenotypeError {
    pub(crate) fn new(
        place: impl Into<String>,
        found: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), found: found.into(), accepted: accepted.into() }
    }
}

impl Layout {
    /// The network that `genotype` makes of this layout: every edge it lists keeps the one candidate it names; edges
    /// it does not list, or for which it names `none`, vanish. A child has no choices left: [`Layout::groups`] is empty.
    /// With [partial channels](Layout::partial) an edge of `none` stays: it carries what passes by.
    ///
    /// # Errors
    /// The genotype is of another space or version, lacks a cell, or names an edge, a candidate or an output that the
    /// layout does not have.
    pub fn child(&self, genotype: &Genotype) -> Result<Self, GenotypeError> {
        genotype.check_version()?;
        if genotype.space != self.space {
            let found = format!("a genotype of the space `{}`", genotype.space);
            return Err(GenotypeError::new("space", found, format!("expected one of `{}`", self.space)));
        }
        let cells: Vec<&Cell> = self.blocks.iter().filter_map(Block::cell).collect();
        for entry in &genotype.cells {
            let stands = |index: usize| cells.get(index).is_some_and(|cell| cell.name == entry.kind);
            if let Some(index) = entry.cell.filter(|index| !stands(*index)) {
                let found = format!("cell {index} of kind `{}`", entry.kind);
                return Err(GenotypeError::new(
                    "cells",
                    found,
                    format!("the network has {} cells", cells.len()),
                ));
            }
        }
        let blocks: Result<_, _> = self.blocks.iter().map(|block| block.child(genotype)).collect();
        Ok(Self { blocks: blocks?, groups: Vec::new(), ..self.clone() })
    }
}

impl Block {
    fn child(&self, genotype: &Genotype) -> Result<Self, GenotypeError> {
        match self {
            Self::Cell(cell) => Ok(Self::Cell(cell.child(genotype.of(cell)?)?)),
            Self::Fixed { .. } => Ok(self.clone()),
        }
    }
}

impl Cell {
    fn child(&self, genotype: &CellGenotype) -> Result<Self, GenotypeError> {
        if genotype.output != self.output {
            let found = format!("output {:?}", genotype.output);
            return Err(GenotypeError::new(&self.name, found, format!("expected {:?}", self.output)));
        }
        let mut edges = Vec::new();
        for (index, chosen) in genotype.edges.iter().enumerate() {
            let (from, to) = (chosen.from, chosen.to);
            let place = format!("{}, edge {from}→{to}", self.name);
            if genotype.edges[..index].iter().any(|earlier| (earlier.from, earlier.to) == (from, to)) {
                return Err(GenotypeError::new(place, "chosen twice", "expected one choice an edge"));
            }
            let Some(edge) = self.edges.iter().find(|edge| (edge.from, edge.to) == (from, to)) else {
                let known: Vec<_> =
                    self.edges.iter().map(|edge| format!("{}→{}", edge.from, edge.to)).collect();
                return Err(GenotypeError::new(
                    place,
                    "no such edge",
                    format!("accepted: {}", known.join(", ")),
                ));
            };
            edges.extend(edge.keeping(&chosen.op, place)?);
        }
        edges.sort_by_key(|edge| (edge.to, edge.from));
        Ok(Self { edges, ..self.clone() })
    }
}

impl Edge {
    /// The edge with one candidate; nothing if that is `none`, unless some channels pass by it.
    fn keeping(&self, label: &str, place: String) -> Result<Option<Self>, GenotypeError> {
        let Some(op) = self.candidates.iter().find(|op| op.label == label) else {
            let labels: Vec<&str> = self.candidates.iter().map(|op| op.label.as_str()).collect();
            let accepted = crate::fault::suggestion(label, labels);
            let found = format!("no candidate `{}`", crate::fault::excerpt(label));
            return Err(GenotypeError::new(place, found, accepted));
        };
        let kept = Self { candidates: vec![op.clone()], group: 0, row: 0, ..self.clone() };
        Ok((!op.is_none() || self.partial > 1).then_some(kept))
    }
}
