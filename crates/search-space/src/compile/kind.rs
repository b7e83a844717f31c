//! Cell kinds: their candidates, edges and outputs.

use std::ops::RangeInclusive;

use crate::{
    CellKind, KindEdge, OpSpec, Preprocess, Rule, Written,
    document::Field,
    fault::{At, excerpt},
    schema::{EdgeFile, KindFile, Logits, WordOr},
    space::Placed,
};

use super::{Compiler, Names, all, sound_or};

const NODES: RangeInclusive<usize> = 1..=32;
const MOST_KINDS: usize = 64;

impl Compiler<'_> {
    pub(super) fn kinds(
        &mut self,
        cells: &Field<Vec<Field<KindFile>>>,
        names: &Names<'_>,
        root: At,
    ) -> Option<Vec<CellKind>> {
        let list = cells.required("cells", root, self.faults)?;
        let at = cells.at()?;
        if list.is_empty() || list.len() > MOST_KINDS {
            self.faults.add(at, format!("{} cell kinds", list.len()), format!("expected 1 to {MOST_KINDS}"));
        }
        for (index, (name, at)) in
            names.0.iter().enumerate().filter_map(|(index, name)| Some((index, (*name)?)))
        {
            if names.0[..index].iter().flatten().any(|(earlier, _)| *earlier == name) {
                self.faults.add(at, format!("a second cell kind `{}`", excerpt(name)), "names must differ");
            }
        }
        all(list.iter().map(|kind| self.kind(kind)))
    }

    fn kind(&mut self, kind: &Field<KindFile>) -> Option<CellKind> {
        let (file, at) = kind.located()?;
        let name = self.name(&file.name, at);
        let inputs = self.number(&file.inputs, 1..=2, 1);
        let nodes = self.number(&file.nodes, NODES, 1);
        let shared = match file.candidates.at() {
            Some(_) => self.candidates(&file.candidates).map(Some),
            None => Some(None),
        };
        let edges = self.edges(file, at, inputs.zip(nodes), shared);
        let output = self.output(&file.output, inputs.zip(nodes));
        let preprocess = self.preprocess(&file.preprocess);
        let per_cell = sound_or(&file.logits, Logits::Shared).map(|logits| logits == Logits::PerCell);
        sound_or(&file.combine, Default::default())?;
        let (name, inputs, nodes) = (name?, inputs?, nodes?);
        let (edges, output, preprocess, per_cell) = (edges?, output?, preprocess?, per_cell?);
        let kind = CellKind { name, inputs, nodes, edges, output, per_cell, preprocess, at };
        self.connected(&kind, file.edges.at().unwrap_or(at), file.output.at().unwrap_or(at));
        Some(kind)
    }

    /// Resolved candidates with their places; at least one, none twice.
    fn candidates(&mut self, list: &Field<Vec<Field<Written>>>) -> Option<Vec<Placed>> {
        let (written, at) = list.located()?;
        let resolved: Vec<Option<Placed>> = written.iter().map(|one| self.resolve(one)).collect();
        for (index, placed) in resolved.iter().enumerate() {
            let Some(Placed { op, at }) = placed else { continue };
            if resolved[..index].iter().flatten().any(|earlier| earlier.op.label == op.label) {
                self.faults.add(*at, format!("candidate `{op}` listed twice"), "expected it once");
            }
        }
        if written.is_empty() {
            self.faults.add(at, "no candidates", "list at least one operation");
        }
        let placed = all(resolved.into_iter())?;
        if matches!(self.rule?, Rule::Top { .. }) && placed.iter().all(|placed| placed.op.is_none()) {
            self.faults.add(at, "no candidate but `none`", "a rule that drops `none` needs another one");
            return None;
        }
        Some(placed)
    }

    fn preprocess(&mut self, written: &Field<Written>) -> Option<Option<Preprocess>> {
        let Some(Placed { op: same, at }) = self.block(written)? else { return Some(None) };
        let reduce = self.words.resolve(&Written::Label("skip_connect".into()), self.rank?);
        let reduce = reduce.map_err(|error| self.faults.add(at, error.found, error.accepted)).ok()?;
        Some(Some(Preprocess { same, reduce }))
    }

    /// Edges by target, then source. `shared` are the kind's candidates: `Some(None)` where it lists none.
    fn edges(
        &mut self,
        file: &KindFile,
        owner: At,
        sizes: Option<(usize, usize)>,
        shared: Option<Option<Vec<Placed>>>,
    ) -> Option<Vec<KindEdge>> {
        if let Some((WordOr::Other(list), at)) = file.edges.located() {
            return self.listed_edges(list, at, sizes, &shared);
        }
        match file.edges.located() {
            Some((WordOr::Word(word), at)) if word != "all" => {
                let found = format!("edges `{}`", excerpt(word));
                self.faults.add(at, found, "expected `all` or a list of `{from, to, candidates}`");
                return None;
            }
            None if file.edges.at().is_some() => return None,
            _ => {}
        }
        file.candidates.required("candidates", owner, self.faults);
        let (inputs, nodes) = sizes?;
        let candidates = shared??;
        let pairs = (inputs..inputs + nodes).flat_map(|to| (0..to).map(move |from| (from, to)));
        Some(pairs.map(|(from, to)| edge(from, to, &candidates)).collect())
    }

    fn listed_edges(
        &mut self,
        list: &[Field<EdgeFile>],
        at: At,
        sizes: Option<(usize, usize)>,
        shared: &Option<Option<Vec<Placed>>>,
    ) -> Option<Vec<KindEdge>> {
        if list.is_empty() {
            self.faults.add(at, "no edges", "expected `all` or a list of `{from, to, candidates}`");
        }
        let edges: Vec<_> = list.iter().map(|one| self.listed_edge(one, sizes, shared)).collect();
        for (index, edge) in edges.iter().enumerate() {
            let Some(edge) = edge else { continue };
            let same = |other: &KindEdge| (other.from, other.to) == (edge.from, edge.to);
            if edges[..index].iter().flatten().any(same) {
                let found = format!("a second edge {}→{}", edge.from, edge.to);
                self.faults.add(list[index].at()?, found, "expected every pair of nodes once");
            }
        }
        let mut edges = all(edges.into_iter())?;
        edges.sort_by_key(|edge| (edge.to, edge.from));
        Some(edges)
    }

    fn listed_edge(
        &mut self,
        edge_field: &Field<EdgeFile>,
        sizes: Option<(usize, usize)>,
        shared: &Option<Option<Vec<Placed>>>,
    ) -> Option<KindEdge> {
        let (file, at) = edge_field.located()?;
        let from = file.from.required("from", at, self.faults).copied();
        let to = file.to.required("to", at, self.faults).copied();
        let candidates = match (file.candidates.at(), shared) {
            (Some(_), _) => self.candidates(&file.candidates),
            (None, Some(None)) => {
                self.faults.add(
                    at,
                    "an edge without candidates",
                    "list them here or for the whole cell kind",
                );
                None
            }
            (None, shared) => shared.clone().flatten(),
        };
        let (from, to, (inputs, nodes)) = (from?, to?, sizes?);
        let (last, found) = (inputs + nodes - 1, format!("edge {from}→{to}"));
        if !(inputs..=last).contains(&to) {
            let accepted = format!("it must lead to an intermediate node, {inputs} to {last}");
            self.faults.add(file.to.at()?, found, accepted);
            return None;
        }
        if from >= to {
            self.faults.add(at, format!("{found} runs backward"), "a node may read only earlier nodes");
            return None;
        }
        Some(edge(from, to, &candidates?))
    }

    fn output(
        &mut self,
        output: &Field<WordOr<Vec<Field<usize>>>>,
        sizes: Option<(usize, usize)>,
    ) -> Option<Vec<usize>> {
        let Some((written, at)) = output.located() else {
            return sound_or(output, WordOr::Word(String::new())).and(sizes).map(|(i, n)| vec![i + n - 1]);
        };
        let list = match written {
            WordOr::Word(word) if word == "last" => {
                return sizes.map(|(inputs, nodes)| vec![inputs + nodes - 1]);
            }
            WordOr::Word(word) if word == "all" => {
                return sizes.map(|(inputs, nodes)| (inputs..inputs + nodes).collect());
            }
            WordOr::Other(list) if !list.is_empty() => list,
            _ => {
                self.faults.add(at, "no such output", "accepted: last, all, or a list of intermediate nodes");
                return None;
            }
        };
        let (inputs, nodes) = sizes?;
        let mut chosen = Vec::new();
        for node in list {
            let (&node, at) = node.located()?;
            if !(inputs..inputs + nodes).contains(&node) || chosen.contains(&node) {
                let accepted =
                    format!("expected intermediate nodes, {inputs} to {}, each once", inputs + nodes - 1);
                self.faults.add(at, format!("output node {node}"), accepted);
            }
            chosen.push(node);
        }
        Some(chosen)
    }

    /// Every intermediate node is reached by an edge, and reaches the output.
    fn connected(&mut self, kind: &CellKind, edges_at: At, output_at: At) {
        let nodes = kind.inputs..kind.inputs + kind.nodes;
        if let Some(node) = nodes.clone().find(|node| !kind.edges.iter().any(|edge| edge.to == *node)) {
            let found = format!("node {node} of `{}`, which no edge reaches", kind.name);
            return self.faults.add(edges_at, found, format!("expected an edge to {node}"));
        }
        let leads =
            |node: &usize| kind.output.contains(node) || kind.edges.iter().any(|edge| edge.from == *node);
        if let Some(node) = nodes.clone().find(|node| !leads(node)) {
            let found = format!("node {node} of `{}`, which leads nowhere", kind.name);
            self.faults.add(output_at, found, format!("expected an edge from {node}, or {node} in `output`"));
        }
    }
}

fn edge(from: usize, to: usize, candidates: &[Placed]) -> KindEdge {
    let (ops, places): (Vec<OpSpec>, Vec<At>) =
        candidates.iter().map(|placed| (placed.op.clone(), placed.at)).unzip();
    KindEdge { from, to, candidates: ops, places }
}
