//! Genotypes as text, there and back.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{nb201, shipped};
use crate::{CellGenotype, Chosen, Genotype, Space};

pub(super) const DARTS_V1: &str = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), \
    ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], \
    normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
    ('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], \
    reduce_concat=[2, 3, 4, 5])";

pub(super) const DARTS_V2: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), \
    ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], \
    normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
    ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], \
    reduce_concat=range(2, 6))";

static NB201: LazyLock<Space> = LazyLock::new(|| shipped("nas-bench-201"));
static DARTS: LazyLock<Space> = LazyLock::new(|| shipped("darts"));

const NB201_OPS: [&str; 5] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];
const DARTS_OPS: [&str; 4] = ["max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"];

fn nb201_genotype() -> impl Strategy<Value = Genotype> {
    let op = || prop::sample::select(NB201_OPS.as_slice());
    [op(), op(), op(), op(), op(), op()].prop_map(|ops| nb201("nas-bench-201", ops))
}

/// Two distinct sources for each of nodes 2 to 5, each with an operation.
fn darts_cell(kind: &'static str) -> impl Strategy<Value = CellGenotype> {
    let op = || prop::sample::select(DARTS_OPS.as_slice());
    let node = |to: usize| {
        let sources = prop::sample::subsequence((0..to).collect::<Vec<_>>(), 2);
        let chosen = move |from: usize, op: &str| Chosen { from, to, op: op.to_owned() };
        (sources, op(), op()).prop_map(move |(from, a, b)| [chosen(from[0], a), chosen(from[1], b)])
    };
    [node(2), node(3), node(4), node(5)].prop_map(|nodes| {
        let edges = nodes.into_iter().flatten().collect();
        CellGenotype { kind: kind.to_owned(), cell: None, edges, output: vec![2, 3, 4, 5] }
    })
}

fn darts_genotype() -> impl Strategy<Value = Genotype> {
    (darts_cell("normal"), darts_cell("reduce")).prop_map(|(normal, reduce)| Genotype {
        version: 1,
        space: "darts".into(),
        cells: vec![normal, reduce],
    })
}

/// Whatever the space: names that YAML could mistake for something else, cells of their own, any edges.
fn any_genotype() -> impl Strategy<Value = Genotype> {
    let text = || {
        prop_oneof!["[a-z_0-9]{1,12}", Just("null".to_owned()), Just("1e3".to_owned()), Just("~".to_owned())]
    };
    let edge = (0..9usize, 0..9usize, text()).prop_map(|(from, to, op)| Chosen { from, to, op });
    let cell = (
        text(),
        prop::option::of(0..99usize),
        prop::collection::vec(edge, 0..6),
        prop::collection::vec(0..9usize, 0..4),
    )
        .prop_map(|(kind, cell, edges, output)| CellGenotype { kind, cell, edges, output });
    (text(), prop::collection::vec(cell, 0..4)).prop_map(|(space, cells)| Genotype {
        version: 1,
        space,
        cells,
    })
}

proptest! {
    #[test]
    fn yaml_and_json_give_back_what_they_got(genotype in any_genotype()) {
        prop_assert_eq!(&Genotype::from_yaml(&genotype.to_yaml()).expect("its own text"), &genotype);
        prop_assert_eq!(&Genotype::from_json(&genotype.to_json()).expect("its own text"), &genotype);
    }

    #[test]
    fn nas_bench_201_strings_give_back_what_they_got(genotype in nb201_genotype()) {
        let text = genotype.to_nb201().expect("a cell of that space");
        prop_assert_eq!(Genotype::from_nb201(&text, &NB201).expect("its own text"), genotype);
    }

    #[test]
    fn darts_tuples_give_back_what_they_got(genotype in darts_genotype()) {
        let text = genotype.to_darts().expect("cells of that space");
        prop_assert_eq!(Genotype::from_darts(&text, &DARTS).expect("its own text"), genotype);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(Genotype|[(\\[\\])=,'|~+0-9a-z ]){0,40}") {
        let _ = (Genotype::from_nb201(&text, &NB201), Genotype::from_darts(&text, &DARTS));
        let _ = (Genotype::from_yaml(&text), Genotype::from_json(&text));
    }
}

#[test]
fn the_nas_bench_201_string_lists_every_node_in_turn() {
    let genotype = nb201("nas-bench-201", ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(genotype.to_nb201().as_deref(), Ok("|a~0|+|b~0|c~1|+|d~0|e~1|f~2|"));
}

#[test]
fn the_darts_tuple_reads_as_its_authors_print_it() {
    let genotype = Genotype::from_darts(DARTS_V2, &DARTS).expect("DARTS's own notation");
    assert_eq!(
        genotype.to_darts().expect("the same"),
        DARTS_V2
            .replace(
                "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0)",
                "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0)", // a node's edges by source
            )
            .replace(
                "('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0)",
                "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0)",
            )
            .replace(
                "('skip_connect', 2), ('max_pool_3x3', 1)], reduce",
                "('max_pool_3x3', 1), ('skip_connect', 2)], reduce"
            )
    );
}

#[test]
fn a_genotype_reads_as_one_line_a_cell() {
    let genotype = Genotype::from_darts(DARTS_V2, &DARTS).expect("DARTS's own notation");
    assert_eq!(
        genotype.to_string().lines().next(),
        Some(
            "normal: 2 = sep_conv_3x3(0) + sep_conv_3x3(1); 3 = sep_conv_3x3(0) + sep_conv_3x3(1); \
             4 = skip_connect(0) + sep_conv_3x3(1); 5 = skip_connect(0) + dil_conv_3x3(2); output 2, 3, 4, 5"
        )
    );
}

#[test]
fn faulty_notations_say_what_is_wrong() {
    let string = |text| Genotype::from_nb201(text, &NB201).expect_err("refused").to_string();
    assert_eq!(string("|a~0|"), "cell: 1 nodes; expected 3");
    assert_eq!(string("|a~1|"), "edge 0→1: `a~1`; expected `|op~0|`");
    assert_eq!(string("|a~0|+|a~0|"), "node 2: 1 edges; expected 2");
    let tuple = |text| Genotype::from_darts(text, &DARTS).expect_err("refused").to_string();
    assert_eq!(tuple(""), "tuple: the end; expected `Genotype`");
    assert_eq!(tuple("Genotype(normal=[('a', x)])"), "tuple: `x)])`; expected a name or a number");
    assert_eq!(tuple("Genotype(normal=[], normal_concat=[])"), "normal: 0 edges; expected 2 a node");
    let yaml = Genotype::from_yaml("version: 1\nspace: x\ncells: 3\n").expect_err("refused").to_string();
    assert_eq!(yaml, "genotype:3:8: number 3; expected a list");
    let other =
        Genotype::from_json(r#"{"version": 2, "space": "x", "cells": []}"#).expect_err("refused").to_string();
    assert_eq!(other, "version: version 2; this program reads version 1");
}
