//! One HTML file: the data, and the program that draws them.

use crate::Report;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const PROGRAM: &str = include_str!("page/draw.js");

/// The page of a report: self-contained, without server or network.
#[must_use]
pub fn page(report: &Report) -> String {
    // `<` would end the script inside which the data stand.
    let data = report.to_json().replace('<', "\\u003c");
    PAGE.replace("/* STYLE */", STYLE).replace("/* PROGRAM */", PROGRAM).replace("/* DATA */", &data)
}
