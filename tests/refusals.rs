//! What nobody should trust: hostile spaces, damaged data, torn runs. Each is refused in words, by the command that met it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use predicates::prelude::*;
use predicates::str::contains;

use crate::workbench::{bench, idx, strait};

fn write(name: &str, bytes: &[u8]) {
    let path = bench().path().join(name);
    fs::create_dir_all(path.parent().expect("it has a folder")).expect("writable");
    fs::write(path, bytes).expect("writable");
}

#[track_caller]
fn refuses(args: &[&str], message: &str) {
    let told = strait(bench().path()).args(args).assert();
    told.code(2).stdout("").stderr(contains("error: ").and(contains(message)));
}

/// Data as a search meets them; nothing is left behind.
#[track_caller]
fn refuses_data(data: &str, message: &str) {
    refuses(&["search", "toy.yaml", "--data", data, "--out", "untrusted"], message);
    assert!(!bench().path().join("untrusted").exists(), "a refused search left a directory");
}

/// Each would fill the memory of a parser that believed it: 200 MB of address space are enough to refuse them all. A
/// second is the time of an idle machine; a busy one gets ten.
#[cfg(target_os = "linux")]
#[test]
fn hostile_spaces_are_refused_in_little_time_and_memory() {
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    write("bomb.yaml", format!("a0: &a0 [x]\n{bomb}").as_bytes());
    write("deep.yaml", "[".repeat(100_000).as_bytes());
    write("deeper.yaml", format!("a: {}", "{a: ".repeat(50_000)).as_bytes());
    let huge = File::create(bench().path().join("huge.yaml")).expect("writable");
    huge.set_len(100_000_000).expect("holes take no room");
    write("zero.yaml", b"");
    write("zeros.yaml", b"version: 1\nname: a\0b\n");
    for (file, message) in [
        ("bomb.yaml", "bomb.yaml:1:5: an anchor"),
        ("deep.yaml", "nested too deeply; expected at most 24 levels"),
        ("deeper.yaml", "nested too deeply"),
        ("huge.yaml", "huge.yaml: file too long for a space; expected at most 256 KiB"),
        ("zero.yaml", "zero.yaml: empty file"),
        ("zeros.yaml", "zeros.yaml:2:8: control character U+0000"),
    ] {
        let limited = format!("ulimit -v 200000 && exec {} check {file}", env!("CARGO_BIN_EXE_strait"));
        let told = assert_cmd::Command::new("sh")
            .current_dir(bench().path())
            .args(["-c", &limited])
            .timeout(Duration::from_secs(10))
            .assert();
        told.code(2).stdout("").stderr(contains("error: ").and(contains(message)));
    }
}

#[test]
fn settings_and_genotypes_are_no_bombs_either() {
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    write("settings-bomb.yaml", format!("a0: &a0 [x]\n{bomb}").as_bytes());
    let huge = File::create(bench().path().join("settings-huge.yaml")).expect("writable");
    huge.set_len(100_000_000).expect("holes take no room");
    for file in ["settings-bomb.yaml", "settings-huge.yaml"] {
        refuses(&["check", "toy.yaml", "--config", file], file);
        refuses(&["export", file, "--format", "json"], file);
    }
}

/// Truncated, empty, mislabelled, of mixed sizes: the file is named, and the record.
#[test]
fn damaged_data_are_refused_by_file_and_record() {
    for prefix in ["train", "t10k"] {
        write(&format!("labels/{prefix}-images-idx3-ubyte"), &[idx(3, &[4, 8, 8]), vec![0; 4 * 64]].concat());
        write(&format!("labels/{prefix}-labels-idx1-ubyte"), &[idx(1, &[4]), vec![0, 1, 0, 1]].concat());
    }
    write("labels/t10k-labels-idx1-ubyte", &[idx(1, &[4]), vec![0, 1, 2, 1]].concat());
    refuses_data("idx:labels", "t10k-labels-idx1-ubyte: record 2: label 2; accepted: 0 to 1");
    write("labels/train-images-idx3-ubyte", b"");
    refuses_data("idx:labels", "train-images-idx3-ubyte: ends at byte 0 of 4");
    for batch in 1..=5 {
        write(&format!("batches/data_batch_{batch}.bin"), &[0; 3073]);
    }
    write("batches/test_batch.bin", &[0; 3073]);
    write("batches/data_batch_3.bin", &[[0; 3073], [10; 3073]].concat());
    refuses_data("cifar10:batches", "data_batch_3.bin: record 1: label 10; accepted: 0 to 9");
    write("batches/data_batch_3.bin", &[0; 4000]);
    refuses_data("cifar10:batches", "data_batch_3.bin: record 1: ends at byte");
    refuses_data("cifar100:batches", "train.bin");
    write("ragged.csv", b"1,2,a\n3,4,b\n5,b\n");
    refuses_data("csv:ragged.csv", "ragged.csv:3: ");
    write("hollow.csv", b"");
    refuses_data("csv:hollow.csv", "hollow.csv: holds no examples");
    write("table.npz", b"PK, but no archive");
    refuses_data("npz:table.npz", "table.npz");
    for name in ["a/1", "a/2", "b/1", "b/2"] {
        write(&format!("pictures-none/{name}.png"), b"\x89PNG, but no picture");
    }
    refuses_data("folder:pictures-none", "1.png: is not a readable PNG or JPEG picture");
}

#[test]
fn pictures_of_two_sizes_are_refused_with_advice() {
    let run = |args: &[&str]| drop(strait(bench().path()).args(args).assert().success());
    run(&["data", "digits", "--examples", "two-sizes/small"]);
    fs::create_dir_all(bench().path().join("two-sizes/large")).expect("writable");
    run(&["export", "run", "--format", "png", "-o", "two-sizes/large/cell.png"]);
    refuses_data("folder:two-sizes", "the size of the others");
    refuses_data("folder:two-sizes", "or set `resize: [height, width]`");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("writable");
    }
}

#[test]
fn torn_runs_are_refused_by_the_file_that_is_torn() {
    for (name, file, bytes, message) in [
        ("torn-config", "config.yaml", &b"epochs: [1"[..], "torn-config/config.yaml: not YAML"),
        ("torn-space", "space.yaml", b"version: 1\n", "torn-space/space.yaml:1:1: no `name`"),
        ("torn-search", "search.safetensors", b"\x08\0\0\0", "search.safetensors: not a whole checkpoint"),
        ("torn-lines", "epochs.jsonl", b"{}\n", "epochs.jsonl: not 3 whole lines"),
    ] {
        let run = bench().path().join(name);
        copy(&bench().path().join("run"), &run);
        fs::write(run.join(file), bytes).expect("writable");
        let told = strait(bench().path()).args(["search", "--resume", name]).assert();
        told.failure().stdout("").stderr(contains(message));
    }
    let run = bench().path().join("foreign");
    copy(&bench().path().join("run"), &run);
    let config = fs::read_to_string(run.join("config.yaml")).expect("text");
    fs::write(run.join("config.yaml"), config.replace("seed: 0", "seed: 1")).expect("writable");
    let told = strait(bench().path()).args(["eval", "foreign"]).assert();
    told.failure().stdout("").stderr(contains("written by another run: space, settings or data differ"));
}

#[test]
fn a_search_that_diverges_says_where_and_fails() {
    let args = ["search", "toy.yaml", "--data", "idx:data", "--out", "diverged", "--set", "weights.lr=1e30"];
    let told = strait(bench().path()).args(args).assert();
    told.code(1).stdout("").stderr(contains("epoch 0, step").and(contains("lower the learning rate")));
}

/// Whatever a reader of examples does first: a sub-command without what it needs.
#[test]
fn what_is_missing_is_asked_for() {
    for command in ["check", "derive", "train", "eval", "export", "convert", "verify", "predict", "list"] {
        let told = Command::new(env!("CARGO_BIN_EXE_strait")).arg(command).output().expect("it starts");
        assert_eq!(told.status.code(), Some(2), "{command}");
        assert!(String::from_utf8_lossy(&told.stderr).contains("Usage: strait"), "{command}");
    }
    refuses(&["search", "--resume", "nowhere"], "no run here");
    refuses(&["derive", "nowhere"], "no run here");
    refuses(&["eval", "nowhere"], "no run here");
}

/// `strait data digits --examples digits/` leaves such a folder behind.
#[test]
fn a_folder_of_its_name_does_not_hide_a_shipped_space() {
    fs::create_dir_all(bench().path().join("mlp")).expect("writable");
    strait(bench().path()).args(["check", "mlp"]).assert().success();
    refuses(&["check", "."], "no file and no shipped space is called `.`");
}
