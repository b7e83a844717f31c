//! The spaces that come with the program, and texts to start a new one from.

use crate::{Space, SpaceErrors, Vocabulary};

/// Names and texts of the shipped spaces, the default first.
macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        const NAMES: &[&str] = &[$($name),+];
        const TEXTS: &[&str] = &[$(include_str!(concat!("../../../search_spaces/", $name, ".yaml"))),+];
    };
}

shipped!(
    "digits",
    "nas-bench-201",
    "darts",
    "darts-imagenet",
    "darts-s1",
    "darts-s2",
    "darts-s3",
    "darts-s4",
    "mobile",
    "series-1d",
    "mlp",
);

/// A kind of space to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// A repeated cell.
    Cell,
    /// One choice a layer.
    Chain,
    /// One axis of time.
    Series,
    /// Vectors.
    Mlp,
}

impl Space {
    /// The names of the shipped spaces, the default first.
    #[must_use]
    pub fn shipped_names() -> &'static [&'static str] {
        NAMES
    }

    /// The text of a shipped space.
    #[must_use]
    pub fn shipped_yaml(name: &str) -> Option<&'static str> {
        NAMES.iter().position(|known| *known == name).map(|index| TEXTS[index])
    }

    /// A shipped space; `None` if there is none of this name.
    ///
    /// # Errors
    /// `words` lacks an operation that the space uses.
    pub fn shipped(name: &str, words: &dyn Vocabulary) -> Option<Result<Self, SpaceErrors>> {
        Self::shipped_yaml(name).map(|text| Self::parse(text, &format!("{name}.yaml"), words))
    }

    /// A commented, valid text to start a space from.
    #[must_use]
    pub fn template(kind: Template) -> &'static str {
        match kind {
            Template::Cell => include_str!("templates/cell.yaml"),
            Template::Chain => include_str!("templates/chain.yaml"),
            Template::Series => include_str!("templates/series.yaml"),
            Template::Mlp => include_str!("templates/mlp.yaml"),
        }
    }
}
