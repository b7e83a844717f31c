//! A number that may move over the search, as one word of a configuration.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, Shape};

/// A number, or `linear:FROM:TO`, `cosine:FROM:TO`, `exponential:FROM:TO`: from the first epoch in which α moves to the last.
///
/// ```
/// use strait_trainer::Course;
///
/// let course: Course = "linear:0:50".parse()?;
/// assert_eq!([course.arriving(0, 11), course.arriving(5, 11), course.arriving(10, 11)], [0.0, 25.0, 50.0]);
/// assert_eq!("0.1".parse::<Course>()?.arriving(7, 11), 0.1);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Course(Schedule);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Words(String),
}

impl Course {
    /// Always the same.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self(Schedule { shape: Shape::Constant, from: value, to: value })
    }

    /// The value in epoch `epoch` of `epochs`; the last one's is the end's.
    #[must_use]
    pub fn arriving(self, epoch: usize, epochs: usize) -> f64 {
        self.0.arriving(epoch, epochs)
    }

    /// Whether all its values lie between these two ends.
    pub(super) fn ends(self) -> [f64; 2] {
        [self.0.from, self.0.to]
    }
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let refuse =
            || "expected a number, or linear:FROM:TO, cosine:FROM:TO or exponential:FROM:TO".to_owned();
        if let Some(value) = number(text) {
            return Ok(Self::constant(value));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [shape, from, to] = parts[..] else { return Err(refuse()) };
        let (from, to) = number(from).zip(number(to)).ok_or_else(refuse)?;
        let shape = match shape {
            "linear" => Shape::Linear,
            "cosine" => Shape::Cosine,
            "exponential" if from > 0.0 && to > 0.0 => Shape::Exponential,
            _ => return Err(refuse()),
        };
        Ok(Self(Schedule { shape, from, to }))
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { shape, from, to } = self.0;
        match shape {
            Shape::Constant => from.fmt(f),
            Shape::Linear => write!(f, "linear:{from}:{to}"),
            Shape::Cosine => write!(f, "cosine:{from}:{to}"),
            Shape::Exponential => write!(f, "exponential:{from}:{to}"),
        }
    }
}

impl TryFrom<Written> for Course {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(value) => value.to_string().parse(),
            Written::Words(words) => words.parse(),
        }
    }
}

impl From<Course> for Written {
    fn from(course: Course) -> Self {
        match course.0.shape {
            Shape::Constant => Self::Number(course.0.from),
            _ => Self::Words(course.to_string()),
        }
    }
}
