//! From a space as written to a space that is valid, every independent fault reported.

use std::ops::RangeInclusive;

use crate::{
    CellKind, Extent, KindEdge, Norm, OpSpec, Preprocess, Rank, Rule, Shape, Space, Vocabulary, Written,
    document::Field,
    fault::{At, Faults, excerpt, suggestion},
    schema::{
        AuxiliaryFile, EdgeFile, EntryFile, HeadFile, KindFile, Logits, NetworkFile, NormFile, SpaceFile,
        StageFile, StemFile, TrainFile, VERSION, WordOr,
    },
    space::{AuxiliaryPlan, Entry, HeadPlan, Placed, Skeleton, Stage, Stem, Width},
};

/// Bounds that keep every count and every cost far from overflow, and every layout small.
pub(crate) const CHANNELS: RangeInclusive<usize> = 1..=1 << 14;
pub(crate) const CLASSES: RangeInclusive<usize> = 2..=1 << 16;
pub(crate) const MOST_PIXELS: usize = 1 << 22;
pub(crate) const CELLS: RangeInclusive<usize> = 1..=1000;
const STRIDES: RangeInclusive<usize> = 1..=8;
const NODES: RangeInclusive<usize> = 1..=32;
const MOST_KINDS: usize = 64;
const MOST_STAGES: usize = 100;

/// Compiles `file`, whose mapping starts at `root`; `None` only where a fault was recorded.
pub(crate) fn space(
    file: &SpaceFile,
    root: At,
    yaml: &str,
    file_name: &str,
    words: &dyn Vocabulary,
    faults: &mut Faults,
) -> Option<Space> {
    let rank = sound_or(&file.rank, Rank::Image);
    let mut compiler = Compiler { words, rank, rule: None, faults };
    compiler.version(&file.version, root);
    compiler.rule = compiler.rule(&file.rule);
    let name = compiler.name(&file.name, root);
    let input = compiler.input(&file.input);
    let classes = compiler.optional(&file.classes, CLASSES);
    let norms = compiler.norms(&file.norm);
    let names = Names::of(&file.cells);
    let kinds = compiler.kinds(&file.cells, &names, root);
    let skeleton = compiler.skeleton(&file.network, &names, root);
    let search = file.search.get().cloned().unwrap_or_default();
    Some(Space {
        yaml: yaml.to_owned(),
        file: file_name.to_owned(),
        rule: compiler.rule?,
        name: name?,
        rank: rank?,
        input: input?,
        classes: classes?,
        norms: norms?,
        kinds: kinds?,
        skeleton: skeleton?,
        search: serde_yaml::Value::Mapping(search),
    })
}

/// What parts of a space need of the whole; each part is `None` where it, or what it needs, is faulty.
struct Compiler<'a> {
    words: &'a dyn Vocabulary,
    rank: Option<Rank>,
    rule: Option<Rule>,
    faults: &'a mut Faults,
}

/// The names of the cell kinds and their places, in order; `None` where one could not be read.
struct Names<'a>(Vec<Option<(&'a str, At)>>);

impl<'a> Names<'a> {
    fn of(cells: &'a Field<Vec<Field<KindFile>>>) -> Self {
        let name =
            |kind: &'a Field<KindFile>| kind.get()?.name.located().map(|(name, at)| (name.as_str(), at));
        Self(cells.get().into_iter().flatten().map(name).collect())
    }

    fn known(&self) -> impl Iterator<Item = &'a str> + Clone {
        self.0.iter().flatten().map(|(name, _)| *name)
    }

    fn find(&self, name: &Field<String>, faults: &mut Faults) -> Option<usize> {
        let (name, at) = name.located()?;
        let index = self.0.iter().position(|known| known.is_some_and(|(known, _)| known == name));
        let all_known = !self.0.is_empty() && self.0.iter().all(Option::is_some);
        if index.is_none() && all_known {
            faults.add(at, format!("unknown cell kind `{}`", excerpt(name)), suggestion(name, self.known()));
        }
        index
    }
}

impl Compiler<'_> {
    fn version(&mut self, version: &Field<u64>, root: At) {
        if let Some(found) = version.required("version", root, self.faults).filter(|found| **found != VERSION)
        {
            let at = version.at().unwrap_or(root);
            self.faults.add(at, format!("version {found}"), format!("this program reads version {VERSION}"));
        }
    }

    fn name(&mut self, name: &Field<String>, owner: At) -> Option<String> {
        let text = name.required("name", owner, self.faults)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
            let accepted = "expected 1 to 64 letters, digits, `-` and `_`";
            self.faults.add(name.at()?, format!("name `{}`", excerpt(text)), accepted);
            return None;
        }
        Some(text.clone())
    }

    fn rule(&mut self, rule: &Field<String>) -> Option<Rule> {
        let Some((text, at)) = rule.located() else {
            return sound_or(rule, String::new()).map(|_| Rule::Argmax);
        };
        let accepted = "accepted: argmax, top-N, sampled:N with N at least 1";
        text.parse()
            .map_err(|_| self.faults.add(at, format!("unknown rule `{}`", excerpt(text)), accepted))
            .ok()
    }

    fn input(&mut self, input: &Field<Vec<usize>>) -> Option<Option<Shape>> {
        let Some((dims, at)) = input.located() else { return sound_or(input, Vec::new()).map(|_| None) };
        let (extent, channels) = match (self.rank?, dims.as_slice()) {
            (Rank::Flat, [channels]) => (Extent::Flat, *channels),
            (Rank::Series, [length, channels]) => (Extent::Series { length: *length }, *channels),
            (Rank::Image, [height, width, channels]) => {
                (Extent::Image { height: *height, width: *width }, *channels)
            }
            (rank, _) => {
                let accepted =
                    ["[channels]", "[length, channels]", "[height, width, channels]"][rank as usize];
                self.faults.add(
                    at,
                    format!("input of {} numbers", dims.len()),
                    format!("expected {accepted}"),
                );
                return None;
            }
        };
        let shape = Shape { extent, channels };
        match admissible(shape) {
            Ok(()) => Some(Some(shape)),
            Err((found, accepted)) => {
                self.faults.add(at, found, accepted);
                None
            }
        }
    }

    fn norms(&mut self, norm: &Field<NormFile>) -> Option<(Norm, Norm)> {
        let default = NormFile::default();
        let file = if norm.at().is_some() { norm.get()? } else { &default };
        let (search, train) = (self.norm(&file.search), self.norm(&file.train));
        search.zip(train)
    }

    fn norm(&mut self, norm: &Field<Norm>) -> Option<Norm> {
        let Some((norm, at)) = norm.located() else { return sound_or(norm, Norm::default()) };
        if !(norm.eps > 0.0 && norm.eps.is_finite()) {
            self.faults.add(at, format!("norm with eps {}", norm.eps), "expected eps above 0");
            return None;
        }
        if !(norm.momentum > 0.0 && norm.momentum <= 1.0) {
            self.faults.add(
                at,
                format!("norm with momentum {}", norm.momentum),
                "expected above 0, at most 1",
            );
            return None;
        }
        Some(*norm)
    }

    fn kinds(
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

    fn resolve(&mut self, written: &Field<Written>) -> Option<Placed> {
        let (written, at) = written.located()?;
        let resolved = self.words.resolve(written, self.rank?);
        resolved
            .map(|op| Placed { op, at })
            .map_err(|error| self.faults.add(at, error.found, error.accepted))
            .ok()
    }

    /// A fixed operation that may be missing or `none`.
    fn block(&mut self, written: &Field<Written>) -> Option<Option<Placed>> {
        match written.at() {
            None => Some(None),
            Some(_) => self.resolve(written).map(|placed| Some(placed).filter(|placed| !placed.op.is_none())),
        }
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
        for node in kind.inputs..kind.inputs + kind.nodes {
            if !kind.edges.iter().any(|edge| edge.to == node) {
                let found = format!("node {node} of `{}`, which no edge reaches", kind.name);
                return self.faults.add(edges_at, found, format!("expected an edge to {node}"));
            }
            if !kind.output.contains(&node) && !kind.edges.iter().any(|edge| edge.from == node) {
                let found = format!("node {node} of `{}`, which leads nowhere", kind.name);
                return self.faults.add(
                    output_at,
                    found,
                    format!("expected an edge from {node}, or {node} in `output`"),
                );
            }
        }
    }

    fn skeleton(&mut self, network: &Field<NetworkFile>, names: &Names<'_>, root: At) -> Option<Skeleton> {
        let file = network.required("network", root, self.faults)?;
        let at = network.at()?;
        let channels = file.channels.required("channels", at, self.faults).copied();
        let channels = channels.and_then(|_| self.number(&file.channels, CHANNELS, 1));
        let round_to = self.number(&file.round_to, 1..=64, 1);
        let cells = self.optional(&file.cells, CELLS);
        let default = TrainFile::default();
        let train = if file.train.at().is_some() { file.train.get() } else { Some(&default) };
        let train_channels = train.and_then(|train| self.optional(&train.channels, CHANNELS));
        let train_cells = train.and_then(|train| self.optional(&train.cells, CELLS));
        let stem = self.stem(&file.stem);
        let stages = self.stages(&file.stages, at, names, file.cells.at().is_some());
        if let Some(stages) = &stages {
            self.all_used(names, stages);
        }
        let head = self.head(&file.head);
        let auxiliary = self.auxiliary(&file.auxiliary, file.stages.get().map(Vec::len));
        Some(Skeleton {
            at,
            channels: channels?,
            round_to: round_to?,
            cells: cells?,
            train_channels: train_channels?,
            train_cells: train_cells?,
            stem: stem?,
            stages: stages?,
            head: head?,
            auxiliary: auxiliary?,
        })
    }

    fn stem(&mut self, stem: &Field<StemFile>) -> Option<Option<Stem>> {
        let Some((file, at)) = stem.located() else {
            return sound_or(stem, StemFile::default()).map(|_| None);
        };
        file.block.required("block", at, self.faults);
        let block = self.block(&file.block);
        let channels = self.optional(&file.channels, CHANNELS);
        let multiplier = self.optional(&file.multiplier, 1..=64);
        let stride = self.stride(&file.stride, 1);
        let width = match (channels?, multiplier?) {
            (Some(_), Some(_)) => {
                self.faults.add(
                    file.multiplier.at()?,
                    "both `channels` and `multiplier`",
                    "expected one of them",
                );
                return None;
            }
            (Some(channels), None) => Width::Channels(channels),
            (None, multiplier) => Width::Times(multiplier.unwrap_or(1) as f64),
        };
        let (block, stride) = (block?, stride?);
        Some(block.map(|block| Stem { block, width, stride }))
    }

    fn stages(
        &mut self,
        stages: &Field<Vec<Field<StageFile>>>,
        owner: At,
        names: &Names<'_>,
        counted: bool,
    ) -> Option<Vec<Stage>> {
        let list = stages.required("stages", owner, self.faults)?;
        if list.is_empty() || list.len() > MOST_STAGES {
            self.faults.add(
                stages.at()?,
                format!("{} stages", list.len()),
                format!("expected 1 to {MOST_STAGES}"),
            );
        }
        all(list.iter().map(|stage| self.stage(stage, names, counted)))
    }

    fn stage(&mut self, stage: &Field<StageFile>, names: &Names<'_>, counted: bool) -> Option<Stage> {
        let (file, at) = stage.located()?;
        let entry = self.entry(&file.entry, names);
        let cell = match file.cell.at() {
            None => Some(None),
            Some(_) => names.find(&file.cell, self.faults).map(Some),
        };
        if let (Some(None), Some(Entry::None | Entry::Cell(_))) = (cell, &entry) {
            self.faults.add(at, "a stage without `cell`", "expected a cell kind, or an entry block alone");
            return None;
        }
        let repeats = self.number(&file.repeats, CELLS, 1);
        if let Some(at) = file.repeats.at().filter(|_| counted) {
            self.faults.add(at, "`repeats` beside `network.cells`", "expected one way of counting cells");
        } else if let (Some(at), Some(None)) = (file.repeats.at(), cell) {
            self.faults.add(at, "`repeats` without `cell`", "expected a cell kind to repeat");
        }
        let width = self.width(file);
        let strided =
            matches!(entry, Some(Entry::Cell(_) | Entry::Block(_))) && self.rank != Some(Rank::Flat);
        let stride = self.stride(&file.stride, if strided { 2 } else { 1 });
        if let (Some(Entry::None), Some(at)) = (&entry, file.stride.at()) {
            self.faults.add(at, "`stride` without `entry`", "only an entry has a stride");
        }
        Some(Stage { cell: cell?, repeats: repeats?, width: width?, entry: entry?, stride: stride?, at })
    }

    fn width(&mut self, file: &StageFile) -> Option<Width> {
        let channels = self.optional(&file.channels, CHANNELS);
        match (file.growth.located(), channels?) {
            (Some((_, at)), Some(_)) => {
                self.faults.add(at, "both `channels` and `growth`", "expected one of them");
                None
            }
            (Some((&growth, at)), None) if !(growth > 0.0 && growth <= 64.0) => {
                self.faults.add(at, format!("growth {growth}"), "expected a number above 0, at most 64");
                None
            }
            (Some((&growth, _)), None) => Some(Width::Times(growth)),
            (None, Some(channels)) => Some(Width::Channels(channels)),
            (None, None) => sound_or(&file.growth, 1.0).map(Width::Times),
        }
    }

    fn entry(&mut self, entry: &Field<EntryFile>, names: &Names<'_>) -> Option<Entry> {
        let Some((file, at)) = entry.located() else {
            return sound_or(entry, EntryFile::default()).map(|_| Entry::None);
        };
        match (file.cell.at(), file.block.at()) {
            (Some(_), None) => names.find(&file.cell, self.faults).map(Entry::Cell),
            (None, Some(_)) => self.resolve(&file.block).map(Entry::Block),
            _ => {
                self.faults.add(at, "an entry that is not one thing", "expected either `cell` or `block`");
                None
            }
        }
    }

    fn stride(&mut self, stride: &Field<usize>, default: usize) -> Option<usize> {
        let range = if self.rank == Some(Rank::Flat) { 1..=1 } else { STRIDES };
        self.number(stride, range, default)
    }

    fn head(&mut self, head: &Field<HeadFile>) -> Option<HeadPlan> {
        let default = HeadFile::default();
        let file = if head.at().is_some() { head.get()? } else { &default };
        let block = self.block(&file.block);
        let channels = self.optional(&file.channels, CHANNELS);
        if let (Some(at), None) = (file.channels.at(), file.block.at()) {
            self.faults.add(at, "`channels` without `block`", "expected the operation that makes them");
        }
        let dropout = self.fraction(&file.dropout, 0.0);
        Some(HeadPlan { block: block?, channels: channels?, dropout: dropout? })
    }

    fn fraction(&mut self, field: &Field<f64>, default: f64) -> Option<f64> {
        let Some((&value, at)) = field.located() else { return sound_or(field, default) };
        if !(0.0..1.0).contains(&value) {
            self.faults.add(at, format!("number {value}"), "expected at least 0, below 1");
            return None;
        }
        Some(value)
    }

    fn auxiliary(
        &mut self,
        field: &Field<AuxiliaryFile>,
        stages: Option<usize>,
    ) -> Option<Option<AuxiliaryPlan>> {
        let Some((file, at)) = field.located() else {
            return sound_or(field, AuxiliaryFile::default()).map(|_| None);
        };
        let block = match file.block.at() {
            Some(_) => self.resolve(&file.block),
            None => {
                let resolved = self.words.resolve(&Written::Label("auxiliary_head".into()), self.rank?);
                let placed = resolved.map(|op| Placed { op, at });
                placed.map_err(|error| self.faults.add(at, error.found, error.accepted)).ok()
            }
        };
        file.stage.required("stage", at, self.faults);
        let stage = self.number(&file.stage, 0..=stages?.saturating_sub(1), 0);
        let weight = self.fraction(&file.weight, 0.4);
        Some(Some(AuxiliaryPlan { block: block?, stage: stage?, weight: weight? }))
    }

    fn all_used(&mut self, names: &Names<'_>, stages: &[Stage]) {
        for (index, named) in names.0.iter().enumerate() {
            let entry = |stage: &Stage| matches!(&stage.entry, Entry::Cell(kind) if *kind == index);
            let used = stages.iter().any(|stage| stage.cell == Some(index) || entry(stage));
            if let (Some((name, at)), false) = (named, used) {
                self.faults.add(
                    *at,
                    format!("cell kind `{}` in no stage", excerpt(name)),
                    "use it or remove it",
                );
            }
        }
    }

    fn optional(&mut self, field: &Field<usize>, range: RangeInclusive<usize>) -> Option<Option<usize>> {
        match field.at() {
            None => Some(None),
            Some(_) => self.number(field, range, 0).map(Some),
        }
    }

    fn number(
        &mut self,
        field: &Field<usize>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Option<usize> {
        let Some((&value, at)) = field.located() else { return sound_or(field, default) };
        if !range.contains(&value) {
            let accepted = match (range.start(), range.end()) {
                (low, high) if low == high => format!("expected {low}"),
                (low, high) => format!("expected {low} to {high}"),
            };
            self.faults.add(at, format!("number {value}"), accepted);
            return None;
        }
        Some(value)
    }
}

/// Whether data of this shape can be handled at all; otherwise what was found and what is accepted.
pub(crate) fn admissible(shape: Shape) -> Result<(), (String, String)> {
    let (height, width) = shape.extent.plane();
    let pixels = height.saturating_mul(width);
    if !(1..=MOST_PIXELS).contains(&pixels) || !CHANNELS.contains(&shape.channels) {
        let accepted = format!("expected 1 to {MOST_PIXELS} positions of 1 to {} channels", CHANNELS.end());
        return Err((format!("input of {shape}"), accepted));
    }
    Ok(())
}

/// The value, `default` where the field is absent, `None` where it is faulty.
fn sound_or<T: Clone>(field: &Field<T>, default: T) -> Option<T> {
    if field.at().is_none() { Some(default) } else { field.get().cloned() }
}

/// All values, none of which may be missing; every one is asked for before that is decided.
fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    values.collect::<Vec<_>>().into_iter().collect()
}

fn edge(from: usize, to: usize, candidates: &[Placed]) -> KindEdge {
    let (ops, places): (Vec<OpSpec>, Vec<At>) =
        candidates.iter().map(|placed| (placed.op.clone(), placed.at)).unzip();
    KindEdge { from, to, candidates: ops, places }
}
