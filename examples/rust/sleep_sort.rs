//! Sorts numbers by sleeping: one coroutine per number, woken in the order of their times.
//!
//! `cargo run --example sleep_sort -- 30 10 20` prints `10 20 30`.

use std::{rc::Rc, time::Duration};

use rgevent_runtime::{WaitError, hub::Hub, sleep, spawn, sync::Queue};

fn main() -> Result<(), WaitError> {
    let mut numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("the arguments are numbers"))
        .collect();
    if numbers.is_empty() {
        numbers = vec![30, 10, 50, 20, 40];
    }
    let sorted = Rc::new(Queue::unbounded());
    for &number in &numbers {
        let sorted = Rc::clone(&sorted);
        spawn(move || {
            if sleep(Duration::from_millis(number)).is_ok() {
                let _ = sorted.try_put(number);
            }
        });
    }
    let mut words = Vec::new();
    for _ in &numbers {
        words.push(sorted.get(Hub::current(), None)?.to_string());
    }
    println!("{}", words.join(" "));
    Ok(())
}
