//! The file of a durable registry, and everything that can go wrong with it and around it.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use thread_budget_host::blocking::Registry;
use thread_budget_host::{
    Acknowledgement, COMPONENT, CallError, DATABASE_FORMAT, Durability, LoadError, LostCalls, Note,
    RegistryBuilder, Severity, StorageError, ThreadOptions, ThreadState, Threshold, UsageEntry,
};
use thread_budget_tests::disk::SmallDisk;

fn at(path: &Path) -> RegistryBuilder {
    RegistryBuilder::default().database(path).tokens_per_thread(1_000)
}

fn open(path: &Path) -> Registry {
    build(at(path))
}

fn build(builder: RegistryBuilder) -> Registry {
    builder.build().unwrap_or_else(|error| panic!("{error}")).blocking()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("budgets.redb");
    (folder, path)
}

fn total(registry: &Registry, thread_id: &str) -> Option<u64> {
    registry.get_usage(thread_id).expect("no trap").map(|usage| usage.total_tokens)
}

fn all_states(registry: &Registry) -> Vec<ThreadState> {
    let mut states: Vec<ThreadState> = Vec::new();
    loop {
        let page = registry.snapshot(states.last().map(|state| &*state.thread_id), 7).expect("no trap");
        if page.is_empty() {
            break;
        }
        states.extend(page);
    }
    states.sort_by(|a, b| a.thread_id.cmp(&b.thread_id));
    states
}

/// Something of every kind that a file keeps.
fn fill(registry: &Registry) {
    registry.set_thresholds(&[Threshold { percent: 50, severity: Severity::Final }]).expect("valid");
    registry.open_thread("root", &ThreadOptions { max_tokens: Some(5_000), parent: None }).expect("opened");
    let below = ThreadOptions { max_tokens: None, parent: Some("root".into()) };
    registry.open_thread("child", &below).expect("opened");
    registry.consume("child", 600, 0).expect("recorded");
    registry.settle("child", "request", 1, 1, true).expect("recorded");
    registry.get_budget("handle").and_then(|budget| budget.consume(700, 0)).expect("recorded");
    let told = Acknowledgement { threshold_percent: 50, max_tokens: 1_000 };
    registry.acknowledge_warnings("handle", &[told]).expect("acknowledged");
    registry.hold("settled", 5, 5, 5).and_then(|held| held.settle(3, 4)).expect("recorded");
    drop(registry.hold("dropped", 5, 5, 5).expect("held"));
    let mut lost = registry.hold_once("lost", "lost request", 5, 5, 5).expect("held");
    lost.sent();
    drop(lost);
    registry.consume("reset", 9, 9).expect("recorded");
    registry.reset_thread("reset").expect("reset");
    registry.consume("cleaned up", 9, 9).expect("recorded");
    registry.cleanup_thread("cleaned up").expect("cleaned up");
    registry.consume("limited", 700, 0).expect("recorded");
    registry.set_limit("limited", 2_000).expect("set");
    let entries: Vec<_> = (0..100)
        .map(|n| UsageEntry {
            thread_id: format!("batch-{}", n % 30),
            prompt_tokens: n,
            completion_tokens: 1,
        })
        .collect();
    let note = Note { key: "position".into(), value: vec![1, 2, 3] };
    registry.consume_batch_noting(&entries, |_| Some(note)).expect("recorded");
    registry.set_max_threads(37).expect("set");
}

#[test]
fn everything_survives_a_restart() {
    for checkpoint_after in [1, 1_000_000] {
        let (_folder, path) = folder();
        let registry = build(at(&path).checkpoint_after(checkpoint_after));
        fill(&registry);
        let before = all_states(&registry);
        drop(registry);

        let registry = build(RegistryBuilder::default().database(&path));
        assert_eq!(all_states(&registry), before);
        assert_eq!(before.len(), 37);
        assert_eq!(registry.held_tokens("child"), Ok(0));
        assert_eq!(registry.max_tokens_per_thread(), Ok(1_000));
        assert_eq!(registry.thresholds(), Ok(vec![Threshold { percent: 50, severity: Severity::Final }]));
        assert_eq!(registry.note("position"), Ok(Some(vec![1, 2, 3])));
        assert_eq!(registry.consume("one more", 1, 1), Err(CallError::TooManyThreads { limit: 37 }));
        assert!(registry.settle("child", "request", 1, 1, true).expect("recorded").repeated);
        assert_eq!(registry.pending_warnings("handle"), Ok(vec![]));
        assert_eq!(registry.pending_warnings("child").map(|warnings| warnings.len()), Ok(1));
    }
}

#[test]
fn a_limit_that_was_set_survives_a_restart() {
    for (durability, checkpoint_after) in [
        (Durability::Batched, 1_000_000),
        (Durability::Batched, 1),
        (Durability::Immediate, 1_000_000),
        (Durability::Immediate, 1),
    ] {
        let (_folder, path) = folder();
        let registry = build(at(&path).durability(durability).checkpoint_after(checkpoint_after));
        registry.consume("raised", 960, 0).expect("recorded");
        assert_eq!(registry.set_limit("raised", 1_200).expect("set").remaining, 240);
        registry.consume("lowered", 960, 0).expect("recorded");
        assert_eq!(registry.set_limit("lowered", 10).expect("set").remaining, 0);
        assert_eq!(registry.set_limit("created", u64::MAX).expect("set").max_tokens, u64::MAX);
        let before = all_states(&registry);
        drop(registry);

        let registry = open(&path);
        assert_eq!(all_states(&registry), before);
        let percents = |thread: &ThreadState| -> Vec<u32> {
            thread.triggered_thresholds.iter().map(|threshold| threshold.percent).collect()
        };
        assert_eq!(before.iter().map(percents).collect::<Vec<_>>(), [vec![], vec![75, 90, 95], vec![75]]);
        assert_eq!(registry.pending_warnings("raised").map(|warnings| warnings.len()), Ok(1));
        assert_eq!(registry.consume("raised", 120, 0).expect("recorded").crossed.len(), 1, "90 % again");
        registry.reset_thread("raised").expect("reset");
        assert_eq!(registry.get_usage("raised").expect("no trap").expect("it exists").max_tokens, 1_200);
    }
}

/// The numbers of calls, and the order of what they are made with, are the file's format.
#[test]
fn a_log_is_read_as_it_was_written() {
    let opened = |log: &[u8]| {
        let (folder, path) = folder();
        let database = redb::Database::create(&path).expect("made");
        let write = database.begin_write().expect("begun");
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let format = DATABASE_FORMAT.as_bytes();
        write.open_table(meta).expect("opened").insert("format", format).expect("inserted");
        write.open_table(redb::TableDefinition::<u64, &[u8]>::new("states")).expect("opened");
        let table = redb::TableDefinition::<u64, &[u8]>::new("log");
        write.open_table(table).expect("opened").insert(0, log).expect("inserted");
        write.commit().expect("committed");
        drop(database);
        (build(RegistryBuilder::default().database(&path)), folder)
    };
    // Without the first byte, which says that it is a log, and without the last call, which clears all.
    let log = include_bytes!("../fuzz/corpus/database/log-of-calls");
    let (registry, _folder) = opened(&log[1..log.len() - 1]);
    assert_eq!(registry.max_tokens_per_thread(), Ok(1_000));
    assert_eq!(total(&registry, "root"), Some(905));
    assert_eq!(total(&registry, "child"), Some(0), "it was reset");

    let (registry, _folder) = opened(&include_bytes!("../fuzz/corpus/database/log-limits")[1..]);
    let limits: Vec<_> = all_states(&registry).iter().map(|thread| thread.max_tokens).collect();
    assert_eq!(limits, [200, u64::MAX, 0]);
    assert_eq!(total(&registry, "a"), Some(96));
}

/// A checkpoint is made by a caller who is also the first of a batch that others are in.
#[test]
fn checkpoints_happen_among_many_callers() {
    let (_folder, path) = folder();
    let registry = build(at(&path).checkpoint_after(10).tokens_per_thread(u64::MAX));
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let registry = &registry;
            scope.spawn(move || {
                for _ in 0..50 {
                    registry.consume(&format!("thread-{caller}"), 1, 1).expect("recorded");
                }
            });
        }
    });
    assert!(registry.logged_calls() < 800, "some were made");
    drop(registry);
    let registry = open(&path);
    assert!((0..16).all(|caller| total(&registry, &format!("thread-{caller}")) == Some(100)));
}

#[test]
fn one_registry_at_a_time() {
    let (_folder, path) = folder();
    let registry = open(&path);
    let in_use = |result: Result<thread_budget_host::Registry, LoadError>| {
        assert!(matches!(result, Err(LoadError::Storage(StorageError::InUse { .. }))), "{result:?}");
    };
    in_use(at(&path).build());

    let other_process = Command::new(env!("CARGO_BIN_EXE_crash_worker"))
        .args([path.to_str().expect("a plain path"), "batched", "0"])
        .output()
        .expect("it starts");
    let stderr = String::from_utf8_lossy(&other_process.stderr);
    assert!(!other_process.status.success());
    assert!(stderr.contains("is in use by another registry"), "{stderr}");

    let handle = registry.get_budget("a").expect("created");
    drop(registry);
    in_use(at(&path).build());
    drop(handle);
    open(&path);
}

/// Nothing is overwritten, whatever is in the file's place.
#[test]
fn what_is_not_a_sound_file_is_left_alone() {
    let (_folder, path) = folder();
    fill(&open(&path));
    let sound = fs::read(&path).expect("a file");
    let mut foreign = Vec::new();
    for (what, content) in [
        ("nothing", Vec::new()),
        ("text", b"these are my notes, not a database".to_vec()),
        ("zeros", vec![0; 100_000]),
        ("a truncated file", sound[..sound.len() / 2].to_vec()),
        ("a file cut off in its header", sound[..100].to_vec()),
        ("another magic number", [b"redc", &sound[4..]].concat()),
    ] {
        fs::write(&path, &content).expect("written");
        match at(&path).build() {
            Err(LoadError::Storage(error)) => foreign.push((what, error)),
            other => panic!("{what}: {other:?}"),
        }
        assert!(fs::read(&path).expect("a file") == content, "{what} is as it was");
    }
    for (what, error) in foreign {
        assert!(matches!(error, StorageError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains(path.to_str().expect("a plain path")), "{what}: {error}");
    }
    assert!(matches!(
        at(path.parent().expect("its folder")).build(),
        Err(LoadError::Storage(StorageError::Io { .. }))
    ));
}

/// A flipped bit is found, or is where nothing is kept.
#[test]
fn a_flipped_bit_changes_no_number() {
    let (_folder, path) = folder();
    let registry = open(&path);
    fill(&registry);
    let states = all_states(&registry);
    drop(registry);
    let sound = fs::read(&path).expect("a file");
    let mut rng = fastrand::Rng::with_seed(1);
    let mut found = 0;
    for _ in 0..150 {
        let mut damaged = sound.clone();
        // Most of the file is free pages.
        let byte = loop {
            let byte = rng.usize(..damaged.len());
            if damaged[byte] != 0 {
                break byte;
            }
        };
        damaged[byte] ^= 1 << rng.u32(..8);
        fs::write(&path, &damaged).expect("written");
        match RegistryBuilder::default().database(&path).build() {
            Ok(registry) => assert_eq!(all_states(&registry.blocking()), states, "byte {byte}"),
            Err(LoadError::Storage(_)) => found += 1,
            Err(other) => panic!("byte {byte}: {other}"),
        }
    }
    assert!(found > 0, "some are found");
}

#[test]
fn a_file_of_another_format_says_so() {
    let (_folder, path) = folder();
    let database = redb::Database::create(&path).expect("made");
    let write = database.begin_write().expect("begun");
    let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
    write.open_table(table).expect("opened").insert("format", &b"something else"[..]).expect("inserted");
    write.commit().expect("committed");
    drop(database);
    let Err(LoadError::Storage(error)) = at(&path).build() else { panic!("it opened") };
    assert!(matches!(&error, StorageError::Format { found, .. } if found == "something else"), "{error}");
}

#[test]
fn one_instance_only() {
    let (_folder, path) = folder();
    let result = at(&path).instances(2).build();
    assert!(matches!(result, Err(LoadError::TooManyInstances { instances: 2 })), "{result:?}");
    assert!(!path.exists());
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    for durability in [Durability::Batched, Durability::Immediate] {
        let path = disk.path().join(format!("{durability:?}.redb"));
        let registry = build(at(&path).durability(durability).tokens_per_thread(u64::MAX));
        registry.consume("a", 1, 0).expect("recorded");
        let filler = disk.path().join("filler");
        assert!(fs::write(&filler, vec![1; 5 << 20]).is_err(), "the disk is full");

        let mut recorded = 1;
        let error = loop {
            match registry.consume_batch(&entries(recorded)) {
                Ok(_) => recorded += 1,
                Err(error) => break error.error,
            }
        };
        assert!(matches!(error, CallError::Storage(StorageError::Io { .. })), "{error:?}");
        assert!(error.to_string().contains("No space left"), "{error}");
        // While there is no room: what is there can be read, nothing is made up.
        match registry.get_usage("a") {
            Ok(usage) => assert_eq!(usage.map(|usage| usage.total_tokens), Some(recorded)),
            Err(error) => assert!(matches!(error, CallError::Storage(_)), "{error:?}"),
        }

        fs::remove_file(&filler).expect("removed");
        registry.consume("a", 1, 0).expect("there is room again");
        assert_eq!(total(&registry, "a"), Some(recorded + 1));
        drop(registry);
        assert_eq!(total(&open(&path), "a"), Some(recorded + 1));
        fs::remove_file(&path).expect("removed");
    }
}

/// One token for thread `a`, and some space on the disk.
fn entries(n: u64) -> Vec<UsageEntry> {
    let entry =
        |thread_id: String, prompt_tokens| UsageEntry { thread_id, prompt_tokens, completion_tokens: 0 };
    let space = (0..100).map(|m| entry(format!("{n}-{m}-{:0900}", 0), 1));
    [entry("a".into(), 1)].into_iter().chain(space).collect()
}

#[test]
fn a_read_only_file_is_an_error() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("budgets.redb");
    fill(&open(&path));
    let before = fs::read(&path).expect("a file");
    assert!(disk.remount_read_only());
    let result = at(&path).build();
    assert!(matches!(result, Err(LoadError::Storage(StorageError::Io { .. }))), "{result:?}");
    assert!(fs::read(&path).expect("a file") == before);
}

/// The component, but for `reset-thread`, which traps for ids of 13 bytes.
fn trapping_component() -> Vec<u8> {
    let text = wasmprinter::print_bytes(COMPONENT).expect("it prints");
    let export = r##"(export "thread-budget:registry/registry@0.2.0#reset-thread" (func "##;
    let (_, rest) = text.split_once(export).expect("it is exported");
    let (number, _) = rest.split_once(')').expect("a function");
    let (before, body) = text.split_once(&format!("(func (;{number};) ")).expect("a function");
    let (header, body) = body.split_once('\n').expect("a body");
    let (locals, body) = match body.split_once('\n') {
        Some((locals, body)) if locals.trim_start().starts_with("(local") => (locals, body),
        _ => ("", body),
    };
    let trap = "local.get 1 i32.const 13 i32.eq if unreachable end";
    let patched = format!("{before}(func (;{number};) {header}\n{locals}\n{trap}\n{body}");
    wat::parse_str(patched).expect("it assembles")
}

#[test]
fn after_a_trap_the_instance_is_rebuilt() {
    for durability in [Durability::Batched, Durability::Immediate] {
        let (_folder, path) = folder();
        let lost_calls = LostCalls::All;
        let builder = at(&path).durability(durability).lost_calls(lost_calls);
        let registry = build(builder.component_bytes(trapping_component()));
        fill(&registry);
        let handle = registry.get_budget("child").expect("it exists");
        let hold = registry.hold("child", 100, 0, 0).expect("it fits");
        let dropped = registry.hold("child", 50, 0, 0).expect("it fits");
        let before = all_states(&registry);

        let trapped = registry.reset_thread("thirteen byte");
        assert!(matches!(trapped, Err(CallError::Trap { .. })), "{trapped:?}");

        assert_eq!(all_states(&registry), before, "as if nothing had happened");
        assert_eq!(registry.held_tokens("child"), Ok(150), "holds too");
        assert_eq!(handle.consume(1, 1), Err(CallError::StaleHandle));
        drop((handle, dropped));
        assert_eq!(registry.held_tokens("child"), Ok(100));
        let child = total(&registry, "child").expect("it exists");
        hold.settle(20, 1).expect("settled");
        assert_eq!(total(&registry, "child"), Some(child + 21));
        let at_the_end = all_states(&registry);
        drop(registry);
        assert_eq!(all_states(&open(&path)), at_the_end);
    }
}

#[test]
fn after_a_deadline_the_instance_is_rebuilt() {
    let (_folder, path) = folder();
    let registry = build(at(&path).no_deadline());
    for batch in 0..75 {
        let entries: Vec<_> = (0..4_000)
            .map(|n| UsageEntry { thread_id: format!("{batch}-{n}"), prompt_tokens: 2, completion_tokens: 1 })
            .collect();
        registry.consume_batch(&entries).expect("recorded");
    }
    drop(registry);
    let deadline = Duration::from_millis(50);
    let registry = build(at(&path).deadline(deadline));
    let stopped = CallError::Deadline { deadline };
    assert_eq!(registry.get_all_usage().err(), Some(stopped.clone()), "listing that many takes longer");
    // On a busy machine a short call may be stopped too, and is not recorded then.
    let consumed =
        iter::repeat_with(|| registry.consume("0-0", 1, 0)).find(|result| *result != Err(stopped.clone()));
    assert_eq!(consumed.expect("one of them").expect("recorded").usage.total_tokens, 4);
    assert_eq!(total(&registry, "74-3999"), Some(3));
}

/// An instance that is full can be brought back under the same cap.
#[test]
fn a_full_instance_is_restored() {
    for id_bytes in [8, 300] {
        let (_folder, path) = folder();
        let id = |n: usize| format!("{n:0id_bytes$}");
        let builder = || at(&path).max_memory_bytes(3 << 20).checkpoint_after(2_000);
        let registry = build(builder());
        let mut threads = 0;
        let error = loop {
            let next: Vec<_> = (threads..threads + 50)
                .map(|n| UsageEntry { thread_id: id(n), prompt_tokens: 900, completion_tokens: 0 })
                .collect();
            match registry.consume_batch(&next) {
                Ok(_) => threads += 50,
                Err(error) => break error.error,
            }
        };
        assert_eq!(error, CallError::OutOfMemory);
        assert!(threads > 1_000, "{threads} threads fit");
        drop(registry);
        let registry = build(builder());
        assert_eq!(all_states(&registry).len(), threads);
        assert!(registry.consume(&id(0), 1, 1).is_ok(), "threads that exist go on");
    }
}

/// Callers that are under way when a write fails are told, and nobody hangs.
#[test]
fn callers_of_a_failed_write_are_told() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.path().join("budgets.redb");
    let registry = build(at(&path).tokens_per_thread(u64::MAX));
    let filler = disk.path().join("filler");
    assert!(fs::write(&filler, vec![1; 5 << 20]).is_err(), "the disk is full");
    let recorded: Vec<u64> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let registry = &registry;
                scope.spawn(move || {
                    let thread_id = format!("{caller}-{:0900}", 0);
                    let recorded = (0..2_000).filter(|_| match registry.consume(&thread_id, 1, 0) {
                        Ok(_) => true,
                        Err(CallError::Storage(_)) => false,
                        Err(error) => panic!("{error}"),
                    });
                    recorded.count() as u64
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("told")).collect()
    });
    assert!(recorded.iter().sum::<u64>() < 32_000, "some could not be written");
    fs::remove_file(&filler).expect("removed");
    drop(registry);
    let registry = open(&path);
    for (caller, recorded) in recorded.into_iter().enumerate() {
        let there = total(&registry, &format!("{caller}-{:0900}", 0)).unwrap_or(0);
        // Whether a call that failed is in the file is unknown to its caller, and nothing else is.
        assert!(there >= recorded, "caller {caller}: {there} of {recorded} are there");
    }
}
