//! Runs as wholes: equal ones have equal bytes, interrupted ones end as if nothing had happened.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::workbench::{bench, contents, strait};

const SEARCH: [&str; 9] =
    ["search", "toy.yaml", "--data", "idx:data", "--epochs", "6", "--save-every", "0", "--out"];

/// A whole run in one go.
fn whole(out: &str, more: &[&str]) -> PathBuf {
    strait(bench().path()).args(SEARCH).arg(out).args(more).assert().success();
    bench().path().join(out)
}

/// A search in a process of its own.
fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
    command.current_dir(bench().path()).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the binary starts")
}

/// A search that goes on for as long as it is let.
fn start_endless(out: &str) -> Child {
    let child = start(&[&SEARCH[..8], &["--out", out, "--set", "epochs=100000"]].concat());
    let checkpoint = bench().path().join(out).join("search.safetensors");
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
        sleep(Duration::from_millis(2));
    }
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

/// Equal but for the machine and the log, which tells of the interruption.
#[track_caller]
fn ends_alike(run: &Path, whole: &Path) {
    let but = ["machine.json", "log.txt"];
    let (found, expected) = (contents(run, &but), contents(whole, &but));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{name} differs");
    }
}

#[test]
fn equal_searches_have_equal_bytes_on_any_number_of_threads() {
    let runs = [("one", "1"), ("same", "1"), ("two", "2")];
    let [one, same, two] =
        runs.map(|(out, threads)| contents(&whole(out, &["--threads", threads]), &["machine.json"]));
    for other in [same, two] {
        for ((name, expected), (_, found)) in one.iter().zip(&other) {
            assert!(expected == found, "{name} differs");
        }
        assert_eq!(one.len(), other.len());
    }
}

#[test]
fn another_seed_is_another_search() {
    let read = |run: PathBuf| std::fs::read(run.join("search.safetensors")).expect("a checkpoint");
    assert_ne!(read(whole("seed0", &[])), read(whole("seed1", &["--seed", "1"])));
}

#[test]
fn a_killed_search_ends_as_if_nothing_had_happened() {
    let expected = whole("unkilled", &[]);
    let mut child = start(&[&SEARCH[..], &["killed"]].concat());
    for millis in [40, 90, 160] {
        sleep(Duration::from_millis(millis));
        let _ = child.kill(); // SIGKILL, or too late, which is as good
        child.wait().expect("it ends");
        let begun = bench().path().join("killed/config.yaml").exists();
        child = if begun {
            start(&["search", "--resume", "killed", "--save-every", "0"])
        } else {
            start(&[&SEARCH[..], &["killed"]].concat())
        };
    }
    assert!(child.wait().expect("it ends").success());
    ends_alike(&bench().path().join("killed"), &expected);
}

#[test]
fn an_ended_run_that_is_resumed_keeps_every_byte() {
    let run = whole("ended", &[]);
    let expected = contents(&run, &["machine.json", "log.txt"]);
    strait(bench().path()).args(["search", "--resume", "ended"]).assert().success();
    assert!(contents(&run, &["machine.json", "log.txt"]) == expected);
}

/// A search that is under way may have written a line that its last checkpoint does not know.
#[test]
fn looking_at_a_run_changes_no_byte() {
    let run = whole("looked-at", &[]);
    let mut lines = OpenOptions::new().append(true).open(run.join("epochs.jsonl")).expect("it is there");
    lines.write_all(b"{\"epoch\": 6}\n").expect("it is writable");
    let expected = contents(&run, &[]);
    for args in
        [&["derive", "looked-at"][..], &["eval", "looked-at"], &["export", "looked-at", "--format", "svg"]]
    {
        strait(bench().path()).args(args).assert().success();
    }
    assert!(contents(&run, &[]) == expected);
}

#[test]
fn signals_save_and_end_with_130() {
    for name in ["INT", "TERM"] {
        let out = format!("signal-{name}");
        let mut child = start_endless(&out);
        signal(&child, name);
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{name}");
    }
}

#[test]
fn an_interrupted_search_says_how_to_go_on_and_does() {
    let expected = whole("uninterrupted", &[]);
    let args = [&SEARCH[..], &["interrupted"]].concat();
    let mut child = start(&args);
    let begun = Instant::now();
    while !bench().path().join("interrupted/search.safetensors").exists()
        && begun.elapsed() < Duration::from_secs(60)
    {
        sleep(Duration::from_millis(1));
    }
    signal(&child, "INT");
    let code = child.wait().expect("it ends").code();
    assert!(matches!(code, Some(130 | 0)), "{code:?}"); // 0: it was done before the signal came
    strait(bench().path()).args(["search", "--resume", "interrupted"]).assert().success();
    ends_alike(&bench().path().join("interrupted"), &expected);
}

#[test]
fn an_interrupted_training_goes_on_as_if_nothing_had_happened() {
    let train = ["train", "run", "--epochs", "12", "--save-every", "0", "--out"];
    strait(bench().path()).args(train).arg("trained-whole").assert().success();
    let mut child = start(&[&train[..], &["trained-in-two"]].concat());
    let begun = Instant::now();
    while !bench().path().join("trained-in-two/train.safetensors").exists() && begun.elapsed().as_secs() < 60
    {
        sleep(Duration::from_millis(1));
    }
    signal(&child, "TERM");
    assert!(matches!(child.wait().expect("it ends").code(), Some(130 | 0)));
    strait(bench().path()).args(["train", "--resume", "trained-in-two"]).assert().success();
    ends_alike(&bench().path().join("trained-in-two"), &bench().path().join("trained-whole"));
}

#[test]
fn two_processes_cannot_use_one_run() {
    let mut child = start_endless("busy");
    let resume = strait(bench().path()).args(["search", "--resume", "busy"]).assert();
    resume.code(2).stderr(contains("in use by another process"));
    let force = strait(bench().path()).args([&SEARCH[..], &["busy", "--force"]].concat()).assert();
    force.code(2).stderr(contains("in use by another process"));
    // Looking is allowed, and does not disturb.
    strait(bench().path()).args(["derive", "busy"]).assert().success();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
