//! Waiting for file descriptors that belong to others.

use std::os::fd::RawFd;

use pyo3::{exceptions::PyValueError, prelude::*};
use rgevent_runtime::{
    WaitError,
    hub::{Interest, WaitFdError},
    poll_now,
};

use crate::{hub, socket, wait};

/// Readable, as gevent and libev number it.
const READ: u32 = 1;
/// Writable.
const WRITE: u32 = 2;

fn interest(events: u32) -> PyResult<Interest> {
    if events == 0 || events & !(READ | WRITE) != 0 {
        return Err(PyValueError::new_err(format!(
            "events is {events}: expected 1 (read), 2 (write) or 3 (either)"
        )));
    }
    Ok(Interest {
        read: events & READ != 0,
        write: events & WRITE != 0,
    })
}

/// Which of `events` the fd is ready for, without waiting.
fn look(fd: RawFd, events: u32) -> PyResult<u32> {
    let interest = interest(events)?;
    let ready = poll_now(fd, interest.read, interest.write)
        .map_err(|error| socket::os_error(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(if ready.readable { READ } else { 0 } | if ready.writable { WRITE } else { 0 })
}

/// Parks until `fd` is ready for one of `events` (1 read, 2 write): the events it is ready for, 0
/// when `timeout` seconds passed first.
///
/// Raises OSError(EBADF) when the fd is closed meanwhile through us.
#[pyfunction]
#[pyo3(signature = (fd, events, timeout=None))]
pub(crate) fn wait_fd(
    py: Python<'_>,
    fd: RawFd,
    events: u32,
    timeout: Option<f64>,
) -> PyResult<u32> {
    let ready = wait_fds(py, vec![(fd, events)], timeout)?;
    Ok(ready.first().map_or(0, |&(_, events)| events))
}

/// Parks until one of several (fd, events) is ready: the list of those that are, empty when
/// `timeout` seconds passed first.
#[pyfunction]
#[pyo3(signature = (fds, timeout=None))]
pub(crate) fn wait_fds(
    py: Python<'_>,
    fds: Vec<(RawFd, u32)>,
    timeout: Option<f64>,
) -> PyResult<Vec<(RawFd, u32)>> {
    let hub = hub::current(py)?;
    let mut deadline = None;
    let mut begun = false;
    let wanted = fds
        .iter()
        .map(|&(fd, events)| Ok((fd, interest(events)?)))
        .collect::<PyResult<Vec<_>>>()?;
    loop {
        let mut ready = Vec::new();
        for &(fd, events) in &fds {
            let events = look(fd, events)?;
            if events != 0 {
                ready.push((fd, events));
            }
        }
        if !ready.is_empty() {
            return Ok(ready);
        }
        if !begun {
            begun = true;
            deadline = wait::deadline(hub, timeout)?;
        }
        if timeout.is_some_and(|seconds| seconds <= 0.0) {
            wait::outcome(py, hub.yield_now())?;
            return Ok(ready);
        }
        let result = hub.wait_fds(&wanted, deadline);
        if let Err(WaitFdError::Wait(WaitError::TimedOut)) = result {
            wait::outcome(py, Err(WaitError::TimedOut))?;
            return Ok(ready);
        }
        socket::finish_wait(py, result)?;
    }
}

/// Whoever waits for `fd` in this thread fails with OSError(EBADF).
#[pyfunction]
pub(crate) fn cancel_fd(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    hub::current(py)?.cancel_fd(fd);
    Ok(())
}
