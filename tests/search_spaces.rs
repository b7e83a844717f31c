//! The shipped spaces: how many architectures, and how many weights, counted by the layout and in built networks.

use std::collections::BTreeSet;
use std::fs;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use strait::network::{Network, Supernet};
use strait::ops::Catalog;
use strait::space::{
    Block, CellGenotype, Chosen, Costs, Extent, Genotype, Layout, LayoutRequest, Phase, Shape, Space,
};
use strait::{DType, Device};

use crate::tidy::root;

const PICTURE: Shape = Shape { extent: Extent::Image { height: 32, width: 32 }, channels: 3 };
const DIGIT: Shape = Shape { extent: Extent::Image { height: 8, width: 8 }, channels: 1 };
const SERIES: Shape = Shape { extent: Extent::Series { length: 32 }, channels: 32 };
const ROW: Shape = Shape { extent: Extent::Flat, channels: 64 };

struct Row {
    name: &'static str,
    input: Shape,
    architectures: &'static str,
    per_cell: &'static [(&'static str, &'static str)],
    /// Weights of the supernet, without logits and without the auxiliary head, for 10 classes.
    supernet: u64,
}

const NB201: &[(&str, &str)] = &[("cell", "15625")]; // 5⁶
const DARTS: &[(&str, &str)] = &[("normal", "1037664180"), ("reduce", "1037664180")]; // (1·3·6·10)·7⁸
const ROBUST: &[(&str, &str)] = &[("normal", "46080"), ("reduce", "46080")]; // (1·3·6·10)·2⁸
const MOBILE: &[(&str, &str)] = &[("first", "46656"), ("layer", "4747561509943")]; // 6⁶ and 7¹⁵

#[rustfmt::skip]
const TABLE: [Row; 11] = [
    Row { name: "digits", input: DIGIT, architectures: "15625", per_cell: NB201, supernet: 396_922 },
    Row { name: "nas-bench-201", input: PICTURE, architectures: "15625", per_cell: NB201, supernet: 1_692_826 },
    Row { name: "darts", input: PICTURE, architectures: "1076746950455072400", per_cell: DARTS, supernet: 1_930_618 },
    Row { name: "darts-imagenet", input: PICTURE, architectures: "1076746950455072400", per_cell: DARTS, supernet: 1_931_410 },
    Row { name: "darts-s1", input: PICTURE, architectures: "2123366400", per_cell: ROBUST, supernet: 405_146 },
    Row { name: "darts-s2", input: PICTURE, architectures: "2123366400", per_cell: ROBUST, supernet: 665_466 },
    Row { name: "darts-s3", input: PICTURE, architectures: "2123366400", per_cell: ROBUST, supernet: 665_466 },
    Row { name: "darts-s4", input: PICTURE, architectures: "2123366400", per_cell: ROBUST, supernet: 624_506 },
    Row { name: "mobile", input: PICTURE, architectures: "221502229807900608", per_cell: MOBILE, supernet: 14_765_978 },
    Row { name: "series-1d", input: SERIES, architectures: "117649", per_cell: &[("cell", "117649")], supernet: 422_666 },
    Row { name: "mlp", input: ROW, architectures: "531441", per_cell: &[("cell", "531441")], supernet: 37_994 },
];

fn space(name: &str) -> Space {
    Space::shipped(name, &Catalog::standard()).expect("it is shipped").expect("it is valid")
}

fn layout(name: &str, input: Shape, phase: Phase) -> Layout {
    let request = LayoutRequest { input, classes: 10, phase, channels: None, cells: None };
    space(name).layout(&request, &Catalog::standard()).expect("it fits")
}

/// Weights of a supernet that is built.
fn built(layout: Layout) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let built = Supernet::new(layout, &Catalog::standard(), DType::F32, &Device::Cpu, &mut rng);
    built.expect("the catalog builds what it counts").1.n_params()
}

/// Weights of a child that is built, the auxiliary head left out, by its layout and in its store.
fn child(name: &str, genotype: &Genotype) -> [u64; 2] {
    weights(layout(name, PICTURE, Phase::Train).child(genotype).expect("it is of the space"))
}

/// Weights of a layout, the auxiliary head left out, as it counts them and in the store of the network.
fn weights(layout: Layout) -> [u64; 2] {
    let catalog = Catalog::standard();
    let counted = layout.cost(&catalog).expect("it is of the catalog").params;
    let bare = Layout { auxiliary: None, ..layout };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let built = Network::new(bare, &catalog, DType::F32, &Device::Cpu, &mut rng);
    [counted, built.expect("the catalog builds what it counts").1.n_params()]
}

#[test]
fn the_table_lists_every_shipped_space() {
    let files = fs::read_dir(root().join("search_spaces")).expect("it is there");
    let stem = |path: std::path::PathBuf| path.file_stem().map(|stem| stem.display().to_string());
    let files: BTreeSet<_> = files.filter_map(|entry| stem(entry.expect("readable").path())).collect();
    assert_eq!(files, TABLE.map(|row| row.name.to_owned()).into());
    assert_eq!(BTreeSet::from_iter(Space::shipped_names().iter().copied()), TABLE.map(|row| row.name).into());
}

#[test]
fn spaces_have_the_sizes_of_the_table() {
    for Row { name, input, architectures, per_cell, .. } in TABLE {
        let layout = layout(name, input, Phase::Search);
        assert_eq!(space(name).architectures(&layout).to_string(), architectures, "{name}");
        let per_kind = space(name).architectures_per_kind(&layout);
        let per_kind: Vec<_> = per_kind.iter().map(|(kind, n)| (kind.as_str(), n.to_string())).collect();
        assert_eq!(
            per_kind.iter().map(|(kind, n)| (*kind, n.as_str())).collect::<Vec<_>>(),
            per_cell,
            "{name}"
        );
    }
}

#[test]
fn supernets_have_the_weights_of_the_table() {
    for Row { name, input, supernet, .. } in TABLE {
        let layout = layout(name, input, Phase::Search);
        let costs = layout.costs(&Catalog::standard(), space(name).rule());
        let Costs { supernet: counted, min, max } = costs.expect("the catalog counts its own words");
        assert_eq!((counted.params, built(layout)), (supernet, supernet), "{name}");
        assert!(min.params <= max.params && max.params <= supernet, "{name}");
    }
}

/// What pictures show of a network is all of it.
#[test]
fn stretches_and_the_head_cost_what_the_whole_costs() {
    let words = Catalog::standard();
    for (Row { name, input, .. }, phase) in
        TABLE.iter().flat_map(|row| [(row, Phase::Search), (row, Phase::Train)])
    {
        let layout = layout(name, *input, phase);
        let stretches = layout.stretches(&words).expect("the catalog counts its own words");
        let blocks: usize = stretches.iter().map(|stretch| stretch.count).sum();
        assert_eq!(blocks, layout.blocks.len() + usize::from(layout.stem.is_some()), "{name}");
        let head = layout.head_cost(&words).expect("the catalog counts its own words");
        let sum = stretches.iter().fold(head, |sum, stretch| sum + stretch.cost);
        assert_eq!(sum, layout.cost(&words).expect("the catalog counts its own words"), "{name}");
    }
}

/// Table 2 of DARTS: its second-order and its first-order cell (Liu et al., 2019, figures 4 and 5; `genotypes.py`).
#[test]
fn darts_children_have_the_weights_of_their_authors() {
    for (text, weights) in [(DARTS_V2, 3_349_342), (DARTS_V1, 3_169_414)] {
        let genotype = Genotype::from_darts(text, &space("darts")).expect("the authors' own words");
        assert_eq!(child("darts", &genotype), [weights; 2]);
    }
}

/// Table 3 of DARTS: 4.7 M weights, at 48 channels, 14 cells and pictures of 224×224. Its authors' network written again in
/// PyTorch has the same weights and multiply-accumulates to the digit; the paper's 574 M multiply-adds count more than these.
#[test]
fn the_darts_child_for_imagenet_has_the_size_of_its_paper() {
    let catalog = Catalog::standard();
    let (space, extent) = (space("darts-imagenet"), Extent::Image { height: 224, width: 224 });
    let input = Shape { extent, channels: 3 };
    let request = LayoutRequest { input, classes: 1000, phase: Phase::Train, channels: None, cells: None };
    let layout = space.layout(&request, &catalog).expect("it fits");
    let cells = layout
        .blocks
        .iter()
        .filter_map(|block| if let Block::Cell(cell) = block { Some(cell) } else { None });
    let cells: Vec<_> = cells.collect();
    let reductions: Vec<_> = cells.iter().filter(|cell| cell.reduction).map(|cell| cell.index).collect();
    assert_eq!((cells.len(), reductions), (14, vec![4, 9]));
    let read = |input: usize| cells[0].inputs[input].preprocess.as_ref().map(|(op, _)| op.label.as_str());
    assert_eq!(
        [read(0), read(1)],
        [Some("skip_connect"), Some("nor_conv_1x1")],
        "cell 0 as after a reduction"
    );
    let extents: Vec<usize> = cells.iter().map(|cell| cell.shape.extent.pixels()).collect();
    assert_eq!([extents[0], extents[4], extents[9]], [28 * 28, 14 * 14, 7 * 7]);
    assert_eq!(layout.auxiliary.as_ref().map(|head| head.op.label.as_str()), Some("auxiliary_head_n1"));
    let genotype = Genotype::from_darts(DARTS_V2, &space).expect("the authors' own words");
    let child = layout.child(&genotype).expect("it is of the space");
    assert_eq!(child.cost(&catalog).expect("it is of the catalog").macs, 529_911_552);
    assert_eq!(weights(child), [4_718_752; 2]);
}

#[test]
fn the_largest_nas_bench_201_child_has_its_published_weights() {
    let edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
    let edges = edges.map(|(from, to)| Chosen { from, to, op: "nor_conv_3x3".to_owned() });
    let cell = CellGenotype { kind: "cell".to_owned(), cell: None, edges: edges.into(), output: vec![3] };
    let genotype = Genotype { version: 1, space: "nas-bench-201".to_owned(), cells: vec![cell] };
    assert_eq!(child("nas-bench-201", &genotype), [1_531_546; 2]);
}

const DARTS_V1: &str = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), \
('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], \
reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), \
('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])";

const DARTS_V2: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), \
('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], \
reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), \
('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])";
