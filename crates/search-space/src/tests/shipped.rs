//! Shipped spaces: their sizes, and the weights of networks that others have built, too.

use num_bigint::BigUint;

use super::{image, nb201, params, pictures, request, shipped, space};
use crate::{Extent, Genotype, Phase, Rule, Shape, Space, Template, words::Words};

fn sizes(name: &str) -> Vec<(String, BigUint)> {
    let space = shipped(name);
    let request = request(space.sample_input(), Phase::Search);
    space.architectures_per_kind(&space.layout(&request, &Words).expect("its own sample"))
}

fn both_kinds(cells: u64) -> Vec<(String, BigUint)> {
    ["normal", "reduce"].map(|kind| (kind.to_owned(), cells.into())).into()
}

#[test]
fn every_shipped_space_and_template_is_valid() {
    for name in Space::shipped_names() {
        assert_eq!(&shipped(name).name(), name);
    }
    for template in [Template::Cell, Template::Chain, Template::Series, Template::Mlp] {
        space(Space::template(template));
    }
}

#[test]
fn every_shipped_space_has_search_settings() {
    for name in Space::shipped_names() {
        let expected = if *name == "mobile" { "gumbel-soft" } else { "gumbel-st" }; // FBNet samples softly
        assert_eq!(shipped(name).search_settings()["estimator"], expected, "{name}");
    }
}

#[test]
fn spaces_have_the_sizes_of_their_papers() {
    assert_eq!(sizes("digits"), [("cell".to_owned(), 15_625u32.into())]);
    assert_eq!(sizes("nas-bench-201"), [("cell".to_owned(), 15_625u32.into())]);
    assert_eq!(sizes("darts"), both_kinds(1_037_664_180));
    assert_eq!(sizes("darts-imagenet"), both_kinds(1_037_664_180));
    for name in ["darts-s1", "darts-s2", "darts-s3", "darts-s4"] {
        assert_eq!(sizes(name), both_kinds(46_080), "{name}");
    }
    let chain = [("first", 46_656u64), ("layer", 4_747_561_509_943)]; // 6⁶ and 7¹⁵
    assert_eq!(sizes("mobile"), chain.map(|(kind, cells)| (kind.to_owned(), cells.into())));
    assert_eq!(sizes("series-1d"), [("cell".to_owned(), 117_649u32.into())]);
    assert_eq!(sizes("mlp"), [("cell".to_owned(), 531_441u32.into())]);
}

#[test]
fn two_darts_cells_make_about_1e18_architectures() {
    let space = shipped("darts");
    let all = space.architectures(&pictures(&space, Phase::Search));
    assert_eq!(all, BigUint::from(1_037_664_180u64 * 1_037_664_180));
}

#[test]
fn supernets_have_the_weights_their_files_state() {
    assert_eq!(params(&pictures(&shipped("darts"), Phase::Search)), 1_930_618);
    assert_eq!(params(&pictures(&shipped("nas-bench-201"), Phase::Search)), 1_692_826);
    assert_eq!(params(&pictures(&shipped("mobile"), Phase::Search)), 14_765_978);
    let digits = request(image(8, 8, 1), Phase::Search);
    assert_eq!(params(&shipped("digits").layout(&digits, &Words).expect("digits")), 396_922);
    let series = request(Shape { extent: Extent::Series { length: 32 }, channels: 32 }, Phase::Search);
    assert_eq!(params(&shipped("series-1d").layout(&series, &Words).expect("series")), 422_666);
    let rows = request(Shape { extent: Extent::Flat, channels: 64 }, Phase::Search);
    assert_eq!(params(&shipped("mlp").layout(&rows, &Words).expect("rows")), 37_994);
}

#[test]
fn smallest_and_largest_children_are_those_their_files_state() {
    let bounds = |name, input| {
        let layout = shipped(name).layout(&request(input, Phase::Train), &Words).expect("admitted");
        let costs = layout.costs(&Words, Rule::Argmax).expect("known words");
        (costs.min.params, costs.max.params)
    };
    assert_eq!(bounds("digits", image(8, 8, 1)), (73_018, 364_666));
    assert_eq!(bounds("mobile", image(32, 32, 3)), (886_794, 3_835_146));
    assert_eq!(bounds("nas-bench-201", image(32, 32, 3)).1, 1_531_546);
}

#[test]
fn the_all_convolution_child_of_nas_bench_201_has_1_531_546_weights() {
    let layout = pictures(&shipped("nas-bench-201"), Phase::Train);
    let child = layout.child(&nb201("nas-bench-201", ["nor_conv_3x3"; 6])).expect("a child of the space");
    assert_eq!(params(&child), 1_531_546);
}

#[test]
fn the_published_darts_cells_have_their_published_weights() {
    let space = shipped("darts");
    let weights = |tuple| {
        let genotype = Genotype::from_darts(tuple, &space).expect("DARTS's own notation");
        params(&pictures(&space, Phase::Train).child(&genotype).expect("a child of the space"))
    };
    assert_eq!(weights(super::genotypes::DARTS_V1), 3_169_414);
    assert_eq!(weights(super::genotypes::DARTS_V2), 3_349_342);
}

#[test]
fn the_second_space_of_robust_darts_chooses_per_edge() {
    let layout = pictures(&shipped("darts-s1"), Phase::Search);
    let normal = layout.cells().next().expect("eight cells");
    let labels =
        |edge: usize| normal.edges[edge].candidates.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(labels(5), ["max_pool_3x3", "skip_connect"]); // into node 4, from input 0
    assert_eq!(labels(13), ["dil_conv_3x3", "dil_conv_5x5"]);
    let rows: usize = layout.groups.iter().map(|group| group.edges.len()).sum();
    assert_eq!(rows, 28);
}
