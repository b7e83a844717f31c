//! What is wrong with a file, where, and what would be right.

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, de};

/// A place in a text: both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One fault: `line:column: found; accepted`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// Where, if the fault has one place.
    pub at: Option<At>,
    /// What was found.
    pub found: String,
    /// What would be accepted.
    pub accepted: String,
}

/// Every independent fault of one space file, in the order of the text.
///
/// Displays as one line per fault, `file.yaml:line:column: what was found; what is accepted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpaceErrors {
    /// The file's name, as given.
    pub file: String,
    /// The faults; never empty.
    pub faults: Vec<Fault>,
}

/// Where faults gather while a file is read; one per place, since a second one would follow from the first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Past this many, reading on helps nobody.
    pub(crate) const MOST: usize = 50;

    pub(crate) fn add(&mut self, at: At, found: impl Into<String>, accepted: impl Into<String>) {
        self.push(Fault { at: Some(at), found: found.into(), accepted: accepted.into() });
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        if !self.is_full() {
            self.0.push(fault);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= Self::MOST
    }

    /// The faults of `file`, or `None` where there are none.
    pub(crate) fn of(mut self, file: &str) -> Option<SpaceErrors> {
        self.0.sort_by_key(|fault| fault.at);
        let mut places = BTreeSet::new();
        self.0.retain(|fault| fault.at.is_none_or(|at| places.insert(at)));
        (!self.0.is_empty()).then(|| SpaceErrors { file: file.to_owned(), faults: self.0 })
    }
}

/// The accepted name closest to `found`, if any is close enough to be what was meant.
#[must_use]
pub fn nearest<'a>(found: &str, accepted: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = found.chars().count() / 3 + 1;
    let distance = |name: &&str| strsim::damerau_levenshtein(found, name);
    accepted
        .into_iter()
        .map(|name| (distance(&name), name))
        .filter(|(d, _)| *d <= reach)
        .min()
        .map(|(_, n)| n)
}

/// ``did you mean `…`?`` for a near name, otherwise all names.
pub(crate) fn suggestion<'a>(found: &str, accepted: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(&excerpt(found), accepted.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("accepted: {}", accepted.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// At most sixty characters of what a person wrote, safe to print.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

impl std::error::Error for SpaceErrors {}
impl std::error::Error for Fault {}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}; {}", self.found, self.accepted)
    }
}

impl fmt::Display for SpaceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let gap = if fault.at.is_some() { "" } else { " " };
            write!(f, "{newline}{}:{gap}{fault}", self.file)?;
        }
        Ok(())
    }
}

/// Serde's complaints, in our words; the reader adds the place.
impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (found, accepted) =
            message.split_once("; ").unwrap_or((&message, "see the format's documentation"));
        Self { at: None, found: found.to_owned(), accepted: accepted.to_owned() }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self { at: None, found: unexpected(found), accepted: format!("expected {}", plain(expected)) }
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let accepted = suggestion(field, expected.iter().copied());
        Self { at: None, found: format!("unknown field `{}`", excerpt(field)), accepted }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let accepted = suggestion(variant, expected.iter().copied());
        Self { at: None, found: format!("unknown value `{}`", excerpt(variant)), accepted }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { at: None, found: format!("no `{field}`"), accepted: format!("`{field}` is required") }
    }
}

fn unexpected(found: de::Unexpected<'_>) -> String {
    match found {
        de::Unexpected::Str(text) => format!("text `{}`", excerpt(text)),
        de::Unexpected::Unsigned(number) => format!("number {number}"),
        de::Unexpected::Signed(number) => format!("number {number}"),
        de::Unexpected::Float(number) => format!("number {number}"),
        de::Unexpected::Bool(value) => value.to_string(),
        de::Unexpected::Map => "a mapping".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
        other => other.to_string(),
    }
}

/// Serde names Rust's types; people name values.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "usize" | "u64" | "u32" => "a whole number, at least 0".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}
