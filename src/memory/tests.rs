use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

/// A directory like `/sys/fs/cgroup`.
fn fake(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (name, text) in files {
        write(root.path(), name, text);
    }
    root
}

fn write(root: &Path, name: &str, text: &str) {
    let file = root.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("{text}\n")).unwrap();
}

fn version_2(limit: &str, used: &str) -> TempDir {
    fake(&[
        ("memory.max", limit),
        ("memory.current", used),
        ("memory.stat", "anon 5\ninactive_file 1048576\nactive_file 9"),
    ])
}

fn version_1(limit: &str, used: &str) -> TempDir {
    fake(&[
        ("memory/memory.limit_in_bytes", limit),
        ("memory/memory.usage_in_bytes", used),
        ("memory/memory.stat", "inactive_file 7\ntotal_inactive_file 2097152"),
    ])
}

fn usage(root: &TempDir) -> Option<Usage> {
    Cgroup::find(root.path())?.measure().unwrap()
}

#[test]
fn both_versions_are_read_without_what_the_kernel_gives_back() {
    let limit = (64 * MIB).to_string();
    let used = (10 * MIB).to_string();
    let found = usage(&version_2(&limit, &used));
    assert_eq!(found, Some(Usage { used: 9 * MIB, limit: 64 * MIB }));
    let found = usage(&version_1(&limit, &used));
    assert_eq!(found, Some(Usage { used: 8 * MIB, limit: 64 * MIB }));
}

#[test]
fn without_a_limit_there_is_nothing_to_measure() {
    assert_eq!(usage(&version_2("max", "5")), None);
    assert_eq!(usage(&version_1("9223372036854771712", "5")), None);
    assert_eq!(usage(&fake(&[])), None);
    // A machine's own root has usage but no limit.
    assert_eq!(usage(&fake(&[("memory.current", "5"), ("memory.stat", "anon 5")])), None);
}

#[test]
fn a_file_that_is_no_number_is_named() {
    let root = version_2("100", "5");
    let cgroup = Cgroup::find(root.path()).unwrap();
    write(root.path(), "memory.current", "lots");
    let problem = cgroup.measure().unwrap_err().to_string();
    assert!(problem.ends_with("memory.current: expected a number of bytes: \"lots\""), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn pressure_follows_the_files_within_a_second() {
    let root = version_2(&(100 * MIB).to_string(), "0");
    let (pressure, clock) = (Pressure::none(), Clock::start());
    let cgroup = Cgroup::find(root.path()).unwrap();
    let watching = tokio::spawn(watch(cgroup, pressure.clone(), clock));
    let uses = |mib: u64| write(root.path(), "memory.current", &((mib + 1) * MIB).to_string());

    measured().await;
    assert_eq!((pressure.level(), pressure.scarce_since()), (Level::Ample, None));
    uses(91);
    let before = clock.now();
    measured().await;
    assert_eq!(pressure.level(), Level::Scarce);
    let since = pressure.scarce_since().unwrap();
    assert!(before < since && since < clock.now(), "{before:?}, {since:?}");

    uses(96);
    measured().await;
    assert_eq!(pressure.level(), Level::Critical);
    assert_eq!(pressure.scarce_since(), Some(since), "it has been scarce ever since");
    let waiting = tokio::spawn({
        let pressure = pressure.clone();
        async move { pressure.relief().await }
    });
    measured().await;
    assert!(!waiting.is_finished());

    uses(50);
    waiting.await.unwrap();
    assert_eq!((pressure.level(), pressure.scarce_since()), (Level::Ample, None));

    uses(99);
    measured().await;
    assert_eq!(pressure.level(), Level::Critical);
    fs::remove_file(root.path().join("memory.current")).unwrap();
    watching.await.unwrap();
    assert_eq!(pressure.level(), Level::Ample, "nobody pauses for ever on a reading that is old");
}

/// Lets the time for a measurement pass.
async fn measured() {
    tokio::time::sleep(PAUSE + Duration::from_millis(1)).await;
}
