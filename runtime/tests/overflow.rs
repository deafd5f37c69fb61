//! Stack overflows end the process, and say which coroutine it was.

use std::{
    env,
    hint::black_box,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use rgevent_runtime::spawn;

const CHILD: &str = "RGEVENT_TEST_CHILD";

/// Runs the test that calls this again, in a process of its own; None in that process.
fn in_a_child(test: &str) -> Option<Output> {
    if env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = Command::new(env::current_exe().expect("a path"));
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    Some(command.output().expect("a child process"))
}

fn recurse(depth: usize) -> usize {
    let frame = [depth; 100];
    black_box(&frame);
    if depth == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + frame[depth % 100]
}

#[test]
fn an_overflow_is_reported() {
    let Some(output) = in_a_child("an_overflow_is_reported") else {
        let handle = spawn(|| recurse(0));
        let _ = handle.join();
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("stack overflow in a coroutine: all of its"),
        "{text}"
    );
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{text}");
}

#[test]
fn an_overflow_in_another_thread_is_reported() {
    let Some(output) = in_a_child("an_overflow_in_another_thread_is_reported") else {
        let thread = std::thread::spawn(|| {
            let _ = spawn(|| recurse(0)).join();
        });
        thread.join().expect("it does not come to this");
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("stack overflow in a coroutine: all of its"),
        "{text}"
    );
}

#[test]
fn another_fault_is_not_taken_for_one() {
    let Some(output) = in_a_child("another_fault_is_not_taken_for_one") else {
        let handle = spawn(|| {
            // SAFETY: none; this is to fault.
            unsafe { black_box(16 as *mut u8).write_volatile(1) };
        });
        let _ = handle.join();
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("stack overflow"), "{text}");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{text}");
}
