//! The command line: every sub-command, and every error a person can make.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use assert_cmd::assert::Assert;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::workbench::{TOY, bench, idx, strait};

/// Runs `strait` on the bench.
fn run(args: &[&str]) -> Assert {
    strait(bench().path()).args(args).assert()
}

/// The one JSON object on stdout of a command that ends well.
fn json(args: &[&str]) -> Value {
    let output = run(args).success().get_output().stdout.clone();
    serde_json::from_slice(&output).expect("one JSON object")
}

/// The command is refused with code 2, nothing on stdout, and a message that holds `message`.
#[track_caller]
fn refuses(args: &[&str], message: &str) {
    run(args).code(2).stdout("").stderr(contains("error: ").and(contains(message)));
}

fn accuracy(value: &Value) -> f64 {
    value.as_f64().filter(|accuracy| (0.0..=1.0).contains(accuracy)).expect("a fraction")
}

#[test]
fn every_sub_command_explains_itself() {
    for command in [
        "search", "check", "new", "derive", "train", "eval", "export", "convert", "verify", "predict",
        "report", "data", "lab", "list", "doctor", "bench",
    ] {
        run(&[command, "--help"]).success().stdout(contains("Usage: strait"));
        run(&["--help"]).success().stdout(contains(format!("\n  {command}")));
    }
}

#[test]
fn the_doctor_looks_for_every_library_and_says_what_to_do() {
    let libraries =
        ["libcuda.so", "libcudart.so", "libcublas.so", "libcurand.so", "libnvrtc.so", "libnccl.so"];
    for library in libraries {
        run(&["doctor"]).success().stdout(contains(library).and(contains("\nto do ")));
    }
    let found = json(&["doctor", "--json"]);
    assert_eq!(found["built_with_cuda"], cfg!(feature = "cuda"));
    assert_eq!(found["built_with_nccl"], cfg!(feature = "nccl"));
    assert!(found["advice"].as_array().is_some_and(|advice| !advice.is_empty()));
}

#[test]
fn lists_name_what_strait_knows() {
    let known = [
        ("spaces", "nas-bench-201"),
        ("ops", "sep_conv_3x3"),
        ("data", "cifar10:DIR"),
        ("estimators", "gumbel-st"),
    ];
    for (what, name) in known {
        run(&["list", what]).success().stdout(contains(name)).stderr("");
        assert!(json(&["list", what, "--json"])[what].as_array().is_some_and(|entries| entries.len() > 3));
    }
}

#[test]
fn a_search_stops_on_the_sign_it_was_told() {
    let toy = ["search", "toy.yaml", "--data", "idx:data", "--epochs", "9"];
    run(&[&toy[..], &["--out", "stopped", "--stop-on", "entropy:9"]].concat()).success();
    let lines = fs::read_to_string(bench().path().join("stopped/epochs.jsonl")).expect("lines");
    let last: Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (lines.lines().count(), &last["stopped"]),
        (2, &Value::Bool(true)),
        "one of warm-up, one of search"
    );
    assert!(last["noise"]["noise_to_signal"].as_f64().is_some_and(|ratio| ratio > 0.0), "{last}");
    refuses(
        &[&toy[..], &["--stop-on", "boredom"]].concat(),
        "expected skips:N, eigenvalue:RATIO or entropy:NATS",
    );
}

#[test]
fn the_laboratory_writes_its_numbers_and_pictures() {
    let quick = ["lab", "--draws", "50", "--tau", "0.1:10:3", "--estimators", "gdas,reinforce:2"];
    let found = json(&[&quick[..], &["--json", "-o", "lab"]].concat());
    assert_eq!(found["points"].as_array().map(Vec::len), Some(6));
    let read =
        |name: &str| fs::read_to_string(bench().path().join("lab").join(name)).expect("it was written");
    let csv = read("lab.csv");
    assert!(csv.starts_with("estimator,tau,bias,variance,mse,standard_error\ngdas,0.1,"), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    assert_eq!(serde_json::from_str::<Value>(&read("lab.json")).expect("JSON"), found);
    for picture in ["variance.svg", "bias.svg", "error.svg"] {
        assert!(read(picture).contains("reinforce:2"), "{picture}");
    }
    let page = read("lab.html");
    assert!(page.matches("<svg").count() == 3 && page.contains("slope"));
    fs::write(bench().path().join("losses.txt"), "1, 2\n4").expect("writable");
    run(&[&quick[..], &["--loss", "table:losses.txt"]].concat()).success().stdout(contains("3 candidates"));
    refuses(
        &["lab", "--loss", "steep"],
        "expected linear, quadratic, exponential, cubic, table:FILE or supernet",
    );
    fs::write(bench().path().join("faulty.txt"), "1, 2\n4 x").expect("writable");
    refuses(&["lab", "--loss", "table:faulty.txt"], "faulty.txt:2:3: found x; expected numbers");
    refuses(&["lab", "--tau", "1:0:3"], "expected FROM:TO:N with 0 < FROM <= TO");
    refuses(&["lab", "--draws", "1"], "draws: found 1; expected at least 2");
    refuses(&["lab", "--estimators", "gdsa"], "did you mean `gdas`?");
}

#[test]
fn a_step_is_measured_beside_what_the_machine_can_do() {
    let step = ["bench", "step", "--space", "toy.yaml", "--batch", "4", "--steps", "4", "--json"];
    let latin = json(&[&step[..], &["--estimator", "gdas", "--schedule", "latin"]].concat());
    assert_eq!(latin["steps"], 6); // two whole cycles of three candidates
    assert_eq!(latin["arithmetic"], "f32");
    let keys = ["median_ms_per_step", "images_per_s", "gflop", "gflops", "fma_peak_gflops", "bandwidth_gbs"];
    for key in keys {
        assert!(latin[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {}", latin[key]);
    }
    assert!(latin["params"].as_u64() > Some(0) && latin.get("peak_rss_mb").is_some());
    let mixture = json(&[&step[..], &["--estimator", "darts"]].concat());
    assert!(mixture["gflop"].as_f64() > latin["gflop"].as_f64());
    let digits = json(&[&step[..], &["--estimator", "darts", "--data", "digits"]].concat());
    assert!(digits["gflop"].as_f64() < mixture["gflop"].as_f64());
    assert_eq!((&digits["input"], &digits["classes"]), (&Value::from("8×8×1"), &Value::from(10)));
    refuses(&["bench", "step", "--space", "toy.yaml", "--batch", "1"], "--batch");
    refuses(&["bench", "step", "--estimator", "reinforce"], "expected one of gumbel-st");
}

/// Where no draw can be lucky, what the process held is what was estimated: one candidate an edge, or all of them.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_what_was_estimated() {
    let wide = TOY.replace("channels: 4", "channels: 16").replace("cell: cell}", "cell: cell, repeats: 4}");
    let with = |candidates: &str| {
        wide.replace("none, skip_connect, nor_conv_3x3", candidates)
            .replace("skip_connect, nor_conv_3x3", candidates)
    };
    let (alone, both) = (with("nor_conv_3x3"), with("nor_conv_1x1, nor_conv_3x3"));
    for (name, space, estimator) in [("alone.yaml", alone, "gumbel-st"), ("both.yaml", both, "darts")] {
        fs::write(bench().path().join(name), space).expect("writable");
        let step = ["bench", "step", "--steps", "2", "--threads", "2", "--json", "--batch", "64"];
        let found = json(&[&step[..], &["--space", name, "--estimator", estimator]].concat());
        let [held, estimated] =
            ["peak_rss_mb", "peak_mb_estimated"].map(|key| found[key].as_f64().expect("a number"));
        assert!((estimated / held - 1.0).abs() < 0.15, "{name}: {held} MB held, {estimated} estimated");
    }
}

#[test]
fn operations_are_measured_where_a_supernet_runs_them() {
    let found = json(&["bench", "ops", "--space", "toy.yaml", "--batch", "2", "--tries", "1", "--json"]);
    assert_eq!(found["arithmetic"], "f32");
    let [conv] = found["ops"].as_array().map(Vec::as_slice).expect("a list") else {
        panic!("one operation computes something: {}", found["ops"])
    };
    assert_eq!((&conv["op"], &conv["input"]), (&Value::from("nor_conv_3x3"), &Value::from("32×32×4")));
    for pass in ["forward", "backward"] {
        for key in ["ms", "gflops", "gbs", "roofline_share"] {
            assert!(conv[pass][key].as_f64().is_some_and(|value| value > 0.0), "{pass}: {key}");
        }
    }
    let digits = json(&[
        "bench", "ops", "--space", "toy.yaml", "--data", "digits", "--batch", "2", "--tries", "1", "--json",
    ]);
    assert_eq!(digits["ops"][0]["input"], "8×8×4");
    refuses(&["bench", "ops", "--space", "nowhere"], "no file and no shipped space");
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .args(["list", "ops"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), said.as_str()), (Some(0), ""));
}

#[test]
fn new_spaces_are_valid_and_overwrite_nothing() {
    for kind in ["cell", "chain", "series", "mlp"] {
        let file = format!("new-{kind}.yaml");
        run(&["new", kind, "-o", &file]).success().stdout(contains("strait check"));
        run(&["check", &file]).success();
        refuses(&["new", kind, "-o", &file], "exists");
    }
    run(&["new"]).success().stdout(contains("version: 1"));
}

#[test]
fn check_counts_by_hand_countable_spaces() {
    let report = json(&["check", "toy.yaml", "--data", "idx:data", "--batch", "16", "--json"]);
    assert_eq!(report["architectures"], "12"); // three edges of 2, 3 and 2 candidates
    assert_eq!(report["per_cell"]["cell"], "12");
    // Stem 1·9·4 + 8; per edge 4·4·9 + 8 or nothing; linear 4·10 + 10.
    let fixed = 36 + 8 + 50;
    assert_eq!(report["params"]["supernet"], fixed + 3 * 152);
    assert_eq!(report["params"]["max"], fixed + 3 * 152);
    assert_eq!(report["params"]["min"], fixed);
    assert!(report["peak_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(0));
}

/// On a device normalized maps are written, and there is more around them.
#[test]
fn check_estimates_a_gpu_that_is_not_there() {
    let check = ["check", "toy.yaml", "--data", "idx:data", "--batch", "64", "--json", "--device"];
    let [one, two] = ["cuda", "cuda:0,1"].map(|device| json(&[&check[..], &[device]].concat()));
    let bytes = |report: &Value| report["device"]["peak_bytes"].as_u64().expect("a number");
    assert_eq!((&one["device"]["name"], &one["device"]["batch"]), (&Value::from("cuda:0"), &Value::from(64)));
    assert!(bytes(&one) > one["peak_bytes"].as_u64().expect("a number"));
    assert!(two["device"]["batch"] == 32 && bytes(&two) < bytes(&one));
    assert!(json(&check[..7])["device"].is_null());
    run(&[&check[..6], &["--device", "cuda"]].concat()).success().stdout(contains("\non a GPU       about "));
    refuses(&["check", "toy.yaml", "--batch", "63", "--device", "cuda:0,1"], "expected a multiple of 2");
}

/// Half of four channels: 2·2·9 + 4 an edge in the supernet; children are trained with all.
#[test]
fn check_counts_partial_channels() {
    let check = ["check", "toy.yaml", "--data", "idx:data", "--json", "--set"];
    let report = json(&[&check[..], &["partial_channels=2"]].concat());
    let fixed = 36 + 8 + 50;
    assert_eq!(report["params"]["supernet"], fixed + 3 * 40);
    assert_eq!(report["params"]["max"], fixed + 3 * 152);
    let three = [&check[..], &["partial_channels=3"]].concat();
    run(&three).code(2).stdout(contains("expected a divisor of every edge's width, which are those of 4"));
    run(&[&check[..], &["partial_channels=0"]].concat()).code(2).stdout(contains("expected at least 1"));
}

#[test]
fn the_laboratory_measures_a_supernet() {
    fs::write(bench().path().join("losses.txt"), "1, 2\n0.5").expect("writable");
    let table = json(&["lab", "--loss", "table:losses.txt", "--draws", "50", "--tau", "1:1:1", "--json"]);
    assert_eq!(table["problem"], "linear loss, 3 candidates");
    let small = ["lab", "--space", "toy.yaml", "--data", "idx:data", "--weight-epochs", "1", "--draws", "4"];
    let few = ["--tau", "0.5:2:2", "--estimators", "gumbel-st,exact", "--set", "batch=8", "--json"];
    let found = json(&[&small[..], &few].concat());
    assert_eq!(found["reference"], "exact, over all 12 architectures");
    assert_eq!(found["points"].as_array().map(Vec::len), Some(4));
    // The enumeration is the truth: no bias, no variance.
    assert!(found["points"][2]["bias"].as_f64().is_some_and(|bias| bias < 1e-6), "{found}");
    assert!(found["points"][0]["variance"].as_f64().is_some_and(|variance| variance > 0.0), "{found}");
    refuses(&["lab", "--space", "toy.yaml", "--loss", "cubic"], "expected --loss supernet");
    refuses(&["lab", "--loss", "supernet", "--logits", "0,1"], "a supernet has logits of its own");
}

#[test]
fn settings_come_from_a_file_too() {
    fs::write(bench().path().join("columns.yaml"), "data: {as: series}\n").expect("writable");
    let report = json(&["check", "series-1d", "--data", "idx:data", "--config", "columns.yaml", "--json"]);
    assert_eq!(report["input"], "8×8"); // eight columns in time, eight rows as channels
    refuses(&["check", "series-1d", "--data", "idx:data"], "rank series");
}

const FIVE_FAULTS: &str = "\
version: 1
name: five
rank: image
rule: best
cells:
  - name: cell
    nodes: 2
    candidates: [none, sep_con_3x3, nor_conv_3x3]
    colour: blue
network:
  channels: 0
  stem: {block: {op: conv_norm, kernel: 3}}
  stages:
    - {cell: sell}
";

#[test]
fn five_faults_are_told_at_five_places() {
    fs::write(bench().path().join("five.yaml"), FIVE_FAULTS).expect("writable");
    let told = run(&["check", "five.yaml"]).code(2).stdout("");
    let said = String::from_utf8(told.get_output().stderr.clone()).expect("text");
    for place in ["4:7", "8:24", "9:5", "11:13", "14:14"] {
        assert!(said.contains(&format!("error: five.yaml:{place}: ")), "{place} is missing in\n{said}");
    }
    assert!(said.contains("did you mean `sep_conv_3x3`?"), "{said}");
    let report = run(&["check", "five.yaml", "--json"]).code(2).get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&report).expect("one JSON object");
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_faulty_setting_of_a_space_is_told_by_its_line() {
    let digits = fs::read_to_string(crate::tidy::root().join("search_spaces/digits.yaml")).expect("readable");
    let line = digits.lines().position(|line| line == "  epochs: 40").expect("it has epochs") + 1;
    let faulty = digits.replace("  epochs: 40", "  epochs: some");
    fs::write(bench().path().join("settings.yaml"), faulty).expect("writable");
    for command in ["check", "search"] {
        refuses(
            &[command, "settings.yaml"],
            &format!("settings.yaml:{line}:3: search: `epochs`: found some"),
        );
    }
}

#[test]
fn hopeless_files_are_refused_in_words() {
    for (name, bytes) in [
        ("empty.yaml", &b""[..]),
        ("nul.yaml", b"a\0b"),
        ("binary.yaml", &[0xff, 0xfe, 0]),
        ("list.yaml", b"[1]"),
    ] {
        fs::write(bench().path().join(name), bytes).expect("writable");
        refuses(&["check", name], name);
    }
    refuses(&["check", "nowhere.yaml"], "no file and no shipped space is called `nowhere.yaml`");
    refuses(&["check", "dart"], "did you mean `darts`?");
}

#[test]
fn wrong_data_are_refused_in_words() {
    refuses(&["search", "toy.yaml", "--data", "mnist", "--out", "no"], "accepted: digits, idx:DIR");
    refuses(&["search", "toy.yaml", "--data", "idx:nowhere", "--out", "no"], "nowhere");
    let dir = bench().path().join("torn");
    fs::create_dir_all(&dir).expect("writable");
    for prefix in ["train", "t10k"] {
        fs::write(
            dir.join(format!("{prefix}-images-idx3-ubyte")),
            [idx(3, &[9, 8, 8]), vec![0; 99]].concat(),
        )
        .expect("writable");
        fs::write(dir.join(format!("{prefix}-labels-idx1-ubyte")), [idx(1, &[9]), vec![0; 9]].concat())
            .expect("writable");
    }
    refuses(&["search", "toy.yaml", "--data", "idx:torn", "--out", "no"], "train-images-idx3-ubyte");
    fs::write(bench().path().join("table.csv"), "1,2,a\n3,4,b\n".repeat(20)).expect("writable");
    refuses(&["search", "toy.yaml", "--data", "csv:table.csv", "--out", "no"], "rank");
    assert!(!bench().path().join("no").exists(), "a refused search left a directory");
}

#[test]
fn wrong_settings_are_refused_in_words() {
    let search =
        |more: &[&'static str]| [&["search", "toy.yaml", "--data", "idx:data", "--out", "no"], more].concat();
    refuses(&search(&["--estimator", "gumbel_st"]), "did you mean `gumbel-st`?");
    refuses(&search(&["--set", "epoch=1"]), "did you mean `epochs`?");
    refuses(&search(&["--set", "weights.lr=fast"]), "weights.lr");
    refuses(&search(&["--set", "tau.to=-1"]), "above 0");
    refuses(&search(&["--set", "epochs"]), "expected KEY=VALUE");
    refuses(&search(&["--config", "nowhere.yaml"]), "nowhere.yaml");
    refuses(&search(&["--epochs", "0"]), "at least 1");
    refuses(&search(&["--threads", "0"]), "1..=1024");
    refuses(&search(&["--device", "tpu"]), "expected cpu, cuda, cuda:INDEX or different ones");
    refuses(&search(&["--tf32", "on"]), "leave out --tf32, or name a GPU with --device cuda");
    refuses(&search(&["--tf32", "perhaps"]), "possible values: on, off");
    refuses(&search(&["--precision", "f16"]), "possible values: f32, bf16");
    let both = ["--device", "cuda", "--precision", "bf16", "--tf32", "on"];
    refuses(&search(&both), "leave out one of the two");
    refuses(&["search", "--resume", "run", "--seed", "1"], "cannot be used with");
    refuses(&["derive", "run", "--rule", "best"], "accepted: argmax");
    refuses(&["export", "run", "--format", "tflite"], "safetensors");
    refuses(&["export", "run", "--format", "svg", "--fold-batch-norm"], "for onnx");
    refuses(&["hunt"], "unrecognized subcommand");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_was_not_built_in_is_named() {
    for device in ["cuda", "cuda:0,1"] {
        refuses(&["search", "toy.yaml", "--device", device, "--out", "no"], "built without CUDA");
    }
    refuses(&["search", "toy.yaml", "--device", "cuda:0,0", "--out", "no"], "different ones as in cuda:0,1");
}

#[test]
fn a_run_is_not_overwritten_unless_told_to() {
    let args = ["search", "toy.yaml", "--data", "idx:data", "--epochs", "1", "--set", "retrain_epochs=0"];
    let again = |more: &[&'static str]| [&args[..], more].concat();
    run(&again(&["--out", "twice"])).success();
    run(&again(&["--out", "twice"])).code(2).stderr(contains("not empty").and(contains("--force")));
    run(&again(&["--out", "twice", "--force", "--seed", "1"])).success();
    fs::create_dir(bench().path().join("mine")).expect("writable");
    fs::write(bench().path().join("mine/thesis.txt"), "precious").expect("writable");
    run(&again(&["--out", "mine", "--force"])).code(2);
    assert!(bench().path().join("mine/thesis.txt").exists());
}

#[test]
fn a_search_reports_what_scripts_rely_on() {
    let found = json(&["search", "--resume", "run", "--json"]); // an ended run only reports again
    for key in [
        "genotype",
        "run",
        "seed",
        "epochs",
        "seconds",
        "supernet_accuracy",
        "derived_accuracy",
        "test_accuracy",
        "params",
        "macs",
    ] {
        assert!(found.get(key).is_some(), "{key} is missing in {found}");
    }
    assert_eq!((&found["seed"], &found["epochs"]), (&Value::from(0), &Value::from(3)));
    for key in ["supernet_accuracy", "derived_accuracy", "test_accuracy"] {
        accuracy(&found[key]);
    }
    assert_eq!(found["genotype"]["space"], "toy");
}

#[test]
fn a_run_directory_holds_the_whole_run() {
    let run = bench().path().join("run");
    let files = [
        "config.yaml",
        "space.yaml",
        "seed",
        "epochs.jsonl",
        "search.safetensors",
        "genotype.yaml",
        "genotype.svg",
        "train.yaml",
        "train.jsonl",
        "train.safetensors",
        "result.json",
        "log.txt",
        "machine.json",
    ];
    for file in files {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    assert_eq!(fs::read_to_string(run.join("space.yaml")).expect("text"), TOY);
    let lines = fs::read_to_string(run.join("epochs.jsonl")).expect("text");
    let epochs: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(epochs.len(), 3);
    assert!(epochs.iter().all(|epoch| epoch["groups"][0]["logits"].is_array() && epoch["tau"].is_number()));
}

#[test]
fn a_search_without_training_says_what_to_type_next() {
    let args = [
        "search",
        "toy.yaml",
        "--data",
        "idx:data",
        "--out",
        "short",
        "--epochs",
        "1",
        "--set",
        "retrain_epochs=0",
    ];
    run(&args).success().stdout(contains("strait train short"));
    assert_eq!(json(&["search", "--resume", "short", "--json"])["test_accuracy"], Value::Null);
}

/// Maps in bf16 are half as long; a run says what it was computed in, and that it goes on in something else.
#[test]
fn a_search_in_bf16_takes_less_and_says_so() {
    let args = ["search", "toy.yaml", "--data", "idx:data", "--epochs", "1", "--set", "retrain_epochs=0"];
    run(&[&args[..], &["--out", "narrow", "--precision", "bf16"]].concat()).success();
    let machine = fs::read_to_string(bench().path().join("narrow/machine.json")).expect("it was written");
    let machine: Value = serde_json::from_str(&machine).expect("JSON");
    assert_eq!(machine["arithmetic"], "bf16");
    let resume = ["search", "--resume", "narrow"];
    run(&resume).success().stderr(contains("computed in bf16 until now, in f32 from here on"));
    let [wide, narrow] = ["f32", "bf16"].map(|precision| {
        let check = ["check", "toy.yaml", "--data", "idx:data", "--batch", "4096", "--json", "--precision"];
        json(&[&check[..], &[precision]].concat())["peak_bytes"].as_u64().expect("a number")
    });
    assert!(narrow < wide, "{narrow} bytes in bf16, {wide} in f32");
    let step =
        ["bench", "step", "--space", "toy.yaml", "--batch", "4", "--steps", "4", "--precision", "bf16"];
    assert_eq!(json(&[&step[..], &["--json"]].concat())["arithmetic"], "bf16");
}

#[test]
fn quiet_searches_are_silent_and_verbose_ones_are_not() {
    let args = [
        "search",
        "toy.yaml",
        "--data",
        "idx:data",
        "--epochs",
        "1",
        "--set",
        "retrain_epochs=0",
        "--force",
        "--json",
        "--out",
    ];
    let said = |more: &[&'static str]| {
        let told = run(&[&args[..], more].concat()).success();
        serde_json::from_slice::<Value>(&told.get_output().stdout).expect("one JSON object");
        String::from_utf8(told.get_output().stderr.clone()).expect("text")
    };
    assert_eq!(said(&["q", "-q"]), "");
    assert!(said(&["v", "-v"]).contains("INFO"));
    let lines = said(&["j", "-v", "--log-format", "json"]);
    assert!(
        lines
            .lines()
            .any(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["level"] == "INFO"))
    );
}

#[test]
fn derive_reads_the_logits_by_any_rule() {
    let decided = fs::read_to_string(bench().path().join("run/genotype.yaml")).expect("text");
    run(&["derive", "run"]).success().stdout(decided.clone());
    run(&["derive", "run", "--rule", "argmax", "-o", "derived.yaml"])
        .success()
        .stdout(contains("strait train derived.yaml"));
    assert_eq!(fs::read_to_string(bench().path().join("derived.yaml")).expect("text"), decided);
    assert_eq!(json(&["derive", "run", "--rule", "top-1", "--json"])["rule"], "top-1");
    assert_eq!(json(&["derive", "run", "--rule", "sampled:4", "--json"])["rule"], "sampled:4");
    refuses(&["derive", "data"], "no run here");
}

#[test]
fn eval_measures_what_the_search_reported() {
    let (told, found) = (json(&["search", "--resume", "run", "--json"]), json(&["eval", "run", "--json"]));
    for key in ["derived_accuracy", "test_accuracy"] {
        assert_eq!(told[key], found[key], "{key}");
    }
    accuracy(&json(&["eval", "run", "--data", "digits", "--json"])["test_accuracy"]);
    refuses(&["eval", "data"], "no run here");
}

#[test]
fn train_takes_a_run_or_a_genotype() {
    let found = json(&["train", "run", "--epochs", "1", "--out", "trained", "--json"]);
    accuracy(&found["test_accuracy"]);
    assert_eq!(found["epochs"], 1);
    assert!(found["seconds"].is_number());
    let args = ["train", "run/genotype.yaml", "--space", "toy.yaml", "--data", "idx:data", "--epochs", "1"];
    let wider = json(&[&args[..], &["--channels", "8", "--cells", "2", "--out", "wider", "--json"]].concat());
    assert!(wider["params"].as_u64() > found["params"].as_u64());
    assert_eq!(json(&["eval", "wider", "--json"])["test_accuracy"], wider["test_accuracy"]);
    refuses(&["train", "run/genotype.yaml", "--out", "no"], "--space");
    refuses(&["train", "toy.yaml", "--out", "no"], "not a genotype");
    refuses(&["train", "nowhere.yaml", "--out", "no"], "nowhere.yaml");
    refuses(&["train", "run", "--out", "trained"], "not empty");
}

#[test]
fn export_writes_every_format() {
    for (format, mark) in [
        ("yaml", "space: toy"),
        ("json", "\"space\""),
        ("nb201", "~0|"),
        ("dot", "digraph"),
        ("svg", "<svg"),
        ("pytorch", "class Model"),
        ("rust", "pub struct Model"),
    ] {
        run(&["export", "run", "--format", format]).success().stdout(contains(mark));
    }
    run(&["export", "run", "--format", "svg", "-o", "exported.svg"]).success();
    assert!(fs::read_to_string(bench().path().join("exported.svg")).expect("text").contains("<svg"));
    run(&["export", "run", "--format", "onnx", "--fold-batch-norm", "-o", "model.onnx"]).success();
    refuses(&["export", "run", "--format", "darts"], "expected `normal` and `reduce`");
    refuses(&["export", "run", "--format", "onnx,svg"], "several files");
    refuses(&["export", "toy.yaml", "--format", "json"], "not a genotype");
    refuses(&["export", "run/genotype.yaml", "--space", "toy.yaml", "--format", "onnx"], "has no weights");
}

/// The bench's run in every format, and a digit of each class.
fn exported() -> &'static str {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        run(&["export", "run", "--format", "all", "-o", "everything"]).success();
        run(&["data", "digits", "--examples", "pictures", "--sheet", "sheet.png"]).success();
    });
    "everything/network.safetensors"
}

#[test]
fn an_exported_folder_says_how_to_use_each_file() {
    exported();
    let dir = bench().path().join("everything");
    let readme = fs::read_to_string(dir.join("README.md")).expect("text");
    let files = [
        "genotype.yaml",
        "genotype.json",
        "genotype.nb201",
        "genotype.dot",
        "genotype.svg",
        "network.safetensors",
        "network.onnx",
        "model.py",
        "model.rs",
        "weights.safetensors",
    ];
    for file in files {
        assert!(dir.join(file).is_file(), "{file} is missing");
        assert!(readme.contains(file), "{file} is not in\n{readme}");
    }
    assert!(!dir.join("genotype.darts").exists()); // of one kind of cell there is no such tuple
    assert!(readme.contains("(N, 1, 8, 8)") && readme.contains("0, 1, 2, 3, 4, 5, 6, 7, 8, 9"), "{readme}");
}

#[test]
fn verify_recomputes_what_a_file_says() {
    let file = exported();
    let found = json(&["verify", file, "--data", "idx:data", "--json"]);
    let told = json(&["search", "--resume", "run", "--json"]);
    assert_eq!((&found["weights_match"], &found["data_match"]), (&Value::Bool(true), &Value::Bool(true)));
    for (key, claimed) in [("test_accuracy", "test_accuracy"), ("params", "params"), ("macs", "macs")] {
        assert_eq!(found[key], told[claimed], "{key}");
    }
    assert_eq!(json(&["verify", file, "--data", "digits", "--json"])["data_match"], false);
    let mut bytes = fs::read(bench().path().join(file)).expect("written");
    *bytes.last_mut().expect("not empty") ^= 1;
    fs::write(bench().path().join("changed.safetensors"), bytes).expect("writable");
    run(&["verify", "changed.safetensors"]).code(1).stdout(contains("CHANGED"));
    refuses(&["verify", "everything/weights.onnx"], "cannot be read");
    refuses(&["verify", "toy.yaml"], "toy.yaml");
}

#[test]
fn predict_classifies_pictures_and_rows() {
    let file = exported();
    let of_run = json(&["predict", "run", "pictures", "--json"]);
    assert_eq!(json(&["predict", file, "pictures", "--json"]), of_run);
    let predictions = of_run["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 10);
    for one in predictions {
        accuracy(&one["probability"]);
        assert_eq!(one["logits"].as_array().map(Vec::len), Some(10));
    }
    run(&["predict", file, "pictures/7.png"]).success().stdout(contains("pictures/7.png\t"));
    fs::write(bench().path().join("row.csv"), ["0.5"; 64].join(",")).expect("writable");
    run(&["predict", file, "row.csv"]).success().stdout(contains("row.csv row 1\t"));
    fs::write(bench().path().join("short.csv"), "1,2,3").expect("writable");
    refuses(&["predict", file, "short.csv"], "short.csv:1");
    refuses(&["predict", file, "data"], "no PNG and no JPEG");
    refuses(&["predict", file, "toy.yaml"], "toy.yaml");
}

#[test]
fn data_are_looked_at_before_anything_learns() {
    exported();
    let found = json(&["data", "idx:data", "--json"]);
    assert_eq!((&found["shape"], &found["train"]), (&Value::from("8×8×1"), &Value::from(120)));
    assert_eq!(found["classes"].as_array().map(Vec::len), Some(10));
    let sheet = fs::read(bench().path().join("sheet.png")).expect("written");
    assert!(sheet.starts_with(b"\x89PNG"));
    fs::write(bench().path().join("leak.csv"), "1,2,a\n1,2,a\n1,2,b\n3,4,b\n3,4,b\n1,2,a\n")
        .expect("writable");
    run(&["data", "csv:leak.csv"]).success().stdout(contains("problem").and(contains("training part, too")));
    refuses(&["data", "csv:leak.csv", "--sheet", "no.png"], "no pictures");
    fs::write(bench().path().join("nan.csv"), "1,2,a\n1,NaN,a\n1,2,b\n3,4,b\n").expect("writable");
    refuses(&["data", "csv:nan.csv"], "nan.csv:2");
}

/// The figure in the run is the one `export` draws.
#[test]
fn the_picture_of_a_run_is_the_exported_one() {
    let drawn = fs::read_to_string(bench().path().join("run").join("genotype.svg")).expect("text");
    run(&["export", "run", "--format", "svg"]).success().stdout(drawn);
}

const CELL: &str = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|";
const DARTS_V1: &str = "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), \
    ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], \
    normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
    ('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], \
    reduce_concat=[2, 3, 4, 5])";

#[test]
fn genotypes_of_the_literature_are_converted_both_ways() {
    for (text, notation) in [(CELL, "nb201"), (DARTS_V1, "darts")] {
        run(&["convert", text, "--to", "yaml", "-o", "converted.yaml"]).success();
        let back = run(&["convert", "converted.yaml", "--to", notation]).success();
        let back = String::from_utf8(back.get_output().stdout.clone()).expect("text");
        fs::write(bench().path().join("back.txt"), &back).expect("writable");
        run(&["convert", "back.txt", "--to", notation]).success().stdout(back); // sorted, and then unchanged
    }
    run(&["convert", CELL, "--to", "nb201"]).success().stdout(format!("{CELL}\n"));
    refuses(
        &["convert", &CELL.replace("nor_conv_1x1", "nor_con_1x1"), "--to", "yaml"],
        "did you mean `nor_conv_1x1`?",
    );
    refuses(&["convert", CELL, "--to", "yaml", "--space", "darts"], "expected one cell kind of one input");
    refuses(&["convert", CELL, "--to", "svg"], "expected yaml, json, nb201 or darts");
}

#[test]
fn a_genotype_is_trained_and_drawn_from_its_string() {
    run(&["export", CELL, "--format", "dot"]).success().stdout(contains("digraph"));
    let args = ["train", CELL, "--data", "idx:data", "--epochs", "1", "--channels", "2", "--cells", "1"];
    let found = json(&[&args[..], &["--set", "batch=60", "--out", "from-string", "--json"]].concat());
    accuracy(&found["test_accuracy"]);
    refuses(&["train", "|skip_connect~0", "--data", "idx:data", "--out", "no"], "expected `|op~0|`");
}

/// One edge that may be absent, and logits that never move: of this seed the absence is the likelier.
const CUT: &str = "\
version: 1
name: cut
rank: image
cells:
  - {name: cell, nodes: 1, candidates: [none, skip_connect]}
network:
  channels: 2
  stem: {block: {op: conv_norm, kernel: 3}}
  stages:
    - {cell: cell}
search: {epochs: 1, warmup_epochs: 0, retrain_epochs: 1, batch: 60, gap_batches: 1, arch: {lr: 0}}
";

#[test]
fn a_disconnected_child_is_told_to_people_and_to_scripts() {
    fs::write(bench().path().join("cut.yaml"), CUT).expect("writable");
    let args = ["search", "cut.yaml", "--data", "idx:data", "--seed", "1", "--out", "cut", "--json"];
    for args in [&args[..], &["derive", "cut", "--json"]] {
        let told = run(args).code(1).get_output().stdout.clone();
        let told: Value = serde_json::from_slice(&told).expect("one JSON object");
        assert_eq!(told["disconnected"], serde_json::json!([0]));
        assert_eq!(told["genotype"]["cells"][0]["edges"][0]["op"], "none");
        assert!(told["error"].as_str().is_some_and(|error| error.contains("cell")), "{told}");
    }
    run(&["derive", "cut"]).code(1).stdout("").stderr(contains("--rule sampled"));
}

#[test]
fn recipes_lie_under_every_other_setting() {
    let args =
        ["train", "run", "--recipe", "quick", "--epochs", "1", "--set", "mixup=0.2", "--set", "cutmix=1"];
    let found = json(&[&args[..], &["--set", "accumulate=2", "--out", "by-recipe", "--json"]].concat());
    accuracy(&found["test_accuracy"]);
    let config = fs::read_to_string(bench().path().join("by-recipe/train.yaml")).expect("text");
    for line in ["epochs: 1\n", "ema: 0.995", "label_smoothing: 0.05", "accumulate: 2"] {
        assert!(config.contains(line), "{line} is missing in\n{config}");
    }
    assert_eq!(json(&["eval", "by-recipe", "--json"])["confusion"], found["confusion"]);
    refuses(&["train", "run", "--recipe", "drats"], "expected one of quick, darts-cifar");
    refuses(&["train", "run", "--set", "cutmix=-1", "--out", "no"], "cutmix");
}

#[test]
fn several_seeds_have_a_mean_and_a_spread() {
    let args = ["train", "run", "--epochs", "1", "--seeds", "2", "--out", "seeds", "--json"];
    let found = json(&args);
    let runs = found["runs"].as_array().expect("a list");
    let accuracies: Vec<f64> = runs.iter().map(|run| accuracy(&run["test_accuracy"])).collect();
    let mean = (accuracies[0] + accuracies[1]) / 2.0;
    assert!((accuracy(&found["test_accuracy_mean"]) - mean).abs() < 1e-12);
    let deviation = (accuracies[0] - accuracies[1]).abs() / 2f64.sqrt(); // of a sample of two
    assert!((found["test_accuracy_deviation"].as_f64().expect("a number") - deviation).abs() < 1e-12);
    assert!(bench().path().join("seeds/seed1/result.json").is_file());
    for run in runs {
        let right: u64 = (0..10).map(|i| run["confusion"][i][i].as_u64().expect("a count")).sum();
        assert!((right as f64 / 40.0 - accuracy(&run["test_accuracy"])).abs() < 1e-12);
        assert!(run["test_top5"].as_f64() >= run["test_accuracy"].as_f64());
    }
}

#[test]
fn a_child_may_start_from_its_supernet() {
    let args = ["train", "run", "--epochs", "1", "--inherit", "run", "--out", "inherited"];
    run(&args).success().stderr(contains("start from the supernet"));
    refuses(&["train", "run", "--epochs", "1", "--inherit", "data", "--out", "no"], "no run here");
    let wider = ["train", "run", "--epochs", "1", "--inherit", "run", "--channels", "8", "--out", "too-wide"];
    refuses(&wider, "[3, 3, 1, 4] in the supernet, [3, 3, 1, 8] in the child");
    assert!(!bench().path().join("too-wide").exists(), "nothing is left of a training that could not begin");
}

/// The child with a convolution on every edge: the dearest that `check` counts, as trained, as shown, as exported.
#[test]
fn check_report_and_onnx_count_alike() {
    let dearest = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|";
    let args = ["train", dearest, "--space", "toy.yaml", "--data", "idx:data", "--epochs", "1"];
    run(&[&args[..], &["--out", "dearest"]].concat()).success();
    let checked = json(&["check", "toy.yaml", "--data", "idx:data", "--json"]);
    run(&["report", "dearest", "-o", "dearest.html"]).success();
    let page = fs::read_to_string(bench().path().join("dearest.html")).expect("text");
    let data = page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>"));
    let shown: Value = serde_json::from_str(data.expect("the data stand there").0).expect("JSON");
    run(&["export", "dearest", "--format", "onnx", "-o", "dearest.onnx"]).success();
    let onnx = fs::read(bench().path().join("dearest.onnx")).expect("written");
    let (params, macs) = crate::exports::counted(&onnx);
    for (name, exported) in [("params", params), ("macs", macs)] {
        assert_eq!(checked[name]["max"], exported, "{name}: check and ONNX");
        assert_eq!(shown["runs"][0]["result"][name], exported, "{name}: report and ONNX");
    }
}

#[test]
fn events_are_written_as_epochs_end() {
    let toy = ["search", "toy.yaml", "--data", "idx:data", "--epochs", "100000", "--save-every", "0"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .current_dir(bench().path())
        .args([&toy[..], &["--out", "told", "--tensorboard", "-q"]].concat())
        .spawn()
        .expect("the binary starts");
    let dir = bench().path().join("told/tensorboard");
    let size = || -> u64 {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    };
    let begun = std::time::Instant::now();
    let mut grown = [0, 0];
    for grown in &mut grown {
        let before = size();
        while size() <= before.max(40) {
            assert!(begun.elapsed().as_secs() < 60, "no event after a minute");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        *grown = size();
    }
    assert!(child.try_wait().expect("it can be asked").is_none(), "the search was over");
    assert!(grown[1] > grown[0], "{grown:?}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let other = [&toy[..3], &["idx:data", "--epochs", "1", "--out", "told", "--force"]].concat();
    run(&other).success();
    assert_eq!(size(), 0, "events of a run that was replaced");
}

#[test]
fn a_report_is_one_file_that_asks_for_nothing() {
    run(&["report", "run", "-o", "report.html"])
        .success()
        .stdout(contains("After 3 epochs on the space toy"));
    let page = fs::read_to_string(bench().path().join("report.html")).expect("text");
    assert!(page.len() < 1 << 20 && !page.contains("src=") && !page.contains("href="));
    assert_eq!(
        page.matches("\"noise\"").count(),
        3,
        "what every epoch measured of its gradient travels with it"
    );
    run(&["report", "run", "run", "--tensorboard", "events"])
        .success()
        .stdout(contains("tensorboard --logdir"));
    let mut files = fs::read_dir(bench().path().join("events/run")).expect("a folder");
    let file = fs::read(files.next().expect("a file").expect("readable").path()).expect("readable");
    assert_eq!(file[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    refuses(&["report", "data"], "no run here");
}

/// The page and its data while a search runs, and nothing to a stranger's name.
#[test]
fn a_search_can_be_watched_while_it_runs() {
    use std::io::{BufRead, BufReader, Write};
    let mut child = Command::new(env!("CARGO_BIN_EXE_strait"))
        .current_dir(bench().path())
        .args([
            "search", "toy.yaml", "--data", "idx:data", "--epochs", "4000", "--out", "watched", "--live", "0",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let address = lines.filter_map(|line| Some(line.split_once("live: http://")?.1.to_owned())).next();
    let address = address.expect("an address");
    let ask = |path: &str, host: &str| {
        let mut stream = std::net::TcpStream::connect(&address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(ask("/", &address).contains("<title>strait: report</title>"));
    let data = ask("/data.json", &address);
    assert!(data.starts_with("HTTP/1.1 200") && data.contains("\"live\":true"), "{data}");
    assert!(ask("/config.yaml", &address).starts_with("HTTP/1.1 404"));
    assert!(ask("/", "example.com").starts_with("HTTP/1.1 403"));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
