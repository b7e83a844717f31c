//! What a pass is told about the edges.

use controller::Paths;
use search_space::Edge;

/// What runs on every edge, and how strongly every edge counts at its node.
#[derive(Clone, Copy, Debug)]
pub struct Routes<'a> {
    /// One entry per group of the layout.
    pub paths: &'a [Paths],
    /// By group and row; `None`: as the layout says, which is 1 but for inherited children.
    pub strengths: Option<&'a [Vec<f64>]>,
}

impl Routes<'_> {
    pub(crate) fn strength(&self, edge: &Edge) -> f64 {
        self.strengths.map_or(edge.strength, |strengths| strengths[edge.group][edge.row])
    }
}

impl<'a> From<&'a [Paths]> for Routes<'a> {
    fn from(paths: &'a [Paths]) -> Self {
        Self { paths, strengths: None }
    }
}

impl<'a> From<&'a Vec<Paths>> for Routes<'a> {
    fn from(paths: &'a Vec<Paths>) -> Self {
        Self { paths, strengths: None }
    }
}

impl<'a, const N: usize> From<&'a [Paths; N]> for Routes<'a> {
    fn from(paths: &'a [Paths; N]) -> Self {
        Self { paths, strengths: None }
    }
}
