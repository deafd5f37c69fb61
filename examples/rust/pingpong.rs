//! Two coroutines that switch to each other, explicitly: no hub, no waiting.
//!
//! `cargo run --example pingpong` prints `foo1.1`, `foo2.1`, `foo1.2`.

use std::{cell::Cell, rc::Rc};

use rgevent_runtime::{coroutine::Coroutine, spawn, switch};

fn main() -> std::io::Result<()> {
    let other: Rc<Cell<Option<Coroutine>>> = Rc::default();
    let foo1 = spawn({
        let other = Rc::clone(&other);
        move || {
            println!("foo1.1");
            switch(other.get().expect("main has set it"))?;
            println!("foo1.2");
            std::io::Result::Ok(())
        }
    });
    let first = foo1.coroutine().expect("it has not ended");
    let foo2 = spawn(move || {
        println!("foo2.1");
        switch(first)?;
        println!("never printed: nobody switches back");
        std::io::Result::Ok(())
    });
    other.set(foo2.coroutine());
    switch(first)
}
