//! Memory estimated where it can be counted by hand.

use controller::{Demand, Paths};
use ops::{Catalog, Side};
use search_space::{Layout, LayoutRequest, Phase, Space};

use crate::StepMemory;

/// One edge, one node: an 8×8 picture of 2 channels and a linear layer to 2 classes.
fn layout(candidates: &str) -> (Layout, Catalog) {
    let catalog = Catalog::standard();
    let yaml = format!(
        "{{version: 1, name: one, rank: image, input: [8, 8, 2], classes: 2, \
         norm: {{search: {{affine: false, conv_bias: false}}}}, \
         cells: [{{name: cell, nodes: 1, candidates: [{candidates}]}}], \
         network: {{channels: 2, stages: [{{cell: cell}}]}}}}"
    );
    let space = Space::parse(&yaml, "one.yaml", &catalog).expect("the space is valid");
    let input = space.sample_input();
    let request = LayoutRequest { input, classes: 2, phase: Phase::Search, channels: None, cells: None };
    (space.layout(&request, &catalog).expect("it fits"), catalog)
}

/// In numbers, of one example.
fn peak(candidates: &str, chosen: usize, demand: Demand, side: Side) -> u64 {
    let (layout, catalog) = layout(candidates);
    let paths = match demand.mixes() {
        true => vec![Paths::Weighted(vec![vec![0.5; layout.groups[0].candidates.len()]])],
        false => vec![Paths::Single(vec![chosen])],
    };
    let memory = StepMemory { layout: &layout, catalog: &catalog, batch: 1, side, map_bytes: 4 };
    memory.peak_along(&paths, &paths, demand).expect("the words are known") / 4
}

/// A map is 128 numbers, as is a batch: two steps have one each, and for the CPU three more of each are made ahead. The linear
/// layer has 2·2 + 2 weights, and as many velocities.
fn standing(side: Side, weights: u64) -> u64 {
    let batches = if side == Side::Host { 2 + 6 } else { 2 };
    2 * weights + batches * 128
}

#[test]
fn the_identity_takes_no_room_and_none_makes_zeros() {
    for side in [Side::Host, Side::Device] {
        // At most: the gradient that returns to the node, beside that of the layer.
        let kept = peak("none, skip_connect", 1, Demand::Chosen, side);
        assert_eq!(kept, standing(side, 6) + 128 + 6, "{side:?}");
        // The node's zeros are gone before that gradient comes.
        let none = peak("none, skip_connect", 0, Demand::Chosen, side);
        assert_eq!(none, standing(side, 6) + 128 + 6, "{side:?}");
    }
}

/// A 1×1 convolution of 4 weights. Its output waits for the node's sum, which is let go before gradients come; on a device the
/// norm's backward writes one more map, and what launches write is held until all are sent.
#[test]
fn a_convolution_keeps_its_output_and_on_a_device_its_norm_writes_a_gradient() {
    let step = |side| peak("nor_conv_1x1", 0, Demand::Chosen, side) - standing(side, 6 + 4);
    // In the weight step: the output, the gradient at the node, the gradients of all weights.
    assert_eq!(step(Side::Host), 2 * 128 + 6 + 4);
    // Those, the gradient at the output, and parts of the weights' gradient: they are of 128 pixels, and 64 are one part.
    assert_eq!(step(Side::Device), 3 * 128 + 6 + 4 + 4);
}

/// One more output of a 3×3 convolution, whose gradient comes before that of the other's 4 weights; its 36 weights stand
/// with their velocities.
#[test]
fn mixtures_hold_the_outputs_of_all_convolutions() {
    let one = peak("none, skip_connect, nor_conv_1x1", 0, Demand::Mixture, Side::Host);
    let two = peak("none, skip_connect, nor_conv_1x1, nor_conv_3x3", 0, Demand::Mixture, Side::Host);
    assert_eq!(two - one, 128 + 36 - 4 + 2 * 36);
}

/// Maps of two bytes take half of what maps of four do; weights take what they took.
#[test]
fn narrow_maps_take_half() {
    let (layout, catalog) = layout("none, nor_conv_3x3");
    let of = |map_bytes, batch| {
        let memory = StepMemory { layout: &layout, catalog: &catalog, batch, side: Side::Device, map_bytes };
        // The next step's batch, and that which is cast.
        let batches = if map_bytes == 4 { 1 } else { 2 };
        memory.peak(Demand::Chosen).expect("the words are known") - batches * 4 * 128 * batch as u64
    };
    let more = |map_bytes| of(map_bytes, 2 << 16) - of(map_bytes, 1 << 16); // parts of gradients are at their most
    assert_eq!(2 * more(2), more(4));
    assert_eq!(of(2, 0), of(4, 0));
}

#[test]
fn more_examples_take_more() {
    let (layout, catalog) = layout("none, nor_conv_3x3");
    let of = |batch| {
        let memory = StepMemory { layout: &layout, catalog: &catalog, batch, side: Side::Host, map_bytes: 4 };
        memory.peak(Demand::Chosen).expect("the words are known")
    };
    let (none, one, many) = (of(0), of(1), of(64));
    assert!(one > none && many > of(63));
    assert!(many - none >= 64 * (one - none)); // the first examples hide behind the optimizer's values
}
