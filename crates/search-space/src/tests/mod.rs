//! What the crate promises, stated on whole files.

mod damaged;
mod faults;
mod genotypes;
mod layouts;
mod shipped;

use crate::{
    CellGenotype, Chosen, Extent, Genotype, Layout, LayoutRequest, Phase, Shape, Space, words::Words,
};

/// One cell of three nodes, two candidates an edge, two stages.
const SMALL: &str = "\
version: 1
name: small
cells:
  - name: cell
    nodes: 2
    candidates: [none, nor_conv_3x3]
network:
  channels: 8
  stem: {block: conv_norm}
  stages:
    - {cell: cell}
    - {cell: cell, growth: 2, entry: {block: residual_block}}
  head: {block: norm_relu}
";

#[track_caller]
fn space(text: &str) -> Space {
    Space::parse(text, "space.yaml", &Words).unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn shipped(name: &str) -> Space {
    let parsed = Space::shipped(name, &Words).expect("a shipped name");
    parsed.unwrap_or_else(|errors| panic!("{errors}"))
}

fn image(height: usize, width: usize, channels: usize) -> Shape {
    Shape { extent: Extent::Image { height, width }, channels }
}

fn request(input: Shape, phase: Phase) -> LayoutRequest {
    LayoutRequest { input, classes: 10, phase, channels: None, cells: None }
}

/// The layout for 32×32×3 pictures of 10 classes.
#[track_caller]
fn pictures(space: &Space, phase: Phase) -> Layout {
    space.layout(&request(image(32, 32, 3), phase), &Words).unwrap_or_else(|error| panic!("{error}"))
}

fn params(layout: &Layout) -> u64 {
    layout.cost(&Words).expect("words that laid the network out know its cost").params
}

fn chosen(from: usize, to: usize, op: &str) -> Chosen {
    Chosen { from, to, op: op.to_owned() }
}

/// A NAS-Bench-201 cell of `space` with the six operations, by target, then source.
fn nb201(space: &str, ops: [&str; 6]) -> Genotype {
    let pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
    let edges = pairs.iter().zip(ops).map(|((from, to), op)| chosen(*from, *to, op)).collect();
    let cell = CellGenotype { kind: "cell".into(), cell: None, edges, output: vec![3] };
    Genotype { version: 1, space: space.to_owned(), cells: vec![cell] }
}
