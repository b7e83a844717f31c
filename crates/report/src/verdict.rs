//! What a run came to, in words.

use search_space::Space;
use serde_json::Value;
use trainer::SearchConfig;

/// Above this share of the largest entropy an edge has hardly decided.
const UNDECIDED: f64 = 0.9;
/// A loss of accuracy above this, from mixture to derived child, is worth a warning.
const LOSSY: f64 = 0.05;
/// A share of parameter-free choices from which on skips and pools crowd out the rest.
const CROWDED: f64 = 0.5;

/// One paragraph, and what a person should worry about.
pub(crate) fn verdict(
    space: &Space,
    search: Option<&SearchConfig>,
    groups: &[Value],
    epochs: &[Value],
    result: &Value,
) -> (String, Vec<String>) {
    let Some(last) = epochs.last() else {
        let tested = tested(result);
        let text = match search {
            Some(_) => "No epoch has ended yet.".to_owned(),
            None => format!("The training of a genotype of the space {}.{tested}", space.name()),
        };
        return (text, Vec::new());
    };
    let entropy = last["entropy"].as_f64().unwrap_or_default();
    let most = largest_entropy(groups);
    let n = epochs.len();
    let planned = search.map_or(n, |config| config.epochs);
    let done = if n < planned { format!("{n} of {planned} epochs") } else { format!("{n} epochs") };
    let sure = match entropy / most.max(f64::MIN_POSITIVE) {
        share if share > UNDECIDED => "hardly decided: its choices are nearly even",
        share if share > 0.5 => "leaning: its choices are still mixed",
        _ => "decided: its choices are clear",
    };
    let text = format!(
        "After {done} on the space {} the search is {sure} (mean entropy {entropy:.2} of at most {most:.2} nats).{}{}",
        space.name(),
        gap_in_words(&last["gap"]),
        tested(result),
    );
    (text, warnings(last, entropy / most.max(f64::MIN_POSITIVE)))
}

fn gap_in_words(gap: &Value) -> String {
    let accuracy = |way: &str| gap[way]["accuracy"].as_f64();
    match (accuracy("mixture"), accuracy("derived")) {
        (Some(mixture), Some(derived)) => format!(
            " Of the supernet's accuracy of {mixture:.4} as a mixture, the derived child keeps {derived:.4} with the same weights."
        ),
        _ => String::new(),
    }
}

fn tested(result: &Value) -> String {
    match result["test_accuracy"].as_f64() {
        Some(accuracy) => format!(
            " Trained from scratch, the child answers {:.2} % of the test part correctly.",
            accuracy * 100.0
        ),
        None => String::new(),
    }
}

fn warnings(last: &Value, undecided: f64) -> Vec<String> {
    let told = last["warnings"].as_array().into_iter().flatten();
    let mut warnings: Vec<String> = told.filter_map(|one| Some(one.as_str()?.to_owned())).collect();
    if last["stopped"] == true {
        warnings.insert(0, "The search ended before its time, on the sign of collapse that it was told to stop on; the choices are those from before it.".to_owned());
    }
    match last["parameter_free"].as_f64() {
        Some(share) if share >= 1.0 => warnings.push(
            "Collapse: on every edge the likeliest candidate has no weights. Let the weights train longer before the logits move (`--set warmup_epochs=…`).".to_owned(),
        ),
        Some(share) if share >= CROWDED => warnings.push(format!(
            "On {:.0} % of the edges the likeliest candidate has no weights: the usual first sign of a collapse.",
            share * 100.0
        )),
        _ => {}
    }
    if last["disconnected"].as_array().is_some_and(|cells| !cells.is_empty()) {
        warnings.push("No path leads from the input to the output: every choice on the way is `none`. Another rule may find one (`strait derive … --rule sampled:100`).".to_owned());
    }
    let accuracy = |way: &str| last["gap"][way]["accuracy"].as_f64();
    if let (Some(mixture), Some(derived)) = (accuracy("mixture"), accuracy("derived"))
        && mixture - derived > LOSSY
    {
        warnings.push(format!(
            "Discretization costs {:.1} points of accuracy: the supernet relies on mixtures that the child does not have.",
            (mixture - derived) * 100.0
        ));
    }
    if undecided > UNDECIDED && last["warmup"] != true {
        warnings.push("The choices are nearly even: argmax is close to a draw by lot. Search longer, or with a larger `arch.lr`.".to_owned());
    }
    warnings
}

/// `ln K`, on average over the edges.
fn largest_entropy(groups: &[Value]) -> f64 {
    let length = |value: &Value| value.as_array().map_or(0, Vec::len) as f64;
    let (mut sum, mut edges) = (0.0, 0.0);
    for group in groups {
        let n = length(&group["edges"]);
        sum += n * length(&group["candidates"]).max(1.0).ln();
        edges += n;
    }
    if edges > 0.0 { sum / edges } else { 0.0 }
}
