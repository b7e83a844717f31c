//! How logits become a genotype, as far as counting needs to know.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A derivation rule, written `argmax`, `top-2` or `sampled:100`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Rule {
    /// Every edge keeps its likeliest candidate, `none` included (NAS-Bench-201).
    #[default]
    Argmax,
    /// Every node keeps its strongest incoming edges, from distinct inputs, each with its likeliest candidate but
    /// `none` (DARTS, with 2).
    Top {
        /// Edges a node keeps, at least 1.
        inputs: usize,
    },
    /// The best of `n` architectures drawn from the distribution that the logits describe.
    Sampled {
        /// Draws, at least 1.
        n: usize,
    },
}

/// A text that names no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown rule `{0}`; accepted: argmax, top-N, sampled:N with N at least 1")]
pub struct RuleError(String);

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let positive = |digits: &str| digits.parse().ok().filter(|n| *n > 0);
        let top = || text.strip_prefix("top-").and_then(positive).map(|inputs| Self::Top { inputs });
        let sampled = || text.strip_prefix("sampled:").and_then(positive).map(|n| Self::Sampled { n });
        let argmax = (text == "argmax").then_some(Self::Argmax);
        argmax.or_else(top).or_else(sampled).ok_or_else(|| RuleError(crate::fault::excerpt(text)))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argmax => f.write_str("argmax"),
            Self::Top { inputs } => write!(f, "top-{inputs}"),
            Self::Sampled { n } => write!(f, "sampled:{n}"),
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}
