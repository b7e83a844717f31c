use std::collections::BTreeMap;

use search_space::{Extent, Norm};

use super::*;

fn resolve(label: &str, rank: Rank) -> Result<OpSpec, WordError> {
    Catalog::standard().resolve(&Written::Label(label.to_owned()), rank)
}

fn written(op: &str, params: &[(&str, i64)]) -> Written {
    let params = params.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    Written::Spec { op: op.to_owned(), params }
}

#[track_caller]
fn refuses(written: &Written, rank: Rank, message: &str) {
    let error = Catalog::standard().resolve(written, rank).expect_err("a faulty operation was accepted");
    assert_eq!(error.to_string(), message);
}

#[test]
fn every_example_resolves_to_its_own_label() -> Result<(), WordError> {
    for definition in &Catalog::standard().definitions {
        for rank in [Rank::Image, Rank::Series, Rank::Flat] {
            for label in definition.labels(rank) {
                let spec = resolve(&label, rank)?;
                assert_eq!((spec.word.as_str(), spec.label), (definition.name(), label));
            }
        }
    }
    Ok(())
}

#[test]
fn a_label_and_its_parameters_mean_the_same() -> Result<(), WordError> {
    let spec =
        Catalog::standard().resolve(&written("mbconv", &[("kernel", 5), ("expansion", 6)]), Rank::Image)?;
    assert_eq!(spec, resolve("mbconv_5x5_e6", Rank::Image)?);
    assert_eq!(spec.params, BTreeMap::from([("kernel".to_owned(), 5), ("expansion".to_owned(), 6)]));
    assert_eq!(resolve("mbconv_5_e6", Rank::Series)?.params, spec.params);
    Ok(())
}

#[test]
fn a_default_is_filled_in_and_left_out_of_the_label() -> Result<(), WordError> {
    assert_eq!(resolve("conv_norm_3x3", Rank::Image)?.params["activation"], 0);
    let spec = Catalog::standard()
        .resolve(&written("conv_norm", &[("kernel", 1), ("activation", 2)]), Rank::Image)?;
    assert_eq!(spec.label, "conv_norm_1x1_a2");
    Ok(())
}

#[test]
fn a_faulty_word_is_told_what_would_be_accepted() {
    let label = |text: &str| Written::Label(text.to_owned());
    refuses(
        &label("sep_con_3x3"),
        Rank::Image,
        "unknown operation `sep_con_3x3`; did you mean `sep_conv_3x3`?",
    );
    refuses(
        &label("sep_conv_3"),
        Rank::Image,
        "unknown operation `sep_conv_3`; did you mean `sep_conv_3x3`?",
    );
    refuses(
        &label("nor_conv_1x1"),
        Rank::Series,
        "unknown operation `nor_conv_1x1`; did you mean `nor_conv_1`?",
    );
    refuses(
        &label("lstm"),
        Rank::Flat,
        "unknown operation `lstm`; known are none, skip_connect, dense, noise, linear_norm, norm_relu",
    );
    refuses(&label("sep_conv"), Rank::Image, "`sep_conv` without its `kernel`; odd, 3 to 31");
    refuses(&label("sep_conv_4x4"), Rank::Image, "`sep_conv` with kernel 4; odd, 3 to 31");
    refuses(&label("conv_7x1_1x7"), Rank::Series, "`conv_7x1_1x7` on series data; it works on image");
    refuses(
        &written("sep_conv", &[("kernel", 3), ("kernels", 3)]),
        Rank::Image,
        "`sep_conv` with a parameter `kernels`; it takes kernel (odd, 3 to 31)",
    );
    refuses(
        &written("none", &[("kernel", 3)]),
        Rank::Image,
        "`none` with a parameter `kernel`; it takes none",
    );
}

#[test]
fn a_word_is_registered_once() {
    let word =
        |name| Definition::new(name, "the identity", |_| Box::new(candidates::skip_connect::SkipConnect));
    let mut catalog = Catalog::standard();
    assert!(catalog.register(word("mine")).is_ok());
    let error = catalog.register(word("mine")).expect_err("a word was registered twice");
    assert_eq!(error.to_string(), "the word `mine`, which is taken; a word of its own");
    let error = catalog.register(word("my op")).expect_err("a word with a blank was registered");
    assert_eq!(error.to_string(), "the word `my op`; letters, digits and underscores");
}

#[test]
fn an_operation_that_cannot_stand_somewhere_says_why() -> Result<(), WordError> {
    let extent = Extent::Image { height: 8, width: 8 };
    let site = Site { extent, c_in: 4, c_out: 1, stride: 2, norm: Norm::default() };
    let refusal = |label, site: &Site| -> Result<String, WordError> {
        let error = Catalog::standard().cost(&resolve(label, Rank::Image)?, site);
        Ok(error.expect_err("an operation stood where it cannot").to_string())
    };
    assert_eq!(
        refusal("skip_connect", &site)?,
        "`skip_connect` with stride 2 to 1 channel; a factorized reduce needs at least 2"
    );
    assert_eq!(refusal("norm_relu", &site)?, "`norm_relu` from 8×8×4 to 4×4×1; it keeps the shape");
    assert_eq!(
        refusal("none", &Site { stride: 0, ..site })?,
        "`none` from 8×8×4 to 1 channels, stride 0; sizes, channels and strides of at least 1"
    );
    Ok(())
}
