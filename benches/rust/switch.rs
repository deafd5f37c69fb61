//! What a switch costs, and the life of a coroutine.
//!
//! `cargo bench -p rgevent-runtime --bench switch`

use std::{cell::Cell, rc::Rc};

use divan::{Bencher, counter::ItemsCount};
use rgevent_runtime::{coroutine::Coroutine, spawn, switch, yield_now};

fn main() {
    divan::main();
}

/// There and back, explicitly: two switches.
#[divan::bench]
fn explicit_round_trip(bencher: Bencher<'_, '_>) {
    let main = rgevent_runtime::current();
    let stop = Rc::new(Cell::new(false));
    let partner = spawn({
        let stop = Rc::clone(&stop);
        move || {
            while !stop.get() {
                switch(main).expect("main lives");
            }
        }
    });
    let target: Coroutine = partner.coroutine().expect("it has not ended");
    bencher
        .counter(ItemsCount::new(2_u32))
        .bench_local(|| switch(target).expect("it lives"));
    stop.set(true);
    switch(target).expect("it lives");
}

/// One turn of each of so many coroutines that yield to each other through the run queue.
#[divan::bench(args = [2, 100, 10_000])]
fn yield_among(bencher: Bencher<'_, '_>, coroutines: usize) {
    let stop = Rc::new(Cell::new(false));
    let others: Vec<_> = (1..coroutines)
        .map(|_| {
            let stop = Rc::clone(&stop);
            spawn(move || {
                while !stop.get() {
                    yield_now().expect("nobody kills");
                }
            })
        })
        .collect();
    bencher
        .counter(ItemsCount::new(coroutines))
        .bench_local(|| yield_now().expect("nobody kills"));
    stop.set(true);
    for other in others {
        other.join().expect("joined").expect("no panic");
    }
}

/// Spawned, run to its end and joined, so many at a time.
#[divan::bench(args = [1, 1000, 20_000])]
fn spawn_and_join(bencher: Bencher<'_, '_>, batch: usize) {
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let handles: Vec<_> = (0..batch).map(|n| spawn(move || n)).collect();
        for handle in handles {
            divan::black_box(handle.join().expect("joined").expect("no panic"));
        }
    });
}
