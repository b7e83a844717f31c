//! The macro skeleton: stem, stages, head.

use std::ops::RangeInclusive;

use crate::{
    Rank, Written,
    document::Field,
    fault::{At, excerpt},
    schema::{AuxiliaryFile, EntryFile, HeadFile, NetworkFile, StageFile, StemFile, TrainFile},
    space::{AuxiliaryPlan, Entry, HeadPlan, Placed, Skeleton, Stage, Stem, Width},
};

use super::{CELLS, CHANNELS, Compiler, Names, all, sound_or};

const STRIDES: RangeInclusive<usize> = 1..=8;
const MOST_STAGES: usize = 100;

impl Compiler<'_> {
    pub(super) fn skeleton(
        &mut self,
        network: &Field<NetworkFile>,
        names: &Names<'_>,
        root: At,
    ) -> Option<Skeleton> {
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
}
