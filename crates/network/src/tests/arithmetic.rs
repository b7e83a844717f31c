//! What steps cost, counted by hand.

use controller::{Demand, Paths};
use ops::Catalog;

use super::rig::{layout, space};
use crate::{Purpose, arithmetic};

/// Of NAS-Bench-201 on 8×8 images with 4 channels and a cell a stage: the stem, each residual block, the classifier.
const STEM: u64 = 9 * 3 * 4 * 64;
const RESIDUAL: u64 = (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8) * 16;
const LINEAR: u64 = 16 * 10;

#[track_caller]
fn counts(choice: usize, purpose: Purpose, expected: u64) {
    let layout = layout(&space("nas-bench-201"), 8, 4, 1);
    let found = arithmetic(&layout, &Catalog::standard(), &[Paths::Single(vec![choice; 6])], purpose);
    assert_eq!(found.expect("every word is known"), expected);
}

#[test]
fn a_weight_step_costs_three_forwards_but_for_the_images_gradient() {
    counts(1, Purpose::Weights, 2 * STEM + 3 * (2 * RESIDUAL + LINEAR)); // 1: skip_connect
}

#[test]
fn an_architecture_step_costs_two_forwards_above_the_first_choice() {
    counts(1, Purpose::Architecture(Demand::Chosen), STEM + 2 * (2 * RESIDUAL + LINEAR));
}

#[test]
fn a_probed_candidate_costs_its_forward() {
    let probes = 3 * 6 * (9 + 1) * 4 * 4 * 64; // 3×3 and 1×1 on six edges of three cells, which cost alike
    counts(1, Purpose::Architecture(Demand::Outputs), STEM + 2 * (2 * RESIDUAL + LINEAR) + probes);
}

#[test]
fn nothing_is_counted_below_an_absent_edge() {
    counts(0, Purpose::Weights, STEM + 2 * RESIDUAL + 3 * LINEAR); // 0: none
}

#[test]
fn an_evaluation_costs_one_forward() {
    counts(2, Purpose::Evaluate, STEM + 2 * RESIDUAL + LINEAR + 3 * 6 * 4 * 4 * 64); // 2: nor_conv_1x1
}
