//! The front door for Rust programs: spawn, join, sleep, switch.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use crate::{
    WaitError,
    coroutine::{Coroutine, Signal, State, Thread},
    hub::{Deadline, Hub},
    sync::WaitQueue,
};

/// What a panic was called with.
pub type Panic = Box<dyn Any + Send>;

/// State shared by a coroutine and its handles.
struct Shared<T> {
    coroutine: Cell<Option<Coroutine>>,
    result: RefCell<Option<Result<T, Panic>>>,
    done: Cell<bool>,
    joiners: WaitQueue,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(coroutine) = self.coroutine.take() {
            coroutine.release();
        }
    }
}

/// A spawned coroutine, seen from outside. Dropping it lets the coroutine run on.
pub struct JoinHandle<T> {
    shared: Rc<Shared<T>>,
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.shared.done.get())
            .finish_non_exhaustive()
    }
}

/// Makes a coroutine of the current thread; it runs when the caller next waits.
///
/// # Panics
/// When the operating system refuses what the thread's hub needs.
pub fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let hub = Hub::current();
    let shared = Rc::new(Shared {
        coroutine: Cell::new(None),
        result: RefCell::new(None),
        done: Cell::new(false),
        joiners: WaitQueue::new(),
    });
    let ours = Rc::clone(&shared);
    let coroutine = Coroutine::from_body(
        hub.thread(),
        Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(body));
            *ours.result.borrow_mut() = Some(result);
            ours.done.set(true);
            ours.joiners.wake_all();
            drop(ours);
            hub.after_end()
        }),
    );
    shared.coroutine.set(Some(coroutine));
    hub.schedule(coroutine);
    JoinHandle { shared }
}

impl<T> JoinHandle<T> {
    /// Whether the coroutine has come to its end.
    pub fn is_finished(&self) -> bool {
        self.shared.done.get()
    }

    /// Waits for the end and takes the result: what the body returned, or its panic.
    ///
    /// # Errors
    /// When the *caller's* wait fails; see [`Hub::park`].
    pub fn join(self) -> Result<Result<T, Panic>, WaitError> {
        self.wait(None)?;
        let result = self.shared.result.borrow_mut().take();
        Ok(result.expect("the result is there at the end, and taken once"))
    }

    /// Waits for the end until a deadline.
    ///
    /// # Errors
    /// As [`join`](Self::join), and `TimedOut`.
    pub fn wait(&self, deadline: Option<Deadline>) -> Result<(), WaitError> {
        let hub = Hub::current();
        while !self.is_finished() {
            self.shared.joiners.wait(hub, deadline, || ())?;
        }
        Ok(())
    }

    /// Makes the coroutine's current and all later waits fail with [`WaitError::Killed`], so that
    /// it comes to its end. It runs when the caller next waits. One that has not begun does begin.
    pub fn kill(&self) {
        if let Some(coroutine) = self.coroutine()
            && !self.is_finished()
        {
            Hub::current().kill(coroutine);
        }
    }

    /// The coroutine itself, to [`switch`] to.
    pub fn coroutine(&self) -> Option<Coroutine> {
        self.shared.coroutine.get()
    }
}

/// Switches to another coroutine, explicitly, and returns when something switches back.
///
/// A coroutine that has not begun begins. One that was parked sees [`WaitError::Interrupted`].
/// Switching to oneself returns at once.
///
/// # Errors
/// `NotFound` when it has come to its end, or what the operating system says when there is no
/// memory for its stack.
pub fn switch(target: Coroutine) -> io::Result<()> {
    let thread = Thread::current_or_new();
    if target == thread.current() {
        return Ok(());
    }
    match target.state() {
        State::Finished => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "cannot switch to a coroutine that has come to its end",
            ));
        }
        State::Unstarted => {
            Hub::current().unschedule(target);
            target.start()?;
        }
        State::Started => {}
    }
    crate::coroutine::switch(thread, target, Signal::Explicit);
    Ok(())
}

/// Parks the caller for a time.
///
/// # Errors
/// As [`Hub::park`], but never `TimedOut`.
pub fn sleep(time: Duration) -> Result<(), WaitError> {
    Hub::current().sleep(time)
}

/// Lets everything that is ready run first.
///
/// # Errors
/// As [`Hub::park`].
pub fn yield_now() -> Result<(), WaitError> {
    Hub::current().yield_now()
}

/// The running coroutine.
pub fn current() -> Coroutine {
    Thread::current_or_new().current()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ManualClock;
    use std::cell::RefCell;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn spawned_coroutines_take_turns() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let handles: Vec<_> = (0..3)
            .map(|who| {
                let log = Rc::clone(&log);
                spawn(move || {
                    for step in 0..3 {
                        log.borrow_mut().push((step, who));
                        yield_now().expect("nobody kills");
                    }
                })
            })
            .collect();
        for handle in handles {
            handle.join().expect("joined").expect("no panic");
        }
        let expected: Vec<_> = (0..3).flat_map(|s| (0..3).map(move |w| (s, w))).collect();
        assert_eq!(*log.borrow(), expected);
    }

    #[test]
    fn a_panic_reaches_the_joiner_and_nobody_else() {
        let bad = spawn(|| panic!("as planned"));
        let good = spawn(|| 1);
        let panic = bad.join().expect("joined").expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as planned"));
        assert_eq!(good.join().expect("joined").expect("no panic"), 1);
    }

    #[test]
    fn a_killed_sleeper_ends_at_once() {
        let hub = Hub::with_clock(ManualClock::new());
        let sleeper = spawn(|| sleep(ms(1000)));
        hub.run_until_idle();
        sleeper.kill();
        assert_eq!(
            sleeper.join().expect("joined").expect("no panic"),
            Err(WaitError::Killed)
        );
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_times() {
        let hub = Hub::with_clock(ManualClock::new());
        let log = Rc::new(RefCell::new(Vec::new()));
        for n in [30, 10, 20, 10] {
            let log = Rc::clone(&log);
            spawn(move || {
                sleep(ms(n)).expect("nobody kills");
                log.borrow_mut().push(n);
            });
        }
        hub.advance(ms(15));
        assert_eq!(*log.borrow(), [10, 10]);
        hub.advance(ms(20));
        assert_eq!(*log.borrow(), [10, 10, 20, 30]);
    }

    #[test]
    fn an_endless_wait_of_main_is_reported() {
        let waiting = WaitQueue::new();
        let hub = Hub::current();
        assert_eq!(waiting.wait(hub, None, || ()), Err(WaitError::LoopExit));
        assert_eq!(waiting.parked(), 0);
        assert_eq!(yield_now(), Ok(()));
    }

    #[test]
    fn explicit_switches_go_anywhere() {
        let main = current();
        let log = Rc::new(RefCell::new(Vec::new()));
        let (first, second) = (log.clone(), log.clone());
        let a = spawn(move || {
            first.borrow_mut().push("a1");
            switch(main).expect("main lives");
            first.borrow_mut().push("a2");
        });
        let b = spawn(move || {
            second.borrow_mut().push("b1");
            switch(main).expect("main lives");
            second.borrow_mut().push("b2");
        });
        let (a_co, b_co) = (a.coroutine().expect("alive"), b.coroutine().expect("alive"));
        switch(a_co).expect("a starts");
        switch(b_co).expect("b starts");
        switch(a_co).expect("a goes on");
        switch(b_co).expect("b goes on");
        assert_eq!(*log.borrow(), ["a1", "b1", "a2", "b2"]);
        assert!(a.is_finished() && b.is_finished());
        assert!(switch(a_co).is_err());
    }

    #[test]
    fn long_round_robin_chains_unwind() {
        let hub = Hub::current();
        let rounds = Rc::new(Cell::new(0));
        let all: Vec<_> = (0..500)
            .map(|_| {
                let rounds = Rc::clone(&rounds);
                spawn(move || {
                    for _ in 0..20 {
                        rounds.set(rounds.get() + 1);
                        yield_now().expect("nobody kills");
                    }
                })
            })
            .collect();
        for handle in all {
            handle.join().expect("joined").expect("no panic");
        }
        assert_eq!(rounds.get(), 10_000);
        assert!(hub.thread().stack_info().slots >= 500);
    }
}
