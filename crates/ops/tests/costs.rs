//! Multiply-accumulates derived by hand, at 8×6 maps from 4 to 8 channels with stride 2: 12 output pixels.

use ops::Catalog;
use search_space::{Cost, Extent, LayoutRequest, Norm, Phase, Rank, Shape, Site, Space, Vocabulary};

use crate::running::resolve;

const IMAGE: Site = Site {
    extent: Extent::Image { height: 8, width: 6 },
    c_in: 4,
    c_out: 8,
    stride: 2,
    norm: Norm { affine: true, conv_bias: false, pool_norm: false, eps: 1e-5, momentum: 0.1 },
};

fn cost(label: &str, site: &Site) -> Cost {
    let catalog = Catalog::standard();
    catalog.cost(&resolve(&catalog, label, site.extent.rank()), site).expect("the site is legal")
}

#[test]
fn multiply_accumulates_on_images() {
    let macs = |label| cost(label, &IMAGE).macs;
    assert_eq!(macs("none"), 0);
    assert_eq!(macs("noise"), 0);
    assert_eq!(macs("skip_connect"), 12 * 4 * 8);
    assert_eq!(macs("nor_conv_1x1"), 12 * 4 * 8);
    assert_eq!(macs("nor_conv_3x3"), 12 * 9 * 4 * 8);
    assert_eq!(macs("sep_conv_3x3"), 12 * (9 * 4 + 4 * 4 + 9 * 4 + 4 * 8));
    assert_eq!(macs("dil_conv_5x5"), 12 * (25 * 4 + 4 * 8));
    assert_eq!(macs("conv_7x1_1x7"), 8 * 3 * 7 * 4 * 8 + 12 * 7 * 8 * 8); // 8×3 pixels in between
    assert_eq!(macs("avg_pool_3x3"), 48 * 4 * 8); // the 1×1 convolution before it sees the whole map
    assert_eq!(macs("mbconv_3x3_e1"), 12 * (9 * 4 + 4 * 8));
    assert_eq!(macs("mbconv_5x5_e6"), 48 * 4 * 24 + 12 * (25 * 24 + 24 * 8));
    assert_eq!(macs("conv_norm_3x3"), 12 * 9 * 4 * 8);
    assert_eq!(macs("residual_block"), 12 * (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8));
    assert_eq!(macs("auxiliary_head"), 4 * 4 * 128 + 4 * 128 * 768 + 768 * 8);
}

#[test]
fn multiply_accumulates_on_series_and_flat_maps() {
    let series = Site { extent: Extent::Series { length: 9 }, ..IMAGE }; // 5 steps remain
    assert_eq!(cost("nor_conv_3", &series).macs, 5 * 3 * 4 * 8);
    assert_eq!(cost("sep_conv_5", &series).macs, 5 * (5 * 4 + 4 * 4 + 5 * 4 + 4 * 8));
    assert_eq!(cost("skip_connect", &series).macs, 5 * 4 * 8);
    let flat = Site { extent: Extent::Flat, ..IMAGE };
    assert_eq!(cost("dense", &flat).macs, 4 * 8);
    assert_eq!(cost("skip_connect", &flat).macs, 4 * 8);
}

#[test]
fn a_kept_shape_costs_a_skip_nothing() {
    let site = Site { c_out: 4, stride: 1, ..IMAGE };
    assert_eq!(cost("skip_connect", &site), Cost { output: 192, ..Cost::default() });
    assert_eq!(cost("avg_pool_3x3", &site).params, 0);
    assert_eq!(cost("mbconv_3x3_e1", &site).params, 9 * 4 + 4 * 4 + 2 * 4 + 2 * 4);
}

#[test]
fn darts_auxiliary_head_counts_as_published() {
    // 10 classes on 576 channels: 73,728 + 256 + 393,216 + 1,536 + 7,690.
    let extent = Extent::Image { height: 8, width: 8 };
    let site = Site { extent, c_in: 576, c_out: 10, stride: 1, ..IMAGE };
    assert_eq!(cost("auxiliary_head", &site).params, 476_426);
}

#[test]
fn every_word_has_a_rank() {
    for word in Catalog::standard().words() {
        assert!(!word.ranks.is_empty() && !word.summary.is_empty(), "{}", word.name);
        assert!(word.ranks.is_sorted_by_key(|rank| match rank {
            Rank::Image => 0,
            Rank::Series => 1,
            Rank::Flat => 2,
        }));
    }
}

/// Weights of a shipped space's supernet on 32×32×3 images with 10 classes.
fn supernet(name: &str) -> u64 {
    let catalog = Catalog::standard();
    let space =
        Space::shipped(name, &catalog).expect("the space is shipped").expect("the catalog has its words");
    let input = Shape { extent: Extent::Image { height: 32, width: 32 }, channels: 3 };
    let request = LayoutRequest { input, classes: 10, phase: Phase::Search, channels: None, cells: None };
    let layout = space.layout(&request, &catalog).expect("the space takes such images");
    layout.cost(&catalog).expect("every operation can stand where the layout puts it").params
}

#[test]
fn supernets_weigh_what_was_published() {
    assert_eq!(supernet("nas-bench-201"), 1_692_826); // arithmetic from the definitions of Dong & Yang, 2020
    assert_eq!(supernet("darts"), 1_930_618); // the log of the authors' code
    assert_eq!(supernet("mobile"), 14_765_978); // as the head of its file says
}

#[test]
fn every_shipped_space_is_made_of_known_words() {
    for name in Space::shipped_names() {
        let space = Space::shipped(name, &Catalog::standard()).expect("a shipped name has a space");
        assert!(space.is_ok(), "{name}: {}", space.expect_err("just seen"));
    }
}
