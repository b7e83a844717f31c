//! Shapes, groups, depths and costs of laid-out networks.

use super::{SMALL, chosen, image, nb201, params, pictures, request, shipped, space};
use crate::{Extent, Genotype, LayoutRequest, Phase, Rule, Shape, words::Words};

fn extents(layout: &crate::Layout) -> Vec<String> {
    layout.blocks.iter().map(|block| block.shape().to_string()).collect()
}

#[test]
fn odd_and_oblong_sizes_halve_rounding_up() {
    let layout = space(SMALL).layout(&request(image(7, 10, 1), Phase::Search), &Words).expect("admitted");
    assert_eq!(extents(&layout), ["7×10×8", "4×5×16", "4×5×16"]);
}

#[test]
fn a_darts_network_of_eight_cells_reduces_at_two_and_five() {
    let layout = pictures(&shipped("darts"), Phase::Search);
    let reductions: Vec<usize> =
        layout.cells().filter(|cell| cell.reduction).map(|cell| cell.index).collect();
    assert_eq!(reductions, [2, 5]);
    assert_eq!(layout.cells().last().map(|cell| cell.shape), Some(image(8, 8, 256)));
}

#[test]
fn a_trained_darts_network_reduces_at_six_and_thirteen_and_reads_its_auxiliary_head_there() {
    let layout = pictures(&shipped("darts"), Phase::Train);
    let reductions: Vec<usize> =
        layout.cells().filter(|cell| cell.reduction).map(|cell| cell.index).collect();
    assert_eq!(reductions, [6, 13]);
    let auxiliary = layout.auxiliary.expect("DARTS has one");
    assert_eq!((auxiliary.after, auxiliary.site.input(), auxiliary.weight), (13, image(8, 8, 576), 0.4));
}

#[test]
fn inputs_are_the_two_blocks_before_and_a_reduction_calls_for_a_factorized_reduce() {
    let layout = pictures(&shipped("darts"), Phase::Search);
    let cells: Vec<_> = layout.cells().collect();
    let preprocess = |cell: usize| {
        let label = |input: &crate::CellInput| {
            input.preprocess.as_ref().map(|(op, site)| (op.to_string(), site.c_in))
        };
        cells[cell].inputs.iter().filter_map(label).collect::<Vec<_>>()
    };
    assert_eq!(preprocess(0), [("nor_conv_1x1".into(), 48), ("nor_conv_1x1".into(), 48)]); // the stem, twice
    assert_eq!(preprocess(1), [("nor_conv_1x1".into(), 48), ("nor_conv_1x1".into(), 64)]);
    assert_eq!(preprocess(3), [("skip_connect".into(), 64), ("nor_conv_1x1".into(), 128)]);
    assert_eq!(cells[1].inputs.iter().map(|input| input.back).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn only_edges_from_the_inputs_of_a_reduction_cell_stride() {
    let layout = pictures(&shipped("darts"), Phase::Search);
    let reduction = layout.cells().find(|cell| cell.reduction).expect("two of them");
    assert!(reduction.edges.iter().all(|edge| (edge.site.stride == 2) == (edge.from < 2)));
}

#[test]
fn width_and_depth_follow_the_request() {
    let wide = LayoutRequest { channels: Some(12), cells: Some(3), ..request(image(8, 8, 1), Phase::Search) };
    let layout = space(SMALL).layout(&wide, &Words).expect("admitted");
    assert_eq!(layout.cells().count(), 6); // three a stage
    assert_eq!(extents(&layout).last().map(String::as_str), Some("4×4×24"));
    let darts = LayoutRequest { cells: Some(6), ..request(image(32, 32, 3), Phase::Search) };
    assert_eq!(shipped("darts").layout(&darts, &Words).expect("admitted").cells().count(), 6); // in all
}

#[test]
fn widths_of_mobile_networks_scale_to_multiples_of_eight() {
    let wider = LayoutRequest { channels: Some(20), ..request(image(32, 32, 3), Phase::Search) };
    let layout = shipped("mobile").layout(&wider, &Words).expect("admitted");
    let mut widths: Vec<usize> = layout.blocks.iter().map(|block| block.shape().channels).collect();
    widths.dedup();
    assert_eq!(widths, [24, 32, 48, 104, 120, 240, 400]); // 1.25 × 16, 24, 40, 80, 96, 192, 320; 50 and 100 round up
}

#[test]
fn logits_are_shared_by_kind_or_held_by_each_cell() {
    let shared = pictures(&shipped("darts"), Phase::Search);
    let names: Vec<&str> = shared.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["normal", "reduce"]);
    assert!(shared.groups.iter().all(|group| group.edges.len() == 14));
    let alone = pictures(&shipped("mobile"), Phase::Search);
    assert_eq!(alone.groups.len(), 21);
    assert_eq!((alone.groups[0].name.as_str(), alone.groups[1].name.as_str()), ("first@0", "layer@1"));
}

#[test]
fn every_edge_finds_itself_in_its_group() {
    for name in ["darts", "darts-s1", "mobile", "nas-bench-201"] {
        let layout = pictures(&shipped(name), Phase::Search);
        for edge in layout.cells().flat_map(|cell| &cell.edges) {
            let group = &layout.groups[edge.group];
            assert_eq!(
                (group.edges[edge.row], &group.candidates),
                ((edge.from, edge.to), &edge.candidates),
                "{name}"
            );
        }
    }
}

#[test]
fn data_the_space_is_not_for_are_refused() {
    let refusal = |input, classes| {
        let request = LayoutRequest { classes, ..request(input, Phase::Search) };
        space(SMALL).layout(&request, &Words).expect_err("refused").to_string()
    };
    let vector = Shape { extent: Extent::Flat, channels: 3 };
    assert_eq!(refusal(vector, 10), "data of rank flat, 3; the space `small` is for rank image");
    assert_eq!(
        refusal(image(8, 0, 3), 10),
        "input of 8×0×3; expected 1 to 4194304 positions of 1 to 16384 channels"
    );
    assert_eq!(refusal(image(8, 8, 3), 1), "1 classes; expected 2 to 65536");
}

#[test]
fn a_network_has_at_least_one_cell_a_stage_and_not_too_many() {
    let refusal = |cells| {
        let request = LayoutRequest { cells: Some(cells), ..request(image(32, 32, 3), Phase::Search) };
        shipped("darts").layout(&request, &Words).expect_err("refused").to_string()
    };
    assert_eq!(refusal(2), "2 cells for 3 stages; expected at least one cell for every stage");
    assert_eq!(refusal(1001), "1001 cells; expected 1 to 1000");
}

/// One cell: node 1 reads the input, node 2 reads both; `none` costs nothing, a 3×3 convolution 9·8·8 and a norm's 16.
#[test]
fn bounds_follow_the_rule() {
    let one_stage = SMALL.replace("    - {cell: cell, growth: 2, entry: {block: residual_block}}\n", "");
    let layout = space(&one_stage).layout(&request(image(4, 4, 1), Phase::Train), &Words).expect("admitted");
    let fixed = (9 * 8 + 16) + 16 + (8 * 10 + 10);
    let bounds = |rule: &str| {
        let costs = layout.costs(&Words, rule.parse().expect("a rule")).expect("known words");
        [costs.supernet.params, costs.min.params, costs.max.params]
            .map(|params| (params - fixed) / (9 * 64 + 16))
    };
    assert_eq!(bounds("argmax"), [3, 0, 3]);
    assert_eq!(bounds("top-1"), [3, 2, 2]); // one edge into each node, never `none`
    assert_eq!(bounds("top-2"), [3, 3, 3]);
}

#[test]
fn edges_of_a_child_have_one_candidate_and_those_without_one_are_gone() {
    let layout = pictures(&shipped("nas-bench-201"), Phase::Train);
    let ops = ["skip_connect", "none", "nor_conv_3x3", "none", "none", "avg_pool_3x3"];
    let child = layout.child(&nb201("nas-bench-201", ops)).expect("a child of the space");
    let cell = child.cells().next().expect("fifteen cells");
    let edges: Vec<_> =
        cell.edges.iter().map(|edge| (edge.from, edge.to, edge.candidates[0].to_string())).collect();
    let kept = [(0, 1, "skip_connect"), (1, 2, "nor_conv_3x3"), (2, 3, "avg_pool_3x3")];
    assert_eq!(edges, kept.map(|(from, to, op)| (from, to, op.to_owned())));
    assert!(child.groups.is_empty() && child.disconnected().is_empty() && child.is_connected());
}

#[test]
fn a_cell_whose_paths_all_end_is_disconnected() {
    let layout = pictures(&shipped("nas-bench-201"), Phase::Train);
    let ops = ["nor_conv_3x3", "none", "nor_conv_3x3", "none", "none", "none"];
    let child = layout.child(&nb201("nas-bench-201", ops)).expect("a child of the space");
    assert_eq!(child.disconnected(), (0..15).collect::<Vec<_>>());
    assert!(!child.is_connected());
}

#[test]
fn genotypes_that_do_not_fit_say_where() {
    type Change = fn(&mut Genotype);
    let layout = pictures(&shipped("nas-bench-201"), Phase::Train);
    let good = nb201("nas-bench-201", ["none"; 6]);
    let refusal = |change: Change| {
        let mut genotype = good.clone();
        change(&mut genotype);
        layout.child(&genotype).expect_err("refused").to_string()
    };
    let cases: [(Change, &str); 8] = [
        (|g| g.version = 2, "version: version 2; this program reads version 1"),
        (|g| g.space = "x".into(), "space: a genotype of the space `x`; expected one of `nas-bench-201`"),
        (|g| g.cells.clear(), "cell 0 of kind `cell`: no choices; expected an entry for it"),
        (|g| g.cells[0].cell = Some(99), "cells: cell 99 of kind `cell`; the network has 15 cells"),
        (|g| g.cells[0].output = vec![2], "cell: output [2]; expected [3]"),
        (
            |g| g.cells[0].edges[0].op = "nor_conv_3x4".into(),
            "cell, edge 0→1: no candidate `nor_conv_3x4`; did you mean `nor_conv_3x3`?",
        ),
        (
            |g| g.cells[0].edges[0].to = 9,
            "cell, edge 0→9: no such edge; accepted: 0→1, 0→2, 1→2, 0→3, 1→3, 2→3",
        ),
        (
            |g| g.cells[0].edges.push(chosen(0, 1, "none")),
            "cell, edge 0→1: chosen twice; expected one choice an edge",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(refusal(change), expected);
    }
}

#[test]
fn a_supernet_costs_at_least_its_largest_child() {
    for name in crate::Space::shipped_names() {
        let space = shipped(name);
        let layout =
            space.layout(&request(space.sample_input(), Phase::Search), &Words).expect("its own sample");
        let costs = layout.costs(&Words, space.rule()).expect("known words");
        assert!(costs.min.macs < costs.max.macs && costs.max.macs <= costs.supernet.macs, "{name}");
        assert_eq!(costs.supernet.params, params(&layout));
    }
}

#[test]
fn rules_are_written_as_they_are_read() {
    for text in ["argmax", "top-2", "sampled:100"] {
        assert_eq!(text.parse::<Rule>().expect("a rule").to_string(), text);
    }
    for text in ["", "top-0", "top-", "sampled", "sampled:-1", "Argmax"] {
        assert!(text.parse::<Rule>().is_err(), "{text}");
    }
}
