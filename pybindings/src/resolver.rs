//! getaddrinfo on a native thread.
//!
//! The thread never takes the GIL: it works on plain data, which becomes objects in the greenlet
//! that asked.

use std::{
    ffi::{CStr, CString, c_int},
    io, mem,
    net::{Ipv4Addr, Ipv6Addr},
    ptr,
};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use rgevent_runtime::blocking;

use crate::{hub, socket, threadpool};

/// What is looked up. A host or service of None is left to the system.
struct Query {
    host: Option<CString>,
    service: Option<CString>,
    family: c_int,
    kind: c_int,
    proto: c_int,
    flags: c_int,
}

/// One answer.
struct Found {
    family: c_int,
    kind: c_int,
    proto: c_int,
    canonical_name: String,
    address: Address,
}

enum Address {
    V4(Ipv4Addr, u16),
    V6(Ipv6Addr, u16, u32, u32),
    /// Of a family that Python has no form for either: the address as the system gives it.
    Other(Vec<u8>),
}

/// Why there is no answer.
enum Failure {
    /// An `EAI_*` code.
    Lookup(c_int),
    System(c_int),
}

/// (family, type, proto, canonical name, address).
type Entry<'py> = (c_int, c_int, c_int, String, Bound<'py, PyAny>);

/// Looks up a host and a service, as `_socket.getaddrinfo` does, on a native thread: a list of
/// (family, type, proto, canonical name, address), with plain numbers.
///
/// Raises socket.gaierror, or OSError when the system has failed.
#[pyfunction]
pub(crate) fn getaddrinfo<'py>(
    py: Python<'py>,
    host: Option<&[u8]>,
    port: Option<&[u8]>,
    family: c_int,
    kind: c_int,
    proto: c_int,
    flags: c_int,
) -> PyResult<Vec<Entry<'py>>> {
    let hub = hub::current(py)?;
    let query = Query {
        host: host.map(|host| text(host, "host name")).transpose()?,
        service: port.map(|port| text(port, "service name")).transpose()?,
        family,
        kind,
        proto,
        flags,
    };
    let answer = threadpool::finish(py, blocking::run(hub, move || look_up(&query)))?;
    let found = answer.map_err(|failure| error(py, &failure))?;
    found
        .into_iter()
        .map(|one| {
            let address = one.address.into_python(py)?;
            Ok((one.family, one.kind, one.proto, one.canonical_name, address))
        })
        .collect()
}

fn text(bytes: &[u8], what: &str) -> PyResult<CString> {
    CString::new(bytes)
        .map_err(|_| PyValueError::new_err(format!("embedded null character in {what}")))
}

fn error(py: Python<'_>, failure: &Failure) -> PyErr {
    let code = match failure {
        Failure::System(number) => return socket::os_error(*number),
        Failure::Lookup(code) => *code,
    };
    // SAFETY: any code will do; the text is static.
    let text = unsafe { libc::gai_strerror(code) };
    // SAFETY: a C string that lives for ever.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let made = py
        .import("_socket")
        .and_then(|module| module.getattr("gaierror")?.call1((code, text)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(problem) => problem,
    }
}

impl Address {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(match self {
            Self::V4(host, port) => (host.to_string(), port).into_pyobject(py)?.into_any(),
            Self::V6(host, port, flow, scope) => (host.to_string(), port, flow, scope)
                .into_pyobject(py)?
                .into_any(),
            Self::Other(bytes) => PyBytes::new(py, &bytes).into_any(),
        })
    }
}

/// The answers of the system, freed when dropped.
struct Answers(*mut libc::addrinfo);

impl Drop for Answers {
    fn drop(&mut self) {
        // SAFETY: made by getaddrinfo, freed once.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

fn look_up(query: &Query) -> Result<Vec<Found>, Failure> {
    // SAFETY: plain numbers and pointers, for which zero is a value.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_family = query.family;
    hints.ai_socktype = query.kind;
    hints.ai_protocol = query.proto;
    hints.ai_flags = query.flags;
    let mut first = ptr::null_mut();
    let host = query
        .host
        .as_ref()
        .map_or(ptr::null(), |host| host.as_ptr());
    let service = query
        .service
        .as_ref()
        .map_or(ptr::null(), |service| service.as_ptr());
    // SAFETY: C strings or NULL, and hints, which live until the call returns.
    let code = unsafe { libc::getaddrinfo(host, service, &hints, &mut first) };
    if code == libc::EAI_SYSTEM {
        let number = io::Error::last_os_error().raw_os_error();
        return Err(Failure::System(number.unwrap_or(libc::EIO)));
    }
    if code != 0 {
        return Err(Failure::Lookup(code));
    }
    let answers = Answers(first);
    let mut found = Vec::new();
    let mut next = answers.0;
    // SAFETY: a link of the list, which `answers` keeps, or NULL at its end.
    while let Some(entry) = unsafe { next.as_ref() } {
        found.push(Found::read(entry));
        next = entry.ai_next;
    }
    Ok(found)
}

impl Found {
    fn read(entry: &libc::addrinfo) -> Self {
        let canonical_name = if entry.ai_canonname.is_null() {
            String::new()
        } else {
            // SAFETY: not NULL, so a C string that lives as long as the entry.
            let name = unsafe { CStr::from_ptr(entry.ai_canonname) };
            name.to_string_lossy().into_owned()
        };
        Self {
            family: entry.ai_family,
            kind: entry.ai_socktype,
            proto: entry.ai_protocol,
            canonical_name,
            address: Address::read(entry),
        }
    }
}

impl Address {
    fn read(entry: &libc::addrinfo) -> Self {
        let bytes = entry.ai_addrlen as usize;
        match entry.ai_family {
            libc::AF_INET if bytes >= size_of::<libc::sockaddr_in>() => {
                // SAFETY:
                // 1. The family and the length say that this is what the pointer leads to.
                // 2. `read_unaligned` asks for no alignment, which a `sockaddr` does not promise.
                let inet = unsafe { entry.ai_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                Self::V4(
                    Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr)),
                    u16::from_be(inet.sin_port),
                )
            }
            libc::AF_INET6 if bytes >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above.
                let inet = unsafe { entry.ai_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                Self::V6(
                    Ipv6Addr::from(inet.sin6_addr.s6_addr),
                    u16::from_be(inet.sin6_port),
                    u32::from_be(inet.sin6_flowinfo),
                    inet.sin6_scope_id,
                )
            }
            _ if entry.ai_addr.is_null() => Self::Other(Vec::new()),
            _ => {
                // SAFETY: not NULL, and `ai_addrlen` bytes long.
                let raw = unsafe { std::slice::from_raw_parts(entry.ai_addr.cast::<u8>(), bytes) };
                Self::Other(raw.to_vec())
            }
        }
    }
}
