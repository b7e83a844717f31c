//! A derived network: one operation an edge.

use candle_core::{DType, Device, Tensor};
use controller::Paths;
use ops::{Backward, Catalog, Forward, ParamBuilder, ParamStore};
use rand_chacha::ChaCha8Rng;
use search_space::{Block, Layout};

use crate::{
    Error, Logits, Place, Purpose, Trace,
    backward::WalkBack,
    forward::Walk,
    graph::{Graph, edge_place},
    supernet::culprit,
};

/// The network of one genotype.
pub struct Network {
    pub(crate) graph: Graph,
    /// One entry per group of the layout: every row takes its only candidate.
    paths: Vec<Paths>,
}

impl Network {
    /// Builds the child that `layout` describes (see `Layout::child`), with fresh weights drawn from `rng` in the
    /// order of construction.
    ///
    /// # Errors
    /// An edge has more than one candidate, or the catalog cannot build an operation at its site.
    pub fn new(
        layout: Layout,
        catalog: &Catalog,
        dtype: DType,
        device: &Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Self, ParamStore), Error> {
        let paths = only_paths(&layout)?;
        let mut store = ParamStore::new(dtype, device);
        let graph = Graph::build(layout, catalog, &mut ParamBuilder::new(&mut store, rng))?;
        Ok((Self { graph, paths }, store))
    }

    /// The plan it was built from.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.graph.layout
    }

    /// The logits of a batch `x` (`(N, H, W, C)`, `(N, L, C)` or `(N, C)`); those of the auxiliary head too in a
    /// weight step. `drop_path` in [0, 1) is the probability with which each example loses each edge's output
    /// (identities excepted); it is 0 outside training.
    ///
    /// # Errors
    /// Shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        drop_path: f64,
        purpose: Purpose,
        pass: &mut Forward<'_>,
    ) -> Result<(Logits, Trace), Error> {
        Walk { drop_path, ..Walk::new(pass, purpose) }.run(&self.graph, x, (&self.paths).into())
    }

    /// Walks back from the logits' gradients and fills `pass.gradients`.
    ///
    /// # Errors
    /// The trace is that of an evaluation, or shapes do not fit.
    pub fn backward(
        &self,
        trace: Trace,
        main: &Tensor,
        auxiliary: Option<&Tensor>,
        pass: &mut Backward<'_>,
    ) -> Result<(), Error> {
        WalkBack::new(pass).run(&self.graph, trace, main, auxiliary)
    }

    /// The first operation whose output is not finite, found by one more forward pass.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn diagnose(&self, x: &Tensor, pass: &mut Forward<'_>) -> Result<Option<Place>, Error> {
        let walk = Walk { watch: true, ..Walk::new(pass, Purpose::Evaluate) };
        culprit(walk.run(&self.graph, x, (&self.paths).into()))
    }
}

/// Copies to `child` every weight and running statistic that `parent` has under the same name, and says how many
/// weights found theirs.
///
/// Weights are named by cell, edge and operation, so a child laid out with the search's settings finds all of its own
/// in its supernet.
///
/// # Errors
/// Two tensors of one name have different shapes.
pub fn inherit(child: &mut ParamStore, parent: &ParamStore) -> Result<usize, Error> {
    let weights: Vec<_> = child
        .weights()
        .filter_map(|(id, name, _)| Some((id, parent.weight(parent.find(name)?).clone())))
        .collect();
    let stats: Vec<_> = child
        .all_stats()
        .filter_map(|(id, name, _)| Some((id, parent.stats(parent.find_stats(name)?).clone())))
        .collect();
    let found = weights.len();
    for (id, value) in weights {
        let expected = child.weight(id).dims();
        if expected != value.dims() {
            let name = child.weights().find(|(known, ..)| *known == id).map_or("", |(_, name, _)| name);
            let (found, expected) = (value.dims().to_vec(), expected.to_vec());
            return Err(Error::Inherited { name: name.to_owned(), found, expected });
        }
        child.set_weight(id, value)?;
    }
    for (id, value) in stats {
        child.set_stats(id, value)?;
    }
    Ok(found)
}

/// Index 0 for every row of every group that an edge refers to.
fn only_paths(layout: &Layout) -> Result<Vec<Paths>, Error> {
    let mut rows = vec![0; layout.groups.len()];
    for cell in layout.blocks.iter().filter_map(|block| match block {
        Block::Cell(cell) => Some(cell),
        Block::Fixed { .. } => None,
    }) {
        for edge in &cell.edges {
            let [_only] = &edge.candidates[..] else {
                let place = match edge.candidates.first() {
                    Some(op) => edge_place(cell, edge, op),
                    None => Place::Head,
                };
                return Err(Error::NotDerived { place, candidates: edge.candidates.len() });
            };
            if rows.len() <= edge.group {
                rows.resize(edge.group + 1, 0);
            }
            rows[edge.group] = rows[edge.group].max(edge.row + 1);
        }
    }
    Ok(rows.into_iter().map(|rows| Paths::Single(vec![0; rows])).collect())
}
