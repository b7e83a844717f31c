//! Which operations there are, by their words.

mod definition;
#[cfg(test)]
mod tests;

use search_space::{Cost, OpSpec, Rank, Site, Vocabulary, Word, WordError, Written};

pub use definition::{Arguments, Definition, Parameter};

use crate::{
    Candidate, Error, Footprint, Op, ParamBuilder, Side,
    candidates::{self, refuse},
};

/// The words a space may use, and the operations they mean.
///
/// ```
/// use ops::Catalog;
/// use search_space::{Extent, Norm, Rank, Site, Vocabulary, Written};
///
/// let catalog = Catalog::standard();
/// let op = catalog.resolve(&Written::Label("nor_conv_3x3".into()), Rank::Image)?;
/// let extent = Extent::Image { height: 32, width: 32 };
/// let site = Site { extent, c_in: 16, c_out: 16, stride: 1, norm: Norm::default() };
/// assert_eq!(catalog.cost(&op, &site)?.params, 9 * 16 * 16 + 2 * 16);
/// # Ok::<(), search_space::WordError>(())
/// ```
#[derive(Debug, Default)]
pub struct Catalog {
    definitions: Vec<Definition>,
}

impl Catalog {
    /// Every operation of this crate: the candidates of the literature's spaces first, then the words of skeletons.
    #[must_use]
    pub fn standard() -> Self {
        let definitions = vec![
            candidates::none::definition(),
            candidates::skip_connect::definition(),
            candidates::nor_conv::definition(),
            candidates::sep_conv::definition(),
            candidates::dil_conv::definition(),
            candidates::avg_pool::definition(),
            candidates::max_pool::definition(),
            candidates::conv_7x1_1x7::definition(),
            candidates::mbconv::definition(),
            candidates::dense::definition(),
            candidates::noise::definition(),
            candidates::conv_norm::definition(),
            candidates::linear_norm::definition(),
            candidates::residual_block::definition(),
            candidates::norm_relu::definition(),
            candidates::auxiliary_head::definition(),
        ];
        Self { definitions }
    }

    /// Adds a word of the program's own.
    ///
    /// # Errors
    /// The word is taken, or is not made of letters, digits and underscores.
    pub fn register(&mut self, definition: Definition) -> Result<(), WordError> {
        let name = definition.name();
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(refuse(format!("the word `{name}`"), "letters, digits and underscores"));
        }
        if self.definition(name).is_some() {
            return Err(refuse(format!("the word `{name}`, which is taken"), "a word of its own"));
        }
        self.definitions.push(definition);
        Ok(())
    }

    /// Builds `op` at `site`, its weights named under the scope of `params`.
    ///
    /// # Errors
    /// The word or a parameter is not of this catalog, the operation cannot stand there, or a weight's name is taken.
    pub fn build(
        &self,
        op: &OpSpec,
        site: &Site,
        params: &mut ParamBuilder<'_>,
    ) -> Result<Box<dyn Op>, Error> {
        self.cost(op, site)?;
        let built = self.candidate(op, site.extent.rank())?.build(site, params);
        built.map_err(|source| Error::Weights { label: op.label.clone(), source })
    }

    /// What `op` holds in memory at `site`.
    ///
    /// # Errors
    /// As [`Vocabulary::cost`].
    pub fn footprint(&self, op: &OpSpec, site: &Site, side: Side) -> Result<Footprint, WordError> {
        let cost = self.cost(op, site)?;
        Ok(self.candidate(op, site.extent.rank())?.footprint(site, &cost, side))
    }

    fn candidate(&self, op: &OpSpec, rank: Rank) -> Result<Box<dyn Candidate>, WordError> {
        self.find(&op.word, rank)?.spec(op.params.clone(), rank).map(|(_, candidate)| candidate)
    }

    fn definition(&self, word: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.name() == word)
    }

    /// The longest word that `label` begins with, and what follows it.
    fn split<'a>(&self, label: &'a str) -> Option<(&Definition, &'a str)> {
        let begins = |definition| {
            let rest = label.strip_prefix(Definition::name(definition))?;
            (rest.is_empty() || rest.starts_with('_')).then_some((definition, rest))
        };
        self.definitions.iter().filter_map(begins).min_by_key(|(_, rest)| rest.len())
    }

    /// The definition of a word at `rank`, or the nearest word that exists there.
    fn find(&self, word: &str, rank: Rank) -> Result<&Definition, WordError> {
        let known = || self.definitions.iter().filter(|known| known.works_on(rank));
        self.definition(word)
            .ok_or_else(|| unknown(word, known().map(|known| known.name().to_owned()).collect()))
    }

    fn labels(&self, rank: Rank) -> Vec<String> {
        self.definitions.iter().flat_map(|word| word.labels(rank)).collect()
    }
}

/// The complaint about a name nobody knows, with the nearest one that exists.
fn unknown(label: &str, known: Vec<String>) -> WordError {
    let near = |other: &&String| strsim::normalized_damerau_levenshtein(label, other);
    let nearest = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    let accepted = match nearest.filter(|nearest| near(nearest) >= 0.6) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known are {}", known.join(", ")),
    };
    WordError { found: format!("unknown operation `{label}`"), accepted }
}

impl Vocabulary for Catalog {
    fn words(&self) -> Vec<Word> {
        self.definitions.iter().map(Definition::word).collect()
    }

    fn resolve(&self, written: &Written, rank: Rank) -> Result<OpSpec, WordError> {
        let (definition, params) = match written {
            Written::Label(label) => self
                .split(label)
                .and_then(|(definition, rest)| Some((definition, definition.parse(rest, rank)?)))
                .ok_or_else(|| unknown(label, self.labels(rank)))?,
            Written::Spec { op, params } => (self.find(op, rank)?, params.clone()),
        };
        definition.spec(params, rank).map(|(spec, _)| spec)
    }

    fn cost(&self, op: &OpSpec, site: &Site) -> Result<Cost, WordError> {
        if site.c_in == 0 || site.c_out == 0 || site.stride == 0 || site.extent.pixels() == 0 {
            let found =
                format!("`{}` from {} to {} channels, stride {}", op, site.input(), site.c_out, site.stride);
            return Err(refuse(found, "sizes, channels and strides of at least 1"));
        }
        self.candidate(op, site.extent.rank())?.cost(site)
    }
}
