//! The same numbers for TensorBoard: event files.
//!
//! Written by hand, since all there is to them is a frame and three messages: a record is its length, a masked CRC-32C
//! of that, the message, and a masked CRC-32C of the message.
//!
//! # References
//! - TensorFlow, `core/lib/io/record_writer.cc` and `core/util/event.proto`

use prost::Message;
use serde_json::Value;

/// The events of one run of a [`crate::Report`]: [`opening`], then [`searched`] and [`trained`] for every epoch.
/// `wall_time` is the time of all of them, in seconds from 1970.
#[must_use]
pub fn events(run: &Value, wall_time: f64) -> Vec<u8> {
    let lines = |key: &str| run[key].as_array().cloned().unwrap_or_default();
    let mut bytes = opening(wall_time);
    lines("epochs").iter().for_each(|line| bytes.extend(searched(line, wall_time)));
    lines("training").iter().for_each(|line| bytes.extend(trained(line, wall_time)));
    bytes
}

/// What every file begins with.
#[must_use]
pub fn opening(wall_time: f64) -> Vec<u8> {
    record(&Event { wall_time, file_version: Some("brain.Event:2".to_owned()), ..Event::default() })
}

/// One epoch of a search, a line of `epochs.jsonl`: scalars, a histogram of every group's logits, and the genotype as
/// text. Steps are epochs, from 0.
#[must_use]
pub fn searched(line: &Value, wall_time: f64) -> Vec<u8> {
    let scalars = [
        ("search/weights/loss", &line["weights"]["loss"]),
        ("search/weights/accuracy", &line["weights"]["accuracy"]),
        ("search/architecture/loss", &line["architecture"]["loss"]),
        ("search/architecture/accuracy", &line["architecture"]["accuracy"]),
        ("search/tau", &line["tau"]),
        ("search/entropy", &line["entropy"]),
        ("search/learning_rate", &line["lr"]),
        ("search/parameter_free", &line["parameter_free"]),
        ("gap/mixture", &line["gap"]["mixture"]["accuracy"]),
        ("gap/sampled", &line["gap"]["sampled"]["accuracy"]),
        ("gap/argmax", &line["gap"]["argmax"]["accuracy"]),
        ("gap/derived", &line["gap"]["derived"]["accuracy"]),
        ("gradient/norm", &line["noise"]["norm"]),
        ("gradient/variance", &line["noise"]["variance"]),
        ("gradient/noise_to_signal", &line["noise"]["noise_to_signal"]),
        ("gradient/cosine", &line["noise"]["cosine"]),
        ("collapse/sharpness", &line["collapse"]["sharpness"]),
    ];
    let mut values: Vec<Summarized> = scalars.into_iter().filter_map(scalar).collect();
    for group in line["groups"].as_array().into_iter().flatten() {
        let rows = group["logits"].as_array().into_iter().flatten();
        let numbers = rows.flat_map(|row| row.as_array().into_iter().flatten());
        let numbers: Vec<f64> = numbers.filter_map(Value::as_f64).collect();
        values.push(histogram(&format!("logits/{}", group["name"].as_str().unwrap_or_default()), &numbers));
    }
    values.push(text("genotype", line["genotype"].as_str().unwrap_or_default()));
    event(line, values, wall_time)
}

/// One epoch of a training, a line of `train.jsonl`: scalars.
#[must_use]
pub fn trained(line: &Value, wall_time: f64) -> Vec<u8> {
    let scalars = [
        ("training/loss", &line["score"]["loss"]),
        ("training/accuracy", &line["score"]["accuracy"]),
        ("training/learning_rate", &line["lr"]),
    ];
    event(line, scalars.into_iter().filter_map(scalar).collect(), wall_time)
}

fn event(line: &Value, value: Vec<Summarized>, wall_time: f64) -> Vec<u8> {
    let step = line["epoch"].as_i64().unwrap_or_default();
    record(&Event { wall_time, step, file_version: None, summary: Some(Summary { value }) })
}

/// One frame.
fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let sums = [masked(&length), masked(&message)].map(u32::to_le_bytes);
    [&length[..], &sums[0], &message, &sums[1]].concat()
}

/// Rotated and shifted, so that a checksum of bytes that hold checksums is none itself.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn scalar((tag, value): (&str, &Value)) -> Option<Summarized> {
    let number = value.as_f64()? as f32;
    Some(Summarized { tag: tag.to_owned(), simple_value: Some(number), ..Summarized::default() })
}

/// Thirty buckets of equal width, from the smallest number to the largest.
fn histogram(tag: &str, numbers: &[f64]) -> Summarized {
    const BUCKETS: usize = 30;
    let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = ((high - low) / BUCKETS as f64).max(f64::MIN_POSITIVE);
    let mut bucket = vec![0.0; BUCKETS];
    for number in numbers {
        let at = ((number - low) / width) as usize;
        bucket[at.min(BUCKETS - 1)] += 1.0;
    }
    let histo = Histogram {
        min: low,
        max: high,
        num: numbers.len() as f64,
        sum: numbers.iter().sum(),
        sum_squares: numbers.iter().map(|number| number * number).sum(),
        bucket_limit: (1..=BUCKETS).map(|i| low + width * i as f64).collect(),
        bucket,
    };
    Summarized { tag: tag.to_owned(), histo: Some(histo), ..Summarized::default() }
}

fn text(tag: &str, content: &str) -> Summarized {
    let dim = vec![Dim { size: 1 }];
    let tensor =
        Strings { dtype: 7, shape: Some(Shape { dim }), string_val: vec![content.as_bytes().to_vec()] };
    let plugin = Plugin { plugin_name: "text".to_owned() };
    let metadata = Some(Metadata { plugin_data: Some(plugin) });
    Summarized { tag: tag.to_owned(), tensor: Some(tensor), metadata, ..Summarized::default() }
}

/// One event: a moment, and what was summarized then.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Summarized>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summarized {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "5")]
    histo: Option<Histogram>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<Strings>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Strings {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<Plugin>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    plugin_name: String,
}
