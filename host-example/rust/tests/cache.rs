//! The cache of compiled components: used when it can be, private, and never in the way.

use std::fs;
use std::path::{Path, PathBuf};
use thread_budget_host::{Cache, Registry, blocking};

fn build(folder: &Path) -> blocking::Registry {
    let registry = Registry::builder().cache(Cache::Folder(folder.to_owned())).build().expect("it loads");
    let registry = registry.blocking();
    registry.consume("a", 1, 2).expect("it works");
    registry
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn one_file_is_written_once_and_then_used() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("new/cache");
    build(&folder);
    let [file] = files(&folder).try_into().expect("one file");
    let written = fs::metadata(&file).expect("it is there").modified().expect("a time");
    build(&folder);
    assert_eq!(files(&folder), std::slice::from_ref(&file), "no other file, temporary ones included");
    assert_eq!(
        fs::metadata(&file).expect("it is there").modified().expect("a time"),
        written,
        "not written again"
    );
}

#[test]
fn other_settings_are_another_file() {
    let temporary = tempfile::tempdir().expect("a folder");
    build(temporary.path());
    let cache = Cache::Folder(temporary.path().to_owned());
    Registry::builder().cache(cache).no_deadline().build().expect("it loads");
    assert_eq!(files(temporary.path()).len(), 2);
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_and_write_it() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("cache");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
    build(&folder);
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&files(&folder)[0]), 0o600);
}

#[test]
fn a_damaged_file_is_replaced() {
    let temporary = tempfile::tempdir().expect("a folder");
    build(temporary.path());
    let file = files(temporary.path()).remove(0);
    let good = fs::read(&file).expect("readable");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [&b""[..], b"not code", &good[..good.len() - 1], &good[..31], &flipped] {
        fs::write(&file, damaged).expect("writable");
        build(temporary.path());
        assert!(fs::read(&file).expect("readable") == good, "written anew");
    }
}

/// Somebody else may have put it there before the folder was private.
#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_to_is_not_run() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let temporary = tempfile::tempdir().expect("a folder");
    build(temporary.path());
    let file = files(temporary.path()).remove(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("ours");
    let before = fs::metadata(&file).expect("it is there");
    build(temporary.path());
    let after = fs::metadata(&file).expect("it is there");
    assert_ne!(after.ino(), before.ino(), "another file is in its place");
    assert_eq!(after.permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unusable_folder_is_no_obstacle() {
    let temporary = tempfile::tempdir().expect("a folder");
    let file = temporary.path().join("a-file");
    fs::write(&file, "in the way").expect("writable");
    build(&file);
    build(&file.join("below-a-file"));
    assert_eq!(fs::read_to_string(&file).expect("readable"), "in the way");
}
