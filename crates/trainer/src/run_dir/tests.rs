use super::*;

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn begun(path: &Path) -> Result<RunDir, Error> {
    let run = RunDir::create(path, Overwrite::Refuse)?;
    run.write_search(&SearchConfig::default(), "name: toy\n")?;
    Ok(run)
}

#[track_caller]
fn refuses(result: Result<RunDir, Error>, expected: &str) {
    let error = result.expect_err("a faulty directory was accepted");
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(error.is_misuse());
}

#[test]
fn what_is_written_is_read_back() -> Result<(), Error> {
    let directory = temporary();
    let path = directory.path().join("a/new/one");
    drop(begun(&path)?);
    let run = RunDir::view(&path)?;
    assert_eq!(run.search_config()?, SearchConfig::default());
    assert_eq!(run.space_yaml()?, "name: toy\n");
    Ok(())
}

#[test]
fn two_processes_cannot_hold_one_run() -> Result<(), Error> {
    let directory = temporary();
    let first = begun(directory.path())?;
    refuses(
        RunDir::open(directory.path()),
        ": in use by another process; wait for it, or choose another directory",
    );
    refuses(
        RunDir::create(directory.path(), Overwrite::Force),
        ": in use by another process; wait for it, or choose another directory",
    );
    assert_eq!(RunDir::view(directory.path())?.space_yaml()?, "name: toy\n");
    drop(first);
    RunDir::open(directory.path()).map(drop)
}

#[test]
fn a_run_is_replaced_only_by_force_and_a_stranger_never() -> Result<(), Error> {
    let directory = temporary();
    drop(begun(directory.path())?);
    refuses(
        RunDir::create(directory.path(), Overwrite::Refuse),
        ": not empty; choose another directory, resume it, or force",
    );
    fs::write(directory.path().join("thesis.tex"), "dear to somebody").expect("writable");
    drop(RunDir::create(directory.path(), Overwrite::Force)?);
    assert_eq!(names(directory.path())?.len(), 2, "lock and thesis stay, the run goes");

    let stranger = temporary();
    fs::write(stranger.path().join("thesis.tex"), "dear to somebody").expect("writable");
    refuses(
        RunDir::create(stranger.path(), Overwrite::Force),
        ": holds files that are no run's; choose another directory",
    );
    Ok(())
}

#[test]
fn a_run_that_died_before_it_began_is_in_nobodys_way() -> Result<(), Error> {
    for cut in [Cut::Writing(3), Cut::BeforeSync, Cut::BeforeRename] {
        let directory = temporary();
        let run = RunDir::create(directory.path(), Overwrite::Refuse)?.cut(cut);
        run.write_search(&SearchConfig::default(), "name: toy\n").expect_err("it was cut off");
        drop(run);
        refuses(
            RunDir::open(directory.path()),
            ": no run here; expected a directory with config.yaml or train.yaml",
        );
        drop(begun(directory.path())?);
        assert_eq!(names(directory.path())?.len(), 4, "config, lock, seed and space");
    }
    Ok(())
}

#[test]
fn torn_files_are_named() -> Result<(), Error> {
    let directory = temporary();
    let run = begun(directory.path())?;
    for (name, content) in
        [("config.yaml", "epochs: {"), ("config.yaml", "epochs: x"), ("genotype.yaml", "version: 9")]
    {
        fs::write(directory.path().join(name), content).expect("writable");
        let error = match name {
            "config.yaml" => run.search_config().map(drop),
            _ => run.genotype().map(drop),
        };
        let error = error.expect_err("a torn file was accepted").to_string();
        assert!(error.contains(&directory.path().join(name).display().to_string()), "{error}");
    }
    Ok(())
}
