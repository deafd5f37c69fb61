//! Memory faults: who is told of them, and on which stack.

use std::{io, mem, ptr, sync::OnceLock};

use super::{Reservation, check};

/// Size of an alternate signal stack: room for us and for whoever is called after us.
const SIGNAL_STACK_BYTES: usize = 64 * 1024;

/// What is told of a fault at an address. Runs in a signal handler, on the alternate stack.
type Observer = fn(usize);

struct Chain {
    observer: Observer,
    /// What handled faults before.
    before: libc::sigaction,
}

/// Set before the handler is installed, and never again.
static CHAIN: OnceLock<Chain> = OnceLock::new();

/// Has `observer` called with the address of every memory fault of the process, before whatever
/// handled faults so far, which then goes on as ever. Only the first observer counts.
pub(crate) fn observe_faults(observer: Observer) -> io::Result<()> {
    let mut before = mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; the pointer is to a struct of our own.
    check(unsafe { libc::sigaction(libc::SIGSEGV, ptr::null(), before.as_mut_ptr()) })?;
    // SAFETY: the call above filled it in.
    let before = unsafe { before.assume_init() };
    if CHAIN.set(Chain { observer, before }).is_err() {
        return Ok(());
    }
    // SAFETY: all zeros are a valid sigaction.
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_sigaction = handle as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: a handler of the right type, which does what one may do in a handler.
    check(unsafe { libc::sigaction(libc::SIGSEGV, &ours, ptr::null_mut()) }).map(drop)
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(chain) = CHAIN.get() else {
        return;
    };
    // SAFETY: the kernel gives a valid structure, which nobody else has.
    let info_of_fault = unsafe { &*info };
    // SAFETY: it is of a fault, so the address is there.
    let address = unsafe { info_of_fault.si_addr() } as usize;
    (chain.observer)(address);
    let before = &chain.before;
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The instruction is run again, and then does what it would have done without us.
            // SAFETY: what was installed before.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: somebody installed it as a function of this type.
            let handler: Handler = unsafe { mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: as above.
            let handler: extern "C" fn(libc::c_int) = unsafe { mem::transmute(handler) };
            handler(signal);
        }
    }
}

/// Writes to standard error. Async-signal-safe; errors are ignored.
pub(crate) fn write_error(text: &[u8]) {
    // SAFETY: a buffer of ours of this length.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

/// Memory for a signal stack of one thread at a time.
#[derive(Debug)]
pub(crate) struct SignalStack(Reservation);

impl SignalStack {
    pub(crate) fn new() -> io::Result<Self> {
        Reservation::new(SIGNAL_STACK_BYTES).map(Self)
    }

    /// Lets the calling thread handle signals on it, unless the thread has such a stack already.
    ///
    /// # Safety
    /// No other thread uses it, and it lives until [`remove`](Self::remove) or the thread's end.
    pub(crate) unsafe fn install(&self) {
        if current().ss_flags & libc::SS_DISABLE == 0 {
            return;
        }
        let stack = libc::stack_t {
            ss_sp: self.0.start() as *mut libc::c_void,
            ss_flags: 0,
            ss_size: SIGNAL_STACK_BYTES,
        };
        // SAFETY: memory of our own, which lives long enough by the caller's promise. Failure
        // means that a stack overflow goes unreported.
        unsafe { libc::sigaltstack(&stack, ptr::null_mut()) };
    }

    /// Takes it away from the calling thread, if it is this one.
    pub(crate) fn remove(&self) {
        if current().ss_sp as usize != self.0.start() {
            return;
        }
        // SAFETY: all zeros are a valid stack_t.
        let mut none: libc::stack_t = unsafe { mem::zeroed() };
        none.ss_flags = libc::SS_DISABLE;
        // SAFETY: takes the alternate stack away; we are not on it.
        unsafe { libc::sigaltstack(&none, ptr::null_mut()) };
    }
}

/// The calling thread's alternate stack.
fn current() -> libc::stack_t {
    // SAFETY: all zeros are a valid stack_t.
    let mut found: libc::stack_t = unsafe { mem::zeroed() };
    // SAFETY: asks only; a struct of our own.
    unsafe { libc::sigaltstack(ptr::null(), &mut found) };
    found
}
