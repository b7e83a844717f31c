//! A small vocabulary for this crate's tests, with the true weights of the words it knows.

use std::collections::BTreeMap;

use crate::{Cost, OpSpec, Rank, Site, Vocabulary, Word, WordError, Written, fault::suggestion};

pub(crate) struct Words;

const WORDS: [&str; 16] = [
    "none",
    "skip_connect",
    "nor_conv",
    "sep_conv",
    "dil_conv",
    "avg_pool",
    "max_pool",
    "noise",
    "mbconv",
    "dense",
    "conv_norm",
    "linear_norm",
    "residual_block",
    "norm_relu",
    "auxiliary_head",
    "fussy",
];

impl Vocabulary for Words {
    fn words(&self) -> Vec<Word> {
        let word = |name: &str| Word {
            name: name.to_owned(),
            summary: String::new(),
            params: Vec::new(),
            examples: Vec::new(),
            ranks: vec![Rank::Flat, Rank::Series, Rank::Image],
        };
        WORDS.map(word).into()
    }

    fn resolve(&self, written: &Written, rank: Rank) -> Result<OpSpec, WordError> {
        let (word, given) = match written {
            Written::Label(label) => parsed(label),
            Written::Spec { op, params } => (op.clone(), params.clone()),
        };
        if !WORDS.contains(&word.as_str()) {
            let label = match written {
                Written::Label(label) => label,
                Written::Spec { op, .. } => op,
            };
            let near = ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "nor_conv_3x3", "avg_pool_3x3"];
            let accepted = suggestion(label, WORDS.into_iter().chain(near));
            return Err(WordError { found: format!("unknown operation `{label}`"), accepted });
        }
        let defaults: &[(&str, i64)] = match word.as_str() {
            "nor_conv" | "sep_conv" | "dil_conv" | "avg_pool" | "max_pool" => &[("kernel", 3)],
            "conv_norm" => &[("kernel", 3), ("activation", 0)],
            "mbconv" => &[("kernel", 3), ("expansion", 6)],
            "auxiliary_head" => &[("norms", 2)],
            _ => &[],
        };
        let mut params: BTreeMap<String, i64> =
            defaults.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
        for (name, value) in given {
            if !params.contains_key(&name) || value < 0 || (name == "kernel" && value % 2 == 0) {
                let found = format!("`{word}` with {name} {value}");
                return Err(WordError { found, accepted: "expected an odd kernel".to_owned() });
            }
            params.insert(name, value);
        }
        let label = label(&word, &params, rank);
        Ok(OpSpec { word, params, label })
    }

    fn cost(&self, op: &OpSpec, site: &Site) -> Result<Cost, WordError> {
        let refuse =
            |found: &str| Err(WordError { found: found.to_owned(), accepted: "choose another".to_owned() });
        let keeps = site.c_in == site.c_out;
        let (c_in, c_out) = (site.c_in as u64, site.c_out as u64);
        let kernel = op.params.get("kernel").map_or(1, |k| *k as u64);
        let taps = if site.extent.rank() == Rank::Image { kernel * kernel } else { kernel };
        let three = if site.extent.rank() == Rank::Image { 9 } else { 3 };
        let params = match op.word.as_str() {
            "none" | "noise" => 0,
            "skip_connect" if site.stride == 1 && keeps => 0,
            "skip_connect" if site.stride == 1 => return refuse("the width changes"),
            "skip_connect" => c_in * c_out + site.norm_params(site.c_out),
            "avg_pool" | "max_pool" if keeps => 0,
            "avg_pool" | "max_pool" => return refuse("the width changes"),
            "nor_conv" | "dense" => taps * c_in * c_out + site.conv_norm_params(site.c_out),
            "dil_conv" => taps * c_in + c_in * c_out + site.conv_norm_params(site.c_out),
            "sep_conv" => {
                let first = taps * c_in + c_in * c_in + site.conv_norm_params(site.c_in);
                first + taps * c_in + c_in * c_out + site.conv_norm_params(site.c_out)
            }
            "mbconv" => {
                let expansion = op.params["expansion"] as u64;
                let wide = c_in * expansion;
                let expand = if expansion == 1 { 0 } else { c_in * wide + 2 * wide };
                expand + taps * wide + 2 * wide + wide * c_out + 2 * c_out
            }
            "conv_norm" | "linear_norm" => taps * c_in * c_out + 2 * c_out,
            "residual_block" => three * (c_in * c_out + c_out * c_out) + c_in * c_out + 4 * c_out,
            "norm_relu" => 2 * c_out,
            "auxiliary_head" => {
                let norms = 2 * 128 + if op.params["norms"] == 2 { 2 * 768 } else { 0 };
                128 * c_in + 4 * 128 * 768 + norms + 768 * c_out + c_out
            }
            _ => return refuse("it fits nowhere"),
        };
        let output = site.output().elements() as u64;
        Ok(Cost { params, macs: params * site.out_pixels() as u64, saved: output, output })
    }
}

/// `sep_conv_3x3` → `sep_conv`, kernel 3; `mbconv_3x3_e6` → `mbconv`, kernel 3, expansion 6.
fn parsed(label: &str) -> (String, BTreeMap<String, i64>) {
    let mut parts: Vec<&str> = label.split('_').collect();
    let mut params = BTreeMap::new();
    if let Some(expansion) = parts.last().and_then(|part| part.strip_prefix('e')?.parse().ok()) {
        params.insert("expansion".to_owned(), expansion);
        parts.pop();
    }
    let kernel = |part: &&str| part.split('x').next()?.parse().ok();
    if let Some(kernel) = parts.last().and_then(kernel) {
        params.insert("kernel".to_owned(), kernel);
        parts.pop();
    }
    (parts.join("_"), params)
}

fn label(word: &str, params: &BTreeMap<String, i64>, rank: Rank) -> String {
    let kernel =
        params.get("kernel").map(|k| if rank == Rank::Image { format!("_{k}x{k}") } else { format!("_{k}") });
    let expansion = params.get("expansion").map(|e| format!("_e{e}"));
    format!("{word}{}{}", kernel.unwrap_or_default(), expansion.unwrap_or_default())
}
