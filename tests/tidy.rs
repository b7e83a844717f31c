//! The invariants of the house, read from manifests and sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate may use of ours: what its lines in ARCHITECTURE.md lead down to.
const ARROWS: [(&str, &[&str]); 11] = [
    ("search-space", &[]),
    ("ops", &["search-space"]),
    ("controller", &["search-space"]),
    ("data", &["search-space"]),
    ("network", &["controller", "ops", "search-space"]),
    ("trainer", &["controller", "data", "network", "ops", "search-space"]),
    ("export", &["network", "ops", "search-space"]),
    ("lab", &["controller", "search-space"]),
    ("report", &["search-space", "trainer"]),
    (
        "strait",
        &["controller", "data", "export", "lab", "network", "ops", "report", "search-space", "trainer"],
    ),
    ("strait-cli", &["strait"]),
];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What cargo knows of the workspace and of what it needs here: of other platforms nothing is downloaded.
fn metadata() -> Value {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs").stdout;
    let rustc = String::from_utf8(rustc).expect("rustc writes text");
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let args = ["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// `strait-ops` is called `ops` in the house.
fn short(package: &str) -> &str {
    if package == "strait-cli" { package } else { package.strip_prefix("strait-").unwrap_or(package) }
}

/// A source file, without what `//` and `#[cfg(test)]` begin.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    code: String,
    all: String,
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let (dirs, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|found| found == extension));
    own.chain(dirs.iter().flat_map(|dir| self::files(dir, extension))).collect()
}

fn sources() -> Vec<Source> {
    let read = |path: PathBuf| {
        let all = fs::read_to_string(&path).expect("sources are text");
        let product = all.split("#[cfg(test)]").next().unwrap_or_default();
        let code = product
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let path = path.strip_prefix(root()).expect("below the root").display().to_string();
        Source { path, code, all }
    };
    files(&root().join("crates"), "rs").into_iter().map(read).collect()
}

/// Product sources: neither tests, nor examples, nor benches.
fn product() -> impl Iterator<Item = Source> {
    let other = ["/tests", "/examples/", "/benches/"];
    sources().into_iter().filter(move |source| !other.iter().any(|part| source.path.contains(part)))
}

/// No product source for which `excused` is false holds any of `words`.
#[track_caller]
fn nowhere(words: &[&str], excused: impl Fn(&str) -> bool) {
    let found: Vec<_> = product()
        .filter(|source| !excused(&source.path))
        .flat_map(|source| {
            let held = words.iter().filter(|word| source.code.contains(**word));
            held.map(|word| format!("{}: {word}", source.path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_space_is_understood_without_tensors() {
    let metadata = metadata();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let dependencies: BTreeMap<_, _> =
        nodes.iter().map(|node| (text(&node["id"]), list(&node["deps"]))).collect();
    let is_product = |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let start = dependencies.keys().find(|id| id.contains("crates/search-space#")).expect("a crate of ours");
    let (mut seen, mut open) = (BTreeSet::new(), vec![*start]);
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(dependencies[id].iter().filter(is_product).map(|dep| text(&dep["pkg"])));
        }
    }
    assert!(seen.iter().any(|id| id.contains("serde_yaml")), "the walk found no known dependency");
    assert!(!seen.iter().any(|id| id.contains("candle")), "{seen:#?}");
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let metadata = metadata();
    let ours: Vec<_> =
        list(&metadata["packages"]).iter().filter(|package| package["source"].is_null()).collect();
    let allowed = BTreeMap::from(ARROWS);
    assert_eq!(ours.len(), allowed.len());
    for package in ours {
        let name = short(text(&package["name"]));
        let product = list(&package["dependencies"]).iter().filter(|dep| dep["kind"].is_null());
        for used in product.filter(|dep| !dep["path"].is_null()).map(|dep| short(text(&dep["name"]))) {
            assert!(allowed[name].contains(&used), "{name} uses {used}");
        }
    }
}

#[test]
fn chance_comes_from_seeded_generators_only() {
    let words = [
        "rand::rng()",
        "thread_rng",
        "Tensor::rand",
        ".rand_like(",
        ".randn_like(",
        "candle_nn::Init",
        "StdRng",
    ];
    nowhere(&words, |_| false);
}

#[test]
fn nothing_iterates_over_a_hash_map() {
    let excused = [
        "crates/search-space/src/document.rs", // asks whether a key is known, and nothing else
        "crates/trainer/src/checkpoint.rs",    // safetensors takes its metadata so: a map of one key
    ];
    nowhere(&["HashMap", "HashSet"], |path| excused.contains(&path));
}

#[test]
fn unsafe_code_lives_in_the_kernels() {
    let kernels = |path: &str| path.starts_with("crates/ops/src/kernels/");
    nowhere(&["unsafe {", "unsafe fn", "unsafe impl", "cfg(feature = \"cuda\")"], kernels);
}

#[test]
fn only_the_command_line_prints_exits_and_reads_the_environment() {
    let cli = |path: &str| path.starts_with("crates/cli/");
    nowhere(&["println!", "print!(", "dbg!(", "process::exit", "env::var", "tracing_subscriber"], cli);
}

#[test]
fn only_the_trainer_knows_time() {
    let knows = |path: &str| path.starts_with("crates/trainer/") || path.starts_with("crates/cli/");
    nowhere(&["SystemTime", "Instant::now"], knows);
}

#[test]
fn every_test_runs_and_nothing_is_left_to_do() {
    let words = ["#[ignore", "#[should_panic", "todo!(", "unimplemented!("];
    for source in sources() {
        let held: Vec<_> = words.iter().filter(|word| source.all.contains(**word)).collect();
        assert!(held.is_empty(), "{}: {held:?}", source.path);
    }
}

#[test]
fn every_file_has_found_its_name() {
    let nameless = ["utils", "util", "common", "base", "helpers", "misc"];
    for source in sources() {
        let held = source.path.split(['/', '.']).find(|part| nameless.contains(part));
        assert!(held.is_none(), "{}", source.path);
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let accepted = "Cargo.toml Cargo.lock crates search_spaces examples tests README.md LICENSE ARCHITECTURE.md \
                    CHANGELOG.md rustfmt.toml target runs";
    let accepted: BTreeSet<_> = accepted.split_whitespace().map(str::to_owned).collect();
    let entries = fs::read_dir(root()).expect("the root is readable");
    let names = entries.map(|entry| entry.expect("readable").file_name().display().to_string());
    let surplus: Vec<_> = names.filter(|name| !name.starts_with('.') && !accepted.contains(name)).collect();
    assert!(surplus.is_empty(), "{surplus:?}");
}

#[test]
fn examples_are_numbered_and_short() {
    let examples = files(&root().join("examples"), "rs");
    assert!(examples.len() >= 5);
    for (i, path) in examples.iter().enumerate() {
        let name = path.file_name().expect("a file").display().to_string();
        assert!(name.starts_with(&format!("{:02}_", i + 1)), "{name}");
        let lines = fs::read_to_string(path).expect("text").lines().count();
        assert!(lines <= 80, "{name} has {lines} lines");
    }
}

/// Whatever ARCHITECTURE.md names in backquotes with a slash or with an extension of ours is there.
#[test]
fn the_architecture_names_files_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |name: &&str| {
        let word = name.is_ascii() && !name.contains([' ', '*', '(', '<']);
        word && (name.contains('/') || name.ends_with(".yaml"))
    };
    let of_a_run = ["config.yaml", "train.yaml", "space.yaml", "genotype.yaml"];
    let missing: Vec<_> = quoted
        .filter(is_path)
        .filter(|name| !of_a_run.contains(name) && !root().join(name).exists())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(text.lines().count() < 200);
}
