//! Finds out where this CPython keeps the fields of its thread state.
//!
//! `PyThreadState` is opaque to Rust and differs between minor versions, so the compiler is asked: it
//! compiles a C table of offsets against the headers of the chosen interpreter, and this script reads the
//! table out of the object file. Nothing compiled for the target is run, so cross compiling works as long
//! as the headers are at hand. Results: `layout.rs` in `OUT_DIR`, and one cfg named after the version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCE: &str = "csrc/layout.c";
/// Directories with the headers, for when the interpreter cannot be asked (cross compiling).
const INCLUDE_VAR: &str = "RGEVENT_PYTHON_INCLUDE";
const MINORS: [u8; 5] = [11, 12, 13, 14, 15];

const MAGIC: &[u8] = b"rgevent layout 1";
const ROW_NAME_BYTES: usize = 40;
const ROW_BYTES: usize = ROW_NAME_BYTES + 8;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed={INCLUDE_VAR}");
    for minor in MINORS {
        println!("cargo::rustc-check-cfg=cfg(cp3{minor})");
    }
    pyo3_build_config::use_pyo3_cfgs();
    pyo3_build_config::add_extension_module_link_args();
    if let Err(reason) = write_layout() {
        println!("cargo::error={reason}");
    }
}

fn write_layout() -> Result<(), String> {
    let minor = supported_minor()?;
    let includes = include_dirs(minor)?;
    for dir in &includes {
        println!(
            "cargo::rerun-if-changed={}",
            dir.join("patchlevel.h").display()
        );
    }
    let rows =
        read_table(&fs::read(compile(&includes)?).map_err(|e| format!("no object file: {e}"))?)?;
    if rows.first() != Some(&("PY_MINOR".to_owned(), u64::from(minor))) {
        return Err(format!(
            "the headers in {includes:?} are not those of CPython 3.{minor}"
        ));
    }
    let mut text = String::new();
    for (name, value) in &rows {
        text.push_str(&format!("pub(crate) const {name}: usize = {value};\n"));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("layout.rs");
    fs::write(&out, text).map_err(|e| format!("{}: {e}", out.display()))?;
    println!("cargo::rustc-cfg=cp3{minor}");
    Ok(())
}

/// The minor version being built for, if we know how to switch its thread state.
fn supported_minor() -> Result<u8, String> {
    let config = pyo3_build_config::get();
    let version = config.version();
    let abi = config.target_abi();
    if abi.implementation() != pyo3_build_config::PythonImplementation::CPython
        || version.major != 3
        || !MINORS.contains(&version.minor)
    {
        return Err(format!(
            "rgevent needs CPython 3.11 to 3.15, not {} {version}",
            abi.implementation()
        ));
    }
    if abi.kind().is_free_threaded() {
        return Err("rgevent does not support free-threaded builds of CPython yet".to_owned());
    }
    Ok(version.minor)
}

/// Where `Python.h` and `pyconfig.h` are.
fn include_dirs(minor: u8) -> Result<Vec<PathBuf>, String> {
    let dirs: Vec<PathBuf> = if let Some(given) = env::var_os(INCLUDE_VAR) {
        env::split_paths(&given).collect()
    } else if let Some(python) = pyo3_build_config::get().executable() {
        ask(python)?
    } else if let Some(lib) = pyo3_build_config::get().lib_dir() {
        vec![Path::new(lib).join(format!("../include/python3.{minor}"))]
    } else {
        Vec::new()
    };
    if dirs.iter().any(|dir| dir.join("Python.h").is_file()) {
        return Ok(dirs);
    }
    Err(format!(
        "the headers of CPython 3.{minor} were not found in {dirs:?}: install its development files \
         (python3.{minor}-dev or the like), or name their directories in {INCLUDE_VAR}"
    ))
}

fn ask(python: &str) -> Result<Vec<PathBuf>, String> {
    const SCRIPT: &str =
        "import sysconfig as s; print(s.get_path('include')); print(s.get_path('platinclude'))";
    let output = Command::new(python)
        .args(["-I", "-c", SCRIPT])
        .output()
        .map_err(|e| format!("cannot run {python}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{python} does not say where its headers are: {}",
            output.status
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut dirs: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    dirs.dedup();
    Ok(dirs)
}

fn compile(includes: &[PathBuf]) -> Result<PathBuf, String> {
    // Link time optimization would leave no plain data in the object file.
    let objects = cc::Build::new()
        .file(SOURCE)
        .includes(includes)
        .std("c11")
        .warnings(false)
        .flag_if_supported("-fno-lto")
        .try_compile_intermediates()
        .map_err(|e| format!("{SOURCE} does not compile against {includes:?}: {e}"))?;
    objects
        .into_iter()
        .next()
        .ok_or_else(|| format!("{SOURCE} gave no object file"))
}

/// Finds the table among the bytes of an object file.
fn read_table(object: &[u8]) -> Result<Vec<(String, u64)>, String> {
    let start = object
        .windows(MAGIC.len())
        .position(|bytes| bytes == MAGIC)
        .ok_or("the object file holds no offset table")?;
    let big_endian = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let mut rows = Vec::new();
    for row in object[start + MAGIC.len()..].chunks_exact(ROW_BYTES) {
        let (name, value) = row.split_at(ROW_NAME_BYTES);
        let name: String = name
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| char::from(byte))
            .collect();
        if name.is_empty() {
            return Ok(rows);
        }
        let value = value.try_into().map_err(|_| "a value has eight bytes")?;
        rows.push((
            name,
            if big_endian {
                u64::from_be_bytes(value)
            } else {
                u64::from_le_bytes(value)
            },
        ));
    }
    Err("the offset table has no end".to_owned())
}
