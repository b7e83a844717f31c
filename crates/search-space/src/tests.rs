//! Shipped spaces: their sizes, and the weights of networks that others have built, too.

use num_bigint::BigUint;

use crate::{CellGenotype, Chosen, Genotype, Layout, LayoutRequest, Phase, Space, words::Words};

fn shipped(name: &str) -> Space {
    let path = format!("{}/../../search_spaces/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    Space::load(std::path::Path::new(&path), &Words).unwrap_or_else(|errors| panic!("{errors}"))
}

fn layout(space: &Space, phase: Phase) -> Layout {
    let input = crate::Shape { extent: crate::Extent::Image { height: 32, width: 32 }, channels: 3 };
    let request = LayoutRequest { input, classes: 10, phase, channels: None, cells: None };
    space.layout(&request, &Words).expect("the space takes pictures")
}

fn chosen(from: usize, to: usize, op: &str) -> Chosen {
    Chosen { from, to, op: op.to_owned() }
}

#[test]
fn nas_bench_201_has_15_625_cells() {
    let space = shipped("nas-bench-201");
    assert_eq!(space.architectures(&layout(&space, Phase::Search)), BigUint::from(15_625u32));
}

#[test]
fn darts_has_1_037_664_180_cells_of_each_kind() {
    let space = shipped("darts");
    let per_kind = space.architectures_per_kind(&layout(&space, Phase::Search));
    let cells = BigUint::from(1_037_664_180u32);
    assert_eq!(per_kind, [("normal".to_owned(), cells.clone()), ("reduce".to_owned(), cells)]);
}

#[test]
fn the_darts_supernet_has_1_930_618_weights() {
    let space = shipped("darts");
    let cost = layout(&space, Phase::Search).cost(&Words).expect("known words");
    assert_eq!(cost.params, 1_930_618);
}

#[test]
fn the_nas_bench_201_supernet_has_1_692_826_weights() {
    let space = shipped("nas-bench-201");
    let cost = layout(&space, Phase::Search).cost(&Words).expect("known words");
    assert_eq!(cost.params, 1_692_826);
}

#[test]
fn the_all_convolution_child_of_nas_bench_201_has_1_531_546_weights() {
    let space = shipped("nas-bench-201");
    let pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
    let edges = pairs.map(|(from, to)| chosen(from, to, "nor_conv_3x3")).into();
    let cell = CellGenotype { kind: "cell".into(), cell: None, edges, output: vec![3] };
    let genotype = Genotype { version: 1, space: "nas-bench-201".into(), cells: vec![cell] };
    let child = layout(&space, Phase::Train).child(&genotype).expect("a child of the space");
    assert_eq!(child.cost(&Words).expect("known words").params, 1_531_546);
}
