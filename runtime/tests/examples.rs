//! The Rust examples run as written and say what they promise.

use std::process::Command;

/// What an example prints.
fn output(name: &str, arguments: &[&str]) -> String {
    let run = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--example", name, "--"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {}\n{errors}", run.status);
    String::from_utf8(run.stdout).expect("text")
}

#[test]
fn pingpong_takes_turns() {
    assert_eq!(output("pingpong", &[]), "foo1.1\nfoo2.1\nfoo1.2\n");
}

#[test]
fn sleep_sort_sorts() {
    let sorted = output("sleep_sort", &["90", "30", "150"]);
    assert_eq!(sorted, "30 90 150\n");
}

#[test]
fn echo_serves_every_client() {
    // "client N, round M" from 100 clients in 10 rounds.
    let bytes: usize = (0..100_usize)
        .map(|name| 10 * format!("client {name}, round 0").len())
        .sum();
    let expected = format!("100 clients got {bytes} bytes back\n");
    assert_eq!(output("echo", &[]), expected);
}
