//! Examples held in memory: what every loader returns, and the shortest way to data of one's own.

use search_space::Shape;

use crate::{DataInfo, Dataset, Error, ErrorKind, Part};

/// A data set held in memory; bytes stay bytes until they are read.
///
/// ```
/// use search_space::{Extent, Shape};
/// use strait_data::{Dataset, Examples, InMemory, Part, Values};
///
/// let shape = Shape { extent: Extent::Flat, channels: 2 };
/// let xor = |_| Examples {
///     values: Values::Floats(vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]),
///     labels: vec![0, 1, 1, 0],
/// };
/// let data = InMemory::new("xor", shape, vec!["even".into(), "odd".into()], xor(()), xor(()))?;
/// let mut features = [0.0; 2];
/// assert_eq!(data.read(Part::Train, 2, &mut features), 1);
/// assert_eq!(features, [1.0, 0.0]);
/// # Ok::<(), strait_data::Error>(())
/// ```
#[derive(Debug)]
pub struct InMemory {
    info: DataInfo,
    train: Examples,
    test: Examples,
}

/// One part of an [`InMemory`].
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Example after example, each channels last.
    pub values: Values,
    /// One per example.
    pub labels: Vec<u32>,
}

/// The values of many examples, end to end.
#[derive(Clone, Debug)]
pub enum Values {
    /// Pixels, read as `byte / full`.
    Bytes {
        /// The bytes.
        data: Vec<u8>,
        /// The byte that means 1.
        full: u8,
    },
    /// Features, read as they are.
    Floats(Vec<f32>),
}

impl InMemory {
    /// Holds both parts; the test part may be empty.
    ///
    /// # Errors
    /// If a part has more or fewer values than `labels × shape`, a label is no class, a value is not
    /// finite, the training part is empty, or the shape has no elements.
    pub fn new(
        name: impl Into<String>,
        shape: Shape,
        classes: Vec<String>,
        train: Examples,
        test: Examples,
    ) -> Result<Self, Error> {
        let name = name.into();
        for part in [&train, &test] {
            part.check(shape, classes.len()).map_err(|kind| Error::named(&name, kind))?;
        }
        if train.labels.is_empty() || shape.elements() == 0 {
            return Err(Error::named(&name, ErrorKind::Empty));
        }
        Ok(Self { info: DataInfo { name, shape, classes }, train, test })
    }

    fn part(&self, part: Part) -> &Examples {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }
}

impl Dataset for InMemory {
    fn info(&self) -> &DataInfo {
        &self.info
    }

    fn len(&self, part: Part) -> usize {
        self.part(part).labels.len()
    }

    fn read(&self, part: Part, index: usize, out: &mut [f32]) -> u32 {
        let Examples { values, labels } = self.part(part);
        let place = index * out.len()..(index + 1) * out.len();
        match values {
            Values::Floats(data) => out.copy_from_slice(&data[place]),
            Values::Bytes { data, full } => {
                let full = f32::from(*full);
                out.iter_mut().zip(&data[place]).for_each(|(to, byte)| *to = f32::from(*byte) / full);
            }
        }
        labels[index]
    }
}

impl Examples {
    /// The examples at `rows`, in that order.
    pub(super) fn select(&self, rows: &[usize]) -> Self {
        let width = self.values.len() / self.labels.len().max(1);
        let place = |row: &usize| row * width..(row + 1) * width;
        let values = match &self.values {
            Values::Floats(data) => {
                Values::Floats(rows.iter().flat_map(|row| &data[place(row)]).copied().collect())
            }
            Values::Bytes { data, full } => Values::Bytes {
                data: rows.iter().flat_map(|row| &data[place(row)]).copied().collect(),
                full: *full,
            },
        };
        Self { values, labels: rows.iter().map(|row| self.labels[*row]).collect() }
    }

    fn check(&self, shape: Shape, classes: usize) -> Result<(), ErrorKind> {
        let images = self.values.len() / shape.elements().max(1);
        if self.values.len() != self.labels.len() * shape.elements() {
            return Err(ErrorKind::Unpaired { images, labels: self.labels.len() });
        }
        if let Some(label) = self.labels.iter().find(|label| **label as usize >= classes) {
            return Err(ErrorKind::Label { found: label.to_string(), accepted: format!("below {classes}") });
        }
        match &self.values {
            Values::Floats(data) => match data.iter().position(|value| !value.is_finite()) {
                Some(at) => Err(ErrorKind::Number {
                    found: data[at].to_string(),
                    column: format!("{} of example {}", at % shape.elements() + 1, at / shape.elements()),
                }),
                None => Ok(()),
            },
            Values::Bytes { full: 0, .. } => {
                Err(ErrorKind::Setting { found: "full: 0".into(), accepted: "1 to 255".into() })
            }
            Values::Bytes { .. } => Ok(()),
        }
    }
}

impl Values {
    /// Values held.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes { data, .. } => data.len(),
            Self::Floats(data) => data.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::Floats(Vec::new())
    }
}
