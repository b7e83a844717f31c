//! Every fault of a file, at its place, in one go.

use super::SMALL;
use crate::{Space, words::Words};

/// Parses `SMALL` with some parts replaced, and compares all its faults.
#[track_caller]
fn refuses(changes: &[(&str, &str)], expected: &[&str]) {
    let mut text = SMALL.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in the text");
        text = text.replacen(from, to, 1);
    }
    assert_eq!(faults(&text), expected, "\n{text}");
}

#[track_caller]
fn faults(text: &str) -> Vec<String> {
    let errors = Space::parse(text, "s.yaml", &Words).expect_err("a faulty space was accepted");
    errors.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn five_faults_give_five_positions() {
    refuses(
        &[
            ("version: 1", "version: 2"),
            ("    nodes: 2", "    nods: 2"),
            ("nor_conv_3x3]", "sep_con_3x3]"),
            ("channels: 8", "channels: many"),
            ("growth: 2", "growth: -2"),
        ],
        &[
            "s.yaml:1:10: version 2; this program reads version 1",
            "s.yaml:5:5: unknown field `nods`; did you mean `nodes`?",
            "s.yaml:6:24: unknown operation `sep_con_3x3`; did you mean `sep_conv_3x3`?",
            "s.yaml:8:13: text `many`; expected a whole number, at least 0",
            "s.yaml:12:28: growth -2; expected a number above 0, at most 64",
        ],
    );
}

#[test]
fn several_faults_of_one_sort_are_all_found() {
    refuses(
        &[
            ("name: small", "nme: small\nrnk: image"),
            (
                "[none, nor_conv_3x3]",
                "[nne, {op: sep_conv, kernel: 4}, {op: sep_conv, kernel: x}, [], none, none]",
            ),
            ("head: {block", "head: {dropout: 2, blok"),
        ],
        &[
            "s.yaml:1:1: no `name`; `name` is required",
            "s.yaml:2:1: unknown field `nme`; did you mean `name`?",
            "s.yaml:3:1: unknown field `rnk`; did you mean `rank`?",
            "s.yaml:7:18: unknown operation `nne`; did you mean `none`?",
            "s.yaml:7:23: `sep_conv` with kernel 4; expected an odd kernel",
            "s.yaml:7:73: text `x`; expected a whole number",
            "s.yaml:7:77: a list; expected an operation such as `sep_conv_3x3` or `{op: sep_conv, kernel: 3}`",
            "s.yaml:7:87: candidate `none` listed twice; expected it once",
            "s.yaml:14:19: number 2; expected at least 0, below 1",
            "s.yaml:14:22: unknown field `blok`; did you mean `block`?",
        ],
    );
}

#[test]
fn a_fault_does_not_cause_others() {
    refuses(&[("- name: cell", "- name: [cell]")], &["s.yaml:4:11: a list; expected text"]);
    refuses(&[("nodes: 2", "nodes: two")], &["s.yaml:5:12: text `two`; expected a whole number, at least 0"]);
    refuses(
        &[("name: small", "rank: imag")],
        &[
            "s.yaml:1:1: no `name`; `name` is required",
            "s.yaml:2:7: unknown value `imag`; did you mean `image`?",
        ],
    );
}

#[test]
fn graphs_that_are_none_are_refused() {
    let edges = |list: &str| format!("nodes: 2\n    edges: {list}");
    let cases = [
        ("every", "s.yaml:6:12: edges `every`; expected `all` or a list of `{from, to, candidates}`"),
        ("[]", "s.yaml:6:12: no edges; expected `all` or a list of `{from, to, candidates}`"),
        ("[{from: 0, to: 1}]", "s.yaml:6:12: node 2 of `cell`, which no edge reaches; expected an edge to 2"),
        (
            "[{from: 0, to: 1}, {from: 2, to: 2}]",
            "s.yaml:6:31: edge 2→2 runs backward; a node may read only earlier nodes",
        ),
        (
            "[{from: 0, to: 1}, {from: 1, to: 3}]",
            "s.yaml:6:45: edge 1→3; it must lead to an intermediate node, 1 to 2",
        ),
        (
            "[{from: 0, to: 1}, {from: 1, to: 2}, {from: 0, to: 1}]",
            "s.yaml:6:49: a second edge 0→1; expected every pair of nodes once",
        ),
        ("[{from: 0, to: 1}, {to: 2}]", "s.yaml:6:31: no `from`; `from` is required"),
    ];
    for (list, expected) in cases {
        refuses(&[("nodes: 2", &edges(list))], &[expected]);
    }
    refuses(
        &[("nodes: 2", "nodes: 2\n    edges: [{from: 0, to: 1}, {from: 0, to: 2}]")],
        &["s.yaml:4:5: node 1 of `cell`, which leads nowhere; expected an edge from 1, or 1 in `output`"],
    );
    refuses(
        &[("nodes: 2", "nodes: 2\n    output: [0, 2]")],
        &["s.yaml:6:14: output node 0; expected intermediate nodes, 1 to 2, each once"],
    );
}

#[test]
fn names_are_unique_known_and_used() {
    let second = "cells:\n  - {name: cell, candidates: [none, noise]}";
    refuses(&[("cells:", second)], &["s.yaml:5:11: a second cell kind `cell`; names must differ"]);
    refuses(
        &[("cells:", "cells:\n  - {name: other, candidates: [noise]}")],
        &["s.yaml:4:12: cell kind `other` in no stage; use it or remove it"],
    );
    refuses(
        &[("- {cell: cell}", "- {cell: cel}")],
        &["s.yaml:11:14: unknown cell kind `cel`; did you mean `cell`?"],
    );
    refuses(
        &[("name: small", "name: small space")],
        &["s.yaml:2:7: name `small space`; expected 1 to 64 letters, digits, `-` and `_`"],
    );
    refuses(
        &[("name: small", "name: a\nname: b")],
        &["s.yaml:3:1: field `name` given twice; expected it once"],
    );
}

#[test]
fn stages_that_contradict_themselves_are_refused() {
    let cases = [
        (
            "{channels: 4}",
            "s.yaml:11:7: a stage without `cell`; expected a cell kind, or an entry block alone",
        ),
        ("{cell: cell, stride: 2}", "s.yaml:11:28: `stride` without `entry`; only an entry has a stride"),
        ("{cell: cell, repeats: 0}", "s.yaml:11:29: number 0; expected 1 to 1000"),
        (
            "{cell: cell, channels: 4, growth: 2}",
            "s.yaml:11:41: both `channels` and `growth`; expected one of them",
        ),
        (
            "{cell: cell, entry: {}}",
            "s.yaml:11:27: an entry that is not one thing; expected either `cell` or `block`",
        ),
    ];
    for (stage, expected) in cases {
        refuses(&[("{cell: cell}", stage)], &[expected]);
    }
    refuses(
        &[("channels: 8", "channels: 8\n  cells: 4"), ("{cell: cell}", "{cell: cell, repeats: 2}")],
        &["s.yaml:12:29: `repeats` beside `network.cells`; expected one way of counting cells"],
    );
}

#[test]
fn shapes_that_do_not_agree_are_found_at_the_candidate() {
    refuses(
        &[("[none, nor_conv_3x3]", "[none, skip_connect]"), (", entry: {block: residual_block}", "")],
        &["s.yaml:6:24: `skip_connect` from 32×32×8 to 32×32×16: the width changes; choose another"],
    );
    refuses(
        &[("nodes: 2", "nodes: 2\n    inputs: 2")],
        &[
            "s.yaml:4:5: inputs of `cell` of extents 32×32 and 16×16; expected equal extents, or `preprocess` to fit them",
        ],
    );
    refuses(
        &[("nor_conv_3x3]", "fussy]")],
        &["s.yaml:6:24: `fussy` from 32×32×8 to 32×32×8: it fits nowhere; choose another"],
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let after = |line: &str| format!("name: small\n{line}");
    let cases = [
        (
            "rule: best",
            "s.yaml:3:7: unknown rule `best`; accepted: argmax, top-N, sampled:N with N at least 1",
        ),
        ("input: [8, 8]", "s.yaml:3:8: input of 2 numbers; expected [height, width, channels]"),
        (
            "input: [8, 8, 0]",
            "s.yaml:3:8: input of 8×8×0; expected 1 to 4194304 positions of 1 to 16384 channels",
        ),
        ("classes: 1", "s.yaml:3:10: number 1; expected 2 to 65536"),
        ("norm: {search: {eps: 0}}", "s.yaml:3:16: norm with eps 0; expected eps above 0"),
        ("norm: {train: {momentum: 2}}", "s.yaml:3:15: norm with momentum 2; expected above 0, at most 1"),
        ("norm: {train: {afine: true}}", "s.yaml:3:16: unknown field `afine`; did you mean `affine`?"),
        ("search: 3", "s.yaml:3:9: number 3; expected a YAML mapping"),
    ];
    for (line, expected) in cases {
        refuses(&[("name: small", &after(line))], &[expected]);
    }
    refuses(
        &[("name: small", "name: small\nrule: top-2"), ("[none, nor_conv_3x3]", "[none]")],
        &["s.yaml:7:17: no candidate but `none`; a rule that drops `none` needs another one"],
    );
}

#[test]
fn many_faults_are_cut_short() {
    let unknown: String = (0..200).map(|n| format!("field{n}: 1\n")).collect();
    assert_eq!(faults(&unknown).len(), 50);
}
