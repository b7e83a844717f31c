//! From a space as written to a space that is valid, every independent fault reported.

mod kind;
mod network;

use std::ops::RangeInclusive;

use crate::{
    Extent, Norm, Rank, Rule, Shape, Space, Vocabulary, Written,
    document::Field,
    fault::{At, Faults, excerpt, suggestion},
    schema::{KindFile, NormFile, SpaceFile, VERSION},
    space::Placed,
};

/// Bounds that keep every count and every cost far from overflow, and every layout small.
pub(crate) const CHANNELS: RangeInclusive<usize> = 1..=1 << 14;
pub(crate) const CLASSES: RangeInclusive<usize> = 2..=1 << 16;
pub(crate) const MOST_PIXELS: usize = 1 << 22;
pub(crate) const CELLS: RangeInclusive<usize> = 1..=1000;

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
