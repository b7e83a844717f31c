//! Texts that are no spaces at all, and some that mean harm: a clear error, soon, in little memory.

use std::time::{Duration, Instant};

use super::SMALL;
use crate::{Space, words::Words};

/// The one fault of `text`, found within a second.
#[track_caller]
fn fault(text: &str) -> String {
    let start = Instant::now();
    let errors = Space::parse(text, "s.yaml", &Words).expect_err("a damaged space was accepted");
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    errors.to_string()
}

/// The one fault of a file of `bytes`.
#[track_caller]
fn file_fault(name: &str, bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("strait-{}-{name}.yaml", std::process::id()));
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    let errors = Space::load(&path, &Words).expect_err("a damaged space was accepted");
    std::fs::remove_file(&path).expect("it was just written");
    errors.to_string().replace(&path.display().to_string(), "s.yaml")
}

#[test]
fn a_text_without_a_mapping_is_refused() {
    assert_eq!(fault(""), "s.yaml: empty file; expected a YAML mapping");
    assert_eq!(fault("# nothing\n"), "s.yaml: empty file; expected a YAML mapping");
    assert_eq!(fault("~"), "s.yaml:1:1: nothing; expected a mapping");
    assert_eq!(fault("[1, 2]"), "s.yaml:1:1: a list; expected a mapping");
    assert_eq!(
        fault("version: 1\n---\nversion: 1\n"),
        "s.yaml:3:1: a second document; expected one document per file"
    );
}

#[test]
fn broken_syntax_is_placed() {
    let error = fault("version: 1\ncells: [\n");
    assert!(error.starts_with("s.yaml:") && error.contains("not YAML"), "{error}");
}

#[test]
fn characters_that_are_not_text_are_placed() {
    let expected = "expected text; tabs and line breaks are the only control characters";
    assert_eq!(fault("version: 1\nna\0me: x\n"), format!("s.yaml:2:3: control character U+0000; {expected}"));
    assert_eq!(
        file_fault("utf8", b"version: 1\nname: \xff\n"),
        "s.yaml:2:7: byte 0xFF, not UTF-8; expected UTF-8 text"
    );
}

#[test]
fn bombs_do_not_go_off() {
    let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    let bomb = format!("a0: &a0 [x]\n{bomb}");
    assert_eq!(fault(&bomb), "s.yaml:1:5: an anchor; write the value out; anchors are not read");
    assert_eq!(fault("a: !!binary x\n"), "s.yaml:1:4: a tag; write the plain value; tags are not read");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = fault(&format!("cells: {}", "[".repeat(100_000)));
    assert!(deep.contains("nested too deeply; expected at most 24 levels"), "{deep}");
    let blocks = fault(&(0..400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>());
    assert!(blocks.contains("nested too deeply"), "{blocks}");
}

#[test]
fn long_texts_and_files_are_not_read() {
    let long = format!("{SMALL}# {}\n", "x".repeat(300_000));
    assert_eq!(fault(&long), "s.yaml: file too long for a space; expected at most 256 KiB");
    assert_eq!(
        file_fault("long", long.as_bytes()),
        "s.yaml: file too long for a space; expected at most 256 KiB"
    );
}

#[test]
fn texts_just_short_enough_are_read_fast() {
    fault(&"- ".repeat(130_000));
    fault(&format!("cells: [{}]", "{nme: [1, {a: 2}]}, ".repeat(13_000)));
    fault(&format!("name: {}", "x".repeat(250_000)));
    fault(&(0..20_000).map(|n| format!("f{n}: 1\n")).collect::<String>());
}

#[test]
fn a_missing_file_is_named() {
    let errors = Space::load("no/such/space.yaml".as_ref(), &Words).expect_err("there is none");
    assert!(errors.to_string().starts_with("no/such/space.yaml: cannot be read: "), "{errors}");
}

#[test]
fn huge_networks_are_refused_before_they_are_laid_out() {
    let stages: String = (0..99).map(|_| "    - {cell: cell, repeats: 1000}\n").collect();
    let huge = SMALL.replace("    - {cell: cell}\n", &stages);
    assert!(fault(&huge).contains("cells of up to"));
    assert!(fault(&SMALL.replace("nodes: 2", "nodes: 99999999999")).contains("expected 1 to 32"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert!(Space::parse(&format!("\u{feff}{SMALL}"), "s.yaml", &Words).is_ok());
}
