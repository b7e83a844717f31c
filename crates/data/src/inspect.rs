//! What a data set holds, and what is wrong with it, before anything learns from it.

use std::collections::BTreeMap;
use std::fmt;

use search_space::Shape;
use sha2::{Digest, Sha256};

use crate::{Dataset, Part};

/// The figures of a data set, and its problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// What it is called.
    pub name: String,
    /// Shape of one example, channels last.
    pub shape: Shape,
    /// Class by class, in the order of the labels.
    pub classes: Vec<ClassCount>,
    /// Smallest and largest value of the training part, per channel.
    pub range: Vec<(f32, f32)>,
    /// What a person should know; none of it stops a search.
    pub problems: Vec<Problem>,
}

/// Examples of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// In the training part.
    pub train: usize,
    /// In the test part.
    pub test: usize,
}

/// Something a person should know about a data set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// There is nothing to tell apart.
    OneClass,
    /// A class has no examples in a part.
    Missing {
        /// Its name.
        class: String,
        /// The part.
        part: &'static str,
    },
    /// A class has so few examples that a split in half leaves a side without it.
    Scarce {
        /// Its name.
        class: String,
        /// Its examples in the training part.
        examples: usize,
    },
    /// The largest class has more than ten times the examples of the smallest.
    Imbalanced {
        /// Examples of the largest class.
        most: usize,
        /// Examples of the smallest that has any.
        least: usize,
    },
    /// A channel has the same value everywhere.
    Constant {
        /// The channel, from 0.
        channel: usize,
    },
    /// Test examples that stand in the training part, too: the test overstates.
    Leaked {
        /// How many.
        examples: usize,
        /// The first of them, by its place in the test part.
        first: usize,
    },
    /// Equal examples of the training part with different labels.
    Contradictory {
        /// How many examples equal an earlier one of another class.
        examples: usize,
        /// The first of them, by its place in the training part.
        first: usize,
    },
}

/// Reads every example once.
#[must_use]
pub fn inspect(dataset: &dyn Dataset) -> Inspection {
    let info = dataset.info();
    let mut counts = vec![(0, 0); info.classes.len()];
    let mut range = vec![(f32::INFINITY, f32::NEG_INFINITY); info.shape.channels];
    let mut values = vec![0.0f32; info.shape.elements()];
    let mut seen: BTreeMap<[u8; 32], u32> = BTreeMap::new();
    let (mut contradictory, mut leaked) = (Vec::new(), Vec::new());
    for index in 0..dataset.len(Part::Train) {
        let label = dataset.read(Part::Train, index, &mut values);
        counts[label as usize].0 += 1;
        for pixel in values.chunks_exact(info.shape.channels.max(1)) {
            for ((low, high), value) in range.iter_mut().zip(pixel) {
                (*low, *high) = (low.min(*value), high.max(*value));
            }
        }
        if *seen.entry(digest(&values)).or_insert(label) != label {
            contradictory.push(index);
        }
    }
    for index in 0..dataset.len(Part::Test) {
        let label = dataset.read(Part::Test, index, &mut values);
        counts[label as usize].1 += 1;
        if seen.contains_key(&digest(&values)) {
            leaked.push(index);
        }
    }
    let class =
        |(name, (train, test)): (&String, (usize, usize))| ClassCount { name: name.clone(), train, test };
    let classes: Vec<ClassCount> = info.classes.iter().zip(counts).map(class).collect();
    let mut problems = of_classes(&classes);
    let constant =
        |(channel, (low, high)): (usize, &(f32, f32))| (low == high).then_some(Problem::Constant { channel });
    problems.extend(range.iter().enumerate().filter_map(constant));
    if let Some(&first) = contradictory.first() {
        problems.push(Problem::Contradictory { examples: contradictory.len(), first });
    }
    if let Some(&first) = leaked.first() {
        problems.push(Problem::Leaked { examples: leaked.len(), first });
    }
    Inspection { name: info.name.clone(), shape: info.shape, classes, range, problems }
}

fn of_classes(classes: &[ClassCount]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if classes.len() < 2 {
        problems.push(Problem::OneClass);
    }
    for ClassCount { name, train, test } in classes {
        for (count, part) in [(train, "training"), (test, "test")] {
            if *count == 0 {
                problems.push(Problem::Missing { class: name.clone(), part });
            }
        }
        if *train == 1 {
            problems.push(Problem::Scarce { class: name.clone(), examples: *train });
        }
    }
    let trained = || classes.iter().map(|class| class.train).filter(|&count| count > 0);
    if let (Some(most), Some(least)) = (trained().max(), trained().min())
        && most > 10 * least
    {
        problems.push(Problem::Imbalanced { most, least });
    }
    problems
}

fn digest(values: &[f32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    hash.finalize().into()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneClass => {
                f.write_str("one class: there is nothing to tell apart; at least two are needed")
            }
            Self::Missing { class, part } => write!(f, "class `{class}` has no examples in the {part} part"),
            Self::Scarce { class, examples } => {
                write!(
                    f,
                    "class `{class}` has {examples} training example; a search needs one for each of its halves"
                )
            }
            Self::Imbalanced { most, least } => write!(
                f,
                "the largest class has {most} training examples, the smallest {least}: accuracy will mostly speak of the large"
            ),
            Self::Constant { channel } => write!(f, "channel {channel} has the same value everywhere"),
            Self::Leaked { examples, first } => {
                write!(
                    f,
                    "{examples} test examples stand in the training part, too (the first is test example {first})"
                )
            }
            Self::Contradictory { examples, first } => write!(
                f,
                "{examples} training examples equal an earlier one of another class (the first is training example {first})"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use search_space::Extent;

    use super::*;
    use crate::{Error, Examples, InMemory, Values};

    fn held(train: &[(f32, u32)], test: &[(f32, u32)], classes: usize) -> Result<InMemory, Error> {
        let shape = Shape { extent: Extent::Flat, channels: 2 };
        let part = |rows: &[(f32, u32)]| Examples {
            values: Values::Floats(rows.iter().flat_map(|(value, _)| [*value, 7.0]).collect()),
            labels: rows.iter().map(|(_, label)| *label).collect(),
        };
        let names = (0..classes).map(|class| class.to_string()).collect();
        InMemory::new("held", shape, names, part(train), part(test))
    }

    #[test]
    fn sound_data_are_counted() -> Result<(), Error> {
        let found = inspect(&held(&[(0.0, 0), (1.0, 1), (2.0, 0), (3.0, 1)], &[(4.0, 0), (5.0, 1)], 2)?);
        let class = |name: &str| ClassCount { name: name.into(), train: 2, test: 1 };
        assert_eq!(found.classes, [class("0"), class("1")]);
        assert_eq!(found.range, [(0.0, 3.0), (7.0, 7.0)]);
        assert_eq!(found.problems, [Problem::Constant { channel: 1 }]);
        Ok(())
    }

    #[test]
    fn every_problem_is_found() -> Result<(), Error> {
        let mut train: Vec<(f32, u32)> = (0..22).map(|i| (i as f32, 0)).collect();
        train.extend([(100.0, 1), (3.0, 1), (200.0, 2)]);
        let found = inspect(&held(&train, &[(0.0, 0), (300.0, 1), (100.0, 2)], 4)?);
        assert_eq!(
            found.problems,
            [
                Problem::Scarce { class: "2".into(), examples: 1 },
                Problem::Missing { class: "3".into(), part: "training" },
                Problem::Missing { class: "3".into(), part: "test" },
                Problem::Imbalanced { most: 22, least: 1 },
                Problem::Constant { channel: 1 },
                Problem::Contradictory { examples: 1, first: 23 }, // 3.0 was of class 0
                Problem::Leaked { examples: 2, first: 0 },         // 0.0 and 100.0
            ]
        );
        assert_eq!(inspect(&held(&[(0.0, 0)], &[(1.0, 0)], 1)?).problems[0], Problem::OneClass);
        Ok(())
    }
}
