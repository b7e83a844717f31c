//! What the others may do wrong, which no other test can reach.

use data::{DataOptions, open};
use ops::WeightId;

use super::*;
use crate::Layer;

fn pair(catalog: &Catalog) -> Result<(Search<'_>, SearchData), Box<dyn std::error::Error>> {
    let space = Space::shipped("digits", catalog).expect("it is shipped")?;
    let short = "{epochs: 2, warmup_epochs: 0, batch: 32, fraction: 0.025, gap_batches: 1}";
    let layers =
        [Layer::Space { origin: "digits", space: &space }, Layer::Text { origin: "short", text: short }];
    let config = SearchConfig::resolve(&layers)?;
    let data = SearchData::split(open(&"digits".parse()?, &DataOptions::default())?, &config.split())?;
    let devices = [Device::Cpu, Device::Cpu];
    Ok((Search::across(&space, catalog, &data, config, &devices)?, data))
}

/// The error of a search whose second rank was tampered with.
fn error(tamper: impl Fn(&mut Search<'_>) -> Result<(), Error>) -> String {
    let catalog = Catalog::standard();
    let (mut search, data) = pair(&catalog).expect("it can be searched");
    search.each_other(|other| tamper(other)).expect("it can be tampered with");
    let error = search.next_epoch(&data).expect_err("the ranks are apart");
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn first(search: &Search<'_>) -> WeightId {
    search.params.weights().next().expect("there are weights").0
}

#[test]
fn a_rank_with_other_weights_is_named_at_the_epochs_end() {
    let message = error(|other| {
        let (id, by) = (first(other), 1e-3);
        Ok(other.params.set_weight(id, (other.params.weight(id) + by)?)?)
    });
    let expected =
        "epoch 0: rank 1 has other weights or statistics than rank 0; expected the same bytes on all";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_rank_with_other_logits_is_named_with_their_group() {
    let message = error(|other| {
        let moved = (other.arch.logits(0).detach() + 1e-9)?;
        Ok(other.arch.set_logits(0, &moved)?)
    });
    assert!(message.starts_with("epoch 0: rank 1 has other logits of `cell"), "{message}");
}

#[test]
fn what_fails_on_one_rank_is_said_of_it() {
    let message = error(|other| {
        let id = first(other);
        Ok(other.params.set_weight(id, (other.params.weight(id) * f64::NAN)?)?)
    });
    let expected = "on rank 1 of 2: epoch 0, step 0: the loss of the weight step is not finite";
    assert!(message.starts_with(expected), "{message}");
}
