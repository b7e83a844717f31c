//! One word: its parameters, its labels, and the candidate it makes.

use std::{collections::BTreeMap, fmt};

use search_space::{OpSpec, Rank, Word, WordError};

use crate::{Candidate, candidates::refuse};

/// What one word means: how it is written, and the candidate it makes.
///
/// A label is the word and its parameters joined by underscores; a parameter at its default is left out.
///
/// ```
/// # use ops::{candidates::nor_conv::ReluConvBn, Catalog, Definition, Parameter};
/// let mut catalog = Catalog::standard();
/// let word = Definition::new("my_conv", "ReLU, convolution, batch norm", |arguments| {
///     Box::new(ReluConvBn { kernel: arguments.size("kernel") })
/// });
/// catalog.register(word.parameter(Parameter::kernel(1, 7)).examples(&[&[3]]))?; // on images `my_conv_3x3`
/// # Ok::<(), search_space::WordError>(())
/// ```
pub struct Definition {
    name: String,
    summary: String,
    parameters: Vec<Parameter>,
    examples: Vec<Vec<i64>>,
    ranks: Vec<Rank>,
    make: Box<Make>,
}

type Make = dyn Fn(&Arguments) -> Box<dyn Candidate> + Send + Sync;

/// One parameter of a word: a whole number in a range.
#[derive(Clone, Debug)]
pub struct Parameter {
    name: String,
    shape: Shape,
    least: i64,
    most: i64,
    default: Option<i64>,
}

/// How a parameter looks in a label.
#[derive(Clone, Debug)]
enum Shape {
    /// `3x3` on images, `3` on series; odd.
    Kernel,
    /// `e6`.
    Tagged(String),
}

/// The checked parameters of one candidate.
#[derive(Clone, Debug)]
pub struct Arguments(BTreeMap<String, i64>);

impl Arguments {
    /// The value of a parameter of the definition.
    ///
    /// # Panics
    /// The definition has no such parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the definition has no parameter `{name}`"))
    }

    /// The value of a parameter of the definition whose range holds no negative number.
    ///
    /// # Panics
    /// The definition has no such parameter, or lets it be negative.
    #[must_use]
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.get(name)).expect("the definition's range begins at 0 or above")
    }
}

impl Parameter {
    /// The side of a window: `kernel`, odd, from `least` to `most`.
    #[must_use]
    pub fn kernel(least: i64, most: i64) -> Self {
        Self { name: "kernel".to_owned(), shape: Shape::Kernel, least, most, default: None }
    }

    /// A whole number from `least` to `most`, in labels by its name's first letter and its value.
    #[must_use]
    pub fn number(name: &str, least: i64, most: i64) -> Self {
        let tag = name.chars().take(1).collect();
        Self { name: name.to_owned(), shape: Shape::Tagged(tag), least, most, default: None }
    }

    /// The same parameter with another tag in front of its value in labels; the tag ends in no digit.
    #[must_use]
    pub fn tagged(self, tag: &str) -> Self {
        Self { shape: Shape::Tagged(tag.to_owned()), ..self }
    }

    /// The same parameter with a default.
    #[must_use]
    pub fn or(self, default: i64) -> Self {
        Self { default: Some(default), ..self }
    }

    fn accepts(&self) -> String {
        let odd = if self.is_kernel() { "odd, " } else { "" };
        let default = self.default.map(|value| format!("; {value} unless given")).unwrap_or_default();
        format!("{odd}{} to {}{default}", self.least, self.most)
    }

    fn is_kernel(&self) -> bool {
        matches!(self.shape, Shape::Kernel)
    }

    fn allows(&self, value: i64) -> bool {
        (self.least..=self.most).contains(&value) && (!self.is_kernel() || value % 2 == 1)
    }

    fn show(&self, value: i64, rank: Rank) -> String {
        match (&self.shape, rank) {
            (Shape::Kernel, Rank::Image) => format!("{value}x{value}"),
            (Shape::Kernel, _) => value.to_string(),
            (Shape::Tagged(tag), _) => format!("{tag}{value}"),
        }
    }

    fn read(&self, part: &str, rank: Rank) -> Option<i64> {
        let digits = match &self.shape {
            Shape::Kernel => part.split('x').next()?,
            Shape::Tagged(tag) => part.strip_prefix(tag.as_str())?,
        };
        let value = digits.parse().ok()?;
        (self.show(value, rank) == part).then_some(value)
    }
}

impl Definition {
    /// The word `name`, without parameters, on images and series; `make` gets checked parameters only.
    pub fn new(
        name: &str,
        summary: &str,
        make: impl Fn(&Arguments) -> Box<dyn Candidate> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            parameters: Vec::new(),
            examples: Vec::new(),
            ranks: vec![Rank::Image, Rank::Series],
            make: Box::new(make),
        }
    }

    /// The same word with one more parameter.
    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// The same word on other maps.
    #[must_use]
    pub fn on(mut self, ranks: &[Rank]) -> Self {
        self.ranks = ranks.to_vec();
        self
    }

    /// The same word with examples: values of its parameters, in their order, for listings and for "did you mean".
    #[must_use]
    pub fn examples(mut self, examples: &[&[i64]]) -> Self {
        self.examples = examples.iter().map(|values| values.to_vec()).collect();
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn works_on(&self, rank: Rank) -> bool {
        self.ranks.contains(&rank)
    }

    pub(super) fn word(&self) -> Word {
        let params = self.parameters.iter().map(|one| (one.name.clone(), one.accepts())).collect();
        Word {
            name: self.name.clone(),
            summary: self.summary.clone(),
            params,
            examples: self.ranks.first().map(|&rank| self.labels(rank)).unwrap_or_default(),
            ranks: self.ranks.clone(),
        }
    }

    /// Labels of the examples at `rank`; of a word without parameters the word.
    pub(super) fn labels(&self, rank: Rank) -> Vec<String> {
        if !self.works_on(rank) {
            return Vec::new();
        }
        if self.parameters.is_empty() {
            return vec![self.name.clone()];
        }
        self.examples.iter().map(|values| self.label(values.iter().copied(), rank)).collect()
    }

    /// Reads `_3x3_e6`, what follows the word in a label; `None` where it is no such thing.
    pub(super) fn parse(&self, rest: &str, rank: Rank) -> Option<BTreeMap<String, i64>> {
        let mut parts = rest.split('_').skip(1).peekable();
        let mut params = BTreeMap::new();
        for parameter in &self.parameters {
            if let Some(value) = parts.peek().and_then(|part| parameter.read(part, rank)) {
                params.insert(parameter.name.clone(), value);
                parts.next();
            }
        }
        parts.next().is_none().then_some(params)
    }

    /// Checks parameters, fills in defaults, and makes the candidate.
    pub(super) fn spec(
        &self,
        mut params: BTreeMap<String, i64>,
        rank: Rank,
    ) -> Result<(OpSpec, Box<dyn Candidate>), WordError> {
        let name = &self.name;
        if !self.works_on(rank) {
            let ranks: Vec<String> = self.ranks.iter().map(Rank::to_string).collect();
            return Err(refuse(
                format!("`{name}` on {rank} data"),
                &format!("it works on {}", ranks.join(" and ")),
            ));
        }
        if let Some(unknown) = params.keys().find(|key| self.parameters.iter().all(|one| one.name != **key)) {
            return Err(refuse(
                format!("`{name}` with a parameter `{unknown}`"),
                &self.parameters_in_words(),
            ));
        }
        for one in &self.parameters {
            let Some(value) = params.get(&one.name).copied().or(one.default) else {
                return Err(refuse(format!("`{name}` without its `{}`", one.name), &one.accepts()));
            };
            if !one.allows(value) {
                return Err(refuse(format!("`{name}` with {} {value}", one.name), &one.accepts()));
            }
            params.insert(one.name.clone(), value);
        }
        let label = self.label(self.parameters.iter().map(|one| params[&one.name]), rank);
        let spec = OpSpec { word: name.clone(), params: params.clone(), label };
        Ok((spec, (self.make)(&Arguments(params))))
    }

    fn parameters_in_words(&self) -> String {
        let names: Vec<String> =
            self.parameters.iter().map(|one| format!("{} ({})", one.name, one.accepts())).collect();
        if names.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", names.join(", ")) }
    }

    fn label(&self, values: impl Iterator<Item = i64>, rank: Rank) -> String {
        let shown = self.parameters.iter().zip(values).filter(|(one, value)| one.default != Some(*value));
        shown.fold(self.name.clone(), |label, (one, value)| format!("{label}_{}", one.show(value, rank)))
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, parameters, ranks, .. } = self;
        f.debug_struct("Definition")
            .field("name", name)
            .field("parameters", parameters)
            .field("ranks", ranks)
            .finish_non_exhaustive()
    }
}
