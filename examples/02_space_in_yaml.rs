//! A space of one's own: written in YAML, checked as a whole, counted exactly, turned into one child.
//!
//! Nothing here makes a tensor. Run with `cargo run --example 02_space_in_yaml`.

use std::error::Error;

use strait::ops::Catalog;
use strait::space::{CellGenotype, Chosen, Extent, Genotype, LayoutRequest, Phase, Rule, Shape, Space};

const YAML: &str = "
version: 1
name: small
rank: image
cells:
  - name: cell
    nodes: 2                                              # edges 0→1, 0→2, 1→2
    candidates: [none, skip_connect, {op: sep_conv, kernel: 5}]
network:
  channels: 8
  stem: {block: {op: conv_norm, kernel: 3}}
  stages:
    - {cell: cell}
    - {cell: cell, growth: 2, entry: {block: residual_block}}
";

fn main() -> Result<(), Box<dyn Error>> {
    let catalog = Catalog::standard();
    let space = Space::parse(YAML, "small.yaml", &catalog)?;

    // A space is laid out for one shape of data; odd and oblong ones are welcome.
    let input = Shape { extent: Extent::Image { height: 13, width: 9 }, channels: 1 };
    let request = LayoutRequest { input, classes: 4, phase: Phase::Search, channels: None, cells: None };
    let layout = space.layout(&request, &catalog)?;
    let costs = layout.costs(&catalog, Rule::Argmax)?;
    println!("{} architectures", space.architectures(&layout));
    println!(
        "{} weights in the supernet, {} to {} in a child",
        costs.supernet.params, costs.min.params, costs.max.params
    );
    assert_eq!(space.architectures(&layout).to_string(), "27"); // three edges, three candidates each

    // One of the 27, by hand.
    let edge = |from, to, op: &str| Chosen { from, to, op: op.to_owned() };
    let edges = vec![edge(0, 1, "sep_conv_5x5"), edge(0, 2, "skip_connect"), edge(1, 2, "none")];
    let cell = CellGenotype { kind: "cell".to_owned(), cell: None, edges, output: vec![2] };
    let genotype = Genotype { version: 1, space: "small".to_owned(), cells: vec![cell] };
    let child = layout.child(&genotype)?;
    println!("\n{genotype}\n{} weights", child.cost(&catalog)?.params);
    assert!(child.disconnected().is_empty());

    // All faults of a file come at once, each with its place and what would be right.
    let faulty = YAML.replace("skip_connect", "skip_conect").replace("channels: 8", "channels: none");
    let errors = Space::parse(&faulty, "faulty.yaml", &catalog).expect_err("two faults");
    println!("\n{errors}");
    assert_eq!(errors.faults.len(), 2);
    assert!(errors.to_string().contains("did you mean `skip_connect`?"));
    Ok(())
}
