//! A process that uses a durable registry is killed at random points, again and again. What it was told
//! is recorded must be there afterwards, exactly once; a call that was under way is there or is not.

use fastrand::Rng;
use std::array;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use thread_budget_host::RegistryBuilder;
use thread_budget_tests::crash::{CALLERS, Survivor, found};

#[test]
fn killed_20_times() {
    kill_again_and_again(20, 1);
}

#[test]
#[ignore = "the soak: some minutes"]
fn soak() {
    for seed in 2..7 {
        kill_again_and_again(200, seed);
    }
}

fn kill_again_and_again(times: u32, seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("budgets.redb");
    let mut rng = Rng::with_seed(seed);
    let mut survivors: [_; CALLERS] = array::from_fn(Survivor::new);
    let mut under_way_and_there = 0;
    for _ in 0..times {
        let durability = if rng.u32(..4) == 0 { "immediate" } else { "batched" };
        let begun = run_and_kill(&database, durability, &mut survivors, &mut rng);

        let registry = RegistryBuilder::default().database(&database).build().expect("the file is sound");
        let registry = registry.blocking();
        for ((survivor, found), begun) in survivors.iter_mut().zip(found(&registry)).zip(begun) {
            let done = survivor.steps();
            let killed = survivor.killed_after(0);
            if found == killed.state() {
                *survivor = killed;
                continue;
            }
            assert!(begun, "{done} steps were done, {found:#?} is there");
            *survivor = survivor.killed_after(1);
            assert_eq!(found, survivor.state(), "neither {done} steps nor one more");
            under_way_and_there += 1;
        }
    }
    let steps = survivors.each_ref().map(Survivor::steps);
    println!("killed {times} times after {steps:?} steps; {under_way_and_there} under way were there");
    assert!(steps.iter().all(|steps| *steps > u64::from(times)), "work was done");
}

/// Let it work for a moment. Then the survivors have done what was acknowledged, and the result says
/// which callers had begun one more.
fn run_and_kill(
    database: &Path,
    durability: &str,
    survivors: &mut [Survivor; CALLERS],
    rng: &mut Rng,
) -> [bool; CALLERS] {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_crash_worker"))
        .arg(database)
        .arg(durability)
        .args(survivors.each_ref().map(|survivor| survivor.steps().to_string()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(worker.stdout.take().expect("it is piped"));
    let mut text = String::new();
    // Now and then it is killed while it opens the file.
    if rng.u32(..8) > 0 {
        output.read_line(&mut text).expect("it says something");
    }
    let reader = thread::spawn(move || output.read_to_string(&mut text).map(|_| text).expect("it is text"));
    thread::sleep(Duration::from_micros(rng.u64(..60_000)));
    worker.kill().expect("it can be killed");
    worker.wait().expect("it ends");
    let text = reader.join().expect("it was read");

    let mut begun = [false; CALLERS];
    // What was cut off in the middle was not said.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [caller, index, what, handed_out @ ..] = &*words else { panic!("{line}") };
        let caller: usize = caller.parse().expect("a caller");
        assert_eq!(index.parse(), Ok(survivors[caller].steps()), "{line}");
        begun[caller] = *what == "begins";
        if *what == "done" {
            assert_eq!(handed_out.join(","), survivors[caller].go_on().join(","), "{line}");
        }
    }
    begun
}
