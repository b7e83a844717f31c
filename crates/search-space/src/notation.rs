//! Genotypes in the notations of the literature: NAS-Bench-201's string and DARTS's tuples.

use std::fmt::Write;

use crate::{CellGenotype, CellKind, Chosen, Genotype, GenotypeError, Rule, Space, fault::excerpt};

/// The names DARTS gives its two cell kinds.
const DARTS_KINDS: [&str; 2] = ["normal", "reduce"];

/// A way to write a genotype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Ours: YAML, of which JSON is a part.
    Strait,
    /// The string of NAS-Bench-201.
    Nb201,
    /// The tuple of DARTS.
    Darts,
}

impl Notation {
    /// The notation that `text` begins in: `|` opens NAS-Bench-201's string, `Genotype(` DARTS's tuple.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = text.trim_start();
        let is_tuple = text.strip_prefix("Genotype").is_some_and(|rest| rest.trim_start().starts_with('('));
        match text.starts_with('|') {
            true => Self::Nb201,
            false if is_tuple => Self::Darts,
            false => Self::Strait,
        }
    }

    /// The shipped space that a text of this notation means unless another is named; ours names its own.
    #[must_use]
    pub fn home(self) -> Option<&'static str> {
        match self {
            Self::Strait => None,
            Self::Nb201 => Some("nas-bench-201"),
            Self::Darts => Some("darts"),
        }
    }
}

impl Genotype {
    /// Reads a genotype of `space` in any notation.
    ///
    /// # Errors
    /// The text does not follow its notation, or the space's cells are others.
    pub fn parse(text: &str, space: &Space) -> Result<Self, GenotypeError> {
        match Notation::of(text) {
            Notation::Strait => Self::from_yaml(text),
            Notation::Nb201 => Self::from_nb201(text, space),
            Notation::Darts => Self::from_darts(text, space),
        }
    }

    /// The string of NAS-Bench-201, for example `|nor_conv_3x3~0|+|skip_connect~0|none~1|`: for every node in turn,
    /// every edge into it (Dong & Yang, 2020, §2).
    ///
    /// # Errors
    /// The genotype is not of one cell kind with one input and a choice on every edge.
    pub fn to_nb201(&self) -> Result<String, GenotypeError> {
        let expected = "expected one cell kind, with a choice for every pair of nodes";
        let [cell] = self.cells.as_slice() else {
            return Err(GenotypeError::new("cells", format!("{} entries", self.cells.len()), expected));
        };
        let (mut text, cell) = (String::new(), cell.clone().sorted());
        let mut edges = cell.edges.iter();
        for to in 1..=cell.edges.last().map_or(0, |chosen| chosen.to) {
            text.push_str(if to == 1 { "|" } else { "+|" });
            for from in 0..to {
                let Some(chosen) = edges.next().filter(|chosen| (chosen.from, chosen.to) == (from, to))
                else {
                    let place = format!("{}, edge {from}→{to}", cell.kind);
                    return Err(GenotypeError::new(place, "no choice", expected));
                };
                write!(text, "{}~{from}|", chosen.op).expect("a string takes all text");
            }
        }
        Ok(text)
    }

    /// Reads the string of NAS-Bench-201 as a genotype of `space`, whose only cell kind it describes.
    ///
    /// # Errors
    /// The text does not follow the notation, or the space's cell is another.
    pub fn from_nb201(text: &str, space: &Space) -> Result<Self, GenotypeError> {
        let [kind @ CellKind { inputs: 1, per_cell: false, .. }] = space.kinds() else {
            let found = format!("the space `{}`", space.name());
            return Err(GenotypeError::new(
                "space",
                found,
                "expected one cell kind of one input, with shared logits",
            ));
        };
        let mut edges = Vec::new();
        let nodes: Vec<&str> = text.trim().split('+').collect();
        for (to, node) in (1..).zip(&nodes) {
            let inner = node.strip_prefix('|').and_then(|node| node.strip_suffix('|'));
            let ops: Vec<&str> = inner.unwrap_or_default().split('|').collect();
            for (from, written) in ops.iter().enumerate() {
                edges.push(nb201_edge(written, from, to)?);
            }
            if ops.len() != to {
                let found = format!("{} edges", ops.len());
                return Err(GenotypeError::new(format!("node {to}"), found, format!("expected {to}")));
            }
        }
        if nodes.len() != kind.nodes {
            let found = format!("{} nodes", nodes.len());
            return Err(GenotypeError::new(&kind.name, found, format!("expected {}", kind.nodes)));
        }
        Ok(Self::of_space(space, vec![of_kind(kind, edges)]))
    }

    /// The text of DARTS's `Genotype` tuple: for every node its edges, as `('op', source)` (Liu et al., 2019,
    /// `genotypes.py`).
    ///
    /// # Errors
    /// The genotype is not of the kinds `normal` and `reduce`, with the same number of edges into every node.
    pub fn to_darts(&self) -> Result<String, GenotypeError> {
        let mut parts = Vec::new();
        for name in DARTS_KINDS {
            let Some(cell) = self.cells.iter().find(|cell| cell.kind == name && cell.cell.is_none()) else {
                return Err(GenotypeError::new(
                    "cells",
                    format!("no `{name}`"),
                    "expected `normal` and `reduce`",
                ));
            };
            let cell = cell.clone().sorted();
            evenly_fed(&cell)?;
            let pairs: Vec<_> =
                cell.edges.iter().map(|chosen| format!("('{}', {})", chosen.op, chosen.from)).collect();
            parts.push(format!("{name}=[{}], {name}_concat={}", pairs.join(", "), concat(&cell.output)));
        }
        if self.cells.len() != DARTS_KINDS.len() {
            return Err(GenotypeError::new("cells", format!("{} entries", self.cells.len()), "expected two"));
        }
        Ok(format!("Genotype({})", parts.join(", ")))
    }

    /// Reads DARTS's tuple as a genotype of `space`, which must have the kinds `normal` and `reduce`.
    ///
    /// # Errors
    /// The text does not follow the notation, or the space's cells are others.
    pub fn from_darts(text: &str, space: &Space) -> Result<Self, GenotypeError> {
        let fields = Tuple { rest: text.trim() }.fields()?;
        let Rule::Top { inputs: fed } = space.rule() else {
            let found = format!("the space `{}`, whose rule is {}", space.name(), space.rule());
            return Err(GenotypeError::new(
                "space",
                found,
                "expected a rule that keeps so many edges a node",
            ));
        };
        let mut cells = Vec::new();
        for kind in space.kinds() {
            let pairs = fields.iter().find_map(|field| field.pairs(&kind.name));
            let nodes = fields.iter().find_map(|field| field.nodes(&format!("{}_concat", kind.name)));
            let (Some(pairs), Some(output)) = (pairs, nodes) else {
                let found = format!("no `{0}` with `{0}_concat`", kind.name);
                return Err(GenotypeError::new("fields", found, "expected one of each for every cell kind"));
            };
            if pairs.len() != fed * kind.nodes {
                let found = format!("{} edges", pairs.len());
                return Err(GenotypeError::new(&kind.name, found, format!("expected {} a node", fed)));
            }
            let target = |index: usize| kind.inputs + index / fed;
            let chosen = |(index, (op, from)): (usize, &(String, usize))| Chosen {
                from: *from,
                to: target(index),
                op: op.clone(),
            };
            let edges = pairs.iter().enumerate().map(chosen).collect();
            cells.push(CellGenotype { output: output.to_vec(), ..of_kind(kind, edges) });
        }
        Ok(Self::of_space(space, cells))
    }

    fn of_space(space: &Space, cells: Vec<CellGenotype>) -> Self {
        Self { version: Self::VERSION, space: space.name().to_owned(), cells }
    }
}

fn of_kind(kind: &CellKind, edges: Vec<Chosen>) -> CellGenotype {
    CellGenotype { kind: kind.name.clone(), cell: None, edges, output: kind.output.clone() }.sorted()
}

/// `op~source`, where the source is the edge's turn.
fn nb201_edge(written: &str, from: usize, to: usize) -> Result<Chosen, GenotypeError> {
    match written.split_once('~') {
        Some((op, source)) if !op.is_empty() && source.parse() == Ok(from) => {
            Ok(Chosen { from, to, op: op.to_owned() })
        }
        _ => {
            let found = format!("`{}`", excerpt(written));
            Err(GenotypeError::new(format!("edge {from}→{to}"), found, format!("expected `|op~{from}|`")))
        }
    }
}

/// Every intermediate node of a tuple has the same number of edges, or the text could not be read back.
fn evenly_fed(cell: &CellGenotype) -> Result<(), GenotypeError> {
    let count = |to: usize| cell.edges.iter().filter(|chosen| chosen.to == to).count();
    let targets = || cell.edges.iter().map(|chosen| chosen.to);
    let (Some(first), Some(last)) = (targets().min(), targets().max()) else {
        return Err(GenotypeError::new(&cell.kind, "no edges", "expected the same number for every node"));
    };
    match (first..=last).find(|to| count(*to) != count(first)) {
        Some(node) => {
            let found = format!("{} edges into node {node}", count(node));
            Err(GenotypeError::new(
                &cell.kind,
                found,
                format!("expected {} as for node {first}", count(first)),
            ))
        }
        None => Ok(()),
    }
}

/// `range(2, 6)` for nodes in a row, otherwise a list.
fn concat(nodes: &[usize]) -> String {
    match nodes {
        [first, .., last] if nodes.iter().copied().eq(*first..=*last) => {
            format!("range({first}, {})", last + 1)
        }
        _ => format!("{nodes:?}"),
    }
}

/// One field of the tuple.
enum Part {
    Pairs(String, Vec<(String, usize)>),
    Nodes(String, Vec<usize>),
}

impl Part {
    fn pairs(&self, wanted: &str) -> Option<&[(String, usize)]> {
        match self {
            Self::Pairs(name, pairs) if name == wanted => Some(pairs),
            _ => None,
        }
    }

    fn nodes(&self, wanted: &str) -> Option<&[usize]> {
        match self {
            Self::Nodes(name, nodes) if name == wanted => Some(nodes),
            _ => None,
        }
    }
}

/// What is left to read of a tuple.
struct Tuple<'a> {
    rest: &'a str,
}

impl<'a> Tuple<'a> {
    /// `Genotype(name=value, …)`, and nothing after it.
    fn fields(mut self) -> Result<Vec<Part>, GenotypeError> {
        self.expect("Genotype")?;
        self.expect("(")?;
        let mut parts = Vec::new();
        while !self.takes(")") {
            let name = self.while_(|c| c.is_ascii_alphanumeric() || c == '_')?.to_owned();
            self.expect("=")?;
            let part = if name.ends_with("_concat") {
                Part::Nodes(name, self.nodes()?)
            } else {
                Part::Pairs(name, self.list(Self::pair)?)
            };
            parts.push(part);
            if !self.takes(",") && !self.rest.starts_with(')') {
                return self.fail("`,` or `)`");
            }
        }
        if self.rest.is_empty() { Ok(parts) } else { self.fail("the end") }
    }

    fn nodes(&mut self) -> Result<Vec<usize>, GenotypeError> {
        if !self.takes("range") {
            return self.list(Self::number);
        }
        self.expect("(")?;
        let first = self.number()?;
        self.expect(",")?;
        let end = self.number()?;
        self.expect(")")?;
        if end > 1000 { self.fail("nodes below 1000") } else { Ok((first..end).collect()) }
    }

    fn list<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, GenotypeError>,
    ) -> Result<Vec<T>, GenotypeError> {
        self.expect("[")?;
        let mut elements = Vec::new();
        while !self.takes("]") {
            elements.push(element(self)?);
            if !self.takes(",") && !self.rest.starts_with(']') {
                return self.fail("`,` or `]`");
            }
        }
        Ok(elements)
    }

    /// `('op', source)`.
    fn pair(&mut self) -> Result<(String, usize), GenotypeError> {
        self.expect("(")?;
        let quote = if self.takes("\"") { "\"" } else { "'" };
        if quote == "'" {
            self.expect("'")?;
        }
        let op = self.while_(|c| !matches!(c, '\'' | '"'))?.to_owned();
        self.expect(quote)?;
        self.expect(",")?;
        let from = self.number()?;
        self.expect(")")?;
        Ok((op, from))
    }

    fn number(&mut self) -> Result<usize, GenotypeError> {
        let digits = self.while_(|c| c.is_ascii_digit())?;
        digits.parse().or_else(|_| self.fail("a small number"))
    }

    fn while_(&mut self, belongs: impl Fn(char) -> bool) -> Result<&'a str, GenotypeError> {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return self.fail("a name or a number");
        }
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Ok(taken)
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), GenotypeError> {
        if self.takes(token) { Ok(()) } else { self.fail(&format!("`{token}`")) }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, GenotypeError> {
        let found = match self.rest {
            "" => "the end".to_owned(),
            rest => format!("`{}`", excerpt(rest)),
        };
        Err(GenotypeError::new("tuple", found, format!("expected {expected}")))
    }
}
