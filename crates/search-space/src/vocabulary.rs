//! The words a space may use: known to this crate by name and cost only.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};

use crate::{Cost, Rank, Site};

/// An operation with its parameters, resolved: what a candidate *is*.
///
/// Displays as its label, the literature's name: `sep_conv_3x3` on images, `sep_conv_3` on series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpSpec {
    /// The word: `sep_conv`.
    pub word: String,
    /// Every parameter of the word, defaults filled in: `kernel: 3`.
    pub params: BTreeMap<String, i64>,
    /// The name people read and genotypes store; unique for (word, params, rank).
    pub label: String,
}

/// A candidate as a person wrote it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Written {
    /// `sep_conv_3x3`, or a bare word.
    Label(String),
    /// `{op: sep_conv, kernel: 7}`.
    Spec {
        /// The word.
        op: String,
        /// Its parameters.
        #[serde(flatten)]
        params: BTreeMap<String, i64>,
    },
}

/// What one word means, for listings and for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word: `sep_conv`.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Parameters as `(name, accepted values in words)`: `("kernel", "odd, 1 to 31")`.
    pub params: Vec<(String, String)>,
    /// Labels a space would commonly use: `sep_conv_3x3`, `sep_conv_5x5`.
    pub examples: Vec<String>,
    /// The ranks it works on.
    pub ranks: Vec<Rank>,
}

/// Why a word or its parameters are refused; the message says what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found}; {accepted}")]
pub struct WordError {
    /// What was found: ``unknown operation `sep_con_3x3` ``.
    pub found: String,
    /// What would be accepted: ``did you mean `sep_conv_3x3`?``.
    pub accepted: String,
}

/// The words a space may use. The catalog of operations implements it; a program may extend that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no vocabulary of operations",
    note = "pass `&Catalog::standard()` of the crate `ops`, or implement `Vocabulary`"
)]
pub trait Vocabulary {
    /// All words, in the order in which they are listed.
    fn words(&self) -> Vec<Word>;

    /// Resolves a candidate as written, on maps of `rank`.
    ///
    /// # Errors
    /// The word is unknown, a parameter is unknown, missing or out of range, or the word has no meaning at this rank.
    fn resolve(&self, written: &Written, rank: Rank) -> Result<OpSpec, WordError>;

    /// The cost of `op` at `site`, or why it cannot stand there.
    ///
    /// # Errors
    /// The operation cannot make `site.output()` of `site.input()`.
    fn cost(&self, op: &OpSpec, site: &Site) -> Result<Cost, WordError>;
}

/// By hand, since an untagged enum would lose the place and the reason of a fault.
impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelOrSpec;
        impl<'de> Visitor<'de> for LabelOrSpec {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an operation such as `sep_conv_3x3` or `{op: sep_conv, kernel: 3}`")
            }

            fn visit_str<E: de::Error>(self, label: &str) -> Result<Written, E> {
                Ok(Written::Label(label.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
                let (mut op, mut params) = (None, BTreeMap::new());
                while let Some(key) = map.next_key::<String>()? {
                    if key == "op" {
                        op = Some(map.next_value()?);
                    } else {
                        params.insert(key, map.next_value()?);
                    }
                }
                Ok(Written::Spec { op: op.ok_or_else(|| de::Error::missing_field("op"))?, params })
            }
        }
        deserializer.deserialize_any(LabelOrSpec)
    }
}

impl OpSpec {
    /// The word for "no operation": the edge is absent, its value zero. Derivation skips it.
    pub const NONE: &'static str = "none";

    /// Whether this is the absence of an operation.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.word == Self::NONE
    }

    /// Whether this is the literature's identity, of which a collapsing search takes too many.
    #[must_use]
    pub fn is_skip(&self) -> bool {
        self.word == "skip_connect"
    }
}

impl fmt::Display for OpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}
