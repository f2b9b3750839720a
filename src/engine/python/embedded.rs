//! The engine's own Python code, compiled into it.

use std::ffi::CStr;

use pyo3::prelude::*;

/// A file of Python code.
pub struct Embedded {
    pub code: &'static CStr,
    pub file: &'static CStr,
    pub name: &'static CStr,
}

/// The file `$name.py` beside the file that invokes this.
macro_rules! embedded {
    ($name:literal) => {
        $crate::python::embedded::Embedded {
            code: $crate::python::embedded::terminated(concat!(include_str!(concat!($name, ".py")), "\0")),
            file: $crate::python::embedded::terminated(concat!("<ostler ", $name, ">\0")),
            name: $crate::python::embedded::terminated(concat!("_ostler_", $name, "\0")),
        }
    };
}

pub(crate) use embedded;

/// A text that ends with a zero, as C wants it.
pub const fn terminated(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a zero within the text"),
    }
}

impl Embedded {
    /// Imports it as a module, once in a process.
    pub fn import<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
        let name = self.name.to_str().expect("ASCII");
        let known = py.import("sys")?.getattr("modules")?;
        match known.get_item(name) {
            Ok(module) => Ok(module.cast_into::<PyModule>()?),
            Err(_) => PyModule::from_code(py, self.code, self.file, self.name),
        }
    }
}
