use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use search_space::{CellGenotype, Chosen};

use super::*;

fn edge(from: usize, to: usize, op: &str) -> Chosen {
    Chosen { from, to, op: op.into() }
}

fn cell(kind: &str, edges: Vec<Chosen>, output: &[usize]) -> CellGenotype {
    CellGenotype { kind: kind.into(), cell: None, edges, output: output.to_vec() }
}

fn genotype(space: &str, cells: Vec<CellGenotype>) -> Genotype {
    Genotype { version: Genotype::VERSION, space: space.into(), cells }
}

fn nb201() -> Genotype {
    let edges = vec![
        edge(0, 1, "nor_conv_3x3"),
        edge(0, 2, "none"),
        edge(1, 2, "avg_pool_3x3"),
        edge(0, 3, "skip_connect"),
        edge(1, 3, "nor_conv_1x1"),
        edge(2, 3, "nor_conv_3x3"),
    ];
    genotype("nas-bench-201", vec![cell("cell", edges, &[3])])
}

/// `DARTS_V2` of the authors' `genotypes.py`.
fn darts_v2() -> Genotype {
    let kind = |name, ops: [(&str, usize); 8]| {
        let edges = ops.iter().enumerate().map(|(i, (op, from))| edge(*from, 2 + i / 2, op));
        cell(name, edges.collect(), &[2, 3, 4, 5])
    };
    let (sep, skip, dil, max) = ("sep_conv_3x3", "skip_connect", "dil_conv_3x3", "max_pool_3x3");
    let normal = [(sep, 0), (sep, 1), (sep, 0), (sep, 1), (sep, 1), (skip, 0), (skip, 0), (dil, 2)];
    let reduce = [(max, 0), (max, 1), (skip, 2), (max, 1), (max, 0), (skip, 2), (skip, 2), (max, 1)];
    genotype("darts", vec![kind("normal", normal), kind("reduce", reduce)])
}

fn mlp() -> Genotype {
    let edges = vec![edge(0, 1, "dense"), edge(0, 2, "skip_connect"), edge(1, 2, "dense")];
    genotype("mlp", vec![cell("block", edges, &[2])])
}

fn chain(layers: usize) -> Genotype {
    let ops = ["mbconv_3x3_e3", "mbconv_5x5_e6", "skip_connect", "mbconv_7x7_e6", "mbconv_3x3_e6"];
    let layer = |index| CellGenotype {
        cell: Some(index),
        ..cell("layer", vec![edge(0, 1, ops[index % ops.len()])], &[1])
    };
    genotype("mobile", (0..layers).map(layer).collect())
}

fn card() -> ModelCard {
    let metrics = [("macs", 4_132_864.0), ("params", 1_531_546.0), ("test_accuracy", 0.98664)];
    ModelCard {
        metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
        shapes: [(0, "16×16×24"), (5, "8×8×40"), (13, "4×4×96")].map(|(i, s)| (i, s.to_owned())).into(),
        classes: vec!["cat".into(), "dog".into()],
        ..ModelCard::default()
    }
}

fn written(format: Format, genotype: &Genotype) -> Result<String, Error> {
    let mut bytes = Vec::new();
    write(format, genotype, &card(), None, &mut bytes)?;
    Ok(String::from_utf8(bytes).expect("text formats are UTF-8"))
}

#[test]
fn every_format_is_known_by_its_name() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    let refused = "tflite".parse::<Format>().map_err(|error| error.to_string());
    let expected = "unknown format `tflite`; expected one of yaml, json, nb201, darts, dot, svg, png, safetensors, onnx, pytorch, rust";
    assert_eq!(refused, Err(expected.to_owned()));
}

#[test]
fn pictures_are_those_that_were_looked_at() -> Result<(), Error> {
    insta::assert_snapshot!("svg_nb201", written(Format::Svg, &nb201())?);
    insta::assert_snapshot!("svg_darts", written(Format::Svg, &darts_v2())?);
    insta::assert_snapshot!("svg_mlp", written(Format::Svg, &mlp())?);
    insta::assert_snapshot!("svg_chain", written(Format::Svg, &chain(27))?);
    Ok(())
}

/// The child of NAS-Bench-201 with a convolution on every edge: five cells in each of three stages.
#[test]
fn the_whole_network_is_drawn_with_shapes_and_costs() -> Result<(), Error> {
    let row =
        |what: &str, shape: &str, params, macs| Row { what: what.into(), shape: shape.into(), params, macs };
    let network = vec![
        row("stem conv_norm_3x3", "32×32×16", 464, 442_368),
        row("5 × cell cell", "32×32×16", 70_080, 70_778_880),
        row("residual_block", "16×16×32", 14_464, 3_670_016),
        row("head", "10 logits", 1_290, 1_280),
    ];
    let card = ModelCard { network, ..card() };
    for format in [Format::Svg, Format::Dot] {
        let mut bytes = Vec::new();
        write(format, &nb201(), &card, None, &mut bytes)?;
        insta::assert_snapshot!(format!("{format}_network"), String::from_utf8(bytes).expect("it is text"));
    }
    Ok(())
}

/// The same drawing: twice as large, on white, with text in it. (How letters come out to the last bit is resvg's.)
#[test]
fn pixels_show_what_is_drawn() -> Result<(), Error> {
    let mut bytes = Vec::new();
    write(Format::Png, &nb201(), &card(), None, &mut bytes)?;
    let pixels = resvg::tiny_skia::Pixmap::decode_png(&bytes).map_err(Error::drawing)?;
    let svg = written(Format::Svg, &nb201())?;
    let document = roxmltree::Document::parse(&svg).expect("it is XML");
    let view = document.root_element().attribute("viewBox").expect("it has one");
    let size: Vec<f64> = view.split(' ').skip(2).map(|number| number.parse().expect("a number")).collect();
    for (found, drawn) in [pixels.width(), pixels.height()].into_iter().zip(size) {
        assert!((f64::from(found) - 2.0 * drawn).abs() <= 2.0, "{found} {drawn}"); // whole pixels
    }
    let dark = pixels.pixels().iter().filter(|pixel| pixel.red() < 80 && pixel.blue() < 80).count();
    assert_eq!(pixels.pixel(0, 0).map(|pixel| (pixel.red(), pixel.alpha())), Some((255, 255)));
    assert!(dark > 500, "{dark}"); // the letters
    Ok(())
}

#[test]
fn graphs_are_those_that_graphviz_read() -> Result<(), Error> {
    insta::assert_snapshot!("dot_nb201", written(Format::Dot, &nb201())?);
    insta::assert_snapshot!("dot_darts", written(Format::Dot, &darts_v2())?);
    Ok(())
}

#[test]
fn notations_of_the_literature_are_one_line() -> Result<(), Error> {
    let string = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|\n";
    assert_eq!(written(Format::Nb201, &nb201())?, string);
    let tuples = written(Format::Darts, &darts_v2())?;
    assert!(tuples.starts_with("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)"), "{tuples}");
    assert_eq!(tuples.lines().count(), 1);
    assert!(matches!(written(Format::Nb201, &darts_v2()), Err(Error::Genotype(_))));
    Ok(())
}

#[test]
fn yaml_and_json_read_back_to_the_same_genotype() -> Result<(), Error> {
    for genotype in [nb201(), darts_v2(), mlp(), chain(21)] {
        let yaml = written(Format::Yaml, &genotype)?;
        assert!(yaml.contains("# test_accuracy: 0.98664\n"));
        assert_eq!(Genotype::from_yaml(&yaml)?, genotype);
        assert_eq!(Genotype::from_json(&written(Format::Json, &genotype)?)?, genotype);
    }
    Ok(())
}

#[test]
fn weights_travel_with_all_it_takes_to_run_them() -> Result<(), Error> {
    let weights = [
        ("stem.conv".to_owned(), Tensor::new(&[[1f32, -2.0], [0.5, 3.0]], &Device::Cpu)?),
        ("stem.norm.mean".to_owned(), Tensor::new(&[0.25f64, 4.0], &Device::Cpu)?),
    ];
    let write_once = || -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        safetensors::write(&nb201(), &card(), &weights, &mut bytes).map(|()| bytes)
    };
    let bytes = write_once()?;
    assert_eq!(bytes, write_once()?);

    let tensors: BTreeMap<_, _> =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?.into_iter().collect();
    assert_eq!(tensors.len(), 2);
    assert_eq!(tensors["stem.conv"].to_vec2::<f32>()?, [[1.0, -2.0], [0.5, 3.0]]);
    assert_eq!(tensors["stem.norm.mean"].to_vec1::<f64>()?, [0.25, 4.0]);

    let (_, metadata) = ::safetensors::SafeTensors::read_metadata(&bytes)?;
    let metadata = metadata.metadata().as_ref().expect("a header was written");
    let header: safetensors::Header =
        serde_json::from_str(&metadata[safetensors::KEY]).expect("the header is JSON");
    assert_eq!((header.version, header.genotype, header.card), (1, nb201(), card()));
    let mut model = safetensors::Model::read(&bytes)?;
    assert_eq!(model.fingerprint()?, model.header.weights);
    model.tensors[0].1 = (&model.tensors[0].1 + 1e-6)?;
    assert_ne!(model.fingerprint()?, model.header.weights);
    Ok(())
}

#[track_caller]
fn refuses(format: Format, genotype: &Genotype, expected: &str) {
    let error = write(format, genotype, &card(), None, &mut Vec::new()).expect_err("a fault was written");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_cannot_be_written_is_named() {
    for format in Format::ALL.into_iter().filter(|format| format.holds_weights()) {
        refuses(format, &mlp(), "no weights; expected a trained network");
    }
    let backward = genotype("loop", vec![cell("cell", vec![edge(2, 1, "dense")], &[1])]);
    let message = "cell `cell`: edge 2 → 1 runs backward; a node may read only earlier nodes";
    refuses(Format::Svg, &backward, message);
    refuses(Format::Dot, &backward, message);
    let edges = (0..300).map(|from| edge(from, from + 1, "dense")).collect();
    let long = genotype("long", vec![cell("cell", edges, &[300])]);
    refuses(Format::Svg, &long, "cell `cell`: 301 edges; at most 256 can be drawn");
}

#[test]
fn weights_that_no_file_holds_are_named() -> Result<(), Error> {
    let bytes = Tensor::zeros(2, DType::U8, &Device::Cpu)?;
    let number = Tensor::zeros(2, DType::F32, &Device::Cpu)?;
    let refuses = |weights: &[&Tensor], expected: &str| {
        let weights: Vec<_> = weights.iter().map(|&tensor| ("w".to_owned(), tensor.clone())).collect();
        let written = safetensors::write(&mlp(), &card(), &weights, &mut Vec::new());
        assert_eq!(written.expect_err("a fault was written").to_string(), expected);
    };
    refuses(&[], "no weights; expected a trained network");
    refuses(&[&number, &number], "tensor `w`: named twice; names must differ");
    refuses(&[&bytes], "tensor `w`: U8; expected F32 or F64");
    Ok(())
}

/// Any text for labels and names, markup and control characters among them.
fn any_genotype() -> impl Strategy<Value = Genotype> {
    let text = prop_oneof!["[a-z]{2,5}_conv_[357]", Just("none".to_owned()), any::<String>()];
    let edges = prop::collection::vec((0usize..6, 1usize..4, text), 0..12);
    let cell = (any::<String>(), prop::option::of(0usize..30), edges, prop::collection::vec(0usize..9, 0..4));
    let cells = prop::collection::vec(cell, 0..3);
    (any::<String>(), cells).prop_map(|(space, cells)| {
        let cells = cells.into_iter().map(|(kind, cell, edges, output)| {
            let edges = edges.into_iter().map(|(from, step, op)| Chosen { from, to: from + step, op });
            CellGenotype { kind, cell, edges: edges.collect(), output }
        });
        genotype(&space, cells.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_picture_is_well_formed_xml_with_every_label(genotype in any_genotype()) {
        let svg = written(Format::Svg, &genotype)?;
        let document = roxmltree::Document::parse(&svg).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let labels = document.descendants().filter(|node| node.attribute("class") == Some("op")).count();
        prop_assert_eq!(labels, genotype.cells.iter().map(|cell| cell.edges.len()).sum::<usize>());
        prop_assert!(!document.descendants().flat_map(|node| node.attributes()).any(|a| a.value().contains("NaN")));
    }

    #[test]
    fn any_graph_keeps_its_text_inside_quotes(genotype in any_genotype()) {
        let dot = written(Format::Dot, &genotype)?;
        let (mut outside, mut chars, mut quoted) = (String::new(), dot.chars(), false);
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => drop(chars.next()),
                '"' => quoted = !quoted,
                c if !quoted => outside.push(c),
                _ => {}
            }
        }
        prop_assert!(!quoted);
        let plain = |c: char| c.is_ascii_alphanumeric() || " \n_->{}[]=,;".contains(c);
        prop_assert!(outside.chars().all(plain), "{}", outside);
        prop_assert_eq!(outside.matches('{').count(), outside.matches('}').count());
    }
}
