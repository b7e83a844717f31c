use serde_json::{Value, json};

use super::*;

fn report(runs: Vec<Value>) -> Report {
    Report { version: 1, live: false, runs }
}

#[test]
fn data_cannot_leave_their_script() {
    let html = page(&report(vec![json!({ "name": "</script><script>alert(1)</script>" })]));
    assert_eq!(html.matches("<script").count(), 2); // the data and the program
    assert!(html.contains("\\u003c/script>\\u003cscript>alert(1)"));
}

#[test]
fn a_page_asks_nobody_for_anything() {
    let html = page(&report(vec![]));
    for word in ["src=", "href=", "@import", "url("] {
        assert!(!html.contains(word), "{word}");
    }
    assert!(html.len() < 60_000, "{}", html.len());
    assert!(html.contains("\"live\":false"));
    assert!(page(&report(vec![]).live()).contains("\"live\":true"));
}

fn epoch(entropy: f64, parameter_free: f64, derived: f64) -> Value {
    json!({
        "epoch": 0, "warmup": false, "tau": 0.5, "lr": 0.1, "entropy": entropy, "parameter_free": parameter_free,
        "weights": {"loss": 1.0, "accuracy": 0.5}, "architecture": null, "genotype": "cell: 1 = a(0); output 1",
        "groups": [{"name": "cell", "entropy": [0.1], "logits": [[0.0, 1.0]]}],
        "gap": {"mixture": {"accuracy": 0.9}, "derived": {"accuracy": derived}}, "disconnected": [],
    })
}

fn told(epoch: &Value) -> (String, Vec<String>) {
    let groups = [json!({ "edges": [[0, 1]], "candidates": ["a", "b"] })]; // at most ln 2 = 0.69 nats
    let space = search_space::Space::parse(SPACE, "tiny", &Words).expect("it is valid");
    verdict::verdict(&space, None, &groups, std::slice::from_ref(epoch), &json!({ "test_accuracy": 0.875 }))
}

const SPACE: &str = "\
version: 1
name: tiny
rank: flat
cells: [{name: cell, nodes: 1, candidates: [a]}]
network: {channels: 4, stages: [{cell: cell}]}
";

/// One word, without cost.
struct Words;

impl search_space::Vocabulary for Words {
    fn words(&self) -> Vec<search_space::Word> {
        Vec::new()
    }

    fn resolve(
        &self,
        _: &search_space::Written,
        _: search_space::Rank,
    ) -> Result<search_space::OpSpec, search_space::WordError> {
        Ok(search_space::OpSpec {
            word: "a".into(),
            params: std::collections::BTreeMap::new(),
            label: "a".into(),
        })
    }

    fn cost(
        &self,
        _: &search_space::OpSpec,
        _: &search_space::Site,
    ) -> Result<search_space::Cost, search_space::WordError> {
        Ok(search_space::Cost::default())
    }
}

#[test]
fn a_sound_search_is_told_without_a_warning() {
    let (text, warnings) = told(&epoch(0.1, 0.0, 0.89));
    assert!(text.contains("decided: its choices are clear") && text.contains("87.50 %"), "{text}");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn every_worry_has_its_warning() {
    let worries = |entropy, free, derived| told(&epoch(entropy, free, derived)).1.join("\n");
    assert!(worries(0.1, 1.0, 0.89).starts_with("Collapse"));
    assert!(worries(0.1, 0.6, 0.89).starts_with("On 60 % of the edges"));
    assert!(worries(0.69, 0.0, 0.89).starts_with("The choices are nearly even"));
    assert!(worries(0.1, 0.0, 0.8).starts_with("Discretization costs 10.0 points"));
}

/// The frame, by hand: length, its checksum, the message, its checksum. The checksum of eight zero bytes but a first of
/// 24 was computed by TensorFlow's own writer.
#[test]
fn events_are_framed_and_typed() {
    let run = json!({ "epochs": [epoch(0.1, 0.0, 0.89)], "training": [] });
    let bytes = tensorboard::events(&run, 1.0);
    assert_eq!(bytes[..8], 24u64.to_le_bytes());
    assert_eq!(bytes[8..12], [0xa3, 0x7f, 0x4b, 0x22]);
    let version = &bytes[12..36];
    assert!(version.windows(13).any(|window| window == b"brain.Event:2"), "{version:?}");
    let second = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    assert_eq!(bytes.len(), 40 + 12 + second + 4);
}

/// DARTS's two cells of 14 edges among 8 candidates, fifty epochs, every number with all its digits.
#[test]
fn fifty_epochs_of_darts_stay_below_a_megabyte() {
    let numbers = |n: usize| (0..n).map(|i| 1.0 / (i as f64 + 3.0)).collect::<Vec<f64>>();
    let rows = |n: usize, k: usize| (0..n).map(|_| numbers(k)).collect::<Vec<_>>();
    let group = |name: &str| json!({ "name": name, "entropy": numbers(14), "margin": numbers(14), "tau": numbers(14), "logits": rows(14, 8) });
    let noise = |name: &str| json!({ "name": name, "norm": numbers(14), "variance": numbers(14) });
    let epochs: Vec<Value> = (0..50)
        .map(|_| {
            let mut line = epoch(0.1, 0.0, 0.89);
            line["groups"] = json!([group("normal"), group("reduce")]);
            line["noise"] = json!({ "draws": 4, "norm": 1.0, "variance": 1.0, "noise_to_signal": 1.0,
                "groups": [noise("normal"), noise("reduce")] });
            line["genotype"] =
                json!("normal: 2 = sep_conv_3x3(0) + sep_conv_3x3(1); output 2, 3, 4, 5\n".repeat(8));
            line
        })
        .collect();
    let html = page(&report(vec![json!({ "name": "darts", "epochs": epochs })]));
    assert!(html.len() > 300_000 && html.len() < 1_000_000, "{}", html.len());
}
