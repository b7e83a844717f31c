use rand::SeedableRng;
use search_space::{CellInput, Edge, Extent, Head, Norm, OpSpec, Shape, Site};

use super::*;

const LABELS: [&str; 3] = ["none", "skip_connect", "sep_conv_3x3"];

fn op(label: &str) -> OpSpec {
    OpSpec { word: label.into(), params: Default::default(), label: label.into() }
}

/// One cell with two inputs and two nodes, in the order of DARTS: 0→2, 1→2, 0→3, 1→3, 2→3.
fn layout() -> Layout {
    let extent = Extent::Flat;
    let site = Site { extent, c_in: 4, c_out: 4, stride: 1, norm: Norm::default() };
    let shape = Shape { extent, channels: 4 };
    let pairs = vec![(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
    let candidates: Vec<OpSpec> = LABELS.map(op).into();
    let edge = |(row, &(from, to)): (usize, &(usize, usize))| Edge {
        from,
        to,
        site,
        partial: 1,
        strength: 1.0,
        candidates: candidates.clone(),
        group: 0,
        row,
    };
    let input = |back| CellInput { back, preprocess: None, shape };
    let cell = Cell {
        kind: 0,
        name: "normal".into(),
        index: 0,
        inputs: vec![input(2), input(1)],
        edges: pairs.iter().enumerate().map(edge).collect(),
        nodes: 2,
        output: vec![2, 3],
        shape: Shape { extent, channels: 8 },
        reduction: false,
    };
    let group = search_space::ChoiceGroup {
        name: "normal".into(),
        kind: "normal".into(),
        cell: None,
        candidates,
        edges: pairs,
    };
    Layout {
        space: "toy".into(),
        input: shape,
        classes: 2,
        stem: None,
        blocks: vec![Block::Cell(cell)],
        head: Head { input: shape, before_pool: None, dropout: 0.0, features: 8 },
        auxiliary: None,
        groups: vec![group],
    }
}

/// `from→to op` of every kept edge.
fn kept(choices: &Choices) -> Vec<String> {
    let genotype = genotype(&layout(), choices);
    genotype.cells[0].edges.iter().map(|Chosen { from, to, op }| format!("{from}→{to} {op}")).collect()
}

#[test]
fn argmax_takes_none_and_the_first_of_equals() {
    let rows = [[0.4, 0.3, 0.3], [0.2, 0.4, 0.4], [0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]];
    let choices = argmax(&[rows.map(Vec::from).into()]);
    assert_eq!(choices, [[0, 1, 2, 0, 2].map(Some)]);
    assert_eq!(kept(&choices)[0], "0→2 none");
}

/// Node 3 reads from three edges of strength 0.3, 0.45 and 0.35: the first goes, though `none` is weakest there.
#[test]
fn top_two_ranks_edges_by_what_is_not_none() {
    let rows = [[0.8, 0.15, 0.05], [0.9, 0.04, 0.06], [0.4, 0.3, 0.3], [0.5, 0.05, 0.45], [0.6, 0.35, 0.05]];
    let choices = top(&layout(), &[rows.map(Vec::from).into()], 2);
    assert_eq!(
        kept(&choices),
        ["0→2 skip_connect", "1→2 sep_conv_3x3", "1→3 sep_conv_3x3", "2→3 skip_connect"]
    );
}

#[test]
fn top_two_breaks_ties_by_the_lower_edge_and_the_lower_candidate() {
    let choices = top(&layout(), &[vec![vec![0.2, 0.4, 0.4]; 5]], 2);
    assert_eq!(
        kept(&choices),
        ["0→2 skip_connect", "1→2 skip_connect", "0→3 skip_connect", "1→3 skip_connect"]
    );
}

/// n = 4000 draws of probabilities 0.2, 0.3, 0.5: four standard errors are at most 0.032.
#[test]
fn draws_follow_the_probabilities() {
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let mut counts = [0.0f64; 3];
    for _ in 0..4000 {
        let choices = draw(&[vec![vec![0.2, 0.3, 0.5]]], rng);
        counts[choices[0][0].expect("a draw chooses")] += 1.0 / 4000.0;
    }
    for (found, expected) in counts.iter().zip([0.2, 0.3, 0.5]) {
        assert!((found - expected).abs() < 0.032, "{counts:?}");
    }
}

#[test]
fn a_child_without_a_path_is_an_error_that_names_its_cells() {
    let genotype = genotype(&layout(), &vec![vec![Some(0); 5]]);
    let disconnected = layout().child(&genotype).expect("legal, though useless").disconnected();
    let error =
        Decision { genotype, disconnected }.connected().expect_err("a child without a path was let through");
    assert!(error.to_string().starts_with("no path from input to output in cell 0"), "{error}");
}
